"""What is said of an image where it stands: its link, its caption, the words around it, and the
landmark that holds it.
"""

from itertools import islice
from typing import NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from pipelines.html.addresses_of_image import Attributes

TEXT_CHARACTERS = 8192  # no caption is longer; a hostile alt may be
TEXT_NODES = 1000  # of a link or a caption; one of more is a page in a wrapper
CONTEXT_CHARACTERS = 200  # on each side of the image
# characters on each side that are looked at for context; many times that where blanks fill them
CONTEXT_READ = 240
MARK = "\0"  # no text of a page holds it: the HTML standard drops or replaces it
# elements that stand inside a line of text: their borders part no words
INLINE = frozenset(
    {
        "-text",
        "-comment",
        "a",
        "abbr",
        "acronym",
        "amp-img",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "img",
        "ins",
        "kbd",
        "label",
        "mark",
        "nobr",
        "picture",
        "q",
        "s",
        "samp",
        "small",
        "source",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "svg",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
    }
)
LANDMARKS = frozenset({"main", "article", "nav", "aside", "header", "footer"})
HOLDERS = LANDMARKS | {"a", "figure", "noscript"}
Text = tuple[str, str]  # text_source, text


class Holders(NamedTuple):
    """What holds an element: the nearest link, figure, landmark and noscript."""

    link: LexborNode | None = None
    figure: LexborNode | None = None
    region: str | None = None
    noscript: LexborNode | None = None


class Surroundings:
    """What stands around the images of one page; every element is asked once."""

    def __init__(self) -> None:
        self._holders: dict[int, Holders] = {}
        self._captions: dict[int, LexborNode] = {}
        self._texts: dict[int, str] = {}

    def holders(self, parent: LexborNode | None) -> Holders:
        """What holds the children of an element."""
        if parent is not None and (nearest := self._holders.get(parent.mem_id)) is not None:
            return nearest
        path: list[tuple[int, LexborNode]] = []
        known: Holders | None = None
        while parent is not None and (known := self._holders.get(place := parent.mem_id)) is None:
            path.append((place, parent))
            parent = parent.parent
        state = known or Holders()
        for place, element in reversed(path):
            tag = element.tag
            if tag in HOLDERS:
                state = _entered(state, element, tag)
            self._holders[place] = state
        return state

    def add_caption(self, node: LexborNode) -> None:
        """A figcaption speaks for the nearest figure that holds it, the first of several."""
        figure = self.holders(node.parent).figure
        if figure is not None:
            self._captions.setdefault(figure.mem_id, node)

    def texts(self, attributes: Attributes, holders: Holders) -> tuple[Text, ...]:
        """The texts that are there, each with its source; an empty alt if it is there, or if
        nothing else is.
        """
        link, figure = holders.link, holders.figure
        if (
            link is None
            and figure is None
            and "title" not in attributes
            and "aria-label" not in attributes
        ):
            return (("alt", (attributes.get("alt") or "")[:TEXT_CHARACTERS]),)
        said: list[Text] = []
        if (title := attributes.get("title")) and not title.isspace():
            said.append(("title", title[:TEXT_CHARACTERS]))
        if (
            figure is not None
            and self._captions
            and (caption := self._captions.get(figure.mem_id)) is not None
        ):
            said.append(("figcaption", self._text(caption)))
        if (label := attributes.get("aria-label")) and not label.isspace():
            said.append(("aria_label", label[:TEXT_CHARACTERS]))
        if link is not None:
            said.append(("link", self._text(link)))
        said = [text for text in said if text[1]]
        if "alt" in attributes or not said:
            return (("alt", (attributes.get("alt") or "")[:TEXT_CHARACTERS]), *said)
        return tuple(said)

    def _text(self, node: LexborNode) -> str:
        known = self._texts.get(node.mem_id)
        if known is None:
            known = self._texts[node.mem_id] = text_of(node)
        return known


def _entered(outside: Holders, element: LexborNode, tag: str | None) -> Holders:
    if tag == "a":
        return outside._replace(link=element)
    if tag == "figure":
        return outside._replace(figure=element)
    if tag == "noscript":
        return outside._replace(noscript=element)
    if tag in ("header", "footer") and outside.region is not None:
        # that of an article is no banner of the page (HTML Accessibility API Mappings, header and
        # footer)
        return outside
    return outside._replace(region=tag)


def text_of(node: LexborNode) -> str:
    """The text inside an element as it reads: blanks collapsed, one where a block or a line begins
    or ends; bounded.
    """
    first = node.first_child
    if first is None:
        return ""
    if first.next is None and (tag := first.tag) in ("-text", "img"):
        return (
            " ".join((first.text_content or "").split())[:TEXT_CHARACTERS] if tag == "-text" else ""
        )
    pieces: list[str] = []
    for inner in islice(node.traverse(include_text=True), 1, TEXT_NODES):
        before, tag = inner.prev, inner.tag
        if before is not None and before.tag not in INLINE:
            pieces.append(" ")
        if tag == "-text":
            pieces.append((inner.text_content or "")[: 2 * TEXT_CHARACTERS])
        elif tag not in INLINE:
            pieces.append(" ")
    return " ".join("".join(pieces).split())[:TEXT_CHARACTERS]


def contexts(tree: LexborHTMLParser, images: list[LexborNode]) -> list[str]:
    """The words before and after each image in the document; the tree holds marks afterwards."""
    root = tree.body or tree.root
    if not images or root is None:
        return []
    for image in images:
        image.insert_before(MARK)
    text = root.text(separator=" ", skip_empty=True)
    # a page of frames has images outside its body
    if text.count(MARK) != len(images) and tree.root is not None:
        text = tree.root.text(separator=" ", skip_empty=True)
    parts = text.split(MARK)
    assert len(parts) == len(images) + 1
    before = after = ""
    befores: list[str] = []
    afters: list[str] = []
    for part in parts[:-1]:
        if words := _end(part):
            before = f"{before} {words}"[-CONTEXT_CHARACTERS:].strip()
        befores.append(before)
    for part in parts[:0:-1]:
        if words := _end(part, first=True):
            after = f"{words} {after}"[:CONTEXT_CHARACTERS].strip()
        afters.append(after)
    return [
        f"{left} {right}" if left and right else left or right
        for left, right in zip(befores, reversed(afters), strict=True)
    ]


def _end(part: str, *, first: bool = False) -> str:
    """One end of a text with its blanks collapsed, long enough for a context if the text is."""
    for read in (CONTEXT_READ, 16 * CONTEXT_READ):
        words = part if len(part) <= read else part[:read] if first else part[-read:]
        if not (words.isascii() and words.isprintable() and "  " not in words):
            words = " ".join(words.split())
        words = words.strip()
        if len(words) > CONTEXT_CHARACTERS or len(part) <= read:
            break
    return words
