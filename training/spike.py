"""When a loss says that a run has come apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

SPIKE = 20.0  # so many deviations above those before
LEAST = 0.01  # of their mean, that a deviation counts as: a flat curve may move


def leaps(before: Sequence[float], loss: float, *, told: int) -> bool:
    """Whether a loss leaps away from those before, of which so many must be known."""
    if len(before) < told or not math.isfinite(loss):
        return False
    mean = fmean(before)
    spread = max(stdev(before), LEAST * abs(mean))
    return loss > mean + SPIKE * spread
