"""Reading web archives: the HTTP responses of a WARC file, whole or damaged, from any fsspec
URL.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TypeVar

from zlib_ng import zlib_ng

from pipelines.sources.archives.boundaries import first_boundary, next_boundary
from pipelines.sources.archives.content_codings import undone
from pipelines.sources.archives.frames import BROKEN, GZIP, decoder_of, first_record
from pipelines.sources.archives.media_types import HTML, is_html, media_type
from pipelines.sources.archives.warc import Record, records, unfolded
from pipelines.sources.paths import opened

__all__ = [
    "GZIP",
    "HTML",
    "PAGE_BYTES",
    "Response",
    "decoded",
    "is_html",
    "media_type",
    "response_at",
    "responses",
    "walk",
]

# inflated; the largest of a million Common Crawl pages is cut at 1 MiB there, so this is ample
PAGE_BYTES = 16 * 1024 * 1024
HTTP_BYTES = 256 * 1024  # of an HTTP header, as browsers take them
# bytes of a remote archive asked for at once where a single record is read
RECORD_BLOCK = 512 * 1024
REVISITS, REVISIT_BYTES = 50_000, 8192  # of a part that are kept to be resolved, and of one
READ = ("response", "resource")
KINDS = frozenset(
    {
        "warcinfo",
        "response",
        "resource",
        "request",
        "metadata",
        "revisit",
        "conversion",
        "continuation",
    }
)
STATUS = re.compile(rb"\s*HTTP/[0-9.]*[ \t]+([0-9]{3})(?![0-9])[^\n]*\n?", re.IGNORECASE)
HEAD_END = re.compile(rb"\r?\n\r?\n")
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """One stored HTTP response, its body decoded; `cut` says that the body is not whole."""

    url: str
    status: int
    headers: Headers
    body: bytes
    offset: int  # of the record in the archive, bytes
    captured_at: str  # ISO 8601, UTC
    cut: bool = False

    def header(self, name: str) -> str:
        """The first header of that name, empty if there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def media_type(self) -> str:
        return media_type_of(self.headers)


def media_type_of(headers: Headers) -> str:
    """The media type that the lines of a header name together."""
    return media_type(", ".join(value for name, value in headers if name.lower() == "content-type"))


T = TypeVar("T")
Wanted = Callable[[int, str], bool]  # by status and media type, before the body is decoded
Reader = Callable[[Record], T | None]  # what a record gives


def responses(
    url: str,
    counts: Counter[str],
    *,
    wanted: Wanted,
    limit: int = PAGE_BYTES,
    start: int = 0,
    end: int | None = None,
    revisits: list[Record] | None = None,
) -> Iterator[Response]:
    """The wanted responses of an archive in their order, bodies inflated up to `limit` bytes; of
    those whose records lie in [start, end).

    Behind damage it goes on at the next member or line that begins a record; what is lost is
    counted (see `walk`). ValueError if it is no WARC file at all. A file of gzip members alone can
    be read in ranges, cut anywhere: ranges that adjoin give each record once. Records that refer to
    others for their bodies go into `revisits`, if it is given, which is not to grow beyond
    `REVISITS`.
    """

    def read(record: Record) -> Response | None:
        if record.kind in READ:
            return response(record, counts, wanted, limit)
        small = len(record.content) + sum(map(len, record.fields.values())) <= REVISIT_BYTES
        if record.kind == "revisit" and revisits is not None and len(revisits) < REVISITS and small:
            revisits.append(record)
        else:
            left_out(record, counts)
        return None

    return walk(url, counts, read, limit=limit + HTTP_BYTES, start=start, end=end)


def left_out(record: Record, counts: Counter[str]) -> None:
    """Count a record that is none of those that are read."""
    counts[f"record.{record.kind if record.kind in KINDS else 'unknown'}"] += 1


def walk(
    url: str,
    counts: Counter[str],
    read: Reader[T],
    *,
    limit: int,
    start: int = 0,
    end: int | None = None,
) -> Iterator[T]:
    """What `read` makes of the records of an archive, of whose blocks `limit` bytes are kept;
    ranges are told of at `responses`.

    Counts `records`, the places where one is lost among them, and for each of these why
    (`archive.corrupt_member`, …): what it gives to `read`, that counts. Beside that it counts what
    ends early (`archive.truncated`) or has another length than it says.
    """
    with opened(url) as stream:
        _require_warc(url, stream)
        begin = first_boundary(stream, start)
        if begin is None:
            return
        for record in records(
            stream, begin, None if end is None else first_boundary(stream, end), limit=limit
        ):
            counts["records"] += 1
            counts.update(record.notes)
            if record.lost:
                counts[record.lost] += 1
            elif (found := read(record)) is not None:
                yield found


def response_at(url: str, offset: int, *, limit: int, target: str = "") -> Response | None:
    """The response whose record begins at a byte of an archive; None if none can be read there."""
    with opened(url, RECORD_BLOCK) as stream:
        return response_of(stream, offset, limit=limit, target=target)


def response_of(
    stream: IO[bytes], offset: int = 0, *, limit: int = PAGE_BYTES, target: str = ""
) -> Response | None:
    """The response whose record begins at a byte of an open archive; None if none can be read
    there.

    Of several in one gzip member, that of the address `target`.
    """
    for record in records(stream, offset, offset + 1, limit=limit + HTTP_BYTES):
        if record.kind in READ and not record.lost and (not target or record.target == target):
            return response(record, Counter(), lambda status, media: True, limit)
        if not target:
            return None
    return None


def _require_warc(url: str, stream: IO[bytes]) -> None:
    head = stream.read(64 * 1024)
    if not head:
        raise ValueError(f"{url} is empty, not a WARC file")
    if decoder_of(head) is not None and not head.startswith(GZIP):
        return
    start = _inflated_start(head) if head.startswith(GZIP) else head
    # else its beginning alone is damaged
    if first_record(start).startswith(b"WARC/") or next_boundary(stream, 1)[0] is not None:
        return
    kind = (
        "an ARC file, the format before WARC; convert it with `warcio recompress`"
        if start.startswith(b"filedesc:")
        else "no WARC file"
    )
    raise ValueError(f"{url} is {kind}: it begins with {start[:24]!r} instead of b'WARC/'")


def _inflated_start(head: bytes) -> bytes:
    """How the first member begins that is not empty."""
    start = b""
    try:
        while not start and head.startswith(GZIP):
            member = zlib_ng.decompressobj(wbits=31)
            start, head = member.decompress(head, 256), member.unused_data
    except BROKEN:
        return b""
    return start


def response(record: Record, counts: Counter[str], wanted: Wanted, limit: int) -> Response | None:
    """The response of a record if it is wanted; what it counts is `archive.no_http`."""
    headers, status, begin = http_of(record)
    if status is None:
        counts["archive.no_http"] += 1
        return None
    if not wanted(status, media_type_of(headers)):
        return None
    raw = record.content[begin : begin + limit]
    body = decoded(raw, headers, limit)
    return Response(
        url=record.target,
        status=status,
        headers=headers,
        body=body,
        offset=record.offset,
        captured_at=record.date,
        cut=record.cut or record.length - begin > limit or len(body) >= limit,
    )


def http_of(record: Record) -> tuple[Headers, int | None, int]:
    """HTTP headers and status of a record, and where its body begins; a resource record has its
    content type and counts as found.
    """
    if record.kind == "resource":
        return (("Content-Type", record.fields.get("content-type", "")),), 200, 0
    content, begin = record.content, 0
    while (line := STATUS.match(content, begin)) is not None:
        end = HEAD_END.search(content, line.start(1), line.start(1) + HTTP_BYTES)
        if end is None and len(content) - line.start(1) > HTTP_BYTES:
            break
        status, behind = int(line[1]), len(content) if end is None else end.end()
        if status >= 200 or not STATUS.match(content, behind):
            return _headers(content[line.end() : behind]), status, behind
        begin = behind  # 100 Continue and its like come before the answer
    return (), None, 0


def _headers(block: bytes) -> Headers:
    fields = [line.partition(":") for line in unfolded(block.decode("latin-1"))]
    return tuple([(name.strip(), value.strip()) for name, colon, value in fields if colon])


def decoded(body: bytes, headers: Headers, limit: int) -> bytes:
    """A body without its transfer and content codings, at most `limit` bytes; as it is where it
    does not have them after all.
    """
    return undone(
        body, _codings(headers, "transfer-encoding"), _codings(headers, "content-encoding"), limit
    )


def _codings(headers: Headers, name: str) -> list[str]:
    """The codings that the lines of a header name together (RFC 9110 5.3)."""
    lines = (value for key, value in headers if key.lower() == name)
    return [coding for line in lines for one in line.split(",") if (coding := one.strip().lower())]
