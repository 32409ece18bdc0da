"""Sitemaps: the addresses that a site lists itself (sitemaps.org, protocol 0.9: 50,000 addresses and 50 MiB a file, indexes, gzip)."""

from dataclasses import dataclass

from scrapy.utils.sitemap import Sitemap

from pipelines.pages.archives import GZIP, decoded
from pipelines.web.links import page_address

SITEMAP_BYTES = 50 * 1024 * 1024  # inflated
ADDRESSES = 50_000  # of one file
MAX_FILES = 1_000  # of one crawl
MAX_DEPTH = 3  # indexes within indexes; the protocol allows one level


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What one sitemap lists: pages, and further sitemaps where it is an index."""

    pages: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()


def read_sitemap(body: bytes, url: str) -> Listed:
    """The addresses in a sitemap: XML, also damaged or gzipped, or a text with one address a line.

    Scrapy's parser neither resolves entities nor loads what a document names, and lxml ends a document that grows without bound.
    """
    if body.startswith(GZIP):
        body = decoded(body, (("Content-Encoding", "gzip"),), SITEMAP_BYTES)
    body = body[:SITEMAP_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not body.startswith(b"<"):
        lines = body.decode("utf-8", errors="replace").splitlines()
        return Listed(pages=_addresses([line for line in lines if line.strip().startswith("http")], url))
    found: list[str] = []
    kind = ""
    try:
        sitemap = Sitemap(body)
        kind = sitemap.type
        for entry in sitemap:
            found.append(str(entry.get("loc") or ""))
            if len(found) >= ADDRESSES:
                break
    except (SyntaxError, StopIteration, ValueError):  # lxml's error is a SyntaxError
        pass  # what was read before the damage counts
    addresses = _addresses(found, url)
    return Listed(sitemaps=addresses) if kind == "sitemapindex" else Listed(pages=addresses if kind == "urlset" else ())


def _addresses(found: list[str], base: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address for one in found[:ADDRESSES] if one.strip() and (address := page_address(base, one.strip()))))
