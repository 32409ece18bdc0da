"""A shuffle of any size that holds nothing: where a place comes from is computed when asked.

A permutation of a hundred million samples as numbers takes 400 MB in every rank and seconds at each
epoch and each resume. A Feistel network is a bijection whatever its round function is; what falls
outside the size walks on until it falls inside (cycle walking, Black and Rogaway 2002), twice at
most on average.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6  # even, so that halves of different widths end where they began; 4 suffice for 64 bits


class Permutation:
    """The numbers 0 ... size - 1 in an order that the key settles."""

    def __init__(self, size: int, key: int) -> None:
        assert size > 0, "there is nothing to order"
        self.size = size
        bits = max(2, (size - 1).bit_length())
        self._widths = bits // 2, bits - bits // 2
        seeds = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)
        self._keys = [np.uint64(seed) for seed in seeds]

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """What stands at each place; places of 0 ... size - 1."""
        found = self._mix(places.astype(np.uint64))
        outside = found >= self.size
        while outside.any():
            found[outside] = self._mix(found[outside])
            outside = found >= self.size
        return found.astype(np.int64)

    def _mix(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left_bits, right_bits = self._widths
        left = values >> np.uint64(right_bits)
        right = values & _ones(right_bits)
        for key in self._keys:
            left, right = right, left ^ (_scramble(right + key) & _ones(left_bits))
            left_bits, right_bits = right_bits, left_bits
        return (left << np.uint64(right_bits)) | right


def _ones(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)


def _scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
