"""What attention is made of: keys that are kept, and two products where they are faster."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from training.masks import Mask


@dataclass
class Cache:
    """Keys and values of tokens that were seen before, one entry an attention; for generation."""

    held: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    looked_at: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # by cross-attention
    length: int = 0  # tokens of the sequence seen so far

    def __getitem__(self, rows: Tensor) -> Cache:
        """The same for chosen rows, as beam search asks for: each takes the place of one that
        looks at the same tokens.
        """
        held = {name: (key[rows], value[rows]) for name, (key, value) in self.held.items()}
        return Cache(held=held, looked_at=self.looked_at, length=self.length)


def better_plain(query: Tensor, key: Tensor, mask: Mask) -> bool:
    """Whether few keys are faster looked at by two products than by torch's kernel.

    Its way back in bfloat16 on a CPU takes four times as long (torch 2.13, 512 rows of 12 heads, 30
    tokens: 1.02 s against 0.25; of 240 tokens 1.3 times).
    """
    few = query.device.type == "cpu" and key.shape[2] <= 256
    return few and query.dtype == torch.bfloat16 and not mask.is_causal and query.requires_grad


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, dropout: float
) -> Tensor:
    """softmax(query key / sqrt(width)) value, nothing where `seen` is false."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    shares = F.dropout(scores.softmax(dim=-1), dropout)
    return shares @ value


def taken(x: Tensor, rows: Tensor | None) -> Tensor:
    """Rows of x, each of which may come several times; all of them when nobody says which."""
    if rows is None:
        return x
    if len(x) == 1:
        return x.expand(len(rows), *x.shape[1:])
    return x.index_select(0, rows)
