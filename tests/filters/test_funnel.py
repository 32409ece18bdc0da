"""Funnels add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.recipe.funnel import Funnel

counts = st.dictionaries(
    st.sampled_from(["kept", "text.language", "image.graphic", "fetch.timeout"]),
    st.integers(0, 1000),
)


def test_rows_and_json() -> None:
    funnel = Funnel(recipe="winnow", outcomes={"text.empty": 1, "image.blank": 0, "kept": 3})
    assert funnel.rows() == [("text.empty", 1, 0.25), ("kept", 3, 0.75)]
    assert funnel.to_json() == {
        "recipe": "winnow",
        "candidates": 4,
        "outcomes": {"text.empty": 1, "kept": 3},
    }
    assert Funnel.from_json(funnel.to_json()).kept == 3


def test_a_funnel_that_lost_candidates_is_refused() -> None:
    with pytest.raises(AssertionError, match="3 outcomes for 4 candidates"):
        Funnel(recipe="winnow", outcomes={"kept": 3}).conserve(4)
    with pytest.raises(ValueError, match="add up to 3, not to its 4 candidates"):
        Funnel.from_json({"recipe": "winnow", "candidates": 4, "outcomes": {"kept": 3}})


@given(counts, counts)
def test_merging_adds(one: dict[str, int], other: dict[str, int]) -> None:
    merged = Funnel(recipe="winnow", outcomes=one) + Funnel(recipe="winnow", outcomes=other)
    assert merged.candidates == sum(one.values()) + sum(other.values())
    assert all(
        merged.outcomes[name] == one.get(name, 0) + other.get(name, 0) for name in merged.outcomes
    )
