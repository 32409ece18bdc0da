"""Statistics of parts merge into those of the whole."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.statistics import Statistics, merge

numbers = st.lists(st.none() | st.integers(-1000, 1000).map(float), max_size=30)


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
    assert (merged.rows, merged.nulls, merged.least, merged.most) == (whole.rows, whole.nulls, whole.least, whole.most)
    assert merged.mean == pytest.approx(whole.mean)
