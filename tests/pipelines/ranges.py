"""A server of byte ranges on the loopback address, for tests, that records what was asked of it and
can misbehave.
"""

import functools
import http.server
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.pipelines.web import serving


@dataclass
class RangeWeb:
    """A running server: `asked` lists (path, first byte, byte behind the last) of the GET requests,
    None where no range was asked for.
    """

    url: str
    files: dict[str, bytes]
    ranges: bool = True  # else whole files, whatever is asked, and no size to begin with
    fail: int = 0  # so many GET requests are answered with 503 first
    cut: int = 0  # so many GET requests end in the middle of the body first
    asked: list[tuple[str, int | None, int | None]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    sent: int = 0  # bytes of bodies
    guard: threading.Lock = field(default_factory=threading.Lock)

    def trouble(self) -> str:
        with self.guard:
            if self.fail:
                self.fail -= 1
                return "fail"
            if self.cut:
                self.cut -= 1
                return "cut"
        return ""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: object, web: RangeWeb) -> None:
        self.web = web
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.web.heads.append(self.path)
        data = self.web.files.get(self.path)
        self.send_response(200 if data is not None else 404)
        if data is not None and self.web.ranges:
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{len(data)}"')
            self.send_header("Content-Length", str(len(data)))
        elif data is None:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        data = self.web.files.get(self.path)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = (
            (int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else None) if wanted else (None, None)
        )
        self.web.asked.append((self.path, start, end))
        trouble = self.web.trouble()
        if data is None or trouble == "fail":
            self._answer(503 if trouble else 404, b"")
        elif start is None or not self.web.ranges:
            self._answer(200, data, cut=trouble == "cut")
        elif start >= len(data):
            self._answer(416, b"")
        else:
            body = data[start:end]
            self._answer(
                206,
                body,
                (("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(data)}"),),
                cut=trouble == "cut",
            )

    def _answer(
        self, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = (), cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: len(body) // 2] if cut else body
        self.close_connection = self.close_connection or cut
        self.web.sent += len(body)
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def ranged(files: Mapping[str, bytes]) -> Iterator[RangeWeb]:
    """A server of these files, by path, until the block ends."""
    web = RangeWeb(url="", files=dict(files))
    with serving(functools.partial(_Handler, web=web)) as web.url:
        yield web
