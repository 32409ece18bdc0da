"""What is unsafe to show: probabilities by classifiers that the user gives, one of images and one
of texts.

Which labels are unsafe is told by their names (`UNSAFE`). Where one label of all is true, their
probabilities are added; where several can be, the largest counts, as CommonPool drops a text by any
category of Detoxify.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from filters.base import Each, Filter, Level, PixelFilter, here, measured
from filters.given_models import Given
from filters.models.classifiers import Classifier
from filters.models.loading import FLOATS, Place, spread

# Labels, in lower case and with spaces for signs, of the classifiers that are in use: those of two
# labels (normal, nsfw; sfw, nsfw), the five of GantMan's nsfw_model (drawings, hentai, neutral,
# porn, sexy), Jigsaw's six kinds of toxicity and Detoxify's names for them.
UNSAFE = frozenset(
    (
        *(
            "nsfw",
            "not safe for work",
            "unsafe",
            "porn",
            "pornography",
            "hentai",
            "sexy",
            "sexual",
            "sexual explicit",
            "explicit",
        ),
        *(
            "erotic",
            "nude",
            "nudity",
            "naked",
            "adult",
            "gore",
            "gory",
            "violence",
            "violent",
            "graphic violence",
        ),
        *(
            "toxic",
            "toxicity",
            "severe toxic",
            "severe toxicity",
            "obscene",
            "obscenity",
            "threat",
            "insult",
            "identity hate",
        ),
        *(
            "identity attack",
            "hate",
            "hateful",
            "hate speech",
            "offensive",
            "offensive language",
            "profane",
            "profanity",
            "abusive",
        ),
    )
)


def unsafe_labels(classifier: Classifier, option: str) -> tuple[int, ...]:
    """The numbers of the labels that are unsafe; ValueError where none is known to be."""
    found = tuple(
        number for number, label in enumerate(classifier.labels) if _plain(label) in UNSAFE
    )
    if not found:
        shown = ", ".join(classifier.labels[:10])
        raise ValueError(
            f"--{option} {classifier.folder}: no label is known as unsafe ({shown}); rename them in"
            " its config.json"
        )
    if len(found) == len(classifier.labels) and not classifier.several:
        raise ValueError(
            f"--{option} {classifier.folder}: one label is always true, and all are unsafe"
            f" ({', '.join(classifier.labels)})"
        )
    return found


def _plain(label: str) -> str:
    return re.sub(r"[\W_]+", " ", label).strip().lower()


@dataclass(frozen=True, kw_only=True)
class SafetyFilter(Filter):
    """What the two have in common."""

    costly: ClassVar[bool] = True
    classifier: Classifier
    place: Place

    @classmethod
    def of(cls, given: Given) -> Self:
        assert cls.needs is not None
        option = cls.needs.replace("_", "-")
        classifier = Classifier.of(getattr(given, cls.needs), option)
        unsafe_labels(classifier, option)
        return cls(classifier=classifier, place=Place.of(given))

    @property
    def config(self) -> dict[str, Any]:
        unsafe = [self.classifier.labels[number] for number in self._unsafe]
        return {"model": self.classifier.digest, "unsafe": unsafe, **self.place.config}

    @property
    def _unsafe(self) -> tuple[int, ...]:
        return unsafe_labels(self.classifier, self.name)

    def _probability(self, values: FLOATS) -> FLOATS:
        """Of being unsafe [n], from those of the labels [n, labels]."""
        chosen = values[:, self._unsafe] if values.size else np.zeros((0, 1), np.float32)
        return np.asarray(
            chosen.max(1) if self.classifier.several else np.minimum(chosen.sum(1), 1),
            dtype=np.float32,
        )


@dataclass(frozen=True, kw_only=True)
class ImageSafetyFilter(SafetyFilter, PixelFilter):
    """Images; one that cannot be decoded is not measured, which is not safe."""

    name: ClassVar[str] = "image-safety"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Says how probably the picture is unsafe to show"
    level: ClassVar[Level] = "image"
    needs: ClassVar[str | None] = "image_safety"
    reads: ClassVar[tuple[str, ...]] = ("image",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {"image.unsafe": pa.float32()}

    def measure(self, batch: pa.RecordBatch, each: Each = here) -> pa.RecordBatch:
        where, values = self.classifier.of_images(batch.column("image"), self.place, each)
        return measured(
            self.writes,
            {
                "image.unsafe": spread(
                    where, self._probability(values), batch.num_rows, pa.float32()
                )
            },
        )


@dataclass(frozen=True, kw_only=True)
class TextSafetyFilter(SafetyFilter):
    """Texts, each distinct one of a batch once."""

    name: ClassVar[str] = "text-safety"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = "Says how probably the text is unsafe to show"
    level: ClassVar[Level] = "candidate"
    needs: ClassVar[str | None] = "text_safety"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {"text.unsafe": pa.float32()}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        said = batch.column("text").dictionary_encode()
        values = self._probability(
            self.classifier.of_texts(said.dictionary.to_pylist(), self.place)
        )
        return measured(
            self.writes, {"text.unsafe": pa.array(values, pa.float32()).take(said.indices)}
        )
