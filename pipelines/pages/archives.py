"""Reading web archives: the HTTP responses of a WARC file, whole or damaged, from any fsspec URL."""

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from fastwarc.stream_io import BrotliReader, ZstdReader
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from pipelines.pages.members import first_boundary, member_end
from pipelines.pages.sources import opened

READ = (WarcRecordType.response, WarcRecordType.resource)
PAGE_BYTES = 16 * 1024 * 1024  # inflated; the largest of a million Common Crawl pages is cut at 1 MiB there, so this is ample
RECORD_BLOCK = 512 * 1024  # bytes of a remote archive asked for at once where a single record is read
HTML = frozenset({"text/html", "application/xhtml+xml"})
GZIP, LZ4, ZSTD = b"\x1f\x8b", b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"
ZSTD_DICTIONARY = b"\x5d\x2a\x4d\x18"  # a skippable frame
DAMAGE = (OSError, ValueError, EOFError)  # what fastwarc raises at a broken gzip member or header


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """One stored HTTP response, its body decoded; `cut` says that the body is not whole."""

    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    offset: int  # of the record in the archive, bytes
    captured_at: str  # ISO 8601, UTC
    cut: bool = False

    def header(self, name: str) -> str:
        """The first header of that name, empty if there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def media_type(self) -> str:
        return media_type(self.header("content-type"))


def media_type(content_type: str | None) -> str:
    """`text/html` of `Text/HTML; charset=utf-8`."""
    return (content_type or "").split(";", 1)[0].strip().lower()


T = TypeVar("T")
Wanted = Callable[[int, str], bool]  # by status and media type, before the body is read
Reader = Callable[[WarcRecord], tuple[T | None, bool]]  # what a record gives, and whether it was whole as far as it was read


def responses(
    url: str, counts: Counter[str], *, wanted: Wanted, limit: int = PAGE_BYTES, start: int = 0, end: int | None = None
) -> Iterator[Response]:
    """The wanted responses of an archive in their order, bodies inflated up to `limit` bytes; of those whose records lie in [start, end).

    Behind a damaged gzip member it goes on at the next one that holds a record, and counts `archive.corrupt_member`; where there is none,
    `archive.truncated`. ValueError if it is no WARC file at all. A file of gzip members alone can be read in ranges, cut anywhere:
    ranges that adjoin give each record once.
    """

    def read(record: WarcRecord) -> tuple[Response | None, bool]:
        return _response(record, counts, wanted, limit) if record.record_type in READ else (None, True)

    return walk(url, counts, read, start=start, end=end)


def walk(url: str, counts: Counter[str], read: Reader[T], *, start: int = 0, end: int | None = None) -> Iterator[T]:
    """What `read` makes of the records of an archive; how damage is passed over and ranges are cut is told at `responses`."""
    with opened(url) as stream:
        _require_warc(url, stream)
        position = first_boundary(stream, start)
        stop = None if end is None else first_boundary(stream, end)
        while position is not None and (stop is None or position < stop):
            damaged = yield from _undamaged(stream, position, stop, read)
            position = None if damaged is None else first_boundary(stream, damaged + 1)
            if damaged is not None:
                counts["archive.truncated" if position is None else "archive.corrupt_member"] += 1


def _undamaged(stream: IO[bytes], start: int, stop: int | None, read: Reader[T]) -> Generator[T, None, int | None]:
    """Records up to the first damage; gives back the place of the damaged record, or None when there was none."""
    records = _records(stream, start)
    last: int | None = None
    while True:
        try:
            record = next(records, None)
        except DAMAGE:  # in what follows the last record, or in its unread rest
            return start if last is None else member_end(stream, last) or last
        if record is None or (stop is not None and record.stream_pos >= stop):
            return None
        last = record.stream_pos
        found, whole = read(record)
        if found is not None:
            yield found
        if not whole:
            return last


def response_at(url: str, offset: int, *, limit: int) -> Response | None:
    """The response whose record begins at a byte of an archive; None if none can be read there."""
    with opened(url, RECORD_BLOCK) as stream:
        return response_of(stream, offset, limit=limit)


def response_of(stream: IO[bytes], offset: int = 0, *, limit: int = PAGE_BYTES) -> Response | None:
    """The response whose record begins at a byte of an open archive; None if none can be read there."""
    try:
        record = next(_records(stream, offset), None)
    except DAMAGE:
        return None
    if record is None or record.record_type not in READ:
        return None
    return _response(record, Counter(), lambda status, media: True, limit)[0]


def _records(stream: IO[bytes], start: int) -> ArchiveIterator:
    """All records from a byte on, their kinds too that nobody reads: the place of damage is known by the last record before it."""
    dictionary = _zstd_dictionary(stream) if start else None
    stream.seek(start)
    source = stream if dictionary is None else ZstdReader(stream, dictionary=dictionary)
    return ArchiveIterator(source, record_types=WarcRecordType.any_type, parse_http=False, quirks_mode=True, strict_mode=False)


def _zstd_dictionary(stream: IO[bytes]) -> bytes | None:
    """The dictionary at the start of a zstd archive that has one (IIPC, Zstandard compression for WARC files 1.0), inflated."""
    stream.seek(0)
    head = stream.read(8)
    if not head.startswith(ZSTD_DICTIONARY):
        return None
    data = stream.read(min(int.from_bytes(head[4:8], "little"), PAGE_BYTES))
    return _read(ZstdReader(io.BytesIO(data)), PAGE_BYTES) if data.startswith(ZSTD) else data


def _require_warc(url: str, stream: IO[bytes]) -> None:
    head = stream.read(64 * 1024)
    stream.seek(0)
    if not head:
        raise ValueError(f"{url} is empty, not a WARC file")
    if head.startswith((LZ4, ZSTD, ZSTD_DICTIONARY)):
        return
    start = _inflated_start(head) if head.startswith(GZIP) else head
    if start.lstrip().startswith(b"WARC/"):
        return
    kind = "an ARC file, the format before WARC; convert it with `warcio recompress`" if start.startswith(b"filedesc:") else "no WARC file"
    raise ValueError(f"{url} is {kind}: it begins with {start[:24]!r} instead of b'WARC/'")


def _inflated_start(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 256)
    except zlib.error:
        return b""


def _response(record: WarcRecord, counts: Counter[str], wanted: Wanted, limit: int) -> tuple[Response | None, bool]:
    """The response of a record if it is wanted, and whether the record was whole as far as it was read."""
    headers, status = _http(record, counts)
    if status is None:
        return None, True
    content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    if not wanted(status, media_type(content_type)):
        return None, True
    try:
        raw = record.reader.read(limit + 1)
    except DAMAGE:
        return None, False
    short = len(raw) < min(record.content_length, limit + 1)
    body = decoded(raw[:limit], headers, limit)
    response = Response(
        url=_target(record),
        status=status,
        headers=headers,
        body=body,
        offset=record.stream_pos,
        captured_at=_date(record),
        cut=short or len(raw) > limit or len(body) >= limit,
    )
    return response, not short


def _http(record: WarcRecord, counts: Counter[str]) -> tuple[tuple[tuple[str, str], ...], int | None]:
    """HTTP headers and status of a record; a resource record has its content type and counts as found."""
    if record.record_type == WarcRecordType.resource:
        return (("Content-Type", record.headers.get("Content-Type", "") or ""),), 200
    try:
        record.parse_http(quirks_mode=True, strict_mode=False)
    except DAMAGE:
        counts["archive.no_http"] += 1
        return (), None
    if record.http_headers is None or record.http_headers.status_code is None:
        counts["archive.no_http"] += 1
        return (), None
    return tuple((str(name), str(value)) for name, value in record.http_headers.items()), int(record.http_headers.status_code)


def _target(record: WarcRecord) -> str:
    """The address of a record; some writers put it between < and >."""
    return (record.headers.get("WARC-Target-URI", "") or "").strip().strip("<>")


def _date(record: WarcRecord) -> str:
    return (record.headers.get("WARC-Date", "") or "").strip()


def is_html(media: str, body: bytes) -> bool:
    """Whether a response is a page; without a content type, whether it begins like one."""
    return media in HTML or (not media and body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"))


def decoded(body: bytes, headers: tuple[tuple[str, str], ...], limit: int) -> bytes:
    """A body without its transfer and content encodings, at most `limit` bytes; as it is where it does not have them after all."""
    named = {name.lower(): value.lower() for name, value in headers}
    if "chunked" in named.get("transfer-encoding", ""):
        body = _unchunked(body)
    for coding in reversed([coding.strip() for coding in named.get("content-encoding", "").split(",")]):
        body = _inflated(body, coding, limit)
    return body[:limit]


def _unchunked(body: bytes) -> bytes:
    """The data of a chunked body; many archives keep the header and not the chunks, so a body that is not chunked stays."""
    chunks: list[bytes] = []
    position = 0
    while position < len(body):
        end = body.find(b"\r\n", position, position + 1024)
        try:
            size = int(body[position:end].split(b";", 1)[0], 16) if end > 0 else -1
        except ValueError:
            size = -1
        if size < 0:
            return body if not chunks else b"".join(chunks)
        if size == 0:
            break
        chunks.append(body[end + 2 : end + 2 + size])
        position = end + 2 + size + 2
    return b"".join(chunks)


def _inflated(body: bytes, coding: str, limit: int) -> bytes:
    """One content coding undone, as far as it goes; bounded, so that a bomb gives `limit` bytes."""
    try:
        if coding in ("gzip", "x-gzip"):
            return zlib.decompressobj(wbits=31).decompress(body, limit) if body.startswith(GZIP) else body
        if coding == "deflate":
            return _deflated(body, limit)
        if coding == "br":
            return _read(BrotliReader(io.BytesIO(body)), limit)
        if coding == "zstd":
            return _read(ZstdReader(io.BytesIO(body)), limit)
    except (zlib.error, gzip.BadGzipFile, OSError, ValueError, EOFError):
        return body
    return body


def _deflated(body: bytes, limit: int) -> bytes:
    """Deflate with or without the zlib header: servers send both."""
    try:
        return zlib.decompress(body) if len(body) < 1024 else zlib.decompressobj().decompress(body, limit)
    except zlib.error:
        return zlib.decompressobj(wbits=-15).decompress(body, limit)


def _read(reader: Any, limit: int) -> bytes:
    return bytes(reader.read(limit))
