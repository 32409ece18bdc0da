"""Masked words and negative partners, against literal values and their distributions."""

import pytest
import torch

from training.first.corrupt import IGNORED, hard_rows, mask_words, other_rows

# 0 [PAD] 1 [UNK] 2 [CLS] 3 [SEP] 4 [MASK], 5-9 begin words, 10-14 go on with them
CONTINUES = torch.tensor([False] * 10 + [True] * 5)
SPECIAL = torch.tensor([True] * 5 + [False] * 10)
MASK = 4


def _mask(rows: list[list[int]], seed: int = 0, share: float = 0.15) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return mask_words(torch.tensor(rows), continues=CONTINUES, special=SPECIAL, mask_id=MASK, generator=generator, share=share)


def test_a_word_is_hidden_whole_or_not_at_all() -> None:
    text = [2, 5, 10, 11, 6, 7, 12, 3, 0, 0]
    _, labels = _mask([text] * 500, share=0.3)
    hidden = labels != IGNORED
    for word in ([1, 2, 3], [4], [5, 6]):
        assert (hidden[:, word].all(1) | ~hidden[:, word].any(1)).all()
    assert not hidden[:, [0, 7, 8, 9]].any()


def test_words_are_drawn_until_the_share_of_tokens_is_covered() -> None:
    # twenty ordinary tokens of one piece each: 15 % are exactly three
    _, labels = _mask([[2, *([5, 6, 7, 8] * 5), 3]] * 200)
    assert (labels != IGNORED).sum(1).unique().tolist() == [3]


def test_long_words_are_not_drawn_more_often() -> None:
    # ten words of one piece and one of three: drawing tokens would hide the long word in 39 % of the texts, drawing words until two
    # tokens are covered draws it first (1/11) or second after a short one (10/11 x 1/10)
    _, labels = _mask([[2, *[5] * 10, 6, 10, 11, 3]] * 20000)
    share = (labels[:, 11] != IGNORED).float().mean().item()
    assert share == pytest.approx(1 / 11 + 10 / 11 / 10, abs=0.01)


def test_hidden_tokens_become_mask_random_and_kept_in_80_10_10() -> None:
    row = [2, *[5] * 20, 3]
    changed, labels = _mask([row] * 20000)
    now = changed[labels != IGNORED]
    assert (labels[labels != IGNORED] == 5).all()
    # a random piece is [MASK] or the old one once in fifteen each
    assert (now == MASK).float().mean().item() == pytest.approx(0.8 + 0.1 / 15, abs=0.005)
    assert (now == 5).float().mean().item() == pytest.approx(0.1 + 0.1 / 15, abs=0.005)
    assert (changed[labels == IGNORED] == torch.tensor([row] * 20000)[labels == IGNORED]).all()


def test_each_text_loses_at_least_one_word_and_an_empty_text_none() -> None:
    _, labels = _mask([[2, 5, 3], [2, 3, 0]])
    assert (labels != IGNORED).sum(1).tolist() == [1, 0]


def test_masking_is_settled_by_its_generator() -> None:
    text = [[2, 5, 6, 7, 8, 9, 5, 6, 3]] * 4
    assert torch.equal(_mask(text, seed=3)[0], _mask(text, seed=3)[0])
    assert not torch.equal(_mask(text, seed=3)[1], _mask(text, seed=4)[1])


def test_another_row_is_never_the_same_row() -> None:
    rows = torch.stack([other_rows(5, torch.Generator().manual_seed(seed)) for seed in range(200)])
    assert not (rows == torch.arange(5)).any()
    assert sorted(rows[:, 0].unique().tolist()) == [1, 2, 3, 4]


def test_hard_rows_follow_similarity_and_avoid_equal_texts() -> None:
    similarity = torch.tensor([[9.0, 8.0, -9.0], [0.0, 9.0, 20.0], [20.0, 0.0, 9.0]])
    same = torch.eye(3, dtype=torch.bool)
    assert hard_rows(similarity, same, torch.Generator().manual_seed(0)).tolist() == [1, 2, 0]
    same[0, 1] = True
    assert hard_rows(similarity, same, torch.Generator().manual_seed(0)).tolist() == [2, 2, 0]


def test_a_row_whose_texts_are_all_equal_still_gets_another_row() -> None:
    rows = hard_rows(torch.zeros(3, 3), torch.ones(3, 3, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert not (rows == torch.arange(3)).any()
