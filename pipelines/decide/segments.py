"""The order in which a recipe is applied: row rules, and what must come between them because it
takes a stage of its own.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from filters.base import Filter
from filters.recipe.recipe import GroupRule, Recipe, RowRule
from filters.recipe.rules import CLUSTERED

FETCH = "fetch"  # marks, among the rules, where addresses, fetches and decoding are judged


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Row rules in order; then what is asked about the survivors (filters, and names of
    `CLUSTERED`), or a group rule among them.
    """

    rules: tuple[RowRule | str, ...] = ()
    asks: tuple[Filter | str, ...] = ()
    group: GroupRule | None = None


def is_lazy(filter_: Filter, lazy: Collection[str] = ()) -> bool:
    """Whether a filter waits until it is asked: it is costly, needs image and candidate together,
    or reads what is lazy itself.
    """
    return filter_.costly or filter_.level == "pair" or not set(lazy).isdisjoint(filter_.reads)


def lazy_filters(filters: Sequence[Filter]) -> tuple[Filter, ...]:
    """Those that wait until they are asked, in their order."""
    found: list[Filter] = []
    for filter_ in filters:
        if is_lazy(filter_, [name for one in found for name in one.writes]):
            found.append(filter_)
    return tuple(found)


def segments(
    recipe: Recipe, lazy: Sequence[Filter] = (), also: Sequence[str] = (), *, at_once: bool = False
) -> list[Segment]:
    """The steps of a recipe in the order of outcomes, cut where a rule reads what is lazy, and
    after each group rule.

    `also` is asked about what the last rule leaves. `at_once` asks everything about all candidates
    before the first rule.
    """
    plan = _Plan(lazy=lazy)
    steps = [*recipe.candidate_rules, FETCH, *recipe.other_rules]
    if at_once:
        plan.ask(
            [name for step in steps if not isinstance(step, str) for name in step.reads]
            + list(also)
        )
    for step in steps:
        if not isinstance(step, str):
            plan.ask(needs_of(step))
        plan.add(step)
    plan.ask(also)
    return [*plan.cut, Segment(rules=tuple(plan.rules))]


def needs_of(rule: RowRule | GroupRule) -> tuple[str, ...]:
    """The measurements that a rule reads, with clusters that it takes for its key."""
    return (
        (*rule.reads, rule.key)
        if isinstance(rule, GroupRule) and rule.key in CLUSTERED
        else rule.reads
    )


class _Plan:
    """Segments as they are cut."""

    def __init__(self, lazy: Sequence[Filter]) -> None:
        self.lazy = lazy
        self.there: set[str] = set()
        self.cut: list[Segment] = []
        self.rules: list[RowRule | str] = []

    def ask(self, needs: Sequence[str]) -> None:
        """End the segment with what is needed and not there."""
        if asks := tuple(self._missing(needs)):
            self.cut.append(Segment(rules=tuple(self.rules), asks=asks))
            self.rules = []

    def add(self, step: RowRule | GroupRule | str) -> None:
        """One more rule; a group rule ends the segment."""
        if isinstance(step, GroupRule):
            self.cut.append(Segment(rules=tuple(self.rules), group=step))
            self.rules = []
        else:
            self.rules.append(step)

    def _missing(self, needs: Sequence[str]) -> Iterator[Filter | str]:
        wanted = set(needs) | {CLUSTERED[name] for name in needs if name in CLUSTERED}
        for filter_ in reversed(self.lazy):
            if not wanted.isdisjoint(filter_.writes):
                wanted |= set(filter_.reads)
        for filter_ in self.lazy:
            if not wanted.isdisjoint(filter_.writes) and self.there.isdisjoint(filter_.writes):
                self.there |= set(filter_.writes)
                yield filter_
        for name in CLUSTERED:
            if name in wanted and name not in self.there:
                self.there.add(name)
                yield name
