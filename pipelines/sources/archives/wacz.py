"""WACZ files: zips that hold WARC files and their index (WACZ 1.1.1), read in place.

What lies in one is called `zip://NAME::ADDRESS`, as fsspec does, the name escaped. Names are looked
up and never become paths. Stored entries are ranges of the file; deflated ones are inflated from
their front as they are read: whoever reads them in no order makes a copy first.
"""

import io
import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import quote, unquote

from pipelines.sources.archives.frames import BROKEN, PULL, Inflater

SCHEME, JOINT = "zip://", "::"
SUFFIX = ".wacz"
ARCHIVES = (".warc", ".warc.gz", ".warc.zst")
INDEXES = (".cdx", ".cdxj", ".cdx.gz", ".cdxj.gz")
LEVELS = 3  # of zips in zips; a WACZ of WACZs has two
DIRECTORY_BYTES = 64 * 1024 * 1024  # a million entries
BOMB_BYTES, BOMB_RATIO = 1 << 30, 200  # a deflated entry beyond both is not read
LOCAL_HEADER = struct.Struct("<4s22xHH")
STORED, DEFLATED = 0, 8  # methods of compression, APPNOTE 4.4.5
DIRECTORY_ERRORS = (
    zipfile.BadZipFile,
    NotImplementedError,
    struct.error,
    ValueError,
    OverflowError,
    EOFError,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file in a zip."""

    name: str
    header: int  # byte of the zip
    packed: int  # bytes
    size: int  # bytes, as is said
    method: int
    encrypted: bool


def address(name: str, package: str) -> str:
    """What an entry of a package is called."""
    return f"{SCHEME}{quote(name, safe='/ ')}{JOINT}{package}"


def parted(url: str) -> tuple[str, str] | None:
    """The name of an entry and the address of its package; None for other addresses."""
    name, joint, package = url.removeprefix(SCHEME).partition(JOINT)
    return (unquote(name), package) if url.startswith(SCHEME) and joint else None


def is_package(url: str) -> bool:
    inside = parted(url)
    name = url if inside is None else inside[0]
    return name.partition("?")[0].lower().endswith(SUFFIX)


class _Capped(io.RawIOBase):
    """A file of which no more is read at once than the directory of a zip may have."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > DIRECTORY_BYTES:
            size = DIRECTORY_BYTES + 1
        data = self._stream.read(size)
        if len(data) > DIRECTORY_BYTES:
            raise ValueError("its directory is too large")
        return data

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def entries(stream: IO[bytes]) -> list[Entry]:
    """The files in a zip, by their place in it; ValueError if it is broken, or if two of them
    overlap.
    """
    try:
        with zipfile.ZipFile(_Capped(stream)) as directory:
            infos = directory.infolist()
    except DIRECTORY_ERRORS as error:
        raise ValueError(f"no whole zip file: {error}") from error

    found = sorted(
        (_entry(info) for info in infos if not info.is_dir()), key=lambda one: one.header
    )
    end = 0
    for entry in found:
        if entry.header < end:
            raise ValueError(f"no honest zip file: its entry {entry.name!r} overlaps another")
        end = entry.header + entry.packed
    return found


def _entry(info: zipfile.ZipInfo) -> Entry:
    return Entry(
        name=info.filename,
        header=info.header_offset,
        packed=info.compress_size,
        size=info.file_size,
        method=info.compress_type,
        encrypted=bool(info.flag_bits & 1),
    )


def open_entry(stream: IO[bytes], entry: Entry) -> IO[bytes]:
    """The content of an entry, seekable; ValueError if it cannot be read."""
    stream.seek(entry.header)
    head = stream.read(LOCAL_HEADER.size)
    if len(head) < LOCAL_HEADER.size or not head.startswith(b"PK\x03\x04"):
        raise ValueError(f"the zip file does not hold {entry.name!r} where it says")
    _, name, extra = LOCAL_HEADER.unpack(head)
    start = entry.header + LOCAL_HEADER.size + name + extra

    if entry.encrypted or entry.method not in (STORED, DEFLATED):
        raise ValueError(
            f"{entry.name!r} is encrypted or compressed in a way that is not read here"
        )
    if entry.method == STORED:
        return io.BufferedReader(_Range(stream, start, entry.packed), 1 << 16)
    if entry.size > BOMB_BYTES and entry.size > BOMB_RATIO * entry.packed:
        raise ValueError(
            f"{entry.name!r} has {entry.packed:,} bytes and would become {entry.size:,}: a bomb"
        )
    return io.BufferedReader(_Deflated(_Range(stream, start, entry.packed), entry.size), 1 << 16)


class _Placed(io.RawIOBase):
    """A file of known size with a place in it."""

    def __init__(self, size: int) -> None:
        self._size, self._place = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._go(max(offset + (0, self._place, self._size)[whence], 0))
        return self._place

    def _go(self, place: int) -> None:
        self._place = place


class _Range(_Placed):
    """Bytes of another file."""

    def __init__(self, stream: IO[bytes], start: int, size: int) -> None:
        super().__init__(size)
        self._stream, self._start = stream, start

    def readinto(self, buffer: Any) -> int:
        if self._place >= self._size:
            return 0  # a place beyond what any file may have cannot be gone to
        self._stream.seek(self._start + self._place)
        data = self._stream.read(min(len(buffer), self._size - self._place))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def reader(copy: IO[bytes]) -> IO[bytes]:
    """A reader with a place of its own of a file on the disk that several read at once."""
    return io.BufferedReader(_Shared(copy), 1 << 16)


class _Shared(_Placed):
    """A file on the disk whose own place does not matter."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(os.fstat(file.fileno()).st_size)
        self._file = file

    def readinto(self, buffer: Any) -> int:
        if self._place >= self._size:
            return 0
        data = os.pread(self._file.fileno(), len(buffer), self._place)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


class _Deflated(_Placed):
    """An entry inflated as it is read, at most as long as it says; it ends where it is broken."""

    def __init__(self, packed: _Range, size: int) -> None:
        super().__init__(size)
        self._packed = packed
        self._rewind()

    def _rewind(self) -> None:
        self._packed.seek(0)
        self._place = 0
        self._inflater = Inflater(-15)

    def _go(self, place: int) -> None:
        if place < self._place:
            self._rewind()
        while self._place < place and self._inflated(min(place - self._place, 1 << 20)):
            pass

    def readinto(self, buffer: Any) -> int:
        data = self._inflated(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _inflated(self, room: int) -> bytes:
        """Some of what comes next; nothing at the end."""
        room = min(room, self._size - self._place)
        made = b""
        while not made and room > 0 and not self._inflater.eof:
            packed = self._packed.read(PULL) if self._inflater.needs_input else b""
            if not packed and self._inflater.needs_input:
                break
            try:
                made = self._inflater.decompress(packed or b"", room)
            except BROKEN:
                break
        self._place += len(made)
        return made


def inside(stream: IO[bytes], package: str, endings: tuple[str, ...]) -> Iterator[str]:
    """What a package and the packages in it hold of files with these endings, by their addresses.

    ValueError if it is broken; a broken one in it is given by its own address.
    """
    for entry in entries(stream):
        url = address(entry.name, package)
        if entry.name.lower().endswith(endings):
            yield url
        elif is_package(url) and package.count(JOINT) < LEVELS:
            try:
                yield from list(inside(open_entry(stream, entry), url, endings))
            except ValueError:
                yield url
