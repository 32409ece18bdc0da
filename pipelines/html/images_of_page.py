"""The images of one HTML page: the best address of each, its texts, and what the page says of
itself.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from selectolax.lexbor import LexborNode

from pipelines.html.addresses_of_image import IMAGE_FILE, Attributes, addresses, late_address
from pipelines.html.page_tree import base_of, elements, language_of, parse
from pipelines.html.relative_urls import Base
from pipelines.html.texts_of_image import Holders, Surroundings, Text, contexts
from pipelines.permission.outcomes import address_outcome, metas_outcome

# pixels; twice the 224 to 384 of the models to come, so that crops and later resolutions have
# something left
TARGET_WIDTH = 512
IMAGES = 10_000  # of one page; more is an attack or an index, not a page
# each name more costs a fiftieth of the time of parsing
QUERY = "img, amp-img, figcaption, base, meta, script, style"
IMAGE_TAGS = frozenset({"img", "amp-img"})

REPEATED = 3  # images of one address that say others in their attributes: theirs keeps a place

_UNSEEN = re.compile(
    r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden|(?:width|height)\s*:\s*1px)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\s*(\d{1,6})(?:\.\d+)?\s*(?:px)?\s*$")


class Picture(NamedTuple):
    """One image of a page, with the texts that speak of it; there is always at least one, maybe
    empty.
    """

    url: str
    alternatives: tuple[str, ...]
    texts: tuple[Text, ...]
    context: str
    width: int | None
    height: int | None
    # main, article, nav, aside, header or footer: the landmark that it stands in
    region: str | None
    fallback: bool  # stands in a noscript


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What was read of a page: images in document order, its declared language, and the refusal of
    its meta elements.
    """

    pictures: tuple[Picture, ...]
    language: str | None
    permission: str | None
    left_out: int = 0  # images beyond `IMAGES`


@dataclass(slots=True)
class _Image:
    """An <img> while its page is read; `url` is empty if it has no address."""

    node: LexborNode
    attributes: Attributes
    url: str
    alternatives: tuple[str, ...]
    texts: tuple[Text, ...]
    width: int | None
    height: int | None
    holders: Holders

    def picture(self, context: str) -> Picture:
        region, noscript = self.holders[2:]
        return Picture(
            self.url,
            self.alternatives,
            self.texts,
            context,
            self.width,
            self.height,
            region,
            noscript is not None,
        )

    @property
    def stands_in(self) -> bool:
        """Whether it only keeps the place of another image."""
        return not self.url or address_outcome(self.url) == "address.placeholder"

    @property
    def counts(self) -> bool:
        """Whether it is a dot that counts visits."""
        return (
            (self.width or 9) <= 1
            or (self.height or 9) <= 1
            or bool(_UNSEEN.search(self.attributes.get("style") or ""))
        )

    @property
    def alt(self) -> str:
        return next((text for source, text in self.texts if source == "alt"), "").strip()


def read_page(
    html: bytes, url: str, content_type: str = "", *, target_width: int = TARGET_WIDTH
) -> Page:
    """The images of an HTML page at `url`; `content_type` is its HTTP header."""
    tree, charset = parse(html, content_type)
    surroundings = Surroundings()
    images: list[LexborNode] = []
    bases: list[LexborNode] = []
    metas: list[tuple[str, str]] = []
    for node in elements(tree, QUERY):
        tag = node.tag
        if tag in IMAGE_TAGS:
            images.append(node)
        elif tag in ("script", "style"):
            _empty(node)
        elif tag == "meta":
            attributes = node.attributes
            metas.append((attributes.get("name") or "", attributes.get("content") or ""))
        elif tag == "base":
            bases.append(node)
        else:
            surroundings.add_caption(node)
    base = Base(base_of(bases, url), charset)
    found = [_image(node, base, surroundings, target_width) for node in images[:IMAGES]]
    _reveal(found, base)
    read = without_copies(found)
    texts = contexts(tree, [image.node for image in read])
    pictures = tuple(image.picture(context) for image, context in zip(read, texts, strict=True))
    left_out = max(0, len(images) - IMAGES)
    return Page(
        pictures=pictures,
        language=language_of(tree),
        permission=metas_outcome(metas),
        left_out=left_out,
    )


def _image(node: LexborNode, base: Base, surroundings: Surroundings, target_width: int) -> _Image:
    attributes, parent = node.attributes, node.parent
    url, alternatives = addresses(node, attributes, parent, base, target_width)
    holders = surroundings.holders(parent)
    width, height = attributes.get("width"), attributes.get("height")
    return _Image(
        node,
        attributes,
        url,
        alternatives,
        surroundings.texts(attributes, holders),
        _number(width) if width else None,
        _number(height) if height else None,
        holders,
    )


def _reveal(images: list[_Image], base: Base) -> None:
    """Where several images have one address, and attributes that are their own say others, that
    address keeps the place of those.
    """
    groups: dict[str, list[_Image]] = {}
    for image in images:
        groups.setdefault(image.url, []).append(image)
    for url, group in groups.items():
        if len(group) < REPEATED or not url:
            continue
        late = [late_address(image.attributes, base) for image in group]
        if len({*late} - {"", url}) < REPEATED:
            continue
        for image, address in zip(group, late, strict=True):
            image.url = address or url
            image.alternatives = tuple(other for other in image.alternatives if other != image.url)


def _number(value: str) -> int | None:
    """A length in CSS pixels."""
    if len(value) < 7 and value.isdecimal():
        return int(value)
    match = _NUMBER.match(value)
    return int(match[1]) if match else None


def _empty(node: LexborNode) -> None:
    """Take the text out of an element that holds nothing else."""
    child = node.first_child
    if child is not None and child.tag == "-text" and child.next is None:
        child.decompose()


def without_copies(images: list[_Image]) -> list[_Image]:
    """Images that have an address, without those in a noscript that copy others; a stand-in takes
    the address of its copy.
    """
    if all(image.holders.noscript is None for image in images):
        return [image for image in images if image.url]
    shown = [image for image in images if image.holders.noscript is None]
    seen = {url for image in shown for url in (image.url, *image.alternatives)}
    by_node = {image.node.mem_id: image for image in shown}
    in_noscript = Counter(
        image.holders.noscript.mem_id for image in images if image.holders.noscript is not None
    )
    kept: list[_Image] = []
    for image in images:
        noscript = image.holders.noscript
        if noscript is None:
            kept.append(image)
        elif image.url and image.url not in seen:
            alone = in_noscript[noscript.mem_id] == 1
            original = (_original(image, noscript, by_node) if alone else None) or _stand_in_before(
                image, kept
            )
            if original is None:
                kept.append(image)
            else:
                _fill(original, image)
                seen.add(image.url)
    return [image for image in kept if image.url]


def _stand_in_before(copy: _Image, kept: list[_Image]) -> _Image | None:
    """The last image before a noscript that is not beside it; one that says what it shows is not
    that of a copy that says nothing.
    """
    found = bool(kept) and kept[-1].holders.noscript is None and _is_kept_for(kept[-1], copy)
    return kept[-1] if found and (copy.alt or not kept[-1].alt) else None


def _is_kept_for(image: _Image, copy: _Image) -> bool:
    """Whether an image keeps the place of the one in a noscript, and that one is no dot that counts
    visits: it says the same, or is an image file and nothing speaks against it.
    """
    if not image.stands_in or copy.counts:
        return False
    if image.alt and copy.alt:
        return image.alt == copy.alt
    return IMAGE_FILE.search(copy.url) is not None


def _original(copy: _Image, noscript: LexborNode, by_node: dict[int, _Image]) -> _Image | None:
    """The image beside a noscript that holds nothing but a copy of it."""
    for beside in (
        _beside(noscript, forward=False),
        noscript.parent,
        _beside(noscript, forward=True),
    ):
        if beside is None:
            continue
        nodes = beside.css("img") if beside.tag == "picture" else [beside]
        image = by_node.get(nodes[-1].mem_id) if nodes else None
        if image is not None and (_is_kept_for(image, copy) or _alike(image, copy)):
            return image
    return None


def _beside(node: LexborNode, *, forward: bool) -> LexborNode | None:
    """The next neighbour of an element that is no blank."""
    found = node.next if forward else node.prev
    if found is not None and found.tag == "-text" and not (found.text_content or "").strip():
        found = found.next if forward else found.prev
    return found


def _alike(image: _Image, copy: _Image) -> bool:
    """Whether two images show the same in different sizes: they say the same, or are files of one
    name.
    """
    if image.alt or copy.alt:
        return image.alt == copy.alt
    name = _file(copy.url)
    return bool(name) and any(_file(url) == name for url in (image.url, *image.alternatives))


def _file(url: str) -> str:
    return url.split("?", 1)[0].rsplit("/", 1)[-1]


def _fill(original: _Image, copy: _Image) -> None:
    if not original.stands_in:
        original.alternatives = (*original.alternatives, copy.url)
        return
    original.url, original.alternatives = copy.url, (*original.alternatives, *copy.alternatives)
    if not original.alt:
        others = [text for text in original.texts if text[0] != "alt"]
        original.texts = (
            (*(text for text in copy.texts if text[0] == "alt"), *others) if others else copy.texts
        )
