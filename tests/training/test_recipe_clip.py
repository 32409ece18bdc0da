"""CLIP with towers that are given: cached and frozen where it is tiny, loaded and trained else."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.training.releases import picture, release
from training.data.features import FeatureSpec
from training.data.images import ImageSpec
from training.data.tokenizer import TextSpec
from training.data.towers import TowerSpec
from training.export import load_scorer
from training.recipes import load
from training.train import train
from training.weights.files import read

SMALL = ["stages.0.steps=2", "stages.0.batch=4", "precision=float32", "threads=1"]


@pytest.mark.parametrize("given", [("image", "text"), ("image",), ("text",)])
def test_a_tiny_one_learns_on_what_frozen_towers_say(
    given: tuple[str, ...], image_folder: TowerSpec, text_folder: TowerSpec, tmp_path: Path
) -> None:
    towers = {"image": image_folder.folder, "text": text_folder.folder}
    init = {part: towers[part] for part in given}
    plan = load("clip", size="tiny", init=init, changes=SMALL)
    frozen = {name for name, one in plan.model.prepare.items() if isinstance(one, FeatureSpec)}
    assert frozen == {{"image": "grid", "text": "states"}[part] for part in given}

    home = tmp_path / "release"
    release(tmp_path, "release", 6)
    said: list[str] = []
    result = train(plan, releases={"train": home}, out=tmp_path / "run", workers=0, say=said.append)
    assert result.steps == 2
    assert len(list((home / "features").iterdir())) == len(given)
    loaded = [line for line in said if line.startswith("initial weights of text")]
    assert loaded == ([one for one in loaded if "12 of 12" in one] if "text" in given else [])

    carried = shutil.copytree(result.model, tmp_path / "elsewhere")
    config = (carried / "config.json").read_text()
    for part in given:  # the towers themselves may go
        config = config.replace(towers[part], "/gone")
    (carried / "config.json").write_text(config)
    scorer = load_scorer(carried)
    scorer.images([picture(0), picture(1)])
    scorer.texts(["number 0", "number 1 2"])
    assert scorer.similarity().shape == (2, 2)
    assert scorer.similarity().isfinite().all()
    if "image" in given:
        pixels = torch.from_numpy(scorer.image_specs["grid"].pixels(picture(0)).copy())
        scorer.pixels({"grid": [pixels, pixels.flip(1)]}, plain=True)
        plain = scorer.image_vectors()
        assert not torch.allclose(plain[0], plain[1], atol=1e-3)
        scorer.pixels({"grid": [pixels, pixels.flip(1)]})
        mean = torch.nn.functional.normalize(plain.mean(0), dim=0)
        torch.testing.assert_close(scorer.image_vectors(), mean.expand(2, -1), rtol=0, atol=1e-5)


def test_the_trained_layer_is_the_towers_last(
    image_folder: TowerSpec, text_folder: TowerSpec, tmp_path: Path
) -> None:
    init = {"image": image_folder.folder, "text": text_folder.folder}
    frozen = "stages.0.optimizer.lr=1e-30"
    plan = load("clip", size="tiny", init=init, changes=[*SMALL, frozen])
    release(tmp_path, "release", 6)
    result = train(plan, releases={"train": tmp_path / "release"}, out=tmp_path / "run", workers=0)
    model = load_scorer(result.model).model
    state = read(text_folder.folder).state
    mine = model.get_parameter("stacks.text.blocks.0.feedforwards.shared.inner.into.weight")
    assert torch.equal(mine, state["encoder.layer.2.intermediate.dense.weight"])


def test_a_larger_one_loads_towers_and_trains_them(text_folder: TowerSpec, tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    vit = ViTModel(ViTConfig(image_size=16, patch_size=8, num_hidden_layers=2, **shape))
    vit.save_pretrained(tmp_path / "vit")
    init = {"image": str(tmp_path / "vit"), "text": text_folder.folder}
    plan = load("clip", size="small", init=init, changes=[*SMALL, "stages.0.chunk=2"])
    assert isinstance(plan.model.prepare["patches"], ImageSpec)
    assert isinstance(plan.model.prepare["words"], TextSpec)
    assert plan.init == init

    with pytest.raises(ValueError, match="it is a bert, a tower for text; give a ViT"):
        load("clip", size="small", init={"image": text_folder.folder})
    with pytest.raises(ValueError, match="is a bert, which does not read images"):
        load("clip", size="tiny", init={"image": text_folder.folder})
    with pytest.raises(ValueError, match="it is a vit, a tower for image; give a BERT"):
        load("clip", size="small", init={"text": str(tmp_path / "vit")})

    release(tmp_path, "release", 6)
    said: list[str] = []
    train(
        plan,
        releases={"train": tmp_path / "release"},
        out=tmp_path / "run",
        workers=0,
        say=said.append,
    )
    loaded = [line for line in said if line.startswith("initial weights of")]
    assert len(loaded) == 2
    assert not [line for line in loaded if "NOT LOADED" in line]
