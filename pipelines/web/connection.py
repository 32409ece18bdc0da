"""Exchanges over HTTP by libcurl on an event loop: many at once, each bounded in time and bytes, to permitted addresses alone.

TLS sessions, the list of authorities and idle connections are shared by all of them. Redirects are handed back, never followed here.
"""

import asyncio
import errno
import os
import selectors
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pycurl

from pipelines.web.addresses import is_literal
from pipelines.web.body import Body
from pipelines.web.opener import Refused, Reply
from pipelines.web.permission import headers_outcome

CONNECT_SECONDS = 10.0  # to reach a host; curl's own default is 300
ERROR_BYTES = 64 * 1024  # of the body of an error or a redirect, read only so that the connection can be kept
IDLE = 256  # connections kept open while nothing is asked
BUFFER = 64 * 1024  # bytes that a body comes in at most at once
TLS = frozenset({35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91})  # numbers of libcurl's errors, from its curl.h
MALFORMED = frozenset({1, 8, 16, 43, 61, 92, 95, 100})
CLOSED = frozenset({pycurl.E_GOT_NOTHING, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to ask for. With `whole` the body is an image's: refused where it is longer than `limit` bytes or its headers forbid it;
    else it is cut there."""

    url: str
    addresses: tuple[str, ...]  # that may be connected to, in the order of preference
    seconds: float
    limit: int
    whole: bool = True


class Wire:
    """libcurl's multi interface on the running event loop; to be used on its thread alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, user_agent: str) -> None:
        self._loop = loop
        self._agent, self._authorities = user_agent, authorities()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, IDLE)
        self._share = pycurl.CurlShare()
        self._share.setopt(pycurl.SH_SHARE, pycurl.LOCK_DATA_SSL_SESSION)
        self._sockets = selectors.DefaultSelector()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[pycurl.Curl, asyncio.Future[tuple[int, str]]] = {}
        self._free: list[_Line] = []
        loop.add_reader(self._sockets, self._ready)

    async def ask(self, order: Order) -> Reply:
        """One exchange; Refused if it brings no answer, or an image that may not be had."""
        line = self._free.pop() if self._free else _Line(self._agent, self._authorities, self._share)
        line.take(order)
        future = self._waiting[line.curl] = self._loop.create_future()
        self._multi.add_handle(line.curl)
        try:
            code, words = await future
            return line.answer(code, words)
        finally:
            del self._waiting[line.curl]
            self._multi.remove_handle(line.curl)
            self._free.append(line)

    def close(self) -> None:
        """Close all connections; nothing may be under way."""
        self._loop.remove_reader(self._sockets)
        for line in self._free:
            line.curl.close()
        self._multi.close()
        self._sockets.close()

    def _on_socket(self, what: int, number: int, multi: object, data: object) -> None:
        known = number in self._sockets.get_map()
        if what == pycurl.POLL_REMOVE:
            if known:
                self._sockets.unregister(number)
            return
        events = (selectors.EVENT_READ if what & pycurl.POLL_IN else 0) | (selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0)
        if known:
            self._sockets.modify(number, events)
        else:
            self._sockets.register(number, events)

    def _on_timer(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(milliseconds / 1000, self._expired) if milliseconds >= 0 else None

    def _expired(self) -> None:
        self._timer = None
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._settle()

    def _ready(self) -> None:
        for key, events in self._sockets.select(0):
            mask = (pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0) | (
                pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0
            )
            self._multi.socket_action(key.fd, mask)
        self._settle()

    def _settle(self) -> None:
        """Wake those whose exchange has ended."""
        more = 1
        while more:
            more, good, bad = self._multi.info_read()
            for curl, code, words in [*((curl, 0, "") for curl in good), *bad]:
                future = self._waiting.get(curl)
                if future is not None and not future.done():
                    future.set_result((code, words))


class _Line:
    """A curl handle with what came over it so far."""

    def __init__(self, agent: str, authorities: dict[int, str], share: pycurl.CurlShare) -> None:
        self.curl = pycurl.Curl()
        self.curl.setopt(pycurl.SHARE, share)
        for option, value in {**_fixed(agent), **authorities}.items():
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._on_header)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._on_body)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._on_connect)

    def take(self, order: Order) -> None:
        self._order = order
        self._addresses = frozenset(address.split("%", 1)[0] for address in order.addresses)
        self._status, self._headers, self._body = 0, list[tuple[str, str]](), Body()
        self._refusal: str | None = None
        self._headed = self._begun = self._cut = False
        url, entry = _target(order)
        self.curl.setopt(pycurl.URL, url)
        self.curl.setopt(pycurl.RESOLVE, entry)
        self.curl.setopt(pycurl.TIMEOUT_MS, max(1, int(order.seconds * 1000)))
        self.curl.setopt(pycurl.MAXFILESIZE_LARGE, order.limit if order.whole else 0)

    def answer(self, code: int, words: str) -> Reply:
        """The reply, or Refused by what curl says of the end."""
        order = self._order
        if self._refusal is not None:
            raise Refused(self._refusal, "the response's headers do not allow it", self._status)
        if code == 0 and not self._headed:
            raise Refused("fetch.cut" if self._status else "fetch.malformed", "the head of the answer is not whole")
        if code == 0 or self._cut or self._ended_without_a_word(code, words) or (order.whole and self._headed and self._status != 200):
            return Reply(self._status, tuple(self._headers), self._body)
        if code in (pycurl.E_FILESIZE_EXCEEDED, pycurl.E_WRITE_ERROR):
            raise Refused("fetch.too_large", f"at most {order.limit} bytes are fetched", self._status)
        raise Refused(self._failure(code, words), f"curl {code}: {words}", self._status or None)

    def _ended_without_a_word(self, code: int, words: str) -> bool:
        """Whether a server that announced no length closed without closing TLS, as many do; the decoder sees what is missing."""
        framed = any(name.lower() in ("content-length", "transfer-encoding") for name, _ in self._headers)
        return code == pycurl.E_RECV_ERROR and self._begun and not framed and "unexpected eof" in words

    def _failure(self, code: int, words: str) -> str:
        if code == pycurl.E_COULDNT_CONNECT:
            return "fetch.refused" if self.curl.getinfo(pycurl.OS_ERRNO) == errno.ECONNREFUSED else "fetch.unreachable"
        if code == pycurl.E_RECV_ERROR and ("headers" in words or "chunk" in words):
            return "fetch.malformed"
        if code == pycurl.E_PARTIAL_FILE or (code in CLOSED and self._begun):
            return "fetch.cut"
        named = {pycurl.E_OPERATION_TIMEDOUT: "fetch.timeout", pycurl.E_COULDNT_RESOLVE_HOST: "fetch.dns"}
        named[pycurl.E_URL_MALFORMAT] = "address.malformed"
        groups = {"fetch.tls": TLS, "fetch.malformed": MALFORMED, "fetch.closed": CLOSED}
        return named.get(code) or next((outcome for outcome, codes in groups.items() if code in codes), "fetch.unreachable")

    def _on_connect(self, purpose: int, target: Any) -> socket.socket | int:
        """A socket, if the address is one that was judged: a name's later answers do not matter."""
        if target.addr[0].split("%", 1)[0] not in self._addresses:
            return int(pycurl.SOCKET_BAD)
        return socket.socket(target.family, target.socktype, target.protocol)

    def _on_header(self, line: bytes) -> int | None:
        """Collect the last head of the answer (1xx may come before it), and judge it where it ends."""
        if self._begun:  # a trailer
            return None
        if line.startswith(b"HTTP/"):
            words = line.split(None, 2)
            self._status, self._headers = int(words[1]) if len(words) > 1 and words[1].isdigit() and len(words[1]) == 3 else 0, []
        elif line.strip():
            name, _, value = _text(line).partition(":")
            self._headers.append((name.strip(), value.strip()))
        else:
            self._headed = self._status >= 200
            if self._order.whole and self._status == 200:
                self._refusal = headers_outcome(self._headers)
        return None if self._refusal is None else -1

    def _on_body(self, piece: bytes) -> int | None:
        """Keep a piece; 0 ends the exchange."""
        self._begun = True
        bodiless = self._order.whole and self._status != 200
        limit = ERROR_BYTES if bodiless else self._order.limit
        room = limit - self._body.size
        self._body.write(piece if len(piece) <= room else piece[:room])
        if len(piece) <= room:
            return None
        self._cut = bodiless or not self._order.whole
        return 0


def _fixed(agent: str) -> dict[int, Any]:
    """What all exchanges have in common: no proxy, cookie, password file or redirect of curl's own."""
    return {
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        pycurl.FOLLOWLOCATION: 0,
        pycurl.PROXY: "",
        pycurl.NOPROXY: "*",
        pycurl.NETRC: pycurl.NETRC_IGNORED,
        pycurl.NOSIGNAL: 1,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.USERAGENT: agent,
        pycurl.HTTPHEADER: ["Accept: image/*,*/*;q=0.5", "Accept-Encoding: identity"],
        pycurl.HTTP_CONTENT_DECODING: 0,
        pycurl.SSL_VERIFYPEER: 1,
        pycurl.SSL_VERIFYHOST: 2,
        # elliptic curves alone: a post-quantum exchange costs 0.1 ms of CPU and keeps secret what everybody may read
        pycurl.SSL_EC_CURVES: "X25519:P-256:P-384:P-521",
        pycurl.CONNECTTIMEOUT_MS: int(CONNECT_SECONDS * 1000),
        pycurl.BUFFERSIZE: BUFFER,
    }


def _text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _target(order: Order) -> tuple[str, list[str]]:
    """The address without user, password and fragment, and curl's entry of what its host resolves to."""
    parts = urlsplit(order.url)
    place = parts.netloc.rsplit("@", 1)[-1]
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    url = urlunsplit((parts.scheme, place, parts.path or "/", parts.query, ""))
    if is_literal(host):
        return url, []
    addresses = ",".join(f"[{address}]" if ":" in address else address for address in order.addresses)
    return url, [f"+{host}:{port}:{addresses}"]


def authorities() -> dict[int, str]:
    """Where the system keeps the certificates that it trusts, as options of curl; SSL_CERT_FILE and SSL_CERT_DIR come first.

    curl's wheel brings its own OpenSSL, which knows the places of the machine that built it. ValueError if there are none.
    """
    known = ssl.get_default_verify_paths()
    options: dict[int, str] = {}
    if known.cafile is not None:
        options[pycurl.CAINFO] = known.cafile
    if known.capath is not None and (known.cafile is None or "SSL_CERT_DIR" in os.environ):
        options[pycurl.CAPATH] = known.capath
    if not options:
        raise ValueError("no list of certificate authorities is on this machine: install ca-certificates or set SSL_CERT_FILE")
    return options
