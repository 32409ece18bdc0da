"""BLIP in all its modes is that of transformers: contrast, matching, captions, generation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipModel,
)

from tests.training import parity
from training.attention import Cache
from training.model import Model
from training.tokens import Tokens

GRID, OTHER = (12, 12), (8, 16)


def _config() -> BlipConfig:
    shape = {"num_hidden_layers": 3, "intermediate_size": 36}
    text = {"hidden_size": 20, "num_attention_heads": 5, "vocab_size": 23}
    image = {"hidden_size": 24, "num_attention_heads": 4, "image_size": 12, "patch_size": 4}
    return BlipConfig(
        text_config={
            **shape,
            **text,
            "max_position_embeddings": 11,
            "encoder_hidden_size": 24,
            "bos_token_id": 21,
            "sep_token_id": 22,
        },
        vision_config={**shape, **image},
        projection_dim=7,
        image_text_hidden_size=6,
    )


def _image(model: Model, pixels: Tensor) -> Tokens:
    return model.run("image", [model.embed("patches", pixels)])


def _compare(
    wanted: Tensor,
    found: Tensor,
    images: tuple[Tensor, Tensor],
    models: tuple[nn.Module, Model],
    valid: Tensor | None = None,
) -> None:
    theirs, model = models
    shown = slice(None) if valid is None else valid
    assert parity.difference(found[shown], wanted[shown]) < parity.EXACT
    parity.probe(wanted, valid).backward()
    parity.probe(found, valid).backward()

    seen, again = images
    assert seen.grad is not None
    assert again.grad is not None
    assert parity.difference(again.grad, seen.grad) < parity.EXACT
    checkpoint = parity.understand(theirs.config, "blip", theirs.state_dict())
    assert parity.gradient_difference(model, theirs, checkpoint, "blip") < parity.EXACT


@pytest.mark.parametrize("size", [GRID, OTHER])
def test_contrast_of_the_retrieval_model(size: tuple[int, int]) -> None:
    theirs = BlipForImageTextRetrieval(_config())
    parity.randomise(theirs)
    model, _ = parity.ours_of(theirs, "blip")

    ids, valid = parity.texts(23, [9, 4, 1])
    seen, again = parity.pixels(3, 3, *size), parity.pixels(3, 3, *size)
    wanted = theirs(
        input_ids=ids,
        attention_mask=valid.long(),
        pixel_values=seen,
        use_itm_head=False,
        interpolate_pos_encoding=True,
    ).itm_score
    text = model.head("text_project", model.run("text", [model.embed("words", ids, valid)]))
    found = model.head("image_project", _image(model, again)) @ text.T
    _compare(wanted, found, (seen, again), (theirs, model))


@pytest.mark.parametrize("size", [GRID, OTHER])
def test_matching_with_cross_attention(size: tuple[int, int]) -> None:
    theirs = BlipForImageTextRetrieval(_config())
    parity.randomise(theirs)
    model, _ = parity.ours_of(theirs, "blip")

    ids, valid = parity.texts(23, [9, 4, 1])
    seen, again = parity.pixels(3, 3, *size), parity.pixels(3, 3, *size)
    wanted = theirs(
        input_ids=ids,
        attention_mask=valid.long(),
        pixel_values=seen,
        interpolate_pos_encoding=True,
    ).itm_score
    tokens = model.run("match", [model.embed("words", ids, valid)], _image(model, again))
    found = model.head("match", tokens)
    _compare(wanted, found, (seen, again), (theirs, model))


@pytest.mark.parametrize("size", [GRID, OTHER])
def test_logits_of_captions(size: tuple[int, int]) -> None:
    theirs = BlipForConditionalGeneration(_config())
    parity.randomise(theirs)
    model, _ = parity.ours_of(theirs, "blip")

    ids, valid = parity.texts(23, [9, 4, 1])
    seen, again = parity.pixels(3, 3, *size), parity.pixels(3, 3, *size)
    wanted = theirs(
        pixel_values=seen,
        input_ids=ids,
        attention_mask=valid.long(),
        interpolate_pos_encoding=True,
    ).logits
    tokens = model.run("caption", [model.embed("words", ids, valid)], _image(model, again))
    found = model.head("vocabulary", tokens.x)
    _compare(wanted, found, (seen, again), (theirs, model), valid)


def test_the_deprecated_model_with_its_pooler() -> None:
    theirs = BlipModel(_config())
    parity.randomise(theirs)
    with torch.no_grad():
        theirs.logit_scale.fill_(0.7)  # ours has bounds
    model, _ = parity.ours_of(theirs, "blip")

    ids, valid = parity.texts(23, [9, 4, 1])
    seen, again = parity.pixels(3, 3, *GRID), parity.pixels(3, 3, *GRID)
    wanted = theirs(input_ids=ids, attention_mask=valid.long(), pixel_values=seen)
    text = model.head("text_project", model.run("text", [model.embed("words", ids, valid)]))
    tokens = _image(model, again)
    twice = model.stacks["image"].last_norm(tokens.x)  # this class alone norms its vector again
    image = model.head("image_project", tokens.with_x(twice))
    found = model.head("scale") * text @ image.T
    _compare(wanted.logits_per_text, found, (seen, again), (theirs, model))


def test_generation_with_and_without_a_cache() -> None:
    theirs = BlipForConditionalGeneration(_config())
    parity.randomise(theirs)
    model, _ = parity.ours_of(theirs, "blip")
    pixels = parity.pixels(3, 3, *GRID).detach()
    prompt = torch.tensor([[21, 5, 0], [21, 9, 0], [21, 2, 0]])  # its last token is cut off

    wanted = theirs.generate(
        pixel_values=pixels, input_ids=prompt.clone(), max_new_tokens=7, do_sample=False
    )
    with torch.inference_mode():
        image = _image(model, pixels)
        cached = _greedy(model, image, prompt[:, :2], Cache())
        plain = _greedy(model, image, prompt[:, :2], None)

    length = wanted.shape[1]
    ended = (wanted == 22).int().cumsum(1).bool()
    assert length > 4
    assert torch.equal(cached, plain)
    assert torch.equal(plain[:, :length][~ended], wanted[~ended])


def _greedy(model: Model, image: Tokens, ids: Tensor, cache: Cache | None) -> Tensor:
    for _ in range(7):
        start = cache.length if cache is not None else 0
        words = model.embed("words", ids[:, start:], None, start)
        tokens = model.run("caption", [words], image, cache)
        best = model.head("vocabulary", tokens.x[:, -1]).argmax(-1)
        ids = torch.cat([ids, best[:, None]], dim=1)
    return ids
