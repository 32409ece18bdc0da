"""Statistics of parts merge into those of the whole."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.recipe.statistics import (
    OTHER,
    TABLE,
    Statistics,
    Summary,
    add_up,
    lower_bound,
    merge,
    tabulate,
    upper_bound,
)

numbers = st.lists(st.none() | st.integers(-1000, 1000).map(float), max_size=30)
row = st.tuples(
    st.sampled_from(["kept", "text.a", "image.b"]),
    st.none() | st.floats(-1e6, 1e6),
    st.sampled_from("xyz"),
)
rows = st.lists(row, max_size=30)


def test_of_numbers() -> None:
    found = Statistics.of(pa.array([1, 2, 33, None], pa.int32()))
    assert (found.rows, found.nulls, found.least, found.most) == (4, 1, 1.0, 33.0)
    assert found.mean == 12
    assert found.bins == {1.0: 1, 2.0: 1, 32.0: 1}


def test_of_texts_and_of_yes_and_no() -> None:
    assert Statistics.of(pa.array(["en", "de", "en", None])).values == {"en": 2, "de": 1}
    assert Statistics.of(pa.array([True, False, True])).values == {"true": 2, "false": 1}


@given(numbers, numbers)
def test_parts_merge_into_the_whole(one: list[float | None], other: list[float | None]) -> None:
    merged = merge([Statistics.of(pa.array(part, pa.float64())) for part in (one, other)])
    whole = Statistics.of(pa.array(one + other, pa.float64()))
    assert merged.bins == whole.bins
    assert (merged.rows, merged.nulls, merged.least, merged.most) == (
        whole.rows,
        whole.nulls,
        whole.least,
        whole.most,
    )
    assert merged.mean == pytest.approx(whole.mean)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_wrong_by_a_sixteenth_at_most(values: list[float], q: float) -> None:
    found = Statistics.of(pa.array(values, pa.float64())).quantile(q)
    exact = np.quantile(values, q, method="inverted_cdf" if q else "linear")
    below = np.quantile(values, max(0.0, q - 1e-9), method="inverted_cdf")
    above = np.quantile(values, min(1.0, q + 1e-9), method="higher")
    assert found is not None
    assert below * (1 - 1 / 16) <= found <= above * (1 + 1 / 16), (found, exact)


def test_quantiles_of_nothing_and_at_the_ends() -> None:
    assert Statistics().quantile(0.5) is None
    three = Statistics.of(pa.array([3.0, 5.0, 70.0]))
    assert (three.quantile(0), three.quantile(1)) == (3.0, 70.0)


def test_bins_end_where_the_next_begins() -> None:
    for low in (1.0, 1.9375, 0.0078125, 100.0 // 1):
        bound = float(lower_bound(np.array([low]))[0])
        assert lower_bound(np.array([np.nextafter(upper_bound(bound), 0)]))[0] == bound
        assert lower_bound(np.array([upper_bound(bound)]))[0] == upper_bound(bound)


def test_a_histogram_counts_every_number_once() -> None:
    assert Statistics.of(pa.array([1, 2, 3, 4, 5, None])).histogram([0, 2, 4, 5]) == [1, 2, 2]


def part(found: list[tuple[str, float | None, str]]) -> pa.Table:
    outcome, number, label = zip(*found, strict=True) if found else ((), (), ())
    columns = {
        "outcome": pa.array(outcome, pa.string()),
        "n": pa.array(number, pa.float64()),
        "s": pa.array(label, pa.string()),
    }
    return pa.table({"collection": pa.array(["c"] * len(found), pa.string()), **columns})


def tabulated(found: list[tuple[str, float | None, str]]) -> pa.Table:
    table = part(found)
    return tabulate(
        table,
        {
            "label": (table["s"].combine_chunks(), True),
            "short": (table["s"].combine_chunks(), False),
        },
        ["n", "s"],
    )


def test_a_part_is_counted_by_outcome_and_by_group() -> None:
    summary = Summary(
        table=add_up(
            [
                tabulated(
                    [
                        ("kept", 1.0, "x"),
                        ("kept", 3.0, "y"),
                        ("text.a", None, "x"),
                        ("image.b", 9.0, "x"),
                    ]
                )
            ]
        )
    )
    assert summary.counts() == {"": {"image.b": 1, "kept": 2, "text.a": 1}}
    assert summary.counts("label") == {
        "x": {"image.b": 1, "kept": 1, "text.a": 1},
        "y": {"kept": 1},
    }
    assert (summary.measurements, summary.collections) == (("n", "s"), ("c",))
    kept, dropped = summary.statistics("n", "kept"), summary.statistics("n", "dropped")
    assert (kept.rows, kept.mean, kept.bins) == (2, 2.0, {1.0: 1, 3.0: 1})
    assert (dropped.rows, dropped.nulls, dropped.mean, dropped.most) == (2, 1, 9.0, 9.0)
    assert summary.statistics("s").values == {"x": 3, "y": 1}
    assert summary.statistics("n", "image.b").rows == 1
    assert summary.statistics("n", by="label", of="y").mean == 3.0
    moments = summary.statistics("n", "dropped", by="short", of="x")
    assert (moments.mean, moments.bins) == (9.0, {})


@given(rows, rows)
def test_statistics_of_parts_add_up_to_those_of_the_whole(
    one: list[tuple[str, float | None, str]], other: list[tuple[str, float | None, str]]
) -> None:
    parts, whole = add_up([tabulated(one), tabulated(other)]), add_up([tabulated(one + other)])
    exact = [name for name in TABLE.names if name not in ("total", "squares")]
    assert parts.select(exact).equals(whole.select(exact))
    for name in ("total", "squares"):
        assert np.allclose(parts[name].to_numpy(), whole[name].to_numpy())
    table, summary = part(one + other), Summary(table=parts)
    direct, found = Statistics.of(table["n"]), summary.statistics("n")
    assert (found.rows, found.nulls, found.bins, found.least, found.most) == (
        direct.rows,
        direct.nulls,
        direct.bins,
        direct.least,
        direct.most,
    )
    assert (
        sum(sum(counts.values()) for counts in summary.counts("label").values()) == table.num_rows
    )


def test_what_is_not_a_number_is_unmeasured() -> None:
    found = Summary(
        table=tabulated(
            [("kept", float("nan"), "x"), ("kept", float("inf"), "x"), ("kept", 2.0, "x")]
        )
    ).statistics("n")
    assert (found.rows, found.nulls, found.mean) == (3, 2, 2.0)


def test_rare_texts_are_counted_together() -> None:
    many = [("kept", 1.0, f"text {place % 80}") for place in range(200)]
    values = Summary(table=tabulated(many)).statistics("s").values
    assert (len(values), sum(values.values()), values["text 0"]) == (51, 200, 3)
    assert values[OTHER] == 200 - sum(count for name, count in values.items() if name != OTHER)
