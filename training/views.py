"""A batch seen through a model: what several objectives need is computed once.

The cut lies between towers and fusion: what depends on one kind of input alone (an image tower, a
text tower, an embedding) is encoded once and becomes a leaf; losses are computed on leaves; then
their gradients go back through the towers. With `chunk` a tower is encoded without gradient, chunk
by chunk, and again with gradient on the way back, so that memory holds the graph of one chunk while
every loss sees the whole global batch (the gradient cache of Gao et al. 2021, for all objectives).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.data.draws import number_of
from training.distributed import Ranks
from training.embed import PatchesSpec
from training.inputs import FeatureInput, ImageInput, Input, TextInput
from training.model import Model
from training.momentum import Queue
from training.negatives import Keys
from training.tokens import Tokens, stack_rows


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Random numbers of one step, each settled by (seed, step, name, global row) alone."""

    seed: int
    step: int
    ranks: Ranks = field(default_factory=Ranks)

    def uniform(self, name: str, rows: int, *shape: int) -> Tensor:
        """[rows, *shape] in 0..1 for this rank's rows; the same rows draw the same on any rank."""
        generator = torch.Generator().manual_seed(self.number(name))
        every = torch.rand((self.ranks.world * rows, *shape), generator=generator)
        start = self.ranks.rank * rows
        return every[start : start + rows]

    def number(self, name: str) -> int:
        """63 bits."""
        return number_of(f"{self.seed} {self.step} {name}")

    def begin(self, name: str) -> None:
        """Dropout draws from here on what the name settles.

        As torch.manual_seed, which looks for every kind of device each time: a millisecond.
        """
        torch.default_generator.manual_seed(self.number(name))
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed(self.number(name))


@dataclass(kw_only=True)
class _Leaf:
    """Tokens on which losses are computed, and how to send their gradient back."""

    tokens: Tokens
    graph: Tokens | None  # what made them, when it was kept
    encode: Callable[[int, int], Tokens]  # rows again, with gradient


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
        self.inputs = dict(inputs)
        self.draws = draws
        self.ranks = draws.ranks
        self.chunk = chunk
        self.twin = twin  # the momentum twin's views of the same batch
        self.queue = queue  # what the twin saw before
        self.alpha = alpha  # how much of a target is what the twin believes
        self.precision = precision  # of forward passes
        self.size = len(next(iter(self.inputs.values())))
        self.keys = keys  # of this rank's rows
        self.answers = answers  # of this rank's rows, where they are questions
        self._graded = torch.is_grad_enabled()
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
        step = self.chunk or rows
        for start in range(0, rows, max(1, step)):
            yield slice(start, min(start + step, rows))

    def pair_chunks(self, pairs: int) -> Iterator[slice]:
        """Runs of made-up pairs; as many on every rank, which talk in each, the last ones empty."""
        step = self.chunk or max(1, self.ranks.most(pairs))
        for number in range(-(-self.ranks.most(pairs) // step)):
            yield slice(min(number * step, pairs), min((number + 1) * step, pairs))

    def tokens(self, node: str, *, variant: str = "", first: str = "") -> Tokens:
        """An embedding or a pass that depends on one kind of input: a leaf of this rank's rows."""
        roots = self.model.spec.roots(node)
        assert len(roots) == 1, f"{node} depends on {sorted(roots)}: ask for made-up pairs instead"
        if not any((root, variant) in self._variants for root in roots):
            variant = ""
        key = node, variant, first
        if key not in self._leaves:
            self._leaves[key] = self._encode(node, variant, first)
        return self._leaves[key].tokens

    def pairs(
        self, node: str, rows: Mapping[str, Tensor], *, variant: str = "", front: int = 0
    ) -> Tokens:
        """A pass over pairs: `rows` says for each embedding which global rows are meant.

        `front` is how many tokens of a pair are read; 0: all.
        """

        def tower(name: str, first: str, chosen: Tensor) -> Tokens:
            tokens = self.tokens(name, variant=variant, first=first)
            return self._taken(tokens, chosen)

        return run_pairs(self.model, node, rows, tower, front=front)

    def _taken(self, tokens: Tokens, rows: Tensor) -> Tokens:
        rows = rows.to(tokens.x.device)
        if self.ranks.world == 1:
            return tokens[rows]
        valid = None if tokens.valid is None else self.ranks.take(tokens.valid.to(tokens.x), rows)
        return Tokens(
            x=self.ranks.take(tokens.x, rows),
            spans=tokens.spans,
            valid=None if valid is None else valid > 0,
        )

    def _encode(self, node: str, variant: str, first: str) -> _Leaf:
        def encode(start: int, stop: int) -> Tokens:
            self.draws.begin(f"dropout {node} {variant} {start}")
            with self.precision():
                return self._compute(node, variant, first, start, stop)

        if not self.chunk or self.size <= self.chunk:
            with torch.set_grad_enabled(self._graded):  # whoever asks first may want none
                graph = encode(0, self.size)
            return _Leaf(tokens=self._leaf_of(graph), graph=graph, encode=encode)

        with torch.no_grad():
            parts = [encode(part.start, part.stop) for part in self.chunks(self.size)]
        return _Leaf(tokens=self._leaf_of(stack_rows(parts)), graph=None, encode=encode)

    def _leaf_of(self, tokens: Tokens) -> Tokens:
        leaf = tokens.detach()
        return leaf.with_x(leaf.x.requires_grad_(self._graded))

    def _compute(self, node: str, variant: str, first: str, start: int, stop: int) -> Tokens:
        """A tower, or an embedding, for a run of rows."""
        if node in self.model.spec.embeds:
            return self._embed(node, variant, first, start, stop)

        step = self.model.spec.passes[node]
        inputs = [self._inner(name, variant, step.first, start, stop) for name in step.inputs]
        reads = self._inner(step.reads, variant, "", start, stop) if step.reads else None
        return self.model.run(node, inputs, reads)

    def _inner(self, node: str, variant: str, first: str, start: int, stop: int) -> Tokens:
        if node in self.model.spec.embeds:
            return self._embed(node, variant, first, start, stop)
        rows = torch.arange(start, stop)
        tokens = self.tokens(node, variant=variant)
        return tokens[rows.to(tokens.x.device)]

    def _embed(self, name: str, variant: str, first: str, start: int, stop: int) -> Tokens:
        if not self.model.spec.roots(name):
            return self.model.embed(name, stop - start)

        given = self._variants.get((name, variant), self.inputs[name]).rows(start, stop)
        draw = None
        if isinstance(given, ImageInput):
            draw = self._patch_draw(name, given, start, stop)
        return embed_input(self.model, name, given, first=first, draw=draw)

    def _patch_draw(self, name: str, given: ImageInput, start: int, stop: int) -> Tensor | None:
        spec = self.model.spec.embeds[name]
        if not isinstance(spec, PatchesSpec) or not spec.sample or not self.model.training:
            return None
        height, width = given.pixels.shape[-2:]
        patches = (height // spec.patch) * (width // spec.patch)
        return self.draws.uniform(f"patches {name}", self.size, patches)[start:stop]

    def backward(self) -> None:
        """Send the gradients that losses left at the leaves back through the towers."""
        for leaf in reversed(list(self._leaves.values())):
            gradient = leaf.tokens.x.grad
            if gradient is None:
                continue
            if leaf.graph is not None:
                _send_back(leaf.graph, gradient)
                continue
            for part in self.chunks(self.size):
                _send_back(leaf.encode(part.start, part.stop), gradient[part])


def embed_input(
    model: Model,
    name: str,
    given: Input,
    *,
    first: str = "",
    draw: Tensor | None = None,
) -> Tokens:
    """What an embedding makes of its input, wherever that lies.

    `first` is the token that a text begins with instead of its own, `draw` settles which patches of
    an image are kept.
    """
    parameter = next(model.parameters())
    match given:
        case TextInput():
            text = given.begin_with(first)
            return model.embed(name, text.ids.to(parameter.device), text.valid.to(parameter.device))
        case ImageInput():
            pixels, sizes = _there(parameter, given.pixels, given.sizes)
            return model.embed(name, pixels, sizes, draw)
        case FeatureInput():
            features = given.features.to(parameter)
            boxes, valid = _there(parameter, given.boxes, given.valid)
            if boxes is None:
                return model.embed(name, features, valid)
            return model.embed(name, features, boxes, valid)


def _there(parameter: Tensor, *tensors: Tensor | None) -> list[Tensor | None]:
    return [None if one is None else one.to(parameter.device) for one in tensors]


def run_pairs(
    model: Model,
    node: str,
    rows: Mapping[str, Tensor],
    tower: Callable[[str, str, Tensor], Tokens],
    first: str = "",
    front: int = 0,
) -> Tokens:
    """A pass over pairs, whose towers somebody else has run.

    `rows` says for each embedding with data which of its rows are meant; `tower` gives rows of what
    depends on one embedding: it is asked with the name, the first token, and the rows. Of a pass
    over several, `front` tokens are read; 0: all.
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
    rows, reads_rows = _once(model, step.reads, rows)
    reads = run_pairs(model, step.reads, rows, tower)
    return model.run(node, inputs, reads, reads_rows=reads_rows, front=front)


def _once(
    model: Model, node: str, rows: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], Tensor | None]:
    """Each row of a tower once, and where each pair finds its own; None where none comes again."""
    roots = model.spec.roots(node)
    if len(roots) != 1:
        return rows, None
    (root,) = roots
    once, places = rows[root].unique(return_inverse=True)
    if len(once) == len(places):
        return rows, None
    return {root: once}, places


def _send_back(tokens: Tokens, gradient: Tensor) -> None:
    if tokens.x.requires_grad:  # not so for a frozen tower
        tokens.x.backward(gradient[:, : tokens.x.shape[1]])
