"""Where a page leads: the addresses of other pages that a crawl may follow, and of the images that
it shows.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from selectolax.lexbor import LexborNode

from pipelines.html.images_of_page import read_page
from pipelines.html.page_tree import base_of, elements, parse
from pipelines.html.relative_urls import absolute
from pipelines.permission.outcomes import TOKEN, address_outcome, follows_links
from pipelines.urls import ascii_address

Headers = tuple[tuple[str, str], ...]

QUERY = "a, area, frame, iframe, link, meta, base"
# Endings of what is never a page. Not among them: images (a wiki's page on Photo.jpg is called so),
# and what words end in (Node.js)
NEVER_PAGES = (
    ".7z",
    ".apk",
    ".bz2",
    ".deb",
    ".dmg",
    ".exe",
    ".gz",
    ".iso",
    ".jar",
    ".msi",
    ".rar",
    ".rpm",
    ".tar",
    ".tgz",
    ".xz",
    ".zip",
    ".zst",
    ".aac",
    ".aiff",
    ".flac",
    ".m4a",
    ".mid",
    ".mp3",
    ".oga",
    ".ogg",
    ".wav",
    ".wma",
    ".3gp",
    ".avi",
    ".flv",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".ogv",
    ".webm",
    ".wmv",
    ".doc",
    ".docx",
    ".epub",
    ".odp",
    ".ods",
    ".odt",
    ".pdf",
    ".pps",
    ".ppt",
    ".pptx",
    ".rtf",
    ".xls",
    ".xlsx",
    ".css",
    ".eot",
    ".otf",
    ".ttf",
    ".woff",
    ".woff2",
)
IMAGE_NAMES = (
    ".avif",
    ".bmp",
    ".gif",
    ".heic",
    ".jpeg",
    ".jpg",
    ".png",
    ".svg",
    ".tif",
    ".tiff",
    ".webp",
)
# `File:Photo.jpg`, `Datei:Film.webm`: a page on a file, in every wiki
NAMESPACE = re.compile(r"[^/]:[^/]*$")
REFRESH = re.compile(
    r"[\t\n\f\r ]*(?:\d|\.)[\d.]*(?=[;,\t\n\f\r ]|$)[\t\n\f\r ]*[;,]?[\t\n\f\r ]*(?:url[\t\n\f\r"
    r" ]*=[\t\n\f\r ]*)?"
    r"(?:\"([^\"]*)|'([^']*)|(.*))",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Links:
    """The pages that a page leads to, each once, in document order, and how many addresses are not
    followed, by the reason.
    """

    pages: tuple[str, ...] = ()
    left: Counter[str] = field(default_factory=Counter)  # nofollow, not_a_page


def header(headers: Headers, name: str) -> str:
    """The first header of a name in lower case, empty if there is none."""
    return next((value for key, value in headers if key.lower() == name), "")


def links_of_page(html: bytes, url: str, headers: Headers = ()) -> Links:
    """Where links, frames, refreshing and `rel=next` of a page lead; what its author wants not
    followed is counted and left.
    """
    tree, _ = parse(html, header(headers, "content-type"))
    nodes = elements(tree, QUERY)
    said = [value for name, value in headers if name.lower() == "x-robots-tag"]
    metas = [node.attributes for node in nodes if node.tag == "meta"]
    said += [
        meta.get("content") or ""
        for meta in metas
        if (meta.get("name") or "").lower() in ("robots", TOKEN)
    ]
    follows = follows_links(said)
    base = base_of(nodes, url)
    # by address, why it is not followed; one that is followed from elsewhere on the page is
    why: dict[str, str] = {}
    for node in nodes:
        for href, is_followed in _hrefs(node):
            if address := page_address(base, href):
                reason = (
                    "nofollow"
                    if not (follows and is_followed)
                    else "not_a_page"
                    if _is_no_page(address, node)
                    else ""
                )
                why[address] = reason and why.get(address, reason)
    return Links(
        pages=tuple(page for page, reason in why.items() if not reason),
        left=Counter(filter(None, why.values())),
    )


def _hrefs(node: LexborNode) -> Iterator[tuple[str, bool]]:
    """The address that an element leads to, if it does, and whether it may be followed from
    there.
    """
    attributes = node.attributes
    if node.tag in ("a", "area"):
        # the latter inside SVG (SVG 2, 16.2)
        href = attributes.get("href", attributes.get("xlink:href"))
        yield href or "", "nofollow" not in _words(attributes.get("rel"))
    elif node.tag in ("frame", "iframe"):
        yield attributes.get("src") or "", True
    elif node.tag == "link" and not _words(attributes.get("rel")).isdisjoint(("next", "prev")):
        yield attributes.get("href") or "", True
    elif node.tag == "meta" and (attributes.get("http-equiv") or "").lower() == "refresh":
        yield refresh_target(attributes.get("content") or ""), True


def _words(value: str | None) -> set[str]:
    return set((value or "").lower().split())


def refresh_target(content: str) -> str:
    """The address in the content of a refreshing meta element, empty if there is none (HTML
    standard, shared declarative refresh).
    """
    match = REFRESH.match(content)
    return next((found for found in match.groups() if found), "") if match else ""


def _is_no_page(address: str, node: LexborNode) -> bool:
    """Whether a link leads to a file by its name: one that is never a page, or the large version of
    the image in the link.
    """
    name = address.partition("?")[0].lower()
    if NAMESPACE.search(name):
        return False
    return name.endswith(NEVER_PAGES) or (
        name.endswith(IMAGE_NAMES) and node.css_first("img, picture, svg") is not None
    )


def images_on_page(html: bytes, url: str, headers: Headers = (), *, target_width: int) -> list[str]:
    """The chosen address of each image of a page, each once, in document order; those that cannot
    be asked for are left out.
    """
    page = read_page(html, url, header(headers, "content-type"), target_width=target_width)
    found = dict.fromkeys(picture.url for picture in page.pictures)
    return [
        address
        for address in found
        if address.startswith(("http://", "https://")) and address_outcome(address) is None
    ]


def page_address(base: str, href: str) -> str:
    """An absolute http address that can be asked for, or empty."""
    return ascii_address(absolute(base, href)) or ""
