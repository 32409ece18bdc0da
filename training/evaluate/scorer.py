"""A trained model for scoring many images and texts: each is encoded once, pairs are fused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.batch import padded, scaled
from training.data.features import stacked
from training.data.frozen import FrozenTower
from training.data.images import ImageSpec
from training.data.tokenizer import Tokenizer
from training.heads import at_least_float
from training.inputs import FeatureInput, ImageInput, Input, TextInput
from training.model import Model
from training.objectives.answers import Answers
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.tokens import Tokens, stack_rows
from training.views import embed_input, run_pairs

T = TypeVar("T")
Prepared = Tokenizer | ImageSpec | FrozenTower
Batches = list[Input]
TowerKey = tuple[str, str, int]  # node, first piece of a text, view


@dataclass(kw_only=True)
class Scorer:
    """Images and texts that can be compared and matched.

    Towers are run in batches of `batch` rows. Their tokens are held until other inputs come, or
    until `forget`: `training.evaluate.encoded` scores more than fits into memory. All scores and
    vectors are float32 on the CPU.

    A frozen tower whose features were cached in two views, plain and flipped, sees both at test
    time too: vectors of an image are averaged over its views, and so are log odds. On photographs
    that finds more than the plain view alone (docs/log.md). Captions, and whatever else is read
    from single tokens, come of the plain view.
    """

    model: Model
    prepared: Mapping[str, Prepared]
    contrast: Contrast | None = None
    matching: Matching | None = None
    captions: Captions | None = None
    answers: Answers | None = None
    batch: int = 64
    _inputs: dict[str, list[Batches]] = field(default_factory=dict)  # of each view its batches
    _towers: dict[TowerKey, Tokens] = field(default_factory=dict)

    @property
    def image_specs(self) -> dict[str, ImageSpec]:
        """For each embedding of images the preprocessing that it wants."""
        specs = {}
        for name, prepared in self.prepared.items():
            spec = prepared.prepare if isinstance(prepared, FrozenTower) else prepared
            if isinstance(spec, ImageSpec):
                specs[name] = spec
        return specs

    def images(self, encoded: Sequence[bytes], *, plain: bool = False) -> None:
        """Set the images, by their bytes. OSError when one cannot be decoded."""
        pixels = {}
        for name, spec in self.image_specs.items():
            pixels[name] = [_tensor(spec, image) for image in encoded]
        self.pixels(pixels, plain=plain)

    def pixels(self, images: Mapping[str, Sequence[Tensor]], *, plain: bool = False) -> None:
        """Set the images, decoded: [h, w, 3] bytes for each of `image_specs`.

        `plain`: in one view, where nothing else will be asked for.
        """
        for name, decoded in images.items():
            batches = [self._image_views(name, part, plain) for part in self._batches(decoded)]
            views = zip(*batches, strict=True)
            self._set(name, [list(view) for view in views])

    def texts(self, texts: Sequence[str]) -> None:
        """Set the texts."""
        for name, prepared in self.prepared.items():
            if isinstance(prepared, Tokenizer):
                ids = prepared(texts)
                starts = range(0, len(texts), self.batch)
                batches: Batches = [ids.rows(start, start + self.batch) for start in starts]
                self._set(name, [batches])
            elif isinstance(prepared, FrozenTower) and not isinstance(prepared.prepare, ImageSpec):
                parts = self._batches(texts)
                batches = [_stacked(prepared.of_texts(part)) for part in parts]
                self._set(name, [batches])

    def _set(self, name: str, views: list[Batches]) -> None:
        """Another input of an embedding: what was made of the one before is dropped."""
        self._inputs[name] = views
        for key in list(self._towers):
            if name in self.model.spec.roots(key[0]):
                del self._towers[key]

    def forget(self) -> None:
        """Drop what was encoded."""
        self._inputs.clear()
        self._towers.clear()

    @torch.inference_mode()
    def image_vectors(self) -> Tensor:
        """[images, dim] of length 1; ValueError when the model compares nothing."""
        contrast = self._contrast()
        views = []
        for view in range(self._views):
            tokens = self._tower(contrast.image, "", view)
            views.append(self.model.head(contrast.image_head, tokens))

        vectors = views[0]
        if len(views) > 1:
            mean = torch.stack(views).mean(0)
            vectors = F.normalize(mean, dim=-1)
        return vectors.float().cpu()

    @torch.inference_mode()
    def text_vectors(self) -> Tensor:
        """[texts, dim] of length 1; ValueError when the model compares nothing."""
        contrast = self._contrast()
        tokens = self._tower(contrast.text, "", 0)
        vectors = self.model.head(contrast.text_head, tokens)
        return vectors.float().cpu()

    @torch.inference_mode()
    def scale(self) -> float:
        """The factor of cosines."""
        contrast = self._contrast()
        return float(self.model.head(contrast.scale))

    def similarity(self) -> Tensor:
        """[images, texts] scaled cosines; ValueError when the model compares nothing."""
        images = self.scale() * self.image_vectors()
        return images @ self.text_vectors().T

    def _contrast(self) -> Contrast:
        if self.contrast is None:
            raise ValueError(
                "this model compares nothing, and so has no vectors of images and texts; those of "
                "the recipes `clip`, `albef` and `blip` have"
            )
        return self.contrast

    def held_bytes(self, roots: Collection[str]) -> int:
        """Memory of these embeddings' inputs, and of what was made of them."""
        total = 0
        for name in roots:
            for view in self._inputs.get(name, []):
                total += sum(map(_input_bytes, view))

        for (node, _, _), tokens in self._towers.items():
            if self.model.spec.roots(node) & set(roots):
                total += tokens.x.nbytes
        return total

    @torch.inference_mode()
    def match(self, images: Tensor, texts: Tensor) -> Tensor:
        """Log odds that pairs belong together: [m] rows of images and of texts -> [m]."""
        matching = self._matching()
        front = matching.front(self.model.spec)
        odds = [torch.zeros(0)]
        for start in range(0, len(images), self.batch):
            stop = start + self.batch
            image = images[start:stop]
            text = texts[start:stop]
            views = []
            for view in range(self._views):
                fused = self.fused(image, text, view=view, front=front)
                logits = at_least_float(self.model.head(matching.head, fused))
                false, true = logits.unbind(1)
                views.append(true - false)
            mean = torch.stack(views).mean(0)
            odds.append(mean.float().cpu())
        return torch.cat(odds)

    def _matching(self) -> Matching:
        if self.matching is None:
            raise ValueError(
                "this model judges no pairs; those of the recipes `vilt`, `albef` and `blip` do"
            )
        return self.matching

    @torch.inference_mode()
    def fused(self, images: Tensor, texts: Tensor, *, view: int = 0, front: int = 0) -> Tokens:
        """Tokens of pairs, some from the front or (0) all, behind the pass that matching reads."""
        matching = self._matching()
        rows = {matching.image: images, matching.text: texts}
        tower = partial(self._rows_of, view)
        return run_pairs(self.model, matching.fused, rows, tower, front=front)

    @torch.inference_mode()
    def answer(self, images: Tensor, texts: Tensor) -> Tensor:
        """Logits of the answers: [m] rows of images and of questions -> [m, classes]."""
        answers = self.answers
        assert answers is not None, "callers have looked"
        views = []
        for view in range(self._views):
            tower = partial(self._rows_of, view)
            fused = []
            for step, image in zip(answers.fused, answers.images, strict=True):
                rows = {answers.text: texts, image: images}
                fused.append(run_pairs(self.model, step, rows, tower))
            logits = self.model.head(answers.head, *fused)
            views.append(at_least_float(logits))
        return torch.stack(views).mean(0).float().cpu()

    def size_of_image(self, name: str) -> tuple[int, int]:
        """Height and width of the first image of an embedding of pixels."""
        images = self._inputs[name][0][0]
        assert isinstance(images, ImageInput), f"{name} does not embed pixels"
        height, width = images.pixels.shape[-2:]
        return height, width

    @torch.inference_mode()
    def tokens(self, node: str, first: str = "") -> Tokens:
        """What an embedding or a pass makes of all images, or of all texts."""
        return self._tower(node, first, 0)

    @property
    def _views(self) -> int:
        """How many views there are of the images."""
        views = [self._inputs.get(name, []) for name in self.image_specs]
        return max(map(len, views))

    def _rows_of(self, view: int, node: str, first: str, rows: Tensor) -> Tokens:
        tokens = self._tower(node, first, view)
        return tokens[rows.to(tokens.x.device)]

    def _tower(self, node: str, first: str, view: int) -> Tokens:
        """What is made of a view; inputs that have one alone, as texts have, count in all views."""
        (root,) = self.model.spec.roots(node)
        views = self._inputs[root]
        view = min(view, len(views) - 1)
        key = node, first, view
        if key not in self._towers:
            parts = [self._run(node, first, batch) for batch in views[view]]
            self._towers[key] = stack_rows(parts)
        return self._towers[key]

    def _run(self, node: str, first: str, batch: Input) -> Tokens:
        """A tower on one batch, whatever it is made of."""
        if node in self.model.spec.embeds:
            return self._embed(node, first, batch)

        step = self.model.spec.passes[node]
        inputs = [self._run(name, step.first, batch) for name in step.inputs]
        reads = self._run(step.reads, "", batch) if step.reads else None
        return self.model.run(node, inputs, reads)

    def _embed(self, name: str, first: str, batch: Input) -> Tokens:
        if not self.model.spec.roots(name):
            return self.model.embed(name, len(batch))
        if isinstance(batch, ImageInput):
            pixels = scaled(batch.pixels, self.image_specs[name])
            batch = ImageInput(pixels=pixels, sizes=batch.sizes)
        return embed_input(self.model, name, batch, first=first)

    def _batches(self, items: Sequence[T]) -> list[Sequence[T]]:
        starts = range(0, len(items), self.batch)
        return [items[start : start + self.batch] for start in starts]

    def _image_views(self, name: str, images: Sequence[Tensor], plain: bool) -> Batches:
        """Of each view one batch: pixels, which `_embed` scales, or features of a frozen tower."""
        prepared = self.prepared[name]
        if isinstance(prepared, FrozenTower):
            features = prepared.of_images(images, plain=plain)
            return [_stacked(view) for view in zip(*features, strict=True)]
        assert isinstance(prepared, ImageSpec), f"{name} embeds no images"
        return [padded(images, prepared.patch)]


def _stacked(rows: Sequence[Tensor]) -> FeatureInput:
    return stacked([row.cpu().numpy() for row in rows])


def _tensor(spec: ImageSpec, encoded: bytes) -> Tensor:
    pixels = spec.pixels(encoded)
    return torch.from_numpy(pixels.copy())


def _input_bytes(batch: Input) -> int:
    match batch:
        case TextInput():
            return batch.ids.nbytes + batch.valid.nbytes
        case ImageInput():
            return batch.pixels.nbytes
        case FeatureInput():
            return batch.features.nbytes
