"""Connections that go only to permitted addresses and end with the time of one image."""

import http.client
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any

Address = tuple[socket.AddressFamily, str]


@dataclass(slots=True)
class Clock:
    """The time that is left for one image."""

    deadline: float

    def left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for one image is over")
        return left


class _TimedSocket(socket.socket):
    """A socket whose every read ends with the image's time, however slowly the bytes drip."""

    clock: Clock | None = None

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self.clock is not None:
            self.settimeout(self.clock.left())
        return super().recv_into(*args, **kwargs)


class _TimedTls(ssl.SSLSocket):
    """The same for TLS."""

    clock: Clock | None = None

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self.clock is not None:
            self.settimeout(self.clock.left())
        return super().recv_into(*args, **kwargs)


class Connection(http.client.HTTPConnection):
    """A connection to one of the addresses that were permitted, never to what the name resolves to a moment later."""

    def __init__(self, host: str, port: int, addresses: list[Address], tls: ssl.SSLContext | None) -> None:
        super().__init__(host, port)
        self._addresses, self._tls = addresses, tls
        self.clock = Clock(0.0)
        self.used = False

    def connect(self) -> None:
        error: OSError | None = None
        for family, address in self._addresses:
            raw = _TimedSocket(family, socket.SOCK_STREAM)
            try:
                raw.settimeout(self.clock.left())
                raw.connect((address, self.port))
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.sock = raw if self._tls is None else self._tls.wrap_socket(raw, server_hostname=self.host)
                self.give(self.clock)
                return
            except OSError as failed:
                raw.close()
                error = failed
        raise error or OSError("no address to connect to")

    def give(self, clock: Clock) -> None:
        """Let all that follows end with this clock."""
        self.clock = clock
        if isinstance(self.sock, _TimedSocket | _TimedTls):
            self.sock.clock = clock
            self.sock.settimeout(clock.left())


def tls_context() -> ssl.SSLContext:
    """One context for all connections: to make one costs 20 ms of CPU."""
    context = ssl.create_default_context()
    context.sslsocket_class = _TimedTls
    return context
