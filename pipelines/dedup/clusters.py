"""Clusters of near duplicates over any number of collections, out of core.

Each hash (or image) becomes one node; nodes meet under their keys (or in their cells), where near
ones are linked; links are drawn together to stars; and each row gets the least image_id of its
star. Every step is a stage over buckets, so that memory is bounded by a bucket, whatever the number
of rows, and a killed command goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.dedup.blocking_keys import (
    CLUSTERS,
    ClusterPlan,
    DeliverClusters,
    GroupByBlockingKey,
    Kind,
    SpreadKeys,
)
from pipelines.dedup.compare import CELL, KEYS, NEAREST
from pipelines.dedup.connected_components import (
    CompareNearDuplicates,
    ConnectComponents,
    KeepBest,
    LabelRows,
    NameClusters,
)
from pipelines.engine.stage import Manifest, Stage, StageFailed
from pipelines.store import Folder

# CLIP's embeddings tell copies from look-alikes with a precision of 0.9 from here on (DataComp,
# appendix on near duplicates of the evaluation sets, which prefers a copy detector at 0.604169 for
# its recall; SSCD gives 0.75 for its own embeddings).
SIMILARITY = 0.96
# What a worker holds at a time, so that it is some tens of megabytes either way.
# rows whose nodes are found together, and nodes of a bucket
GATHERED = {"hash": 100_000, "embedding": 20_000}
MET = {"hash": 500_000, "embedding": 30_000}  # keys of hashes, copies of vectors in a bucket
MOST_CELLS = 4096  # a cell with too many vectors is cut again in memory
ROUNDS = 64  # more than any graph needs whose labels double their reach with each


@dataclass(frozen=True, kw_only=True)
class Clustered:
    """An exchange by part: part, row and cluster of every row that has a value."""

    folder: Folder
    names: tuple[str, ...]
    schema: pa.Schema


def cluster(
    *,
    out: Folder,
    rows: Folder,
    names: Sequence[str],
    kind: Kind,
    identity: str,
    run: Callable[[Stage], Manifest],
    similarity: float = SIMILARITY,
    gathered: int | None = None,
    met: int | None = None,
) -> Clustered:
    """The cluster of each row of some Parquet files with the columns part, row, image_id and value.

    `hash`: values are perceptual hashes of 16 hexadecimal digits; two images are near when theirs
    differ in three bits of 64 at most, and every such pair is found. A flat hash
    (`filters.image.hashes.flat`) is near to none, so that blank pictures are not glued together.
    `embedding`: values are unit vectors; two images are near when their cosine is `similarity` or
    more. Of many rows (`near.WIDE`) those are compared that share one of the cells of the three
    pivots nearest to each, which misses few (as SemDeDup compares in clusters). A cluster is what
    hangs together through near pairs, and is called by its least image_id.

    `gathered` and `met` bound what one worker holds, in rows and in copies. Raises StageFailed when
    a part could not be processed.
    """
    plan = _plan(
        out, rows, names, kind, identity, similarity, gathered or GATHERED[kind], met or MET[kind]
    )
    done = DeliverClusters(out=out, plan=plan)
    standing = Manifest.read(out)
    if standing is None or standing.digest != done.identity():
        _label(plan, run)
    delivered = _whole(run(done))
    plan.work.remove()
    return Clustered(folder=out, names=tuple(delivered.names()), schema=CLUSTERS)


def _label(plan: ClusterPlan, run: Callable[[Stage], Manifest]) -> None:
    """Rows to nodes, nodes to links, links to stars, and names back to the nodes."""
    work = plan.work
    _whole(run(SpreadKeys(out=work / "spread", plan=plan)))
    _whole(run(GroupByBlockingKey(out=work / "met", plan=plan)))
    found = CompareNearDuplicates(out=work / "match", plan=plan)
    links, matched = found.out, tuple(_whole(run(found)).names())
    for number in range(ROUNDS):
        contract = ConnectComponents(
            out=work / f"contract-{number}", plan=plan, links=links, names=matched
        )
        manifest = _whole(run(contract))
        links, matched = contract.out, plan.bucketed
        if plan.buckets == 1 or not manifest.counts.get("unsettled", 0):
            break
    else:
        raise AssertionError(f"links are not stars after {ROUNDS} rounds")
    _whole(run(NameClusters(out=work / "named", plan=plan, links=links)))
    _whole(run(KeepBest(out=work / "elected", plan=plan)))
    _whole(run(LabelRows(out=work / "labelled", plan=plan)))


def _plan(
    out: Folder,
    rows: Folder,
    names: Sequence[str],
    kind: Kind,
    identity: str,
    similarity: float,
    gathered: int,
    met: int,
) -> ClusterPlan:
    files: list[tuple[str, ...]] = []
    total = held = 0
    for name in names:
        with rows.open(name) as file:
            count = pq.read_metadata(file).num_rows
        if not files or held + count > gathered:
            files.append(())
            held = 0
        files[-1] += (name,)
        held += count
        total += count
    about: dict[str, Any] = {
        "kind": kind,
        "identity": identity,
        "similarity": similarity,
        "rows": rows,
        "files": tuple(files),
        "total": total,
    }
    cells = min(MOST_CELLS, total // CELL) if kind == "embedding" and total > met else 1
    copies = total * (len(KEYS) if kind == "hash" else min(NEAREST, cells))
    meetings = max(1, min(-(-copies // met), cells if kind == "embedding" else copies))
    return ClusterPlan(
        **about,
        work=out / "work",
        buckets=max(1, -(-total // gathered)),
        meetings=meetings,
        cells=cells,
    )


def _whole(manifest: Manifest) -> Manifest:
    if manifest.failed:
        part, error = next(iter(manifest.failed.items()))
        raise StageFailed(
            f"stage {manifest.stage}: {len(manifest.failed)} parts failed, first {part}:"
            f" {error.strip().splitlines()[-1]}"
        )
    return manifest
