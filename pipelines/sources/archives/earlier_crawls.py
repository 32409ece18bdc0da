"""What earlier crawls hold: found by address for a resumed or repeated crawl, and read again where
a page did not change.

A page that answers 304 is stored as a revisit record (WARC 1.1, 6.7.3). Beside the address and date
that it refers to, it names the archive, relative to its own, and the offset, so that the earlier
body is read with one seek. A collection takes the candidates of such a page from there: without
them a repeated crawl would have a hole wherever nothing changed.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pipelines.sources.archives.responses import (
    HTTP_BYTES,
    PAGE_BYTES,
    Response,
    http_of,
    response_at,
    walk,
)
from pipelines.sources.archives.revisits import updated
from pipelines.sources.archives.warc import Record

FILENAME, OFFSET = "WARC-Refers-To-Filename", "WARC-Refers-To-File-Offset"
VALIDATORS = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
PLACE = re.compile(r"[0-9]{1,18}")  # a byte of a file
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """Where an archive holds a response: the record that has its body, and when and with which
    validators it came.
    """

    url: str
    path: str
    offset: int
    captured_at: str  # of the body, ISO 8601
    date: str  # of the record found
    status: int
    headers: Headers  # the validators alone, or all of a revisit record
    # offset of the record found: the response's own, or that of a revisit record which refers to it
    record: int
    not_modified: bool = False

    def conditions(self) -> Headers:
        """The request headers that ask only for what changed; none where the server gave no
        validator.
        """
        return tuple(
            (VALIDATORS[name.lower()], value)
            for name, value in self.headers
            if name.lower() in VALIDATORS and value
        )

    def refers_to(self, folder: str) -> dict[str, str]:
        """The WARC headers of a revisit record in an archive of `folder` that refers to this
        response.
        """
        return {
            "WARC-Refers-To-Target-URI": self.url,
            "WARC-Refers-To-Date": self.captured_at,
            FILENAME: relative(self.path, folder),
            OFFSET: str(self.offset),
        }

    def response(self, limit: int = PAGE_BYTES) -> Response | None:
        """The response as it is now: the stored body, with the headers that came with a 304; None
        if it cannot be read any more.
        """
        try:
            found = response_at(self.path, self.offset, limit=limit)
        except ValueError:  # there is no such archive
            found = None
        if found is None or found.url != self.url:
            return None
        if not self.not_modified:
            return found
        return replace(
            found,
            headers=updated(found.headers, self.headers),
            captured_at=self.date,
            offset=self.record,
        )


def stored(path: str) -> Iterator[Stored]:
    """The responses and the revisits of an archive in their order."""
    return walk(path, Counter(), lambda record: stored_in(path, record), limit=HTTP_BYTES)


def by_address(paths: Iterable[str]) -> dict[str, Stored]:
    """The last stored response of each address in some archives."""
    return {found.url: found for path in paths for found in stored(path)}


def unchanged(
    path: str, revisits: Iterable[Record], counts: Counter[str]
) -> Iterator[tuple[Stored, Response]]:
    """The pages and images of a crawl's archive that did not change since the crawl before: where
    each lies, and the response.

    Counts `pages.not_modified`, or `archive.earlier_missing` where the earlier archive is gone or
    was cut by a take-down.
    """
    for record in revisits:
        found = stored_in(path, record)
        response = found.response() if found is not None else None
        if found is None or response is None:
            counts["archive.earlier_missing"] += 1
            continue
        counts["pages.not_modified"] += 1
        yield found, response


def stored_in(path: str, record: Record) -> Stored | None:
    """What a response or a revisit of one of our own archives says of where its body lies."""
    headers, status, _ = (
        http_of(record) if record.kind in ("response", "revisit") else ((), None, 0)
    )
    if status is None:
        return None
    url, date = record.target, record.date
    if record.kind == "response":
        own = tuple(pair for pair in headers if pair[0].lower() in VALIDATORS)
        place = record.offset
        return Stored(
            url=url,
            path=path,
            offset=place,
            captured_at=date,
            date=date,
            status=status,
            headers=own,
            record=place,
        )
    name, offset = record.fields.get(FILENAME.lower()), record.fields.get(OFFSET.lower(), "")
    if not name or not PLACE.fullmatch(offset):
        return None
    return Stored(
        url=url,
        path=beside(path, name),
        offset=int(offset),
        captured_at=record.fields.get("warc-refers-to-date", ""),
        date=date,
        status=200,
        headers=headers,
        record=record.offset,
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
