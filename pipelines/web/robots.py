"""robots.txt as RFC 9309 has it, and what newer rules of its groups say of training.

Protego matches paths; which lines are for us is decided here, because Protego takes a group for `win` as ours, drops one for
`winnow/1.0`, lets an unknown record between two user agents part them, and breaks lines at more than CR and LF (tests/pipelines/
test_robots_rfc.py shows each). Beside Allow and Disallow two rules of a group are read:
- Content-Usage: draft-ietf-aipref-attach-05 section 3 (`Content-Usage: /path train-ai=n`, the path may be missing);
- Content-Signal: contentsignals.org, which Cloudflare writes into the files that it manages (`Content-Signal: search=yes, ai-train=no`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from protego import Protego

from pipelines.web.directives import TOKEN, signal_outcome, usage_outcome

ROBOTS_SECONDS = 24 * 3600.0  # RFC 9309 2.4: a cached copy should not be used for more than 24 hours
ROBOTS_RETRY_SECONDS = 600.0  # how long a failure to read robots.txt stands before it is tried again
ROBOTS_BYTES = 512 * 1024  # RFC 9309 2.5: at least 500 kibibytes are parsed
MAX_CRAWL_DELAY = 60.0  # seconds; a longer wish would stop a crawl altogether

Answer = tuple[int | None, bytes]  # status (None: unreachable) and body
Record = tuple[str, str]  # name in lower case and value of one line

LINE_END = re.compile(r"\r\n|\r|\n")
PRODUCT = re.compile(r"[a-z_-]+")  # RFC 9309 2.2.1: what a product token is made of; what follows it (a version) is no part of it
AGENT = frozenset({"user-agent", "useragent", "user agent"})
# the records that belong to a group and so end its list of user agents; RFC 9309 2.2.4: others must not interfere
RULES = frozenset({"allow", "disallow", "crawl-delay", "request-rate", "content-usage", "content-signal"})
MISSPELT = {"dissallow": "disallow", "dissalow": "disallow", "disalow": "disallow", "diasllow": "disallow", "disallaw": "disallow"}
SITEMAP = frozenset({"sitemap", "sitemaps", "site-map"})
KNOWN = RULES | AGENT | SITEMAP | MISSPELT.keys()
KEPT = "".join(chr(code) for code in range(0x21, 0x7F))  # what a path may show as it is; all else is escaped, line breaks among it

@dataclass(frozen=True, kw_only=True)
class Rules:
    """What one robots.txt says to us; where it could not be read, `otherwise` is whether all is allowed."""

    paths: tuple[Protego, ...] = ()  # an address is allowed when each allows it
    uses: Protego | None = None
    signals: Protego | None = None
    seconds: float = 0.0
    sitemaps: tuple[str, ...] = ()
    otherwise: bool = True
    until: float = 0.0

    def allows(self, url: str) -> bool:
        return self.otherwise and all(matched(rules, url) for rules in self.paths)

    def refusal(self, url: str) -> str | None:
        """`permission.robots`, `permission.content_usage` or `permission.content_signal`, None where nothing speaks against it."""
        if not self.allows(url):
            return "permission.robots"
        if self.uses is not None and not matched(self.uses, url):
            return "permission.content_usage"
        if self.signals is not None and not matched(self.signals, url):
            return "permission.content_signal"
        return None

    def delay(self) -> float:
        """Seconds asked for between two requests, 0 if none."""
        return min(self.seconds, MAX_CRAWL_DELAY)


def rules_of(answer: Answer, now: float) -> Rules:
    """Read the answer to a request for robots.txt: 2xx is parsed, 3xx and 4xx allow all; 429, 5xx and no answer refuse all.

    429 is no refusal of the file but of the moment, and unknown is not permission. A redirect that is still one after the hops that
    the asker follows counts as unavailable (RFC 9309 2.3.1.2).
    """
    status, body = answer
    if status is not None and 200 <= status < 300:
        return parsed(body, now + ROBOTS_SECONDS)
    if status is not None and 300 <= status < 500 and status != 429:
        return Rules(until=now + ROBOTS_SECONDS)
    return Rules(otherwise=False, until=now + ROBOTS_RETRY_SECONDS)


def parsed(body: bytes, until: float = 0.0) -> Rules:
    """The rules for us in the bytes of a robots.txt."""
    everything = list(records(text_of(body)))
    own = rules_for_us(everything)
    patterns = [(quote(value, safe=KEPT), name == "allow") for name, value in own if name in ("allow", "disallow") and value]
    wishes = Protego.parse("\n".join(["User-agent: *", *(f"{name}: {value}" for name, value in own if name.endswith(("delay", "rate")))]))
    rate = wishes.request_rate("*")
    return Rules(
        paths=path_rules(patterns),
        uses=_stated(own, "content-usage", usage_outcome),
        signals=_stated(own, "content-signal", signal_outcome),
        seconds=max(float(wishes.crawl_delay("*") or 0.0), rate.seconds / rate.requests if rate else 0.0),
        sitemaps=tuple(dict.fromkeys(value for name, value in everything if name in SITEMAP and value)),
        until=until,
    )


def text_of(body: bytes) -> str:
    """UTF-8 without its byte order mark, as far as it is parsed; a line that the limit cuts is no line."""
    text = body[:ROBOTS_BYTES].decode("utf-8", errors="replace").removeprefix("\ufeff")
    return text[: max(text.rfind("\n"), text.rfind("\r")) + 1] if len(body) >= ROBOTS_BYTES else text


def records(text: str) -> Iterator[Record]:
    """(name, value) of each line that has them; comments are cut, a missing colon and a misspelt Disallow are forgiven."""
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
    """The rules of all groups that name us, else of all groups for `*` (RFC 9309 2.2.1), in their order."""
    found: dict[str, list[Record]] = {}
    agents: list[str] = []
    listing = False
    for name, value in everything:
        if name in AGENT:
            agents = [*agents, _product(value)] if listing else [_product(value)]
            listing = True
            found.setdefault(agents[-1], [])
        elif name in RULES:
            listing = False
            for agent in dict.fromkeys(agents):
                found[agent].append((name, value))
    return found.get(token, found.get("*", []))


def _product(value: str) -> str:
    """The product token of a user-agent line, whole; `*` stands for all only when it stands alone."""
    if value.split()[:1] == ["*"]:
        return "*"
    token = PRODUCT.match(value.lower())
    return token[0] if token and not value[token.end() : token.end() + 1].isalnum() else ""


def path_rules(patterns: list[tuple[str, bool]]) -> tuple[Protego, ...]:
    """Matchers of (pattern, allowed) that must all allow an address: the longest match wins, allow wins a tie (RFC 9309 2.2.2).

    Protego takes `Allow: /index.html` for an `Allow: /$` too, which is Google's and not the RFC's. The second matcher says the same
    with a star at the end: it lacks that rule, and is wrong only where that star breaks a tie, where the first one is right.
    """
    if not patterns:
        return ()
    shortened = [(f"{pattern}*" if allowed and pattern.endswith("/index.html") else pattern, allowed) for pattern, allowed in patterns]
    return (matcher(patterns),) if shortened == patterns else (matcher(patterns), matcher(shortened))


def matcher(patterns: Iterable[tuple[str, bool]]) -> Protego:
    lines = [f"{'Allow' if allowed else 'Disallow'}: {pattern}" for pattern, allowed in patterns]
    return Protego.parse("\n".join(["User-agent: *", *lines]))


def matched(rules: Protego, url: str) -> bool:
    """What the longest pattern that matches an address says of it; True if none does."""
    return bool(rules.can_fetch(url, "*"))


def _stated(own: Iterable[Record], kind: str, outcome: Callable[[str], str | None]) -> Protego | None:
    """A matcher of the paths where a rule of this kind speaks of training; of two for one path the stricter holds (vocab-07 5.1)."""
    patterns: dict[str, bool] = {}
    for name, value in own:
        if name == kind:
            words = value.split(None, 1)
            path, statement = (words[0], "".join(words[1:])) if value.startswith(("/", "*")) else ("/", value)
            path = quote(path, safe=KEPT)
            patterns[path] = patterns.get(path, True) and outcome(statement) is None
    return matcher(patterns.items()) if not all(patterns.values()) else None
