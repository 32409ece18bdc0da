"""Held-out samples during training: what is measured, what is kept, what stops a run."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.worlds import release, shapes_plan
from training import validation
from training.data.feed import Data
from training.data.shards import Release
from training.distributed import Ranks
from training.export import load_model
from training.loop import train_step
from training.plan import TrainingPlan
from training.run import begin_stage, next_stage
from training.spike import leaps
from training.train import TrainResult, make_run, prepare, train


@pytest.fixture
def web(tmp_path: Path) -> Path:
    return release(tmp_path / "web", 40, heldout=10)


def _plan(**changes: object) -> TrainingPlan:
    plan = shapes_plan(**{"checkpoint_steps": 1000, "validate_steps": 2, **changes})  # type: ignore[arg-type]
    return replace(plan, stages=plan.stages[:1])


def _train(plan: TrainingPlan, web: Path, out: Path, said: list[str] | None = None) -> TrainResult:
    tell = (said if said is not None else []).append
    return train(plan, releases={"web": web}, out=out, workers=0, say=tell)


def _heldout(out: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["heldout_loss"] for line in lines if "heldout_loss" in line}


def _scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    left = iter(losses)
    monkeypatch.setattr(validation, "measure", lambda run, steps: {"loss": next(left)})


def test_a_model_that_stands_still_measures_the_same_each_time(tmp_path: Path, web: Path) -> None:
    plan = _plan(steps=5)
    still = replace(plan.stages[0], optimizer=replace(plan.stages[0].optimizer, lr=1e-30))
    said: list[str] = []
    result = _train(replace(plan, stages=(still,)), web, tmp_path / "run", said)
    found = _heldout(tmp_path / "run")
    assert list(found) == [2, 4, 5]
    assert len(set(found.values())) == 1
    assert result.best == {"step": 2, "loss": found[2]}
    assert said == [
        f"{tmp_path / 'run' / 'model'}: the model after the last step, 5",
        (
            f"{tmp_path / 'run' / 'best'}: the model after step 2, best on held-out samples "
            f"({found[2]:.4g})"
        ),
    ]


def test_the_best_model_and_the_last_are_kept(
    tmp_path: Path, web: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scripted(monkeypatch, [3.0, 2.0, 2.5])
    result = _train(_plan(steps=6), web, tmp_path / "long")
    assert result.best == {"step": 4, "loss": 2.0}

    schedule = replace(_plan().stages[0].schedule, shape="constant", warmup=0)
    for steps, folder in ((6, "six"), (4, "four")):
        _scripted(monkeypatch, [3.0, 2.0, 2.5])
        plan = _plan(steps=steps)
        plan = replace(plan, stages=(replace(plan.stages[0], schedule=schedule),))
        _train(plan, web, tmp_path / folder)
    best = load_file(tmp_path / "six" / "best" / "model.safetensors")
    last = load_file(tmp_path / "six" / "model" / "model.safetensors")
    wanted = load_file(tmp_path / "four" / "model" / "model.safetensors")
    assert all(torch.equal(best[name], wanted[name]) for name in wanted)
    assert any(not torch.equal(best[name], last[name]) for name in last)
    assert load_model(tmp_path / "six" / "best")[1] == _plan().stages[0].objectives


def test_a_held_out_loss_that_is_no_number_stops_before_anything_is_written(
    tmp_path: Path, web: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scripted(monkeypatch, [math.nan])
    with pytest.raises(ValueError, match=r"step 2 \(stage web\), on held-out samples: loss is not"):
        _train(_plan(checkpoint_steps=2), web, tmp_path / "run")
    assert not (tmp_path / "run" / "best").exists()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_held_out_loss_that_leaps_stops_too(
    tmp_path: Path, web: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scripted(monkeypatch, [3.0, 2.9, 2.8, 2.7, 2.6, 400.0])
    with pytest.raises(ValueError, match=r"step 6 .*: the loss leapt to 400"):
        _train(_plan(steps=8, validate_steps=1), web, tmp_path / "run")


def test_a_leap_is_far_above_what_was_before() -> None:
    assert leaps([3.0, 2.9, 2.8, 2.7, 2.6], 400.0, known=5)
    assert not leaps([3.0, 2.9, 2.8, 2.7, 2.6], 4.0, known=5)
    assert not leaps([3.0, 2.9, 2.8, 2.7], 400.0, known=5)
    assert not leaps([3.0] * 60, 3.5, known=50)
    assert leaps([3.0] * 60, 3.7, known=50)


def test_nothing_held_out_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    result = _train(_plan(), release(tmp_path / "all", 40), tmp_path / "run", said)
    assert result.best == {}
    assert said[1] == "the releases hold nothing out: no step was validated"


def test_validation_changes_no_step(tmp_path: Path, web: Path) -> None:
    _train(_plan(), web, tmp_path / "seen")
    _train(_plan(validate_steps=0), web, tmp_path / "blind")
    one, other = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("seen", "blind")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_moving_average_is_that_of_a_plain_loop(tmp_path: Path, web: Path) -> None:
    plan = _plan(steps=4)
    plan = replace(plan, stages=(replace(plan.stages[0], ema=0.8),))
    releases = {"web": Release.open("web", web)}
    prepared = prepare(plan, releases, lambda _: tmp_path)
    run = make_run(plan, prepared)
    begin_stage(run)
    expected = [parameter.detach().double().clone() for parameter in run.model.parameters()]

    data = Data(plan=plan, prepared=prepared, ranks=Ranks(), workers=0)
    with data.training(run.now, releases, {}) as feed:
        for _ in range(plan.steps):
            train_step(run, next(feed))
            run.step += 1
            for one, now in zip(expected, run.model.parameters(), strict=True):
                one.copy_(0.8 * one + 0.2 * now.detach().double())
    next_stage(run)
    for one, shown in zip(expected, run.model.parameters(), strict=True):
        torch.testing.assert_close(shown.detach().double(), one, rtol=1e-6, atol=1e-7)
