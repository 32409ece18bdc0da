"""Sitemaps: the addresses that a site lists itself (sitemaps.org, protocol 0.9: 50,000 addresses
and 50 MiB a file, indexes, gzip).

They are searched for the elements that hold addresses and not parsed as XML: what sites write has a
bare `&` in every tenth address, text before the declaration, prefixes that nobody declared, and
often no end; and what is not parsed expands no entities.
"""

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from pipelines.html.charset import charset_of
from pipelines.html.charset import decoded as text_of
from pipelines.html.relative_urls import Base
from pipelines.permission.robots import wide
from pipelines.sources.archives.responses import GZIP, decoded
from pipelines.urls import ascii_address

SITEMAP_BYTES = 50 * 1024 * 1024  # inflated
ADDRESSES = 50_000  # of one file
MAX_FILES = 1_000  # of one crawl
MAX_DEPTH = 3  # indexes within indexes; the protocol allows one level
BEFORE_ROOT = 64 * 1024  # characters in which the root stands; a comment before it may be long

ROOT = re.compile(
    r"<((?:[A-Za-z_][\w.-]*:)?)(urlset|sitemapindex|rss|feed|html)(?=[\s/>])", re.IGNORECASE
)
# which element of a root holds the addresses
ELEMENTS = {"urlset": "loc", "sitemapindex": "loc", "rss": "link"}
ATOM = re.compile(r"<(?:\w+:)?link\s([^<>]*)>")
ATTRIBUTE = re.compile(r"(?<!\S)(href|rel)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
# those that XML has without declaring them
REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|amp|lt|gt|quot|apos);")
DECLARED = re.compile(r"<!ENTITY\s+([^\s%\"'<>]+)\s")
CDATA = "<![CDATA["
LINE = re.compile(r"(?:^|(?<=\r))[ \t]*+https?:[^\r\n]*+", re.MULTILINE | re.IGNORECASE)
ADDRESS = 16 * 1024  # characters of an element that are read; the protocol has addresses of 2,048


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What one sitemap lists: pages, and further sitemaps where it is an index; and what it could
    not say, by the reason.
    """

    pages: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()
    # sitemap_unreadable, sitemap_malformed (addresses), max_sitemap_addresses
    left: Counter[str] = field(default_factory=Counter)


# a page in its place, broken gzip, or neither XML nor a list
UNREADABLE = Listed(left=Counter(sitemap_unreadable=1))


def read_sitemap(body: bytes, url: str) -> Listed:
    """The addresses in a sitemap: XML, RSS or Atom, also damaged or gzipped, or a text with one
    address a line.
    """
    if body.startswith(GZIP):
        body = decoded(body, (("Content-Encoding", "gzip"),), SITEMAP_BYTES)
    if body.startswith(GZIP):
        return UNREADABLE
    text = _characters(body[:SITEMAP_BYTES])
    root = ROOT.search(text, 0, BEFORE_ROOT)
    if root is None:
        return (
            _listed((line[0] for line in LINE.finditer(text)), url)
            if LINE.search(text)
            else UNREADABLE
        )
    kind = root[2].lower()
    if kind == "html":
        return UNREADABLE
    text = _without_comments(text[root.start() :], DECLARED.findall(text[: root.start()]))
    found = (
        _links(text)
        if kind == "feed"
        else _texts(text, f"<{root[1]}{ELEMENTS[kind]}", "<item" if kind == "rss" else "")
    )
    listed = _listed(found, url)
    return Listed(sitemaps=listed.pages, left=listed.left) if kind == "sitemapindex" else listed


def _characters(body: bytes) -> str:
    """The text by its byte order mark, its zero bytes, its XML declaration; else UTF-8 where it is,
    else Windows-1252.
    """
    charset = charset_of(body, "")
    if not charset.mark and (name := wide(body[:1024])) != "utf-8":
        return body.decode(name, "replace")
    return text_of(body[charset.mark :], charset.name)


def _without_comments(text: str, entities: list[str]) -> str:
    """Without what is commented out; a reference to a declared entity is none, and takes what it
    stands in with it.
    """
    pieces: list[str] = []
    place = 0
    while (begin := text.find("<!--", place)) >= 0:
        pieces.append(text[place:begin])
        end = text.find("-->", begin + 4)
        if end < 0:
            break
        place = end + 3
    else:
        pieces.append(text[place:])
    whole = "".join(pieces)
    for name in entities[:100] if "&" in whole else ():
        whole = whole.replace(f"&{name};", "\0")
    return whole


def _texts(text: str, begin: str, after: str) -> Iterator[str]:
    """What stands in each element that begins so, behind the first place where `after` stands."""
    tag = re.compile(rf"{re.escape(begin)}(?:\s[^<>]*)?>\s*")
    for number, match in enumerate(tag.finditer(text, max(0, text.find(after)))):
        place = match.end()
        if number >= ADDRESSES:
            yield ""  # is only counted
        elif text.startswith(CDATA, place):
            place += len(CDATA)
            yield text[place : max(place, text.find("]]>", place, place + ADDRESS))]
        else:
            end = text.find("<", place, place + ADDRESS)
            yield _unescaped(text[place : end if end >= 0 else place + ADDRESS])


def _links(text: str) -> Iterator[str]:
    """The page of each entry of an Atom feed."""
    for link in ATOM.finditer(text, max(0, text.find("<entry"))):
        said = {name: one or other for name, one, other in ATTRIBUTE.findall(link[1])}
        if said.get("rel", "alternate") == "alternate" and "href" in said:
            yield _unescaped(said["href"])


def _unescaped(text: str) -> str:
    return REFERENCE.sub(lambda reference: html.unescape(reference[0]), text)


def _listed(found: Iterable[str], url: str) -> Listed:
    """Each address once, as pages; those that cannot be asked for, and those beyond what is read of
    one file, are counted.
    """
    base = Base(url)
    whole: dict[str, None] = {}
    entries = iter(found)
    malformed = 0
    for text in islice(entries, ADDRESSES):
        address = ascii_address(base.join(text)) if "\0" not in text else None
        if address is None:
            malformed += 1
        else:
            whole[address] = None
    left = Counter(sitemap_malformed=malformed, max_sitemap_addresses=sum(1 for _ in entries))
    return Listed(pages=tuple(whole), left=+left)
