"""Masked words, against literal values and their distributions."""

import pytest
import torch

from training.corrupt import IGNORED, Pieces, mask_words

# 0 [PAD] 1 [UNK] 2 [CLS] 3 [SEP] 4 [MASK]; 5 to 9 begin words, 10 to 14 go on with them
NUMBER = torch.arange(15)
PIECES = Pieces(continues=NUMBER >= 10, special=NUMBER < 5, mask=4)


def _mask(
    rows: list[list[int]], seed: int = 0, share: float = 0.15
) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor(rows)
    draw = torch.rand((*ids.shape, 3), generator=torch.Generator().manual_seed(seed))
    return mask_words(ids, ids != 0, PIECES, draw, share)


def test_a_word_is_masked_whole_or_not_at_all() -> None:
    _, labels = _mask([[2, 5, 10, 11, 6, 7, 12, 3, 0, 0]] * 500, share=0.3)
    chosen = labels != IGNORED
    for word in ([1, 2, 3], [4], [5, 6]):
        assert (chosen[:, word].all(1) | ~chosen[:, word].any(1)).all()
    assert not chosen[:, [0, 7, 8, 9]].any()


def test_words_are_drawn_until_the_share_of_pieces_is_covered() -> None:
    # twenty ordinary pieces, each a word: 15 % are exactly three
    _, labels = _mask([[2, *([5, 6, 7, 8] * 5), 3]] * 200)
    assert (labels != IGNORED).sum(1).unique().tolist() == [3]


def test_long_words_are_not_drawn_more_often() -> None:
    # ten words of one piece and one of three, two pieces wanted: the long word is drawn first once
    # in eleven, or second after a short one; drawing pieces would mask it in 39 % of the texts
    _, labels = _mask([[2, *[5] * 10, 6, 10, 11, 3]] * 20000)
    share = (labels[:, 11] != IGNORED).double().mean().item()
    assert share == pytest.approx(1 / 11 + 10 / 11 / 10, abs=0.01)


def test_masked_pieces_become_mask_other_and_kept_in_80_10_10() -> None:
    row = [2, *[5] * 20, 3]
    changed, labels = _mask([row] * 20000)
    now = changed[labels != IGNORED]
    assert (labels[labels != IGNORED] == 5).all()
    # another piece is the mask, or the old one, once in fifteen each
    assert (now == 4).double().mean().item() == pytest.approx(0.8 + 0.1 / 15, abs=0.005)
    assert (now == 5).double().mean().item() == pytest.approx(0.1 + 0.1 / 15, abs=0.005)
    untouched = labels == IGNORED
    assert (changed[untouched] == torch.tensor([row] * 20000)[untouched]).all()


def test_each_text_loses_a_word_and_an_empty_text_none() -> None:
    _, labels = _mask([[2, 5, 3], [2, 3, 0]])
    assert (labels != IGNORED).sum(1).tolist() == [1, 0]


def test_a_row_depends_on_its_own_draws_alone() -> None:
    rows = [[2, 5, 6, 7, 8, 9, 5, 6, 3]] * 4
    ids = torch.tensor(rows)
    draw = torch.rand((4, 9, 3), generator=torch.Generator().manual_seed(3))
    whole = mask_words(ids, ids != 0, PIECES, draw)[0]
    alone = mask_words(ids[2:3], ids[2:3] != 0, PIECES, draw[2:3])[0]
    assert torch.equal(whole[2:3], alone)
