"""What earlier crawls hold: found by address for a resumed or repeated crawl, and read again where a page did not change.

A page that answers 304 is stored as a revisit record (WARC 1.1, 6.7.3). Beside the address and date that it refers to, it names the
archive, relative to its own, and the offset, so that the earlier body is read with one seek. A collection takes the candidates of such
a page from there: without them a repeated crawl would have a hole wherever nothing changed.
"""

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from fastwarc.warc import WarcRecord, WarcRecordType

from pipelines.pages.archives import DAMAGE, PAGE_BYTES, Response, response_at, walk

FILENAME, OFFSET = "WARC-Refers-To-Filename", "WARC-Refers-To-File-Offset"
VALIDATORS = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
# what a 304 does not say anew (RFC 9111 3.2): the form of a body that it has not, and its own transfer
OF_THE_BODY = frozenset({"content-type", "content-length", "content-encoding", "content-range", "transfer-encoding", "connection"})
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """Where an archive holds a response: the record that has its body, and when and with which validators it came."""

    url: str
    path: str
    offset: int
    captured_at: str  # of the body, ISO 8601
    date: str  # of the record found
    status: int
    headers: Headers  # the validators alone, or all of a revisit record
    record: int  # offset of the record found: the response's own, or that of a revisit record which refers to it
    not_modified: bool = False

    def conditions(self) -> Headers:
        """The request headers that ask only for what changed; none where the server gave no validator."""
        return tuple((VALIDATORS[name.lower()], value) for name, value in self.headers if name.lower() in VALIDATORS and value)

    def refers_to(self, folder: str) -> dict[str, str]:
        """The WARC headers of a revisit record in an archive of `folder` that refers to this response."""
        return {
            "WARC-Refers-To-Target-URI": self.url,
            "WARC-Refers-To-Date": self.captured_at,
            FILENAME: relative(self.path, folder),
            OFFSET: str(self.offset),
        }

    def response(self, limit: int = PAGE_BYTES) -> Response | None:
        """The response as it is now: the stored body, with the headers that came with a 304; None if it cannot be read any more."""
        try:
            found = response_at(self.path, self.offset, limit=limit)
        except ValueError:  # there is no such archive
            found = None
        if found is None or found.url != self.url:
            return None
        if not self.not_modified:
            return found
        return replace(found, headers=updated(found.headers, self.headers), captured_at=self.date, offset=self.record)


def updated(headers: Headers, newer: Headers) -> Headers:
    """Stored headers with those of a 304 in their place: what a page permits today counts."""
    names = {name.lower() for name, _ in newer} - OF_THE_BODY
    kept = tuple(pair for pair in headers if pair[0].lower() not in names)
    return (*kept, *(pair for pair in newer if pair[0].lower() in names))


def stored(path: str) -> Iterator[Stored]:
    """The responses and the revisits of an archive in their order."""

    def read(record: WarcRecord) -> tuple[Stored | None, bool]:
        return (_stored(path, record) if record.record_type in (WarcRecordType.response, WarcRecordType.revisit) else None), True

    return walk(path, Counter(), read)


def by_address(paths: Iterable[str]) -> dict[str, Stored]:
    """The last stored response of each address in some archives."""
    return {found.url: found for path in paths for found in stored(path)}


def unchanged(path: str, counts: Counter[str]) -> Iterator[tuple[Stored, Response]]:
    """The pages and images of a crawl's archive that did not change since the crawl before: where each lies, and the response.

    Counts `pages.not_modified`, or `archive.earlier_missing` where the earlier archive is gone or was cut by a take-down.
    """
    for found in stored(path):
        if found.not_modified:
            response = found.response()
            counts["archive.earlier_missing" if response is None else "pages.not_modified"] += 1
            if response is not None:
                yield found, response


def _stored(path: str, record: WarcRecord) -> Stored | None:
    try:
        record.parse_http(quirks_mode=True, strict_mode=False)
    except DAMAGE:  # headers of more than 64 KiB too, which a site may send
        return None
    if record.http_headers is None or record.http_headers.status_code is None:
        return None
    url, date = (record.headers.get("WARC-Target-URI") or "").strip("<> "), record.headers.get("WARC-Date") or ""
    headers = tuple((str(name), str(value)) for name, value in record.http_headers.items())
    if record.record_type == WarcRecordType.response:
        own = tuple(pair for pair in headers if pair[0].lower() in VALIDATORS)
        status, place = int(record.http_headers.status_code), record.stream_pos
        return Stored(url=url, path=path, offset=place, captured_at=date, date=date, status=status, headers=own, record=place)
    name, offset = record.headers.get(FILENAME), record.headers.get(OFFSET) or ""
    if not name or not offset.isdigit():
        return None
    return Stored(
        url=url,
        path=beside(path, name),
        offset=int(offset),
        captured_at=record.headers.get("WARC-Refers-To-Date") or "",
        date=date,
        status=200,
        headers=headers,
        record=record.stream_pos,
        not_modified=True,
    )


def relative(path: str, folder: str) -> str:
    """The way from a folder to an archive, if both lie in one store; else its whole address."""
    if path.partition("://")[:2] != folder.partition("://")[:2] and "://" in path + folder:
        return path
    return posixpath.relpath(path.rpartition("://")[2], folder.rpartition("://")[2])


def beside(archive: str, name: str) -> str:
    """The address of what an archive calls by a relative name."""
    if "://" in name or name.startswith("/"):
        return name
    scheme, mark, place = archive.rpartition("://")
    return f"{scheme}{mark}{posixpath.normpath(posixpath.join(posixpath.dirname(place), name))}"
