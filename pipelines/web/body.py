"""The bytes of one answer as they come: in memory while they are few, else in a file."""

import tempfile
from typing import IO

MEMORY_BYTES = 1024 * 1024  # of one body; 99 of 100 images of the web are smaller, and many come at once


class Body:
    """A growing body. Not safe between threads: whoever has it whole reads it."""

    __slots__ = ("_data", "_file", "size")

    def __init__(self) -> None:
        self._data: bytes | bytearray = b""
        self._file: IO[bytes] | None = None
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Add a piece; many small ones cost no more memory than a large one."""
        self.size += len(piece)
        if self._file is not None:
            self._file.write(piece)
            return
        if not self._data:
            self._data = piece  # most bodies come in one
        elif isinstance(self._data, bytearray):
            self._data += piece
        else:
            self._data = bytearray(self._data) + piece
        if self.size > MEMORY_BYTES:
            self._file = tempfile.TemporaryFile(prefix="winnow-body-")  # noqa: SIM115 - closed by `take`, or with the body
            self._file.write(self._data)
            self._data = b""

    def take(self) -> bytes:
        """All of it; afterwards it is empty."""
        data, file, self._data, self._file, self.size = self._data, self._file, b"", None, 0
        if file is None:
            return bytes(data)
        with file:
            file.seek(0)
            return file.read()
