"""What an objective is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from training.views import Views

Sums = Mapping[
    str, Tensor
]  # name of a loss or of another number -> its sum over what was looked at


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An objective on one batch, before the forward pass: how much it counts, and its parts.

    `counts` are this rank's; the loop adds them up over ranks and divides by that. A part is
    computed and sent back before the next, so that memory holds one of them; their sums add up.
    """

    counts: Mapping[str, float]
    parts: Sequence[Callable[[], Sums]]


class Objective(Protocol):
    """A frozen dataclass whose fields name passes, heads and settings."""

    @property
    def losses(self) -> tuple[str, ...]:
        """The names among its numbers that can be trained for."""
        ...

    def prepare(self, views: Views) -> Prepared:
        """Draw what there is to draw, and say what will be computed."""
        ...
