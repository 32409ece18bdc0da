"""Where frames begin that begin a record: to read a part of an archive from the middle, and to go on behind damage."""

from typing import IO

from backports import zstd
from zlib_ng import zlib_ng

from pipelines.sources.frames import BROKEN, GZIP, LZ4, ZSTD, decoder_of, dictionary_of

MEMBER = GZIP + b"\x08"
WARC = b"WARC/"
STEP = 1 << 16  # bytes read at once
HEAD = {MEMBER: 1024, ZSTD: 1 << 18, LZ4: 1 << 18}  # bytes looked at: zstd gives nothing before a block of 128 KiB is there
CHAIN = 1 << 16  # bytes; a stored block of deflate holds at most 65,535, so no longer run of members can lie inside a record


def next_boundary(file: IO[bytes], offset: int) -> tuple[int | None, list[int]]:
    """The first place at or after `offset` where reading can go on behind damage, if any; and the records passed over on the way."""
    magic = _kind(file, max(offset - 1, 0)) or _kind(file, 0) or MEMBER
    if magic != MEMBER:
        return next_frame(file, offset, magic, dictionary_of(file)), []
    passed_over: list[int] = []
    return first_boundary(file, offset, passed_over), passed_over


def _kind(file: IO[bytes], offset: int) -> bytes | None:
    """How frames begin of the kind that is at a place."""
    file.seek(offset)
    head = file.read(4)
    if head[1:] == b"\x2a\x4d\x18":
        return ZSTD  # a dictionary
    return next((magic for magic in HEAD if head.startswith(magic)), None)


def next_frame(file: IO[bytes], offset: int, magic: bytes = MEMBER, dictionary: zstd.ZstdDict | None = None) -> int | None:
    """The first place at or after `offset` where a frame begins that inflates to `WARC/`; None up to the end of the file."""
    while True:
        file.seek(offset)
        block = file.read(16 * STEP)
        place = block.find(magic)
        while place >= 0:
            if _begins_record(file, offset + place, magic, dictionary):
                return offset + place
            place = block.find(magic, place + 1)
        if len(block) < len(magic):
            return None
        offset += len(block) - len(magic) + 1


def _begins_record(file: IO[bytes], offset: int, magic: bytes = MEMBER, dictionary: zstd.ZstdDict | None = None) -> bool:
    file.seek(offset)
    made = decoder_of(magic, dictionary)
    assert made is not None
    try:
        return made().decompress(file.read(HEAD[magic]), len(WARC)) == WARC
    except BROKEN:
        return False


def first_boundary(file: IO[bytes], offset: int, passed_over: list[int] | None = None) -> int | None:
    """The first place at or after `offset` where a record of a gzip-per-record archive begins; None if there is none.

    It depends on the file alone, so that whoever asks for the same offset cuts at the same place. What looks like a record but is
    data of another (an archive within the archive) is told by the records that follow it: their run breaks off within `CHAIN` bytes.
    So does a run before damage, whose records are therefore passed over; their places are put into the list.
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
    """Where records from a place on no longer follow one another without a gap; None if they do for `CHAIN` bytes or to the end.

    The places of those that do are put into `run`; a member without content is none, and no gap.
    """
    position = place
    while position - place < CHAIN:
        file.seek(position)
        if not file.read(1):
            return None
        empty = _is_empty(file, position)
        if not empty and not _begins_record(file, position):
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
    inflater = zlib_ng.decompressobj(wbits=31)
    try:
        return inflater.decompress(file.read(64), 1) == b"" and inflater.eof
    except zlib_ng.error:
        return False


def _followed(file: IO[bytes], offset: int, reach: int) -> tuple[int | None, bool]:
    """How far a member can be inflated, at most about `reach` bytes, and whether that is its end; (None, False) if it is broken."""
    file.seek(offset)
    inflater = zlib_ng.decompressobj(wbits=31)
    read = 0
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail
            if not data:
                data = b"" if read >= reach else file.read(STEP if read else 4096)
                read += len(data)
                if not data:
                    return offset + read, False
            inflater.decompress(data, 16 * STEP)
    except zlib_ng.error:
        return None, False
    return offset + read - len(inflater.unused_data), True
