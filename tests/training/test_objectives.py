"""Each loss against an oracle that was written by somebody else, or by hand."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linprog
from torch import Tensor

from tests.training import tiny
from training.corrupt import IGNORED, mask_words
from training.inputs import TextInput
from training.negatives import Keys
from training.objectives.base import Objective
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions, smooth_cross_entropy
from training.objectives.mlm import MaskedWords
from training.objectives.wra import Alignment, ipot
from training.tokens import Segment, Span, Tokens
from training.views import Draws, Views


def _views(rows: int = 6, keys: Keys | None = None, kind: str = "blip") -> Views:
    spec, _ = tiny.blip() if kind == "blip" else tiny.vilt()
    inputs, own = tiny.batch(rows)
    model = tiny.build(spec).eval()
    return Views(model, inputs, keys or own, Draws(seed=1, step=2))


def _numbers(objective: Objective, views: Views) -> Mapping[str, float]:
    prepared = objective.prepare(views)
    sums: dict[str, float] = {}
    for part in prepared.parts:
        for name, value in part().items():
            sums[name] = sums.get(name, 0.0) + value.item()
    return {name: total / prepared.counts[name] for name, total in sums.items()}


def _distinct(rows: int) -> Keys:
    number = torch.arange(rows)
    return Keys(image=number, text=number + 100, source=torch.zeros_like(number))


def _logits(views: Views) -> Tensor:
    image, text = Contrast().vectors(views)
    return views.model.head("scale") * image @ text.T


def test_contrast_of_distinct_pairs_is_clips() -> None:
    views = _views(keys=_distinct(6))
    logits, own = _logits(views), torch.arange(6)
    clip = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert _numbers(Contrast(), views)["itc"] == pytest.approx(clip.item(), rel=1e-12)


def test_contrast_with_equal_keys_is_supervised_contrast() -> None:
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    views = _views(keys=Keys(image=labels, text=torch.arange(6) + 50, source=labels))
    logits = _logits(views)
    total = 0.0
    for way in (logits, logits.T):
        for row in range(6):
            mine = (labels == labels[row]).nonzero().flatten()
            total -= way[row].log_softmax(0)[mine].mean().item()
    assert _numbers(Contrast(), views)["itc"] == pytest.approx(total / 12, rel=1e-12)


def test_matching_judges_each_pair_against_a_wrong_text_and_a_wrong_image() -> None:
    views = _views()
    texts, images, labels = Matching().pairs(views)
    assert labels.tolist() == [1] * 6 + [0] * 12
    assert texts[:6].tolist() == images[:6].tolist() == list(range(6))
    assert images[6:12].tolist() == list(range(6))
    assert texts[12:].tolist() == list(range(6))
    wrong = labels == 0
    # every two rows show the same image, so a partner is never the neighbour
    assert (texts[wrong] // 2 != images[wrong] // 2).all()

    fused = views.pairs("match", {"words": texts, "patches": images})
    by_hand = F.cross_entropy(views.model.head("match", fused), labels)
    assert _numbers(Matching(), views)["itm"] == pytest.approx(by_hand.item(), rel=1e-12)


def test_half_of_the_batch_gets_a_wrong_image() -> None:
    texts, images, labels = Matching(false="half").pairs(_views(rows=8))
    assert labels.sum() == 4
    assert texts.tolist() == list(range(8))
    assert ((texts == images) == (labels == 1)).all()


def test_a_batch_of_one_image_has_no_false_pairs() -> None:
    alike = torch.zeros(6, dtype=torch.int64)
    views = _views(keys=Keys(image=alike, text=torch.arange(6), source=alike))
    _, _, labels = Matching().pairs(views)
    assert labels.tolist() == [1] * 6
    _, _, labels = Matching(false="half").pairs(views)
    assert labels.tolist() == [1] * 6


def test_wrong_images_come_from_the_same_source() -> None:
    number = torch.arange(8)
    keys = Keys(image=number, text=number, source=number % 2)
    texts, images, labels = Matching(same_source=True).pairs(_views(rows=8, keys=keys))
    wrong = labels == 0
    assert (texts[wrong] % 2 == images[wrong] % 2).all()


def test_masked_words_are_told_by_the_true_image() -> None:
    views = _views(kind="vilt")
    objective = MaskedWords()
    prepared = objective.prepare(views)
    given = views.inputs["words"]
    assert isinstance(given, TextInput)

    number = _numbers(objective, views)["mlm"]
    masked = views._variants["words", "masked"]
    assert isinstance(masked, TextInput)
    rows = torch.arange(6)
    fused = views.pairs("match", {"words": rows, "patches": rows}, variant="masked")
    logits = views.model.head("vocabulary", fused.part(Segment.TEXT).x)
    changed = masked.ids != given.ids
    assert changed.any()
    assert prepared.counts["mlm"] >= changed.sum()
    # at changed places the labels are the old pieces; others are kept ones, which the count settles
    loss = F.cross_entropy(logits[changed], given.ids[changed], reduction="sum")
    assert number * prepared.counts["mlm"] >= loss.item() - 1e-9


def test_captions_are_shifted_by_one_and_padding_is_left_out() -> None:
    views = _views()
    given = views.inputs["words"]
    assert isinstance(given, TextInput)
    rows = torch.arange(6)
    decoded = views.pairs("caption", {"words": rows, "patches": rows})
    logits = views.model.head("vocabulary", decoded.x)[:, :-1]
    labels = torch.where(given.valid, given.ids, IGNORED)[:, 1:]
    by_hand = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    assert _numbers(Captions(), views)["lm"] == pytest.approx(by_hand.item(), rel=1e-12)


def test_a_prompt_is_not_asked_for() -> None:
    views = _views()
    given = views.inputs["words"]
    assert isinstance(given, TextInput)
    wanted = float(given.valid[:, 3:].sum())
    assert Captions(skip=2).prepare(views).counts["lm"] == wanted


def test_smoothing_over_the_other_words_leaves_the_right_one_its_share() -> None:
    logits = torch.randn(4, 7, dtype=torch.float64)
    wanted = torch.tensor([0, 3, 6, 2])
    target = torch.full((4, 7), 0.1 / 6, dtype=torch.float64)
    target[torch.arange(4), wanted] = 0.9
    by_hand = -(target * logits.log_softmax(1)).sum()
    found = smooth_cross_entropy(logits, wanted, 0.1, "other")
    torch.testing.assert_close(found, by_hand)


def _transport(cost: Tensor) -> float:
    """The exact optimum between uniform marginals, by linear programming."""
    rows, columns = cost.shape
    sums = np.zeros((rows + columns, rows * columns))
    for row in range(rows):
        sums[row, row * columns : (row + 1) * columns] = 1
    for column in range(columns):
        sums[rows + column, column::columns] = 1
    marginals = [1 / rows] * rows + [1 / columns] * columns
    return float(linprog(cost.flatten().numpy(), A_eq=sums, b_eq=marginals).fun)


def test_transport_is_a_plan_and_comes_to_the_exact_one() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(1, 48, 64, generator=generator, dtype=torch.float64)
    words, patches = F.normalize(vectors, dim=-1).split([12, 36], dim=1)
    cost = 1 - words @ patches.mT
    text, image = torch.ones(1, 12, dtype=torch.bool), torch.ones(1, 36, dtype=torch.bool)
    exact = _transport(cost[0])
    distances = []
    for iterations in (50, 1000):
        plan = ipot(cost, text, image, 0.5, iterations)
        assert plan.sum().item() == pytest.approx(1, abs=1e-9)
        assert (plan.sum(2) - 1 / 12).abs().max() < 1e-3
        assert (plan.sum(1) - 1 / 36).abs().max() < 1e-9
        distances.append((plan * cost).sum().item())
    assert distances[0] == pytest.approx(exact, rel=0.01)
    assert distances[1] == pytest.approx(exact, rel=1e-4)


def test_padding_and_specials_take_no_part_in_the_transport() -> None:
    x = torch.randn(2, 11, 8, dtype=torch.float64)
    valid = torch.ones(2, 11, dtype=torch.bool)
    valid[1, 4:6] = False  # the second text has four pieces
    spans = (Span(segment=Segment.TEXT, length=6), Span(segment=Segment.IMAGE, length=5))
    fused = Tokens(x=x, spans=spans, valid=valid)
    alignment = Alignment(iterations=200)

    words, patches = x[1, 1:3], x[1, 7:]
    cost = 1 - F.normalize(words, dim=-1) @ F.normalize(patches, dim=-1).T
    distance = alignment.distance(fused)
    assert distance[1].item() == pytest.approx(_transport(cost), rel=1e-3)

    signed = alignment.signed(fused, torch.tensor([1, 0]))
    assert signed.item() == pytest.approx((distance[0] - distance[1]).item(), rel=1e-12)


def test_a_text_of_nothing_costs_nothing() -> None:
    spans = (Span(segment=Segment.TEXT, length=2), Span(segment=Segment.IMAGE, length=5))
    fused = Tokens(x=torch.randn(1, 7, 4), spans=spans)
    assert Alignment().distance(replace(fused)).tolist() == [0.0]


def test_masked_words_believe_the_twin_as_albef_says() -> None:
    """(1 - alpha) x cross entropy - alpha x sum(twin's softmax x log softmax), as in its code."""
    spec, _ = tiny.blip()
    inputs, keys = tiny.batch(6)
    draws = Draws(seed=1, step=2)
    twin = Views(tiny.build(spec, seed=2).eval(), inputs, keys, draws)
    views = Views(tiny.build(spec).eval(), inputs, keys, draws, twin=twin, alpha=0.4, chunk=4)
    prepared = MaskedWords(soft=True).prepare(views)
    found = sum(part()["mlm"].item() for part in prepared.parts)

    rows = {"words": torch.arange(6), "patches": torch.arange(6)}
    words, targets = [], []
    for seen in (views, twin):
        given = seen._variants["words", "masked"]
        assert isinstance(given, TextInput)
        fused = seen.pairs("match", rows, variant="masked")
        words.append(seen.model.head("vocabulary", fused.x))
        targets.append(given.ids)
    assert torch.equal(*targets)

    given = views.inputs["words"]
    assert isinstance(given, TextInput)
    draw = draws.uniform("mlm", 6, 8, 3)
    _, labels = mask_words(given.ids, given.valid, given.pieces, draw)
    believed = words[1].softmax(-1)
    hard = F.cross_entropy(words[0].flatten(0, 1), labels.flatten(), reduction="none").view(6, 8)
    soft = -(F.log_softmax(words[0], dim=-1) * believed).sum(-1)
    wanted = (0.6 * hard + 0.4 * soft)[labels != IGNORED].sum()
    assert found == pytest.approx(wanted.item(), rel=1e-12)


def test_pieces_are_masked_one_by_one_for_albef() -> None:
    # a word of six pieces: 15 % of it is one piece, and a whole word is six
    views = _views(rows=1)
    ids = torch.tensor([[2, 5, 40, 41, 42, 43, 44, 3]])
    given = views.inputs["words"]
    assert isinstance(given, TextInput)
    views.inputs["words"] = replace(given, ids=ids, valid=ids >= 0)
    assert MaskedWords().prepare(views).counts["mlm"] == 6
    assert MaskedWords(whole_words=False).prepare(views).counts["mlm"] == 1


def test_a_share_of_the_negatives_is_hard() -> None:
    """Row by row as among hard ones alone, or as among random ones."""
    contrast = Contrast()
    rows = 64
    hard, random, both = (
        Matching(contrast=contrast if share else None, hard=share).pairs(_views(rows))
        for share in (1.0, 0.0, 0.3)
    )
    for side in (0, 1):
        start = rows * (1 + side)  # wrong texts, then wrong images
        part = slice(start, start + rows)
        is_hard = both[side][part] == hard[side][part]
        is_random = both[side][part] == random[side][part]
        assert bool((is_hard | is_random).all())
        assert 5 < int((is_hard & ~is_random).sum()) < 35  # of 64; 19 are expected
