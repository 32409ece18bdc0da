"""A trained model, asked about many images and texts: each is encoded once, pairs are fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.data.batch import padded, scaled
from training.data.features import stacked
from training.data.frozen import FrozenTower
from training.data.images import ImageSpec
from training.data.tokenizer import Tokenizer
from training.heads import at_least_float
from training.inputs import FeatureInput, ImageInput, Input
from training.model import Model
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.tokens import Tokens, stack_rows
from training.views import embed_input, run_pairs

Prepared = Tokenizer | ImageSpec | FrozenTower


@dataclass(kw_only=True)
class Scorer:
    """Images and texts that can be compared and matched.

    Towers are run in batches of `batch` rows, always padded to it, so that a score does not depend
    on how many others are asked about. Their tokens are held: ask `forget` when others come.
    """

    model: Model
    prepared: Mapping[str, Prepared]
    contrast: Contrast | None = None
    matching: Matching | None = None
    captions: Captions | None = None
    batch: int = 64
    _inputs: dict[str, list[Input]] = field(default_factory=dict)  # by embedding, in batches
    _towers: dict[tuple[str, str], Tokens] = field(default_factory=dict)

    def images(self, encoded: Sequence[bytes]) -> None:
        """Images to be asked about, by their bytes. OSError when one cannot be decoded."""
        for name, prepared in self.prepared.items():
            if isinstance(prepared, ImageSpec):
                self._inputs[name] = [self._pixels(prepared, part) for part in self._parts(encoded)]
            elif isinstance(prepared, FrozenTower) and isinstance(prepared.prepare, ImageSpec):
                self._inputs[name] = [self._seen(prepared, part) for part in self._parts(encoded)]

    def texts(self, texts: Sequence[str]) -> None:
        """Texts to be asked about."""
        for name, prepared in self.prepared.items():
            if isinstance(prepared, Tokenizer):
                whole = prepared(texts)
                starts = range(0, len(texts), self.batch)
                self._inputs[name] = [whole.rows(at, at + self.batch) for at in starts]
            elif isinstance(prepared, FrozenTower) and not isinstance(prepared.prepare, ImageSpec):
                self._inputs[name] = [self._read(prepared, part) for part in self._parts(texts)]

    def forget(self) -> None:
        """Drop what was encoded."""
        self._inputs.clear()
        self._towers.clear()

    @torch.inference_mode()
    def similarity(self) -> Tensor:
        """[images, texts] scaled cosines; ValueError when the model compares nothing."""
        contrast = self.contrast
        if contrast is None:
            raise ValueError("this model has no contrast: it can only judge pairs")
        image = self.model.head(contrast.image_head, self._tower(contrast.image, ""))
        text = self.model.head(contrast.text_head, self._tower(contrast.text, ""))
        scores: Tensor = self.model.head(contrast.scale) * image @ text.T
        return scores

    @torch.inference_mode()
    def match(self, images: Tensor, texts: Tensor) -> Tensor:
        """Log odds that pairs belong together: [m] rows of images and of texts -> [m]."""
        matching = self.matching
        if matching is None:
            raise ValueError("this model judges no pairs: it has no matching objective")
        found = []
        for at in range(0, len(images), self.batch):
            part = slice(at, at + self.batch)
            rows = {matching.image: images[part], matching.text: texts[part]}
            fused = run_pairs(self.model, matching.fused, rows, self._rows_of)
            logits = at_least_float(self.model.head(matching.head, fused))
            found.append(logits[:, 1] - logits[:, 0])
        return torch.cat(found) if found else torch.zeros(0)

    @torch.inference_mode()
    def tokens(self, node: str, first: str = "") -> Tokens:
        """What an embedding or a pass makes of all images, or of all texts, that were given."""
        return self._tower(node, first)

    def _rows_of(self, node: str, first: str, rows: Tensor) -> Tokens:
        tokens = self._tower(node, first)
        return tokens[rows.to(tokens.x.device)]

    def _tower(self, node: str, first: str) -> Tokens:
        if (node, first) not in self._towers:
            (root,) = self.model.spec.roots(node)
            parts = [self._run(node, first, given) for given in self._inputs[root]]
            self._towers[node, first] = stack_rows(parts)
        return self._towers[node, first]

    def _run(self, node: str, first: str, given: Input) -> Tokens:
        """A tower on one batch, whatever it is made of."""
        if node in self.model.spec.embeds:
            return self._embed(node, first, given)
        step = self.model.spec.passes[node]
        inputs = [self._run(name, step.first, given) for name in step.inputs]
        reads = self._run(step.reads, "", given) if step.reads else None
        return self.model.run(node, inputs, reads)

    def _embed(self, name: str, first: str, given: Input) -> Tokens:
        if not self.model.spec.roots(name):
            return self.model.embed(name, len(given))
        return embed_input(self.model, name, given, first=first)

    def _parts(self, items: Sequence[str] | Sequence[bytes]) -> list[Sequence[object]]:
        return [items[at : at + self.batch] for at in range(0, len(items), self.batch)]

    def _pixels(self, spec: ImageSpec, encoded: Sequence[object]) -> ImageInput:
        images = [_tensor(spec, one) for one in encoded]
        given = padded(images, spec.patch)
        return ImageInput(pixels=scaled(given.pixels, spec), sizes=given.sizes)

    def _seen(self, tower: FrozenTower, encoded: Sequence[object]) -> FeatureInput:
        spec = tower.prepare
        assert isinstance(spec, ImageSpec), "this tower reads texts"
        views = tower.of_images([_tensor(spec, one) for one in encoded])
        return stacked([view[0].cpu().numpy() for view in views])

    def _read(self, tower: FrozenTower, texts: Sequence[object]) -> FeatureInput:
        return stacked([row.cpu().numpy() for row in tower.of_texts([str(one) for one in texts])])


def _tensor(spec: ImageSpec, encoded: object) -> Tensor:
    assert isinstance(encoded, bytes), "images are given as bytes"
    return torch.from_numpy(spec.pixels(encoded).copy())
