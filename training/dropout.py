"""Dropout whose draws are cheap on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 1 << 16  # a draw has 16 bits: four of them to a random number


class Dropout(nn.Module):
    """Values become 0 with probability `p` in training, the others larger, so that sums stay."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return dropout(x, self.p) if self.training else x


def dropout(x: Tensor, p: float) -> Tensor:
    """As torch's; on a CPU p is rounded to a 65,536th, and four draws cost one.

    torch draws a number for each, one after the other: 11 to 20 ns, half of the time of a small
    model's step (docs/log.md).
    """
    dropped = round(p * LEVELS)
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not 0 < dropped < LEVELS:
        return F.dropout(x, p)

    count = x.numel()
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    values = draws.view(torch.int16)[:count]
    kept = values.float().ge_(dropped - LEVELS // 2)  # in float32: exact, and quick
    scale = LEVELS / (LEVELS - dropped)
    factors = kept.mul_(scale).to(x.dtype)
    return x * factors.view(x.shape)
