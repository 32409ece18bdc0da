"""Whole runs: what they learn, and that a killed one ends with the same bits."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.processes import run_apart
from tests.training.worlds import Killed, random_plan, release, shapes_plan, trained
from training.export import load_model
from training.interrupt import patient_stop
from training.loop import Progress
from training.train import train


@pytest.fixture
def releases(tmp_path: Path) -> dict[str, Path]:
    return {
        "web": release(tmp_path / "web", 60),
        "clean": release(tmp_path / "clean", 40, seed=1),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the plan from which most tests depart, as nobody disturbed it."""
    folder = tmp_path_factory.mktemp("whole")
    release(folder / "web", 60)
    release(folder / "clean", 40, seed=1)
    trained(shapes_plan(), folder, "run")
    return folder / "run"


def _weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def _losses(out: Path) -> list[tuple[int, float]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


def _numbers(out: Path) -> list[dict[str, float]]:
    """All lines of metrics, but for what a clock says."""
    clock = ("samples_per_s", "waited", "peak_share", "seconds_left")
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


def _same(one: Path, other: Path) -> None:
    assert _numbers(one) == _numbers(other)
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


def test_a_run_killed_after_any_step_sees_and_gives_the_same(tmp_path: Path) -> None:
    """Twin and queue, average, chunks, dropout, MixGen, several releases a step, two stages."""
    release(tmp_path / "web", 40, heldout=8)
    release(tmp_path / "clean", 30, seed=1, heldout=8)
    plan = random_plan()
    trained(plan, tmp_path, "whole", ids=True)
    wanted = json.loads((tmp_path / "whole-0.json").read_text())
    numbers = _numbers(tmp_path / "whole")
    assert [len(ids) for ids in wanted] == [8] * 4 + [16] * 4
    assert {"itc", "itm", "mlm", "heldout_loss"} <= numbers[-1].keys()

    for step in range(1, 9):
        with pytest.raises(Killed):
            trained(plan, tmp_path, "cut", kill=step, ids=True, workers={3: 2}.get(step, 0))
        half = tmp_path / "cut" / "checkpoints" / f".step-{step:09d}.part"
        half.mkdir(parents=True, exist_ok=True)  # so far a writer may have come
        assert _numbers(tmp_path / "cut") == numbers[:step]
        seen = json.loads((tmp_path / "cut-0.json").read_text())
        assert seen == wanted[step - len(seen) : step]
    trained(plan, tmp_path, "cut")
    _same(tmp_path / "whole", tmp_path / "cut")


def test_a_killed_process_goes_on_and_ends_with_the_same_bits(
    tmp_path: Path, releases: dict[str, Path], whole: Path
) -> None:
    status = run_apart(_killed, releases, tmp_path / "cut", said=tmp_path / "said")
    assert status == -signal.SIGKILL
    result = train(shapes_plan(), releases=releases, out=tmp_path / "cut", workers=1)
    assert result.ran
    _same(whole, tmp_path / "cut")


def _killed(releases: dict[str, Path], out: Path) -> None:
    """Train, till this process kills itself after the fifth step."""

    def told(progress: Progress) -> None:
        if progress.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    train(shapes_plan(), releases=releases, out=out, workers=0, on_progress=told)


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_who_is_asked_to_stop_writes_a_checkpoint_and_goes_on_elsewhere(
    tmp_path: Path, releases: dict[str, Path], whole: Path, asked: signal.Signals
) -> None:
    def told(progress: Progress) -> None:
        if progress.step == 3:
            for _ in range(1 if asked == signal.SIGINT else 2):  # a manager, and who hands it on
                os.kill(os.getpid(), asked)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
    try:
        with pytest.raises(KeyboardInterrupt, match="stopped after step 3 of 12"):
            train(
                shapes_plan(), releases=releases, out=tmp_path / "cut", workers=0, on_progress=told
            )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (tmp_path / "cut" / "checkpoints" / "step-000000003").is_dir()
    (tmp_path / "cut").rename(tmp_path / "moved")
    train(shapes_plan(), releases=releases, out=tmp_path / "moved", workers=0)
    _same(whole, tmp_path / "moved")


def test_a_second_control_c_does_not_wait_and_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with patient_stop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_set()
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.is_set()
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_finished_run_is_not_run_again(tmp_path: Path, releases: dict[str, Path]) -> None:
    plan = shapes_plan(steps=1)
    first = train(plan, releases=releases, out=tmp_path / "run", workers=0)
    again = train(plan, releases=releases, out=tmp_path / "run", workers=0)
    assert first.ran
    assert not again.ran
    assert again == replace(first, ran=False)


def test_chunks_change_no_loss(tmp_path: Path, releases: dict[str, Path], whole: Path) -> None:
    plan = shapes_plan()
    cut = replace(plan, stages=tuple(replace(stage, chunk=3) for stage in plan.stages))
    train(cut, releases=releases, out=tmp_path / "cut", workers=0)
    for (_, one), (_, other) in zip(_losses(whole), _losses(tmp_path / "cut"), strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_another_plan_does_not_train_in_the_same_folder(
    tmp_path: Path, releases: dict[str, Path]
) -> None:
    train(shapes_plan(steps=1), releases=releases, out=tmp_path / "run", workers=0)
    said = r"another plan \(shapes; stages.0.steps is 1 there and 2 here; stages.1.steps is 1 there"
    with pytest.raises(ValueError, match=said):
        train(shapes_plan(steps=2), releases=releases, out=tmp_path / "run", workers=0)


def test_a_run_goes_on_with_other_rates_when_that_is_said(
    tmp_path: Path, releases: dict[str, Path]
) -> None:
    plan, out = shapes_plan(), tmp_path / "run"
    first, last = plan.stages
    calm = replace(
        first, optimizer=replace(first.optimizer, lr=1e-4, clip=1.0), weights={"itm": 0.2}
    )
    slower = replace(plan, stages=(calm, last))
    slowest = replace(
        plan, stages=(calm, replace(last, optimizer=replace(last.optimizer, lr=1e-5)))
    )
    trained(plan, tmp_path, "run", stop=3)

    said = r"stages.0.optimizer.lr is 0.003 there and 0.0001 here; .*\(--amend\)"
    with pytest.raises(ValueError, match=said):
        train(slower, releases=releases, out=out, workers=0)
    longer = replace(slower, stages=(replace(calm, steps=7), last))
    with pytest.raises(ValueError, match=r"to train again$"):  # no --amend would help
        train(longer, releases=releases, out=out, workers=0, amend=True)

    trained(slower, tmp_path, "run", stop=5, amend=True)
    train(slowest, releases=releases, out=out, workers=0, amend=True)
    written = json.loads((out / "plan.json").read_text())
    assert [before["digest"] for before in written["amended"]] == [plan.digest, slower.digest]
    assert written["digest"] == slowest.digest
    assert (
        "stages.0.optimizer.lr is 0.003 there and 0.0001 here" in written["amended"][0]["changes"]
    )
    rates = [json.loads(line)["rate"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert max(rates[:3]) > 1e-3
    assert max(rates[3:6]) <= 1e-4
    assert max(rates[6:]) <= 1e-5


def test_what_changes_no_result_may_change_between_two_runs(
    tmp_path: Path, releases: dict[str, Path], whole: Path
) -> None:
    out = tmp_path / "run"
    trained(shapes_plan(), tmp_path, "run", stop=3)
    plan = shapes_plan(checkpoint_steps=5, recompute=True, shard="fsdp")
    assert train(plan, releases=releases, out=out, workers=0).ran
    _same(whole, out)
    assert json.loads((out / "plan.json").read_text())["plan"]["recompute"] is True


def test_checkpoints_know_whose_they_are(tmp_path: Path, releases: dict[str, Path]) -> None:
    trained(shapes_plan(), tmp_path, "run", stop=3)
    (tmp_path / "run" / "plan.json").unlink()
    with pytest.raises(ValueError, match="step-000000003 is of another run, as its digest says"):
        train(shapes_plan(steps=7), releases=releases, out=tmp_path / "run", workers=0)
    (tmp_path / "run" / "plan.json").unlink()
    swapped = {"web": releases["clean"], "clean": releases["web"]}
    with pytest.raises(ValueError, match="step-000000003 is of another run, as its releases says"):
        train(shapes_plan(), releases=swapped, out=tmp_path / "run", workers=0)


def test_two_runs_do_not_train_in_one_folder(tmp_path: Path, releases: dict[str, Path]) -> None:
    out = tmp_path / "run"

    def told(progress: Progress) -> None:
        with pytest.raises(ValueError, match="another run trains here"):
            train(shapes_plan(), releases=releases, out=out, workers=0)

    train(shapes_plan(steps=1), releases=releases, out=out, workers=0, on_progress=told)


def test_a_loss_that_is_no_number_stops_before_anything_is_written(
    tmp_path: Path, releases: dict[str, Path]
) -> None:
    plan = shapes_plan(steps=30, checkpoint_steps=1000)
    wild = replace(plan.stages[0], optimizer=replace(plan.stages[0].optimizer, lr=1e20))
    plan = replace(plan, stages=(wild, plan.stages[1]))
    with pytest.raises(ValueError, match=r"step \d+ \(stage web\): .* its samples: web/web0"):
        train(plan, releases=releases, out=tmp_path / "run", workers=0)
    assert not (tmp_path / "run" / "model").exists()


def test_a_release_that_is_not_given_is_named(tmp_path: Path, releases: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="missing: web"):
        train(shapes_plan(), releases={"clean": releases["clean"]}, out=tmp_path / "run")


@pytest.mark.parametrize("stages", [1, 2])
def test_weights_that_the_last_step_has_ruined_are_not_written(
    tmp_path: Path, releases: dict[str, Path], stages: int
) -> None:
    plan = shapes_plan(steps=1, validate_steps=0)
    wild = replace(plan.stages[0], optimizer=replace(plan.stages[0].optimizer, lr=1e39))
    plan = replace(plan, stages=(wild, plan.stages[1])[:stages])
    with pytest.raises(ValueError, match=r"step 1 \(stage web\) left numbers that are none in \d+"):
        train(plan, releases=releases, out=tmp_path / "run", workers=0)
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("name", "kept", "message"),
    [
        ("plan.json", 0.5, "plan.json is damaged"),
        ("checkpoints/step-000000003/progress.json", 0.5, "remove .*step-000000003, and training"),
        ("checkpoints/step-000000003/__0_0.distcp", 0.5, "step-000000003 is damaged"),
        ("checkpoints/step-000000003/__0_0.distcp", None, "step-000000003 is damaged"),
        ("checkpoints/step-000000003/.metadata", 0.5, "step-000000003 is damaged"),
    ],
)
def test_damaged_files_of_a_run_are_named(
    tmp_path: Path, releases: dict[str, Path], name: str, kept: float | None, message: str
) -> None:
    plan = shapes_plan(steps=2)
    trained(plan, tmp_path, "run", stop=3)
    path = tmp_path / "run" / name
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ValueError, match=message):
        train(plan, releases=releases, out=tmp_path / "run", workers=0)
    if "checkpoints" in name:  # what the message says is a remedy
        shutil.rmtree(path.parent)
        assert train(plan, releases=releases, out=tmp_path / "run", workers=0).ran
