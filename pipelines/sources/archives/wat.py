"""WAT files: the links that an archive's own extractor found in its pages, without the pages.

Of an image they hold src, alt and title alone: no srcset, no lazy-loading attribute, no figcaption,
no text around it (webarchive-commons, ExtractingParseObserver). Most links are no images, and
reading JSON costs more than finding it, so a record is cut at the links to images: they are kept as
they stand, to be read many at once, and of the rest only what is needed is read, the list of links
taken out. A record that is written otherwise than expected is read whole.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from pipelines.html.images_of_page import IMAGES
from pipelines.html.relative_urls import Base
from pipelines.permission.directives import TOKEN, page_outcome
from pipelines.sources.archives.responses import left_out, walk
from pipelines.sources.archives.warc import Record as WarcRecord

# inflated; a page of 16 MB that is nothing but links has about as much
RECORD_BYTES = 64 * 1024 * 1024
# whatever names an image; with what follows the path where that comes first and no brace comes
# before the last quote
IMAGE = re.compile(rb'IMG@(?:(?<=\{"path":"IMG@)/src",([^}]+)"\})?')
LINKS, NONE = b'"Links":[', b"]"
SRC = "IMG@/src"
LANGUAGE = "HTML@/lang"
PLACES = 4  # looked at as the end of the list of links before the whole record is read
# headers and meta elements that page_outcome reads
NAMES = frozenset(
    {"robots", "x-robots-tag", "tdm-reservation", "content-usage", "content-signal", TOKEN}
)


class Meta(msgspec.Struct, gc=False):
    name: Any = None
    content: Any = None


class Head(msgspec.Struct, gc=False):
    base: Any = msgspec.field(name="Base", default=None)
    metas: list[Meta] = msgspec.field(name="Metas", default_factory=list)


class Html(msgspec.Struct, gc=False):
    head: Head = msgspec.field(name="Head", default_factory=Head)
    links: list[Any] = msgspec.field(name="Links", default_factory=list)


class Message(msgspec.Struct, gc=False):
    status: Any = msgspec.field(name="Status", default="200")


class Answer(msgspec.Struct, gc=False):
    message: Message = msgspec.field(name="Response-Message", default_factory=Message)
    headers: dict[str, Any] = msgspec.field(name="Headers", default_factory=dict)
    html: Html | None = msgspec.field(name="HTML-Metadata", default=None)


class Payload(msgspec.Struct, gc=False):
    answer: Answer | None = msgspec.field(name="HTTP-Response-Metadata", default=None)


class Warc(msgspec.Struct, gc=False):
    url: str = msgspec.field(name="WARC-Target-URI", default="")
    date: str = msgspec.field(name="WARC-Date", default="")


class Envelope(msgspec.Struct, gc=False):
    payload: Payload = msgspec.field(name="Payload-Metadata", default_factory=Payload)
    warc: Warc = msgspec.field(name="WARC-Header-Metadata", default_factory=Warc)


class Wat(msgspec.Struct, gc=False):
    """What is read of a record."""

    envelope: Envelope = msgspec.field(name="Envelope", default_factory=Envelope)


# with its links to images: JSON objects of texts without the brace before and quote and brace
# behind
Record = tuple[Wat, list[bytes]]
decode = msgspec.json.Decoder(Wat).decode


class WatPage(NamedTuple):
    """A page as a WAT record tells of it, its links to images not read yet (see Record); `base` is
    what they are joined to.
    """

    url: str
    captured_at: str
    offset: int  # of the WAT record, bytes
    language: str | None
    permission: str | None
    base: Base
    links: list[bytes]


def pages_of(
    url: str, counts: Counter[str], *, start: int = 0, end: int | None = None
) -> Iterator[WatPage]:
    """The pages of a WAT file with their links to images.

    ValueError if it is no WARC file; damage and ranges are as `responses` has them.
    """
    return walk(
        url,
        counts,
        lambda record: _page_of(record, counts),
        limit=RECORD_BYTES,
        start=start,
        end=end,
    )


def _page_of(record: WarcRecord, counts: Counter[str]) -> WatPage | None:
    """The page that a record tells of; what tells of none is counted."""
    if record.kind != "metadata":
        left_out(record, counts)
        return None
    if record.length > RECORD_BYTES:
        counts["archive.large_record"] += 1
        return None
    data = record.content
    if b"HTML-" not in data and data[:1] == b"{":
        counts["skipped.no_page"] += 1  # of a request, or of an answer that was no page
        return None
    found = cut_record(data) or whole_record(data)
    if found is None:
        counts["archive.bad_json"] += 1
        return None
    return page_of(*found, record.offset, counts)


def cut_record(data: bytes) -> Record | None:
    """A record and its links to images by cutting it there; None where it is written otherwise than
    expected.

    A link is taken to end at its first brace, if that stands behind a quote that is neither escaped
    nor opens a value.
    """
    start = data.find(LINKS) + len(LINKS)
    if start < len(LINKS):
        return None
    links = IMAGE.findall(data, start)
    ends = b"\n".join([*links, b""])
    if b"" in links or b"{" in ends or b"\\\n" in ends or b'":\n' in ends:
        return None
    rest = _without_links(data, start, data.rfind(links[-1]) if links else start)
    return None if rest is None else (rest, links)


def _without_links(data: bytes, start: int, behind: int) -> Wat | None:
    """A record without its links, which begin at `start` and end somewhere behind `behind`; a wrong
    cut is no JSON.
    """
    for _ in range(PLACES):
        behind = start if data[start : start + 1] == NONE else data.find(b"}]", behind) + 1
        if behind <= 0:
            return None
        try:
            found = decode(data[:start] + data[behind:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            behind += 1
            continue
        html = found.envelope.payload.answer and found.envelope.payload.answer.html
        return found if html and not html.links else None
    return None


def whole_record(data: bytes) -> Record | None:
    """A record and its links to images (their url, alt and title where these are texts) from all of
    its JSON; None if it is no object.
    """
    root = loaded(data)
    if not isinstance(root, dict):
        return None
    envelope = _at(root, "Envelope")
    answer = _at(envelope, "Payload-Metadata", "HTTP-Response-Metadata")
    html, warc = _at(answer, "HTML-Metadata"), _at(envelope, "WARC-Header-Metadata")
    head = _at(html, "Head")
    metas = [
        Meta(name=meta.get("name"), content=meta.get("content"))
        for meta in _list(head.get("Metas"))
        if isinstance(meta, dict)
    ]
    read = Answer(
        message=Message(status=_at(answer, "Response-Message").get("Status", "200")),
        headers=_at(answer, "Headers"),
        html=Html(head=Head(base=head.get("Base"), metas=metas)) if html else None,
    )
    wat = Wat(
        envelope=Envelope(
            payload=Payload(answer=read),
            warc=Warc(
                url=str(warc.get("WARC-Target-URI", "")), date=str(warc.get("WARC-Date", ""))
            ),
        )
    )
    links = [
        link
        for link in _list(html.get("Links"))
        if isinstance(link, dict) and link.get("path") == SRC
    ]
    return wat, [written(link) for link in links]


def written(link: dict[str, Any]) -> bytes:
    """A link as `Record` has it: those of its address, alt and title that are texts."""
    texts = {name: link[name] for name in ("alt", "title") if isinstance(link.get(name), str)}
    return msgspec.json.encode(
        {"url": link["url"] if isinstance(link.get("url"), str) else "", **texts}
    )[1:-2]


def loaded(data: bytes) -> Any:
    """A JSON value; lone surrogates and wrong UTF-8 replaced; None if it is no JSON."""
    try:
        return msgspec.json.decode(
            json.dumps(json.loads(data.decode("utf-8", "replace")), ensure_ascii=False).encode(
                "utf-8", "replace"
            )
        )
    except (ValueError, RecursionError):
        return None


def _at(value: Any, *path: str) -> dict[str, Any]:
    """What lies at a path of a JSON value if it is an object, else an empty one."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def page_of(wat: Wat, links: list[bytes], offset: int, counts: Counter[str]) -> WatPage | None:
    """The page of a record; None if it is none, or not one that was found."""
    answer, warc = wat.envelope.payload.answer, wat.envelope.warc
    if answer is None or answer.html is None:
        counts["skipped.no_page"] += 1
        return None
    if str(answer.message.status) != "200":
        counts["skipped.status"] += 1
        return None
    counts["pages"] += 1
    head = answer.html.head
    url = warc.url.strip().strip("<>")
    language, metas = _metas(head.metas)
    headers = [
        (name, str(one))
        for name, value in answer.headers.items()
        if name.lower() in NAMES
        for one in _list(value)
    ]
    page = Base(url)
    return WatPage(
        url=url,
        captured_at=warc.date,
        offset=offset,
        language=language,
        permission=_permission(tuple(headers), tuple(metas)) if headers or metas else None,
        base=(
            Base(page.join(head.base) or url) if isinstance(head.base, str) and head.base else page
        ),
        links=links[:IMAGES],
    )


def _metas(metas: Iterable[Meta]) -> tuple[str | None, list[tuple[str, str]]]:
    """The language of a page and what its meta elements may say of permission."""
    language, said = None, []
    for meta in metas:
        if not isinstance(name := meta.name, str):
            continue
        if name == LANGUAGE and language is None:
            language = str(meta.content or "").strip()[:64] or None
        elif name.lower().strip() in NAMES:
            said.append((name, str(meta.content or "")))
    return language, said


# most pages that say something of permission say the same few things
_permission = functools.lru_cache(maxsize=4096)(page_outcome)
