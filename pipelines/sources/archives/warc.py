"""The records of a WARC file, in their order, however it is written and wherever it is damaged.

A reader of our own, as the quick ones lose records for a habit of writers: empty gzip members,
names of fields in any case, headers of a megabyte, wrong lengths. It goes by this: a record begins
with `WARC/` where a frame or a line begins; its block is as long as is announced if another record
or the end of its frame follows it; if not, it ends where one of these comes first.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from pipelines.sources.archives.boundaries import LINE, STARTS, next_boundary
from pipelines.sources.archives.frames import (
    BLANKS,
    MARK,
    Cut,
    Damaged,
    Foreign,
    Frames,
    decoder_of,
    dictionary_of,
)

HEADER_BYTES = 1024 * 1024  # Browsertrix keeps JSON there, others data: addresses
TAIL = 16  # bytes behind a block that are looked at: line ends, and how a record begins
UNKNOWN = 10**18  # length of a block that announces none
MAGIC = b"WARC/"
HEADER_END = re.compile(rb"\r?\n(?:\r?\n|(?=WARC/\d\.\d[ \t]*\r?\n))")
FOLDED = re.compile(r"\r?\n[ \t]+")
BLANK = re.compile(b"[%s]*" % BLANKS)
BEFORE = re.compile(b"(?:%s)?[%s]*" % (MARK, BLANKS))  # a record
SEPARATOR, LOOSE_SEPARATOR = b"\r\n\r\n", b"\n\n"
LENGTH = re.compile(r"[0-9]{1,18}")

# notes, beside what becomes of a record
TRUNCATED, WRONG_LENGTH = "archive.truncated", "archive.wrong_length"
# why there is no record
CORRUPT, NO_HEADER = "archive.corrupt_member", "archive.no_header"
GARBAGE, PASSED_OVER = "archive.trailing_garbage", "archive.passed_over"


@dataclass(kw_only=True, slots=True)
class Record:
    """A record, or a place where one is lost.

    `fields` have their names in small letters and the first value of several. `content` is the
    block up to a limit, of `length` bytes in all. `lost` names why there is no record.
    """

    offset: int  # byte of the file where its frame begins; in a plain file, its own first byte
    fields: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    length: int = 0
    cut: bool = False  # the block is not whole
    notes: list[str] = field(default_factory=list)
    lost: str = ""

    @property
    def kind(self) -> str:
        """The WARC-Type, in small letters."""
        return self.fields.get("warc-type", "").lower()

    @property
    def target(self) -> str:
        """The address; some writers put it between < and >."""
        return self.fields.get("warc-target-uri", "").strip("<> ")

    @property
    def date(self) -> str:
        return self.fields.get("warc-date", "")


def records(
    stream: IO[bytes], start: int = 0, stop: int | None = None, *, limit: int
) -> Iterator[Record]:
    """The records whose frames begin in [start, stop), and the places where some are lost.

    Damage costs the record in which it lies; reading goes on at the next frame that begins one.
    Of a block `limit` bytes are kept. ValueError for a zstd archive whose dictionary is broken.
    """
    frames = Frames(stream, start, dictionary_of(stream))
    while (record := _next(frames, limit)) is not None:
        if stop is not None and record.offset >= stop:
            return
        if record.lost not in (CORRUPT, GARBAGE):
            yield record
            continue

        place, passed_over = next_boundary(stream, frames.last + 1)
        record.lost = CORRUPT if place is not None else record.lost
        yield record
        for offset in passed_over:
            if stop is None or offset < stop:
                yield Record(offset=offset, lost=PASSED_OVER)
        if place is None:
            return
        frames.goto(place)


def _next(frames: Frames, limit: int) -> Record | None:
    """The next record, or the next place where there should be one; None at the end."""
    try:
        if not _reach(frames):
            return None
    except Cut:
        frames.forgive()
        return Record(offset=frames.last, lost=NO_HEADER, notes=[TRUNCATED])
    except Damaged as fault:
        lost = GARBAGE if isinstance(fault, Foreign) else CORRUPT
        return Record(offset=frames.last, lost=lost)

    if not frames.data.startswith(MAGIC, frames.at):
        return _no_record(frames, limit)
    return _record(frames, limit)


def _reach(frames: Frames) -> bool:
    """Come to where a record should begin; False at the end of the file."""
    while True:
        blank = BEFORE.match(frames.data, frames.at)
        assert blank is not None
        frames.skip(blank.end() - blank.start())
        if frames.left >= len(MAGIC):
            return True
        if not frames.more() and (frames.left or not frames.begin()):
            return frames.left > 0


def _no_record(frames: Frames, limit: int) -> Record | None:
    """What is no record; where frames follow plain bytes in one file, the first record of these."""
    offset = frames.offset
    if frames.plain and decoder_of(bytes(frames.data[frames.at : frames.at + 4])):
        frames.goto(offset)
        return _next(frames, limit)

    record = Record(offset=offset, lost=NO_HEADER)
    try:
        _resync(frames)
    except Cut:
        frames.forgive()
        frames.skip(frames.left)
        record.notes.append(TRUNCATED)
    except Damaged:
        frames.skip(frames.left)  # told of next
    return record


def _resync(frames: Frames) -> None:
    """Come to the next line that begins a record, or to the end of the frame."""
    while (start := STARTS.search(frames.data, frames.at)) is None:
        frames.skip(max(frames.left - LINE, 0))
        if not frames.more():
            frames.skip(frames.left)
            return
    frames.skip(start.start() + 1 - frames.at)


def _record(frames: Frames, limit: int) -> Record:
    """The record that begins here."""
    record = Record(offset=frames.offset)
    alone = frames.at_start and not frames.plain
    try:
        if _header(frames, record):
            _block(frames, record, limit, alone)
    except Cut:
        frames.forgive()
        _note(record, TRUNCATED)
        if not record.fields:
            record.lost = NO_HEADER
        elif not record.content:
            _keep(frames, record, min(frames.left, limit))
        record.cut = True
        frames.skip(frames.left)
    except Damaged:
        record.lost = CORRUPT
    return record


def _header(frames: Frames, record: Record) -> bool:
    """Read the fields; False where they have no end."""
    looked = 0
    while (end := HEADER_END.search(frames.data, frames.at + looked)) is None:
        record.lost = NO_HEADER
        if frames.left > HEADER_BYTES:
            frames.skip(len(MAGIC))
            _resync(frames)
            return False

        looked = max(frames.left - LINE, 0)
        if (room := _grow(frames)) is not None:
            if frames.plain:
                _note(record, TRUNCATED)
            frames.skip(room)
            return False

    whole = end[0].count(b"\n") == 2  # else another record begins
    block = frames.take(end.end() - frames.at)
    record.lost = "" if whole else NO_HEADER
    record.fields = fields_of(block) if whole else {}
    return whole


def unfolded(block: str) -> list[str]:
    """The lines of a header, each with those that continue it."""
    if "\n " in block or "\n\t" in block:
        block = FOLDED.sub(" ", block)
    return block.split("\n")


def fields_of(block: bytes) -> dict[str, str]:
    """The fields of a header block behind its first line, the first of each name."""
    found: dict[str, str] = {}
    for line in unfolded(block.decode("utf-8", "replace"))[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def _block(frames: Frames, record: Record, limit: int, alone: bool) -> None:
    """Read the block. `alone`: the record begins its frame, and has it most likely for itself."""
    length = _announced(record)
    if frames.plain and length > limit:
        length = _measured(frames, record, length)

    while frames.left < min(length, limit):
        if (room := _grow(frames)) is not None:
            _short(frames, record, room, alone)
            return

    if length == UNKNOWN and not alone:
        length = _start(frames, 0, limit) or length
    if length > limit:
        _keep(frames, record, limit)
        _drain(frames, record, length - limit)
    else:
        _measure_by_tail(frames, record, length, alone)


def _announced(record: Record) -> int:
    said = record.fields.get("content-length", "")
    if LENGTH.fullmatch(said):
        return int(said)
    _note(record, WRONG_LENGTH)
    return UNKNOWN


def _measured(frames: Frames, record: Record, length: int) -> int:
    """The length of a large block of a plain file: what is announced, if a record or the end
    follows.
    """
    start, size = frames.offset, frames.size()
    fits = start + length <= size
    if fits:
        frames.goto(start + length, plain=True)
        fits = _followed(frames, record, 0)
    if not fits:
        frames.goto(start, plain=True)
        _resync(frames)
        found = frames.left > 0
        _note(record, TRUNCATED if not found and start + length > size else WRONG_LENGTH)
        record.cut = True
        length = frames.offset - start if found else min(length, size - start)
    frames.goto(start, plain=True)
    return length


def _short(frames: Frames, record: Record, room: int, alone: bool) -> None:
    """A block that is longer than what there is."""
    start = None if alone else _start(frames, 0, room)
    _note(record, TRUNCATED if start is None and frames.plain else WRONG_LENGTH)
    record.cut = True
    _keep(frames, record, room if start is None else start)


def _drain(frames: Frames, record: Record, rest: int) -> None:
    """Leave out the rest of a large block."""
    record.length += rest
    if frames.plain:
        frames.goto(frames.offset + rest, plain=True)
        return

    while frames.left < rest:
        rest -= frames.left
        frames.skip(frames.left)
        if (room := _grow(frames)) is not None:
            _note(record, WRONG_LENGTH)
            frames.skip(room)
            record.length -= rest - room
            record.cut = True
            return
    frames.skip(rest)
    if not _followed(frames, record, 0):
        _resync_behind(frames, record)


def _measure_by_tail(frames: Frames, record: Record, length: int, alone: bool) -> None:
    """Take a block that is there, as long as is announced if what follows it says so too."""
    follows = _followed(frames, record, length)
    if not follows:
        start = _start(frames, length if alone else 0, frames.left)
        if start is not None and start < length:
            length, record.cut = start, True
    _keep(frames, record, length)
    if not follows:
        _resync_behind(frames, record)


def _followed(frames: Frames, record: Record, length: int) -> bool:
    """Whether a record, or the end of the frame, follows a block of that length."""
    try:
        while frames.left < length + TAIL and frames.more():
            pass
    except Cut:
        frames.forgive()
        _note(record, TRUNCATED)

    behind = bytes(frames.data[frames.at + length : frames.at + length + TAIL])
    blank = BLANK.match(behind)
    assert blank is not None
    rest = behind[blank.end() :]
    if rest and not MAGIC.startswith(rest[: len(MAGIC)]):
        return frames.plain and decoder_of(rest) is not None
    if len(blank[0]) < len(SEPARATOR) and blank[0] != LOOSE_SEPARATOR:
        _note(record, WRONG_LENGTH)
    return True


def _resync_behind(frames: Frames, record: Record) -> None:
    """Leave out what lies between a block of the wrong length and the next record."""
    _note(record, WRONG_LENGTH)
    _resync(frames)


def _start(frames: Frames, begin: int, end: int) -> int | None:
    """How long a block is that ends where a line between two places begins a record."""
    found = STARTS.search(frames.data, frames.at + begin, frames.at + end)
    if found is None:
        return None
    block = frames.data[max(found.start() - 3, frames.at) : found.start() + 1]
    return found.start() + 1 - frames.at - (len(block) - len(block.rstrip(b"\r\n")))


def _grow(frames: Frames) -> int | None:
    """More of a record, in the next frame too if it goes on there.

    Where it does not, how many of the bytes that are there are the record's.
    """
    if frames.more():
        return None

    there = frames.left
    try:
        while frames.left == there:
            if not frames.begin():
                return there
            while frames.left < there + len(MAGIC) and frames.more():
                pass
    except (Cut, Damaged):
        if frames.left == there:
            return there  # told of next
        raise
    return there if frames.data.startswith(MAGIC, frames.at + there) else None


def _keep(frames: Frames, record: Record, length: int) -> None:
    record.content = frames.take(length)
    record.length = length


def _note(record: Record, name: str) -> None:
    if name not in record.notes:
        record.notes.append(name)
