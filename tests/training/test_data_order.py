"""Orders: every sample once an epoch, shares exact in every beginning, the same from any state."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.mixture import turns, whole_weights
from training.data.order import Order, StreamState
from training.data.permutation import Permutation


@dataclass
class Held:
    counts: list[int]


@given(size=st.integers(1, 3000), key=st.integers(0, 2**63 - 1))
def test_a_permutation_has_every_number_once(size: int, key: int) -> None:
    found = Permutation(size, key)(np.arange(size))
    assert np.array_equal(np.sort(found), np.arange(size))


def test_a_permutation_of_any_size_is_asked_in_any_order() -> None:
    shuffle = Permutation(10**11, 7)
    places = np.array([5, 10**11 - 1, 0, 12345678901])
    together = shuffle(places)
    assert [int(shuffle(places[[one]])[0]) for one in range(4)] == together.tolist()
    assert len(set(together.tolist())) == 4
    assert together.max() < 10**11


def test_small_permutations_are_even() -> None:
    met = Counter(tuple(Permutation(4, key)(np.arange(4)).tolist()) for key in range(4800))
    assert len(met) == 24
    assert min(met.values()) > 140
    assert max(met.values()) < 260


@given(
    weights=st.lists(st.integers(1, 1000), min_size=1, max_size=6),
    count=st.integers(1, 300),
    pause=st.integers(0, 300),
)
def test_every_beginning_has_the_shares(weights: list[int], count: int, pause: int) -> None:
    chosen = turns(weights, [0] * len(weights), count)
    given_ = [0] * len(weights)
    for step, one in enumerate(chosen, start=1):
        given_[one] += 1
        for had, weight in zip(given_, weights, strict=True):
            assert abs(had - Fraction(weight * step, sum(weights))) < 1

    first = chosen[: min(pause, count)]
    had = [first.count(number) for number in range(len(weights))]
    assert first + turns(weights, had, count - len(first)) == chosen


def test_shares_count_as_they_are_written() -> None:
    assert whole_weights([0.1, 0.2, 0.7]) == [1, 2, 7]
    assert whole_weights([1, 0.5]) == [2, 1]


@pytest.mark.parametrize("near", [0, 1, 2])
def test_an_epoch_has_each_sample_once(near: int) -> None:
    releases = {"web": Held([7, 0, 5, 9])}
    order = Order(releases, {"web": 1.0}, seed=3, near=near)
    slots, state = order.take(StreamState(), 42)
    rows = [slot.row for slot in slots]
    assert sorted(rows[:21]) == sorted(rows[21:]) == list(range(21))
    assert rows[:21] != rows[21:]
    assert [slot.epoch for slot in slots] == [0] * 21 + [1] * 21
    assert state.taken == {"web": 42}


def test_near_shards_are_read_together() -> None:
    order = Order({"web": Held([10] * 6)}, {"web": 1.0}, seed=3, near=2)
    rows = [slot.row for slot in order.take(StreamState(), 60)[0]]
    groups = [{row // 10 for row in rows[start : start + 20]} for start in (0, 20, 40)]
    assert [len(group) for group in groups] == [2, 2, 2]
    assert set().union(*groups) == set(range(6))
    assert len({row // 10 for row in rows[:6]}) == 2


@given(cut=st.integers(0, 50), near=st.sampled_from([0, 2]))
def test_the_order_goes_on_from_any_place(cut: int, near: int) -> None:
    releases = {"web": Held([7, 5, 4]), "clean": Held([3, 4])}
    shares = {"web": 0.7, "clean": 0.3}
    whole, end = Order(releases, shares, seed=1, near=near).take(StreamState(), 50)
    first, state = Order(releases, shares, seed=1, near=near).take(StreamState(), cut)
    saved = StreamState.from_json(state.to_json())
    rest, after = Order(releases, shares, seed=1, near=near).take(saved, 50 - cut)
    assert first + rest == whole
    assert after == end == StreamState(taken={"web": 35, "clean": 15})


def test_seeds_stages_and_names_have_orders_of_their_own() -> None:
    def rows(seed: int, stage: str, name: str) -> list[int]:
        order = Order({name: Held([30])}, {name: 1.0}, seed=seed, stage=stage)
        return [slot.row for slot in order.take(StreamState(), 30)[0]]

    found = [rows(1, "a", "x"), rows(2, "a", "x"), rows(1, "b", "x"), rows(1, "a", "y")]
    assert len({tuple(one) for one in found}) == 4
    assert rows(1, "a", "x") == found[0]


@pytest.mark.parametrize("size", [2, 3, 6, 9])
def test_another_sample_stands_in_for_a_bad_one(size: int) -> None:
    order = Order({"web": Held([size])}, {"web": 1.0}, seed=1)
    for slot in order.take(StreamState(), size)[0]:
        others = [order.instead(slot, attempt) for attempt in range(1, size + 1)]
        assert {other.row for other in others} == set(range(size))
        assert {other.epoch for other in others} == {0}


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no release 'wbe'; there are: web"):
        Order({"web": Held([3])}, {"wbe": 1.0}, seed=0)
    with pytest.raises(ValueError, match="release web has the share 0: it must be above 0"):
        Order({"web": Held([3])}, {"web": 0.0}, seed=0)
    with pytest.raises(ValueError, match="release web has no samples"):
        Order({"web": Held([0])}, {"web": 1.0}, seed=0)
    with pytest.raises(ValueError, match="reads no release"):
        Order({"web": Held([3])}, {}, seed=0)
