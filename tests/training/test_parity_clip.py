"""CLIP's towers and logits are those of transformers and of open_clip, forwards and backwards."""

from __future__ import annotations

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from tests.training import parity
from training.model import Model

END = 22  # the last token of a text, and the largest id, by which open_clip finds it
SETTINGS = {
    "embed_dim": 7,
    "quick_gelu": True,
    "vision_cfg": {"layers": 3, "width": 20, "head_width": 5, "patch_size": 4, "image_size": 12},
    "text_cfg": {"context_length": 9, "vocab_size": 23, "width": 24, "heads": 4, "layers": 2},
}


def _texts(length: int) -> tuple[Tensor, Tensor]:
    ids, valid = parity.texts(END, [length, 5, 2])
    last = valid.sum(1) - 1
    ids[torch.arange(len(ids)), last] = END
    return ids.masked_fill(~valid, 0), valid


def _logits(model: Model, ids: Tensor, valid: Tensor, image: Tensor) -> Tensor:
    texts = model.run("text", [model.embed("words", ids, valid)])
    images = model.run("image", [model.embed("patches", image)])
    text = model.head("text_project", texts)
    return model.head("scale") * text @ model.head("image_project", images).T


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("size", [(12, 12), (16, 8)])
def test_transformers(activation: str, size: tuple[int, int]) -> None:
    shape = {"num_hidden_layers": 3, "intermediate_size": 36, "hidden_act": activation}
    text = {"hidden_size": 20, "num_attention_heads": 5, "vocab_size": 23, "eos_token_id": END}
    image = {"hidden_size": 24, "num_attention_heads": 4, "image_size": 12, "patch_size": 4}
    config = CLIPConfig(
        text_config={**shape, **text, "max_position_embeddings": 9},
        vision_config={**shape, **image},
        projection_dim=7,
    )
    theirs = CLIPModel(config)
    parity.randomise(theirs)
    with torch.no_grad():
        theirs.logit_scale.fill_(0.7)  # ours has bounds
    model, checkpoint = parity.ours_of(theirs, "clip")

    ids, valid = _texts(8)
    seen, again = parity.pixels(2, 3, *size), parity.pixels(2, 3, *size)
    wanted = theirs(
        input_ids=ids,
        attention_mask=valid.long(),
        pixel_values=seen,
        interpolate_pos_encoding=True,
    )
    found = _logits(model, ids, valid, again)
    assert parity.difference(found, wanted.logits_per_text) < parity.EXACT

    words = model.run("text", [model.embed("words", ids, valid)]).x
    theirs_words = wanted.text_model_output.last_hidden_state
    assert parity.difference(words[valid], theirs_words[valid]) < parity.EXACT

    parity.probe(wanted.logits_per_text).backward()
    parity.probe(found).backward()
    assert seen.grad is not None
    assert again.grad is not None
    assert parity.difference(again.grad, seen.grad) < parity.EXACT
    assert parity.gradient_difference(model, theirs, checkpoint, "clip") < parity.EXACT


def test_open_clip() -> None:
    theirs = CLIP(**SETTINGS, output_dict=True)
    parity.randomise(theirs)
    theirs.settings = SETTINGS
    with torch.no_grad():
        theirs.logit_scale.fill_(0.7)
    model, checkpoint = parity.ours_of(theirs, "open_clip", SETTINGS)

    ids, valid = _texts(9)
    seen, again = parity.pixels(2, 3, 12, 12), parity.pixels(2, 3, 12, 12)
    out = theirs(seen, ids)
    wanted = out["logit_scale"] * out["text_features"] @ out["image_features"].T
    found = _logits(model, ids, valid, again)
    assert parity.difference(found, wanted) < parity.EXACT

    parity.probe(wanted).backward()
    parity.probe(found).backward()
    assert seen.grad is not None
    assert again.grad is not None
    assert parity.difference(again.grad, seen.grad) < parity.EXACT
    assert parity.gradient_difference(model, theirs, checkpoint, "open_clip") < parity.EXACT


def test_shapes_of_open_clip_that_have_no_table() -> None:
    config = open_clip.get_model_config("RN50")
    with pytest.raises(ValueError, match="only its own ViT is supported"):
        parity.understand(config, "open_clip", {})
