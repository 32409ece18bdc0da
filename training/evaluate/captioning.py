"""What a model says of images, and how close it comes to what people said of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.draws import generator
from training.data.tokenizer import Tokenizer
from training.evaluate.caption_scores import caption_scores, java_scores
from training.evaluate.lines import Line
from training.evaluate.scorer import Scorer
from training.export import load_scorer
from training.generate import Decoding, Writer


@dataclass(frozen=True, kw_only=True)
class Captioner:
    """Captions of images by a model with a decoder; ValueError when it has none.

    `prompt` are words that every caption begins with and that are not part of it. `seed` settles
    what is drawn from a nucleus: a caption depends on it, and on its image's place.
    """

    scorer: Scorer
    decoding: Decoding = field(default_factory=Decoding)
    prompt: str = ""
    seed: int = 0

    def write(self, images: Sequence[bytes], start: int = 0) -> list[str | None]:
        """A caption for each, None where the image cannot be decoded; in batches.

        `start` is the place of the first image, where they are given piece by piece.
        """
        writer, tokenizer = self._writer()
        decoding = self.within_places()
        draws = self._draws(range(start, start + len(images)), decoding.longest)

        written: list[str | None] = [None] * len(images)
        for rows in self._readable(images):
            ids = self._ids(writer, tokenizer, decoding, draws[rows])
            for row, text in zip(rows, ids.tolist(), strict=True):
                written[row] = tokenizer.text_of(text)
        self.scorer.forget()
        return written

    def _draws(self, rows: Sequence[int], pieces: int) -> Tensor:
        """[rows, pieces] in 0..1, each row's settled by its place and the seed."""
        drawn = [generator(self.seed, "caption", row).random(pieces) for row in rows]
        return torch.tensor(np.array(drawn))

    def _writer(self) -> tuple[Writer, Tokenizer]:
        objective = self.scorer.captions
        if objective is None:
            raise ValueError("this model writes no captions: it has no such objective")
        tokenizer = self.scorer.prepared[objective.text]
        assert isinstance(tokenizer, Tokenizer), f"{objective.text} is not a text"
        writer = Writer(
            self.scorer.model,
            decoder=objective.decoder,
            head=objective.head,
            end=tokenizer.firsts[tokenizer.spec.last],
        )
        return writer, tokenizer

    def within_places(self) -> Decoding:
        """The settings, no longer than the places that the model has for words allow."""
        writer, tokenizer = self._writer()
        room = tokenizer.spec.length - self._prompt(writer, tokenizer, 1).shape[1]
        if room < 1:
            places = tokenizer.spec.length
            raise ValueError(f"the prompt {self.prompt!r} fills all {places} places for words")
        longest = min(self.decoding.longest, room)
        shortest = min(self.decoding.shortest, longest)
        return replace(self.decoding, longest=longest, shortest=shortest)

    def _readable(self, images: Sequence[bytes]) -> Iterator[list[int]]:
        """Rows of images whose tokens the scorer now holds: batches, without those of damage."""
        size = self.scorer.batch
        for at in range(0, len(images), size):
            rows = list(range(at, min(at + size, len(images))))
            if self._hold(images, rows):
                yield rows
                continue
            whole = [row for row in rows if self._hold(images, [row])]
            if whole:
                self._hold(images, whole)
                yield whole

    def _hold(self, images: Sequence[bytes], rows: Sequence[int]) -> bool:
        self.scorer.forget()
        try:
            self.scorer.images([images[row] for row in rows])
        except OSError:  # Pillow's errors of broken pictures are OSErrors
            return False
        return True

    def _ids(
        self, writer: Writer, tokenizer: Tokenizer, decoding: Decoding, draws: Tensor
    ) -> Tensor:
        step = self.scorer.model.spec.passes[writer.decoder]
        before = [self.scorer.tokens(name, step.first) for name in step.inputs[:-1]]
        reads = self.scorer.tokens(step.reads) if step.reads else None
        prompt = self._prompt(writer, tokenizer, len(draws))
        return writer.write(prompt, decoding, before=before, reads=reads, draws=draws)

    def _prompt(self, writer: Writer, tokenizer: Tokenizer, rows: int) -> Tensor:
        """The decoder's first piece and those of the prompt: [rows, pieces]."""
        given = tokenizer([self.prompt])
        given = given.begin_with(self.scorer.model.spec.passes[writer.decoder].first)
        device = next(self.scorer.model.parameters()).device
        return given.ids[:, :-1].to(device).repeat(rows, 1)


def evaluate(
    model: str | Path | Scorer,
    lines: Sequence[Line],
    *,
    decoding: Decoding | None = None,
    prompt: str = "",
    seed: int = 0,
    java: bool = True,
) -> dict[str, Any]:
    """CIDEr-D, BLEU-4 and ROUGE-L of a model's captions, in percent, against all of each line.

    METEOR and SPICE stand beside them where `java` asks for them and Java is there; else `skipped`
    says what is missing.
    `shuffled` is the blind baseline: each caption scored as that of another image. An image that
    cannot be decoded has an empty caption, which scores 0, and is counted in `unreadable`.
    """
    scorer = model if isinstance(model, Scorer) else load_scorer(model)
    captioner = Captioner(scorer=scorer, decoding=decoding or Decoding(), prompt=prompt, seed=seed)
    written = captioner.write([line.image.read_bytes() for line in lines])
    texts = [text or "" for text in written]
    references = [line.captions for line in lines]

    more, skipped = java_scores(texts, references, wanted=java)
    blind = [texts[row] for row in somebody_elses(len(lines), seed)]
    return {
        **caption_scores(texts, references),
        **more,
        "images": len(lines),
        "references": sum(map(len, references)),
        "unreadable": sum(text is None for text in written),
        "decoding": asdict(captioner.within_places()),
        "shuffled": caption_scores(blind, references) if len(lines) > 1 else None,
        "skipped": skipped,
    }


def somebody_elses(count: int, seed: int) -> list[int]:
    """For each row another one, all of them once: rows in a random circle, each takes the next."""
    circle = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    following = dict(zip(circle, [*circle[1:], *circle[:1]], strict=True))
    return [following[row] for row in range(count)]
