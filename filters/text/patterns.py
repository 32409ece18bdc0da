"""Words without which patterns of boilerplate are found in no text of ASCII: told once for each
word, as bits.
"""

import re

import numpy as np
from numpy.typing import NDArray

from filters.text.tokens import Tokens

CREDIT, CLAIM, BY, LABEL, GLYPH, SCREEN, WORLD_WIDE_WEB, DATED = (1 << bit for bit in range(8))
MONTH = (
    r"jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?"
    r"|nov(ember)?|dec(ember)?"
)
DAY = r"(mon|tues?|wed(nes)?|thu(rs)?|fri|sat(ur)?|sun)(day)?|today|yesterday|tomorrow"
AROUND = (
    r"on|at|of|the|last|[ap]\.?m|utc|gmt|e[ds]t|p[ds]t|ago|(second|minute|hour|day|week|month"
    r"|year)s?|updated|modified|posted"
)
_STEMS = {
    CREDIT: re.compile(r"(photo|image|pic|illustration|graphic|artwork|credit|source|courtesy).*"),
    CLAIM: re.compile(r"courtesy|credits?|via|c|copyright.*"),
    BY: re.compile(r"by"),
    LABEL: re.compile(
        r"(fig|plate|table|image|photo|picture|slide|page|exhibit|panel|chart|illustration).*"
    ),
    GLYPH: re.compile(r"icons?|favicon|avatar|thumbnail|placeholder"),
    SCREEN: re.compile(r"screen.*"),
    WORLD_WIDE_WEB: re.compile(r".*www"),
    DATED: re.compile(rf"\d{{1,4}}(st|nd|rd|th)?|{MONTH}|{DAY}|{AROUND}|[apm%$]"),
}
_ANY = re.compile("|".join(f"({stem.pattern})" for stem in _STEMS.values()), re.DOTALL)


class Stems:
    """Which texts have a word of a kind."""

    def __init__(self, tokens: Tokens) -> None:
        bits = tokens.known_of(_stems)
        places = np.flatnonzero(bits)
        self._row, self._bits, self._count = (
            tokens.row[places],
            bits[places].astype(np.int64),
            tokens.count,
        )

    def stand(self, stem: int) -> NDArray[np.bool_]:
        """True for texts with a word of this kind."""
        found = np.zeros(len(self._count), dtype=bool)
        found[self._row[(self._bits & stem) > 0]] = True
        return found

    def only(self, stem: int) -> NDArray[np.bool_]:
        """True for texts without another word."""
        return np.asarray(
            np.bincount(self._row[(self._bits & stem) > 0], minlength=len(self._count))
            == self._count
        )


def _stems(word: str) -> int:
    if _ANY.fullmatch(word) is None:
        return 0
    return sum(stem for stem, pattern in _STEMS.items() if pattern.fullmatch(word))
