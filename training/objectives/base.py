"""The interface of objectives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from training.views import Views

T = TypeVar("T")
Sums = Mapping[str, Tensor]  # name of a loss or a metric -> its sum over a part


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An objective on one batch, before the forward pass: its counts and its parts.

    `counts` are this rank's; sums are divided by their totals over ranks. A part goes forward and
    backward before the next, so that memory holds one of them; their sums add up.
    """

    counts: Mapping[str, float]
    parts: Sequence[Callable[[], Sums]]


class Objective(Protocol):
    """A frozen dataclass whose fields name passes, heads and settings."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of those of its sums that are losses; the others are metrics."""
        ...

    def prepare(self, views: Views) -> Prepared:
        """Draw what is random, and say what will be computed."""
        ...


def first_of(kind: type[T], objectives: Sequence[object]) -> T | None:
    """The first objective of a kind, if there is one."""
    for objective in objectives:
        if isinstance(objective, kind):
            return objective
    return None
