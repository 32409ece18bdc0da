"""TIFF directories, of TIFF files and of EXIF data: what is needed of them, read with bounds (TIFF
6.0, BigTIFF, EXIF 2.32).

Readers copy what each entry points at, and an entry may point at all of a file: ten megabytes of
directories would become terabytes.
"""

import struct
from collections.abc import Iterator

ORIENTATION = 0x0112
# EXIF, GPS and interoperability directories, which Pillow reads with the first
INNER = (0x8769, 0x8825, 0xA005)
# bytes of each type
SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
Entry = tuple[int, int, int, int]  # tag, type, count, place of the value


class Directories:
    """The directories of a TIFF structure; ValueError if it is none."""

    def __init__(self, data: bytes) -> None:
        if data[:2] not in (b"II", b"MM") or len(data) < 8:
            raise ValueError("no TIFF header")
        self.data = data
        self.order = "<" if data[:2] == b"II" else ">"
        version = self._int(2, 2)
        if version not in (42, 43):
            raise ValueError("no TIFF header")
        self.big = version == 43
        self.first = self._int(8, 8) if self.big else self._int(4, 4)

    def _int(self, at: int, size: int) -> int:
        if not 0 <= at <= len(self.data) - size:
            return 0
        value: int = struct.unpack_from(
            self.order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], self.data, at
        )[0]
        return value

    def entries(self, at: int) -> Iterator[Entry]:
        """The entries of the directory there, as far as the data go."""
        head, step, field = (8, 20, 8) if self.big else (2, 12, 4)
        count = min(self._int(at, head), 65_536)
        for place in range(
            at + head, min(at + head + count * step, len(self.data) - step + 1), step
        ):
            kind, number = self._int(place + 2, 2), self._int(place + 4, field)
            value = place + 4 + field
            if SIZES.get(kind, 0) * number > field:
                value = self._int(value, field)
            yield self._int(place, 2), kind, number, value

    def after(self, at: int) -> int:
        """Where the next directory lies; 0 if there is none."""
        return (
            self._int(at + 8 + self._int(at, 8) * 20, 8)
            if self.big
            else self._int(at + 2 + self._int(at, 2) * 12, 4)
        )

    def number(self, entry: Entry) -> int:
        """The first value of an entry of integers; 0 of any other."""
        _, kind, count, at = entry
        return self._int(at, SIZES[kind]) if count and kind in (1, 3, 4, 13, 16, 18) else 0

    def copied(self) -> int:
        """Bytes that a reader copies who takes every value of the first directory and of those
        inside it.
        """
        total, waiting, seen = 0, [self.first], set[int]()
        while waiting:
            at = waiting.pop()
            if at in seen or len(seen) > 8:
                continue
            seen.add(at)
            for entry in self.entries(at):
                total += max(0, min(SIZES.get(entry[1], 0) * entry[2], len(self.data) - entry[3]))
                if entry[0] in INNER:
                    waiting.append(self.number(entry))
        return total


def orientation_of(exif: bytes) -> int:
    """How the picture is to be turned, 1 to 8; 1 where EXIF data do not say it."""
    try:
        directories = Directories(exif.removeprefix(b"Exif\0\0"))
    except ValueError:
        return 1
    for entry in directories.entries(directories.first):
        if entry[0] == ORIENTATION:
            number = directories.number(entry)
            return number if number in range(1, 9) else 1
    return 1
