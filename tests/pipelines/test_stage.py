"""Stages: part in, part out; resumed, retried, set aside, submitted again; the manifest last."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipelines.engine import local
from pipelines.engine.runner import run_stage
from pipelines.engine.stage import Engine, Manifest, Output, Part, Progress, Stage, StageFailed
from pipelines.store import Folder


@dataclass(frozen=True, kw_only=True)
class Double(Stage):
    """Writes each part's number doubled, and leaves a line in a log for each call; `orders` makes
    parts misbehave.
    """

    name: ClassVar[str] = "double"
    version: ClassVar[int] = 1
    log: str
    orders: dict[str, str] = field(default_factory=dict)
    parts_wanted: int = 4
    source: str = "s"
    lanes: int = 0

    def inputs(self) -> dict[str, str]:
        return {"source": self.source}

    def parts(self) -> list[Part]:
        lanes = [f"lane-{i % self.lanes}" if self.lanes else "" for i in range(self.parts_wanted)]
        return [
            Part(name=f"part-{i:05d}", inputs=(str(i),), lane=lane) for i, lane in enumerate(lanes)
        ]

    def process(self, part: Part) -> Output:
        with open(self.log, "a") as log:
            log.write(f"{part.name}\n")
        order = self.orders.get(part.name)
        if order == "poison":
            raise ValueError("poison")
        if order == "once" and Counter(Path(self.log).read_text().split())[part.name] == 1:
            raise ValueError("first time only")
        if order == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if order == "sleep" and not os.path.exists(self.log + ".awake"):
            time.sleep(60)
        number = int(part.inputs[0])
        return Output(
            files=(self.out.write_bytes(f"{part.name}.txt", str(2 * number).encode()),),
            counts={"sum": 2 * number},
        )


def make(tmp_path: Path, **options: Any) -> Double:
    return Double(out=Folder(str(tmp_path / "out")), log=str(tmp_path / "log"), **options)


def calls(tmp_path: Path) -> Counter[str]:
    return Counter((tmp_path / "log").read_text().split())


def test_every_part_becomes_a_file_and_counts_add_up(tmp_path: Path) -> None:
    manifest = run_stage(make(tmp_path))
    assert manifest.names() == [
        "part-00000.txt",
        "part-00001.txt",
        "part-00002.txt",
        "part-00003.txt",
    ]
    assert manifest.counts == {"sum": 12}
    assert manifest.failed == {}
    assert (tmp_path / "out" / "part-00003.txt").read_text() == "6"
    assert sorted(os.listdir(tmp_path / "out")) == ["manifest.json", *manifest.names()]


def test_no_workers_do_no_work() -> None:
    with pytest.raises(ValueError, match="0 workers do no work: give one at least"):
        Engine(workers=0)


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    first = run_stage(make(tmp_path))
    assert run_stage(make(tmp_path)) == first
    assert set(calls(tmp_path).values()) == {1}


def test_another_input_runs_it_again(tmp_path: Path) -> None:
    first = run_stage(make(tmp_path))
    second = run_stage(make(tmp_path, source="t"))
    assert second.digest != first.digest
    assert set(calls(tmp_path).values()) == {2}


def test_a_part_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    manifest = run_stage(make(tmp_path, orders={"part-00001": "once"}))
    assert manifest.failed == {}
    assert calls(tmp_path)["part-00001"] == 2


def test_a_poisonous_part_is_set_aside_and_tried_again_next_time(tmp_path: Path) -> None:
    manifest = run_stage(make(tmp_path, orders={"part-00001": "poison"}))
    assert list(manifest.failed) == ["part-00001"]
    assert "ValueError: poison" in manifest.failed["part-00001"]
    assert manifest.counts == {"sum": 10}
    whole = run_stage(make(tmp_path))
    assert whole.failed == {}
    assert whole.counts == {"sum": 12}
    assert whole.digest != manifest.digest
    assert calls(tmp_path) == Counter(
        {"part-00000": 1, "part-00001": 3, "part-00002": 1, "part-00003": 1}
    )


def test_a_full_disk_stops_the_stage_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"No space left on device.*run the same command again"):
        run_stage(make(tmp_path, orders={"part-00002": "full"}))
    assert Manifest.read(Folder(str(tmp_path / "out"))) is None
    assert run_stage(make(tmp_path)).counts == {"sum": 12}
    assert max(calls(tmp_path).values()) <= 2


def test_a_failed_job_is_submitted_again_with_what_is_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[int] = []
    real = local.map_lanes

    def broken_once(stage: Stage, engine: Engine, lanes: Any) -> None:
        submitted.append(len(submitted))
        if len(submitted) == 1:
            raise RuntimeError("the engine lost a worker")
        real(stage, engine, lanes)

    monkeypatch.setattr(local, "map_lanes", broken_once)
    assert run_stage(make(tmp_path)).counts == {"sum": 12}
    assert submitted == [0, 1]


def test_parts_of_a_lane_run_in_order(tmp_path: Path) -> None:
    run_stage(make(tmp_path, lanes=1))
    assert (tmp_path / "log").read_text().split() == [f"part-{i:05d}" for i in range(4)]


@pytest.mark.parametrize("engine", [Engine(workers=2), Engine(runner="FnApiRunner")])
def test_every_engine_writes_the_same_bytes(tmp_path: Path, engine: Engine) -> None:
    def ran(name: str, engine: Engine) -> tuple[Manifest, dict[str, bytes]]:
        (tmp_path / name).mkdir()
        manifest = run_stage(make(tmp_path / name), engine)
        files = sorted((tmp_path / name / "out").iterdir())
        return manifest, {path.name: path.read_bytes() for path in files}

    assert ran("other", engine) == ran("here", Engine())


def test_the_processes_of_this_machine_need_no_beam(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from tests.pipelines.test_stage import make
from pipelines.engine.runner import run_stage
from pipelines.engine.stage import Engine
for workers in (1, 2):
    (Path({str(tmp_path)!r}) / str(workers)).mkdir()
    run_stage(make(Path({str(tmp_path)!r}) / str(workers)), Engine(workers=workers))
print("apache_beam" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_progress_reaches_the_last_part(tmp_path: Path) -> None:
    seen: list[Progress] = []
    run_stage(make(tmp_path), progress=seen.append)
    assert (seen[-1].done, seen[-1].parts, seen[-1].counts) == (4, 4, {"sum": 12})


def test_a_killed_stage_goes_on_at_its_unfinished_parts(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from tests.pipelines.test_stage import make
from pipelines.engine.runner import run_stage
run_stage(make(Path({str(tmp_path)!r}), lanes=1, orders={{"part-00002": "sleep"}}))
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while not ((tmp_path / "log").exists() and calls(tmp_path)["part-00002"]):
        assert time.monotonic() < deadline, "the child never reached its third part"
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    (tmp_path / "log.awake").touch()
    manifest = run_stage(make(tmp_path, lanes=1, orders={"part-00002": "sleep"}))
    assert manifest.counts == {"sum": 12}
    assert calls(tmp_path) == Counter(
        {"part-00000": 1, "part-00001": 1, "part-00002": 2, "part-00003": 1}
    )


def test_a_damaged_receipt_costs_its_part_alone(tmp_path: Path) -> None:
    with pytest.raises(StageFailed):
        run_stage(make(tmp_path, lanes=1, orders={"part-00002": "full"}))
    (tmp_path / "out" / "receipts" / "part-00001.json").write_bytes(b'{"counts": {"su')
    assert run_stage(make(tmp_path, lanes=1)).counts == {"sum": 12}
    assert calls(tmp_path) == Counter(
        {"part-00000": 1, "part-00001": 2, "part-00002": 2, "part-00003": 1}
    )


def test_a_damaged_manifest_says_what_to_do(tmp_path: Path) -> None:
    run_stage(make(tmp_path))
    (tmp_path / "out" / "manifest.json").write_bytes(b"")
    with pytest.raises(ValueError, match=r"out/manifest\.json is damaged .* remove it"):
        run_stage(make(tmp_path))
    (tmp_path / "out" / "manifest.json").unlink()
    assert run_stage(make(tmp_path)).counts == {"sum": 12}


def test_what_a_kill_left_after_the_manifest_is_tidied(tmp_path: Path) -> None:
    manifest = run_stage(make(tmp_path))
    stage = make(tmp_path)
    (stage.out / "receipts").write_json("stage.json", stage.identity())
    assert run_stage(stage) == manifest
    assert "receipts" not in os.listdir(tmp_path / "out")


def test_workers_end_with_their_caller(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from tests.pipelines.test_stage import make
from pipelines.engine.runner import run_stage
from pipelines.engine.stage import Engine
run_stage(make(Path({str(tmp_path)!r}), orders={{"part-00002": "sleep"}}), Engine(workers=2))
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    log = tmp_path / "log"
    until(lambda: log.exists() and calls(tmp_path)["part-00002"] == 1)
    workers = started_by(child.pid)
    assert len(workers) == 2
    child.kill()
    child.wait()
    until(
        lambda: (
            not any(
                Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()
                for pid in workers
            )
        )
    )
    (tmp_path / "log.awake").touch()
    assert run_stage(make(tmp_path, orders={"part-00002": "sleep"})).counts == {"sum": 12}


def test_a_worker_that_dies_costs_no_part(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def end_one() -> None:
        until(lambda: log.exists() and calls(tmp_path)["part-00002"] == 1)
        (tmp_path / "log.awake").touch()  # for the second time
        for pid in started_by(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=end_one)
    thread.start()
    manifest = run_stage(make(tmp_path, orders={"part-00002": "sleep"}), Engine(workers=2))
    thread.join()
    assert (manifest.counts, manifest.failed) == ({"sum": 12}, {})


def started_by(pid: int) -> list[int]:
    """The workers of a process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid and b"pipelines.engine.local" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)
