"""Rules on paths as robots.txt has them: `*` stands for anything, `$` for the end, the longest
pattern that matches decides.

Source: RFC 9309, 2.2.2 and 2.2.3. Every cost is known before it is met, because a stranger writes
the rules: patterns without `*` are looked up by their length, of which a file has at most a
thousand; of the others those are tried, each in one walk over the path, of which a piece stands in
it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

# characters compared for one address, patterns times length: 0.1 s at worst (patterns of 99
# characters made for it). Five hundred patterns with `*` still judge an address of 8 KiB, forty
# thousand one of 100 bytes
COMPARED = 2**22
FEW = 64  # patterns with `*`; fewer are tried one by one
KEY = 16  # characters of a pattern's longest piece by which it is found when there are many

Rule = tuple["Pattern", bool]

_SAME = re.compile(r"[A-Za-z0-9_.~/=-]*")  # characters that have one spelling
_SAME_OR_STAR = re.compile(r"[A-Za-z0-9_.~/=*-]*")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class Pattern(NamedTuple):
    """A pattern taken apart at its stars. `length` is its rank: of two that match, the longer one
    decides.
    """

    length: int
    begin: str
    middle: tuple[str, ...]
    end: str
    has_star: bool
    is_anchored: bool

    @property
    def key(self) -> str:
        """What stands in every path that it covers."""
        return max((self.begin, *self.middle, self.end), key=len)[:KEY]

    def covers(self, path: str) -> bool:
        if not path.startswith(self.begin):
            return False

        place = len(self.begin)
        for piece in self.middle:
            found = path.find(piece, place)
            if found < 0:
                return False
            place = found + len(piece)

        if not self.is_anchored:
            return True
        left = len(path) - len(self.end) - place
        return path.endswith(self.end) and (left >= 0 if self.has_star else left == 0)


def pattern_of(text: str) -> Pattern:
    """Read one pattern, e.g. `/private/*.gif$`."""
    is_anchored = text.endswith("$")
    spelled = spelled_alike(text.removesuffix("$"), _SAME_OR_STAR, kept=b"/%*")
    begin, *middle = spelled.split("*")
    has_star = bool(middle)
    end = middle.pop() if middle and is_anchored else ""
    pieces = tuple(piece for piece in middle if piece)
    return Pattern(len(spelled) + is_anchored, begin, pieces, end, has_star, is_anchored)


def path_of(url: str) -> str:
    """What rules match of an address: its path and query, spelled as patterns are."""
    whole = url.partition("#")[0]
    origin = _ORIGIN.match(whole)
    path = spelled_alike(whole[origin.end() :] if origin else whole, _SAME, kept=b"/%")
    return path if path.startswith("/") else f"/{path}"


def spelled_alike(text: str, same: re.Pattern[str], kept: bytes) -> str:
    """A text in which every octet has one spelling: escaped, or as it is; escapes of what is `kept`
    are other than what they stand for.
    """
    if same.fullmatch(text):
        return text

    def unescaped(match: re.Match[bytes]) -> bytes:
        octet = bytes.fromhex(match[1].decode())
        return match[0].upper() if octet in kept else octet

    octets = text.encode("utf-8", "surrogatepass")
    return quote(_ESCAPE.sub(unescaped, octets), safe="/%=*" if b"*" in kept else "/%=")


class PathRules:
    """Many patterns, each of which allows or refuses the paths that it covers."""

    def __init__(self, rules: Iterable[tuple[str, bool]]) -> None:
        """`rules` are (pattern, allowed); of two that say both of one pattern, what is allowed
        holds (RFC 9309 2.2.2).
        """
        said: dict[Pattern, bool] = {}
        for text, allowed in rules:
            pattern = pattern_of(text)
            said[pattern] = said.get(pattern, False) or allowed

        plain = [pattern for pattern in said if not pattern.has_star and not pattern.is_anchored]
        self._prefixes = {pattern.begin: said.pop(pattern) for pattern in plain}
        self._lengths = sorted({len(prefix) for prefix in self._prefixes}, reverse=True)
        self._others = sorted(said.items(), key=_rank, reverse=True)
        self._by_key: dict[str, list[Rule]] = defaultdict(list)
        for rule in self._others if len(self._others) > FEW else ():
            self._by_key[rule[0].key].append(rule)
        self._key_sizes = sorted({len(key) for key in self._by_key})

    def __bool__(self) -> bool:
        """Whether there is any pattern; without one all is allowed."""
        return bool(self._lengths or self._others)

    def allow(self, path: str) -> bool:
        """Whether a path (of `path_of`) is allowed: what no pattern covers is, what cannot be told
        with bounded effort is not.
        """
        if not self:
            return True

        others = self._may_cover(path) if self._by_key else self._others
        if (len(others) + len(self._lengths)) * len(path) > COMPARED:
            return False

        sizes = (size for size in self._lengths if size <= len(path))
        length = next((size for size in sizes if path[:size] in self._prefixes), -1)
        allowed = self._prefixes[path[:length]] if length >= 0 else True
        for pattern, says in others:
            if pattern.length < length:
                break
            if (pattern.length > length or says) and pattern.covers(path):
                return says
        return allowed

    def _may_cover(self, path: str) -> list[Rule]:
        """The patterns of which a piece stands in the path, in the order of their rank."""
        pieces = {
            path[place : place + size]
            for size in self._key_sizes
            for place in range(len(path) - size + 1)
        }
        found = (rule for piece in pieces if piece in self._by_key for rule in self._by_key[piece])
        return sorted(found, key=_rank, reverse=True)


def _rank(rule: Rule) -> tuple[int, bool]:
    """The longest first, and of equals the one that allows: the first that covers a path
    decides.
    """
    pattern, allowed = rule
    return pattern.length, allowed
