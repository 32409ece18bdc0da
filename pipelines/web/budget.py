"""The bytes that a whole run may cost, counted by all of its processes on one machine together."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from pathlib import Path

BYTES = 8  # of the counter, little-endian


class Spent:
    """A counter in a file, which outlives a kill; without a limit nothing is counted."""

    def __init__(self, path: str | None, limit: int | None) -> None:
        self._limit = limit
        self._file: int | None = None
        if limit is not None:
            assert path is not None, "a budget is counted somewhere"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    def add(self, size: int) -> bool:
        """Count bytes that came; False when that is more than may be spent."""
        if self._file is None or self._limit is None:
            return True
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            total = int.from_bytes(os.pread(self._file, BYTES, 0), "little") + size
            os.pwrite(self._file, total.to_bytes(BYTES, "little"), 0)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return total <= self._limit

    @property
    def over(self) -> bool:
        """Whether more was asked for than may be spent; the last piece is thrown away."""
        return not self.add(0)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def spent_nothing(path: str) -> None:
    """Begin a count anew, for those too who hold its file open."""
    with contextlib.suppress(FileNotFoundError):
        os.truncate(path, 0)


def spent_file(collection: str) -> str:
    """Where the bytes of a collection (its whole path or URL) are counted on this machine."""
    name = f"winnow-spent-{hashlib.sha256(collection.encode()).hexdigest()[:16]}"
    return str(Path(tempfile.gettempdir()) / name)
