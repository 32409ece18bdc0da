"""The tree of an HTML page, as browsers without scripts build it."""

import re
import threading
from collections import Counter
from collections.abc import Iterable

import numpy as np
from selectolax.lexbor import LexborCSSSelector, LexborDocumentOptions, LexborHTMLParser, LexborNode

from pipelines.html import charset
from pipelines.html.attributes import few_attributes
from pipelines.html.relative_urls import Base
from pipelines.html.root_tags import few_roots

# elements inside each other; building the tree takes time with the square of it (measured: 20,000
# take a second, 100,000 take 22). Chromium goes no deeper than 512 (its
# maximumHTMLParserDOMTreeDepth), so nothing that anybody sees lies behind this.
DEEPEST = 10_000
SMALL = 128 * 1024  # bytes; what fits in there takes a second and a half at worst
SHADOW = "template[shadowrootmode]"
# declarative shadow roots inside each other; each level is one more walk through the page
SHADOWS = 32
HOST = re.compile(
    r"article|aside|blockquote|body|div|footer|h[1-6]|header|main|nav|p|section|span|[a-z][^A-Z]*-[^A-Z]*"
)
# elements without content, and those that the next of their kind closes
FLAT = frozenset(
    b"area base br col embed hr img input link meta param source track wbr p li dt dd option"
    b" optgroup tr td th tbody thead tfoot rb rp rt rtc html head body".split()
)
# the first two characters of the commonest of them that no other element begins with, a letter and
# its successor as one number
_PAIRS = (b"br", b"dd", b"dt", b"hr", b"im", b"li", b"p\0", b"td", b"th", b"tr")
_FOLDED = np.array(
    [ord(chr(byte).lower()) if chr(byte).isalnum() and byte < 128 else 0 for byte in range(256)],
    np.uint8,
)
_WEIGHTS = np.ones(1 << 16, np.int8)
_WEIGHTS[[one[0] * 256 + one[1] for one in _PAIRS]] = 0
_THREAD = threading.local()
_TAG = re.compile(rb"<(/?)([A-Za-z][^\t\n\f\r />]*)[^>]*>?")


def parse(html: bytes, content_type: str) -> tuple[LexborHTMLParser, str]:
    """The tree of a page and the name of its character encoding."""
    found = charset.charset_of(html, content_type)
    read = found
    if found.name in charset.NOT_ASCII:  # what follows looks for tags in ASCII
        html, read = (
            charset.decoded(html[found.mark :], found.name).encode("utf-8", "replace"),
            charset.Charset(charset.UTF8),
        )
    html = shallow(few_attributes(few_roots(html)))
    tree = _tree(html, read)
    if found.tentative and not html.isascii():
        declared = next(
            (
                name
                for node in tree.css("meta")
                if (name := charset.of_meta(node.attributes)) is not None
            ),
            found.name,
        )
        if declared != found.name:
            return parse(html, f";charset={declared}")
    return tree, found.name


def _open_shadows(tree: LexborHTMLParser) -> None:
    """Put the content of declarative shadow roots where all browsers show it: in place of its
    template, which other templates are not.

    HTML standard 13.2.6.4.4 and DOM, attach a shadow root: the first such template of an element
    that can be a host.
    """
    hosts: set[int] = set()
    for _ in range(SHADOWS):
        opened = 0
        for template in tree.css(SHADOW):
            host = template.parent
            mode = (template.attributes.get("shadowrootmode") or "").lower()
            if (
                host is None
                or host.mem_id in hosts
                or mode not in ("open", "closed")
                or not HOST.fullmatch(host.tag or "")
            ):
                continue
            hosts.add(host.mem_id)
            for fragment in template.template_fragments():
                for child in list(fragment.iter(include_text=True)):
                    template.insert_before(child, move=True)
            template.decompose()
            opened += 1
        if not opened:
            return


def elements(tree: LexborHTMLParser, query: str) -> list[LexborNode]:
    """What a selector finds in the page, in document order; declarative shadow roots are opened
    first.

    The finder is made once: making one takes a fifth of the time of finding. It looks for shadow
    roots on its way, which costs less than a look at the bytes.
    """
    finder: LexborCSSSelector | None = getattr(_THREAD, "finder", None)
    if finder is None:
        finder = _THREAD.finder = LexborCSSSelector()  # type: ignore[no-untyped-call]
    if tree.root is None:
        return []
    found = finder.find(f"{query}, {SHADOW}", tree.root)
    if not any(node.tag == "template" for node in found):
        return found
    _open_shadows(tree)
    return finder.find(query, tree.root)


def _tree(html: bytes, found: charset.Charset) -> LexborHTMLParser:
    return LexborHTMLParser(
        charset.characters(html, found), options=LexborDocumentOptions.WO_EVENTS
    )


def shallow(html: bytes) -> bytes:
    """A page without the tags that lie deeper than any page is; nearly always the whole of it."""
    if len(html) <= SMALL or not _may_be_deep(html):
        return html
    depth, opened, left_out = 0, Counter[bytes](), Counter[bytes]()
    pieces: list[bytes] = []
    start = 0
    for match in _TAG.finditer(html):
        name = match[2].lower()
        if name in FLAT:
            continue
        counter, step = (
            (left_out, 0) if (depth >= DEEPEST if not match[1] else left_out[name]) else (opened, 1)
        )
        if not match[1]:
            counter[name] += 1
            depth += step
        elif counter[name]:
            counter[name] -= 1
            depth -= step
        if not step:
            pieces.append(html[start : match.start()])
            start = match.end()
    return b"".join([*pieces, html[start:]])


def _may_be_deep(html: bytes) -> bool:
    """Whether more tags than may be inside each other stand open somewhere, whatever end tags
    close, or are never closed by name.

    Names are told apart by their first two characters, which is right for nearly all and quick;
    `shallow` then looks closely.
    """
    characters = np.frombuffer(html, np.uint8)
    places = np.flatnonzero(characters[:-3] == ord("<"))
    if len(places) <= DEEPEST:
        return False
    closing = characters[places + 1] == ord("/")
    begin = places + 1 + closing
    names = _FOLDED[characters[begin]].astype(np.uint16) * 256 + _FOLDED[characters[begin + 1]]
    opened = _WEIGHTS[names]
    if np.count_nonzero(opened) <= DEEPEST:
        return False
    steps = np.where(closing, -opened, opened)
    open_by_name = np.bincount(names, weights=steps)
    return bool(
        steps.cumsum(dtype=np.int64).max() > DEEPEST
        or open_by_name[open_by_name > 0].sum() > DEEPEST
    )


def base_of(nodes: Iterable[LexborNode], url: str) -> str:
    """What relative addresses are joined to: the first <base> with an address, if it is one of the
    web, else the page.
    """
    for node in nodes:
        if node.tag == "base" and (href := node.attributes.get("href")) is not None:
            joined = Base(url).join(href)
            return joined if joined.startswith(("http://", "https://")) else url
    return url


def language_of(tree: LexborHTMLParser) -> str | None:
    """The lang attribute of the html element."""
    attributes = tree.root.attributes if tree.root is not None else {}
    return ((attributes.get("lang") or attributes.get("xml:lang") or "").strip()[:64]) or None
