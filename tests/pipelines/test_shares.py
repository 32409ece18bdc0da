"""Shares: processes without an engine do a stage together, each its parts, and the last completes
the manifest of one that ran alone.
"""

import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engine import local
from pipelines.engine.runner import run_stage
from pipelines.engine.shares import (
    Share,
    ShareUnfinished,
    live_shares,
    right_to_write,
    share_of_lanes,
)
from pipelines.engine.stage import Engine, Manifest, Output, Part, Stage
from pipelines.lease import LeaseHeld
from pipelines.store import Folder
from tests.pipelines.objects import bucket
from tests.pipelines.test_stage import Double, calls, make

OF = 16
# Beam is imported once, and forked before any thread is there
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.pipelines.test_shares"])


@dataclass(frozen=True, kw_only=True)
class Slow(Double):
    """Takes some hundredths of a second for each part, another time in each process."""

    def process(self, part: Part) -> Output:
        time.sleep(random.Random().uniform(0.0, 0.06))
        return super().process(part)


@dataclass(frozen=True, kw_only=True)
class Waiting(Double):
    """Its second part waits for a sign."""

    def process(self, part: Part) -> Output:
        output = super().process(part)
        if part.name == "part-00001":
            until(lambda: os.path.exists(self.log + ".awake"))
        return output


def slow(folder: Path) -> Slow:
    folder.mkdir(exist_ok=True)
    return Slow(
        out=Folder(str(folder / "out")), log=str(folder / "log"), parts_wanted=120, lanes=40
    )


def engine(index: int, of: int = OF, wait_seconds: float = 60.0) -> Engine:
    return Engine(share=Share(index=index, of=of), wait_seconds=wait_seconds)


def run_slow(folder: Path, index: int) -> None:
    run_stage(slow(folder), engine(index))


def started(folder: Path, indices: list[int]) -> dict[int, BaseProcess]:
    children: dict[int, BaseProcess] = {
        index: processes.Process(target=run_slow, args=(folder, index)) for index in indices
    }
    for child in children.values():
        child.start()
    return children


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def test_a_share_is_written_as_a_fraction() -> None:
    assert Share.parse("3/16") == Share(index=3, of=16)
    assert str(Share(index=3, of=16)) == "3/16"
    for wrong in ("0/4", "5/4"):
        with pytest.raises(ValueError, match=f"no share {wrong}"):
            Share.parse(wrong)
    with pytest.raises(
        ValueError, match="'3 of 16' is no share: write the third of sixteen as 3/16"
    ):
        Share.parse("3 of 16")


def test_the_largest_lane_goes_first_to_the_emptiest_share() -> None:
    assert share_of_lanes({"a": 1, "b": 5, "c": 1, "d": 3, "e": 1}, 2) == {
        "b": 1,
        "d": 2,
        "a": 2,
        "c": 2,
        "e": 1,
    }


@given(
    lanes=st.dictionaries(st.text(max_size=4), st.integers(1, 50), max_size=60),
    of=st.integers(1, 20),
)
def test_shares_cover_all_lanes_and_differ_by_a_lane_at_most(
    lanes: dict[str, int], of: int
) -> None:
    chosen = share_of_lanes(lanes, of)
    assert chosen.keys() == lanes.keys()
    assert chosen == share_of_lanes(dict(reversed(lanes.items())), of)
    load = Counter(dict.fromkeys(range(1, of + 1), 0))
    for lane, index in chosen.items():
        load[index] += lanes[lane]
    assert max(load.values()) - min(load.values()) <= max(lanes.values(), default=0)
    assert set(load) == set(range(1, of + 1))


def test_sixteen_processes_of_which_some_are_killed_leave_what_one_leaves(tmp_path: Path) -> None:
    run_stage(slow(tmp_path / "alone"))
    together = tmp_path / "together"
    stage = slow(together)
    children = started(together, random.sample(range(1, OF + 1), OF))
    until(lambda: (together / "log").exists() and sum(calls(together).values()) > 25)
    killed = random.sample(sorted(children), 5)
    for index in killed:
        children[index].kill()
    for index in killed:
        children[index].join()
    assert Manifest.read(stage.out) is None
    time.sleep(0.3)
    children |= started(together, killed)
    for child in children.values():
        child.join(90)
    assert [child.exitcode for child in children.values()] == [0] * OF
    assert tree(together / "out") == tree(tmp_path / "alone" / "out")
    done = calls(together)
    assert done.keys() == calls(tmp_path / "alone").keys()
    assert max(done.values()) <= 2
    assert sum(done.values()) <= 120 + len(killed), (
        "a part was done twice that no kill had interrupted"
    )


def test_lanes_stay_in_one_share(tmp_path: Path) -> None:
    stage = slow(tmp_path / "x")
    for index in (1, 2, 3):
        with pytest.raises(ShareUnfinished):
            run_stage(stage, engine(index, 4, wait_seconds=0))
    lanes = {int(name.removeprefix("part-")) % 40 for name in calls(tmp_path / "x")}
    assert Counter(
        int(name.removeprefix("part-")) % 40 for name in calls(tmp_path / "x")
    ) == Counter(dict.fromkeys(lanes, 3))
    assert len(lanes) == 30


def test_a_share_alone_says_who_is_missing_and_the_last_completes(tmp_path: Path) -> None:
    stage = make(tmp_path)
    with pytest.raises(
        ShareUnfinished,
        match=r"stage double: .* 2 parts of shares 2/3, 3/3 are not, and nobody .* for 0 s",
    ):
        run_stage(stage, engine(1, 3, wait_seconds=0))
    with pytest.raises(ShareUnfinished, match=r"1 parts of shares 3/3 are not"):
        run_stage(stage, engine(2, 3, wait_seconds=0))
    assert not (tmp_path / "out" / "leases").exists()
    last = run_stage(stage, engine(3, 3, wait_seconds=0))
    assert run_stage(stage, engine(1, 3, wait_seconds=0)) == last
    (tmp_path / "b").mkdir()
    assert last == run_stage(make(tmp_path / "b"))
    assert set(calls(tmp_path).values()) == {1}
    assert tree(tmp_path / "out") == tree(tmp_path / "b" / "out")


def test_without_a_share_all_that_is_pending_is_taken(tmp_path: Path) -> None:
    with pytest.raises(ShareUnfinished):
        run_stage(make(tmp_path), engine(2, 4, wait_seconds=0))
    assert run_stage(make(tmp_path)).counts == {"sum": 12}
    assert calls(tmp_path) == Counter({f"part-{number:05d}": 1 for number in range(4)})


def test_another_number_of_shares_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    with pytest.raises(ShareUnfinished):
        run_stage(make(tmp_path), engine(2, 4, wait_seconds=0))
    with pytest.raises(ShareUnfinished):
        run_stage(make(tmp_path), engine(1, 2, wait_seconds=0))
    run_stage(make(tmp_path), engine(2, 2, wait_seconds=0))
    assert calls(tmp_path) == Counter({f"part-{number:05d}": 1 for number in range(4)})


def test_who_may_write_at_once(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    first, second = Share(index=1, of=4), Share(index=2, of=4)
    with right_to_write(folder, first, about="x"):
        with right_to_write(folder, second, about="x"):
            assert live_shares(folder) == {first: "x", second: "x"}
        for share, about, complaint in [
            (first, "x", f"written by process {os.getpid()}"),
            (second, "y", "share 1/4 with other options or input"),
            (Share(index=3, of=16), "x", "written by share 1/4"),
            (None, "x", "written by share 1/4"),
        ]:
            with (
                pytest.raises(LeaseHeld, match=complaint),
                right_to_write(folder, share, about=about),
            ):
                pass
    with (
        right_to_write(folder, None),
        pytest.raises(LeaseHeld, match="all of it, by process"),
        right_to_write(folder, first),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_a_part_set_aside_is_in_the_manifest_of_all_and_its_share_tries_it_again(
    tmp_path: Path,
) -> None:
    poisoned: dict[str, Any] = {"orders": {"part-00001": "poison"}}
    with pytest.raises(ShareUnfinished):
        run_stage(make(tmp_path, **poisoned), engine(2, 2, wait_seconds=0))
    manifest = run_stage(make(tmp_path, **poisoned), engine(1, 2, wait_seconds=0))
    assert list(manifest.failed) == ["part-00001"]
    assert manifest.counts == {"sum": 10}
    before = calls(tmp_path)
    assert run_stage(make(tmp_path), engine(1, 2, wait_seconds=0)) == manifest
    assert calls(tmp_path) == before
    whole = run_stage(make(tmp_path), engine(2, 2, wait_seconds=0))
    assert (whole.failed, whole.counts) == ({}, {"sum": 12})
    assert run_stage(make(tmp_path), engine(1, 2, wait_seconds=0)) == whole
    assert calls(tmp_path) - before == Counter({"part-00001": 1})


def test_a_living_share_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    stage = Waiting(out=Folder(str(tmp_path / "out")), log=str(log))
    other = threading.Thread(target=run_stage, args=(stage, engine(2, 2)))
    other.start()
    until(lambda: log.exists() and calls(tmp_path)["part-00001"] == 1)
    threading.Timer(1.0, (tmp_path / "log.awake").touch).start()
    assert run_stage(stage, engine(1, 2, wait_seconds=0.2)).counts == {"sum": 12}
    other.join()


def test_a_share_whose_stage_another_completes_does_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = local.map_lanes

    def tardy(stage: Stage, engine: Engine, lanes: Any) -> None:
        real(stage, engine, lanes)
        until(
            lambda: Manifest.read(stage.out) is not None and not (stage.out / "receipts").exists()
        )

    monkeypatch.setattr(local, "map_lanes", tardy)
    with pytest.raises(ShareUnfinished):  # the share without parts
        run_stage(make(tmp_path), engine(5, 5, wait_seconds=0))
    threads = [
        threading.Thread(target=run_stage, args=(make(tmp_path), engine(index, 5)))
        for index in (1, 2, 3, 4, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert calls(tmp_path) == Counter({f"part-{number:05d}": 1 for number in range(4)})


def test_shares_meet_in_an_object_store(tmp_path: Path) -> None:
    with bucket(tmp_path) as url:
        stage = Double(out=Folder(f"{url}/out"), log=str(tmp_path / "log"), parts_wanted=24)
        found: list[Manifest] = []
        threads = [
            threading.Thread(
                target=lambda share=index: found.append(run_stage(stage, engine(share, 4)))
            )
            for index in range(1, 5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(found) == 4
        assert found.count(found[0]) == 4
        assert found[0].counts == {"sum": 552}
        assert set(calls(tmp_path).values()) == {1}
        assert stage.out.names() == sorted(["manifest.json", *found[0].names()])


def test_shares_meet_in_memory(tmp_path: Path) -> None:
    stage = Double(
        out=Folder(f"memory://{tmp_path.name}-{time.time_ns()}"), log=str(tmp_path / "log")
    )
    with pytest.raises(ShareUnfinished):
        run_stage(stage, engine(1, 2, wait_seconds=0))
    manifest = run_stage(stage, engine(2, 2, wait_seconds=0))
    assert run_stage(stage, engine(1, 2, wait_seconds=0)) == manifest
    assert set(calls(tmp_path).values()) == {1}
    assert stage.out.names() == sorted(["manifest.json", *manifest.names()])
