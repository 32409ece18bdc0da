"""What a page, a host or an address forbids: robots.txt, robots directives, TDM reservation, and addresses that are no address.

Sources: RFC 9309 (robots.txt), Google's specification of X-Robots-Tag and the robots meta tag, the DeviantArt noai directives,
W3C TDMRep (community group report of 10 May 2024).
"""

import functools
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from protego import Protego

TOKEN = "winnow"  # the product token of our user agent, which robots.txt and X-Robots-Tag may name
VERSION = "0.1"
# in this order a refusal is named when several apply: what speaks of machine learning first
DIRECTIVES = ("noai", "noimageai", "noml", "none", "noindex", "noimageindex")
# directives that hold a value after a colon; what stands left of any other colon is the name of a bot
VALUED = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})
BOT = re.compile(r"[a-z][a-z0-9_.*-]*|\*")
ROBOTS_SECONDS = 24 * 3600.0  # RFC 9309 2.4: a cached copy should not be used for more than 24 hours
ROBOTS_RETRY_SECONDS = 600.0  # how long a failure to read robots.txt stands before it is tried again
ROBOTS_BYTES = 512 * 1024  # RFC 9309 2.5: at least 500 kibibytes are parsed
MAX_CRAWL_DELAY = 60.0  # seconds; a longer wish would stop a crawl altogether

Answer = tuple[int | None, bytes]  # status (None: unreachable) and body


def user_agent(contact: str = "") -> str:
    """The user agent string: product token, version, and whom to write to."""
    return f"{TOKEN}/{VERSION} (image and text collector; {contact or 'no contact given'})"


def _directives(values: Iterable[str]) -> Iterable[tuple[str | None, str]]:
    """(bot or None for all, directive) of header values; a bot's name covers the rest of its value."""
    for value in values:
        bot: str | None = None
        for piece in value.lower().split(","):
            words = piece.strip()
            while ":" in words:
                left, right = (side.strip() for side in words.split(":", 1))
                if left in VALUED or not BOT.fullmatch(left):
                    words = ""
                    break
                bot, words = left, right
            if words:
                yield bot, words


def directives_outcome(values: Iterable[str]) -> str | None:
    """`permission.<directive>` if these X-Robots-Tag or robots meta values forbid us, else None."""
    found = {directive for bot, directive in _directives(values) if bot in (None, "*", TOKEN)}
    return next((f"permission.{name}" for name in DIRECTIVES if name in found), None)


def follows_links(values: Iterable[str]) -> bool:
    """Whether robots directives let links of the page be followed."""
    return not any(bot in (None, "*", TOKEN) and word in ("nofollow", "none") for bot, word in _directives(values))


def reserved(values: Iterable[str]) -> bool:
    """Whether a `tdm-reservation` header or meta value reserves text and data mining."""
    return any(value.strip() == "1" for value in values)


def headers_outcome(headers: Iterable[tuple[str, str]]) -> str | None:
    """What response headers (name, value), repeated ones included, say of the use of the response."""
    pairs = [(name.lower(), value) for name, value in headers]
    outcome = directives_outcome(value for name, value in pairs if name == "x-robots-tag")
    if outcome is None and reserved(value for name, value in pairs if name == "tdm-reservation"):
        return "permission.tdm"
    return outcome


def metas_outcome(metas: Iterable[tuple[str, str]]) -> str | None:
    """What (name, content) of the meta elements of a page say of its use."""
    pairs = [(name.lower().strip(), content) for name, content in metas]
    outcome = directives_outcome(content for name, content in pairs if name in ("robots", TOKEN))
    if outcome is None and reserved(content for name, content in pairs if name == "tdm-reservation"):
        return "permission.tdm"
    return outcome


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What one robots.txt says to us; `parsed` is None where all is allowed or all refused."""

    parsed: Protego | None
    otherwise: bool
    until: float

    def allows(self, url: str) -> bool:
        return bool(self.parsed.can_fetch(url, TOKEN)) if self.parsed is not None else self.otherwise

    def delay(self) -> float:
        """Seconds asked for between two requests, 0 if none."""
        wish = self.parsed.crawl_delay(TOKEN) if self.parsed is not None else None
        return min(float(wish or 0.0), MAX_CRAWL_DELAY)


def rules_of(answer: Answer, now: float) -> Rules:
    """Read the answer to a request for robots.txt: 2xx is parsed, 4xx allows all; 429, 5xx and no answer refuse all.

    429 is no refusal of the file but of the moment, and unknown is not permission.
    """
    status, body = answer
    if status is not None and 200 <= status < 300:
        text = body[:ROBOTS_BYTES].decode("utf-8", errors="replace").lstrip("\ufeff")
        return Rules(parsed=Protego.parse(text), otherwise=True, until=now + ROBOTS_SECONDS)
    if status is not None and 300 <= status < 500 and status != 429:
        return Rules(parsed=None, otherwise=True, until=now + ROBOTS_SECONDS)
    return Rules(parsed=None, otherwise=False, until=now + ROBOTS_RETRY_SECONDS)


def origin(url: str) -> str:
    """Scheme, host and port: the realm of one robots.txt."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1].lower()}"


@dataclass
class Robots:
    """robots.txt of many hosts, each read once; safe between threads, one reader an origin."""

    ask: Callable[[str], Answer]
    _rules: dict[str, Rules] = field(default_factory=dict)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def rules(self, url: str) -> Rules:
        key = origin(url)
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            known = self._rules.get(key)
            if known is None or known.until < time.monotonic():
                known = rules_of(self.ask(f"{key}/robots.txt"), time.monotonic())
                self._rules[key] = known
            return known

    def allows(self, url: str) -> bool:
        return self.rules(url).allows(url)


ROBOTS_PATH, TDM_PATH, AI_PATH = "/robots.txt", "/.well-known/tdmrep.json", "/ai.txt"
WELL_KNOWN = (ROBOTS_PATH, TDM_PATH, AI_PATH)  # what an origin is asked for before anything else of it


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What one origin says of itself in its well-known files, until it should be asked again (monotonic seconds)."""

    robots: Rules

    @property
    def until(self) -> float:
        return self.robots.until

    @property
    def closed(self) -> bool:
        """Whether robots.txt could not be read, so that nothing may be asked for."""
        return self.robots.parsed is None and not self.robots.otherwise

    def refusal(self, url: str) -> str | None:
        """Why an address of this origin may not be asked for or used, None if it may; robots.txt is named first."""
        return None if self.robots.allows(url) else "permission.robots"

    def delay(self) -> float:
        """Seconds asked for between two requests, 0 if none."""
        return self.robots.delay()


def policy_of(answers: Mapping[str, Answer], now: float) -> Policy:
    """The policy of an origin from its answers by path; a path that was not asked says nothing, except robots.txt, which refuses."""
    return Policy(robots=rules_of(answers.get(ROBOTS_PATH, (None, b"")), now))


@dataclass
class Policies:
    """Policies of many origins; `ask` gives the answer to the address of a well-known file, redirects followed (None: no answer).

    Safe between threads: one reader an origin, and an origin that gives no robots.txt is asked for nothing else.
    """

    ask: Callable[[str], Answer]
    _policies: dict[str, Policy] = field(default_factory=dict)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def policy(self, url: str) -> Policy:
        key = origin(url)
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            known = self._policies.get(key)
            if known is None or known.until < time.monotonic():
                known = self._policies[key] = self._read(key)
            return known

    def _read(self, key: str) -> Policy:
        answers = {ROBOTS_PATH: self.ask(f"{key}{ROBOTS_PATH}")}
        if not policy_of(answers, 0.0).closed:
            answers |= {path: self.ask(f"{key}{path}") for path in WELL_KNOWN if path != ROBOTS_PATH}
        return policy_of(answers, time.monotonic())


# names that lazy loading puts in the place of a picture; a whole file name or a whole word of it
PLACEHOLDER = re.compile(
    r"(?:^|[-_./])(?:blank|spacer|pixel|placeholder|transparent|1x1|clear|dummy|lazy(?:load)?|loading|loader|grey|gray|trans)"
    r"(?:[-_.]?(?:\d+x\d+|image|img|gif|pixel))?\.(?:gif|png|svg|jpe?g|webp)$"
)
BLANK = re.compile(r"\s")
INLINE_PLACEHOLDER = 512  # characters; an inline picture shorter than this is a dot or an empty frame, never a photo


@functools.lru_cache(maxsize=4096)
def address_outcome(url: str) -> str | None:
    """None if an image may be asked for under this address, else `address.placeholder`, `address.scheme` or `address.malformed`.

    `given:` names an imported image that has no address of its own; who does not hold it ends it as `address.scheme`.
    """
    if url[:6].lower() == "given:":
        return None if urlsplit(url).path else "address.malformed"
    if url[:5].lower() == "data:":
        return "address.placeholder" if len(url) < INLINE_PLACEHOLDER else "address.scheme"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "address.malformed"
    if parts.scheme.lower() not in ("http", "https"):
        return "address.scheme" if parts.scheme else "address.malformed"
    if not host or BLANK.search(url):
        return "address.malformed"
    return "address.placeholder" if is_placeholder(parts.path) else None


def is_placeholder(path: str) -> bool:
    """Whether the path of an image address names an empty stand-in, e.g. `/static/blank.gif`."""
    return bool(PLACEHOLDER.search(path.rsplit("/", 1)[-1].lower()))
