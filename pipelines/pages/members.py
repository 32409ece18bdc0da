"""Where the gzip members of an archive begin: to read a part of it from the middle, and to go on behind damage."""

import zlib
from typing import IO

MAGIC = b"\x1f\x8b\x08"
WARC = b"WARC/"
STEP = 1 << 16  # bytes read at once
CHAIN = 1 << 16  # bytes; a stored block of deflate holds at most 65,535, so no longer run of members can lie inside a record


def next_member(file: IO[bytes], offset: int) -> int | None:
    """The first place at or after `offset` where a gzip member begins that inflates to `WARC/`; None up to the end of the file."""
    while True:
        file.seek(offset)
        block = file.read(16 * STEP)
        place = block.find(MAGIC)
        while place >= 0:
            if _begins_record(file, offset + place):
                return offset + place
            place = block.find(MAGIC, place + 1)
        if len(block) < len(MAGIC):
            return None
        offset += len(block) - len(MAGIC) + 1


def _begins_record(file: IO[bytes], offset: int) -> bool:
    file.seek(offset)
    try:
        return zlib.decompressobj(wbits=31).decompress(file.read(1024), len(WARC)) == WARC
    except zlib.error:
        return False


def member_end(file: IO[bytes], offset: int) -> int | None:
    """Where the member that begins at `offset` ends; None if it is broken or cut off."""
    end, whole = _followed(file, offset)
    return end if whole else None


def _followed(file: IO[bytes], offset: int, reach: int | None = None) -> tuple[int | None, bool]:
    """How far a member can be inflated, at most about `reach` bytes, and whether that is its end; (None, False) if it is broken."""
    file.seek(offset)
    inflater = zlib.decompressobj(wbits=31)
    read = 0
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail
            if not data:
                data = b"" if reach is not None and read >= reach else file.read(STEP if read else 4096)
                read += len(data)
                if not data:
                    return offset + read, False
            inflater.decompress(data, 16 * STEP)
    except zlib.error:
        return None, False
    return offset + read - len(inflater.unused_data), True


def first_boundary(file: IO[bytes], offset: int) -> int | None:
    """The first place at or after `offset` where a record of a gzip-per-record archive begins; None if there is none.

    It depends on the file alone, so that whoever asks for the same offset cuts at the same place. What looks like a record but is
    data of another (an archive within the archive) is told by the records that follow it: their run breaks off within `CHAIN` bytes.
    So does a run before damage, whose records are therefore passed over.
    """
    if offset == 0:
        return 0
    place = next_member(file, offset)
    while place is not None and (broken := _break(file, place)) is not None:
        place = next_member(file, max(broken, place + 1))
    return place


def _break(file: IO[bytes], place: int) -> int | None:
    """Where records from a place on no longer follow one another without a gap; None if they do for `CHAIN` bytes or to the end."""
    position = place
    while position - place < CHAIN:
        if not _begins_record(file, position):
            file.seek(position)
            return position if file.read(1) else None
        end, whole = _followed(file, position, CHAIN)
        if end is None:
            return position
        if not whole:
            return None
        position = end
    return None
