"""The images of one HTML page: the best address of each, its texts, and what the page says of itself."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urljoin

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode
from w3lib.encoding import html_body_declared_encoding, http_content_type_encoding, read_bom
from w3lib.url import safe_url_string

from pipelines.permission import address_outcome, metas_outcome

TARGET_WIDTH = 512  # pixels; twice the 224 to 384 of the models to come, so that crops and later resolutions have something left
TEXT_CHARACTERS = 8192  # no caption is longer; a hostile alt may be
CONTEXT_CHARACTERS = 200  # on each side of the image
CLIMB = 8  # ancestors looked at for a link, a figure or a noscript
SIBLINGS = 12  # neighbours looked at for context, in each direction
IMAGES = 10_000  # of one page; more is an attack or an index, not a page
URL_CHARACTERS = 8192  # servers refuse longer ones (nginx and Apache: 8 KiB of request line)
LAZY_SETS = ("data-srcset", "data-lazy-srcset", "data-lazysrcset", "data-original-set")
LAZY = ("data-src", "data-lazy-src", "data-original", "data-lazy", "data-original-src", "data-image-src", "data-img-src", "data-image",
        "data-hi-res-src", "data-full-src", "data-echo", "data-url")  # fmt: skip
DECODABLE = frozenset({"", "image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif", "image/avif"})  # types of <source> we read
UNSEEN = ["script", "style", "template"]  # whose text nobody reads
HIDDEN = frozenset({"noscript", "img", "source", "-comment", "head"})
QUERY = "img, amp-img, figcaption, base, meta"
Attributes = Mapping[str, str | None]
Text = tuple[str, str]  # text_source, text

_SKIP = re.compile(r"[\s,]*")
_WORD = re.compile(r"\S+")
_DESCRIPTORS = re.compile(r"(?:[^,(]|\([^)]*\)?)*")
_WIDTH = re.compile(r"(?:^|\s)(\d{1,6})w(?:\s|$)")
_DENSITY = re.compile(r"(?:^|\s)(\d{1,4}(?:\.\d{1,6})?)x(?:\s|$)")
_NUMBER = re.compile(r"\s*(\d{1,6})(?:\.\d+)?\s*(?:px)?\s*$")
_CONTROL = re.compile(r"[\t\r\n]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One address that an image offers: its width in pixels or its density, where known."""

    url: str
    width: float | None = None
    density: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One image of a page, with the texts that speak of it; there is always at least one, maybe empty."""

    url: str
    alternatives: tuple[str, ...]
    texts: tuple[Text, ...]
    context: str
    width: int | None
    height: int | None
    fallback: bool  # stands in a noscript


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What was read of a page: images in document order, its declared language, and the refusal of its meta elements."""

    pictures: tuple[Picture, ...]
    language: str | None
    permission: str | None


@dataclass(slots=True)
class _Reader:
    base: str
    target_width: int
    captions: dict[int, str] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)


def read_page(html: bytes, url: str, content_type: str = "", *, target_width: int = TARGET_WIDTH) -> Page:
    """The images of an HTML page at `url`; `content_type` is its HTTP header."""
    tree = parse(html, content_type)
    nodes = tree.css(QUERY)
    reader = _Reader(base=base_of(nodes, url), target_width=target_width)
    for node in nodes:
        if node.tag == "figcaption":
            _remember_caption(reader, node)
    images = [node for node in nodes if node.tag in ("img", "amp-img")][:IMAGES]
    pictures = [picture for node in images if (picture := _picture(reader, node)) is not None]
    metas = [(attributes.get("name") or "", attributes.get("content") or "") for attributes in _metas(nodes)]
    return Page(pictures=tuple(_without_doubles(pictures)), language=language_of(tree), permission=metas_outcome(metas))


def parse(html: bytes, content_type: str) -> LexborHTMLParser:
    """The tree of a page, decoded as browsers do: byte order mark, HTTP header, meta element, UTF-8, Windows-1252."""
    encoding, mark = read_bom(html)
    declared = encoding or http_content_type_encoding(content_type) or html_body_declared_encoding(html[:4096])
    tree = LexborHTMLParser(_unicode(html[len(mark or b"") :], declared), options=LexborDocumentOptions.WO_EVENTS)
    tree.strip_tags(UNSEEN)
    return tree


def _unicode(body: bytes, declared: str | None) -> str:
    if declared is None:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            return body.decode("cp1252", errors="replace")
    return body.decode(declared, errors="replace")


def _metas(nodes: list[LexborNode]) -> Iterator[Attributes]:
    return (node.attributes for node in nodes if node.tag == "meta")


def base_of(nodes: list[LexborNode], url: str) -> str:
    """What relative addresses are joined to: the first <base href>, else the page."""
    for node in nodes:
        if node.tag == "base" and (href := node.attributes.get("href")):
            return absolute(url, href) or url
    return url


def language_of(tree: LexborHTMLParser) -> str | None:
    """The lang attribute of the html element."""
    attributes = tree.root.attributes if tree.root is not None else {}
    return ((attributes.get("lang") or attributes.get("xml:lang") or "").strip()[:64]) or None


def absolute(base: str, url: str) -> str:
    """An address joined to its base and spelled in ASCII without fragment; data addresses stay; empty if it cannot be one."""
    url = url.strip()
    if url[:5].lower() == "data:":
        return url[:URL_CHARACTERS]
    url = _CONTROL.sub("", url).split("#", 1)[0]
    if not url or len(url) > URL_CHARACTERS:
        return ""
    try:
        joined = url if url.startswith(("http://", "https://")) else urljoin(base, url)
        return joined if joined.isascii() and joined.isprintable() and " " not in joined else str(safe_url_string(joined))
    except (ValueError, UnicodeError):
        return ""


def parse_srcset(value: str) -> list[Source]:
    """The candidates of a srcset attribute, as the HTML standard splits it: an address may hold commas, none at its end."""
    found: list[Source] = []
    position = 0
    while (position := _end(_SKIP, value, position)) < len(value):
        end = _end(_WORD, value, position)
        url, position = value[position:end], end
        if url.endswith(","):
            found.append(Source(url=url.rstrip(",")))
            continue
        end = _end(_DESCRIPTORS, value, position)
        found.append(_described(url, value[position:end]))
        position = end
    return found


def _end(pattern: re.Pattern[str], value: str, position: int) -> int:
    match = pattern.match(value, position)
    return match.end() if match else position


def _described(url: str, descriptors: str) -> Source:
    width, density = _WIDTH.search(descriptors), _DENSITY.search(descriptors)
    return Source(url=url, width=float(width[1]) if width else None, density=float(density[1]) if density else 1.0)


def _sources(node: LexborNode, attributes: Attributes) -> list[Source]:
    """All addresses of an image, the most trusted first: lazy before plain, its own before those of <source>."""
    found: list[Source] = []
    lazy = any(name.startswith("data-") for name in attributes)
    for name in (*LAZY_SETS, "srcset") if lazy else ("srcset",):
        found += parse_srcset(attributes.get(name) or "")
    if lazy:
        found += [Source(url=value) for name in LAZY if _plausible(value := (attributes.get(name) or "").strip())]
    if source := (attributes.get("src") or "").strip():
        found.append(Source(url=source))
    if node.parent is not None and node.parent.tag == "picture":
        found += _picture_sources(node)
    return found


def _plausible(value: str) -> bool:
    """Whether a data attribute holds an address and not a setting, a number or a template."""
    return len(value) > 2 and ("/" in value or "." in value) and not any(mark in value for mark in '<>{}[]"')


def _picture_sources(node: LexborNode) -> Iterator[Source]:
    siblings = []
    before = node.prev
    while before is not None:
        if before.tag == "source":
            siblings.append(before.attributes)
        before = before.prev
    for attributes in reversed(siblings):
        if (attributes.get("type") or "").strip().lower() in DECODABLE:
            for name in (*LAZY_SETS, "srcset"):
                yield from parse_srcset(attributes.get(name) or "")


def choose(sources: list[Source], declared_width: int | None, target_width: int) -> Source:
    """The smallest source of at least the target width, else the largest; the first of equals, an empty stand-in last."""
    real = [source for source in sources if address_outcome(source.url) is None] or sources
    if declared_width:
        real = [_with_width(source, declared_width) for source in real]
    enough = [source for source in real if source.width and source.width >= target_width]
    if enough:
        return min(enough, key=lambda source: source.width or 0)
    known = [source for source in real if source.width]
    return max(known, key=lambda source: source.width or 0) if known else max(real, key=lambda source: source.density)


def _with_width(source: Source, declared_width: int) -> Source:
    """A source of known density with the width that the declared one implies."""
    return source if source.width or source.density <= 1 else replace(source, width=declared_width * source.density)


def _picture(reader: _Reader, node: LexborNode) -> Picture | None:
    """An <img> as a picture; None if it has no address of any kind."""
    attributes = node.attributes
    sources = [replace(source, url=url) for source in _sources(node, attributes) if (url := absolute(reader.base, source.url))]
    if not sources:
        return None
    width = _number(attributes.get("width"))
    chosen = choose(sources, width, reader.target_width).url
    link, figure, fallback = _surroundings(node)
    return Picture(
        url=chosen,
        alternatives=tuple(dict.fromkeys(url for source in sources if (url := source.url) != chosen and address_outcome(url) is None)),
        texts=tuple(_texts(reader, attributes, link, figure)),
        context=_context(reader, node),
        width=width,
        height=_number(attributes.get("height")),
        fallback=fallback,
    )


def _number(value: str | None) -> int | None:
    match = _NUMBER.match(value or "")
    return int(match[1]) if match else None


def _surroundings(node: LexborNode) -> tuple[LexborNode | None, LexborNode | None, bool]:
    """The link and the figure that hold an image, and whether a noscript does."""
    link: LexborNode | None = None
    figure: LexborNode | None = None
    parent = node.parent
    for _ in range(CLIMB):
        if parent is None or (tag := parent.tag) == "body":
            break
        if tag == "noscript":
            return link, figure, True
        link = parent if tag == "a" and link is None else link
        figure = parent if tag == "figure" and figure is None else figure
        parent = parent.parent
    return link, figure, False


def _texts(reader: _Reader, attributes: Attributes, link: LexborNode | None, figure: LexborNode | None) -> Iterator[Text]:
    alt = attributes.get("alt") or ""
    others = {
        "title": attributes.get("title") or "",
        "figcaption": reader.captions.get(figure.mem_id, "") if figure is not None else "",
        "aria_label": attributes.get("aria-label") or "",
        "link": _text(reader, link) if link is not None else "",
    }
    said = [(source, text[:TEXT_CHARACTERS]) for source, text in others.items() if text.strip()]
    if "alt" in attributes or not said:
        yield "alt", alt[:TEXT_CHARACTERS]
    yield from said


def _remember_caption(reader: _Reader, node: LexborNode) -> None:
    parent = node.parent
    for _ in range(CLIMB):
        if parent is None:
            return
        if parent.tag == "figure":
            reader.captions.setdefault(parent.mem_id, _text(reader, node))
            return
        parent = parent.parent


def _text(reader: _Reader, node: LexborNode) -> str:
    """The visible text of an element with its blanks collapsed, bounded; read once an element."""
    known = reader.texts.get(node.mem_id)
    if known is None:
        known = reader.texts[node.mem_id] = " ".join(node.text(separator=" ").split())[:TEXT_CHARACTERS]
    return known


def _context(reader: _Reader, node: LexborNode) -> str:
    """The words before and after an image in the document."""
    before, after = _beside(reader, node, forward=False), _beside(reader, node, forward=True)
    return " ".join(f"{before[-CONTEXT_CHARACTERS:]} {after[:CONTEXT_CHARACTERS]}".split())


def _beside(reader: _Reader, node: LexborNode, *, forward: bool) -> str:
    found = ""
    current: LexborNode | None = node
    for _ in range(SIBLINGS):
        if current is None or len(found) >= CONTEXT_CHARACTERS:
            break
        neighbour = current.next if forward else current.prev
        if neighbour is None:
            current = current.parent
            if current is None or current.tag in ("body", "html"):
                break
            continue
        text = _neighbour_text(reader, neighbour)
        found = f"{found} {text}" if forward else f"{text} {found}"
        current = neighbour
    return found.strip()


def _neighbour_text(reader: _Reader, node: LexborNode) -> str:
    tag = node.tag
    if tag == "-text":
        return node.text_content or ""
    return "" if tag in HIDDEN else _text(reader, node)


def _without_doubles(pictures: list[Picture]) -> list[Picture]:
    """Pictures without the noscript copies of others; a copy takes the place of the empty stand-in before it."""
    seen = {url for picture in pictures if not picture.fallback for url in (picture.url, *picture.alternatives)}
    kept: list[Picture] = []
    for picture in pictures:
        if not picture.fallback:
            kept.append(picture)
        elif picture.url in seen:
            continue
        elif kept and not kept[-1].fallback and address_outcome(kept[-1].url) == "address.placeholder":
            kept[-1] = _filled(kept[-1], picture)
        else:
            kept.append(picture)
    return kept


def _filled(stand_in: Picture, picture: Picture) -> Picture:
    said = any(text.strip() for _, text in stand_in.texts)
    return replace(picture, texts=stand_in.texts if said else picture.texts, context=stand_in.context)
