"""A small web on the loopback address, for tests: every answer is written out by the test."""

import functools
import http.server
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer. `drip` sends the body that many bytes at a time with `pause` seconds between."""

    body: bytes = b""
    status: int = 200
    type: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    drip: int = 0
    pause: float = 0.0
    endless: bool = False  # the body again and again
    announced: int | None = None  # a Content-Length that lies


Page = str | bytes | Reply | Callable[[], Reply]


@dataclass
class Web:
    """A running server: `asked` lists the paths in the order of their requests."""

    url: str
    pages: dict[str, Page]
    asked: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)

    def reply(self, path: str) -> Reply:
        page = self.pages.get(path)
        if callable(page):
            return page()
        if page is None:
            return Reply(status=404, body=b"nothing here")
        return (
            page
            if isinstance(page, Reply)
            else Reply(body=page.encode() if isinstance(page, str) else page)
        )


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, *args: object, web: Web) -> None:
        self.web = web
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.web.asked.append(self.path)
        self.web.agents.add(self.headers.get("User-Agent", ""))
        reply = self.web.reply(self.path)
        if self._has(reply):
            reply = Reply(status=304, type="", headers=reply.headers)
        self.send_response(reply.status)
        if reply.type:
            self.send_header("Content-Type", reply.type)
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.endless:
            self.send_header("Connection", "close")
        else:
            self.send_header(
                "Content-Length",
                str(len(reply.body) if reply.announced is None else reply.announced),
            )
        self.close_connection = reply.endless or reply.announced is not None
        self.end_headers()
        try:
            self._send(reply)
        except OSError:  # the client had enough
            self.close_connection = True

    def _has(self, reply: Reply) -> bool:
        """Whether the client says that it holds this answer already."""
        named = {
            "ETag": self.headers.get("If-None-Match"),
            "Last-Modified": self.headers.get("If-Modified-Since"),
        }
        return any(named.get(name) == value for name, value in reply.headers)

    def _send(self, reply: Reply) -> None:
        while True:
            step = reply.drip or max(1, len(reply.body))
            for start in range(0, len(reply.body), step):
                self.wfile.write(reply.body[start : start + step])
                time.sleep(reply.pause)
            if not reply.endless:
                return

    def log_message(self, *args: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 makes a burst of connections wait a second
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up in the middle is no news."""


@contextmanager
def served(pages: Mapping[str, Page], port: int = 0) -> Iterator[Web]:
    """A server of these pages until the block ends; without /robots.txt among them it answers 404
    there.
    """
    web = Web(url="", pages=dict(pages))
    with serving(functools.partial(_Handler, web=web), port) as web.url:
        yield web


@contextmanager
def serving(
    handler: Callable[..., http.server.BaseHTTPRequestHandler], port: int = 0
) -> Iterator[str]:
    """The address of a server on loopback that answers with this handler until the block ends."""
    server = _Server(("127.0.0.1", port), handler)  # type: ignore[arg-type]
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def jpeg(width: int = 40, height: int = 30, color: str = "red", **options: object) -> bytes:
    """A small JPEG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), color).save(buffer, "JPEG", **options)
    return buffer.getvalue()
