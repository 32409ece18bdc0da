"""Files of a finished run that somebody has changed: errors with their names, and no traceback."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.worlds import release, shapes_plan
from training.export import load_model
from training.train import train


def test_files_of_a_run_that_lack_what_they_say(tmp_path: Path) -> None:
    releases = {"web": release(tmp_path / "web", 16)}
    plan = shapes_plan(steps=1, validate_steps=0)
    (stage, _) = plan.stages
    plan = replace(plan, stages=(replace(stage, batch=4),))
    out = tmp_path / "run"
    model = train(plan, releases=releases, out=out, workers=0).model

    (out / "result.json").write_text("{}")
    with pytest.raises(ValueError, match=r"result\.json is damaged .*: remove it"):
        train(plan, releases=releases, out=out, workers=0)
    (out / "result.json").unlink()
    assert train(plan, releases=releases, out=out, workers=0).steps == 1

    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    further = replace(plan, stages=(replace(plan.stages[0], init=str(model)),))
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged .*: export the model"):
        train(further, releases=releases, out=tmp_path / "further", workers=0)

    (model / "config.json").write_text(json.dumps({"model_type": "winnow"}))
    with pytest.raises(ValueError, match=r"config\.json: model: a table is wanted"):
        load_model(model)
