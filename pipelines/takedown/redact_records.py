"""Erasing records from archives: each gives way to one that says nothing, of the same length."""

import os
import struct
import uuid
import zlib
from typing import IO

import fsspec

from pipelines.sources.archives.warc import records
from pipelines.takedown.redact_files import Affected, Place, copied, replaced

STORED = 65_535  # bytes of a stored block of deflate, RFC 1951 3.2.4


def doomed_records(place: Place, doomed: Affected) -> int:
    """How many records of an archive still hold what is to be erased."""
    with fsspec.open(place.folder.path(place.name), "rb") as source:
        return len(_doomed_spans(source, doomed))


def erase_records(place: Place, doomed: Affected) -> int:
    """Erase the records of an archive (gzip members) that are of doomed addresses; one of the same
    length stands in for each.
    """
    with fsspec.open(place.folder.path(place.name), "rb") as source:
        spans = _doomed_spans(source, doomed)
        if not spans:
            return 0
        source.seek(0)
        with replaced(place, doomed.forgotten) as file:
            position = 0
            for start, end in spans:
                copied(source, file, start - position)
                file.write(blank_record(end - start, f"{place.path}:{start}"))
                source.seek(end)
                position = end
            copied(source, file, None)
    return len(spans)


def _doomed_spans(source: IO[bytes], doomed: Affected) -> list[tuple[int, int]]:
    """(first byte, byte after the last) of the records to erase, in order."""
    starts = [
        (record.offset, bool(record.target) and doomed.address(record.target))
        for record in records(source, limit=0)
    ]
    ends = [start for start, _ in starts[1:]] + [source.seek(0, os.SEEK_END)]
    return [(start, end) for (start, gone), end in zip(starts, ends, strict=True) if gone]


def blank_record(size: int, name: str) -> bytes:
    """A gzip member of exactly so many bytes that holds a WARC record of spaces, so that what comes
    after it keeps its offset.
    """
    # a member has 18 bytes of its own (RFC 1952), a stored block 5
    blocks = -(-(size - 18) // (STORED + 5))
    length = size - 18 - 5 * blocks
    # the same again after a kill; the date says nothing, and must be there
    identity = uuid.uuid5(uuid.NAMESPACE_URL, name)
    full = (
        f"WARC-Record-ID: <urn:uuid:{identity}>\r\nWARC-Date: 1970-01-01T00:00:00Z\r\nContent-Type:"
        " text/plain\r\n"
    )
    for middle in (full, ""):  # the shortest records have no room for all that WARC asks for
        head = f"WARC/1.1\r\nWARC-Type: metadata\r\n{middle}Content-Length: "
        body = length - len(head) - 10 - 4 - 4
        if body >= 0:
            break
    assert body >= 0, f"no record is as short as {size} bytes"
    record = f"{head}{body:010d}\r\n\r\n".encode() + b" " * body + b"\r\n\r\n"
    pieces = [record[start : start + STORED] for start in range(0, len(record), STORED)]
    pieces += [b""] * (blocks - len(pieces))
    last = len(pieces) - 1
    deflated = b"".join(
        struct.pack("<BHH", i == last, len(one), len(one) ^ 0xFFFF) + one
        for i, one in enumerate(pieces)
    )
    member = (
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
        + deflated
        + struct.pack("<II", zlib.crc32(record), len(record) & 0xFFFFFFFF)
    )
    assert len(member) == size, "the record that stands in must be as long"
    return member
