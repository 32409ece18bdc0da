"""Trained models as folders of transformers and open_clip, and theirs as ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoTokenizer,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    CLIPModel,
    ViltConfig,
    ViltForImageAndTextRetrieval,
    ViltForMaskedLM,
    ViltModel,
)

from tests.training.towers import tower_folder
from tests.training.worlds import release
from training.convert import export_to, import_model
from training.data.batch import scaled
from training.export import load_model, load_scorer
from training.objectives.itm import Matching
from training.objectives.mlm import MaskedWords
from training.recipes import load
from training.train import train

TEXTS = ["A red square!", "a blue (circle) on the left", "green", "red [MASK] triangle"]
SAME = {"rtol": 1e-4, "atol": 1e-5}  # sums in another order, in float32


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The model of a recipe's smoke run."""
    folder = tmp_path_factory.mktemp("models")
    shapes = release(folder / "shapes", 40)

    def model(recipe: str) -> Path:
        out = folder / recipe
        plan = load(recipe, size="tiny", smoke=True, changes=["precision=float32", "threads=1"])
        train(plan, releases=dict.fromkeys(plan.releases, shapes), out=out, workers=0)
        return out / "model"

    return model


def _images(model: Path) -> tuple[list[Tensor], Tensor]:
    """An image for each text, as bytes and as what a model is given."""
    spec = load_scorer(model, "cpu").image_specs["patches"]
    generator = torch.Generator().manual_seed(0)
    shape = (len(TEXTS), spec.size, spec.size, 3)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return list(images), scaled(images.permute(0, 3, 1, 2), spec)


def _judged(model: Path, images: list[Tensor]) -> dict[str, Tensor]:
    """What a folder of ours says of all pairs."""
    scorer = load_scorer(model, "cpu")
    scorer.pixels({"patches": images})
    scorer.texts(TEXTS)
    said = {}
    if scorer.contrast is not None:
        said["similarity"] = scorer.similarity()
    if scorer.matching is not None:
        rows = torch.arange(len(TEXTS))
        said["match"] = scorer.match(rows, rows)
    return said


def _asked(folder: Path, pixels: Tensor) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    return {
        "input_ids": asked["input_ids"],
        "attention_mask": asked["attention_mask"],
        "pixel_values": pixels,
    }


@torch.inference_mode()
def test_vilt_there_and_back(trained: Callable[[str], Path], tmp_path: Path) -> None:
    model = trained("vilt")
    images, pixels = _images(model)
    said = _judged(model, images)

    assert export_to(model, tmp_path / "theirs", "vilt") == ()
    asked = _asked(tmp_path / "theirs", pixels)
    ranks = ViltForImageAndTextRetrieval.from_pretrained(tmp_path / "theirs").eval()
    assert torch.allclose(ranks(**asked).logits[:, 0], said["match"], **SAME)
    ViltForMaskedLM.from_pretrained(tmp_path / "theirs")

    import_model(tmp_path / "theirs", tmp_path / "back")
    again = _judged(tmp_path / "back", images)
    assert torch.allclose(again["match"], said["match"], **SAME)


@torch.inference_mode()
def test_blip_there_and_back(trained: Callable[[str], Path], tmp_path: Path) -> None:
    model = trained("blip")
    images, pixels = _images(model)
    said = _judged(model, images)

    export_to(model, tmp_path / "theirs", "blip")
    asked = _asked(tmp_path / "theirs", pixels)
    retriever = BlipForImageTextRetrieval.from_pretrained(tmp_path / "theirs").eval()
    cosines = retriever(**asked, use_itm_head=False).itm_score
    scale = load_scorer(model, "cpu").scale()
    assert torch.allclose(scale * cosines, said["similarity"], **SAME)

    # BLIP's own code begins a text that is matched with [ENC]; transformers leaves that to its user
    asked["input_ids"][:, 0] = AutoTokenizer.from_pretrained(
        tmp_path / "theirs"
    ).convert_tokens_to_ids("[ENC]")
    logits = retriever(**asked).itm_score
    assert torch.allclose(logits[:, 1] - logits[:, 0], said["match"], **SAME)

    captioner = BlipForConditionalGeneration.from_pretrained(tmp_path / "theirs").eval()
    config = captioner.config.text_config
    tokens = (config.bos_token_id, config.sep_token_id, config.pad_token_id)
    pieces = AutoTokenizer.from_pretrained(tmp_path / "theirs").convert_ids_to_tokens(tokens)
    assert pieces == ["[DEC]", "[SEP]", "[PAD]"]

    import_model(tmp_path / "theirs", tmp_path / "back")
    again = _judged(tmp_path / "back", images)
    assert torch.allclose(again["match"], said["match"], **SAME)
    assert torch.allclose(again["similarity"], said["similarity"], **SAME)
    assert load_scorer(tmp_path / "back").captions is not None


@torch.inference_mode()
def test_clip_to_transformers_and_back(trained: Callable[[str], Path], tmp_path: Path) -> None:
    model = trained("clip")
    images, pixels = _images(model)
    said = _judged(model, images)["similarity"]

    assert export_to(model, tmp_path / "theirs", "clip") == ()
    theirs = CLIPModel.from_pretrained(tmp_path / "theirs").eval()
    logits = theirs(**_asked(tmp_path / "theirs", pixels)).logits_per_image
    assert torch.allclose(logits, said, **SAME)

    import_model(tmp_path / "theirs", tmp_path / "back")
    assert torch.allclose(_judged(tmp_path / "back", images)["similarity"], said, **SAME)


@torch.inference_mode()
def test_clip_to_open_clip_and_back(trained: Callable[[str], Path], tmp_path: Path) -> None:
    model = trained("clip")
    images, pixels = _images(model)
    said = _judged(model, images)["similarity"]

    assert export_to(model, tmp_path / "theirs", "open_clip") == ()
    name = f"local-dir:{tmp_path / 'theirs'}"
    theirs, preprocess = open_clip.create_model_from_pretrained(name)
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    image = theirs.eval().encode_image(pixels, normalize=True)
    text = theirs.encode_text(tokens, normalize=True)
    assert torch.allclose(theirs.logit_scale.exp() * image @ text.T, said, **SAME)
    assert "CenterCrop" in str(preprocess)

    import_model(tmp_path / "theirs", tmp_path / "back")
    assert torch.allclose(_judged(tmp_path / "back", images)["similarity"], said, **SAME)


def test_images_as_their_files_say(trained: Callable[[str], Path], tmp_path: Path) -> None:
    """What transformers writes beside the weights, and what an older file wrote."""
    export_to(trained("clip"), tmp_path / "theirs", "clip")
    path = tmp_path / "theirs" / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    settings |= {"size": 32, "crop_size": 32, "image_mean": [0.1, 0.2, 0.3]}
    path.write_text(json.dumps(settings))
    import_model(tmp_path / "theirs", tmp_path / "back")
    spec = load_scorer(tmp_path / "back").image_specs["patches"]
    assert (spec.how, spec.evaluate, spec.mean) == ("crop", "centre", (0.1, 0.2, 0.3))


def test_what_cannot_be_converted(trained: Callable[[str], Path], tmp_path: Path) -> None:
    model = trained("vilt")
    with pytest.raises(ValueError, match="clip has stacks text and image, this model fusion"):
        export_to(model, tmp_path / "out", "clip")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="is there already: choose another folder"):
        export_to(model, tmp_path, "vilt")
    with pytest.raises(ValueError, match="towers go to --init"):
        import_model(tower_folder(tmp_path / "tower"), tmp_path / "out")

    small = ViltConfig(num_hidden_layers=1, hidden_size=12, num_attention_heads=2, vocab_size=50)
    ViltForMaskedLM(small).save_pretrained(tmp_path / "wordless")
    with pytest.raises(ValueError, match=r"has no tokenizer: name one .*\(--tokenizer\)"):
        import_model(tmp_path / "wordless", tmp_path / "out")
    ViltModel(small).save_pretrained(tmp_path / "bare")
    tokenizer = str(tmp_path / "vilt")
    export_to(model, tmp_path / "vilt", "vilt")
    with pytest.raises(ValueError, match="pieces, the model 50"):
        import_model(tmp_path / "bare", tmp_path / "out", tokenizer=tokenizer)
    assert not list(tmp_path.glob(".*part"))


@torch.inference_mode()
def test_a_factor_beyond_its_bounds_counts_as_it_did(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    """Ours is held within bounds where it is used, theirs is not."""
    model = tmp_path / "model"
    shutil.copytree(trained("clip"), model)
    tensors = load_file(model / "model.safetensors")
    tensors["heads.scale.log"] = torch.tensor(50.0).log()  # at most 30, in this size
    save_file(tensors, model / "model.safetensors")
    images, pixels = _images(model)
    said = _judged(model, images)["similarity"]

    export_to(model, tmp_path / "theirs", "clip")
    theirs = CLIPModel.from_pretrained(tmp_path / "theirs").eval()
    asked = _asked(tmp_path / "theirs", pixels)
    assert torch.allclose(theirs(**asked).logits_per_image, said, **SAME)

    for name, log in (("small", -0.5), ("large", 6.0)):
        theirs.logit_scale.fill_(log)
        shutil.copytree(tmp_path / "theirs", tmp_path / f"theirs-{name}")
        theirs.save_pretrained(tmp_path / f"theirs-{name}")
        import_model(tmp_path / f"theirs-{name}", tmp_path / name)
        found = _judged(tmp_path / name, images)["similarity"]
        assert torch.allclose(found, theirs(**asked).logits_per_image, rtol=1e-4, atol=1e-3)


def test_a_model_that_was_taken_in_goes_on(trained: Callable[[str], Path], tmp_path: Path) -> None:
    export_to(trained("vilt"), tmp_path / "theirs", "vilt")
    import_model(tmp_path / "theirs", tmp_path / "back")
    plan = load(str(tmp_path / "back"), changes=["threads=1", "precision=float32"], smoke=True)
    assert [type(one) for one in plan.stages[0].objectives] == [Matching, MaskedWords]

    own = release(tmp_path / "own", 8, shards=1)
    result = train(plan, releases={"train": own}, out=tmp_path / "run", workers=0)
    before, after = load_model(tmp_path / "back")[0], load_model(result.model)[0]
    assert before.spec.embeds == after.spec.embeds
    for name, parameter in before.named_parameters():
        assert torch.allclose(parameter, after.get_parameter(name), atol=1e-3), name
