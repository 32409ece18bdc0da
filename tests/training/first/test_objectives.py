"""Losses on a model whose outputs are written down."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from training.first.fusion import FusionModel, Tokens
from training.first.loop import total_loss
from training.first.objectives.base import Views
from training.first.objectives.itc import Contrast
from training.first.objectives.itm import Matching, same_texts
from training.first.objectives.mlm import MaskedWords
from training.first.plan import ModelSpec, Weighted


class Told:
    """Stands for a model: matches, projections and words are what the test says."""

    def __init__(self, odds: Tensor, cosines: Tensor, scale: float = 1.0) -> None:
        self.odds, self.cosines, self.log_scale = odds, cosines, torch.tensor(math.log(scale))
        self.width = odds.shape[0]

    def encode_text(self, ids: Tensor) -> Tokens:
        return Tokens(x=torch.arange(len(ids))[:, None, None].float(), valid=ids != 0)

    def encode_image(self, pixels: Tensor) -> Tokens:
        return Tokens(x=torch.arange(len(pixels))[:, None, None].float())

    def match(self, text: Tokens, image: Tokens) -> Tensor:
        odds = self.odds[image.x[:, 0, 0].long(), text.x[:, 0, 0].long()]
        return torch.stack([torch.zeros_like(odds), odds], dim=1)

    def project_image(self, image: Tokens) -> Tensor:
        return self.cosines

    def project_text(self, text: Tokens) -> Tensor:
        return torch.eye(self.width)

    def fuse(self, text: Tokens, image: Tokens) -> Tensor:
        assert text.valid is not None
        return torch.zeros(*text.valid.shape, 4)

    def word_head(self, tokens: Tensor) -> Tensor:
        return torch.zeros(len(tokens), 8)


def _views(model: Any, ids: list[list[int]]) -> Views:
    vocabulary = torch.arange(8)
    pixels = torch.zeros(len(ids), 3, 2, 2)
    return Views(model=model, ids=torch.tensor(ids), pixels=pixels, continues=vocabulary > 7, special=vocabulary < 5, mask_id=4)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_matching_judges_true_pairs_and_wrong_ones_both_ways() -> None:
    # two pairs: log odds 2 where they belong together, -1 elsewhere; with two rows the wrong partner is always the other
    model = Told(torch.tensor([[2.0, -1.0], [-1.0, 2.0]]), torch.eye(2))
    sums = Matching()(_views(model, [[2, 5, 3], [2, 6, 3]]), _generator())
    loss, count = sums["itm"]
    assert count == 6
    assert loss.item() == pytest.approx(2 * math.log(1 + math.exp(-2)) + 4 * math.log(1 + math.exp(-1)), rel=1e-5)
    assert sums["itm_right"] == (torch.tensor(6), 6)


def test_matching_as_in_vilt_changes_the_picture_of_exactly_half() -> None:
    model = Told(torch.zeros(4, 4), torch.eye(4))
    views = _views(model, [[2, 5, 3], [2, 6, 3], [2, 7, 3], [2, 5, 3]])
    texts, images, labels = Matching(both=False)._pairs(views, _generator())
    assert texts.tolist() == [0, 1, 2, 3]
    assert labels.sum().item() == 2
    assert ((images == texts).long() == labels).all()


def test_hard_negatives_are_the_similar_ones_and_never_the_same_text() -> None:
    # image 0 is nearest to text 1, but text 1 is the same as text 0: text 2 is the only negative left
    cosines = torch.tensor([[1.0, 0.9, -1.0], [0.9, 1.0, -1.0], [0.5, -1.0, 1.0]])
    views = _views(Told(torch.zeros(3, 3), cosines, scale=100.0), [[2, 5, 3], [2, 5, 3], [2, 6, 3]])
    texts, images, _ = Matching(hard=True)._pairs(views, _generator())
    assert texts.tolist() == [0, 1, 2, 2, 2, 0, 0, 1, 2]
    assert images[6:].tolist()[:2] == [2, 2]


def test_only_the_first_rows_are_judged_when_asked() -> None:
    views = _views(Told(torch.zeros(3, 3), torch.eye(3)), [[2, 5, 3], [2, 6, 3], [2, 7, 3]])
    assert Matching(rows=2)(views, _generator())["itm"][1] == 6
    assert Matching()(views, _generator())["itm"][1] == 9


def test_contrast_is_the_cross_entropy_of_both_directions() -> None:
    cosines = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    loss, count = Contrast()(_views(Told(torch.zeros(2, 2), cosines), [[2, 5, 3], [2, 6, 3]]), _generator())["itc"]
    rows = math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-0.5))
    columns = math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(-1))
    assert count == 4
    assert loss.item() == pytest.approx(rows + columns, rel=1e-5)


def test_equal_texts_share_the_target_of_contrast() -> None:
    views = _views(Told(torch.zeros(2, 2), torch.zeros(2, 2)), [[2, 5, 3], [2, 5, 3]])
    assert same_texts(views.ids).all()
    loss, count = Contrast()(views, _generator())["itc"]
    assert loss.item() / count == pytest.approx(math.log(2), rel=1e-5)


def test_masked_words_are_asked_over_the_whole_vocabulary() -> None:
    # all logits equal over eight pieces: log 8 for each hidden token; one token of each text is hidden
    sums = MaskedWords()(_views(Told(torch.zeros(2, 2), torch.eye(2)), [[2, 5, 6, 3], [2, 7, 3, 0]]), _generator())
    loss, count = sums["mlm"]
    assert count == 2
    assert loss.item() == pytest.approx(2 * math.log(8), rel=1e-5)


def test_the_total_is_the_weighted_sum_of_means() -> None:
    views = _views(Told(torch.zeros(2, 2), torch.zeros(2, 2)), [[2, 5, 3], [2, 6, 3]])
    items = (Weighted(objective=Contrast(), weight=2.0), Weighted(objective=MaskedWords(), weight=0.5))
    total, numbers = total_loss(items, views, _generator())
    assert total.item() == pytest.approx(2 * math.log(2) + 0.5 * math.log(8), rel=1e-5)
    assert numbers["itc"] == pytest.approx(math.log(2), abs=1e-5)


def test_padding_changes_no_score() -> None:
    torch.manual_seed(0)
    spec = ModelSpec(width=16, heads=2, text_layers=1, image_layers=1, fusion_layers=1, text_length=8, image_size=4, patch=2, project=4)
    model = FusionModel(spec, 10).eval()
    model.initialise(_generator())
    image = model.encode_image(torch.randn(1, 3, 4, 4))
    short, long = (model.encode_text(torch.tensor([ids])) for ids in ([2, 5, 6, 3], [2, 5, 6, 3, 0, 0]))
    assert torch.allclose(model.match(short, image), model.match(long, image), atol=1e-6)
    assert torch.allclose(model.project_text(short), model.project_text(long), atol=1e-6)


def test_patches_are_cut_in_reading_order() -> None:
    spec = ModelSpec(width=12, heads=2, fusion_layers=1, text_length=8, image_size=4, patch=2)
    embed = FusionModel(spec, 10).patch_embed
    with torch.no_grad():
        embed.linear.weight.copy_(torch.eye(12))
        embed.linear.bias.zero_()
    pixels = torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4)
    tokens = embed(pixels)[0]
    assert tokens[1, :4].tolist() == [0.0, 1.0, 4.0, 5.0]
    assert tokens[4, 8:].tolist() == [10.0, 11.0, 14.0, 15.0]
