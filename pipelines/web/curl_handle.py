"""One exchange over libcurl: what is asked, to which addresses, and what its end means."""

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import pycurl

from pipelines.permission.networks import is_literal
from pipelines.permission.outcomes import headers_outcome
from pipelines.sources.body import Body
from pipelines.sources.fetch_result import FetchError, Headers, Reply, has_content
from pipelines.urls import place_of

CONNECT_SECONDS = 10.0  # to reach a host; curl's own default is 300
ERROR_BYTES = 64 * 1024  # of the body of an error or a redirect, so that the connection can be kept
BUFFER = 64 * 1024  # bytes that a body comes in at most at once
SUPPRESS_CONNECT_HEADERS = 265  # CURLOPT_SUPPRESS_CONNECT_HEADERS, which pycurl has no name for
BLANK = " \t\r\n"  # around names and values
E_PROXY = 97  # CURLE_PROXY
# numbers of libcurl's errors, from its curl.h
TLS = frozenset({35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91})
MALFORMED = frozenset({1, 8, 16, 43, 61, 92, 95, 100})
CLOSED = frozenset({pycurl.E_GOT_NOTHING, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR})
PROXY = frozenset({pycurl.E_COULDNT_RESOLVE_PROXY, E_PROXY})


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """What to ask for, under an address that `written` gave.

    With `whole` an answer of more than `limit` bytes is refused, else it is cut there; with
    `judged`, one whose headers forbid its use. Behind a `proxy` (its address), `addresses` are
    the proxy's.
    """

    url: str
    addresses: tuple[str, ...]  # that may be connected to, in the order of preference
    limit: int
    headers: Headers = ()
    whole: bool = True
    judged: bool = False
    proxy: str = ""


class CurlHandle:
    """A curl handle with what came over it so far."""

    def __init__(
        self,
        agent: str,
        authorities: dict[int, Any],
        share: pycurl.CurlShare,
        spend: Callable[[int], bool],
    ) -> None:
        self.curl = pycurl.Curl()
        self._spend = spend
        self._sent: Headers = ()
        self._proxy = ""
        self.curl.setopt(pycurl.SHARE, share)
        for option, value in {**_fixed(agent), **authorities}.items():
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._on_header)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._on_body)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._on_connect)

    def take(self, request: FetchRequest, seconds: float) -> None:
        """Get ready to ask."""
        self._request = request
        self._addresses = _without_scopes(request.addresses)
        self._status, self._reason = 0, ""
        self._lines: list[bytes] = []
        self._headers: Headers = ()
        self._body = Body()
        self._refusal: FetchError | None = None
        self._error: Exception | None = None
        self._headed = self._begun = self._cut = False
        self.curl.setopt(pycurl.URL, request.url)
        self.curl.setopt(pycurl.RESOLVE, _resolved(request))
        self.curl.setopt(pycurl.TIMEOUT_MS, max(1, int(seconds * 1000)))
        self.curl.setopt(pycurl.MAXFILESIZE_LARGE, request.limit if request.whole else 0)
        if request.headers is not self._sent:
            lines = [f"{name}: {value}".encode("latin-1") for name, value in request.headers]
            self.curl.setopt(pycurl.HTTPHEADER, lines)
            self._sent = request.headers
        if request.proxy != self._proxy:
            self.curl.setopt(pycurl.PROXY, request.proxy)
            self._proxy = request.proxy

    def answer(self, code: int, words: str) -> Reply:
        """The reply, or FetchError by what curl says of the end."""
        request = self._request
        if self._error is not None:
            raise self._error
        if self._refusal is not None:
            raise self._refusal
        if code == 0 and not self._headed:
            outcome = "fetch.cut" if self._status else "fetch.malformed"
            raise FetchError(outcome, "the head of the answer is not whole")
        if code == 0 or self._cut or self._ended_without_a_word(code, words) or self._is_error():
            address = None if request.proxy else self.curl.getinfo(pycurl.PRIMARY_IP)
            headers, body = self._headers, self._body
            return Reply(self._status, headers, body, self._reason, address, self._cut)
        if code in (pycurl.E_FILESIZE_EXCEEDED, pycurl.E_WRITE_ERROR):
            words = f"at most {request.limit} bytes are fetched"
            raise FetchError("fetch.too_large", words, self._status)
        raise FetchError(self._failure(code, words), f"curl {code}: {words}", self._status or None)

    def _is_error(self) -> bool:
        """Whether an answer is there that has nothing of what was asked for."""
        return self._request.whole and self._headed and not has_content(self._status)

    def _ended_without_a_word(self, code: int, words: str) -> bool:
        """Whether a server that announced no length closed without closing TLS, as many do.

        The decoder sees what is missing.
        """
        names = {name.lower() for name, _ in self._headers}
        framed = not names.isdisjoint(("content-length", "transfer-encoding"))
        silent = code == pycurl.E_RECV_ERROR and "unexpected eof" in words
        return silent and self._begun and not framed

    def _failure(self, code: int, words: str) -> str:
        if code in PROXY or (self._request.proxy and "CONNECT" in words):
            return "fetch.proxy"
        if code == pycurl.E_COULDNT_CONNECT:
            refused = self.curl.getinfo(pycurl.OS_ERRNO) == errno.ECONNREFUSED
            there = "fetch.refused" if refused else "fetch.unreachable"
            return "fetch.proxy" if self._request.proxy else there
        if code == pycurl.E_RECV_ERROR and ("headers" in words or "chunk" in words):
            return "fetch.malformed"
        if code == pycurl.E_PARTIAL_FILE or (code in CLOSED and self._begun):
            return "fetch.cut"
        named = {
            pycurl.E_OPERATION_TIMEDOUT: "fetch.timeout",
            pycurl.E_COULDNT_RESOLVE_HOST: "fetch.dns",
            pycurl.E_URL_MALFORMAT: "address.malformed",
        }
        groups = {"fetch.tls": TLS, "fetch.malformed": MALFORMED, "fetch.closed": CLOSED}
        among = next((outcome for outcome, codes in groups.items() if code in codes), None)
        return named.get(code) or among or "fetch.unreachable"

    def _on_connect(self, purpose: int, target: Any) -> socket.socket | int:
        """A socket, if the address is one that was judged: a name's later answers do not matter."""
        if target.addr[0].split("%", 1)[0] not in self._addresses:
            return int(pycurl.SOCKET_BAD)
        return socket.socket(target.family, target.socktype, target.protocol)

    def _on_header(self, line: bytes) -> int | None:
        try:
            self._take_header(line)
        except Exception as error:  # noqa: BLE001 - nothing passes through libcurl; `answer` raises it
            self._error = error
        return None if self._refusal is None and self._error is None else -1

    def _take_header(self, line: bytes) -> None:
        """Collect the last head of the answer (1xx may come before it), and judge it at its end."""
        if self._begun:  # a trailer
            return
        if line.startswith(b"HTTP/"):
            self._status, self._reason = _status(line)
            self._lines = []
        elif line.strip():
            self._lines.append(line)
        else:
            self._headed = self._status >= 200
            self._headers = _headers(self._lines)
            if self._request.judged and has_content(self._status):
                self._judge()

    def _judge(self) -> None:
        outcome = headers_outcome(self._headers)
        if outcome is not None:
            words = "the response's headers do not allow it"
            self._refusal = FetchError(outcome, words, self._status)

    def _on_body(self, piece: bytes) -> int | None:
        """Keep a piece; 0 ends the exchange."""
        self._begun = True
        request = self._request
        if not self._spend(len(piece)):
            words = "the bytes of this run were spent (--max-bytes)"
            self._refusal = FetchError("fetch.budget", words, self._status)
            return 0
        bodiless = request.whole and not has_content(self._status)
        limit = ERROR_BYTES if bodiless else request.limit
        room = limit - self._body.size
        try:
            self._body.write(piece if len(piece) <= room else piece[:room])
        except OSError as error:  # a full disk
            self._error = error
            return 0
        if len(piece) <= room:
            return None
        self._cut = bodiless or not request.whole
        return 0


def _headers(lines: list[bytes]) -> Headers:
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return tuple((name.strip(BLANK), value.strip(BLANK)) for name, _, value in pairs)


def _status(line: bytes) -> tuple[int, str]:
    """Status and reason of the first line of an answer; 0 where it has none."""
    words = line.split(None, 2)
    known = len(words) > 1 and words[1].isdigit() and len(words[1]) == 3
    reason = words[2].strip().decode("latin-1") if len(words) > 2 else ""
    return (int(words[1]), reason) if known else (0, "")


def _fixed(agent: str) -> dict[int, Any]:
    """What all exchanges have in common: no cookie, password file or redirect of curl's own."""
    return {
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        pycurl.FOLLOWLOCATION: 0,
        pycurl.PROXY: "",
        pycurl.NOPROXY: "",  # which proxy is asked, if any, is decided before
        SUPPRESS_CONNECT_HEADERS: 1,
        pycurl.NETRC: pycurl.NETRC_IGNORED,
        pycurl.NOSIGNAL: 1,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.USERAGENT: agent,
        pycurl.HTTP_CONTENT_DECODING: 0,
        pycurl.SSL_VERIFYPEER: 1,
        pycurl.SSL_VERIFYHOST: 2,
        # elliptic curves alone: a post-quantum exchange costs 0.1 ms of CPU and keeps secret what
        # everybody may read
        pycurl.SSL_EC_CURVES: "X25519:P-256:P-384:P-521",
        pycurl.CONNECTTIMEOUT_MS: int(CONNECT_SECONDS * 1000),
        pycurl.BUFFERSIZE: BUFFER,
    }


def written(url: str) -> str:
    """An address as it is asked for, without user, password and fragment; FetchError if it cannot
    be written in a request."""
    parts = urlsplit(url)
    place = parts.netloc.rsplit("@", 1)[-1]
    query = f"?{parts.query}" if parts.query else ""
    whole = f"{parts.scheme}://{place}{parts.path or '/'}{query}"
    if not whole.isascii():
        raise FetchError("address.malformed", f"{whole[:100]!r} cannot be written in a request")
    return whole


def _resolved(request: FetchRequest) -> list[str]:
    """curl's entry of the addresses that the host (or the proxy) has."""
    scheme, _, rest = (request.proxy or request.url).partition("://")
    return _entry(scheme, rest.partition("/")[0], request.addresses)


@lru_cache(maxsize=1024)
def _entry(scheme: str, authority: str, addresses: tuple[str, ...]) -> list[str]:
    """The same of one host, whatever of it is asked for; none where it is an address itself."""
    host, port = place_of(authority)
    if is_literal(host):
        return []
    default = {"https": 443, "http": 80}.get(scheme, 1080)  # SOCKS, RFC 1928
    places = ",".join(f"[{one}]" if ":" in one else one for one in addresses)
    return [f"+{host}:{port or default}:{places}"]


@lru_cache(maxsize=1024)
def _without_scopes(addresses: tuple[str, ...]) -> frozenset[str]:
    return frozenset(address.split("%", 1)[0] for address in addresses)
