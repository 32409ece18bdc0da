"""WAT files of realistic shape, for timing.

A page here has 175 links, 16 of them to images, 9 of which have an alt text, and 33 kB of JSON:
what cc2dataset's own tests count in one WAT file of Common Crawl (733,994 images, 405,232 with alt,
about 45,000 pages), with the links of other kinds that such a file holds.
"""

import gzip
import json
import random
from pathlib import Path
from typing import Any

ENGLISH = (
    "blue house garden photo old small river city market train sunset with people and dog on the"
    " street new product view red shoes"
)
WORDS = [*ENGLISH.split(), "Straße", "café", "東京", "mañana", "2024", "best", "how", "make"]


def made(path: Path, pages: int, seed: int = 1) -> None:
    """A WAT file: three records a page, a gzip member each."""
    draw = random.Random(seed)
    with open(path, "wb") as file:
        for number in range(pages):
            url = f"https://www.site{number % 97}.example/{draw.choice(('blog', 'shop', 'news'))}/page-{number}.html"  # noqa: E501
            for kind, payload in (
                ("request", _request()),
                ("response", _response(draw, number)),
                ("metadata", _metadata()),
            ):
                file.write(
                    _member(
                        url,
                        json.dumps(
                            _envelope(url, kind, payload), separators=(",", ":"), ensure_ascii=False
                        ).encode(),
                    )
                )


def _member(url: str, data: bytes) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Target-URI: {url}\r\nWARC-Date:"
        " 2024-05-31T01:17:49Z\r\n"
    )
    head += (
        "WARC-Record-ID: <urn:uuid:3d3f4785-c69a-4f8c-968c-d23302c55ef4>\r\nContent-Type:"
        " application/json\r\n"
    )
    head += f"Content-Length: {len(data)}\r\n\r\n"
    return gzip.compress(head.encode() + data + b"\r\n\r\n", 6, mtime=0)


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def _slug(draw: random.Random, words: int) -> str:
    return "-".join(draw.choices(WORDS[:20], k=words))


def _image(draw: random.Random, site: int, place: int) -> dict[str, str]:
    addresses = (
        f"https://cdn.site{site}.example/media/{draw.randrange(10**9):x}/{_slug(draw, 4)}.jpg",
        f"/static/img/{draw.randrange(10**7)}.png",
        f"/wp-content/uploads/2024/05/{_slug(draw, 3)}-1024x768.jpg",
        f"//img.example.net/{place}/{_slug(draw, 2)}.webp",
        f"images/{_slug(draw, 2)}.gif",
    )
    link = {"path": "IMG@/src", "url": draw.choices(addresses, (40, 20, 25, 10, 5))[0]}
    if draw.random() < 0.56:
        link["alt"] = _text(draw, draw.randint(1, 12))
    if draw.random() < 0.1:
        link["title"] = _text(draw, 4)
    return link


def _anchor(draw: random.Random, site: int) -> dict[str, str]:
    folder = draw.choice(("tag", "category", "page", "2024/05/12"))
    link = {
        "path": "A@/href",
        "url": f"https://www.site{site}.example/{folder}/{_slug(draw, draw.randint(2, 9))}/",
    }
    link["text"] = _text(draw, draw.randint(2, 12))
    if draw.random() < 0.3:
        link["title"] = _text(draw, 3)
    if draw.random() < 0.3:
        link["rel"] = "nofollow"
    return link


def _response(draw: random.Random, number: int) -> dict[str, Any]:
    site = number % 97
    links = [
        _image(draw, site, place) if draw.random() < 16 / 175 else _anchor(draw, site)
        for place in range(draw.randint(20, 330))
    ]
    metas = [
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
        {"name": "HTML@/lang", "content": "en-US"},
    ]
    metas += [{"name": "robots", "content": "index, follow, max-image-preview:large"}] * (
        number % 2
    )
    metas += [
        {"property": f"og:{name}", "content": _text(draw, 6)}
        for name in ("title", "description", "image", "url", "type")
    ]
    sheets, scripts = range(draw.randint(4, 25)), range(draw.randint(3, 25))
    assets = f"https://www.site{site}.example/assets"
    head = {
        "Title": _text(draw, 8),
        "Metas": metas,
        "Link": [
            {
                "path": "LINK@/href",
                "url": f"{assets}/{n}/style.min.css?ver=6.{n}",
                "rel": "stylesheet",
            }
            for n in sheets
        ],
        "Scripts": [
            {"path": "SCRIPT@/src", "url": f"{assets}/js/{n}/bundle.min.js?ver=6.{n}"}
            for n in scripts
        ],
    }
    headers = {
        "date": "Sat, 18 May 2024 01:58:10 GMT",
        "server": "nginx",
        "content-type": "text/html; charset=UTF-8",
    }
    headers |= {
        "X-Crawler-content-encoding": "gzip",
        "cache-control": "private, s-maxage=0, max-age=0, must-revalidate",
        "vary": "Cookie",
    }
    answer = {
        "Response-Message": {"Version": "HTTP/1.1", "Status": "200", "Reason": "OK"},
        "Headers-Length": "1210",
        "Headers": headers,
    }
    answer |= {
        "HTML-Metadata": {"Head": head, "Links": links},
        "Entity-Length": "9999",
        "Entity-Trailing-Slop-Length": "0",
    }
    return {
        "Actual-Content-Type": "application/http; msgtype=response",
        "HTTP-Response-Metadata": answer,
        "Actual-Content-Length": "11209",
    }


def _request() -> dict[str, Any]:
    headers = {
        "User-Agent": "CCBot/2.0 (https://commoncrawl.org/faq/)",
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9",
    }
    headers |= {
        "Accept-Language": "en-US,en;q=0.5",
        "Accept-Encoding": "br,gzip",
        "Host": "www.site.example",
        "Connection": "Keep-Alive",
    }
    request = {
        "Request-Message": {"Method": "GET", "Path": "/", "Version": "HTTP/1.1"},
        "Headers-Length": "263",
        "Headers": headers,
    }
    return {
        "Actual-Content-Type": "application/http; msgtype=request",
        "HTTP-Request-Metadata": request,
        "Actual-Content-Length": "265",
    }


def _metadata() -> dict[str, Any]:
    records = [
        {"Name": "fetchTimeMs", "Value": "289"},
        {"Name": "charset-detected", "Value": "UTF-8"},
    ]
    return {
        "Actual-Content-Type": "application/metadata-fields",
        "WARC-Metadata-Metadata": {"Metadata-Records": records},
    }


def _envelope(url: str, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    packed = {
        "Deflate-Length": "423",
        "Header-Length": "10",
        "Footer-Length": "8",
        "Inflated-CRC": "1106529533",
        "Inflated-Length": "626",
    }
    warc = {
        "WARC-Type": kind,
        "WARC-Date": "2024-05-18T01:58:10Z",
        "WARC-Record-ID": "<urn:uuid:292f457d-203c-42f2-a1b5-69a4dabefd4f>",
    }
    warc |= {
        "Content-Length": "265",
        "Content-Type": f"application/http; msgtype={kind}",
        "WARC-IP-Address": "208.80.154.224",
    }
    return {
        "Container": {
            "Filename": "CC-MAIN-0.warc.gz",
            "Compressed": True,
            "Offset": "80610308",
            "Gzip-Metadata": packed,
        },
        "Envelope": {
            "Payload-Metadata": payload,
            "Format": "WARC/1.0",
            "WARC-Header-Length": "357",
            "WARC-Header-Metadata": {**warc, "WARC-Target-URI": url},
        },
    }
