"""Which pairs are never shown as false, and how often the others are."""

import pytest
import torch

from training.negatives import Keys, hard_rows, other_source, random_rows, same


def _keys(image: list[int], text: list[int], source: list[int] | None = None) -> Keys:
    return Keys(
        image=torch.tensor(image),
        text=torch.tensor(text),
        source=torch.tensor(source or [0] * len(image)),
    )


def test_a_pair_equal_in_image_or_text_is_no_negative() -> None:
    keys = _keys([1, 1, 2, 3], [10, 11, 10, 12])
    assert same(keys, keys).tolist() == [
        [True, True, True, False],
        [True, True, False, False],
        [True, False, True, False],
        [False, False, False, True],
    ]


def test_sources_are_told_apart() -> None:
    keys = _keys([1, 2, 3], [1, 2, 3], [0, 0, 1])
    assert other_source(keys, keys).tolist() == [
        [False, False, True],
        [False, False, True],
        [True, True, False],
    ]


def test_random_partners_are_uniform_over_what_is_allowed() -> None:
    forbidden = torch.tensor([[True, False, False, True, False]]).expand(30000, -1)
    draw = torch.rand(30000, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(random_rows(forbidden, draw), minlength=5) / 30000
    assert share.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 0, 1 / 3], abs=0.01)


def test_hard_partners_are_drawn_by_softmax_and_floor() -> None:
    logits = torch.tensor([[5.0, 1.0, 0.0, 0.0]]).expand(30000, -1)
    forbidden = torch.tensor([[True, False, False, False]]).expand(30000, -1)
    draw = torch.rand(30000, generator=torch.Generator().manual_seed(0))
    rows = hard_rows(logits, forbidden, draw, floor=0.01)
    weights = torch.softmax(logits[0], 0)[1:] + 0.01
    wanted = [0, *(weights / weights.sum()).tolist()]
    share = torch.bincount(rows, minlength=4) / 30000
    assert share.tolist() == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.9999999999])
def test_a_row_without_any_other_gets_none(draw: float) -> None:
    forbidden = torch.tensor([[True, True], [True, False], [False, True]])
    rows = random_rows(forbidden, torch.full((3,), draw, dtype=torch.float64))
    assert rows.tolist() == [-1, 1, 0]


def test_logits_that_are_no_numbers_are_survived() -> None:
    logits = torch.tensor([[float("nan"), float("inf"), 0.0]])
    forbidden = torch.tensor([[True, False, False]])
    assert hard_rows(logits, forbidden, torch.tensor([0.5])).item() in (1, 2)
