"""HTML and SVG as a tree: the serialiser of the standard library escapes every text and attribute,
so that none can be forgotten.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit
from xml.etree import ElementTree

Node = ElementTree.Element
Child = Node | str | None

# Characters that HTML does not allow, and halves of surrogate pairs, which cannot be written as
# UTF-8
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """The text with each character that HTML forbids replaced by the replacement character."""
    return _FORBIDDEN.sub("\ufffd", text)


def node(tag: str, *children: Child, **attributes: str | float | None) -> Node:
    """An element: `class_` stands for class, `stroke_width` for stroke-width; an attribute or a
    child that is None is left out.
    """
    made = Node(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(
                name.rstrip("_").replace("_", "-"),
                clean(value) if isinstance(value, str) else f"{value:.6g}",
            )
    return extend(made, *children)


def extend(parent: Node, *children: Child) -> Node:
    """Put children at the end of an element; a text comes after what is already there."""
    for child in children:
        if child is None:
            continue
        if isinstance(child, Node):
            parent.append(child)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + clean(child)
        else:
            parent.text = (parent.text or "") + clean(child)
    return parent


def plain_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[int] = frozenset()
) -> Node:
    """The first column names the row; `numbers` are the columns that stand on the right."""

    def side(place: int) -> str | None:
        return "number" if place in numbers else None

    head = node(
        "tr",
        *(node("th", word, scope="col", class_=side(place)) for place, word in enumerate(heads)),
    )
    body = node("tbody")
    for first, *cells in rows:
        row = node("tr", node("th", first, scope="row"))
        for place, cell in enumerate(cells, start=1):
            row.append(node("td", cell, class_=side(place)))
        body.append(row)
    return node("div", node("table", node("thead", head), body, class_="plain"), class_="wide")


def link(url: str) -> Node:
    """A link to a page of the web, or the address as text where it is anything else than http or
    https.
    """
    if not _is_web(url):
        return node("span", shorten(url, 60))
    steps = shorten(url.partition("://")[2], 60).split("/")
    # a long address may break after its slashes
    shown = [part for step in steps[:-1] for part in (f"{step}/", node("wbr"))]
    return node(
        "a", *shown, steps[-1], href=url, rel="noreferrer noopener nofollow", target="_blank"
    )


def shorten(text: str, longest: int) -> str:
    """The text, cut to `longest` characters with an ellipsis at the end where it is longer."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # an address with half a bracket, for example
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def document(root: Node) -> bytes:
    """The tree as an HTML file."""
    html: bytes = ElementTree.tostring(root, encoding="utf-8", method="html")
    return b"<!doctype html>\n" + html + b"\n"
