"""What a site, a page or an address forbids: the one place that others ask.

The policy of an origin is what its well-known files say (robots.txt: `robots`; tdmrep.json and
ai.txt: `wellknown`), what a response says of itself is in `directives`, and an address may be none
that can be asked for. Every refusal has a name, `permission.<why>` or `address.<why>`;
tests/pipelines/test_permission.py holds the truth table.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pipelines.permission.directives import (
    TOKEN,
    directives_outcome,
    follows_links,
    headers_outcome,
    metas_outcome,
    page_outcome,
    reserved,
)
from pipelines.permission.robots import ROBOTS_BYTES, Answer, Rules, rules_of
from pipelines.permission.well_known import (
    MediaRules,
    Reservations,
    media_rules_of,
    reservations_of,
)
from pipelines.urls import ascii_address, place_of

__all__ = [
    "AI_PATH",
    "ROBOTS_BYTES",
    "ROBOTS_PATH",
    "TDM_PATH",
    "TOKEN",
    "WELL_KNOWN",
    "Answer",
    "Policy",
    "Rules",
    "address_outcome",
    "directives_outcome",
    "follows_links",
    "headers_outcome",
    "is_placeholder",
    "metas_outcome",
    "origin",
    "page_outcome",
    "policy_of",
    "reserved",
    "rules_of",
    "user_agent",
]

VERSION = "0.1"


def user_agent(contact: str = "") -> str:
    """The user agent string: product token, version, and whom to write to."""
    return f"{TOKEN}/{VERSION} (image and text collector; {contact or 'no contact given'})"


def origin(url: str) -> str:
    """Scheme, host and port: the realm of one robots.txt."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1].lower()}"


ROBOTS_PATH, TDM_PATH, AI_PATH = "/robots.txt", "/.well-known/tdmrep.json", "/ai.txt"
# what an origin is asked for before anything else of it
WELL_KNOWN = (ROBOTS_PATH, TDM_PATH, AI_PATH)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What one origin says of itself in its well-known files, until it should be asked again
    (monotonic seconds).
    """

    robots: Rules
    tdm: Reservations = field(default_factory=Reservations)
    ai_txt: MediaRules = field(default_factory=MediaRules)

    @property
    def until(self) -> float:
        return self.robots.until

    @property
    def closed(self) -> bool:
        """Whether robots.txt could not be read, so that nothing may be asked for."""
        return not self.robots.otherwise

    def refusal(self, url: str) -> str | None:
        """Why an address of this origin may not be asked for or used, None if it may; robots.txt is
        named first.

        A header could lift the reservation of a tdmrep.json, but who has been told of one
        beforehand does not ask.
        """
        if outcome := self.robots.refusal(url):
            return outcome
        if self.tdm.reserves(url):
            return "permission.tdm"
        return None if self.ai_txt.allows(url) else "permission.ai_txt"

    def delay(self) -> float:
        """Seconds asked for between two requests, 0 if none."""
        return self.robots.delay()


def policy_of(answers: Mapping[str, Answer], now: float) -> Policy:
    """The policy of an origin from its answers by path; a path that was not asked says nothing,
    except robots.txt, which refuses.
    """
    silent: Answer = (None, b"")
    return Policy(
        robots=rules_of(answers.get(ROBOTS_PATH, silent), now),
        tdm=reservations_of(answers.get(TDM_PATH, silent)),
        ai_txt=media_rules_of(answers.get(AI_PATH, silent)),
    )


# Names that lazy loading puts in the place of a picture. Some words name nothing else and end the
# name of such a file (`post-placeholder.png`), some do where it is no photograph
# (`ajax-loader.gif`); what pictures are called too (`cake_1x1.jpg`, a square one, `car-grey.jpg`)
# tells one only where the whole name consists of such words (`1x1.trans.gif`).
DRAWN, PHOTOGRAPHS = frozenset({"gif", "png", "svg"}), frozenset({"jpg", "jpeg", "webp"})
_KEEPS = r"blank|spacer|shim|placeholder|dummy|lazy(?:load(?:er|ing)?)?"
_MOVES = r"pixel|loading|loader"
_SIZE = r"(?:[-_.]?(?:\d+x\d+|image|img|gif|pixel))?"
_LOOKS = rf"{_MOVES}|transparent|trans|clear|gr[ea]y|1x1|1px|pix"
_WITH = rf"{_KEEPS}|{_LOOKS}|white|black|empty|fallback|\d+x\d+"
# nearly no name does
SAYS = re.compile(
    rf"(?:{_KEEPS}|{_LOOKS})[^a-z]*+(?:image|img|gif|data|pixel|white|black|empty|fallback)?$"
)
KEEPS = re.compile(rf"(?:^|[-_.])(?:{_KEEPS}){_SIZE}$")
MOVES = re.compile(rf"(?:^|[-_.])(?:{_MOVES}){_SIZE}$")
LOOKS = re.compile(rf"(?=.*(?:{_LOOKS}))(?:(?:{_WITH})[-_.]?)++")
DRAWN_LOOKS = re.compile(rf"(?=.*(?:{_LOOKS}))(?:(?:{_WITH}|image|img|gif|data)[-_.]?)++")
# characters; an inline picture shorter than this is a dot or an empty frame, never a photo
INLINE_PLACEHOLDER = 512


def is_given(url: str) -> bool:
    """Whether an address names an imported image that has none of its own."""
    return url[:6].lower() == "given:"


@functools.lru_cache(maxsize=4096)
def address_outcome(url: str) -> str | None:
    """None if an image may be asked for under this address, else `address.placeholder`,
    `address.scheme` or `address.malformed`.

    `given:` names an imported image that has no address of its own; who does not hold it ends it as
    `address.scheme`.
    """
    if is_given(url):
        return None if urlsplit(url).path else "address.malformed"
    if url[:5].lower() == "data:":
        return "address.placeholder" if len(url) < INLINE_PLACEHOLDER else "address.scheme"
    try:
        parts = urlsplit(url)
        host, _ = place_of(parts.netloc)
    except ValueError:
        return "address.malformed"
    if parts.scheme.lower() not in ("http", "https"):
        return "address.scheme" if parts.scheme else "address.malformed"
    if not host or ascii_address(url) is None:
        return "address.malformed"
    return "address.placeholder" if is_placeholder(parts.path) else None


def is_placeholder(path: str) -> bool:
    """Whether the path of an image address names an empty stand-in, e.g. `/static/blank.gif`."""
    stem, _, kind = path.rsplit("/", 1)[-1].lower().rpartition(".")
    if not SAYS.search(stem):
        return False
    if kind in DRAWN:
        return bool(KEEPS.search(stem) or MOVES.search(stem) or DRAWN_LOOKS.fullmatch(stem))
    return kind in PHOTOGRAPHS and bool(KEEPS.search(stem) or LOOKS.fullmatch(stem))
