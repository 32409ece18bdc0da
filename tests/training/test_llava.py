"""LLaVA from folders of others: what it is given, what it trains, and that it writes captions."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from tests.training.towers import language_folder, tower_folder
from tests.training.worlds import picture, release
from training.data.features import FeatureSpec
from training.data.images import ImageSpec
from training.data.towers import TowerSpec, image_tower
from training.embed import GridSpec
from training.evaluate.captioning import evaluate
from training.export import fit_grids, load_model
from training.generate import Decoding
from training.recipes import load
from training.train import train


@pytest.mark.parametrize("kept", [True, False])
def test_a_projector_and_small_matrices_learn_captions(tmp_path: Path, kept: bool) -> None:
    shapes = release(tmp_path / "shapes", 24, shards=1)
    init = {"image": tower_folder(tmp_path / "tower"), "text": language_folder(tmp_path / "lm")}
    changes = ["precision=float32", "threads=1"]
    changes += [f"stages.{stage}.{key}" for stage in (0, 1) for key in ("steps=6", "batch=8")]
    changes += ["stages.0.optimizer.lr=0.01", "stages.1.optimizer.lr=0.01"]
    plan = load("llava", size="tiny", init=init, changes=changes)
    if not kept:
        plan = load(
            "llava", size="base", init=init, changes=[*changes, "model.languages.language.rank=4"]
        )
    result = train(plan, releases={"train": shapes}, out=tmp_path / "run", workers=0)

    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert losses[-1] < losses[0] - 0.5
    model, _ = load_model(result.model)
    grid = model.spec.embeds["patches"]
    assert isinstance(grid, GridSpec)
    assert (grid.features, grid.width, grid.hidden, grid.skip) == (20, 24, 24, 1)
    assert (grid.tower is None) == kept

    # neither the tower nor the language model is in what was written
    names = load_file(result.model / "model.safetensors").keys()
    assert {name.split(".")[0] for name in names} == {"embeds", "languages"}
    assert all(".lora." in name or ".linear." in name for name in names)
    assert any(bool(one.any()) for name, one in model.named_parameters() if name.endswith("up"))

    # the first stage leaves the small matrices alone
    only = load("llava", size="tiny", init=init).stages[0].freeze
    assert only == (r"\.lora\.",)
    _writes(result.model, tmp_path)


def _writes(model: Path, folder: Path) -> None:
    (folder / "seen.png").write_bytes(picture("red", "circle", 1))
    line = {"image": "seen.png", "captions": ["a red circle on white"]}
    (folder / "captions.jsonl").write_text(json.dumps(line) + "\n")
    torch.manual_seed(0)
    found = evaluate(model, folder / "captions.jsonl", decoding=Decoding(longest=6), java=False)
    assert found["images"] == 1


def test_a_tower_of_timm_gives_its_last_grid(tmp_path: Path, image_folder: TowerSpec) -> None:
    init = {"image": image_folder.folder, "text": language_folder(tmp_path / "lm")}
    plan = load("llava", size="tiny", init=init, smoke=True)
    patches = plan.model.prepare["patches"]
    assert isinstance(patches, FeatureSpec)
    assert isinstance(patches.prepare, ImageSpec)
    grid = fit_grids(plan.model).embeds["patches"]
    assert isinstance(grid, GridSpec)

    network = timm.create_model(f"local-dir:{image_folder.folder}", pretrained=True).eval()
    pixels = torch.zeros(1, 3, patches.prepare.size, patches.prepare.size)
    last = network.forward_features(pixels)
    tokens = image_tower(patches.tower, "cpu")(pixels)
    assert grid.features == last.shape[1]
    assert grid.skip == 0
    torch.testing.assert_close(tokens, last.flatten(2).transpose(1, 2))
