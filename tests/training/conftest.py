"""What several files of tests ask: a model that is trained once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.worlds import COLOURS, SHAPES, picture, release, shapes_plan
from training.evaluate.scorer import Scorer
from training.export import load_scorer
from training.train import train


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a run that learned to tell shapes; its run and releases stand beside it."""
    folder = tmp_path_factory.mktemp("trained")
    plan = shapes_plan(steps=150, checkpoint_steps=1000)
    stage = plan.stages[0]
    stage = replace(stage, objectives=stage.objectives[:2], weights={}, batch=16)
    plan = replace(plan, stages=(stage,))
    releases = {"web": release(folder / "web", 200)}
    return train(plan, releases=releases, out=folder / "run", workers=0).model


@pytest.fixture
def scorer(trained: Path) -> Scorer:
    """The same model, holding nothing yet."""
    return load_scorer(trained)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A file of captions: every colour and shape once."""
    lines = []
    for colour in COLOURS:
        for shape in SHAPES:
            (tmp_path / f"{colour}-{shape}.png").write_bytes(picture(colour, shape, seed=99))
            line = {"image": f"{colour}-{shape}.png", "captions": [f"a {colour} {shape} on white"]}
            lines.append(json.dumps(line))
    path = tmp_path / "captions.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path
