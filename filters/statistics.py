"""Statistics of a measurement that add up: those of two parts merge into those of both."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

STEPS = 32  # bins from a power of two to the next are at most a sixteenth of their value wide
MOST_VALUES = 1000  # distinct texts that are counted apart; the rest is "other"
OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """How many rows there are, how many are null, and how the others are spread.

    `bins` counts numbers by the lower bound of their bin, `values` counts texts and yes or no. Sums are of the numbers and their squares.
    """

    rows: int = 0
    nulls: int = 0
    total: float = 0.0
    squares: float = 0.0
    least: float | None = None
    most: float | None = None
    bins: Mapping[float, int] = field(default_factory=dict)
    values: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, column: pa.Array | pa.ChunkedArray) -> "Statistics":
        """Of one column of measurements: numbers, texts, or yes and no."""
        there = pc.drop_null(column)
        nulls = len(column) - len(there)
        if pa.types.is_string(column.type) or pa.types.is_boolean(column.type):
            counted = pc.value_counts(there.cast(pa.string())).to_pylist()
            return cls(rows=len(column), nulls=nulls, values=_fewer({entry["values"]: entry["counts"] for entry in counted}))
        numbers = np.asarray(there.to_numpy(), dtype=np.float64)
        if not len(numbers):
            return cls(rows=len(column), nulls=nulls)
        low, count = np.unique(lower_bound(numbers), return_counts=True)
        return cls(
            rows=len(column),
            nulls=nulls,
            total=float(numbers.sum()),
            squares=float((numbers**2).sum()),
            least=float(numbers.min()),
            most=float(numbers.max()),
            bins={float(bound): int(of_bound) for bound, of_bound in zip(low, count, strict=True)},
        )

    def __add__(self, other: "Statistics") -> "Statistics":
        """Of the rows of both."""
        both = [[one for one in pair if one is not None] for pair in ((self.least, other.least), (self.most, other.most))]
        return Statistics(
            rows=self.rows + other.rows,
            nulls=self.nulls + other.nulls,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            least=min(both[0], default=None),
            most=max(both[1], default=None),
            bins=dict(sorted((Counter(self.bins) + Counter(other.bins)).items())),
            values=_fewer(Counter(self.values) + Counter(other.values)),
        )

    @property
    def mean(self) -> float | None:
        """Of the numbers; None where there is none."""
        numbers = sum(self.bins.values())
        return self.total / numbers if numbers else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the numbers; None where there is none."""
        numbers = sum(self.bins.values())
        return max(0.0, self.squares / numbers - (self.total / numbers) ** 2) ** 0.5 if numbers else None

    def to_json(self) -> dict[str, Any]:
        """All of it, bins as a list of bounds and counts."""
        return {**self.__dict__, "bins": [[low, count] for low, count in self.bins.items()], "values": dict(self.values)}


def merge(parts: list[Statistics]) -> Statistics:
    """Of the rows of all parts."""
    return reduce(Statistics.__add__, parts, Statistics())


def lower_bound(numbers: np.ndarray) -> np.ndarray:
    """The lower bound of the bin of each number: its value with five significant binary digits, rounded down."""
    mantissa, exponent = np.frexp(numbers)
    return np.asarray(np.ldexp(np.floor(mantissa * STEPS) / STEPS, exponent))


def _fewer(values: Mapping[str, int]) -> dict[str, int]:
    """The most frequent values first, the rest under `OTHER`."""
    ordered = sorted(values.items(), key=lambda entry: (-entry[1], entry[0]))
    rest = sum(count for _, count in ordered[MOST_VALUES:])
    return dict(ordered[:MOST_VALUES]) | ({OTHER: rest + dict(ordered[:MOST_VALUES]).get(OTHER, 0)} if rest else {})
