"""Files of compressed frames: members of gzip, frames of zstd and LZ4, or plain bytes, which are
one frame without end.

Every decoder is asked for a bounded piece at a time, so that a bomb costs no memory, and damage is
an exception of its own.
"""

from collections import deque
from collections.abc import Callable
from typing import IO, NamedTuple, Protocol, cast

from backports import zstd
from lz4.frame import LZ4FrameDecompressor
from zlib_ng import zlib_ng

PULL = 1 << 15  # bytes of the file read at once: what is left of them is copied for every frame
PIECE = 1 << 18  # inflated bytes asked for at once; so much of a frame may be lost before damage
GZIP = b"\x1f\x8b"
ZSTD, LZ4 = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
ZSTD_DICTIONARY = b"\x5d\x2a\x4d\x18"  # a skippable frame (IIPC, Zstandard for WARC files 1.0)
DICTIONARY_BYTES = 16 * 1024 * 1024  # those in use have 110 KB to 1 MB
BLANKS = b"\r\n \t\0"  # between records; tapes and disks are padded with zeros
MARK = b"\xef\xbb\xbf"  # of UTF-8, which editors and scripts on Windows put before a file
BOMB_BYTES, BOMB_RATIO = 1 << 28, 200  # a frame beyond both is given up; text has 3 to 20 times
# what the decoders raise at bytes that are not theirs; lz4 has no kind of its own
BROKEN: tuple[type[Exception], ...] = (
    cast(type[Exception], zlib_ng.error),
    zstd.ZstdError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
)


class Damaged(Exception):
    """A frame that cannot be inflated."""


class Foreign(Damaged):
    """Bytes where a frame should begin that are none."""


class Cut(Exception):
    """The file ends within a frame."""


class Decoder(Protocol):
    """Of one frame: what the later decoders of the standard library have."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Inflater:
    """A decoder of deflate (`wbits` as zlib has it) that keeps what it could not take yet."""

    def __init__(self, wbits: int = 31) -> None:
        self._inner = zlib_ng.decompressobj(wbits=wbits)
        self._stopped = False  # at max_length: more may come without more input

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._stopped and not self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if tail := self._inner.unconsumed_tail:
            data = tail + data

        made = self._inner.decompress(data, max_length)
        self._stopped = len(made) == max_length
        return made


class Plain:
    """The decoder of what is not compressed: a frame that ends with the file."""

    eof, needs_input, unused_data = False, True, b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return data


def decoder_of(
    head: bytes, dictionary: zstd.ZstdDict | None = None
) -> Callable[[], Decoder] | None:
    """What makes a decoder for a frame that begins so; None if nothing known does."""
    if head.startswith(GZIP):
        return Inflater

    skippable = head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50  # gives nothing
    if head.startswith(ZSTD) or skippable:
        return lambda: zstd.ZstdDecompressor(zstd_dict=dictionary)

    return LZ4FrameDecompressor if head.startswith(LZ4) else None


def dictionary_of(stream: IO[bytes]) -> zstd.ZstdDict | None:
    """The dictionary at the start of a zstd archive, itself compressed or not, if it has one.

    ValueError if what is there is none.
    """
    stream.seek(0)
    head = stream.read(8)
    if not head.startswith(ZSTD_DICTIONARY):
        return None

    data = stream.read(min(int.from_bytes(head[4:8], "little"), DICTIONARY_BYTES))
    try:
        if data.startswith(ZSTD):
            data = zstd.ZstdDecompressor().decompress(data, DICTIONARY_BYTES)
        return zstd.ZstdDict(data)
    except BROKEN as error:
        raise ValueError(f"the dictionary of a zstd archive cannot be read: {error}") from error


def first_record(data: bytes) -> bytes:
    """The beginning of an archive, blanks and a mark of UTF-8 aside."""
    return data.removeprefix(MARK).lstrip(BLANKS)


class Frames:
    """A window on the inflated bytes of a file, which grows frame by frame and forgets what was
    taken.

    `data[at:]` is there; `more` brings more of the current frame, `begin` the next one behind it.
    Neither goes into another frame unasked. What was raised once is raised again, till `forgive`.
    """

    def __init__(
        self, stream: IO[bytes], start: int = 0, dictionary: zstd.ZstdDict | None = None
    ) -> None:
        self._stream, self._dictionary = stream, dictionary
        self._frame: Decoder | None = None
        self.goto(start)

    def goto(self, place: int, *, plain: bool = False) -> None:
        """Go on at a byte of the file: where a frame begins, or in the midst of plain bytes."""
        self.data: bytes | bytearray = b""
        self.at = self._dropped = 0  # bytes before data[0]
        self._stream.seek(place)
        self._raw, self._behind = b"", place  # what was read and not inflated, and where it ends
        self._begin_frame(Plain() if plain else None)
        self._fault: Damaged | Cut | None = None
        self._marks = deque([_Mark(0, place, plain)])

    @property
    def left(self) -> int:
        """Bytes that are there and not taken."""
        return len(self.data) - self.at

    @property
    def offset(self) -> int:
        """Where in the file the frame begins that the next byte is of; in plain bytes, that
        byte.
        """
        mark = self._here()
        return mark.start + (self._dropped + self.at - mark.inflated if mark.plain else 0)

    @property
    def last(self) -> int:
        """Where in the file the last frame begins that was begun."""
        return self._marks[-1].start

    @property
    def at_start(self) -> bool:
        """Whether the next byte is the first of its frame."""
        return self._here().inflated == self._dropped + self.at

    @property
    def plain(self) -> bool:
        """Whether the next byte was never compressed."""
        return self._here().plain

    def _here(self) -> "_Mark":
        """The frame that the next byte is of."""
        place = self._dropped + self.at
        while len(self._marks) > 1 and self._marks[1].inflated <= place:
            self._marks.popleft()
        return self._marks[0]

    def size(self) -> int:
        """Bytes of the file."""
        size = self._stream.seek(0, 2)
        self._stream.seek(self._behind)
        return size

    def begin(self) -> bool:
        """Begin the next frame; False at the end of the file, Foreign where what follows is
        none.
        """
        if self._fault is not None:
            raise self._fault
        if len(self._raw) < 4:
            self._raw += self._pull()
        if not self._raw:
            return False

        start = self._behind - len(self._raw)
        made = decoder_of(self._raw[:4], self._dictionary)
        foreign = made is None and not first_record(self._raw).startswith(b"WARC")
        if not self.left:
            self._forget()
        self._marks.append(_Mark(self._dropped + len(self.data), start, made is None))
        if foreign:
            raise self._failed(Foreign("bytes that are no frame"))

        self._begin_frame((made or Plain)())
        return True

    def more(self) -> bool:
        """Some more of the current frame; False when it is over.

        Cut where the file ends before it, Damaged where it is broken.
        """
        if self._fault is not None:
            raise self._fault

        while (frame := self._frame) is not None:
            if not self._raw and frame.needs_input and not self._fill(frame):
                return False

            fed, self._raw = (self._raw, b"") if frame.needs_input else (b"", self._raw)
            try:
                made = frame.decompress(fed, PIECE)
            except BROKEN as error:
                raise self._failed(Damaged(str(error))) from error

            if frame.eof:
                self._frame, self._raw = None, frame.unused_data or b""
            if self._grown(len(fed), len(made)):
                raise self._failed(Damaged("a bomb"))
            if made:
                self._add(made)
                return True
        return False

    def _add(self, made: bytes) -> None:
        """Put bytes behind those that are there; most records come in one piece, which is not
        copied.
        """
        if not self.left:
            self._forget()
            self.data = made
            return
        if isinstance(self.data, bytes):
            self.data = bytearray(self.data)
        self.data += made

    def forgive(self) -> None:
        """Go on with what is there, and behind what was raised."""
        self._fault = None

    def take(self, size: int) -> bytes:
        """The next bytes, which must be there."""
        taken = bytes(memoryview(self.data)[self.at : self.at + size])
        self.skip(size)
        return taken

    def skip(self, size: int) -> None:
        """Leave out bytes that are there."""
        self.at += size
        if self.at >= PIECE:
            self._forget()

    def _begin_frame(self, frame: Decoder | None) -> None:
        self._frame = frame
        self._fed = self._made = 0  # bytes into the frame, and out of it

    def _grown(self, fed: int, made: int) -> bool:
        """Whether the frame has grown beyond what one may."""
        self._fed += fed
        self._made += made
        return self._made > BOMB_BYTES and self._made > BOMB_RATIO * self._fed

    def _fill(self, frame: Decoder) -> bool:
        """Read more of the file for the current frame; False where a plain one ends with it."""
        self._raw = self._pull()
        if self._raw:
            return True
        if not isinstance(frame, Plain):
            raise self._failed(Cut())
        self._frame = None
        return False

    def _failed(self, fault: Damaged | Cut) -> Damaged | Cut:
        self._frame, self._fault = None, fault
        return fault

    def _forget(self) -> None:
        """Drop what was taken."""
        self._dropped += self.at
        self.data = self.data[self.at :]
        self.at = 0

    def _pull(self) -> bytes:
        data = self._stream.read(PULL)
        self._behind += len(data)
        return data


class _Mark(NamedTuple):
    """Where a frame begins."""

    inflated: int  # counted from where reading began
    start: int  # byte of the file
    plain: bool
