"""Lists that users give, one entry a line: read, and known by the digest of their bytes."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

LINES = 1_000_000  # that are read at a time


def digest(paths: Iterable[str], option: str) -> str:
    """The digest of the bytes of these files together; ValueError, naming the option, where one
    cannot be read.
    """
    parts = []
    for path in paths:
        try:
            state = Path(path).stat()
            parts.append(_digest(path, state.st_size, state.st_mtime_ns))
        except OSError as error:
            raise ValueError(
                f"--{option} {path} cannot be read ({error.strerror}): give a text file with one"
                " entry a line"
            ) from error
    return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()


@lru_cache(maxsize=64)
def _digest(path: str, size: int, changed: int) -> str:
    """Of a file as it was at one time."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def blocks(path: str) -> Iterator[list[str]]:
    """The lines of a file without their ends, some at a time; ValueError where it is not UTF-8."""
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        try:
            while lines := list(islice(file, LINES)):
                yield [line.rstrip("\r\n") for line in lines]
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8, one entry a line"
            ) from error
