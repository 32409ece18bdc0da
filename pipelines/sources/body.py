"""The bytes of one answer as they come: in memory while they are few, else in a file."""

import tempfile
from typing import IO

# of one body; 99 of 100 images of the web are smaller, and many come at once
MEMORY_BYTES = 1024 * 1024
# kept one by one until they are joined; an object for each of a trickle would cost more than its
# bytes
PIECES = 32


class Body:
    """A growing body. Not safe between threads: whoever has it whole reads it."""

    __slots__ = ("_file", "_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []
        self._file: IO[bytes] | None = None
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Add a piece; many small ones cost no more memory than a large one."""
        self.size += len(piece)
        if self._file is not None:
            self._file.write(piece)
            return
        if len(self._pieces) < PIECES:
            self._pieces.append(piece)
        elif len(self._pieces) == PIECES:
            self._pieces.append(bytearray(piece))
        else:
            self._pieces[-1] += piece
        if self.size > MEMORY_BYTES:
            self._file = tempfile.TemporaryFile(prefix="winnow-body-")  # noqa: SIM115 - closed by `take`, or with the body
            self._file.writelines(self._pieces)
            self._pieces = []

    def take(self) -> bytes:
        """All of it; afterwards it is empty."""
        pieces, file, self._pieces, self._file, self.size = self._pieces, self._file, [], None, 0
        if file is None:
            return b"".join(pieces)
        with file:
            file.seek(0)
            return file.read()
