"""Dropout whose draws are cheap on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 1 << 16  # a draw has 16 bits: four of them to a random number


class Dropout(nn.Module):
    """Numbers become 0 with a probability in training, the others larger, so that sums stay."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return dropout(x, self.share) if self.training else x


def dropout(x: Tensor, share: float) -> Tensor:
    """As torch's; on a CPU the share is rounded to a 65,536th, and four draws cost one.

    torch draws a number for each, one after the other: 11 to 20 ns, half of the time of a small
    model's step (docs/log.md).
    """
    dropped = round(share * LEVELS)
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not 0 < dropped < LEVELS:
        return F.dropout(x, share)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    numbers = draws.view(torch.int16)[
        : x.numel()
    ].float()  # in float32: comparing is exact, and quick
    kept = numbers.ge_(dropped - LEVELS // 2)
    return x * kept.mul_(LEVELS / (LEVELS - dropped)).to(x.dtype).view(x.shape)
