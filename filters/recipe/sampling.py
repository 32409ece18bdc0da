"""What is settled among all candidates: seeded lots that no order of rows moves, and the value at a
place of all values.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

DIGITS = 16  # bits that one pass looks at


def draws(
    seed: int,
    image_ids: pa.ChunkedArray,
    texts: pa.ChunkedArray,
    row: NDArray[np.int64] | None = None,
    entry: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """A number from 0 to 1, below 1, for each row: a hash of seed, image_id and text (a null is
    empty).

    With the number of a row and an entry of it, as often as wanted, one for each such pair instead.
    """
    salt = seed.to_bytes(16, "little", signed=True)
    pairs = zip(image_ids.to_pylist(), texts.to_pylist(), strict=True)
    spelt = (
        f"{image or ''}\0{text or ''}".encode("utf-8", "surrogatepass") for image, text in pairs
    )
    hashes = np.frombuffer(
        b"".join(blake2b(one, digest_size=8, key=salt).digest() for one in spelt), dtype="<u8"
    )
    if row is not None and entry is not None:
        hashes = _mixed(hashes[row] ^ _mixed(entry.astype(np.uint64) + np.uint64(1)))
    return np.asarray((hashes >> np.uint64(11)) * 2.0**-53)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: each bit of the input moves about half of the output's."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def threshold(fraction: float, passes: Callable[[], Iterable[NDArray[np.float64]]]) -> float:
    """The value at place int(`fraction` of all), counted from zero in descending order; minus
    infinity where there is none.

    Not a number comes last. Each call of `passes` gives all values once, in pieces: 64 bits are
    settled sixteen at a time, so that no more than one piece and 65,536 counts are held.
    """
    prefix, shift, place = np.uint64(0), 64, -1
    while shift:
        shift -= DIGITS
        counts = np.zeros(1 << DIGITS, dtype=np.int64)
        for values in passes():
            keys = _ascending(values) >> np.uint64(shift)
            digits = (
                keys
                if shift + DIGITS == 64
                else keys[keys >> np.uint64(DIGITS) == prefix] & np.uint64((1 << DIGITS) - 1)
            )
            counts += np.bincount(digits.astype(np.int64), minlength=1 << DIGITS)
        if place < 0:
            total = int(counts.sum())
            place = total - 1 - int(total * fraction)
            if place < 0:
                return -np.inf
        ends = np.cumsum(counts)
        digit = int(np.searchsorted(ends, place, side="right"))
        place -= int(ends[digit - 1]) if digit else 0
        prefix = np.uint64((int(prefix) << DIGITS) | digit)
    return _value(int(prefix))


def _ascending(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """64 bits that are ordered as the values are; 0 for what is not a number."""
    bits = (values + 0.0).view(np.uint64)  # there is one zero
    negative = bits >> np.uint64(63) == 1
    return np.where(
        np.isnan(values), np.uint64(0), np.where(negative, ~bits, bits | np.uint64(1 << 63))
    )


def _value(key: int) -> float:
    """The value of the bits that `_ascending` gave."""
    if not key:
        return -np.inf
    bits = key & ~(1 << 63) if key >> 63 else ~key & (2**64 - 1)
    return float(np.array([bits], dtype=np.uint64).view(np.float64)[0])
