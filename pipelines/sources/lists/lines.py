"""The bytes of a list as they are meant, and its lines: without compression, in UTF-8 or a charset
that holds ASCII.

What a file is, its first bytes say; its name may be wrong. A compressed file that is cut or damaged
gives what came before, and says so. Every decoder is asked for a bounded piece at a time.

A compressed list cannot be entered in its middle. So that not every part of it is unpacked from the
front, a process keeps the list that it unpacked last, at the place where it stopped.
"""

import bz2
import codecs
import gzip
import lzma
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import IO, NamedTuple

import fsspec
from backports import zstd
from fsspec.implementations.local import LocalFileSystem

from pipelines.sources.archives.frames import BOMB_BYTES, BOMB_RATIO, BROKEN, PULL, Damaged, Decoder
from pipelines.sources.lists.charset import MARKS

CHUNK = 1 << 20  # bytes read at once
# a longer line holds no caption; Python's own limit for CSV, 128 KiB, is shorter than some texts
LINE_BYTES = 1 << 20
TOO_LONG = f"it is longer than {LINE_BYTES:,} bytes"
CUT = "the file is cut in it"
FAULTS: tuple[type[Exception], ...] = (*BROKEN, lzma.LZMAError)
# bytes that a decoder may look back; the most that zstd itself takes without being told (--long)
WINDOW = 1 << 27
MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}

# what two letters look like where no mark stands before them (RFC 4627 3)
LETTERS: dict[tuple[bool, ...], str] = {
    (True, False, False, False): "utf-32-le",
    (False, False, False, True): "utf-32-be",
    (True, False, True, False): "utf-16-le",
    (False, True, False, True): "utf-16-be",
}


class Line(NamedTuple):
    """A line without its end; `number` counts from 1, `end` is the place of the byte behind it,
    `fault` why it cannot be read.
    """

    number: int
    end: int
    data: bytes
    fault: str = ""


class ListBytes:
    """The bytes of one list. What is known after the first chunk: `compression`, `newline`; after
    the last: `damage`.
    """

    def __init__(
        self, url: str, opened: "Callable[[str], AbstractContextManager[IO[bytes]]] | None" = None
    ) -> None:
        self.url = url
        self._opened = opened or _opened
        self.compression = ""
        self.newline = b"\n"
        self.damage = ""  # why nothing can be read behind what was

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on, counted in what is meant, not in the file; ValueError if there
        is no such file.
        """
        unpacked = _taken(self.url, start) or _Unpacked(self.url, self._opened)
        self.compression, self.newline = unpacked.compression, unpacked.newline
        try:
            yield from unpacked.chunks(start)
        except GeneratorExit:
            _keep(unpacked)
            raise
        except BaseException:
            unpacked.close()
            raise
        self.damage = unpacked.damage
        _keep(unpacked)

    def lines(self, start: int = 0, number: int = 0) -> Iterator[Line]:
        """The lines from `start` on, `number` lines being before them."""
        rest, length = b"", 0  # of the line under way: what is kept of it, and how long it is

        for chunk in self.chunks(start):
            *whole, tail = chunk.split(self.newline)
            for piece in whole:
                length += len(piece)
                start += length + 1
                number += 1
                yield (
                    Line(number, start, b"", TOO_LONG)
                    if length > LINE_BYTES
                    else Line(number, start, rest + piece)
                )
                rest, length = b"", 0

            length += len(tail)
            rest = rest + tail if length <= LINE_BYTES else b""

        if length:
            fault = TOO_LONG if length > LINE_BYTES else CUT if self.damage else ""
            yield Line(number + 1, start + length, rest, fault)


DECODERS: dict[str, Callable[[], Decoder]] = {
    "bzip2": bz2.BZ2Decompressor,
    "xz": partial(lzma.LZMADecompressor, memlimit=WINDOW),
    "zstd": zstd.ZstdDecompressor,
}


class _Unpacked:
    """A list under way from its front to its end; a plain one can be entered anywhere."""

    def __init__(
        self, url: str, opened: "Callable[[str], AbstractContextManager[IO[bytes]]]"
    ) -> None:
        self.url, self.damage = url, ""
        self.process = os.getpid()  # a child has the file too, and would move its place
        self.state = _state(url)
        self._context = opened(url)
        self._raw = self._context.__enter__()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self.compression = compression_of(self._raw.read(8))
        self._raw.seek(0)
        pieces = self._decompressed() if self.compression else _read(self._raw)
        head = next(pieces, b"")
        charset = _wide_charset(head)
        self.is_plain = not (self.compression or charset)
        if not self.is_plain:
            pieces = _in_front(head, pieces)
            pieces = _as_utf8(pieces, charset) if charset else pieces
            head = next(pieces, b"")

        self.newline = _newline(head)
        self.place = 0  # of the chunk at hand
        self._chunk, self._pieces = head, pieces

    def chunks(self, start: int) -> Iterator[bytes]:
        """The bytes from a place on, which is not before the chunk at hand."""
        if self.is_plain:
            self._raw.seek(start)
            yield from _read(self._raw)
            return
        while self._chunk:
            if start < self.place + len(self._chunk):
                yield self._chunk[max(0, start - self.place) :]
            self.place += len(self._chunk)
            self._chunk = next(self._pieces, b"")

    def close(self) -> None:
        self._context.__exit__(None, None, None)

    def _decompressed(self) -> Iterator[bytes]:
        """What a compressed file holds, as far as it is whole and no bomb."""
        is_gzip, made = self.compression == "gzip", 0
        try:
            for piece in (
                _gunzipped(self._raw)
                if is_gzip
                else inflated(self._raw, DECODERS[self.compression])
            ):
                yield piece
                made += len(piece)
                if made > BOMB_BYTES and made > BOMB_RATIO * self._raw.tell():
                    raise Damaged(
                        f"it grows to more than {BOMB_RATIO} times its size, as no list does"
                    )
        except Damaged as error:
            self.damage = f"its {self.compression} data is cut or damaged ({error})"


_kept: list[_Unpacked] = []  # one at most
_keeping = threading.Lock()


def _taken(url: str, start: int) -> _Unpacked | None:
    """The list that this process kept, if it is this one, as it was, and not beyond a place in its
    middle.
    """
    with _keeping:
        if not (_kept and start and _kept[0].place <= start):
            return None
        same = (
            _kept[0].url == url
            and _kept[0].process == os.getpid()
            and _kept[0].state == _state(url)
        )
        return _kept.pop() if same else None


def _state(url: str) -> tuple[int, ...]:
    """What changes with a local file."""
    try:
        found = os.stat(url)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _keep(unpacked: _Unpacked) -> None:
    """Keep a compressed list for the part behind the one that was read."""
    with _keeping:
        unwanted = [unpacked] if unpacked.is_plain else _kept[:]
        if not unpacked.is_plain:
            _kept[:] = [unpacked]
    for one in unwanted:
        one.close()


def _gunzipped(raw: IO[bytes]) -> Iterator[bytes]:
    """What a gzip file holds; all that stands before a wrong sum is given, as zlib itself does
    not.
    """
    file = gzip.GzipFile(fileobj=raw)
    try:
        while piece := file.read1(CHUNK):
            yield piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Damaged(error) from error


def inflated(raw: IO[bytes], make: Callable[[], Decoder]) -> Iterator[bytes]:
    """What the frames of a file hold, piece by piece; zeros between them fill up a block of a tape
    or disk.
    """
    data = raw.read(PULL)
    while data:
        decoder = make()
        while not decoder.eof:
            if decoder.needs_input and not data:
                data = raw.read(PULL)
                if not data:
                    raise Damaged("it has no end")
            fed, data = (data, b"") if decoder.needs_input else (b"", data)
            try:
                piece = decoder.decompress(fed, CHUNK)
            except FAULTS as error:
                raise Damaged(error) from error
            if piece:
                yield piece

        data = (decoder.unused_data or b"").lstrip(b"\0")
        while not data and (more := raw.read(PULL)):
            data = more.lstrip(b"\0")


def compression_of(head: bytes) -> str:
    """The name of the compression whose files begin so, empty for none."""
    return next((name for magic, name in MAGICS.items() if head.startswith(magic)), "")


def _opened(url: str) -> IO[bytes]:
    system, path = fsspec.core.url_to_fs(url)
    if isinstance(system, LocalFileSystem) and os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{url} is no ordinary file")  # a pipe would be waited for
    try:
        file: IO[bytes] = system.open(path, "rb")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(f"there is no list of pairs at {url}") from error
    return file


def _read(raw: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: raw.read(CHUNK), b"")


def _in_front(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


def _newline(head: bytes) -> bytes:
    """What ends a line: a lone carriage return only where there is no other end."""
    return b"\r" if b"\r" in head and b"\n" not in head else b"\n"


def _wide_charset(head: bytes) -> str:
    """The charset of several bytes a letter that some bytes begin in, empty if they do not."""
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    return LETTERS.get(tuple(map(bool, head[:4])), "") if len(head) >= 4 else ""


def _as_utf8(pieces: Iterator[bytes], charset: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(charset)(errors="replace")
    for piece in pieces:
        yield decoder.decode(piece).encode()
    yield decoder.decode(b"", final=True).encode()
