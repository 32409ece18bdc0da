"""A batch and its model: what several objectives need is computed once.

The cut lies between towers and fusion: what depends on one kind of input alone (an image tower, a
text tower, an embedding) is encoded once and becomes a leaf; losses are computed on leaves; then
their gradients go back through the towers. With `chunk` a tower is encoded without gradient, chunk
by chunk, and again with gradient in the backward pass, so that memory holds the graph of one chunk
while every loss sees the whole global batch (the gradient cache of Gao et al. 2021, for all
objectives).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.alike import alike, rows_from_all
from training.data.draws import number_of
from training.distributed import Ranks
from training.embed import PatchesSpec
from training.inputs import FeatureInput, ImageInput, Input, TextInput
from training.model import Model
from training.momentum import Queue
from training.negatives import Keys
from training.tokens import Tokens, map_optional, stack_rows


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Random numbers of one step, each settled by (seed, step, name, global row) alone."""

    seed: int
    step: int
    ranks: Ranks = field(default_factory=Ranks)

    def uniform(self, name: str, rows: int, *shape: int) -> Tensor:
        """[rows, *shape] in 0..1 for this rank's rows; the same rows draw the same on any rank."""
        generator = torch.Generator().manual_seed(self.number(name))
        global_rows = self.ranks.world * rows
        draws = torch.rand((global_rows, *shape), generator=generator)
        start = self.ranks.rank * rows
        return draws[start : start + rows]

    def number(self, name: str) -> int:
        """63 bits."""
        return number_of(f"{self.seed} {self.step} {name}")

    def begin(self, name: str) -> None:
        """Seed dropout by the name from here on.

        As torch.manual_seed, which looks for every kind of device each time: a millisecond.
        """
        torch.default_generator.manual_seed(self.number(name))
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed(self.number(name))


@dataclass(kw_only=True)
class _Leaf:
    """Tokens on which losses are computed, and how their gradient goes back."""

    tokens: Tokens
    graph: Tokens | None  # the tokens before they were detached, when their graph was kept
    encode: Callable[[slice], Tokens]  # computes rows again, with gradient


class Views:
    """A batch, its model, and everything that has been computed of it."""

    def __init__(
        self,
        model: Model,
        inputs: Mapping[str, Input],
        keys: Keys,
        draws: Draws,
        *,
        chunk: int = 0,
        twin: Views | None = None,
        queue: Queue | None = None,
        alpha: float = 0.0,
        precision: Callable[[], AbstractContextManager[object]] = nullcontext,
        answers: Sequence[Sequence[str]] = (),
    ) -> None:
        self.model = model
        self.draws = draws
        self.ranks = draws.ranks
        self.inputs = alike(inputs, self.ranks, _patches_of(model))
        self.chunk = chunk
        self.twin = twin  # the momentum twin's views of the same batch
        self.queue = queue  # vectors of earlier batches, of a twin
        self.alpha = alpha  # the twin's share of soft targets
        self.precision = precision  # of forward passes
        self.size = len(next(iter(self.inputs.values())))
        self.keys = keys  # of this rank's rows
        self.answers = answers  # of this rank's rows, where they are questions
        self._with_gradient = torch.is_grad_enabled()
        self._variants: dict[tuple[str, str], Input] = {}
        self._leaves: dict[tuple[str, str, str], _Leaf] = {}

    def vary(self, name: str, variant: str, changed: Input) -> None:
        """Give an embedding another input under a name: masked texts, say."""
        self._variants[name, variant] = changed

    def all_keys(self) -> Keys:
        """Keys of the whole global batch."""
        return Keys(
            image=self.ranks.gather(self.keys.image),
            text=self.ranks.gather(self.keys.text),
            source=self.ranks.gather(self.keys.source),
        )

    @property
    def first_row(self) -> int:
        """The number of this rank's first row in the global batch."""
        return self.ranks.rank * self.size

    def global_rows(self, rows: slice = slice(None)) -> Tensor:
        """Numbers of some of this rank's rows in the global batch."""
        stop = self.first_row + self.size
        return torch.arange(self.first_row, stop)[rows]

    def chunks(self, rows: int) -> Iterator[slice]:
        """Runs of rows that fit into memory together."""
        step = self.chunk or max(1, rows)
        for start in range(0, rows, step):
            yield slice(start, min(start + step, rows))

    def pair_chunks(self, pairs: int) -> Iterator[slice]:
        """Runs of pairs; as many on every rank, which communicate in each, the last ones empty."""
        most = self.ranks.most(pairs)
        step = self.chunk or max(1, most)
        for start in range(0, most, step):
            yield slice(min(start, pairs), min(start + step, pairs))

    def tokens(self, node: str, *, variant: str = "", first: str = "") -> Tokens:
        """An embedding or a pass that depends on one kind of input: a leaf of this rank's rows."""
        roots = self.model.spec.roots(node)
        assert len(roots) == 1, f"{node} depends on {sorted(roots)}: ask for pairs instead"
        (root,) = roots
        if (root, variant) not in self._variants:
            variant = ""
        key = node, variant, first
        if key not in self._leaves:
            self._leaves[key] = self._leaf(node, variant, first)
        return self._leaves[key].tokens

    def pairs(
        self, node: str, rows: Mapping[str, Tensor], *, variant: str = "", front: int = 0
    ) -> Tokens:
        """A pass over pairs: `rows` are global rows for each embedding.

        `front` is how many tokens of a pair are read; 0: all.
        """

        def tower(name: str, first: str, chosen: Tensor) -> Tokens:
            tokens = self.tokens(name, variant=variant, first=first)
            return rows_from_all(tokens, chosen.to(tokens.x.device), self.ranks)

        return run_pairs(self.model, node, rows, tower, front=front)

    def _leaf(self, node: str, variant: str, first: str) -> _Leaf:
        def encode(rows: slice) -> Tokens:
            self.draws.begin(f"dropout {node} {variant} {self.first_row + rows.start}")
            with self.precision():
                return self._compute(node, variant, first, rows)

        if not self.chunk or self.size <= self.chunk:
            with torch.set_grad_enabled(self._with_gradient):  # the first caller may need none
                graph = encode(slice(0, self.size))
            return _Leaf(tokens=self._detached(graph), graph=graph, encode=encode)

        with torch.no_grad():
            tokens = stack_rows([encode(rows) for rows in self.chunks(self.size)])
        return _Leaf(tokens=self._detached(tokens), graph=None, encode=encode)

    def _detached(self, tokens: Tokens) -> Tokens:
        x = tokens.x.detach().requires_grad_(self._with_gradient)
        return tokens.with_x(x)

    def _compute(self, node: str, variant: str, first: str, rows: slice) -> Tokens:
        """A tower, or an embedding, for a run of rows."""
        if node in self.model.spec.embeds:
            return self._embed(node, variant, first, rows)

        step = self.model.spec.passes[node]
        inputs = [self._input(name, variant, step.first, rows) for name in step.inputs]
        reads = self._input(step.reads, variant, "", rows) if step.reads else None
        return self.model.run(node, inputs, reads)

    def _input(self, node: str, variant: str, first: str, rows: slice) -> Tokens:
        """What a pass takes in: an embedding, or rows of an earlier leaf."""
        if node in self.model.spec.embeds:
            return self._embed(node, variant, first, rows)
        tokens = self.tokens(node, variant=variant)
        indices = torch.arange(rows.start, rows.stop, device=tokens.x.device)
        return tokens[indices]

    def _embed(self, name: str, variant: str, first: str, rows: slice) -> Tokens:
        if not self.model.spec.roots(name):
            return self.model.embed(name, rows.stop - rows.start)

        batch = self._variants.get((name, variant), self.inputs[name])
        batch = batch.rows(rows.start, rows.stop)
        draw = None
        if isinstance(batch, ImageInput):
            draw = self._patch_draw(name, batch, rows)
        return embed_input(self.model, name, batch, first=first, draw=draw)

    def _patch_draw(self, name: str, images: ImageInput, rows: slice) -> Tensor | None:
        spec = self.model.spec.embeds[name]
        if not isinstance(spec, PatchesSpec) or not spec.sample or not self.model.training:
            return None
        height, width = images.pixels.shape[-2:]
        patches = (height // spec.patch) * (width // spec.patch)
        return self.draws.uniform(f"patches {name}", self.size, patches)[rows]

    def backward(self) -> None:
        """Send the gradients that losses left at the leaves back through the towers."""
        for leaf in reversed(self._leaves.values()):
            gradient = leaf.tokens.x.grad
            if gradient is None:
                continue
            if leaf.graph is not None:
                _backward(leaf.graph, gradient)
                continue
            for rows in self.chunks(self.size):
                _backward(leaf.encode(rows), gradient[rows])


def _patches_of(model: Model) -> dict[str, int]:
    """The sides of patches, by the embeddings that cut images into them."""
    embeds = model.spec.embeds.items()
    return {name: spec.patch for name, spec in embeds if isinstance(spec, PatchesSpec)}


def _backward(tokens: Tokens, gradient: Tensor) -> None:
    if tokens.x.requires_grad:  # not so for a frozen tower
        length = tokens.x.shape[1]  # a chunk is padded only in the leaf
        tokens.x.backward(gradient[:, :length])


def embed_input(
    model: Model,
    name: str,
    batch: Input,
    *,
    first: str = "",
    draw: Tensor | None = None,
) -> Tokens:
    """An embedding applied to its input, on whatever device that is.

    `first` is the token that a text begins with instead of its own, `draw` settles which patches of
    an image are kept.
    """
    parameter = next(model.parameters())

    def move(x: Tensor) -> Tensor:
        return x.to(parameter.device)

    match batch:
        case TextInput():
            text = batch.begin_with(first)
            return model.embed(name, move(text.ids), move(text.valid))
        case ImageInput():
            sizes = map_optional(move, batch.sizes)
            return model.embed(name, move(batch.pixels), sizes, draw)
        case FeatureInput():
            features = batch.features.to(parameter)
            valid = map_optional(move, batch.valid)
            if batch.boxes is None:
                return model.embed(name, features, valid)
            return model.embed(name, features, move(batch.boxes), valid)


def run_pairs(
    model: Model,
    node: str,
    rows: Mapping[str, Tensor],
    tower: Callable[[str, str, Tensor], Tokens],
    first: str = "",
    front: int = 0,
) -> Tokens:
    """A pass over pairs, whose towers are computed by the caller.

    `rows` are rows of the data for each embedding; `tower` gives rows of what depends on one
    embedding, by its name, the first token, and the rows. Of a pass over several, `front` tokens
    are read; 0: all.
    """
    roots = model.spec.roots(node)
    if not roots:
        count = len(next(iter(rows.values())))
        return model.embed(node, count)
    if len(roots) == 1:
        (root,) = roots
        return tower(node, first, rows[root])

    step = model.spec.passes[node]
    inputs = [run_pairs(model, name, rows, tower, step.first) for name in step.inputs]
    if not step.reads:
        return model.run(node, inputs, front=front)
    rows, reads_rows = _unique_rows(model, step.reads, rows)
    reads = run_pairs(model, step.reads, rows, tower)
    return model.run(node, inputs, reads, reads_rows=reads_rows, front=front)


def _unique_rows(
    model: Model, node: str, rows: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], Tensor | None]:
    """Each row of a tower once, and its index for each pair; None where none comes twice."""
    roots = model.spec.roots(node)
    if len(roots) != 1:
        return rows, None
    (root,) = roots
    unique, indices = rows[root].unique(return_inverse=True)
    if len(unique) == len(indices):
        return rows, None
    return {root: unique}, indices
