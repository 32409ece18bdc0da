"""BERT, RoBERTa, ViT, DeiT and DINOv2 give what transformers' give, forwards and backwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DeiTConfig,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    RobertaConfig,
    RobertaForMaskedLM,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTModel,
)

from tests.training import parity
from training.data.towers import TowerSpec, image_tower
from training.model import Model

SHAPE = {
    "hidden_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 36,
}
IMAGE = {**SHAPE, "image_size": 12, "patch_size": 4}


def _bert(tied: bool) -> nn.Module:
    config = BertConfig(
        **SHAPE, vocab_size=23, max_position_embeddings=11, tie_word_embeddings=tied
    )
    return BertForMaskedLM(config)


def _roberta() -> nn.Module:
    return RobertaForMaskedLM(
        RobertaConfig(**SHAPE, vocab_size=23, max_position_embeddings=13, type_vocab_size=1)
    )


@pytest.mark.parametrize("kind", ["bert", "bert untied", "roberta"])
def test_texts_with_the_head_over_words(kind: str) -> None:
    family = kind.split()[0]
    theirs = _roberta() if family == "roberta" else _bert(tied=kind == "bert")
    parity.randomise(theirs)
    model, checkpoint = parity.ours_of(theirs, family)

    ids, valid = parity.texts(20, [9, 4, 1])
    ids = (ids + 3).masked_fill(~valid, 1)  # 1 is RoBERTa's padding, which tells it the places
    wanted = theirs(input_ids=ids, attention_mask=valid.long()).logits
    tokens = model.run("text", [model.embed("words", ids, valid)])
    found = model.head("vocabulary", tokens.x)

    assert parity.difference(found[valid], wanted[valid]) < parity.EXACT
    parity.probe(wanted, valid).backward()
    parity.probe(found, valid).backward()
    assert parity.gradient_difference(model, theirs, checkpoint, family) < parity.EXACT


def test_bert_without_a_head() -> None:
    theirs = BertModel(BertConfig(**SHAPE, vocab_size=23, max_position_embeddings=11))
    parity.randomise(theirs)
    model, _ = parity.ours_of(theirs, "bert")
    ids, valid = parity.texts(23, [11, 5])
    wanted = theirs(input_ids=ids, attention_mask=valid.long()).last_hidden_state
    found = model.run("text", [model.embed("words", ids, valid)]).x
    assert parity.difference(found[valid], wanted[valid]) < parity.EXACT


def _tower(kind: str) -> nn.Module:
    if kind == "vit":
        return ViTModel(ViTConfig(**IMAGE, attn_implementation="sdpa"))
    if kind == "deit":
        return DeiTModel(DeiTConfig(**IMAGE, attn_implementation="sdpa"))
    config = {name: value for name, value in IMAGE.items() if name != "intermediate_size"}
    return Dinov2Model(Dinov2Config(**config, mlp_ratio=2, attn_implementation="sdpa"))


@pytest.mark.parametrize("kind", ["vit", "deit", "dinov2"])
@pytest.mark.parametrize("size", [(12, 12), (8, 20)])
def test_images_of_the_grid_and_of_another_size(kind: str, size: tuple[int, int]) -> None:
    theirs = _tower(kind)
    parity.randomise(theirs)
    model, checkpoint = parity.ours_of(theirs, kind)
    # transformers resamples DINOv2's places in float32
    bound = 1e-5 if kind == "dinov2" and size != (12, 12) else parity.EXACT

    image, again = parity.pixels(2, 3, *size), parity.pixels(2, 3, *size)
    more = {} if kind == "dinov2" else {"interpolate_pos_encoding": True}
    wanted = theirs(pixel_values=image, **more).last_hidden_state
    found = model.run("image", [model.embed("patches", again)]).x
    assert parity.difference(found, wanted) < bound

    parity.probe(wanted).backward()
    parity.probe(found).backward()
    assert image.grad is not None
    assert again.grad is not None
    assert parity.difference(again.grad, image.grad) < bound
    apart = parity.gradient_difference(model, theirs, checkpoint, kind, summed="registers")
    assert apart < bound


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_base_patch32_clip_224", {}),
        ("vit_small_patch14_dinov2", {"dynamic_img_size": False}),
    ],
)
def test_timm(name: str, more: dict[str, bool]) -> None:
    shape = {
        "img_size": 28 if "patch14" in name else 32,
        "embed_dim": 20,
        "depth": 2,
        "num_heads": 4,
        "num_classes": 0,
        **more,
    }
    theirs = timm.create_model(name, **shape)
    parity.randomise(theirs)
    theirs.settings = {"architecture": name, "model_args": shape}
    model, checkpoint = parity.ours_of(theirs, "timm", theirs.settings)

    image = parity.pixels(2, 3, shape["img_size"], shape["img_size"])
    wanted = theirs.forward_features(image)
    found = model.run("image", [model.embed("patches", image)]).x
    assert parity.difference(found, wanted) < parity.EXACT
    parity.probe(wanted).backward()
    parity.probe(found).backward()
    assert parity.gradient_difference(model, theirs, checkpoint, "timm") < parity.EXACT


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_float32_at_base_size(kind: str) -> None:
    torch.manual_seed(3)
    made: dict[str, Callable[[], nn.Module]] = {
        "bert": lambda: BertModel(BertConfig(vocab_size=50)),
        "vit": lambda: ViTModel(ViTConfig()),
    }
    theirs = made[kind]().eval()
    model, _ = parity.ours_of(theirs, kind, dtype=torch.float32)
    with torch.inference_mode():
        wanted, found = _forward(theirs, model, kind)
    assert parity.difference(found, wanted) < 1e-4


def _forward(theirs: nn.Module, model: Model, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    if kind == "bert":
        ids, valid = parity.texts(50, [24, 7])
        wanted = theirs(input_ids=ids, attention_mask=valid.long()).last_hidden_state
        return wanted[valid], model.run("text", [model.embed("words", ids, valid)]).x[valid]
    image = parity.pixels(1, 3, 224, 224).detach().float()
    wanted = theirs(pixel_values=image).last_hidden_state
    return wanted, model.run("image", [model.embed("patches", image)]).x


@pytest.mark.parametrize("library", ["transformers", "timm"])
def test_the_grid_of_a_swin(library: Literal["transformers", "timm"], tmp_path: Path) -> None:
    """Both say a row of features for each place; timm's have theirs last."""
    theirs: nn.Module
    if library == "timm":
        name = "swin_tiny_patch4_window7_224"
        shape: dict[str, Any] = {"img_size": 32, "window_size": 4, "embed_dim": 8}
        shape |= {"depths": [1, 2], "num_heads": [2, 2]}
        theirs = timm.create_model(name, **shape, num_classes=0)
        settings = {"architecture": name, "model_args": shape, "num_classes": 0}
        settings["pretrained_cfg"] = {"input_size": [3, 32, 32], "num_classes": 0}
    else:
        theirs = SwinModel(
            SwinConfig(image_size=32, window_size=4, embed_dim=8, depths=[1, 2], num_heads=[2, 2]),
            add_pooling_layer=False,
        )
    parity.randomise(theirs)
    theirs.float()
    if library == "timm":
        save_file(theirs.state_dict(), tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(settings))
    else:
        theirs.save_pretrained(tmp_path)

    pixels = parity.pixels(2, 3, 32, 32).detach().float()
    found = image_tower(TowerSpec(folder=str(tmp_path), library=library), "cpu")(pixels)
    assert found.shape == (2, 16, 16)  # 4 x 4 places of 16 features
    ask = theirs.forward_features if library == "timm" else theirs
    with torch.no_grad():
        said = ask(pixels)  # type: ignore[operator]
    wanted = said if library == "timm" else said.last_hidden_state
    assert torch.allclose(found, wanted.reshape(2, 16, 16), rtol=1e-4, atol=1e-5)
