"""How much of a text is interface, commerce, law, credit or placeholder rather than a description of something seen."""

import re
from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.lexicon import calls, function_words, interface_runs, interface_words, prose_words
from filters.tokens import Tokens

FLOATS = NDArray[np.float64]
BOOLS = NDArray[np.bool_]

_AFTER_VIEW = frozenset(["of", "from", "over", "across", "through", "off"])
_PREPOSITIONS = frozenset(
    ["of", "in", "on", "at", "by", "for", "from", "with", "into", "over", "under", "near", "behind", "through", "across", "along"]
)
_DETERMINERS = frozenset(["a", "an", "the", "our", "his", "her", "their", "my", "its", "this", "last"])
_PRONOUNCED = re.compile(r"[a-z]*[aeiouy][a-z]|[a-z][aeiouy]")
SIGNS = frozenset(["\N{COPYRIGHT SIGN}", "\N{REGISTERED SIGN}", "\N{TRADE MARK SIGN}"])
_SIGNS = r"[|!%\x{a9}$]"
_COUNTS = frozenset(["a", "an", "two", "three", "four", "five", "six", "several"])
_SEPARATORS = r"[|\x{bb}\x{ab}\x{203a}\x{2039}\x{2190}-\x{2192}\x{2022}\x{b7}\x{25ba}\x{25b6}]"  # bars, angles, arrows, bullets
_ADDRESS = (
    r"(?i)(https?:|ftp:|mailto:|javascript:|^)//?\S+|\bwww\.\S+|\S+@\S+\.\S+"
    r"|\+?\(?\d{2,4}\)?[\s./-]\d{3,4}[\s.-]\d{3,4}\b"  # telephones
    r"|^\s*[a-z0-9-]+(\.[a-z0-9-]+)*\.(com|org|net|info|io|co|gov|edu|biz|[a-z]{2})(/\S*)?\s*$"
)
_MARKUP = r"(?i)&(#\d+|#x[0-9a-f]+|[a-z]{2,8});|</?[a-z][^>]*>|\{\{|\}\}|\$\{|<%|%>|\[/?[a-z_]+[^\]]*=|%[sd]\b"
_CREDIT = (  # who made a picture, and nothing on it
    r"^\W*((?i:photo(graph)?s?|images?|pictures?|pics?|illustrations?|graphics?|artwork|credits?|sources?|courtesy|photographer|photography)"
    r"((?i: credits?| courtesy| source))?\s*(:|(?i:by|courtesy|©|via))\s*(?i:of )?(?i:the )?)(\p{Lu}[\pL.'-]*[\s,/&|]*){1,5}\d{0,4}\W*$"
)
_LABEL = r"(?i)^\W*(fig(ure)?|plate|table|image|photo|picture|slide|page|exhibit|panel|chart|illustration)s?\.?\s*#?\d+[a-z]?\W*$"
_MONTH = r"jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?|dec(ember)?"
_DAY = r"(mon|tues?|wed(nes)?|thu(rs)?|fri|sat(ur)?|sun)(day)?|today|yesterday|tomorrow"
_AROUND = r"on|at|of|the|last|[ap]\.?m|utc|gmt|e[ds]t|p[ds]t|ago|(second|minute|hour|day|week|month|year)s?|updated|modified|posted"
_BYLINE = r"^\W*(?i:(written |posted |published |edited )?by) (\p{Lu}[\pL.'-]*[\s,&|]*){1,4}\W*$"
_GLYPH = r"(?i)^\W*([\pL'-]+\s+){0,2}(icons?|favicon|avatar|thumbnail|placeholder)\W*$"  # what an interface is drawn with
# when a page was written, and nothing on it
_DATE = rf"(?i)^\W*((\d{{1,4}}(st|nd|rd|th)?|{_MONTH}|{_DAY}|{_AROUND})([\s,./:|()-]+|$))+$"
# says what is shown, and that it is a screen
_SCREEN = r"(?i)^\W*((a|an|the|my) )?screen ?-?(shot|grab|capture|cap)s? (of|from|showing|with) .*\pL{3}"
_CLAIM = (
    r"(?i)^\W*((photo|image|picture|graphic|illustration)s? )?(courtesy (of )?|credits?:? |via )|^\W*(©|\(c\)|copyright\b|photo ©|image ©)"
)


def boilerplate(text: pa.Array, tokens: Tokens) -> tuple[FLOATS, FLOATS]:
    """Share of each text (0 to 1) that describes nothing, and how many distinct words of it may name something that can be seen.

    The share is the weight of interface words over that and the words that name. It is 1 where nothing is named at all, and for
    addresses, markup and credits; 0 for an empty text. In prose, words of interfaces and shops count half as names.
    """
    runs, leading, counted = _run_weights(tokens), _leading(tokens), _counted(tokens)
    called = tokens.total(leading)
    prose = _prose(tokens, counted) & (called == 0) & ~_matches(text, _SIGNS)
    soft = 0.5 * tokens.of_words(lambda word: word in prose_words()) * prose[tokens.row]
    names = np.maximum(tokens.of_words(_content), soft) * (tokens.first_of_kind & (runs < 0.6) & ~leading)
    weights = np.maximum(tokens.of_words(lambda word: interface_words().get(word, 0.0)), runs) * tokens.first_of_kind
    against = (tokens.total(weights) + _signs(text) + called) * np.where(counted | prose, 0.5, 1.0)
    content = tokens.total(names)
    share: FLOATS = np.where(content == 0, 1.0, against / np.maximum(against + content, 1e-9))
    share[_matches(text, _SCREEN) & (tokens.count >= 4)] *= 0.4
    share[_whole(text, tokens)] = 1.0
    share[~_matches(text, r"\S")] = 0.0
    return share, content


def _whole(text: pa.Array, tokens: Tokens) -> BOOLS:
    """True for texts that are credits, claims, labels, icons, dates, lists of keywords, addresses or markup as a whole."""
    matched = _keywords(text, tokens)
    for pattern in (_CREDIT, _CLAIM, _BYLINE, _LABEL, _GLYPH, _DATE):
        matched |= _matches(text, pattern)
    return matched | _mostly(text, _ADDRESS, tokens) | _mostly(text, _MARKUP, tokens)


def _keywords(text: pa.Array, tokens: Tokens) -> BOOLS:
    """True for lists with commas and without function words in which a word stands that never describes: written for search engines."""
    listed = _matches(text, r",.*,")
    if not listed.any():
        return listed
    joined = tokens.total(tokens.of_words(lambda word: word in function_words()) > 0)
    never = tokens.total(tokens.of_words(lambda word: interface_words().get(word, 0.0)) >= 1.0)
    return np.asarray(listed & (joined == 0) & (never > 0))


def _prose(tokens: Tokens, counted: BOOLS) -> BOOLS:
    """True for five words and more that open with an article or number, or have a preposition before one: sentences, not labels."""
    joined = np.zeros(tokens.rows, dtype=bool)
    if len(tokens.row) > 1:
        preposition = tokens.of_words(lambda word: word in _PREPOSITIONS)[:-1] > 0
        determiner = tokens.of_words(lambda word: word in _DETERMINERS)[1:] > 0
        joined[tokens.row[1:][preposition & determiner & (tokens.row[1:] == tokens.row[:-1])]] = True
    return np.asarray((tokens.count >= 5) & (joined | counted))


def _run_weights(tokens: Tokens) -> FLOATS:
    """The weight of the heaviest run of two or three words that each token is part of."""
    weights = np.zeros(len(tokens.code))
    codes = {word: code for code, word in enumerate(tokens.words)}
    for length in (2, 3):
        runs = [(run.split(), weight) for run, weight in interface_runs().items() if run.count(" ") == length - 1]
        coded = {_fold([codes[word] for word in run], codes): weight for run, weight in runs if all(word in codes for word in run)}
        last = len(weights) - length + 1
        if last <= 0 or not coded:
            continue
        starts = _fold([tokens.code[offset : offset + last] for offset in range(length)], codes)
        for start in np.flatnonzero(np.isin(starts, list(coded)) & (tokens.row[:last] == tokens.row[length - 1 :])):
            weights[start : start + length] = np.maximum(weights[start : start + length], coded[int(starts[start])])
    return weights


def _fold(codes: Sequence[Any], words: Sized) -> Any:
    """One number for a run of words: their codes as digits to the base of the vocabulary."""
    number: Any = 0
    for code in codes:
        number = number * (len(words) + 1) + code
    return number


def _content(word: str) -> float:
    """1 for a word that is neither function word, interface word, number nor letters that nobody could pronounce."""
    if word in function_words() or word in interface_words() or word.isdigit():
        return 0.0
    return float(_PRONOUNCED.search(word) is not None if word.isascii() else word not in SIGNS)


def _leading(tokens: Tokens) -> BOOLS:
    """True for the first word of a text where it calls to do something."""
    result = np.zeros(len(tokens.row), dtype=bool)
    if not len(tokens.row):
        return result
    first = np.flatnonzero(np.r_[True, tokens.row[1:] != tokens.row[:-1]])
    second = np.minimum(first + 1, len(tokens.row) - 1)
    leads = tokens.of_words(lambda word: word in calls())[first] > 0
    seen = (tokens.of_words(lambda word: word in _AFTER_VIEW)[second] > 0) & (tokens.row[second] == tokens.row[first])
    result[first[leads & ~seen]] = True
    return result


def _counted(tokens: Tokens) -> BOOLS:
    """True for a text that opens with an indefinite article or a small number, as descriptions do and interfaces seldom."""
    result = np.zeros(tokens.rows, dtype=bool)
    if len(tokens.row):
        first = np.flatnonzero(np.r_[True, tokens.row[1:] != tokens.row[:-1]])
        result[tokens.row[first]] = tokens.of_words(lambda word: word in _COUNTS)[first] > 0
    return result


def _signs(text: pa.Array) -> FLOATS:
    """What separators between items, exclamation marks and capitals throughout weigh against a text."""
    separators = pc.fill_null(pc.count_substring_regex(text, _SEPARATORS), 0).to_numpy(zero_copy_only=False)
    cries = pc.fill_null(pc.count_substring(text, "!"), 0).to_numpy(zero_copy_only=False)
    return np.asarray(0.6 * np.minimum(separators, 3) + 0.3 * np.minimum(cries, 2), dtype=np.float64)


def _matches(text: pa.Array, pattern: str) -> BOOLS:
    return np.asarray(pc.fill_null(pc.match_substring_regex(text, pattern), False).to_numpy(zero_copy_only=False))


def _mostly(text: pa.Array, pattern: str, tokens: Tokens) -> BOOLS:
    """True where a pattern occurs and, once it is cut out, at most two words remain."""
    found = _matches(text, pattern)
    if not found.any():
        return found
    left = pc.replace_substring_regex(text, pattern, " ")
    words = pc.fill_null(pc.count_substring_regex(left, r"[\pL\pN]+"), 0).to_numpy(zero_copy_only=False)
    return np.asarray(found & (words <= 2))
