"""What opens image addresses: one TLS context, guarded addresses, a pace for each host, a time and a byte budget, and robots rules.

img2dataset asks `urllib.request.urlopen`, so an Opener is installed with `urllib.request.install_opener`. It answers like one, and keeps
for every address what became of it, since img2dataset passes on no more than an error text.
"""

import http.client
import ssl
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from types import TracebackType
from urllib.parse import urlsplit
from urllib.request import Request

from w3lib.url import safe_url_string

from pipelines.addresses import permitted, resolve
from pipelines.archives import decoded
from pipelines.connection import Address, Clock, Connection, tls_context
from pipelines.relative import absolute
from pipelines.permission import ROBOTS_BYTES, Answer, Robots, address_outcome, headers_outcome, origin, user_agent

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
RETRY_SECONDS = 0.5  # before the one retry, where the server names no time
MAX_RETRY_AFTER = 10.0  # seconds; a longer wish is not waited for
MAX_CRAWL_DELAY = 10.0  # seconds between two images of a host
ADDRESS_SECONDS = 300.0  # how long a host's addresses are remembered
IDLE = 32  # connections kept open to one host
CHUNK = 64 * 1024
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Guest:
    """How we behave on the web of images."""

    allow_private_addresses: bool = False
    contact: str = ""
    images_per_second: float = 10.0  # of one public host; private hosts are not paced unless they ask
    seconds: float = 30.0  # for one image, redirects and all
    image_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """What became of one address: `fetched`, or what stopped it."""

    outcome: str
    detail: str | None = None
    status: int | None = None
    final_url: str | None = None
    content_type: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    fetched_at: str | None = None


class Refused(OSError):
    """An address that gave no image: the outcome and the error in words."""

    def __init__(self, outcome: str, detail: str, status: int | None = None) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome, self.detail, self.status = outcome, detail, status


class Body:
    """An answer read whole, with what img2dataset uses of a response."""

    def __init__(self, body: bytes, headers: Headers) -> None:
        self._body, self.headers = body, Message()
        for name, value in headers:
            self.headers[name] = value

    def read(self) -> bytes:
        return self._body

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


@dataclass(slots=True)
class _Pace:
    """When the next image of a host may be asked for."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    next_start: float = 0.0

    def wait(self, seconds: float) -> float:
        """Sleep until it is our turn; returns the seconds slept."""
        with self.lock:
            now = time.monotonic()
            start = max(now, self.next_start)
            self.next_start = start + seconds
        if start > now:
            time.sleep(start - now)
        return start - now

    def put_off(self, seconds: float) -> None:
        with self.lock:
            self.next_start = max(self.next_start, time.monotonic() + seconds)


@dataclass(frozen=True, slots=True)
class _Host:
    """What is known of a host: its addresses, whether one is private, until when, or why it has none."""

    addresses: list[Address]
    private: bool
    until: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


class Opener:
    """Opens image addresses as a guest should; safe between threads. `attempts` says of every address what became of it."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.attempts: dict[str, Attempt] = {}
        self.robots = Robots(self._ask_robots)
        self._tls = tls_context()
        self._hosts: dict[str, _Host] = {}
        self._paces: dict[str, _Pace] = {}
        self._silent: dict[str, Refused] = {}  # origins that gave no robots.txt, and why: nothing else is asked there
        self._idle: dict[tuple[str, str, int], list[Connection]] = {}
        self._lock = threading.Lock()

    def open(self, request: Request, data: bytes | None = None, timeout: object = None) -> Body:
        """The body behind an address, or Refused; img2dataset's own timeout gives way to the budget of the guest."""
        url = request.full_url
        try:
            final, reply = self._fetch(url)
        except Refused as refused:
            self.attempts[url] = Attempt(outcome=refused.outcome, detail=refused.detail[:300], status=refused.status, fetched_at=_now())
            raise
        self.attempts[url] = Attempt(
            outcome="fetched",
            status=reply.status,
            final_url=final,
            content_type=reply.header("content-type"),
            etag=reply.header("etag"),
            last_modified=reply.header("last-modified"),
            fetched_at=_now(),
        )
        return Body(reply.body, reply.headers)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _fetch(self, url: str) -> tuple[str, _Reply]:
        clock = Clock(time.monotonic() + self.guest.seconds)
        for _ in range(MAX_REDIRECTS + 1):
            reply = self._polite(url, clock)
            target = absolute(url, reply.header("location") or "") if reply.status in REDIRECTS else ""
            if not target:
                return url, _image_reply(reply)
            url = target
        raise Refused("fetch.redirects", f"more than {MAX_REDIRECTS} redirects")

    def _polite(self, url: str, clock: Clock) -> _Reply:
        """One request, permitted and in its turn, tried once more where that may help."""
        host = self._permitted(url)
        begin = time.monotonic()
        rules = self.robots.rules(url)
        clock.deadline += time.monotonic() - begin  # waiting for robots.txt is not the image's fault
        if not rules.allows(url):
            if (silence := self._silent.get(origin(url))) is not None:
                raise Refused(silence.outcome, silence.detail)
            raise Refused("permission.robots_image", "robots.txt of the image's host does not allow it, or could not be read")
        name = urlsplit(url).hostname or ""
        with self._lock:
            pace = self._paces.setdefault(name, _Pace())
        seconds = max(0.0 if host.private else 1 / self.guest.images_per_second, min(rules.delay(), MAX_CRAWL_DELAY))
        clock.deadline += pace.wait(seconds)
        reply, error = self._tried(url, host, clock)
        wait = _patience(reply, error)
        if wait is None or wait > clock.deadline - time.monotonic():
            return _answered(reply, error)
        pace.put_off(wait)
        clock.deadline += pace.wait(seconds)
        return _answered(*self._tried(url, host, clock))

    def _tried(self, url: str, host: _Host, clock: Clock) -> tuple[_Reply | None, Refused | None]:
        try:
            return self._exchange(url, host, clock, self.guest.image_bytes), None
        except Refused as refused:
            return None, refused

    def _permitted(self, url: str) -> _Host:
        """The host of an address, if the address may be asked at all."""
        outcome = address_outcome(url)
        if outcome not in (None, "address.placeholder"):
            raise Refused(str(outcome), f"{url[:100]} is no address of an image")
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        known = self._hosts.get(name)
        if known is None or known.until < time.monotonic():
            known = self._hosts[name] = self._looked_up(name, port)
        if known.error is not None:
            raise Refused("fetch.dns", known.error)
        if not permitted([address for _, address in known.addresses], allow_private=self.guest.allow_private_addresses):
            raise Refused("address.private", f"{name} is not a public address")
        return known

    def _looked_up(self, name: str, port: int) -> _Host:
        try:
            addresses = resolve(name, port)
        except (OSError, UnicodeError) as error:
            return _Host([], False, time.monotonic() + ADDRESS_SECONDS, str(error))
        private = not permitted([address for _, address in addresses], allow_private=False)
        return _Host(addresses, private, time.monotonic() + ADDRESS_SECONDS)

    def _ask_robots(self, url: str) -> Answer:
        """robots.txt of a host, redirects followed; (None, b"") where there is no answer."""
        asked, clock = origin(url), Clock(time.monotonic() + self.guest.seconds)
        self._silent.pop(asked, None)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                reply = self._exchange(url, self._permitted(url), clock, ROBOTS_BYTES, whole=False)
                target = absolute(url, reply.header("location") or "") if reply.status in REDIRECTS else ""
                if not target:
                    return reply.status, reply.body
                url = target
        except Refused as refused:
            self._silent[asked] = refused
            return None, b""
        return 404, b""  # RFC 9309 2.3.1.2: after too many redirects it counts as unavailable

    def _exchange(self, url: str, host: _Host, clock: Clock, limit: int, *, whole: bool = True) -> _Reply:
        """Ask once and read the answer; a connection that the server closed while idle is replaced by a new one."""
        parts = urlsplit(url if url.isascii() else safe_url_string(url))
        tls = self._tls if parts.scheme == "https" else None
        key = (parts.scheme, parts.hostname or "", parts.port or (443 if tls else 80))
        while True:
            connection = self._connection(key, host, tls)
            try:
                return self._asked(connection, key, parts.path or "/", parts.query, clock, limit, whole)
            except Refused:
                connection.close()
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                stale = connection.used and not isinstance(error, TimeoutError)
                connection.close()
                if not stale:
                    raise _refused(error) from error

    def _connection(self, key: tuple[str, str, int], host: _Host, tls: ssl.SSLContext | None) -> Connection:
        with self._lock:
            idle = self._idle.get(key)
            if idle:
                return idle.pop()
        return Connection(key[1], key[2], host.addresses, tls)

    def _asked(
        self, connection: Connection, key: tuple[str, str, int], path: str, query: str, clock: Clock, limit: int, whole: bool
    ) -> _Reply:
        connection.give(clock)
        headers = {"User-Agent": user_agent(self.guest.contact), "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        connection.request("GET", f"{path}?{query}" if query else path, headers=headers)
        response = connection.getresponse()
        found = tuple(response.getheaders())
        refusal = headers_outcome(found) if whole and response.status == 200 else None
        if refusal is not None:
            raise Refused(refusal, "the response's headers do not allow it", response.status)
        body = _read(response, limit, whole)
        if not response.will_close and response.isclosed():
            connection.used = True
            with self._lock:
                idle = self._idle.setdefault(key, [])
                if len(idle) < IDLE:
                    idle.append(connection)
        else:
            connection.close()
        return _Reply(response.status, found, decoded(body, tuple(h for h in found if h[0].lower() != "transfer-encoding"), limit))


def _read(response: http.client.HTTPResponse, limit: int, whole: bool) -> bytes:
    """A body of at most `limit` bytes: with `whole` a longer one is refused and a shorter one than announced too, else cut."""
    announced = response.length
    if whole and announced is not None and announced > limit:
        raise Refused("fetch.too_large", f"{announced} bytes announced, at most {limit} are fetched", response.status)
    pieces: list[bytes] = []
    size = 0
    while piece := response.read(min(CHUNK, limit + 1 - size)):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            if whole:
                raise Refused("fetch.too_large", f"more than {limit} bytes", response.status)
            break
    if whole and announced is not None and size < announced:
        raise Refused("fetch.cut", f"{size} of {announced} bytes came", response.status)
    return b"".join(pieces)[:limit]


def _image_reply(reply: _Reply) -> _Reply:
    if reply.status != 200:
        raise Refused(_status_outcome(reply.status), f"HTTP {reply.status}", reply.status)
    return reply


def _status_outcome(status: int) -> str:
    return "fetch.http_5xx" if status >= 500 else f"fetch.http_{status}"


def _patience(reply: _Reply | None, error: Refused | None) -> float | None:
    """Seconds to wait before one more try, None where that would not help."""
    if error is not None:
        return RETRY_SECONDS if error.outcome in ("fetch.closed", "fetch.cut") else None
    assert reply is not None
    if reply.status not in TRY_AGAIN:
        return None
    wish = reply.header("retry-after") or ""
    seconds = float(wish) if wish.isdigit() else RETRY_SECONDS
    return seconds if seconds <= MAX_RETRY_AFTER else None


def _answered(reply: _Reply | None, error: Refused | None) -> _Reply:
    if error is not None:
        raise error
    assert reply is not None
    return reply


def _refused(error: OSError | http.client.HTTPException | ValueError) -> Refused:
    """The outcome of what the network raised."""
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, TimeoutError):
        return Refused("fetch.timeout", words)
    if isinstance(error, ssl.SSLError):
        return Refused("fetch.tls", words)
    if isinstance(error, ConnectionRefusedError):
        return Refused("fetch.refused", words)
    if isinstance(error, http.client.RemoteDisconnected | ConnectionError | http.client.IncompleteRead):
        return Refused("fetch.closed", words)
    if isinstance(error, http.client.HTTPException | ValueError):
        return Refused("fetch.malformed", words)
    return Refused("fetch.unreachable", words)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
