"""ViLT on padded texts and on padded images of different sizes is that of transformers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    ViltConfig,
    ViltForImageAndTextRetrieval,
    ViltForImagesAndTextClassification,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
    ViltModel,
)

from tests.training import parity

SIZES = torch.tensor([[5, 3], [2, 4], [1, 1]])  # of images, in patches; the grid is 3 x 3
PATCH = 4


def _config() -> ViltConfig:
    return ViltConfig(
        hidden_size=20,
        num_hidden_layers=3,
        num_attention_heads=5,
        intermediate_size=36,
        vocab_size=23,
        max_position_embeddings=9,
        image_size=12,
        patch_size=PATCH,
    )


def _images() -> tuple[Tensor, Tensor]:
    """Images behind each other in one batch, zero outside; and where they are."""
    images = parity.pixels(3, 3, 5 * PATCH, 4 * PATCH).detach()
    rows, columns = torch.arange(5 * PATCH)[None, :, None], torch.arange(4 * PATCH)[None, None]
    sides = SIZES * PATCH
    inside = (rows < sides[:, :1, None]) & (columns < sides[:, 1:, None])
    return (images * inside[:, None]).requires_grad_(), inside


@pytest.fixture(autouse=True)
def _in_reading_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers shuffles the patches of the largest image, and draws what pads the others."""

    def first(weights: Tensor, count: int, replacement: bool = False) -> Tensor:
        return torch.arange(int(count)) % len(weights)

    monkeypatch.setattr(torch, "multinomial", first)


@pytest.mark.parametrize("kind", ["tokens", "words tied", "words untied", "rank"])
def test_all_heads(kind: str) -> None:
    theirs: nn.Module
    if kind == "tokens":
        theirs = ViltModel(_config(), add_pooling_layer=False)
    elif kind == "rank":
        theirs = ViltForImageAndTextRetrieval(_config())
    else:
        config = _config()
        config.tie_word_embeddings = kind == "words tied"  # no argument may say so
        theirs = ViltForMaskedLM(config)
    parity.randomise(theirs)
    model, checkpoint = parity.ours_of(theirs, "vilt")
    if "words" in kind:
        matrix = model.heads["vocabulary"].decode.weight
        assert (matrix is model.embeds["words"].word.weight) == (kind == "words tied")

    ids, valid = parity.texts(23, [7, 4, 2])
    (seen, inside), (again, _) = _images(), _images()
    wanted = theirs(
        input_ids=ids, attention_mask=valid.long(), pixel_values=seen, pixel_mask=inside.long()
    )
    image = model.embed("patches", again, SIZES)
    tokens = model.run("fusion", [model.embed("words", ids, valid), image])

    found = tokens.x
    shown: Tensor | None = tokens.mask()
    assert tokens.mask().sum(1).tolist() == [7 + 16, 4 + 9, 2 + 2]
    if kind == "tokens":
        out = wanted.last_hidden_state
    elif kind == "rank":
        out, found, shown = wanted.logits, model.head("rank", tokens), None
    else:
        out, shown = wanted.logits, valid
        found = model.head("vocabulary", tokens.x[:, : ids.shape[1]])

    if shown is None:
        assert parity.difference(found, out) < parity.EXACT
    else:
        assert parity.difference(found[shown], out[shown]) < parity.EXACT

    parity.probe(out, shown).backward()
    parity.probe(found, shown).backward()
    assert seen.grad is not None
    assert again.grad is not None
    assert parity.difference(again.grad, seen.grad) < parity.EXACT
    assert parity.gradient_difference(model, theirs, checkpoint, "vilt") < parity.EXACT


@pytest.mark.parametrize("images", [1, 2])
def test_answers_about_one_image_and_about_two(images: int) -> None:
    config = _config()
    config.num_labels = 7
    theirs: nn.Module
    if images == 1:
        theirs = ViltForQuestionAnswering(config)
    else:
        config.modality_type_vocab_size, config.num_images = 3, 2
        theirs = ViltForImagesAndTextClassification(config)
    parity.randomise(theirs)
    model, checkpoint = parity.ours_of(theirs, "vilt")

    ids, valid = parity.texts(23, [7, 4, 2])
    (first, inside), (second, _) = _images(), _images()
    second = second.flip(0).detach()
    within = inside.flip(0)
    pixels, masks = first, inside.long()
    if images == 2:
        pixels = torch.stack([first, second], 1)
        masks = torch.stack([inside, within], 1).long()
    wanted = theirs(
        input_ids=ids, attention_mask=valid.long(), pixel_values=pixels, pixel_mask=masks
    ).logits

    words = model.embed("words", ids, valid)
    again = first.detach()
    seen = [model.run("fusion", [words, model.embed("patches", again, SIZES)])]
    if images == 2:
        other = model.embed("second", second, SIZES.flip(0))
        seen.append(model.run("fusion_second", [words, other]))
    found = model.head("answer", *seen)
    assert found.shape == (3, 7)
    assert parity.difference(found, wanted) < parity.EXACT

    parity.probe(wanted).backward()
    parity.probe(found).backward()
    assert parity.gradient_difference(model, theirs, checkpoint, "vilt") < parity.EXACT
