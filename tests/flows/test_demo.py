"""The demo, small: killed in each of its steps it ends as an uninterrupted one does."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows.demo.run import SMALL

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from flows.demo.run import SMALL, run_demo
sys.exit(run_demo(Path(sys.argv[1]), seed=3, size=SMALL))
"""
COMMAND = """
import functools, sys
import flows.demo.run
flows.demo.run.run_demo = functools.partial(flows.demo.run.run_demo, size=flows.demo.run.SMALL)
from flows.cli import main
sys.argv = ["winnow", "demo", "--out", sys.argv[1]]
main()
"""
STEPS = (
    "draw",
    "collect web",
    "collect clean",
    "curate web",
    "curate raw",
    "curate clean",
    "pretrain",
    "evaluate curated",
    "evaluate raw_only",
    "report",
)
LAST_STEPS = STEPS[-2:]  # over in no time: the signal may come when all is done

pytestmark = pytest.mark.timeout(900)


def start(out: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-u", "-c", PROGRAM, str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(out: Path) -> dict[str, Any]:
    child = start(out)
    printed, _ = child.communicate(timeout=600)
    assert child.returncode == 0, printed[-3000:]
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def kill_in(out: Path, step: str, seconds: float) -> None:
    """Start the demo and kill it some time after it says that it begins a step."""
    child = start(out)
    assert child.stdout is not None
    seen = []
    for line in child.stdout:
        seen.append(line)
        if line.startswith(f"{step}:"):
            time.sleep(0.0 if step in LAST_STEPS else seconds)
            child.send_signal(signal.SIGKILL)
            break
    child.wait()
    assert seen, "nothing was printed"
    assert seen[-1].startswith(f"{step}:"), "".join(seen[-20:])
    child.stdout.close()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("demo") / "whole"
    return out, finish(out)


def test_the_summary_says_what_happened(uninterrupted: tuple[Path, dict[str, Any]]) -> None:
    out, summary = uninterrupted
    assert sum(summary["outcomes"].values()) == summary["candidates"]
    assert summary["outcomes"]["kept"] == summary["kept"]
    assert set(summary["release"]) == {"name", "digest", "samples", "shards"}
    assert [stage["name"] for stage in summary["stages"]] == ["web", "clean"]
    assert all(
        set(stage) == {"name", "steps", "first_loss", "last_loss"} for stage in summary["stages"]
    )
    found = summary["retrieval"]
    assert found["candidates"] == found["raw_only"]["candidates"] == SMALL.heldout
    for run in (found, found["raw_only"]):
        for way in ("text_to_image", "image_to_text"):
            assert 0 <= run[way]["r1"] <= run[way]["r5"] <= run[way]["r10"] <= 100
    assert set(STEPS) <= set(summary["seconds"])
    assert (out / "report.html").stat().st_size > 10_000


def test_curation_is_right_about_what_rules_can_see(
    uninterrupted: tuple[Path, dict[str, Any]],
) -> None:
    summary = uninterrupted[1]
    assert summary["precision"] >= 0.95
    assert summary["recall"] >= 0.95
    assert summary["precision_all"] <= summary["precision"]


def test_killed_in_every_step_it_ends_the_same(
    uninterrupted: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    for number, step in enumerate(STEPS):
        kill_in(out, step, 0.1 + 0.2 * (number % 3))
        assert step in LAST_STEPS or not (out / "summary.json").exists()
    summary = finish(out)
    assert summary["release"]["digest"] == uninterrupted[1]["release"]["digest"]
    assert summary["outcomes"] == uninterrupted[1]["outcomes"]
    assert summary["retrieval"] == uninterrupted[1]["retrieval"]


def test_ctrl_c_stops_with_a_message_and_a_status(tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", COMMAND, str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # a shell's background jobs ignore Ctrl-C
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("collect web:"):
            break
    time.sleep(1)
    os.killpg(child.pid, signal.SIGINT)
    printed, _ = child.communicate(timeout=60)
    assert child.returncode == 130, printed
    assert "the same command goes on from here" in printed
    assert "Traceback" not in printed
