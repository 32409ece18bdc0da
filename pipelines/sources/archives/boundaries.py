"""Where frames begin that begin a record: to read a part of an archive from the middle, and to go
on behind damage.
"""

import re
from typing import IO

import numpy as np
from backports import zstd
from zlib_ng import zlib_ng

from pipelines.sources.archives.frames import BROKEN, GZIP, LZ4, ZSTD, decoder_of, dictionary_of

STARTS = re.compile(rb"\nWARC/\d\.\d[ \t]*\r?\n")  # how a record begins in the midst of plain bytes
LINE = 32  # bytes; longer than what STARTS finds
MEMBER = GZIP + b"\x08"
WARC = b"WARC/"
STEP = 1 << 16  # bytes read at once
# bytes looked at: zstd gives nothing before a block of 128 KiB is there
HEAD = {MEMBER: 1024, ZSTD: 1 << 18, LZ4: 1 << 18}
RUN = 64  # members of a broken run that are looked at one by one
# bytes; a stored block of deflate holds at most 65,535, so no longer run of members can lie inside
# a record
CHAIN = 1 << 16


def next_boundary(file: IO[bytes], offset: int) -> tuple[int | None, list[int]]:
    """The first place at or after `offset` where reading can go on behind damage, if any; and the
    records passed over on the way.

    The damage is in the frame that begins just before `offset`, or in what should be one.
    """
    kind = _kind(file, max(offset - 1, 0)) or _kind(file, 0)
    passed_over: list[int] = []
    if kind == MEMBER:
        return (
            _behind_damage(file, offset, passed_over) or next_frame(file, offset, begins=b""),
            passed_over,
        )
    places = [
        next_frame(file, offset, one, dictionary_of(file)) for one in ([kind] if kind else HEAD)
    ]
    place = min((one for one in places if one is not None), default=None)
    if place is None and kind is None:
        place = _next_line(file, offset)
    return place, passed_over


def _behind_damage(file: IO[bytes], offset: int, passed_over: list[int]) -> int | None:
    """The next member that is not one of an archive within the damaged member; those that may be
    are passed over.

    A member within another lies in a stored block, whose length stands before it; where none
    reaches so far, it is no such member. Else the members that follow it tell, as at
    `first_boundary`.
    """
    place = next_frame(file, offset)
    while place is not None:
        run: list[int] = []
        if (
            not _may_lie_within(file, offset - 1, place)
            or (broken := _break(file, place, run)) is None
        ):
            return place
        for number, member in enumerate(run[1:RUN], 1):
            if not _may_lie_within(file, offset - 1, member):
                passed_over += run[:number]
                return member
        passed_over += run or [place]
        place = next_frame(file, max(broken, place + 1))
    return None


def _may_lie_within(file: IO[bytes], start: int, place: int) -> bool:
    """Whether a stored block that begins at or behind `start` may reach to a place (RFC 1951 3.2.4:
    its length, then the same inverted).
    """
    begin = max(start, place - CHAIN - 8)
    file.seek(begin)
    data = np.frombuffer(file.read(place - begin), np.uint8).astype(np.uint32)
    if len(data) < 5:
        return False
    length, inverted = data[1:-3] | data[2:-2] << 8, data[3:-1] | data[4:] << 8
    begins = np.arange(len(length)) + 5  # of what the block holds
    reaches = (
        (length ^ inverted == 0xFFFF) & (data[:-4] & 0xC0 == 0) & (begins + length > len(data))
    )
    return bool(reaches.any())


def _next_line(file: IO[bytes], offset: int) -> int | None:
    """Where a line of plain bytes begins a record."""
    offset = max(offset - 1, 0)
    while True:
        file.seek(offset)
        block = file.read(16 * STEP)
        if (found := STARTS.search(block)) is not None:
            return offset + found.start() + 1
        if len(block) <= LINE:
            return None
        offset += len(block) - LINE


def _kind(file: IO[bytes], offset: int) -> bytes | None:
    """How frames begin of the kind that is at a place."""
    file.seek(offset)
    head = file.read(4)
    if head[1:] == b"\x2a\x4d\x18":
        return ZSTD  # a dictionary
    return next((magic for magic in HEAD if head.startswith(magic)), None)


def next_frame(
    file: IO[bytes],
    offset: int,
    magic: bytes = MEMBER,
    dictionary: zstd.ZstdDict | None = None,
    begins: bytes = WARC,
) -> int | None:
    """The first place at or after `offset` where a frame begins that inflates to `begins`; None up
    to the end of the file.
    """
    while True:
        file.seek(offset)
        block = file.read(16 * STEP)
        place = block.find(magic)
        while place >= 0:
            if _inflates_to(file, offset + place, begins, magic, dictionary):
                return offset + place
            place = block.find(magic, place + 1)
        if len(block) < len(magic):
            return None
        offset += len(block) - len(magic) + 1


def _inflates_to(
    file: IO[bytes],
    offset: int,
    begins: bytes = WARC,
    magic: bytes = MEMBER,
    dictionary: zstd.ZstdDict | None = None,
) -> bool:
    file.seek(offset)
    head = file.read(HEAD[magic])
    made = decoder_of(magic, dictionary)
    assert made is not None
    try:
        return made().decompress(head, len(begins) or 1).startswith(begins)
    except BROKEN:
        return False


def first_boundary(
    file: IO[bytes], offset: int, passed_over: list[int] | None = None
) -> int | None:
    """The first place at or after `offset` where a record of a gzip-per-record archive begins; None
    if there is none.

    It depends on the file alone, so that whoever asks for the same offset cuts at the same place.
    What looks like a record but is data of another (an archive within the archive) is told by the
    records that follow it: their run breaks off within `CHAIN` bytes. So does a run before damage,
    whose records are therefore passed over; their places are put into the list.
    """
    if offset == 0:
        return 0
    place = next_frame(file, offset)
    while place is not None:
        run: list[int] = []
        broken = _break(file, place, run)
        if broken is None:
            return place
        if passed_over is not None:
            passed_over += run or [place]
        place = next_frame(file, max(broken, place + 1))
    return None


def _break(file: IO[bytes], place: int, run: list[int]) -> int | None:
    """Where records from a place on no longer follow one another without a gap; None if they do for
    `CHAIN` bytes or to the end.

    The places of those that do are put into `run`; a member without content is none, and no gap.
    """
    position = place
    while position - place < CHAIN:
        file.seek(position)
        if not file.read(1):
            return None
        empty = _is_empty(file, position)
        if not empty and not _inflates_to(file, position):
            return position
        end, whole = _followed(file, position, CHAIN)
        if end is None:
            return position
        if not whole:
            return None
        if not empty:
            run.append(position)
        position = end
    return None


def _is_empty(file: IO[bytes], offset: int) -> bool:
    """Whether a member begins and ends here without content."""
    file.seek(offset)
    head = file.read(64)
    inflater = zlib_ng.decompressobj(wbits=31)
    try:
        return inflater.decompress(head, 1) == b"" and inflater.eof
    except BROKEN:
        return False


def _followed(file: IO[bytes], offset: int, reach: int) -> tuple[int | None, bool]:
    """How far a member can be inflated, at most about `reach` bytes, and whether that is its end;
    (None, False) if it is broken.
    """
    file.seek(offset)
    inflater = zlib_ng.decompressobj(wbits=31)
    read = 0
    while not inflater.eof:
        data = inflater.unconsumed_tail
        if not data:
            data = b"" if read >= reach else file.read(STEP if read else 4096)
            read += len(data)
            if not data:
                return offset + read, False
        try:
            inflater.decompress(data, 16 * STEP)
        except BROKEN:
            return None, False
    return offset + read - len(inflater.unused_data), True
