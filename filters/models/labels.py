"""Labels of the picture that the text shares: CC3M's test of whether a text speaks of its image
(Sharma et al., ACL 2018, section 3).

There each image had 5 to 20 labels of a service; here they are those of a classifier that the user
gives, the `MOST` most probable ones of at least `FLOOR`. The floor is our choice: ten times the
chance of one among a thousand. A label is shared when the text has the head (the last word) of one
of its names, both stemmed: "golden retriever" is shared by "two retrievers at the beach", not by "a
golden ring".
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Each, Filter, Level, PixelFilter, here, measured
from filters.given_models import Given
from filters.models.classifiers import Classifier
from filters.models.loading import FLOATS, Place, spread
from filters.text.tokens import tokens

MOST = 20
FLOOR = 0.01


@dataclass(frozen=True, kw_only=True)
class LabelsFilter(PixelFilter):
    """What a classifier sees in the picture."""

    name: ClassVar[str] = "labels"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Names what a classifier sees in the picture"
    level: ClassVar[Level] = "image"
    costly: ClassVar[bool] = True
    needs: ClassVar[str | None] = "labels"
    reads: ClassVar[tuple[str, ...]] = ("image",)
    # the most probable first
    writes: ClassVar[Mapping[str, pa.DataType]] = {"image.labels": pa.list_(pa.string())}
    classifier: Classifier
    place: Place

    @classmethod
    def of(cls, given: Given) -> Self:
        assert given.labels is not None
        return cls(classifier=Classifier.of(given.labels, "labels"), place=Place.of(given))

    @property
    def config(self) -> dict[str, Any]:
        return {"model": self.classifier.digest, "most": MOST, "floor": FLOOR, **self.place.config}

    def measure(self, batch: pa.RecordBatch, each: Each = here) -> pa.RecordBatch:
        where, values = self.classifier.of_images(batch.column("image"), self.place, each)
        return measured(
            self.writes,
            {
                "image.labels": spread(
                    where, self._named(values), batch.num_rows, self.writes["image.labels"]
                )
            },
        )

    def _named(self, values: FLOATS) -> pa.Array:
        """The labels of each row [n, labels], the most probable first, of equal ones the first."""
        if not values.size:
            return pa.array([], self.writes["image.labels"])
        order = np.argsort(-values, axis=1, kind="stable")[:, :MOST]
        enough = np.take_along_axis(values, order, axis=1) >= FLOOR
        offsets = np.concatenate([[0], np.cumsum(enough.sum(1))]).astype(np.int32)
        return pa.ListArray.from_arrays(
            pa.array(offsets), pa.array(self.classifier.labels).take(pa.array(order[enough]))
        )


@dataclass(frozen=True, kw_only=True)
class LabelOverlapFilter(Filter):
    """How many of the picture's labels the text shares."""

    name: ClassVar[str] = "label-overlap"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Counts the labels of the picture that the text names"
    level: ClassVar[Level] = "pair"
    needs: ClassVar[str | None] = "labels"
    reads: ClassVar[tuple[str, ...]] = ("text", "image.labels")
    writes: ClassVar[Mapping[str, pa.DataType]] = {"pair.label_overlap": pa.int32()}
    labels: Mapping[str, Any] = field(default_factory=dict)  # what those that it reads depend on

    @classmethod
    def of(cls, given: Given) -> Self:
        return cls(labels=LabelsFilter.of(given).config)

    @property
    def config(self) -> dict[str, Any]:
        return {"labels": self.labels}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        text, labels = batch.column("text"), batch.column("image.labels")
        known: dict[str, int] = {}
        words = tokens(text)
        stems = np.array(
            [known.setdefault(stem(word), len(known)) for word in words.words], dtype=np.int64
        )
        spoken = (
            words.row * (len(stems) + 1) + stems[words.code]
            if len(words.code)
            else np.zeros(0, np.int64)
        )
        named = pc.list_flatten(labels).dictionary_encode()
        row = pc.list_parent_indices(labels).to_numpy().astype(np.int64)
        code = np.asarray(named.indices, dtype=np.int64)
        shared = np.zeros(len(row), dtype=bool)
        for number, label in enumerate(named.dictionary.to_pylist()):
            of_label = np.flatnonzero(code == number)
            for place in {known[head] for head in heads(label) if head in known}:
                shared[of_label] |= np.isin(row[of_label] * (len(stems) + 1) + place, spoken)
        counts = np.bincount(row[shared], minlength=batch.num_rows)
        missing = np.asarray(pc.or_(text.is_null(), labels.is_null()))
        return measured(
            self.writes, {"pair.label_overlap": pa.array(counts, pa.int32(), mask=missing)}
        )


@functools.cache
def heads(label: str) -> frozenset[str]:
    """The stems of the last words of a label's names: {"retriev"} for "golden retriever", {"crane"}
    for "crane (bird)".
    """
    names = [
        re.findall(r"[^\W_]+", name.lower()) for name in re.sub(r"\([^)]*\)", " ", label).split(",")
    ]
    return frozenset(stem(words[-1]) for words in names if words)


@functools.lru_cache(maxsize=1 << 17)
def stem(word: str) -> str:
    """Porter's stem of a word in lower case."""
    return str(_stemmer().stem(word))


@functools.cache
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()
