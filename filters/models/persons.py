"""Texts in which names of persons are replaced: a rewriter (CC12M replaces them by `<PERSON>`;
Changpinyo et al. 2021, section 2).
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from filters.base import Filter, Level, measured
from filters.given_models import Given
from filters.models.loading import Place, digest_of_folder, each_text, folder_of, longest_text

PERSON = "<PERSON>"
# labels: of whole entities, or of their beginnings and insides
PERSONS = re.compile(r"(?i)^(?:[BIESLU][-_])?(?:PER|PERSON|PERS)$")
OVERLAP = 32  # tokens that two pieces of a longer text share

Span = tuple[int, int]  # characters


@dataclass(frozen=True, kw_only=True)
class PersonsFilter(Filter):
    """The text with `<PERSON>` for each name of a person; names beside one another are one, and a
    name counts as a whole word.
    """

    name: ClassVar[str] = "persons"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = (
        "Replaces names of persons, as a token classifier finds them, by <PERSON>"
    )
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[Mapping[str, pa.DataType]] = {"text.anonymous": pa.string()}
    costly: ClassVar[bool] = True
    needs: ClassVar[str | None] = "persons"
    folder: str
    digest: str
    labels: tuple[int, ...]  # those that name persons
    place: Place

    @classmethod
    def of(cls, given: Given) -> Self:
        from transformers import AutoConfig

        assert given.persons is not None
        folder = folder_of(given.persons, "persons")
        try:
            names = AutoConfig.from_pretrained(folder, local_files_only=True).id2label
        except (OSError, ValueError) as error:
            raise ValueError(
                f"--persons {given.persons}: its configuration cannot be read ({error})"
            ) from error
        labels = tuple(sorted(int(number) for number, name in names.items() if PERSONS.match(name)))
        if not labels:
            raise ValueError(
                f"--persons {given.persons}: no label names persons ({', '.join(names.values())});"
                " PER, B-PER or PERSON would"
            )
        digest = digest_of_folder(folder, "persons")
        return cls(folder=str(folder), digest=digest, labels=labels, place=Place.of(given))

    @property
    def config(self) -> dict[str, Any]:
        return {"model": self.digest, **self.place.config}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Each distinct text of a batch is read once; null stays null."""
        said = batch.column("text").dictionary_encode()
        texts = said.dictionary.to_pylist()
        written = [
            _replaced(text, spans) for text, spans in zip(texts, self._persons(texts), strict=True)
        ]
        return measured(
            self.writes, {"text.anonymous": pa.array(written, pa.string()).take(said.indices)}
        )

    def _persons(self, texts: list[str]) -> list[list[Span]]:
        """The words that name persons, in each text."""
        spans: list[list[Span]] = [[] for _ in texts]
        if not texts:
            return spans
        model, tokenizer, longest = _model(self.folder, self.place.device)
        coded = tokenizer(
            texts,
            truncation=True,
            max_length=longest,
            stride=min(OVERLAP, longest // 4),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        named = self._named(model, coded["input_ids"], tokenizer.pad_token_id or 0, longest)
        for piece, row in enumerate(coded["overflow_to_sample_mapping"]):
            spans[row] += _words(
                coded.word_ids(piece), coded["offset_mapping"][piece], named[piece]
            )
        return spans

    def _named(
        self, model: Any, coded: Sequence[Sequence[int]], pad: int, longest: int
    ) -> list[np.ndarray]:
        """For each piece, which of its tokens name persons [tokens]."""
        named: list[np.ndarray] = [np.zeros(0, dtype=bool)] * len(coded)
        for rows, found in each_text(
            coded,
            pad,
            longest,
            lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits,
            self.place,
        ):
            for row, likeliest in zip(rows, found.argmax(-1), strict=True):
                named[row] = np.isin(likeliest[: len(coded[row])], self.labels)
        return named


def _words(words: Sequence[int | None], offsets: Sequence[Span], named: np.ndarray) -> list[Span]:
    """The characters of each word whose first token names a person."""
    spans: list[Span] = []
    taken = False
    for token, word in enumerate(words):
        if word is None:
            continue
        if token == 0 or words[token - 1] != word:
            taken = bool(named[token])
            spans += [offsets[token]] if taken else []
        elif taken:
            spans[-1] = (spans[-1][0], offsets[token][1])
    return spans


def _replaced(text: str, spans: Sequence[Span]) -> str:
    """The text with each run of spans that only blanks part replaced."""
    parts, end = [], -1
    for start, stop in sorted(spans):
        if end >= 0 and not text[end:start].strip():
            end = max(end, stop)
            continue
        parts.append(text[max(end, 0) : start])
        end = stop
    return PERSON.join([*parts, text[max(end, 0) :]])


@functools.cache
def _model(folder: str, device: str) -> tuple[Any, Any, int]:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = (
        AutoModelForTokenClassification.from_pretrained(
            folder, local_files_only=True, weights_only=True
        )
        .float()
        .eval()
        .to(device)
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not tokenizer.is_fast:
        raise ValueError(
            f"--persons {folder}: its tokenizer does not say which characters its tokens are; it"
            " needs a tokenizer.json"
        )
    return model, tokenizer, longest_text(model, tokenizer)
