"""Several processes under torchrun train as one does, and go on with what one has begun.

Everything that needs a second process stands in two calls of torchrun, whose processes are forks of
this one, because to import torch in each takes longer than to train.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flows import cli
from tests.training.processes import run_apart, torchrun
from tests.training.worlds import all_plan, release, shapes_plan, trained
from training.plan import TrainingPlan
from training.train import train

STOP = 5  # a step of the second stage, behind which no checkpoint is due
NAMES = ["two", "two-then-one", "one-then-two"]  # the last two with blocks that are cut
pytestmark = pytest.mark.timeout(1800)  # two processes in step, on machines that are busy

SCRIPT = """
import sys
from pathlib import Path
from tests.training.test_torchrun import STOP, cut, whole
from tests.training.worlds import trained

folder = Path(sys.argv[1])
trained(whole(), folder, "two", ids=True)
trained(cut(), folder, "two-then-one", stop=STOP, ids=True)
trained(cut(), folder, "one-then-two", workers=1, ids=True)
"""

# A plan of one's own, in whose third step the scheduler asks torchrun to stop
PLAN = """
import os, signal, threading
from tests.training.worlds import shapes_plan
from training import loop

step_of = loop.train_step

def step(run, batches):
    if run.done == 2 and run.ranks.first:
        ask = signal.getsignal(signal.SIGTERM)
        handed_on = threading.Event()
        signal.signal(signal.SIGTERM, lambda *given: (handed_on.set(), ask(*given)))
        os.kill(os.getppid(), signal.SIGTERM)
        assert handed_on.wait(60)
    return step_of(run, batches)

def plan():
    loop.train_step = step
    return shapes_plan(checkpoint_steps=1000)
"""


def whole() -> TrainingPlan:
    """One objective a step in the third stage, so that some heads are not asked in all of them.

    What has no gradient but by rounding (biases of keys) is not to move: Adam would make of it
    whole steps.
    """
    plan = all_plan()
    third = replace(plan.stages[0], name="one", mixing="one", steps=3, momentum=None, chunk=0)
    stages = (*plan.stages, third)
    calm = replace(third.optimizer, eps=1e-4)
    return replace(plan, stages=tuple(replace(stage, optimizer=calm) for stage in stages))


def cut() -> TrainingPlan:
    return replace(whole(), shard="fsdp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torchrun")
    release(folder / "web", 40, heldout=8)
    release(folder / "clean", 30, seed=1, heldout=8)
    trained(whole(), folder, "one", ids=True)
    trained(cut(), folder, "one-then-two", stop=STOP, ids=True)
    _put_by(folder, "one-then-two")

    (folder / "script.py").write_text(SCRIPT)
    said = folder / "said"
    status = run_apart(torchrun, folder / "script.py", str(folder), said=said)
    assert status == 0, said.read_text()[-4000:]
    _put_by(folder, "two-then-one")
    trained(cut(), folder, "two-then-one", ids=True)
    return folder


def _put_by(folder: Path, name: str) -> None:
    """What was seen before a stop, so that it is not written over."""
    for path in folder.glob(f"{name}-?.json"):
        path.rename(folder / f"before-{path.name}")


def _lines(folder: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


def _ids(folder: Path, name: str) -> list[list[str]]:
    """Of each step the samples of all ranks."""
    parts = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}-?.json"))]
    return [sorted(one for part in step for one in part) for step in zip(*parts, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_all_losses_are_those_of_one_process(folder: Path, name: str) -> None:
    wanted, found = _lines(folder, "one"), _lines(folder, name)
    assert [line["step"] for line in found] == list(range(1, 12))
    for one, other in zip(wanted, found, strict=True):
        losses = {key: value for key, value in one.items() if _is_loss(key)}
        assert "loss" in losses
        assert losses.keys() == {key for key in other if _is_loss(key)}
        for key, value in losses.items():
            far = key == "gradient" or key.startswith("heldout_")  # rounding of all steps before
            assert other[key] == pytest.approx(value, rel=1e-3 if far else 1e-5), (one["step"], key)


def _is_loss(key: str) -> bool:
    return key.removeprefix("heldout_") in ("loss", "itc", "itm", "mlm", "gradient")


@pytest.mark.parametrize("kind", ["model", "best"])
@pytest.mark.parametrize("name", NAMES)
def test_models_are_exported_whole(folder: Path, name: str, kind: str) -> None:
    wanted = load_file(folder / "one" / kind / "model.safetensors")
    found = load_file(folder / name / kind / "model.safetensors")
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_ranks_divide_the_samples_of_one_process(folder: Path, name: str) -> None:
    wanted = _ids(folder, "one")
    assert [len(step) for step in wanted] == [8] * 4 + [16] * 4 + [8] * 3
    before = _ids(folder, f"before-{name}") if "then" in name else []
    assert len(before) in (0, STOP)
    assert before + _ids(folder, name) == wanted


def test_the_command_stops_when_torchrun_is_asked_to_and_goes_on_alone(tmp_path: Path) -> None:
    """SIGTERM to torchrun, as schedulers send it; then one process without torchrun."""
    root = tmp_path / "root"
    for seed, name in enumerate(("web", "clean")):
        home = release(root / "releases" / name, 40, seed=seed)
        (home / "manifest.json").write_text(json.dumps({"digest": name}))
    (tmp_path / "plan.py").write_text(PLAN)
    out = tmp_path / "run"
    said = tmp_path / "said"
    command = ["train", str(tmp_path / "plan.py"), "--root", str(root)]
    command += ["--release", "web=web", "clean=clean", "--out", str(out)]
    assert run_apart(torchrun, Path(cli.__file__), *command, said=said) != 0
    assert "winnow: stopped after step 3 of 12; the same command goes on" in said.read_text()
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-000000003"]

    releases = {name: root / "releases" / name for name in ("web", "clean")}
    plan = shapes_plan(checkpoint_steps=1000)
    result = train(plan, releases=releases, out=out, workers=0)
    alone = train(plan, releases=releases, out=tmp_path / "alone", workers=0)
    assert result.ran
    losses = [[line["loss"] for line in _lines(tmp_path, name)] for name in ("run", "alone")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert result.model == out / "model"
    assert result.numbers == pytest.approx(alone.numbers, rel=1e-4)
