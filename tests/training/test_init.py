"""What `--init` is given wrongly is told before anything long begins, with what would be right."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.releases import release
from tests.training.towers import language_folder, tower_folder
from training import hub
from training.data.features import FeatureSpec
from training.data.towers import TowerSpec, image_tower
from training.estimate import estimate
from training.plan import TrainingPlan
from training.recipes import load
from training.train import train


@pytest.fixture
def folders(tmp_path: Path, image_folder: TowerSpec, text_folder: TowerSpec) -> dict[str, str]:
    """Towers of all kinds, and folders that hold none."""
    (tmp_path / "empty").mkdir()
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text('{"model_type": "vit"}')
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": ')
    return {
        "grid": image_folder.folder,
        "bert": text_folder.folder,
        "vit": tower_folder(tmp_path / "vit"),
        "llama": language_folder(tmp_path / "llama"),
        "typo": str(tmp_path / "typo"),
        "empty": str(tmp_path / "empty"),
        "bare": str(bare),
        "broken": str(broken),
        "file": str(bare / "config.json"),
    }


@pytest.mark.parametrize(
    ("recipe", "size", "init", "message"),
    [
        (
            "clip",
            "tiny",
            "image=typo",
            r"init image=.*typo: there is no folder .*; give the folder",
        ),
        ("clip", "tiny", "image=empty", r"init image=.*empty: .* has no config.json"),
        ("clip", "tiny", "image=bare", r"init image=.*bare: .* has no weights"),
        ("clip", "tiny", "image=file", r"is a file: give the folder that it lies in"),
        ("clip", "tiny", "image=bert", r"is a bert, which does not read images: give a tower"),
        ("clip", "tiny", "text=typo", r"init text=.*typo: there is no folder"),
        (
            "clip",
            "tiny",
            "text=vit",
            r"init text=.*vit: it is a vit, a tower for image; give a BERT",
        ),
        ("clip", "tiny", "text=grid", r"init text=.*: it is a timm, a tower for image"),
        (
            "clip",
            "small",
            "image=bert",
            r"init image=.*: it is a bert, a tower for text; give a ViT",
        ),
        ("clip", "small", "text=vit", r"init text=.*vit: it is a vit, a tower for image"),
        ("clip", "small", "text=broken", r"init text=.*broken: .* is damaged .*: fetch the model"),
        (
            "clip",
            "tiny",
            "imgae=vit",
            r"init: the model has no part 'imgae'; .* did you mean image",
        ),
        ("blip", "tiny", "image=typo", r"init image=.*typo: there is no folder"),
        (
            "blip",
            "small",
            "image=bert",
            r"init image=.*: it is a bert, a tower for text; give a ViT",
        ),
        ("llava", "tiny", "image=typo", r"init image=.*typo: there is no folder"),
        ("llava", "tiny", "text=typo", r"init text=.*typo: there is no folder"),
        ("llava", "tiny", "text=vit", r"init text=.*vit: a vit writes no texts; give .* causal"),
        ("vilt", "tiny", "text=bert", r"init: the model has no part 'text'; there are fusion"),
    ],
)
def test_what_is_no_tower_is_told_when_the_plan_is_read(
    recipe: str, size: Any, init: str, message: str, folders: dict[str, str]
) -> None:
    part, _, name = init.partition("=")
    with pytest.raises(ValueError, match=message):
        load(recipe, size=size, init={part: folders[name]})


@pytest.mark.parametrize(
    ("recipe", "init", "message"),
    [
        ("albef", "image=typo", r"init image=.*typo: there is no folder"),
        ("albef", "text=vit", r"init text=.*vit: it is a vit, a tower for image; give a BERT"),
        ("demo", "text=empty", r"init text=.*empty: .* is no folder with a config.json"),
        ("vilt", "image=typo", r"init fusion=.*typo: there is no folder"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_what_is_no_tower_is_told_before_a_vocabulary_is_made(
    recipe: str,
    init: str,
    message: str,
    dry: bool,
    folders: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(*args: object, **named: object) -> None:
        raise AssertionError("captions are read")

    monkeypatch.setattr("training.train.make_tokenizer", read)
    monkeypatch.setattr("training.estimate.make_tokenizer", read)
    release(tmp_path, "web", 4)
    part, _, name = init.partition("=")
    plan = load(recipe, size="tiny", init={part: folders[name]})
    releases = dict.fromkeys(plan.releases, tmp_path / "web")
    with pytest.raises(ValueError, match=message):
        _begin(plan, releases, tmp_path / "run", dry=dry)


def _begin(plan: TrainingPlan, releases: dict[str, Path], out: Path, *, dry: bool) -> None:
    if dry:
        estimate(plan, releases=releases)
    else:
        train(plan, releases=releases, out=out, workers=0)


def test_a_name_of_the_hub_is_a_frozen_tower_too(
    image_folder: TowerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def cached(source: str, name: str, **more: object) -> str | None:
        asked.append(f"{source}/{name}")
        path = Path(image_folder.folder) / name
        return str(path) if path.is_file() else None

    monkeypatch.setattr(hub, "cached_file", cached)
    plan = load("clip", size="tiny", init={"image": "someone/tower"})
    grid = plan.model.prepare["grid"]
    assert isinstance(grid, FeatureSpec)
    assert grid.tower == image_folder
    assert "someone/tower/model.safetensors" in asked


def test_a_name_that_the_hub_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(source: str, name: str, **more: object) -> None:
        raise OSError(f"{source} is not a local folder and is not a valid model identifier\nHints")

    monkeypatch.setattr(hub, "cached_file", unknown)
    message = (
        r"init image=typo: there is no folder typo, and the hub says: typo is not .*identifier;"
    )
    with pytest.raises(ValueError, match=message):
        load("clip", size="tiny", init={"image": "typo"})


def test_a_hub_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "cached_file", lambda source, name, **more: None)
    with pytest.raises(ValueError, match=r"there is no folder typo, and the hub has no such model"):
        load("clip", size="tiny", init={"image": "typo"})


def test_one_tower_of_two_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import SiglipConfig, SiglipModel, SiglipTextConfig, SiglipVisionConfig

    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = SiglipConfig(
        text_config=SiglipTextConfig(vocab_size=20, num_hidden_layers=1, **shape).to_dict(),
        vision_config=SiglipVisionConfig(
            image_size=32, patch_size=8, num_hidden_layers=2, **shape
        ).to_dict(),
    )
    whole = SiglipModel(config).eval()
    whole.save_pretrained(tmp_path)
    tower = TowerSpec(folder=str(tmp_path), library="transformers")
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = whole.vision_model(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(image_tower(tower, "cpu")(pixels), expected)

    state = load_file(tmp_path / "model.safetensors")
    kept = {name: one for name, one in state.items() if ".layers.1." not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks \d+ weights of its tower, .*layers.1.* fetch it"):
        image_tower(tower, "cpu")


def test_a_smoke_run_computes_features_of_a_few_samples(
    image_folder: TowerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.plan.SMOKE_SAMPLES", 6)
    release(tmp_path, "web", 9)
    said: list[str] = []
    changes = ["precision=float32", "threads=1"]
    init = {"image": image_folder.folder}
    plan = load("clip", size="tiny", init=init, smoke=True, changes=changes)
    assert plan.samples == 6
    train(
        plan,
        releases={"train": tmp_path / "web"},
        out=tmp_path / "run",
        workers=0,
        say=said.append,
    )
    assert [line for line in said if "6 of 6 samples" in line]
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["plan"]["samples"] == 6
