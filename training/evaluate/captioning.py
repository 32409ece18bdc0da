"""What a model says of images, and how close it comes to what people said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.draws import generator
from training.data.reading import read_in_order
from training.data.shards import Release
from training.data.tokenizer import Tokenizer
from training.evaluate.caption_scores import caption_scores, java_scores
from training.evaluate.encoded import Tell, left_out, seen, silent
from training.evaluate.lines import Asked, opened
from training.evaluate.retrieval import shuffled
from training.evaluate.scorer import Scorer
from training.export import load_scorer
from training.generate import Decoding, TextGenerator

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
    what is drawn from a nucleus: a caption depends on it, and on its image's place.
    """

    scorer: Scorer
    decoding: Decoding = field(default_factory=Decoding)
    prompt: str = ""
    seed: int = 0

    def write(
        self, samples: Release, *, start: int = 0, workers: int = 0, tell: Tell = silent
    ) -> list[Written]:
        """A caption for each image; one that cannot be decoded has none.

        `start` is the place of the first one, where images are given piece by piece; `workers` are
        processes that decode.
        """
        writer, tokenizer = self._writer()
        decoding = self.within_places()
        specs = self.scorer.image_specs
        written = [Written()] * len(samples)
        every = range(len(samples))
        for part in read_in_order(samples, specs, every, batch=self.scorer.batch, workers=workers):
            for row, reason in part.bad.items():
                written[row] = Written(bad=reason)
            places = [place for place, row in enumerate(part.rows) if row not in part.bad]
            if places:
                rows = [part.rows[place] for place in places]
                images = {name: [of[place] for place in places] for name, of in part.images.items()}
                self.scorer.pixels(images, plain=True)
                draws = self._draws([start + row for row in rows], decoding.longest)
                ids = self._ids(writer, tokenizer, decoding, draws)
                for row, text in zip(rows, ids.tolist(), strict=True):
                    written[row] = Written(text=tokenizer.text_of(text))
            tell("write captions", part.rows[-1] + 1, len(samples))
        self.scorer.forget()
        return written

    def _draws(self, rows: Sequence[int], pieces: int) -> Tensor:
        """[rows, pieces] in 0..1, each row's settled by its place and the seed."""
        drawn = [generator(self.seed, "caption", row).random(pieces) for row in rows]
        return torch.tensor(np.array(drawn))

    def _writer(self) -> tuple[TextGenerator, Tokenizer]:
        objective = self.scorer.captions
        if objective is None:
            raise ValueError("this model writes no captions: it has no such objective")
        tokenizer = self.scorer.prepared[objective.text]
        assert isinstance(tokenizer, Tokenizer), f"{objective.text} is not a text"
        writer = TextGenerator(
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

    def _ids(
        self, writer: TextGenerator, tokenizer: Tokenizer, decoding: Decoding, draws: Tensor
    ) -> Tensor:
        step = self.scorer.model.spec.passes[writer.decoder]
        before = [self.scorer.tokens(name, step.first) for name in step.inputs[:-1]]
        reads = self.scorer.tokens(step.reads) if step.reads else None
        prompt = self._prompt(writer, tokenizer, len(draws))
        return writer.generate(prompt, decoding, before=before, reads=reads, draws=draws)

    def _prompt(self, writer: TextGenerator, tokenizer: Tokenizer, rows: int) -> Tensor:
        """The decoder's first piece and those of the prompt: [rows, pieces]."""
        given = tokenizer([self.prompt])
        given = given.begin_with(self.scorer.model.spec.passes[writer.decoder].first)
        device = next(self.scorer.model.parameters()).device
        return given.ids[:, :-1].to(device).repeat(rows, 1)


def evaluate(
    model: str | Path | Scorer,
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
    counted in `unreadable`; ValueError when none can. `examples` are some images, as the model saw
    them, with their captions.
    """
    scorer = model if isinstance(model, Scorer) else load_scorer(model)
    samples = opened(asked)
    captioner = Captioner(scorer=scorer, decoding=decoding or Decoding(), prompt=prompt, seed=seed)
    written = captioner.write(samples, workers=workers, tell=tell)
    if all(one.bad for one in written):
        count, reason = len(written), written[0].bad
        raise ValueError(f"{samples.name}: none of {count} images can be used ({reason})")

    texts = [one.text for one in written]
    references = [samples.texts(row)[0] for row in range(len(samples))]
    more, skipped = java_scores(texts, references, wanted=java)
    others = shuffled(torch.arange(len(texts)), len(texts)).tolist()
    blind = {"shuffled_images": caption_scores([texts[row] for row in others], references)}
    return {
        **caption_scores(texts, references),
        **more,
        "images": len(texts),
        "captions": sum(map(len, references)),
        "decoding": asdict(captioner.within_places()),
        "blind": blind,
        **left_out({samples.image_id(row): one.bad for row, one in enumerate(written) if one.bad}),
        "skipped": skipped,
        "examples": _examples(scorer, samples, texts, workers),
    }


def _examples(
    scorer: Scorer, samples: Release, texts: Sequence[str], workers: int
) -> list[dict[str, Any]]:
    """Some images, spread evenly, with what was said of them: for a report."""
    said = [row for row, text in enumerate(texts) if text]
    rows = said[:: max(1, -(-len(said) // SHOWN))]
    specs = dict(list(scorer.image_specs.items())[:1])
    found = []
    for part in read_in_order(samples, specs, rows, workers=workers):
        (images,) = part.images.values()
        for row, image in zip(part.rows, images, strict=True):
            one = {"image_id": samples.image_id(row), "image": seen(image)}
            found.append({**one, "caption": texts[row], "references": samples.texts(row)[0]})
    return found
