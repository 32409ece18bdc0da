"""Whose turn it is: several releases in exact shares, not only on average."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm


def whole_weights(shares: Sequence[float]) -> list[int]:
    """Shares as whole numbers of the same proportions: 0.1 counts as a tenth, as it is written."""
    exact = [Fraction(str(share)) for share in shares]
    common = lcm(*(share.denominator for share in exact))
    return [int(share * common) for share in exact]


def turns(weights: Sequence[int], given: Sequence[int], count: int) -> list[int]:
    """Who gives each of the next `count` samples, the releases having given so many until now.

    Of any beginning of the sequence, each has its share to within less than one sample: of those
    whom their share owes enough, the one whose turn must come first (Tijdeman 1980, "The chairman
    assignment problem": no sequence keeps closer in the worst case).
    """
    if len(weights) == 1:
        return [0] * count

    total = sum(weights)
    unit = 2 * len(weights) - 2
    given = list(given)
    step = sum(given)
    chosen = []
    for _ in range(count):
        step += 1
        owed = [
            unit * (weight * step - total * had) for weight, had in zip(weights, given, strict=True)
        ]
        one = _first_due(weights, owed, total, unit)
        given[one] += 1
        chosen.append(one)
    return chosen


def _first_due(weights: Sequence[int], owed: Sequence[int], total: int, unit: int) -> int:
    """The one that would soonest be owed more than 1 - 1/unit, if it got nothing."""
    best = -1
    best_left = 0
    for number, (weight, debt) in enumerate(zip(weights, owed, strict=True)):
        if debt < total:
            continue
        left = total * (unit - 1) - debt  # until then, in steps times the weight
        if best < 0 or left * weights[best] < best_left * weight:
            best, best_left = number, left
    assert best >= 0, "a share is always owed to somebody"
    return best
