"""What earlier collections hold, by bucket of hosts, so that a later one refers to it instead of
asking the web again.

The fetches of a collection say it already; `IndexFetchedUrls` only brings those of a bucket
together, so it can be built again at any time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.collect.collection import stage_manifest
from pipelines.engine.stage import Manifest, Output, Part, Stage
from pipelines.store import Folder
from pipelines.tables import read_table, write_parquet

HELD_URLS = pa.schema(
    [
        ("image_url", pa.string()),
        ("image_id", pa.string()),
        ("fetched_at", pa.string()),  # ISO 8601, UTC
        ("etag", pa.string()),
        ("last_modified", pa.string()),
    ]
)
ANY = pc.ScalarAggregateOptions(skip_nulls=False)
# what a later collection knows of a URL that is held
REFERENCE = pa.schema([*HELD_URLS, ("held_in", pa.string())])


def host_buckets(candidates: int) -> int:
    """How many buckets of hosts a collection has: about one for 16,384 candidates, so that a bucket
    fits in memory.

    A small one has up to 16 of some hundred candidates, so that several workers have something to
    fetch. Always a power of two: a bucket of a large collection is then a part of one bucket of a
    smaller.
    """
    bits = (max(1, candidates) - 1).bit_length()
    return 1 << max(0, bits - 14, min(4, bits - 9))


@dataclass(frozen=True, kw_only=True)
class IndexFetchedUrls(Stage):
    """The images that a collection fetched itself, a file for each bucket of hosts."""

    name: ClassVar[str] = "remember"
    version: ClassVar[int] = 1
    collection: Folder

    @property
    def doing(self) -> str:
        return "index addresses"

    @classmethod
    def of(cls, root: Folder, id: str) -> "IndexFetchedUrls":
        return cls(out=root / "memory" / id, collection=root / "collections" / id)

    def inputs(self) -> dict[str, str]:
        return {"fetches": stage_manifest(self.collection, "fetches").digest}

    def buckets(self) -> int:
        return host_buckets(
            int(stage_manifest(self.collection, "candidates").counts.get("candidates", 0))
        )

    def parts(self) -> list[Part]:
        return [
            Part(name=f"bucket-{bucket:05d}", inputs=(str(bucket),))
            for bucket in range(self.buckets())
        ]

    def process(self, part: Part) -> Output:
        prefix = f"part-{int(part.inputs[0]):05d}-"
        names = stage_manifest(self.collection, "fetches").names(".parquet", prefix)
        tables = [
            read_table(self.collection / "fetches", name, [*HELD_URLS.names, "held_in"])
            for name in names
        ]
        rows = pa.concat_tables(
            [REFERENCE.empty_table(), *(table.select(REFERENCE.names) for table in tables)]
        )
        own = rows.filter(
            pc.and_(pc.is_valid(rows["image_id"]), pc.is_null(rows["held_in"]))
        ).select(HELD_URLS.names)
        return Output(
            files=(write_parquet(self.out, f"{part.name}.parquet", own.sort_by("image_url")),),
            counts={"held": own.num_rows},
        )


def references(
    memories: Sequence[Folder], bucket: int, buckets: int, urls: pa.Array, since: str
) -> pa.Table:
    """REFERENCE rows of those `urls` (of one bucket of so many) that some memory holds, fetched
    after `since`; the newest of each.
    """
    found = [REFERENCE.empty_table()]
    for memory in memories:
        for name in _buckets_of(memory, bucket, buckets):
            rows = read_table(memory, name)
            rows = rows.filter(pc.is_in(rows["image_url"], value_set=urls))
            found.append(
                rows.append_column("held_in", pa.array([memory.name] * rows.num_rows, pa.string()))
            )
    rows = pa.concat_tables(found)
    fresh = rows.filter(pc.greater(pc.fill_null(rows["fetched_at"], ""), since))
    newest_first = fresh.sort_by([("fetched_at", "descending"), ("held_in", "descending")])
    others = [name for name in REFERENCE.names if name != "image_url"]
    firsts = newest_first.group_by("image_url", use_threads=False).aggregate(
        [(name, "first", ANY) for name in others]
    )
    return firsts.rename_columns({f"{name}_first": name for name in others}).select(REFERENCE.names)


def _buckets_of(memory: Folder, bucket: int, buckets: int) -> list[str]:
    """The files of a memory that may hold addresses of a bucket; both numbers of buckets are powers
    of two.
    """
    manifest = Manifest.read(memory)
    if manifest is None:
        return []
    names = manifest.names(".parquet")
    return [names[bucket % len(names)]] if len(names) <= buckets else names[bucket::buckets]
