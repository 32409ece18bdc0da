"""WAT records as the extractor of webarchive-commons writes them, for tests."""

import gzip
import json
from collections.abc import Sequence
from typing import Any

Links = Sequence[dict[str, Any]]


def image(url: str, **said: str) -> dict[str, str]:
    return {"path": "IMG@/src", "url": url, **said}


Pairs = dict[str, Any]


def envelope(
    url: str,
    links: Links,
    *,
    head: Pairs | None = None,
    headers: Pairs | None = None,
    status: str = "200",
) -> Any:
    """The JSON of a response record with these links."""
    html = {"Head": {"Title": "A page", **(head or {})}, "Links": list(links)}
    response = {
        "Response-Message": {"Version": "HTTP/1.1", "Status": status, "Reason": "OK"},
        "Headers-Length": "99",
    }
    response |= {
        "Headers": {"Content-Type": "text/html", **(headers or {})},
        "HTML-Metadata": html,
        "Entity-Length": "9",
    }
    return around(
        url,
        "response",
        {
            "Actual-Content-Type": "application/http; msgtype=response",
            "HTTP-Response-Metadata": response,
        },
    )


def around(url: str, kind: str, payload: dict[str, Any]) -> Any:
    warc = {
        "WARC-Type": kind,
        "WARC-Date": "2026-01-02T03:04:05Z",
        "Content-Length": "265",
        "WARC-Target-URI": url,
    }
    return {
        "Container": {
            "Filename": "a.warc.gz",
            "Compressed": True,
            "Offset": "1",
            "Gzip-Metadata": {"Deflate-Length": "423"},
        },
        "Envelope": {
            "Payload-Metadata": payload,
            "Format": "WARC/1.0",
            "WARC-Header-Length": "357",
            "WARC-Header-Metadata": warc,
        },
    }


def request(url: str) -> Any:
    """The JSON of a request record."""
    metadata = {
        "Request-Message": {"Method": "GET", "Path": "/", "Version": "HTTP/1.1"},
        "Headers": {"User-Agent": "CCBot/2.0"},
    }
    return around(
        url,
        "request",
        {
            "Actual-Content-Type": "application/http; msgtype=request",
            "HTTP-Request-Metadata": metadata,
        },
    )


def dumped(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def wat(*records: Any) -> bytes:
    """A WAT file, a gzip member a record; records are JSON values or their bytes."""
    return b"".join(member(one if isinstance(one, bytes) else dumped(one)) for one in records)


def member(data: bytes) -> bytes:
    head = (
        "WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Target-URI: http://a.example/\r\nWARC-Date:"
        " 2026-02-03T00:00:00Z\r\n"
    )
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return gzip.compress(head.encode() + data + b"\r\n\r\n", mtime=0)
