"""What is done to samples before a model is asked about them: pure functions of what was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100  # the label of a token that no loss looks at, as in torch's cross entropy


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What masking must know of a vocabulary: [vocab] bool each, and the number of the mask."""

    continues: Tensor  # the piece goes on with the word before it (##)
    special: Tensor  # padding, first, last, mask, unknown: never masked
    mask: int


def mask_words(
    ids: Tensor, valid: Tensor, pieces: Pieces, draw: Tensor, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Whole words until round(share x pieces) pieces are covered; 80 % mask, 10 % other, 10 % kept.

    ids and valid [n, t]; draw [n, t, 3] in 0..1: the order of words, what happens to a piece, which
    other piece. -> (corrupted ids, labels), labels IGNORED where nothing was drawn. Words are
    drawn, not pieces, so that long words are not drawn more often (BERT's whole-word masking, in
    ViLT and METER); at least one word of each text that has any.
    """
    ordinary = ~pieces.special[ids] & valid
    starts = ordinary & ~pieces.continues[ids]
    word = starts.cumsum(1) * ordinary  # 1, 2, 3 ... along the text; 0: of no word

    chosen = _draw_words(word, ordinary, share, draw[..., 0])
    labels = torch.where(chosen, ids, IGNORED)

    fate = draw[..., 1]
    other = (draw[..., 2] * len(pieces.special)).long().clamp(max=len(pieces.special) - 1)
    masked = torch.where(chosen & (fate < 0.8), pieces.mask, ids)
    masked = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), other, masked)
    return masked, labels


def _draw_words(word: Tensor, ordinary: Tensor, share: float, draw: Tensor) -> Tensor:
    """Words in random order while the pieces before them are fewer than wanted; [n, t] bool."""
    n, t = word.shape
    wanted = (ordinary.sum(1) * share).round().clamp(min=1)

    lengths = torch.zeros(n, t + 1).scatter_add_(1, word, torch.ones(n, t))
    lengths[:, 0] = 0
    keys = torch.nn.functional.pad(draw, (1, 0), value=2.0).masked_fill(lengths == 0, 2.0)
    order = keys.argsort(dim=1, stable=True)
    ordered = lengths.gather(1, order)
    before = ordered.cumsum(1) - ordered

    taken = (before < wanted[:, None]) & (ordered > 0)
    drawn = torch.zeros(n, t + 1, dtype=torch.bool).scatter_(1, order, taken)
    return drawn.gather(1, word) & ordinary
