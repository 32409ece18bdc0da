"""WAT files: the links that an archive's own extractor found in its pages, without the pages.

Of an image they hold src, alt and title alone: no srcset, no lazy-loading attribute, no figcaption, no text around it
(webarchive-commons, ExtractingParseObserver). Most links are no images, and reading JSON costs more than finding it, so a record is
cut at the links to images and only those that hold a text are read, with what is left of the record once its list of links is taken
out. A record that is written otherwise than expected is read whole.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from fastwarc.warc import WarcRecord, WarcRecordType

from pipelines.archives import DAMAGE, walk
from pipelines.directives import TOKEN, page_outcome
from pipelines.images_of_page import IMAGES
from pipelines.relative import Base

RECORD_BYTES = 64 * 1024 * 1024  # inflated; a page of 16 MB that is nothing but links has about as much
IMAGE, LINKS = b"IMG@", b'"Links":['
SRC = "IMG@/src"
LANGUAGE = "HTML@/lang"
PLACES = 4  # looked at as the end of the list of links before the whole record is read
PERMISSION = re.compile(rf"robots|tdm-|content-usage|content-signal|{TOKEN}", re.IGNORECASE)  # names of headers and meta elements
HTML = ("Envelope", "Payload-Metadata", "HTTP-Response-Metadata", "HTML-Metadata")

Link = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """What was read of a record: its JSON, with or without the links, how many images it links to, and (place, link) of them."""

    root: dict[str, Any]
    count: int
    images: list[tuple[int, Link]]


@dataclass(frozen=True, kw_only=True, slots=True)
class WatPage:
    """A page as a WAT record tells of it; `links` are (place, link) to images as they stand there, `base` what they are joined to."""

    url: str
    captured_at: str
    offset: int  # of the WAT record, bytes
    language: str | None
    permission: str | None
    base: Base
    count: int  # images, those without a text too
    links: list[tuple[int, Link]]


def pages_of(url: str, counts: Counter[str], *, textless: bool = False, start: int = 0, end: int | None = None) -> Iterator[WatPage]:
    """The pages of a WAT file with their links to images: those with alt or title, with `textless` all.

    ValueError if it is no WARC file; damage and ranges are as `responses` has them.
    """
    return walk(url, counts, lambda record: _page_of(record, counts, textless), start=start, end=end)


def _page_of(record: WarcRecord, counts: Counter[str], textless: bool) -> tuple[WatPage | None, bool]:
    if record.record_type != WarcRecordType.metadata:
        return None, True
    if record.content_length > RECORD_BYTES:
        counts["archive.large_record"] += 1
        return None, True
    try:
        data = record.reader.read()
    except DAMAGE:
        return None, False
    if len(data) < record.content_length:
        return None, False
    found = read_record(data, textless)
    if found is None:
        counts["archive.bad_json"] += 1
        return None, True
    return _page(found, record.stream_pos, counts) if found.root else None, True


def read_record(data: bytes, textless: bool = False) -> Links | None:
    """The links to images in a record of WAT; None if it is no JSON object."""
    if IMAGE not in data and b'"HTML-Metadata"' not in data and data[:1] == b"{":
        return Links(root={}, count=0, images=[])
    return cut_record(data, textless) or _whole(data, textless)


def _whole(data: bytes, textless: bool) -> Links | None:
    try:
        root = orjson.loads(data)
    except ValueError:
        try:  # lone surrogates, wrong UTF-8
            root = orjson.loads(json.dumps(json.loads(data.decode("utf-8", "replace")), ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    if not isinstance(root, dict):
        return None
    links = (link for link in _list(_at(root, *HTML).get("Links")) if isinstance(link, dict) and link.get("path") == SRC)
    every = list(enumerate(links))
    said = every if textless else [(place, link) for place, link in every if "alt" in link or "title" in link]
    return Links(root=root, count=len(every), images=said)


def cut_record(data: bytes, textless: bool = False) -> Links | None:
    """The same from the pieces between links to images; None where the record is written otherwise than expected."""
    before, *pieces = data.split(IMAGE)
    start = before.find(LINKS) + len(LINKS)
    if start < len(LINKS):
        return None
    objects, places, count, end = [], [], 0, 0
    for piece in pieces:
        if before[-9:] != b'{"path":"':
            return None
        before = piece
        if piece[:6] != b'/src",':
            end = 0
            if piece[:10] != b'/longdesc"':
                return None
            continue
        end = piece.find(b'"}')
        while end > 0 and (piece[end - 1] == 92 or piece[end - 2 : end] == b'":'):  # an escaped quote, or one that opens a value
            end = piece.find(b'"}', end + 1)
        if end < 0:
            return None
        link = piece[6:end]
        if textless or b'"alt":' in link or b'"title":' in link:
            objects.append(link)
            places.append(count)
        count += 1
    return _parsed(data, start, len(data) - len(before) + end if pieces else start, objects, places, count)


def _parsed(data: bytes, start: int, behind: int, objects: list[bytes], places: list[int], count: int) -> Links | None:
    """The objects cut out and the rest of the record, if they are sound.

    An object whose end was found too far (behind a value that ends in a backslash, or that is no string) holds another one and shows
    as one more; one whose end was found too near is no JSON.
    """
    try:
        links = orjson.loads(b'[{' + b'"},{'.join(objects) + b'"}]') if objects else []
    except ValueError:
        return None
    if len(links) != len(objects):
        return None
    root = _without_links(_lighter(data[:start]), data, start, behind) or _without_links(data[:start], data, start, behind)
    return None if root is None else Links(root=root, count=count, images=list(zip(places, links, strict=True)))


def _lighter(head: bytes) -> bytes:
    """The start of a record without the addresses of style sheets and scripts, which are most of what stands before the links."""
    for key in (b'"Link":[', b'"Scripts":['):
        begin = head.find(key)
        end = head.find(b"}]", begin) if begin >= 0 else -1
        if end > 0:
            head = head[: begin + len(key)] + head[end + 1 :]
    return head


def _without_links(head: bytes, data: bytes, start: int, place: int) -> dict[str, Any] | None:
    """The JSON of a record of which `head` is the start up to its links; they end at or somewhere behind `place`."""
    for _ in range(PLACES):
        place = start if data[start : start + 1] == b"]" else data.find(b"}]", place) + 1
        if place <= 0:
            return None
        try:
            root = orjson.loads(head + data[place:])
        except ValueError:
            place += 1
            continue
        return root if _at(root, *HTML).get("Links") == [] else None
    return None


def _at(value: Any, *path: str) -> dict[str, Any]:
    """What lies at a path of a JSON value if it is an object, else an empty one."""
    for name in path:
        value = value.get(name) if value.__class__ is dict else None
    return value if value.__class__ is dict else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _page(found: Links, offset: int, counts: Counter[str]) -> WatPage | None:
    envelope = _at(found.root, "Envelope")
    http = _at(envelope, *HTML[1:3])
    head = _at(http, "HTML-Metadata")
    if not head:
        return None
    if str(_at(http, "Response-Message").get("Status", "200")) != "200":
        counts["skipped.status"] += 1
        return None
    counts["pages"] += 1
    head = _at(head, "Head")
    warc = _at(envelope, "WARC-Header-Metadata")
    url = str(warc.get("WARC-Target-URI", "")).strip().strip("<>")
    page, base = Base(url), head.get("Base")
    metas = [(str(meta.get("name", "")), str(meta.get("content", ""))) for meta in _list(head.get("Metas")) if isinstance(meta, dict)]
    headers = [(name, str(one)) for name, value in _at(http, "Headers").items() if PERMISSION.search(name) for one in _list(value)]
    return WatPage(
        url=url,
        captured_at=str(warc.get("WARC-Date", "")),
        offset=offset,
        language=next((content.strip()[:64] or None for name, content in metas if name == LANGUAGE), None),
        permission=_permission(tuple(headers), tuple(meta for meta in metas if PERMISSION.search(meta[0]))),
        base=Base(page.join(base) or url) if isinstance(base, str) and base else page,
        count=min(found.count, IMAGES),
        links=found.images[:IMAGES],
    )


# most pages say nothing of permission, or the same few things
_permission = functools.lru_cache(maxsize=4096)(page_outcome)
