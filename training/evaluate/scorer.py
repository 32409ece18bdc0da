"""A trained model, asked about many images and texts: each is encoded once, pairs are fused."""

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


@dataclass(kw_only=True)
class Scorer:
    """Images and texts that can be compared and matched.

    Towers are run in batches of `batch` rows. Their tokens are held until others come, or until
    `forget`: `training.evaluate.encoded` asks about more than fits into memory.

    A frozen tower whose features were kept in two views, plain and flipped, sees both of what it is
    asked about too: vectors of an image are averaged over its views, and so are log odds. On
    photographs that finds more than the plain view alone (docs/log.md). Captions, and whatever else
    is told of single tokens, come of the plain view.
    """

    model: Model
    prepared: Mapping[str, Prepared]
    contrast: Contrast | None = None
    matching: Matching | None = None
    captions: Captions | None = None
    answers: Answers | None = None
    batch: int = 64
    _inputs: dict[str, list[list[Input]]] = field(default_factory=dict)  # views, each in batches
    _towers: dict[tuple[str, str, int], Tokens] = field(default_factory=dict)

    @property
    def image_specs(self) -> dict[str, ImageSpec]:
        """For each embedding of images the preprocessing that it wants."""
        found = {}
        for name, prepared in self.prepared.items():
            spec = prepared.prepare if isinstance(prepared, FrozenTower) else prepared
            if isinstance(spec, ImageSpec):
                found[name] = spec
        return found

    def images(self, encoded: Sequence[bytes], *, plain: bool = False) -> None:
        """Images to be asked about, by their bytes. OSError when one cannot be decoded."""
        specs = self.image_specs.items()
        images = {name: [_tensor(spec, one) for one in encoded] for name, spec in specs}
        self.pixels(images, plain=plain)

    def pixels(self, images: Mapping[str, Sequence[Tensor]], *, plain: bool = False) -> None:
        """Images to be asked about, decoded: [h, w, 3] bytes for each of `image_specs`.

        `plain`: in one view, where nothing else will be asked for.
        """
        for name, decoded in images.items():
            parts = [self._image_views(name, part, plain) for part in self._parts(decoded)]
            self._give(name, [list(view) for view in zip(*parts, strict=True)])

    def texts(self, texts: Sequence[str]) -> None:
        """Texts to be asked about."""
        for name, prepared in self.prepared.items():
            if isinstance(prepared, Tokenizer):
                whole = prepared(texts)
                starts = range(0, len(texts), self.batch)
                self._give(name, [[whole.rows(at, at + self.batch) for at in starts]])
            elif isinstance(prepared, FrozenTower) and not isinstance(prepared.prepare, ImageSpec):
                self._give(name, [[self._read(prepared, part) for part in self._parts(texts)]])

    def _give(self, name: str, views: list[list[Input]]) -> None:
        """Another input of an embedding: what was made of the one before is dropped."""
        self._inputs[name] = views
        stale = [key for key in self._towers if name in self.model.spec.roots(key[0])]
        for key in stale:
            del self._towers[key]

    def forget(self) -> None:
        """Drop what was encoded."""
        self._inputs.clear()
        self._towers.clear()

    @torch.inference_mode()
    def image_vectors(self) -> Tensor:
        """[images, dim] of length 1; ValueError when the model compares nothing."""
        contrast = self._contrast()
        views = [
            self.model.head(contrast.image_head, self._tower(contrast.image, "", view))
            for view in range(self._views)
        ]
        return F.normalize(torch.stack(views).mean(0), dim=-1) if len(views) > 1 else views[0]

    @torch.inference_mode()
    def text_vectors(self) -> Tensor:
        """[texts, dim] of length 1; ValueError when the model compares nothing."""
        contrast = self._contrast()
        return self.model.head(contrast.text_head, self._tower(contrast.text, "", 0))

    @torch.inference_mode()
    def scale(self) -> float:
        """The factor of cosines."""
        return float(self.model.head(self._contrast().scale))

    def similarity(self) -> Tensor:
        """[images, texts] scaled cosines; ValueError when the model compares nothing."""
        return self.scale() * self.image_vectors() @ self.text_vectors().T

    def _contrast(self) -> Contrast:
        if self.contrast is None:
            raise ValueError("this model has no contrast: it can only judge pairs")
        return self.contrast

    def held_bytes(self, roots: Collection[str]) -> int:
        """Memory of what was made of these embeddings' inputs, and of the inputs."""
        views = [view for name in roots for view in self._inputs.get(name, [])]
        tensors = [tensor for view in views for one in view for tensor in _of(one)]
        for (node, _, _), tokens in self._towers.items():
            if self.model.spec.roots(node) & set(roots):
                tensors.append(tokens.x)
        return sum(one.numel() * one.element_size() for one in tensors)

    @torch.inference_mode()
    def match(self, images: Tensor, texts: Tensor) -> Tensor:
        """Log odds that pairs belong together: [m] rows of images and of texts -> [m]."""
        matching = self.matching
        if matching is None:
            raise ValueError("this model judges no pairs: it has no matching objective")
        found = []
        for at in range(0, len(images), self.batch):
            part = slice(at, at + self.batch)
            views = [self._odds(images[part], texts[part], view) for view in range(self._views)]
            found.append(torch.stack(views).mean(0))
        return torch.cat(found) if found else torch.zeros(0)

    def _odds(self, images: Tensor, texts: Tensor, view: int) -> Tensor:
        assert self.matching is not None, "whoever asks has looked"
        front = self.matching.front(self.model.spec)
        fused = self.fused(images, texts, view=view, front=front)
        logits = at_least_float(self.model.head(self.matching.head, fused))
        return logits[:, 1] - logits[:, 0]

    @torch.inference_mode()
    def fused(self, images: Tensor, texts: Tensor, *, view: int = 0, front: int = 0) -> Tokens:
        """Tokens of pairs, some from the front or (0) all, behind the pass that matching reads."""
        matching = self.matching
        if matching is None:
            raise ValueError("this model judges no pairs: it has no matching objective")
        rows = {matching.image: images, matching.text: texts}
        tower = partial(self._rows_of, view)
        return run_pairs(self.model, matching.fused, rows, tower, front=front)

    @torch.inference_mode()
    def answer(self, images: Tensor, texts: Tensor) -> Tensor:
        """Logits of the answers: [m] rows of images and of questions -> [m, classes]."""
        asked = self.answers
        assert asked is not None, "whoever asks has looked"
        found = []
        for view in range(self._views):
            tower = partial(self._rows_of, view)
            fused = [
                run_pairs(self.model, step, {asked.text: texts, image: images}, tower)
                for step, image in zip(asked.fused, asked.images, strict=True)
            ]
            found.append(at_least_float(self.model.head(asked.head, *fused)))
        return torch.stack(found).mean(0)

    def size_of_image(self, name: str) -> tuple[int, int]:
        """Height and width of the first image that an embedding was given as pixels."""
        given = self._inputs[name][0][0]
        assert isinstance(given, ImageInput), f"{name} is not given pixels"
        height, width = given.pixels.shape[-2:]
        return height, width

    @torch.inference_mode()
    def tokens(self, node: str, first: str = "") -> Tokens:
        """What an embedding or a pass makes of all images, or of all texts, that were given."""
        return self._tower(node, first, 0)

    @property
    def _views(self) -> int:
        """How many views there are of the images."""
        return max(len(self._inputs.get(name, [])) for name in self.image_specs)

    def _rows_of(self, view: int, node: str, first: str, rows: Tensor) -> Tokens:
        tokens = self._tower(node, first, view)
        return tokens[rows.to(tokens.x.device)]

    def _tower(self, node: str, first: str, view: int) -> Tokens:
        """What is made of a view; of what has one alone, as texts have, of that."""
        (root,) = self.model.spec.roots(node)
        key = node, first, min(view, len(self._inputs[root]) - 1)
        if key not in self._towers:
            parts = [self._run(node, first, given) for given in self._inputs[root][key[2]]]
            self._towers[key] = stack_rows(parts)
        return self._towers[key]

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
        if isinstance(given, ImageInput):
            spec = self.image_specs[name]
            given = ImageInput(pixels=scaled(given.pixels, spec), sizes=given.sizes)
        return embed_input(self.model, name, given, first=first)

    def _parts(self, items: Sequence[T]) -> list[Sequence[T]]:
        return [items[at : at + self.batch] for at in range(0, len(items), self.batch)]

    def _image_views(self, name: str, images: Sequence[Tensor], plain: bool) -> list[Input]:
        """Pixels, which are scaled when they are embedded, or what the frozen tower says."""
        prepared = self.prepared[name]
        if isinstance(prepared, FrozenTower):
            found = prepared.of_images(images, plain=plain)
            views = zip(*found, strict=True)
            return [stacked([row.cpu().numpy() for row in view]) for view in views]
        assert isinstance(prepared, ImageSpec), f"{name} is not given images"
        return [padded(images, prepared.patch)]

    def _read(self, tower: FrozenTower, texts: Sequence[str]) -> FeatureInput:
        return stacked([row.cpu().numpy() for row in tower.of_texts(texts)])


def _tensor(spec: ImageSpec, encoded: bytes) -> Tensor:
    return torch.from_numpy(spec.pixels(encoded).copy())


def _of(given: Input) -> list[Tensor]:
    match given:
        case TextInput():
            return [given.ids, given.valid]
        case ImageInput():
            return [given.pixels]
        case FeatureInput():
            return [given.features]
