"""Where a page leads: the addresses of other pages that a crawl may follow, and of the images that it shows."""

from urllib.parse import urlsplit

from scrapy.linkextractors import IGNORED_EXTENSIONS

from pipelines.pages.images_of_page import read_page
from pipelines.pages.page_tree import base_of, parse
from pipelines.pages.relative import absolute
from pipelines.web.permission import TOKEN, address_outcome, follows_links

SKIPPED = tuple(f".{name}" for name in IGNORED_EXTENSIONS)  # links to what is no page
Headers = tuple[tuple[str, str], ...]


def header(headers: Headers, name: str) -> str:
    """The first header of a name in lower case, empty if there is none."""
    return next((value for key, value in headers if key.lower() == name), "")


def links_of_page(html: bytes, url: str, headers: Headers = ()) -> list[str]:
    """The pages that a page links to, each once, in document order; none where it says nofollow."""
    tree, _ = parse(html, header(headers, "content-type"))
    nodes = tree.css("a[href], area[href], base, meta[name]")
    said = [value for name, value in headers if name.lower() == "x-robots-tag"]
    metas = (node.attributes for node in nodes if node.tag == "meta")
    said += [meta.get("content") or "" for meta in metas if (meta.get("name") or "").lower() in ("robots", TOKEN)]
    if not follows_links(said):
        return []
    base = base_of(nodes, url)
    links = (node.attributes for node in nodes if node.tag in ("a", "area"))
    found = (page_address(base, link["href"] or "") for link in links if "nofollow" not in (link.get("rel") or "").lower())
    return list(dict.fromkeys(address for address in found if address and not urlsplit(address).path.lower().endswith(SKIPPED)))


def images_on_page(html: bytes, url: str, headers: Headers = (), *, target_width: int) -> list[str]:
    """The chosen address of each image of a page, each once, in document order; those that cannot be asked for are left out."""
    page = read_page(html, url, header(headers, "content-type"), target_width=target_width)
    found = dict.fromkeys(picture.url for picture in page.pictures)
    return [address for address in found if address.startswith(("http://", "https://")) and address_outcome(address) is None]


def page_address(base: str, href: str) -> str:
    """An absolute http address with a path, or empty."""
    try:
        address = absolute(base, href)
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return ""
        return address if parts.path else parts._replace(path="/").geturl()
    except ValueError:
        return ""
