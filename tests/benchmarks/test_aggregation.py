"""Clusters of near duplicates over ten times the rows, and by two workers, each run in a process of
its own.

Reported: seconds and megabytes. Asserted: that ten times the rows take at most eleven times the CPU
time and a tenth more memory; and what two workers gain, with a floor that two threads of one core
reach (two cores of their own gave 1.7 and more).
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from pipelines.dedup.blocking_keys import Kind
from pipelines.dedup.clusters import cluster
from pipelines.engine.runner import run_stage
from pipelines.engine.shuffle import read_group
from pipelines.engine.stage import Engine
from pipelines.store import Folder
from pipelines.tables import write_parquet

MOST_TIME = 11.0  # for ten times the rows, in CPU time
MOST_MEMORY = 1.1
LEAST_SPEEDUP = 1.2  # two workers beside one
SIZES: dict[Kind, tuple[int, int]] = {"hash": (200_000, 2_000_000), "embedding": (40_000, 400_000)}
PART: dict[Kind, int] = {"hash": 50_000, "embedding": 10_000}
DIMENSIONS = 128
ROUNDS = 1


@dataclass(frozen=True, kw_only=True)
class Run:
    """One clustering in a process of its own: seconds of CPU and of the clock, peak memory in
    bytes.
    """

    cpu: float
    wall: float
    peak: int


def made(folder: Folder, kind: Kind, rows: int) -> list[str]:
    """Parts of rows, of which every tenth is near an earlier one of its part and every tenth equals
    one.
    """
    names = []
    for number in range(rows // PART[kind]):
        random = np.random.default_rng(number)
        values = (
            list(_hashes(random, PART[kind])) if kind == "hash" else _vectors(random, PART[kind])
        )
        ids = [random.bytes(32).hex() for _ in range(PART[kind])]
        places = {
            "part": np.full(PART[kind], number, dtype=np.int32),
            "row": np.arange(PART[kind], dtype=np.int32),
        }
        table = pa.table({**places, "image_id": ids, "value": values})
        names.append(write_parquet(folder, f"part-{number:05d}.parquet", table).name)
    return names


def _hashes(random: np.random.Generator, rows: int) -> Iterator[str]:
    values = random.integers(0, 2**64, rows, dtype=np.uint64)
    near = slice(0, rows // 10)
    values[rows // 10 : rows // 5] = values[rows // 2 : rows // 2 + rows // 10]
    values[near] = values[rows // 2 : rows // 2 + rows // 10] ^ (
        np.uint64(1) << random.integers(0, 64, rows // 10, dtype=np.uint64)
    )
    return (f"{value:016x}" for value in values.tolist())


def _vectors(random: np.random.Generator, rows: int) -> pa.Array:
    topics = np.random.default_rng(0).normal(size=(200, DIMENSIONS))
    vectors = topics[random.integers(200, size=rows)] + random.normal(size=(rows, DIMENSIONS))
    vectors[: rows // 10] = vectors[rows // 2 : rows // 2 + rows // 10] + 0.2 * random.normal(
        size=(rows // 10, DIMENSIONS)
    )
    vectors[rows // 10 : rows // 5] = vectors[rows // 2 : rows // 2 + rows // 10]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    offsets = pa.array(np.arange(0, vectors.size + 1, DIMENSIONS, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(vectors.astype(np.float16).ravel()))


def run(folder: Path, kind: Kind, names: list[str], workers: int = 1) -> Run:
    """The rows of some parts clustered once more, from nothing."""
    order = {"folder": str(folder), "kind": kind, "names": names, "workers": workers}
    alone = {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(order)],
        env={**os.environ, **alone},
        check=True,
        capture_output=True,
    )
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def main(order: dict[str, Any]) -> Run:
    """What a process does: its first part alone, so that the engine is there with its workers; then
    all, which is measured.
    """
    folder, engine = Path(order["folder"]), Engine(workers=order["workers"])

    def clustered(names: list[str]) -> None:
        out = Folder(str(folder / f"out-{os.getpid()}-{len(names)}"))
        rows = Folder(str(folder / "rows"))
        cluster(
            out=out,
            rows=rows,
            names=names,
            kind=order["kind"],
            identity="made",
            run=lambda stage: run_stage(stage, engine),
        )
        out.remove()

    clustered(order["names"][:2])
    cpu, wall = time.process_time(), time.perf_counter()
    clustered(order["names"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Run(cpu=time.process_time() - cpu, wall=time.perf_counter() - wall, peak=peak)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["hash", "embedding"])
def test_ten_times_the_rows(tmp_path: Path, kind: Literal["hash", "embedding"]) -> None:
    few, many = SIZES[kind]
    names = made(Folder(str(tmp_path / "rows")), kind, many)
    found: dict[int, list[Run]] = {few: [], many: []}
    for _ in range(ROUNDS):
        for rows, runs in found.items():
            runs.append(run(tmp_path, kind, names[: rows // PART[kind]]))
    small, large = (min(runs, key=lambda one: one.cpu) for runs in found.values())
    time_ratio, memory_ratio = large.cpu / small.cpu, large.peak / small.peak
    for rows, one in ((few, small), (many, large)):
        print(
            f"\n{kind}: {rows:,} rows take {one.cpu:.1f} s of CPU and {one.peak / 1e6:.0f} MB",
            end="",
        )
    print(
        f"\n{kind}: ten times the rows take {time_ratio:.1f} times the time and {memory_ratio:.2f}"
        " times the memory"
    )
    assert time_ratio <= MOST_TIME
    assert memory_ratio <= MOST_MEMORY


@pytest.mark.timeout(3600)
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.parametrize("kind", ["hash", "embedding"])
def test_two_workers(tmp_path: Path, kind: Literal["hash", "embedding"]) -> None:
    names = made(Folder(str(tmp_path / "rows")), kind, SIZES[kind][1])
    found: dict[int, list[Run]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for workers, runs in found.items():
            runs.append(run(tmp_path, kind, names, workers))
    one, two = (min(one.wall for one in runs) for runs in found.values())
    print(f"\n{kind}: one worker {one:.1f} s, two {two:.1f} s: {one / two:.2f} times")
    assert one / two >= LEAST_SPEEDUP


def test_what_is_made_is_found(tmp_path: Path) -> None:
    rows, out = Folder(str(tmp_path / "rows")), Folder(str(tmp_path / "out"))
    names = made(rows, "hash", PART["hash"])
    done = cluster(out=out, rows=rows, names=names, kind="hash", identity="made", run=run_stage)
    table = read_group(done.folder, done.names, 0, done.schema)
    assert (table.num_rows, len(set(table["cluster"].to_pylist()))) == (
        PART["hash"],
        PART["hash"] * 8 // 10,
    )


if __name__ == "__main__":
    print(json.dumps(asdict(main(json.loads(sys.argv[1])))))
