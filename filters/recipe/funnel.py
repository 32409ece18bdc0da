"""The funnel: how many candidates ended in each outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

KEPT = "kept"


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """Counts by outcome of one recipe. Each candidate is counted once, so the counts add up to the
    candidates.
    """

    recipe: str
    outcomes: Mapping[str, int]
    without: tuple[str, ...] = ()  # measurements whose rules were left out

    def __post_init__(self) -> None:
        negative = [name for name, count in self.outcomes.items() if count < 0]
        assert not negative, f"counts below zero: {negative}"

    @property
    def candidates(self) -> int:
        return sum(self.outcomes.values())

    @property
    def kept(self) -> int:
        return self.outcomes.get(KEPT, 0)

    def __add__(self, other: "Funnel") -> "Funnel":
        """Merge the funnels of two sets of candidates under the same recipe; outcomes keep the
        order in which they came.
        """
        assert self.recipe == other.recipe, (
            f"funnels of {self.recipe} and {other.recipe} do not add up"
        )
        names = dict.fromkeys([*self.outcomes, *other.outcomes])
        return replace(
            self,
            outcomes={
                name: self.outcomes.get(name, 0) + other.outcomes.get(name, 0) for name in names
            },
        )

    def conserve(self, candidates: int) -> "Funnel":
        """Return the funnel itself; an assertion fails when it does not hold as many candidates as
        went in.
        """
        assert self.candidates == candidates, (
            f"{self.candidates} outcomes for {candidates} candidates"
        )
        return self

    def rows(self) -> list[tuple[str, int, float]]:
        """Outcome, candidates that ended there, and their share of all (0 to 1)."""
        total = max(1, self.candidates)
        return [(name, count, count / total) for name, count in self.outcomes.items() if count]

    def to_json(self) -> dict[str, Any]:
        left_out = {"without": list(self.without)} if self.without else {}
        outcomes = {name: count for name, count, _ in self.rows()}
        return {
            "recipe": self.recipe,
            **left_out,
            "candidates": self.candidates,
            "outcomes": outcomes,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Funnel":
        """Read what `to_json` wrote.

        Raises ValueError when the counts do not add up to the candidates.
        """
        funnel = cls(
            recipe=value["recipe"],
            outcomes=dict(value["outcomes"]),
            without=tuple(value.get("without", ())),
        )
        if funnel.candidates != value["candidates"]:
            counted = f"{funnel.candidates}, not to its {value['candidates']} candidates"
            raise ValueError(f"the funnel's outcomes add up to {counted}; decide again")
        return funnel
