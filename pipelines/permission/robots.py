"""robots.txt as RFC 9309 has it, and what newer rules of its groups say of training.

Which path a rule covers is decided in `permission.paths`; here, which lines are for us. Beside
Allow and Disallow two rules of a group are read:
- Content-Usage: draft-ietf-aipref-attach-05 section 3 (`Content-Usage: /path train-ai=n`, the path
  may be missing);
- Content-Signal: contentsignals.org, which Cloudflare writes into the files that it manages
  (`Content-Signal: search=yes, ai-train=no`).

A file costs time and memory in proportion to its length, whatever it says: of a group only whether
it is ours is kept.
"""

import codecs
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from pipelines.permission.directives import TOKEN, signal_outcome, usage_outcome
from pipelines.permission.path_rules import PathRules, path_of

# RFC 9309 2.4: a cached copy should not be used for more than 24 hours
ROBOTS_SECONDS = 24 * 3600.0
# how long a failure to read robots.txt stands before it is tried again
ROBOTS_RETRY_SECONDS = 600.0
ROBOTS_BYTES = 512 * 1024  # RFC 9309 2.5: at least 500 kibibytes are parsed
MAX_CRAWL_DELAY = 60.0  # seconds; a longer wish would stop a crawl altogether

Answer = tuple[int | None, bytes]  # status (None: unreachable) and body
Record = tuple[str, str]  # name in lower case and value of one line

LINE_END = re.compile(r"\r\n|\r|\n")
# RFC 9309 2.2.1: what a product token is made of; what follows it (a version) is no part of it
PRODUCT = re.compile(r"[a-z_-]+")
AGENT = frozenset({"user-agent", "useragent", "user agent"})
# the records that belong to a group and so end its list of user agents; RFC 9309 2.2.4: others must
# not interfere
RULES = frozenset(
    {"allow", "disallow", "crawl-delay", "request-rate", "content-usage", "content-signal"}
)
MISSPELT = {
    "dissallow": "disallow",
    "dissalow": "disallow",
    "disalow": "disallow",
    "diasllow": "disallow",
    "disallaw": "disallow",
}
SITEMAP = frozenset({"sitemap", "sitemaps", "site-map"})
KNOWN = RULES | AGENT | SITEMAP | MISSPELT.keys()
SECONDS = re.compile(r"\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}")
# requests a time; behind it the hours of the day may stand
RATE = re.compile(r"(\d{1,9})/(\d{1,9})([smhd]?)(?!\S)", re.IGNORECASE)
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
GZIP = b"\x1f\x8b"
# how Python holds bytes that are no UTF-8; here they become the escapes that stand for them
NO_TEXT = re.compile("[\udc80-\udcff]+")
# the longer marks first: that of UTF-32 begins as that of UTF-16 does
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

NO_RULES = PathRules([])


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What one robots.txt says to us; where it could not be read, `otherwise` is whether all is
    allowed.
    """

    paths: PathRules = NO_RULES
    uses: PathRules = NO_RULES
    signals: PathRules = NO_RULES
    seconds: float = 0.0
    sitemaps: tuple[str, ...] = ()
    otherwise: bool = True
    until: float = 0.0

    def allows(self, url: str) -> bool:
        return self._allows(path_of(url))

    def refusal(self, url: str) -> str | None:
        """`permission.robots`, `permission.content_usage` or `permission.content_signal`, None
        where nothing speaks against it.
        """
        path = path_of(url)
        if not self._allows(path):
            return "permission.robots"
        if not self.uses.allow(path):
            return "permission.content_usage"
        return None if self.signals.allow(path) else "permission.content_signal"

    def _allows(self, path: str) -> bool:
        # RFC 9309 2.2.2: that one always is
        return self.otherwise and (path == "/robots.txt" or self.paths.allow(path))

    def delay(self) -> float:
        """Seconds asked for between two requests, 0 if none."""
        return min(self.seconds, MAX_CRAWL_DELAY)


def rules_of(answer: Answer, now: float) -> Rules:
    """Read the answer to a request for robots.txt: 2xx is parsed, 3xx and 4xx allow all; 429, 5xx
    and no answer refuse all.

    429 is no refusal of the file but of the moment, and unknown is not permission. A redirect that
    is still one after the hops that the asker follows counts as unavailable (RFC 9309 2.3.1.2).
    """
    status, body = answer
    if status is not None and 200 <= status < 300:
        try:
            return parsed(body, now + ROBOTS_SECONDS)
        except ValueError:
            return Rules(otherwise=False, until=now + ROBOTS_RETRY_SECONDS)
    if status is not None and 300 <= status < 500 and status != 429:
        return Rules(until=now + ROBOTS_SECONDS)
    return Rules(otherwise=False, until=now + ROBOTS_RETRY_SECONDS)


def parsed(body: bytes, until: float = 0.0) -> Rules:
    """The rules for us in the bytes of a robots.txt; ValueError if they cannot be read."""
    everything = [list(records(text)) for text in readings(body)]
    own = [record for reading in everything for record in rules_for_us(reading)]
    sitemaps = (
        value for reading in everything for name, value in reading if name in SITEMAP and value
    )
    return Rules(
        paths=PathRules(
            (value, name == "allow")
            for name, value in own
            if name in ("allow", "disallow") and value
        ),
        uses=_stated(own, "content-usage", usage_outcome),
        signals=_stated(own, "content-signal", signal_outcome),
        seconds=max(_last(own, "crawl-delay", _delay), _last(own, "request-rate", _interval)),
        sitemaps=tuple(dict.fromkeys(sitemaps)),
        until=until,
    )


def readings(body: bytes) -> tuple[str, ...]:
    """The text of a file as far as it is parsed, in every way that its bytes may be meant: what any
    of them forbids is forbidden.

    RFC 9309 wants UTF-8. Editors of Windows write UTF-16, with and without a mark, to which others
    add lines in ASCII; older sites write the encoding of their region, and then the octets of a
    path are what the site expects, or those of the same letter in UTF-8.
    """
    is_cut = len(body) >= ROBOTS_BYTES
    body = _inflated(body[:ROBOTS_BYTES])
    mark, name = next(
        ((mark, name) for mark, name in MARKS if body.startswith(mark)), (b"", wide(body))
    )
    body = body.removeprefix(mark)
    narrow = body.replace(b"\0", b"")
    text = narrow.decode("utf-8", "surrogateescape")
    texts = [NO_TEXT.sub(lambda octets: quote(octets[0].encode("utf-8", "surrogateescape")), text)]
    if name != "utf-8":
        texts.append(body.decode(name, "replace"))
    elif texts != [text]:
        texts.append(narrow.decode("latin-1"))
    return tuple(_whole_lines(text) if is_cut else text for text in texts)


def _inflated(body: bytes) -> bytes:
    """A file that is compressed without saying so, as far as it is parsed."""
    if not body.startswith(GZIP):
        return body
    try:
        return zlib.decompressobj(wbits=31).decompress(body, ROBOTS_BYTES)
    except zlib.error as error:
        raise ValueError(f"a compressed robots.txt is broken: {error}") from error


def wide(body: bytes) -> str:
    """UTF-16 where at least half of the characters are such as ASCII has, whose other byte is zero;
    else UTF-8.
    """
    high, low = body[0::2].count(0), body[1::2].count(0)
    if 4 * max(high, low) < len(body) or not body:
        return "utf-8"
    return "utf-16-le" if low > high else "utf-16-be"


def _whole_lines(text: str) -> str:
    """A text that a limit cuts, without the line that is cut."""
    return text[: max(text.rfind("\n"), text.rfind("\r")) + 1]


def records(text: str) -> Iterator[Record]:
    """(name, value) of each line that has them; comments are cut, a missing colon and a misspelt
    Disallow are forgiven.
    """
    for line in LINE_END.split(text):
        content = line.partition("#")[0].strip()
        name, _, value = content.partition(":")
        name = name.strip().lower()
        if name not in KNOWN:
            first, *rest = content.split(None, 1) or [""]
            if first.lower() in KNOWN:
                name, value = first.lower(), "".join(rest)
        if name:
            yield MISSPELT.get(name, name), value.strip()


def rules_for_us(everything: Iterable[Record], token: str = TOKEN) -> list[Record]:
    """The rules of all groups that name us, else of all groups for `*` (RFC 9309 2.2.1), in their
    order.
    """
    found: dict[str, list[Record]] = {}
    named: set[str] = set()  # of us and of all, whom the group at hand speaks to
    is_listing = False
    for name, value in everything:
        if name in AGENT:
            if not is_listing:
                named = set()
            is_listing = True
            if (agent := _product(value)) in (token, "*"):
                named.add(agent)
                found.setdefault(agent, [])
        elif name in RULES:
            is_listing = False
            for agent in named:
                found[agent].append((name, value))
    return found.get(token, found.get("*", []))


def _product(value: str) -> str:
    """The product token of a user-agent line, whole; `*` stands for all only when it stands
    alone.
    """
    if value.split()[:1] == ["*"]:
        return "*"
    token = PRODUCT.match(value.lower())
    return token[0] if token and not value[token.end() : token.end() + 1].isalnum() else ""


def _stated(own: Iterable[Record], kind: str, outcome: Callable[[str], str | None]) -> PathRules:
    """The paths where a rule of this kind speaks of training; of two for one path the stricter
    holds (vocab-07 5.1).
    """
    patterns: dict[str, bool] = {}
    for name, value in own:
        if name == kind:
            words = value.split(None, 1)
            path, statement = (
                (words[0], "".join(words[1:])) if value.startswith(("/", "*")) else ("/", value)
            )
            patterns[path] = patterns.get(path, True) and outcome(statement) is None
    return PathRules(patterns.items()) if not all(patterns.values()) else NO_RULES


def _last(own: Iterable[Record], kind: str, read: Callable[[str], float | None]) -> float:
    """The last value of a kind that can be read, 0 if none can."""
    return next(
        (
            seconds
            for name, value in reversed(list(own))
            if name == kind and (seconds := read(value)) is not None
        ),
        0.0,
    )


def _delay(value: str) -> float | None:
    return float(value) if SECONDS.fullmatch(value) else None


def _interval(value: str) -> float | None:
    """Seconds between two requests of a rate, e.g. 2 for `30/1m`."""
    rate = RATE.match(value)
    if rate is None or not int(rate[1]) or not int(rate[2]):
        return None
    return int(rate[2]) * UNITS[rate[3].lower()] / int(rate[1])
