"""Golden losses: what every recipe's smoke run gives on a small drawn release, step by step.

A change of any number in a model, an objective, the data's order or the optimizer shows here. Equal
to a thousandth: kernels of different CPUs round sums differently, by some 1e-7 a step, and Adam's
first steps, which divide a gradient by its own size, make of that at most some 1e-5.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.towers import language_folder, tower_folder
from tests.training.worlds import COLOURS, SHAPES, picture, release
from training.recipes import load, names
from training.train import train

GOLDEN: dict[str, list[float]] = {
    "albef": [7.1906, 8.4119, 8.4102],
    "blip": [7.8707, 9.9159, 9.276],
    "clip": [2.0824, 2.2856, 1.9582],
    "demo": [2.3965, 2.4163, 2.4723, 2.3817, 2.2653, 2.3136],
    "imagebert": [4.6247, 4.7023, 3.1928, 3.2870, 2.9783, 2.2475, 0.8122, 0.7168, 0.7042],
    "llava": [3.7175, 3.5336, 3.6086, 3.5438, 3.5984, 3.5852],
    "nlvr2": [0.8057, 0.5904, 1.0639],
    "vilt": [4.5780, 4.8312, 3.0042],
    "vqa": [5.3082, 3.2606, 2.7808],
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(tmp_path_factory.mktemp("golden") / "shapes", 40)


def questions(folder: Path) -> Path:
    """A file of questions about drawn shapes."""
    rows = []
    for number, colour in enumerate(COLOURS):
        for shape in SHAPES:
            image = _drawn(folder, colour, shape, number)
            answers = [colour] * 7 + ["grey"] * 3
            rows.append(
                {"image": image, "question": f"what colour is the {shape}", "answers": answers}
            )
    return _written(folder, rows)


def sentences(folder: Path) -> Path:
    """A file of sentences about two drawn shapes."""
    rows = []
    for number, colour in enumerate(COLOURS):
        pair = [_drawn(folder, colour, shape, number) for shape in SHAPES[:2]]
        for images in (pair, pair[::-1]):
            label = images == pair
            rows.append({"images": images, "sentence": f"a {colour} circle first", "label": label})
    return _written(folder, rows)


def _drawn(folder: Path, colour: str, shape: str, seed: int) -> str:
    name = f"{colour}-{shape}.png"
    (folder / name).write_bytes(picture(colour, shape, seed))
    return name


def _written(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "lines.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", names())
def test_the_losses_of_a_smoke_run(name: str, shapes: Path, tmp_path: Path) -> None:
    init = {}
    if name == "llava":  # it stands on a tower and a language model that somebody has trained
        init = {"image": tower_folder(tmp_path / "tower"), "text": language_folder(tmp_path / "lm")}
    changes = ["precision=float32", "threads=1"]
    plan = load(name, size="tiny", smoke=True, init=init, changes=changes)
    asked = {"vqa": questions, "nlvr2": sentences}.get(name)
    releases = dict.fromkeys(plan.releases, asked(tmp_path) if asked else shapes)
    result = train(plan, releases=releases, out=tmp_path / "run", workers=0)

    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line)["loss"] for line in lines]
    assert result.steps == len(found) == plan.steps
    assert found == pytest.approx(GOLDEN.get(name, []), rel=1e-3), [
        round(loss, 4) for loss in found
    ]


def test_a_smoke_run_keeps_what_is_smaller() -> None:
    changes = ["stages.0.steps=2", "stages.0.batch=6", "stages.0.chunk=2"]
    whole = load("blip", size="small")
    plan = load("blip", size="small", smoke=True, changes=changes)
    (stage,) = plan.stages
    assert plan.name == "blip-small-smoke"
    assert (stage.steps, stage.batch, stage.chunk) == (2, 6, 2)
    assert stage.momentum is not None
    assert (stage.momentum.queue, stage.momentum.alpha_warmup) == (16, 2)
    assert stage.objectives == whole.stages[0].objectives

    stacks = {name: replace(stack, layers=2) for name, stack in whole.model.stacks.items()}
    assert plan.model == replace(whole.model, stacks=stacks)
