"""Whole runs: what they learn, and that a killed one ends with the same bits."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.worlds import release, shapes_plan
from training.export import load_model
from training.loop import Progress
from training.train import train

ROOT = Path(__file__).parents[2]


@pytest.fixture
def releases(tmp_path: Path) -> dict[str, Path]:
    return {
        "web": release(tmp_path / "web", 60),
        "clean": release(tmp_path / "clean", 40, seed=1),
    }


def _weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def _losses(out: Path) -> list[tuple[int, float]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


def _same(one: Path, other: Path) -> None:
    assert _losses(one) == _losses(other)
    mine, theirs = _weights(one), _weights(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_training_lowers_the_loss(tmp_path: Path, releases: dict[str, Path]) -> None:
    plan = shapes_plan(steps=40, checkpoint_steps=1000)
    result = train(plan, releases=releases, out=tmp_path / "run", workers=0)
    losses = [loss for _, loss in _losses(tmp_path / "run")]
    assert len(losses) == 80
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])
    assert result.steps == 80
    assert result.bad == 0

    model, objectives = load_model(result.model)
    assert not model.training
    assert objectives == plan.stages[-1].objectives


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(tmp_path: Path, releases: dict[str, Path]) -> None:
    train(shapes_plan(), releases=releases, out=tmp_path / "whole", workers=0)
    # step 5 lies after a checkpoint in the first stage, step 9 in the second
    for last in (5, 9):
        assert _child(tmp_path, tmp_path / "cut", last).returncode == -signal.SIGKILL
    result = train(shapes_plan(), releases=releases, out=tmp_path / "cut", workers=1)
    assert result.ran
    _same(tmp_path / "whole", tmp_path / "cut")


def _child(folder: Path, out: Path, last: int) -> subprocess.CompletedProcess[str]:
    """Train in another process, which kills itself after step `last`."""
    code = f"""
import os, signal
from pathlib import Path
from tests.training.worlds import shapes_plan
from training.train import train

def told(progress):
    if progress.step == {last}:
        os.kill(os.getpid(), signal.SIGKILL)

releases = {{name: Path({str(folder)!r}) / name for name in ("web", "clean")}}
train(shapes_plan(), releases=releases, out=Path({str(out)!r}), workers=0, on_progress=told)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_sigterm_writes_a_checkpoint_and_stops(tmp_path: Path, releases: dict[str, Path]) -> None:
    train(shapes_plan(), releases=releases, out=tmp_path / "whole", workers=0)

    def told(progress: Progress) -> None:
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt, match="stopped after step 3 of 12"):
        train(shapes_plan(), releases=releases, out=tmp_path / "cut", workers=0, on_progress=told)
    assert (tmp_path / "cut" / "checkpoints" / "step-000000003").is_dir()
    train(shapes_plan(), releases=releases, out=tmp_path / "cut", workers=0)
    _same(tmp_path / "whole", tmp_path / "cut")


def test_a_finished_run_is_not_run_again(tmp_path: Path, releases: dict[str, Path]) -> None:
    first = train(shapes_plan(), releases=releases, out=tmp_path / "run", workers=0)
    again = train(shapes_plan(), releases=releases, out=tmp_path / "run", workers=0)
    assert first.ran
    assert not again.ran
    assert again == replace(first, ran=False)


def test_chunks_change_no_loss(tmp_path: Path, releases: dict[str, Path]) -> None:
    plan = shapes_plan()
    cut = replace(plan, stages=tuple(replace(stage, chunk=3) for stage in plan.stages))
    train(plan, releases=releases, out=tmp_path / "whole", workers=0)
    train(cut, releases=releases, out=tmp_path / "cut", workers=0)
    for (_, one), (_, other) in zip(_losses(tmp_path / "whole"), _losses(tmp_path / "cut"), strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_another_plan_does_not_train_in_the_same_folder(tmp_path: Path, releases: dict[str, Path]) -> None:
    train(shapes_plan(), releases=releases, out=tmp_path / "run", workers=0)
    with pytest.raises(ValueError, match="holds a run of another plan"):
        train(shapes_plan(steps=7), releases=releases, out=tmp_path / "run", workers=0)


def test_two_runs_do_not_train_in_one_folder(tmp_path: Path, releases: dict[str, Path]) -> None:
    out = tmp_path / "run"

    def told(progress: Progress) -> None:
        with pytest.raises(ValueError, match="another run trains here"):
            train(shapes_plan(), releases=releases, out=out, workers=0)

    train(shapes_plan(steps=1), releases=releases, out=out, workers=0, on_progress=told)


def test_a_loss_that_is_no_number_stops_before_anything_is_written(tmp_path: Path, releases: dict[str, Path]) -> None:
    plan = shapes_plan(steps=30, checkpoint_steps=1000)
    wild = replace(plan.stages[0], optimizer=replace(plan.stages[0].optimizer, lr=1e20))
    plan = replace(plan, stages=(wild, plan.stages[1]))
    with pytest.raises(ValueError, match=r"step \d+ \(stage web\): .* its samples: web/web0"):
        train(plan, releases=releases, out=tmp_path / "run", workers=0)
    assert not (tmp_path / "run" / "model").exists()


def test_a_release_that_is_not_given_is_named(tmp_path: Path, releases: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="missing: web"):
        train(shapes_plan(), releases={"clean": releases["clean"]}, out=tmp_path / "run")


@pytest.mark.parametrize("name", ["plan.json", "checkpoints"])
def test_damaged_files_of_a_run_are_named(tmp_path: Path, releases: dict[str, Path], name: str) -> None:
    out = tmp_path / "run"

    def told(progress: Progress) -> None:
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(shapes_plan(), releases=releases, out=out, workers=0, on_progress=told)
    if name == "plan.json":
        (out / name).write_text("{")
    else:
        for path in (out / name / "step-000000003").glob("*.distcp"):
            path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        train(shapes_plan(), releases=releases, out=out, workers=0)
