"""Parts of speech and sentiment, by the tagger and the lexicons that textblob carries in its
package.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Filter, Level, measured

# Tags of the Penn Treebank.
NOUNS = frozenset(["NN", "NNS", "NNP", "NNPS", "NNP-LOC", "NNP-PERS", "NNP-ORG"])
DETERMINERS = frozenset(["DT", "PDT", "WDT"])
# `to` is a preposition unless a verb in its base form follows
PREPOSITION, TO, VERB = "IN", "TO", "VB"
# characters: no caption is longer, and the tagger goes back over long runs of signs again and again
LONGEST = 5000


@dataclass(frozen=True)
class TaggerFilter(Filter):
    """What Conceptual Captions (section 3) and CC12M ask of the parts of speech of a text; all null
    for a text that is missing.

    They use a service; this is the tagger of the Pattern library, which textblob carries with its
    lexicons. About 0.1 ms a text.
    """

    name: ClassVar[str] = "tagger"
    version: ClassVar[int] = 2
    sentence: ClassVar[str] = (
        "Tags the words of a text with their parts of speech and weighs its sentiment"
    )
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.nouns": pa.int32(),
        "text.determiners": pa.int32(),
        "text.prepositions": pa.int32(),
        "text.noun_share": pa.float32(),  # of the words; 0 where there is none
        # distinct words, each with its tag, of the words; 0 where there is none
        "text.tag_variety": pa.float32(),
        "text.polarity": pa.float32(),  # -1 (against) to 1 (for)
    }
    costly: ClassVar[bool] = True

    @property
    def config(self) -> Mapping[str, Any]:
        return {"textblob": version("textblob")}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Each distinct text is tagged once, up to its first `LONGEST` characters."""
        distinct = pc.utf8_slice_codeunits(batch.column("text"), 0, LONGEST).dictionary_encode()
        columns = (
            zip(*map(_tagged, distinct.dictionary.to_pylist()), strict=True)
            if len(distinct.dictionary)
            else [[]] * len(self.writes)
        )
        made = {
            name: pa.array(column, kind)
            for (name, kind), column in zip(self.writes.items(), columns, strict=True)
        }
        return measured(
            self.writes, {name: column.take(distinct.indices) for name, column in made.items()}
        )


def _tagged(text: str) -> Sequence[float]:
    """The measurements of one text."""
    tag, polarity = _taggers()
    words = [
        (word.lower(), kind) for word, kind in tag(text) if any(sign.isalnum() for sign in word)
    ]
    kinds = [kind for _, kind in words]
    nouns = sum(kind in NOUNS for kind in kinds)
    following = [*kinds, ""][1:]
    prepositions = sum(
        kind == PREPOSITION or (kind == TO and after != VERB)
        for kind, after in zip(kinds, following, strict=True)
    )
    some = max(len(words), 1)
    return (
        nouns,
        sum(kind in DETERMINERS for kind in kinds),
        prepositions,
        nouns / some,
        len(set(words)) / some,
        polarity(text),
    )


@lru_cache(maxsize=1)
def _taggers() -> tuple[Any, Any]:
    from textblob.en import polarity, tag

    return tag, polarity
