"""How much of a text is interface, commerce, law, credit or placeholder rather than a description
of something seen.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.text.lexicon import calls, function_words, interface_runs, interface_words, prose_words
from filters.text.patterns import (
    AROUND,
    BY,
    CLAIM,
    CREDIT,
    DATED,
    DAY,
    GLYPH,
    LABEL,
    MONTH,
    SCREEN,
    WORLD_WIDE_WEB,
    Stems,
)
from filters.text.regex_prefilter import Searched
from filters.text.tokens import Tokens

FLOATS = NDArray[np.float64]
BOOLS = NDArray[np.bool_]

_AFTER_VIEW = frozenset(["of", "from", "over", "across", "through", "off"])
_PREPOSITIONS = frozenset(
    [
        "of",
        "in",
        "on",
        "at",
        "by",
        "for",
        "from",
        "with",
        "into",
        "over",
        "under",
        "near",
        "behind",
        "through",
        "across",
        "along",
    ]
)
_DETERMINERS = frozenset(
    ["a", "an", "the", "our", "his", "her", "their", "my", "its", "this", "last"]
)
_PRONOUNCED = re.compile(r"[aeiouy][a-z]|[a-z][aeiouy]")
SIGNS = frozenset(["\N{COPYRIGHT SIGN}", "\N{REGISTERED SIGN}", "\N{TRADE MARK SIGN}"])
_SIGNS = r"[|!%\x{a9}$]"
_COUNTS = frozenset(["a", "an", "two", "three", "four", "five", "six", "several"])
# bars, angles, arrows, bullets
_SEPARATORS = r"[|\x{bb}\x{ab}\x{203a}\x{2039}\x{2190}-\x{2192}\x{2022}\x{b7}\x{25ba}\x{25b6}]"
_ADDRESS = (
    r"(?i)(https?:|ftp:|mailto:|javascript:|^)//?\S+|\bwww\.\S+|\S+@\S+\.\S+"
    r"|\+?\(?\d{2,4}\)?[\s./-]\d{3,4}[\s.-]\d{3,4}\b"  # telephones
    r"|^\s*[a-z0-9-]+(\.[a-z0-9-]+)*\.(com|org|net|info|io|co|gov|edu|biz|[a-z]{2})(/\S*)?\s*$"
)
_MARKUP = (
    r"(?i)&(#\d+|#x[0-9a-f]+|[a-z]{2,8});|</?[a-z][^>]*>|\{\{|\}\}|\$\{|<%|%>|\[/?[a-z_]+[^\]]*="
    r"|%[sd]\b"
)
_CREDIT = (  # who made a picture, and nothing on it
    r"^\W*((?i:photo(graph)?s?|images?|pictures?|pics?|illustrations?|graphics?|artwork|credits?|sources?|courtesy|photographer|photography)"
    r"((?i: credits?| courtesy| source))?\s*(:|(?i:by|courtesy|©|via))\s*(?i:of )?(?i:the"
    r" )?)(\p{Lu}[\pL.'-]*[\s,/&|]*){1,5}\d{0,4}\W*$"
)
_LABEL = (
    r"(?i)^\W*(fig(ure)?|plate|table|image|photo|picture|slide|page|exhibit|panel|chart"
    r"|illustration)s?\.?\s*#?\d+[a-z]?\W*$"
)
_BYLINE = r"^\W*(?i:(written |posted |published |edited )?by) (\p{Lu}[\pL.'-]*[\s,&|]*){1,4}\W*$"
# what an interface is drawn with
_GLYPH = r"(?i)^\W*([\pL'-]+\s+){0,2}(icons?|favicon|avatar|thumbnail|placeholder)\W*$"
# when a page was written, and nothing on it
_DATE = rf"(?i)^\W*((\d{{1,4}}(st|nd|rd|th)?|{MONTH}|{DAY}|{AROUND})([\s,./:|()-]+|$))+$"
# says what is shown, and that it is a screen
_SCREEN = (
    r"(?i)^\W*((a|an|the|my) )?screen ?-?(shot|grab|capture|cap)s? (of|from|showing|with) .*\pL{3}"
)
_CLAIM = (
    r"(?i)^\W*((photo|image|picture|graphic|illustration)s? )?(courtesy (of )?|credits?:? |via"
    r" )|^\W*(©|\(c\)|copyright\b|photo ©|image ©)"
)


def boilerplate(text: Searched, tokens: Tokens) -> tuple[FLOATS, FLOATS]:
    """Share of each text (0 to 1) that describes nothing, and how many distinct words of it may
    name something that can be seen.

    The share is the weight of interface words over that and the words that name. It is 1 where
    nothing is named at all, and for addresses, markup and credits; 0 for an empty text. In prose,
    words of interfaces and shops count half as names.
    """
    runs, leading, counted = _run_weights(tokens), _leading(tokens), _counted(tokens)
    called = tokens.total(leading)
    prose = _prose(tokens, counted) & (called == 0) & ~text.matches(_SIGNS, text.holds("|!%$"))
    soft = 0.5 * tokens.known_of(_in_prose) * prose[tokens.row]
    names = np.maximum(tokens.known_of(_content), soft) * (
        tokens.first_of_kind & (runs < 0.6) & ~leading
    )
    weights = np.maximum(tokens.known_of(_weight), runs) * tokens.first_of_kind
    against = (tokens.total(weights) + _signs(text) + called) * np.where(counted | prose, 0.5, 1.0)
    content = tokens.total(names)
    share: FLOATS = np.where(content == 0, 1.0, against / np.maximum(against + content, 1e-9))
    stems = Stems(tokens)
    share[text.matches(_SCREEN, stems.stand(SCREEN)) & (tokens.count >= 4)] *= 0.4
    share[_whole(text, tokens, stems)] = 1.0
    share[~text.matches(r"\S", tokens.count == 0) & (tokens.count == 0)] = 0.0
    return share, content


def _whole(text: Searched, tokens: Tokens, stems: Stems) -> BOOLS:
    """True for texts that are credits, claims, labels, icons, dates, lists of keywords, addresses
    or markup as a whole.
    """
    matched = _keywords(text, tokens)
    for pattern, stem in ((_CREDIT, CREDIT), (_CLAIM, CLAIM), (_BYLINE, BY), (_GLYPH, GLYPH)):
        matched |= text.matches(pattern, stems.stand(stem))
    matched |= text.matches(_LABEL, stems.stand(LABEL) & text.numbered)
    matched |= text.matches(_DATE, stems.only(DATED))
    addressed = (
        text.holds("/@")
        | text.numbered
        | text.holds(".") & (stems.stand(WORLD_WIDE_WEB) | ~text.holds(" "))
    )
    return (
        matched
        | _mostly(text, _ADDRESS, addressed)
        | _mostly(text, _MARKUP, text.holds("&<>{}$%["))
    )


def _keywords(text: Searched, tokens: Tokens) -> BOOLS:
    """True for lists with commas and without function words in which a word stands that never
    describes: written for search engines.
    """
    listed = text.matches(r",.*,", text.holds(","))
    if not listed.any():
        return listed
    joined = tokens.texts_with(tokens.known_of(_holds_together))
    never = tokens.texts_with(tokens.known_of(_weight) >= 1.0)
    return np.asarray(listed & ~joined & never)


def _prose(tokens: Tokens, counted: BOOLS) -> BOOLS:
    """True for five words and more that open with an article or number, or have a preposition
    before one: sentences, not labels.
    """
    joined = np.zeros(tokens.rows, dtype=bool)
    if len(tokens.row) > 1:
        preposition = tokens.known_of(_PREPOSITIONS.__contains__)[:-1] > 0
        determiner = tokens.known_of(_DETERMINERS.__contains__)[1:] > 0
        joined[tokens.row[1:][preposition & determiner & (tokens.row[1:] == tokens.row[:-1])]] = (
            True
        )
    return np.asarray((tokens.count >= 5) & (joined | counted))


def _run_weights(tokens: Tokens) -> FLOATS:
    """The weight of the heaviest run of two or three words that each token is part of."""
    weights, number = np.zeros(len(tokens.code)), tokens.known_of(_number_in_runs).astype(np.int64)
    for length in (2, 3):
        last = len(weights) - length + 1
        if last <= 0:
            continue
        likely = tokens.row[:last] == tokens.row[length - 1 :]
        for offset in range(length):
            likely = likely & (number[offset : offset + last] > 0)
        starts = np.flatnonzero(likely)
        runs, weight_of = _numbered_runs(length)
        run = _folded([number[starts + offset] for offset in range(length)])
        place = np.minimum(np.searchsorted(runs, run), len(runs) - 1)
        known = runs[place] == run
        for offset in range(length):
            np.maximum.at(weights, starts[known] + offset, weight_of[place[known]])
    return weights


def _folded(numbers: Sequence[Any]) -> Any:
    """One number for a run of words: the numbers of the words as digits."""
    folded: Any = 0
    for number in numbers:
        folded = folded * (len(_numbers_in_runs()) + 1) + number
    return folded


def _number_in_runs(word: str) -> int:
    """A number for each word that stands in runs, from 1 on; 0 for the others."""
    return _numbers_in_runs().get(word, 0)


@lru_cache(maxsize=1)
def _numbers_in_runs() -> dict[str, int]:
    words = sorted({word for run in interface_runs() for word in run.split()})
    return {word: number for number, word in enumerate(words, 1)}


@lru_cache(maxsize=2)
def _numbered_runs(length: int) -> tuple[NDArray[np.int64], FLOATS]:
    """The runs of so many words as numbers, ascending, and their weights."""
    runs = [
        (run.split(), weight)
        for run, weight in interface_runs().items()
        if run.count(" ") == length - 1
    ]
    numbered = sorted(
        (_folded([_numbers_in_runs()[word] for word in run]), weight) for run, weight in runs
    )
    return np.array([run for run, _ in numbered], np.int64), np.array(
        [weight for _, weight in numbered]
    )


def _content(word: str) -> float:
    """1 for a word that is neither function word, interface word, number nor letters that nobody
    could pronounce.
    """
    if word in function_words() or word in interface_words() or word.isdigit():
        return 0.0
    return float(_PRONOUNCED.search(word) is not None if word.isascii() else word not in SIGNS)


def _leading(tokens: Tokens) -> BOOLS:
    """True for the first word of a text where it calls to do something."""
    result = np.zeros(len(tokens.row), dtype=bool)
    if not len(tokens.row):
        return result
    first = tokens.begins
    second = np.minimum(first + 1, len(tokens.row) - 1)
    leads = tokens.known_of(_calls)[first] > 0
    seen = (tokens.known_of(_AFTER_VIEW.__contains__)[second] > 0) & (
        tokens.row[second] == tokens.row[first]
    )
    result[first[leads & ~seen]] = True
    return result


def _counted(tokens: Tokens) -> BOOLS:
    """True for a text that opens with an indefinite article or a small number, as descriptions do
    and interfaces seldom.
    """
    result = np.zeros(tokens.rows, dtype=bool)
    if len(tokens.row):
        result[tokens.row[tokens.begins]] = tokens.known_of(_COUNTS.__contains__)[tokens.begins] > 0
    return result


def _signs(text: Searched) -> FLOATS:
    """What separators between items, exclamation marks and capitals throughout weigh against a
    text.
    """
    separators, cries = text.counts(_SEPARATORS, text.holds("|")), text.counts("!", text.holds("!"))
    return np.asarray(
        0.6 * np.minimum(separators, 3) + 0.3 * np.minimum(cries, 2), dtype=np.float64
    )


def _mostly(text: Searched, pattern: str, likely: BOOLS) -> BOOLS:
    """True where a pattern occurs and, once it is cut out, at most two words remain."""
    found = text.matches(pattern, likely)
    if found.any():
        left = pc.replace_substring_regex(text.text.filter(pa.array(found)), pattern, " ")
        # classes of Unicode take milliseconds to compile
        word = r"[\pL\pN]+" if (text.odd & found).any() else "[A-Za-z0-9]+"
        found[found] = pc.count_substring_regex(left, word).to_numpy(zero_copy_only=False) <= 2
    return found


def _in_prose(word: str) -> bool:
    return word in prose_words()


def _weight(word: str) -> float:
    return interface_words().get(word, 0.0)


def _holds_together(word: str) -> bool:
    return word in function_words()


def _calls(word: str) -> bool:
    return word in calls()
