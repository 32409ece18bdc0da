"""A loopback web server for the demo's site."""

import errno
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import SystemRandom
from typing import Any

HEADERS = "headers.json"  # path of a page -> the X-Robots-Tag it is served with
_HOST = "127.0.0.1"
_PORT = "port"
# Below the range from which Linux and macOS take the ports of outgoing connections (32768 and 49152
# up), so that a stored port is not lent to a client between two runs, and above the ports that
# well-known services use.
_PORTS = range(20000, 32000)


class _Handler(SimpleHTTPRequestHandler):
    """Files of the site, kept-alive connections, the headers that some pages ask for, and no
    log.
    """

    protocol_version = "HTTP/1.1"
    # the head and the body are two writes: without this each answer waits 40 ms for an ACK
    disable_nagle_algorithm = True
    timeout = 30  # seconds an idle connection is kept

    def __init__(self, *args: Any, robots: Mapping[str, str], **kwargs: Any) -> None:
        self._robots = robots
        super().__init__(*args, **kwargs)

    def end_headers(self) -> None:
        asked = self._robots.get(self.path.partition("?")[0])
        if asked:
            self.send_header("X-Robots-Tag", asked)
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # connections of a fetcher with many threads arrive at once; the default is 5
    request_queue_size = 128


@contextmanager
def serve(folder: Path, *, port: int = 0) -> Iterator[str]:
    """Serve the site of `folder` on the loopback address and give its base URL, without a slash at
    the end.

    A port once chosen (0: by us) is written to folder/port and used again, so that a resumed run
    sees the same addresses. Raises ValueError when that port is taken by now.
    """
    robots = json.loads((folder / HEADERS).read_text())
    server = _bind(folder, port, partial(_Handler, directory=str(folder / "site"), robots=robots))
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield f"http://{_HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _bind(folder: Path, port: int, handler: Any) -> _Server:
    """A listening server on the port asked for, else on the stored one, else on a free one; the
    port is stored.
    """
    stored = folder / _PORT
    fixed = port or (int(stored.read_text()) if stored.exists() else 0)
    choices = [fixed] if fixed else SystemRandom().sample(_PORTS, 50)
    for choice in choices:
        try:
            server = _Server((_HOST, choice), handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            continue
        stored.write_text(str(choice))
        return server
    if fixed:
        raise ValueError(
            f"port {fixed}, under which the pages of {folder} are known, is taken: end the program"
            " that listens there (perhaps another demo), or start anew in another folder"
        )
    raise ValueError(
        f"none of fifty ports between {_PORTS.start} and {_PORTS.stop} is free: name one"
    )
