"""A shuffle of any size that holds nothing: each number of it is computed on demand.

A permutation of a hundred million samples as numbers takes 400 MB in every rank and seconds at each
epoch and each resume. A Feistel network is a bijection whatever its round function is; what falls
outside the size walks on until it falls inside (cycle walking, Black and Rogaway 2002), twice at
most on average.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6  # even, so that halves of different widths end where they began; 4 suffice for 64 bits

Indices = NDArray[np.int64]
Bits = NDArray[np.uint64]


class Permutation:
    """The numbers 0 ... size - 1 in an order that the key settles."""

    def __init__(self, size: int, key: int) -> None:
        assert size > 0, "there is nothing to order"
        self.size = size
        bits = max(2, (size - 1).bit_length())
        self._left_bits = bits // 2
        self._right_bits = bits - self._left_bits
        self._keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)

    def __call__(self, positions: Indices) -> Indices:
        """The number at each position; positions of 0 ... size - 1."""
        numbers = self._mix(positions.astype(np.uint64))
        outside = numbers >= self.size
        while outside.any():
            numbers[outside] = self._mix(numbers[outside])
            outside = numbers >= self.size
        return numbers.astype(np.int64)

    def _mix(self, values: Bits) -> Bits:
        """The Feistel network: each round, a half is mixed with a scramble of the other."""
        left_bits = self._left_bits
        right_bits = self._right_bits
        left = values >> np.uint64(right_bits)
        right = values & _ones(right_bits)
        for key in self._keys:
            mixed = left ^ (_scramble(right + key) & _ones(left_bits))
            left, right = right, mixed
            left_bits, right_bits = right_bits, left_bits
        return (left << np.uint64(right_bits)) | right


def _ones(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)


def _scramble(x: Bits) -> Bits:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = x ^ (x >> np.uint64(30))
    x = x * np.uint64(0xBF58476D1CE4E5B9)
    x = x ^ (x >> np.uint64(27))
    x = x * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
