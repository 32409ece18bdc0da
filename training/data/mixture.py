"""Whose turn it is: several releases in exact shares, not only on average."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm


def whole_weights(shares: Sequence[float]) -> list[int]:
    """Shares as whole numbers of the same proportions: 0.1 counts as a tenth, as it is written."""
    exact = [Fraction(str(share)) for share in shares]
    denominators = [share.denominator for share in exact]
    common = lcm(*denominators)
    return [int(share * common) for share in exact]


def turns(weights: Sequence[int], taken: Sequence[int], count: int) -> list[int]:
    """Which release gives each of the next `count` samples, so many having been taken of each.

    Of any beginning of the sequence, each has its share to within less than one sample: of those
    whom their share owes enough, the one whose turn must come first (Tijdeman 1980, "The chairman
    assignment problem": no sequence keeps closer in the worst case).
    """
    if len(weights) == 1:
        return [0] * count

    taken = list(taken)
    step = sum(taken)
    turns = []
    for _ in range(count):
        step += 1
        release = _first_due(weights, taken, step)
        taken[release] += 1
        turns.append(release)
    return turns


def _first_due(weights: Sequence[int], taken: Sequence[int], step: int) -> int:
    """The one that would soonest be owed more than 1 - 1/unit, if it got nothing."""
    total = sum(weights)
    unit = 2 * len(weights) - 2
    best = -1
    best_left = 0
    for release, weight in enumerate(weights):
        owed = unit * (weight * step - total * taken[release])
        if owed < total:
            continue
        left = total * (unit - 1) - owed  # until then, in steps times the weight
        if best < 0 or left * weights[best] < best_left * weight:
            best = release
            best_left = left
    assert best >= 0, "a share is always owed to some release"
    return best
