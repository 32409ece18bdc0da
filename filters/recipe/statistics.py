"""Statistics of measurements that add up: those of two parts merge into those of both."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe.funnel import KEPT

STEPS = 32  # bins from a power of two to the next are at most a sixteenth of their value wide
TINY = 2.0**-1000  # smaller numbers are counted as 0: float64 has fewer digits for them
MOST_VALUES = 1000  # distinct texts that are counted apart; the rest is "other"
OTHER = "other"
DROPPED = "dropped"  # stands for every outcome but kept, where outcomes are not told apart
# of a float64, below sign, exponent and the first four binary digits after the point
_CODE_BITS = 48


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """How many rows there are, how many are null, and how the others are spread.

    `bins` counts numbers by the lower bound of their bin, `values` counts texts and yes or no. Sums
    are of the numbers and their squares.
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
            return cls(
                rows=len(column),
                nulls=nulls,
                values=_fewer({entry["values"]: entry["counts"] for entry in counted}),
            )
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
        both = [
            [one for one in pair if one is not None]
            for pair in ((self.least, other.least), (self.most, other.most))
        ]
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
        return None if self.least is None else self.total / (self.rows - self.nulls)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the numbers; None where there is none."""
        if self.least is None:
            return None
        numbers = self.rows - self.nulls
        return float(max(0.0, self.squares / numbers - (self.total / numbers) ** 2) ** 0.5)

    def quantile(self, q: float) -> float | None:
        """The number below which a share `q` (0 to 1) of the numbers lie; None where there is none.

        It lies in the same bin as the exact one, so it is wrong by a sixteenth of its value at most
        (relative error 1/16 = 6.25 %); whole numbers up to 32 are exact at the bounds of bins. 0
        and 1 give the least and the most, exactly.
        """
        if self.least is None or self.most is None or not self.bins:
            return None
        if q <= 0 or q >= 1:
            return self.least if q <= 0 else self.most
        lows, counts = list(self.bins), np.fromiter(self.bins.values(), dtype=np.int64)
        ends = np.cumsum(counts)
        place = min(int(np.searchsorted(ends, q * ends[-1], side="right")), len(lows) - 1)
        inside = (q * ends[-1] - (ends[place] - counts[place])) / counts[place]
        found = lows[place] + inside * (upper_bound(lows[place]) - lows[place])
        return float(min(max(found, self.least), self.most))

    def histogram(self, edges: Sequence[float]) -> list[int]:
        """How many numbers lie in each of some ranges, a bin counted whole where its lower bound
        lies; the last range takes its end in.
        """
        lows, counts = (
            np.fromiter(self.bins, dtype=np.float64),
            np.fromiter(self.bins.values(), dtype=np.int64),
        )
        return [
            int(count)
            for count in np.histogram(
                np.clip(lows, edges[0], edges[-1]), np.asarray(edges), weights=counts
            )[0]
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it, bins as a list of bounds and counts."""
        return {
            **self.__dict__,
            "bins": [[low, count] for low, count in self.bins.items()],
            "values": dict(self.values),
        }


def merge(parts: Iterable[Statistics]) -> Statistics:
    """Of the rows of all parts."""
    return reduce(Statistics.__add__, parts, Statistics())


def lower_bound(numbers: np.ndarray) -> np.ndarray:
    """The lower bound of the bin of each number: its value with five significant binary digits,
    rounded down; 0 for next to nothing.
    """
    mantissa, exponent = np.frexp(np.where(np.abs(numbers) < TINY, 0.0, numbers))
    return np.asarray(np.ldexp(np.floor(mantissa * STEPS) / STEPS, exponent))


def upper_bound(low: float) -> float:
    """Where the bin with a lower bound ends."""
    if low == 0:
        return 0.0
    mantissa, exponent = np.frexp(low)
    return float(np.ldexp(mantissa + 1 / STEPS, exponent))


def _fewer(values: Mapping[str, int]) -> dict[str, int]:
    """The most frequent values first, the rest under `OTHER`."""
    ordered = sorted(
        ((name, count) for name, count in values.items() if name != OTHER),
        key=lambda entry: (-entry[1], entry[0]),
    )
    rest = sum(count for _, count in ordered[MOST_VALUES:]) + values.get(OTHER, 0)
    return dict(ordered[:MOST_VALUES]) | ({OTHER: rest} if rest else {})


# Statistics of a part as a table: one row for each bin (or value) of a measurement in a group of
# candidates

TABLE = pa.schema(
    [
        ("collection", pa.string()),
        ("by", pa.string()),  # what the candidates are grouped by: all, host, language, source
        ("of", pa.string()),  # which group; empty for all
        ("outcome", pa.string()),  # of counts and of all: kept or the reason; else kept or dropped
        ("measure", pa.string()),  # a measurement; empty for counts of candidates
        ("low", pa.float64()),  # lower bound of a bin of numbers, or
        # a text, true or false; a row with neither has the sums of the whole group
        ("label", pa.string()),
        ("rows", pa.int64()),
        ("nulls", pa.int64()),  # rows that are unmeasured; from here on of whole groups alone
        ("total", pa.float64()),
        ("squares", pa.float64()),
        ("least", pa.float64()),
        ("most", pa.float64()),
    ]
)
KEYS = TABLE.names[:7]
_SUMS = ("rows", "nulls", "total", "squares")
ALL = "all"
LABELS = 50  # texts of a measurement that a part counts apart; the rest is "other"


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A way to group candidates: to which group each row belongs (`codes`), and what the groups are
    called.

    With `bins` the distributions of measurements are counted, without them moments alone.
    """

    by: str
    codes: np.ndarray
    groups: Sequence[tuple[str, str]]  # (of, outcome)
    bins: bool


def _slice(by: str, of: pa.Array, outcome: pa.Array, bins: bool) -> Slice:
    of, outcome = of.dictionary_encode(), outcome.dictionary_encode()
    pairs = _indices(of) * len(outcome.dictionary) + _indices(outcome)
    found, codes = np.unique(pairs, return_inverse=True)
    ofs, outcomes = of.dictionary.to_pylist(), outcome.dictionary.to_pylist()
    return Slice(
        by=by,
        codes=codes,
        groups=[(ofs[pair // len(outcomes)], outcomes[pair % len(outcomes)]) for pair in found],
        bins=bins,
    )


def _indices(encoded: pa.DictionaryArray) -> np.ndarray:
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def tabulate(
    table: pa.Table, by: Mapping[str, tuple[pa.Array, bool]], measurements: Sequence[str]
) -> pa.Table:
    """Statistics (`TABLE`) of some candidates of one collection: counts by outcome and each
    measurement, of all and in each group.

    `table` has the columns collection and outcome and the measurements; lists among these are
    passed over. `by` gives for each way to group the group of each candidate (never null), and
    whether distributions are counted there or moments alone.
    """
    if not table.num_rows:
        return TABLE.empty_table()
    outcome = table["outcome"].combine_chunks()
    brief = pc.if_else(pc.equal(outcome, KEPT), KEPT, DROPPED)
    ways = {ALL: (pa.array([""] * table.num_rows), True), **by}
    found = [_counts(_slice(name, of, outcome, False)) for name, (of, _) in ways.items()]
    grouped = [
        _slice(name, of, outcome if name == ALL else brief, bins)
        for name, (of, bins) in ways.items()
    ]
    for name in measurements:
        column = table[name].combine_chunks()
        found += [rows for one in grouped for rows in _measured(one, name, column)]
    whole = pa.concat_tables(found)
    collection = pa.array([table["collection"][0].as_py()] * whole.num_rows, pa.string())
    return pa.table(
        {"collection": collection, **{name: whole[name] for name in whole.column_names}},
        schema=TABLE,
    )


def _counts(one: Slice) -> pa.Table:
    return _rows(one, "", np.arange(len(one.groups)), rows=np.bincount(one.codes))


def _rows(one: Slice, measure: str, groups: np.ndarray, **values: Any) -> pa.Table:
    """Rows of `TABLE` without the collection, for these groups of a slice; sums that are not given
    are 0, the rest is null.
    """
    of, outcome = (
        pa.array([group[place] for group in one.groups]).take(pa.array(groups)) for place in (0, 1)
    )
    by, named = (
        pa.array([name], pa.string()).take(pa.array(np.zeros(len(groups), dtype=np.int8)))
        for name in (one.by, measure)
    )
    given: dict[str, Any] = {"by": by, "of": of, "outcome": outcome, "measure": named, **values}
    columns = {}
    for field_ in list(TABLE)[1:]:
        missing = (
            np.zeros(len(groups)) if field_.name in _SUMS else pa.nulls(len(groups), field_.type)
        )
        columns[field_.name] = pa.array(given.get(field_.name, missing), field_.type)
    return pa.table(columns)


def _measured(one: Slice, name: str, column: pa.Array) -> Iterator[pa.Table]:
    """A row for each group with what adds up of it, then its bins or values."""
    if pa.types.is_boolean(column.type) or pa.types.is_string(column.type):
        there = pc.is_valid(column).to_numpy(zero_copy_only=False)
        yield _whole(one, name, there)
        if one.bins and there.any():
            yield _texts(one, name, column.cast(pa.string()), there)
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        numbers = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy(
            zero_copy_only=False
        )
        there = np.isfinite(numbers)
        yield _whole(one, name, there, numbers)
        if one.bins and there.any():
            yield _binned(one, name, one.codes[there], numbers[there])


def _whole(one: Slice, name: str, there: np.ndarray, numbers: np.ndarray | None = None) -> pa.Table:
    """Rows, nulls, and of numbers their sums, least and most, for each group."""
    size = len(one.groups)
    rows, nulls = (
        np.bincount(one.codes, minlength=size),
        np.bincount(one.codes[~there], minlength=size),
    )
    sums: dict[str, Any] = {"rows": rows, "nulls": nulls}
    if numbers is not None:
        codes, values = one.codes[there], numbers[there]
        least, most = np.full(size, np.inf), np.full(size, -np.inf)
        np.minimum.at(least, codes, values)
        np.maximum.at(most, codes, values)
        sums |= {
            "total": np.bincount(codes, values, size),
            "squares": np.bincount(codes, values * values, size),
        }
        sums |= {
            "least": pa.array(least, mask=rows == nulls),
            "most": pa.array(most, mask=rows == nulls),
        }
    return _rows(one, name, np.arange(size), **sums)


def _texts(one: Slice, name: str, column: pa.Array, there: np.ndarray) -> pa.Table:
    """Counts of the most frequent texts in each group, the rest under `OTHER`."""
    encoded = column.dictionary_encode()
    indices, labels = _indices(encoded.filter(pa.array(there))), encoded.dictionary.to_pylist()
    order = np.argsort(-np.bincount(indices, minlength=len(labels)), kind="stable")
    place = np.full(len(labels), LABELS)
    place[order[:LABELS]] = np.arange(min(LABELS, len(labels)))
    cells, counts = np.unique(one.codes[there] * (LABELS + 1) + place[indices], return_counts=True)
    shown = [
        labels[order[cell % (LABELS + 1)]] if cell % (LABELS + 1) < LABELS else OTHER
        for cell in cells
    ]
    return _rows(one, name, cells // (LABELS + 1), label=shown, rows=counts)


def _binned(one: Slice, name: str, groups: np.ndarray, numbers: np.ndarray) -> pa.Table:
    """Counts of the numbers of each group by bin."""
    codes = lower_bound(numbers).view(np.int64) >> _CODE_BITS & 0xFFFF
    cells, counts = np.unique(groups << 16 | codes, return_counts=True)
    lows = ((cells & 0xFFFF) << _CODE_BITS).view(np.float64) + 0.0  # no bin of minus nothing
    return _rows(one, name, cells >> 16, low=lows, rows=counts)


def add_up(tables: Iterable[pa.Table]) -> pa.Table:
    """The statistics of all parts in one table of the same columns: sums are added, least and most
    compared; ordered by its keys.
    """
    whole = pa.concat_tables([TABLE.empty_table(), *tables])
    how = [*((name, "sum") for name in _SUMS), ("least", "min"), ("most", "max")]
    found = whole.group_by(KEYS, use_threads=False).aggregate(how)
    found = (
        found.rename_columns([*KEYS, *(name for name, _ in how)]).select(TABLE.names).cast(TABLE)
    )
    return found.sort_by([(name, "ascending") for name in KEYS])


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The statistics of a decision, all parts added up: exact counts, and distributions in bins."""

    table: pa.Table  # as `TABLE`, each key once

    @property
    def collections(self) -> tuple[str, ...]:
        return tuple(sorted(self.table["collection"].unique().to_pylist()))

    @property
    def measurements(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.table["measure"].unique().to_pylist() if name))

    def counts(
        self, by: str = ALL, of: str | None = None, collection: str | None = None
    ) -> dict[str, dict[str, int]]:
        """Candidates by group and outcome, the largest group first; `other` holds what the parts
        did not tell apart.
        """
        rows = (
            self._rows(by, of, "", collection)
            .group_by(["of", "outcome"])
            .aggregate([("rows", "sum")])
        )
        found: dict[str, dict[str, int]] = {}
        for row in rows.to_pylist():
            found.setdefault(row["of"], {})[row["outcome"]] = row["rows_sum"]
        return dict(
            sorted(
                found.items(),
                key=lambda group: (group[0] == OTHER, -sum(group[1].values()), group[0]),
            )
        )

    def statistics(
        self,
        measure: str,
        outcome: str | None = None,
        *,
        by: str = ALL,
        of: str | None = None,
        collection: str | None = None,
    ) -> Statistics:
        """One measurement of the candidates of a group: those that were kept, dropped (all others),
        or ended in one outcome; else all.
        """
        rows = self._rows(by, of, measure, collection)
        if outcome is not None:
            chosen = pc.equal(rows["outcome"], KEPT if outcome == DROPPED else outcome)
            rows = rows.filter(pc.invert(chosen) if outcome == DROPPED else chosen)
        whole = rows.filter(pc.and_(pc.is_null(rows["low"]), pc.is_null(rows["label"])))
        least, most = (
            compare(whole[name]).as_py() for compare, name in ((pc.min, "least"), (pc.max, "most"))
        )
        sums = {name: pc.sum(whole[name]).as_py() or 0 for name in _SUMS}
        return Statistics(
            **sums,
            least=least,
            most=most,
            bins=_summed(rows, "low"),
            values=_fewer(_summed(rows, "label")),
        )

    def _rows(self, by: str, of: str | None, measure: str, collection: str | None) -> pa.Table:
        wanted = {"by": by, "of": of, "measure": measure, "collection": collection}
        tests = [
            pc.equal(self.table[name], value) for name, value in wanted.items() if value is not None
        ]
        return self.table.filter(reduce(pc.and_, tests))


def _summed(rows: pa.Table, key: str) -> dict[Any, int]:
    there = (
        rows.filter(pc.is_valid(rows[key])).group_by(key).aggregate([("rows", "sum")]).sort_by(key)
    )
    return dict(zip(there[key].to_pylist(), there["rows_sum"].to_pylist(), strict=True))
