"""Two well-known files that reserve the use of a site: TDMRep's /.well-known/tdmrep.json and
Spawning's /ai.txt.

Sources: W3C TDMRep, community group report of 10 May 2024 (rules in sequence, the first that
matches decides; `*` and `$` as in robots.txt); Spawning's ai.txt of May 2023 (the groups of
robots.txt, with file types such as `Disallow: *.jpg`). No answer, an error or anything that cannot
be read is no statement in either: TDMRep says that a server without a readable file does not
implement it, ai.txt has no such word, and a host in trouble refuses by its robots.txt already,
which is asked first.
"""

import json
import re
from dataclasses import dataclass

from pipelines.permission.path_rules import COMPARED, PathRules, Pattern, path_of, pattern_of
from pipelines.permission.robots import (
    NO_RULES,
    ROBOTS_BYTES,
    Answer,
    readings,
    records,
    rules_for_us,
)

FILE_TYPE = re.compile(r"/?\*\.[^*$/]+")
MAX_RULES = 10_000  # of a tdmrep.json; a longer one is not a list of rules that somebody wrote


@dataclass(frozen=True, kw_only=True)
class Reservations:
    """The rules of a tdmrep.json in sequence: a matcher that refuses what the location covers, and
    whether that is reserved.
    """

    rules: tuple[tuple[Pattern, bool], ...] = ()

    def reserves(self, url: str) -> bool:
        if not self.rules:
            return False
        path = path_of(url)
        if len(self.rules) * len(path) > COMPARED:  # cannot be told with bounded effort
            return True
        return next(
            (is_reserved for location, is_reserved in self.rules if location.covers(path)), False
        )


def reservations_of(answer: Answer) -> Reservations:
    """Read the answer to a request for tdmrep.json; entries that are no rules are passed over."""
    try:
        entries = json.loads(readings(_body(answer))[-1] or "[]")
    except (ValueError, RecursionError):
        return Reservations()
    found = []
    for entry in entries[:MAX_RULES] if isinstance(entries, list) else []:
        location, value = (
            (entry.get("location"), entry.get("tdm-reservation"))
            if isinstance(entry, dict)
            else (None, None)
        )
        if isinstance(location, str) and location and str(value) in ("0", "1"):
            found.append((pattern_of(location), str(value) == "1"))
    return Reservations(rules=tuple(found))


@dataclass(frozen=True, kw_only=True)
class MediaRules:
    """The rules of an ai.txt for us: what file type and path say, without regard to a query."""

    paths: PathRules = NO_RULES

    def allows(self, url: str) -> bool:
        if not self.paths:
            return True
        bare = url.partition("#")[0].partition("?")[0]
        stem, dot, extension = bare.rpartition(".")
        return all(
            self.paths.allow(path_of(spelt)) for spelt in (bare, f"{stem}{dot}{extension.lower()}")
        )


def media_rules_of(answer: Answer) -> MediaRules:
    """Read the answer to a request for ai.txt; what is no list of groups (a page, a text in prose)
    has no rules.
    """
    try:
        texts = readings(_body(answer))
    except ValueError:
        return MediaRules()
    own = [record for text in texts for record in rules_for_us(records(text))]
    said = ((name, value) for name, value in own if name in ("allow", "disallow") and value)
    return MediaRules(paths=PathRules((_anchored(value), name == "allow") for name, value in said))


def _anchored(pattern: str) -> str:
    """`*.jpg` names a file type: it ends the path and has no case."""
    return f"{pattern.lower()}$" if FILE_TYPE.fullmatch(pattern) else pattern


def _body(answer: Answer) -> bytes:
    status, body = answer
    return body[:ROBOTS_BYTES] if status is not None and 200 <= status < 300 else b""
