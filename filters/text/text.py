"""What can be measured on a text alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Filter, Level, measured
from filters.text.boilerplate import boilerplate
from filters.text.file_names import filename
from filters.text.lexicon import function_words, interface_words
from filters.text.regex_prefilter import Searched
from filters.text.tokens import Tokens, tokens

# What is trusted to speak of the picture itself, where an image has several texts; our choice: the
# nearer the text was written to the image, the more. Text around an image is long, so it would win
# by length alone.
TRUST = {
    "alt": 1.0,
    "figcaption": 1.0,
    "given": 1.0,
    "synthetic": 1.0,
    "aria_label": 0.9,
    "title": 0.8,
    "link": 0.5,
    "surrounding": 0.4,
}
UNSEEN = " \t\r\n\u00a0\u200b\u200c\u200d\u2060\ufeff\u00ad\u3000"  # spaces, and what takes no room
# Bits of a text beyond which it says no more of one picture; our choice: about twelve words that
# are not common.
ENOUGH = 120.0
LONGEST_WORD = 1000  # characters


@dataclass(frozen=True)
class TextFilter(Filter):
    """What the words of a text are."""

    name: ClassVar[str] = "text"
    version: ClassVar[int] = 3
    sentence: ClassVar[str] = "Tells how much of a text names something that can be seen"
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text", "text_source")
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.filename": pa.bool_(),
        "text.boilerplate": pa.float32(),
        "text.information": pa.float32(),
        "text.preference": pa.float32(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text = pc.utf8_trim(pc.fill_null(batch.column("text"), ""), characters=UNSEEN)
        # the same as those of the trimmed texts, and other filters ask for them too
        words = tokens(batch.column("text"))
        searched = Searched(text)
        share, content = boilerplate(searched, words)
        informed = information(words, content)
        columns = {
            "text.filename": pa.array(filename(searched, words)),
            "text.boilerplate": pa.array(share, pa.float32()),
            "text.information": pa.array(informed, pa.float32()),
            "text.preference": pa.array(
                informed * _trust(batch.column("text_source")), pa.float32()
            ),
        }
        return measured(self.writes, columns)


def information(words: Tokens, content: np.ndarray) -> np.ndarray:
    """Bits that the distinct words of a text carry, counting those that name nothing for little; at
    most `ENOUGH`.
    """
    return np.minimum(words.total(words.known_of(_bits) * words.first_of_kind), ENOUGH) * (
        content > 0
    )


def _bits(word: str) -> float:
    """How unexpected a word is in English, -log2 of its frequency, at most that of one word in ten
    million.
    """
    from wordfreq import word_frequency

    # its tokenizer fails on endless words
    known = word_frequency(word, "en", wordlist="small") if len(word) <= LONGEST_WORD else 0.0
    rarity = -float(np.log2(max(known, 1e-7)))
    useless = word in function_words() or word in interface_words() or word.isdigit()
    return min(rarity, 16.0) * (0.1 if useless else 1.0)


def _trust(source: pa.Array) -> np.ndarray:
    encoded = source.dictionary_encode()
    trust = np.array([TRUST.get(name, 0.5) for name in encoded.dictionary.to_pylist()] + [0.5])
    return np.asarray(
        trust[pc.fill_null(encoded.indices, len(trust) - 1).to_numpy(zero_copy_only=False)]
    )
