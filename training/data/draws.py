"""Random numbers that belong to what they are for: no worker, rank or moment changes them."""

from __future__ import annotations

import hashlib

import numpy as np

BITS = 63  # of a number: it fits into an int64
DIGITS = 53  # bits of a float's digits


def number_of(*parts: object) -> int:
    """A number of 63 bits that depends on nothing but these parts."""
    text = "\x1f".join(map(str, parts)).encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - BITS)


def fraction(*parts: object) -> float:
    """A number in 0..1, below 1, that depends on nothing but these parts.

    A tenth of what a generator costs, for whoever needs a number or two.
    """
    digits = number_of(*parts) >> (BITS - DIGITS)
    return digits / (1 << DIGITS)


def generator(*parts: object) -> np.random.Generator:
    """Random numbers that depend on nothing but these parts."""
    bits = np.random.PCG64(number_of(*parts))
    return np.random.Generator(bits)
