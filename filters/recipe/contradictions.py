"""Rules that are each in order and make no sense together: nothing can pass them all, or a funnel
cannot tell them apart.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from filters.recipe.misfits import limits
from filters.recipe.rules import GroupRule, RowRule, Rule, Value
from filters.registry import MEASUREMENTS


def contradictions(rules: Sequence[Rule]) -> Iterator[tuple[int, str]]:
    """The place of each rule that contradicts or repeats one before it, and in which way, in
    words.
    """
    passing: dict[str, _Passing] = {}
    for place, rule in enumerate(rules):
        if isinstance(rule, RowRule):
            earlier = rule.measure in passing
            left = passing.setdefault(rule.measure, _Passing.of(rule.measure))
            left.narrow(rule)
            if left.empty:
                others = " and the rules before it" if earlier else ""
                yield (
                    place,
                    (
                        f"no {rule.measure} can pass this{others}: all would be dropped; move the"
                        " threshold or leave a rule out"
                    ),
                )
    yield from _alike(rules)


def _alike(rules: Sequence[Rule]) -> Iterator[tuple[int, str]]:
    stand: dict[str, Rule] = {}
    reasons: dict[str, Rule] = {}
    for place, rule in enumerate(rules):
        spelt = rule.model_dump_json(exclude={"reason", "source"})
        if spelt in stand:
            yield (
                place,
                (
                    f"this rule stands already, with the reason {stand[spelt].reason}: leave one of"
                    " them out"
                ),
            )
        other = reasons.get(rule.reason)
        if other is not None and (isinstance(rule, GroupRule) or isinstance(other, GroupRule)):
            yield (
                place,
                (
                    f"{rule.reason} is the reason of another rule: give the group rule one of its"
                    " own, or no funnel tells them apart"
                ),
            )
        stand.setdefault(spelt, rule)
        reasons.setdefault(rule.reason, rule)


@dataclass(kw_only=True)
class _Passing:
    """What of a measurement all rules so far let pass: numbers from `least` to `most`, or some
    values, without the `excluded`.
    """

    kind: pa.DataType
    least: float
    most: float
    values: set[Value] | None = None  # None: any
    excluded: set[Value] = field(default_factory=set)

    @classmethod
    def of(cls, measure: str) -> "_Passing":
        kind = MEASUREMENTS[measure]
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        least, most = limits(measure) if number else (0.0, 0.0)
        return cls(kind=kind, least=least, most=most)

    def narrow(self, rule: RowRule) -> None:
        """Apply one more rule."""
        if rule.op in ("is_true", "is_false"):
            self._only({rule.op == "is_true"})
        elif isinstance(rule.value, tuple | str):
            values: set[Value] = set(rule.value) if isinstance(rule.value, tuple) else {rule.value}
            if rule.op in ("in", "=="):
                self._only(values)
            else:
                self.excluded |= values
        elif isinstance(rule.value, int | float):
            self._bound(rule.op, rule.value)

    def _only(self, values: set[Value]) -> None:
        self.values = values if self.values is None else self.values & values

    def _bound(self, op: str, value: float) -> None:
        least, exact, most = _neighbours(value, self.kind)
        if op == "!=":
            self.excluded |= set() if exact is None else {exact}
        if op in (">=", ">", "=="):
            self.least = max(self.least, most if op == ">" or exact is None else exact)
        if op in ("<=", "<", "=="):
            self.most = min(self.most, least if op == "<" or exact is None else exact)

    @property
    def empty(self) -> bool:
        if self.values is not None:
            return not self.values - self.excluded
        return self.least > self.most or (self.least == self.most and self.least in self.excluded)


def _neighbours(value: float, kind: pa.DataType) -> tuple[float, float | None, float]:
    """Of what a measurement can hold: the greatest below a threshold, the threshold itself if it
    can be held, the least above it.
    """
    if pa.types.is_integer(kind):
        whole = math.floor(value)
        return (whole - 1, whole, whole + 1) if whole == value else (whole, None, whole + 1)
    number = kind.to_pandas_dtype()
    at = number(value)  # as `decide_row` compares it
    return (
        float(np.nextafter(at, number(-math.inf))),
        float(at),
        float(np.nextafter(at, number(math.inf))),
    )
