"""Stages on a real Flink cluster: the same bytes as here, whatever is killed; a job that finds no
worker ends.

Slow (a minute or two, at most four): JVMs start, and each job sends 150 MB of jars to the cluster
and starts two Python workers.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from filters.base import Filter, Level
from filters.text.length import LengthFilter
from pipelines.engine.runner import run_stage
from pipelines.engine.stage import Engine, Manifest, StageFailed
from pipelines.measure import Measure
from pipelines.store import Folder
from tests.pipelines import flink
from tests.pipelines.test_decide import RECIPE, make

# what is downloaded and started has bounds of its own
pytestmark = pytest.mark.timeout(480, func_only=True)

JOB_SECONDS = 150.0  # for anything that is waited for here
PARTS = 8


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[flink.Cluster]:
    try:
        with flink.cluster(tmp_path_factory.mktemp("flink")) as running:
            yield running
    except flink.Missing as missing:
        pytest.skip(f"Flink needs Java 17, Maven and their downloads: {missing}")


@dataclass(frozen=True)
class PatientFilter(Filter):
    """The lengths of texts, each batch after a pause that changes nothing of them; it travels to
    the workers with the stage.
    """

    name: ClassVar[str] = LengthFilter.name
    version: ClassVar[int] = LengthFilter.version
    sentence: ClassVar[str] = LengthFilter.sentence
    level: ClassVar[Level] = LengthFilter.level
    reads: ClassVar[tuple[str, ...]] = LengthFilter.reads
    writes: ClassVar[Mapping[str, pa.DataType]] = LengthFilter.writes
    pause: float = field(default=0.0)

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        time.sleep(self.pause)
        return LengthFilter().measure(batch)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a collection of eight parts."""
    path = tmp_path_factory.mktemp("root")
    rows = tuple(
        tuple((1 + (part + place) % 6, (part * place) % 5, False) for place in range(6))
        for part in range(PARTS)
    )
    make(Folder(str(path)), "a", rows)
    (path / "small.toml").write_text(RECIPE)
    return path


def digests(folder: Path) -> dict[str, str]:
    """What lies below a folder: the sha256 of each file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def places(folder: Path) -> dict[str, tuple[int, int]]:
    """What tells a file from one that was written anew: its number and the time."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("part-*")
    }


def test_a_killed_task_manager_costs_a_submission_of_what_is_pending(
    root: Path, cluster: flink.Cluster, tmp_path: Path
) -> None:
    measure = Measure.of(Folder(str(root)) / "collections/a", PatientFilter())
    here = run_stage(dataclasses.replace(measure, out=Folder(str(tmp_path / "here"))))
    slow = dataclasses.replace(
        measure, filter=PatientFilter(pause=2.0), out=Folder(str(tmp_path / "there"))
    )
    done: list[Manifest] = []
    jobs = len(cluster.jobs())
    run = threading.Thread(
        target=lambda: done.append(run_stage(slow, engine(cluster))), daemon=True
    )
    run.start()
    settled = wait_for_parts(tmp_path / "there/receipts", 2, run)
    before = {
        name: place
        for name, place in places(tmp_path / "there").items()
        if name.split(".")[0] in settled
    }
    # its workers go on for a while, as on a machine that has lost the network
    cluster.kill("taskmanager-2")
    run.join(JOB_SECONDS)
    assert done, f"the stage did not end:\n{cluster.log()}"
    assert cluster.jobs()[jobs:] == ["FAILED", "FINISHED"]
    assert 2 <= len(before) < PARTS
    after = places(tmp_path / "there")
    assert {name: after[name] for name in before} == before  # none was written again
    assert digests(tmp_path / "there") == digests(tmp_path / "here")
    assert dict(done[0].counts) == {"rows": 6 * PARTS} == dict(here.counts)
    assert done[0].digest == here.digest


def test_an_aggregation_by_the_command_line_writes_the_same_bytes(
    root: Path, cluster: flink.Cluster, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    expected = funnel(root)
    shutil.copytree(root, there)
    (work,) = there.glob("outcomes/*/work")
    # the last group rule, and what is decided with it
    verdicts = sorted(work.glob("verdicts-*"))[-1]
    shutil.rmtree(verdicts)
    for path in work.parent.iterdir():
        if path.is_file() and path.name != "decision.json":
            path.unlink()
    jobs = len(cluster.jobs())
    options = [f"--option={option}" for option in cluster.options]
    assert funnel(there, "--runner", "PortableRunner", *options) == expected
    assert len(cluster.jobs()) >= jobs + 2
    assert set(cluster.jobs()[jobs:]) == {"FINISHED"}
    assert digests(there) == digests(root)


def test_a_job_that_gets_no_worker_ends(
    root: Path, cluster: flink.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.engine.runner.SUBMISSIONS", 1)
    measure = Measure.of(Folder(str(root)) / "collections/a", PatientFilter())
    stage = dataclasses.replace(measure, out=Folder(str(tmp_path / "out")))
    jobs = len(cluster.jobs())
    # takes the request for a worker, and starts none
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pool = f"--environment_config=localhost:{silent.getsockname()[1]}"
        options = tuple(
            pool if option.startswith("--environment_config") else option
            for option in cluster.options
        )
        with pytest.raises(
            StageFailed,
            match=(
                r"no worker of the job showed a sign of life for 20 s.*run the same command again"
            ),
        ):
            run_stage(
                stage, dataclasses.replace(engine(cluster), options=options, wait_seconds=20.0)
            )
    deadline = time.monotonic() + JOB_SECONDS
    while set(cluster.jobs()[jobs:]) - {"CANCELED", "FAILED"} and time.monotonic() < deadline:
        time.sleep(0.5)
    assert set(cluster.jobs()[jobs:]) <= {"CANCELED", "FAILED"}
    assert sorted(os.listdir(tmp_path / "out")) == ["receipts"]


def engine(cluster: flink.Cluster) -> Engine:
    return Engine(runner="PortableRunner", options=cluster.options, wait_seconds=JOB_SECONDS)


def funnel(root: Path, *words: str) -> Any:
    """What `winnow funnel` prints, run as a user would."""
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "funnel",
        "--root",
        str(root),
        "--recipe",
        str(root / "small.toml"),
        "--collection",
        "a",
    ]
    done = subprocess.run(
        [*command, "--json", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * JOB_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def wait_for_parts(receipts: Path, count: int, run: threading.Thread) -> list[str]:
    """The names of the parts that are done, as soon as there are so many."""
    deadline = time.monotonic() + JOB_SECONDS
    while time.monotonic() < deadline and run.is_alive():
        found = (
            [
                name.removesuffix(".json")
                for name in os.listdir(receipts)
                if name.startswith("part-")
            ]
            if receipts.exists()
            else []
        )
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{count} parts were not done in {JOB_SECONDS:.0f} s")
