"""Captions of images by a model, and how close they come to those of people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.draws import generator
from training.data.reading import read_in_order
from training.data.shards import Release
from training.data.tokenizer import Tokenizer
from training.evaluate.caption_scores import JAVA, caption_scores, java_scores
from training.evaluate.encoded import (
    AnyModel,
    NoneUsable,
    Tell,
    data_uri,
    left_out,
    scorer_of,
    silent,
)
from training.evaluate.lines import Asked, opened
from training.evaluate.retrieval import shuffled
from training.evaluate.scorer import Scorer
from training.generate import Decoding, TextGenerator
from training.objectives.lm import Captions

SHOWN = 12  # images with captions, for a report


@dataclass(frozen=True, kw_only=True)
class Written:
    """A caption of an image, or why there is none."""

    text: str = ""
    bad: str = ""


@dataclass(frozen=True, kw_only=True)
class Captioner:
    """Captions of images by a model with a decoder; ValueError when it has none.

    `prompt` are words that every caption begins with and that are not part of it. `seed` settles
    what is drawn from a nucleus: a caption depends on it, and on its image's number.
    """

    scorer: Scorer
    decoding: Decoding = field(default_factory=Decoding)
    prompt: str = ""
    seed: int = 0

    def write(
        self, samples: Release, *, start: int = 0, workers: int = 0, tell: Tell = silent
    ) -> list[Written]:
        """A caption for each image; one that cannot be decoded has none.

        `start` is the number of the first one, where images come piece by piece; `workers` are
        processes that decode.
        """
        tokenizer = self._tokenizer()
        decoding = self.within_length()
        specs = self.scorer.image_specs
        written = [Written()] * len(samples)
        rows = range(len(samples))
        for part in read_in_order(samples, specs, rows, batch=self.scorer.batch, workers=workers):
            for row, reason in part.bad.items():
                written[row] = Written(bad=reason)
            if part.rows:
                self.scorer.pixels(part.images, plain=True)
                numbers = [start + row for row in part.rows]
                captions = self._generate(decoding, numbers)
                for row, ids in zip(part.rows, captions.tolist(), strict=True):
                    written[row] = Written(text=tokenizer.text_of(ids))
            tell("write captions", part.done, len(samples))
        self.scorer.forget()
        return written

    def within_length(self) -> Decoding:
        """The settings, no longer than the model's positions for words allow."""
        spec = self._tokenizer().spec
        room = spec.length - self._prompt_ids().shape[1]
        if room < 1:
            raise ValueError(f"the prompt {self.prompt!r} fills all {spec.length} places for words")
        longest = min(self.decoding.longest, room)
        shortest = min(self.decoding.shortest, longest)
        return replace(self.decoding, longest=longest, shortest=shortest)

    def _generate(self, decoding: Decoding, numbers: Sequence[int]) -> Tensor:
        """[images, pieces] ids of the captions of all images that the scorer holds."""
        scorer = self.scorer
        objective = self._objective()
        tokenizer = self._tokenizer()
        end = tokenizer.firsts[tokenizer.spec.last]
        text_generator = TextGenerator(
            scorer.model, decoder=objective.decoder, head=objective.head, end=end
        )

        step = scorer.model.spec.passes[objective.decoder]
        before = [scorer.tokens(name, step.first) for name in step.inputs[:-1]]
        reads = scorer.tokens(step.reads) if step.reads else None
        prompt = self._prompt_ids().repeat(len(numbers), 1)
        draws = self._draws(numbers, decoding.longest)
        return text_generator.generate(prompt, decoding, before=before, reads=reads, draws=draws)

    def _prompt_ids(self) -> Tensor:
        """The decoder's first piece and those of the prompt: [1, pieces]."""
        model = self.scorer.model
        step = model.spec.passes[self._objective().decoder]
        text = self._tokenizer()([self.prompt]).begin_with(step.first)
        device = next(model.parameters()).device
        return text.ids[:, :-1].to(device)

    def _draws(self, numbers: Sequence[int], pieces: int) -> Tensor:
        """[images, pieces] in 0..1, settled by the seed and each image's number."""
        draws = [generator(self.seed, "caption", number).random(pieces) for number in numbers]
        return torch.tensor(np.array(draws))

    def _tokenizer(self) -> Tokenizer:
        name = self._objective().text
        tokenizer = self.scorer.prepared[name]
        assert isinstance(tokenizer, Tokenizer), f"{name} is not a text"
        return tokenizer

    def _objective(self) -> Captions:
        if self.scorer.captions is None:
            raise ValueError(
                "this model writes no captions: the recipes `blip` and `llava` train some that do"
            )
        return self.scorer.captions


def evaluate(
    model: AnyModel,
    asked: Asked,
    *,
    decoding: Decoding | None = None,
    prompt: str = "",
    seed: int = 0,
    java: bool = True,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """CIDEr-D, BLEU-4 and ROUGE-L of a model's captions, in percent, against all of each image.

    METEOR and SPICE stand beside them where `java` asks for them and Java is there; else `skipped`
    says what is missing. `shuffled_images` is the blind baseline: each caption scored as that of
    another image. An image that cannot be decoded has an empty caption, which scores 0, and is
    counted in `unreadable`; so is one that nobody has described, which is left out. ValueError when
    none can be scored. `examples` are some images, as the model saw them, with their captions.
    """
    scorer = scorer_of(model)
    samples = opened(asked)
    captioner = Captioner(scorer=scorer, decoding=decoding or Decoding(), prompt=prompt, seed=seed)
    written = captioner.write(samples, workers=workers, tell=tell)
    bad = {}
    rows: list[int] = []  # with captions of people
    for row, caption in enumerate(written):
        told = bool(samples.texts(row)[0])
        if told:
            rows.append(row)
        if caption.bad or not told:
            bad[samples.image_id(row)] = caption.bad or "it has no text"
    if all(written[row].bad for row in rows):
        raise NoneUsable(samples, bad)

    texts = [written[row].text for row in rows]
    references = [samples.texts(row)[0] for row in rows]
    more: dict[str, float] = {}
    skipped = dict.fromkeys(JAVA, "not asked for")
    if java:
        more, skipped = java_scores(texts, references)
    partner = shuffled(torch.arange(len(texts)), len(texts))
    of_others = [texts[row] for row in partner.tolist()]
    return {
        **caption_scores(texts, references),
        **more,
        "images": len(texts),
        "captions": sum(map(len, references)),
        "decoding": asdict(captioner.within_length()),
        "blind": {"shuffled_images": caption_scores(of_others, references)},
        **left_out(bad),
        "skipped": skipped,
        "examples": _examples(scorer, samples, dict(zip(rows, texts, strict=True)), workers),
    }


def _examples(
    scorer: Scorer, samples: Release, texts: Mapping[int, str], workers: int
) -> list[dict[str, Any]]:
    """Some images, spread evenly, with their captions: for a report."""
    captioned = [row for row, text in texts.items() if text]
    step = math.ceil(len(captioned) / SHOWN)
    rows = captioned[:: max(1, step)]
    name, spec = next(iter(scorer.image_specs.items()))
    examples = []
    for part in read_in_order(samples, {name: spec}, rows, workers=workers):
        for row, image in zip(part.rows, part.images[name], strict=True):
            example = {
                "image_id": samples.image_id(row),
                "image": data_uri(image),
                "caption": texts[row],
                "references": samples.texts(row)[0],
            }
            examples.append(example)
    return examples
