"""Masking of words in texts: a pure function of ids and random draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # the label of a token without a loss, as in torch's cross entropy


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What masking must know of a vocabulary: [vocab] bool each, and the id of the mask token."""

    continues: Tensor  # the piece continues the word before it (##)
    special: Tensor  # padding, first, last, mask, unknown: never masked
    mask: int


def mask_words(
    ids: Tensor, valid: Tensor, pieces: Pieces, draw: Tensor, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Masks whole words until they cover round(share x pieces) of each text, one word at least.

    Of the chosen pieces 80 % become the mask, 10 % another piece, 10 % stay. Words are drawn, not
    pieces, so that long words are not drawn more often (BERT's whole-word masking, in ViLT and
    METER).

    ids and valid [n, t]; draw [n, t, 3] in 0..1: the order of words, what a chosen piece becomes,
    which other piece. -> (masked ids, labels), labels IGNORED where nothing was chosen.
    """
    maskable = valid & ~pieces.special[ids]
    starts = maskable & ~pieces.continues[ids]
    word = starts.cumsum(1) * maskable  # 1, 2, 3 ... along the text; 0: in no word
    num_pieces = (maskable.sum(1, keepdim=True) * share).round().clamp(min=1)

    word_draw, action, piece_draw = draw.unbind(dim=-1)
    chosen = _choose_words(word, num_pieces, word_draw)
    labels = torch.where(chosen, ids, IGNORED)

    vocab = len(pieces.special)
    other = (piece_draw * vocab).long().clamp(max=vocab - 1)
    becomes_mask = chosen & (action < 0.8)
    becomes_other = chosen & (action >= 0.8) & (action < 0.9)

    masked = torch.where(becomes_mask, pieces.mask, ids)
    masked = torch.where(becomes_other, other, masked)
    return masked, labels


def _choose_words(word: Tensor, num_pieces: Tensor, draw: Tensor) -> Tensor:
    """Words in random order until they cover `num_pieces` [n, 1] of their row; [n, t] bool."""
    n, t = word.shape
    lengths = torch.zeros(n, t + 1)
    lengths.scatter_add_(1, word, (word > 0).float())

    keys = F.pad(draw, (1, 0))
    keys = keys.masked_fill(lengths == 0, 2.0)  # behind every word
    order = keys.argsort(dim=1, stable=True)
    ordered = lengths.gather(1, order)
    before = ordered.cumsum(1) - ordered
    taken = (before < num_pieces) & (ordered > 0)

    chosen = torch.zeros(n, t + 1, dtype=torch.bool)
    chosen.scatter_(1, order, taken)
    return chosen.gather(1, word)
