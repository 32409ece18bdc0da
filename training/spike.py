"""When the numbers of a step say that a run has diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

SPIKE = 20.0  # so many standard deviations above the losses before
LEAST = 0.01  # of their mean, that a deviation counts as: a flat curve may move


def fault(means: Mapping[str, float], losses: Sequence[float], *, known: int) -> str:
    """What is wrong with the means of a step, given the losses before it; "" if nothing is."""
    bad = [name for name, mean in means.items() if not math.isfinite(mean)]
    if bad:
        return f"{', '.join(bad)} is not a number"
    if leaps(losses, means["loss"], known=known):
        return f"the loss leapt to {means['loss']:.3g}"
    return ""


def leaps(losses: Sequence[float], loss: float, *, known: int) -> bool:
    """Whether a loss leaps away from those before, of which so many must be known."""
    if len(losses) < known or not math.isfinite(loss):
        return False
    mean = fmean(losses)
    deviation = max(stdev(losses), LEAST * abs(mean))
    return loss > mean + SPIKE * deviation
