"""A trained model goes on with other captions: its words, its towers and its weights with it."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.training.releases import picture
from tests.training.releases import release as numbers
from tests.training.worlds import release
from training.data.towers import TowerSpec
from training.export import load_model
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.recipes import check, load
from training.train import TrainResult, train

CHANGES = ["precision=float32", "threads=1"]


def _trained(recipe: str, folder: Path) -> TrainResult:
    release(folder / "first", 16, shards=1)
    plan = load(recipe, size="tiny", smoke=True, changes=CHANGES)
    data = dict.fromkeys(plan.releases, folder / "first")
    return train(plan, releases=data, out=folder / "run", workers=0)


def _captions(folder: Path, count: int = 12) -> Path:
    folder.mkdir(exist_ok=True)
    lines = []
    for number in range(count):
        (folder / f"{number}.png").write_bytes(picture(number))
        lines.append({"image": f"{number}.png", "captions": [f"number {number}", "some noise"]})
    path = folder / "captions.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


@pytest.mark.parametrize("recipe", ["clip", "vilt", "blip", "albef", "demo"])
def test_any_model_goes_on_where_it_ended(recipe: str, tmp_path: Path) -> None:
    first = _trained(recipe, tmp_path)
    changes = ["stages.0.optimizer.lr=1e-30", "stages.0.optimizer.weight_decay=0"]
    plan = load(str(first.model), changes=changes)
    assert plan.name.endswith("-smoke-finetune")
    assert plan.samples == 0  # all of what it goes on with, though the rehearsal read a few
    assert plan.releases == ["train"]

    own = _captions(tmp_path / "own")
    tuned = train(plan, releases={"train": own}, out=tmp_path / "tuned", workers=0)
    before, after = load_model(first.model)[0], load_model(tuned.model)[0]
    assert after.spec.embeds == before.spec.embeds
    for name, parameter in before.named_parameters():
        assert torch.allclose(parameter, after.get_parameter(name), atol=1e-6), name


def test_a_model_on_frozen_towers_takes_them_along(
    tmp_path: Path, image_folder: TowerSpec, text_folder: TowerSpec
) -> None:
    towers = {}
    for part, tower in (("image", image_folder), ("text", text_folder)):
        towers[part] = str(shutil.copytree(tower.folder, tmp_path / part))
    numbers(tmp_path, "first", 6)
    changes = [*CHANGES, "stages.0.steps=20", "stages.0.batch=4", "stages.0.schedule.warmup=5"]
    changes += ["model.prepare.grid.reduce=4", "model.embeds.grid.features=4"]
    plan = load("clip", size="tiny", init=towers, changes=changes)
    first = train(plan, releases={"train": tmp_path / "first"}, out=tmp_path / "run", workers=0)
    for folder in towers.values():
        shutil.rmtree(folder)

    plan = load(str(first.model))
    (stage,) = plan.stages
    (whole,) = load_stages(first)
    assert (stage.steps, stage.batch, stage.schedule.warmup) == (2, 4, 1.0)
    assert stage.optimizer.lr == pytest.approx(whole["optimizer"]["lr"] / 10)
    said: list[str] = []
    own = _captions(tmp_path / "own")
    tuned = train(plan, releases={"train": own}, out=tmp_path / "tuned", workers=0, say=said.append)
    assert tuned.steps == 2
    cut = Path("prepare") / "grid" / "reduction.npz"
    assert (tuned.model / cut).read_bytes() == (first.model / cut).read_bytes()
    assert not [line for line in said if "NOT LOADED" in line]

    # the release that it learned from first has its features already
    said.clear()
    again = tmp_path / "again"
    train(plan, releases={"train": tmp_path / "first"}, out=again, workers=0, say=said.append)
    assert not [line for line in said if line.startswith("features of")]


def load_stages(result: TrainResult) -> list[dict[str, dict[str, float]]]:
    plan = json.loads((result.model.parent / "plan.json").read_text())["plan"]
    stages: list[dict[str, dict[str, float]]] = plan["stages"]
    return stages


def test_stages_that_teach_nothing_more_are_left_out(tmp_path: Path) -> None:
    first = _trained("blip", tmp_path)
    path = first.model.parent / "plan.json"
    plan = json.loads(path.read_text())
    (stage,) = plan["plan"]["stages"]
    contrast, matching, captions = stage["objectives"]
    stage["weights"] = {}
    taught = {"one": [contrast], "two": [contrast, matching], "three": [captions]}
    plan["plan"]["stages"] = [
        {**stage, "name": name, "objectives": objectives} for name, objectives in taught.items()
    ]
    path.write_text(json.dumps(plan))

    stages = load(str(first.model)).stages
    kinds = [[type(one) for one in stage.objectives] for stage in stages]
    assert [stage.name for stage in stages] == ["two", "three"]
    assert kinds == [[Contrast, Matching], [Captions]]
    assert [stage.init for stage in stages] == [str(first.model), ""]


def test_what_is_no_model_to_go_on_with(tmp_path: Path) -> None:
    first = _trained("clip", tmp_path)
    for given in ({"size": "tiny"}, {"init": {"image": "vit"}}):
        with pytest.raises(ValueError, match=r"is a trained model, which settles its (size|init)"):
            load(str(first.model), **given)  # type: ignore[arg-type]
    moved = shutil.copytree(first.model, tmp_path / "moved")
    with pytest.raises(ValueError, match=r"plan.json is missing, which says how the model was"):
        load(str(moved))
    (moved / "config.json").write_text('{"model_type": "blip"}')
    with pytest.raises(ValueError, match=r"holds a model of another kind \('blip'\): give it as"):
        load(str(moved))
    with pytest.raises(ValueError, match="no training recipe"):
        check(str(tmp_path / "none"))
