"""Rules that say which weight becomes which, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Sequence[Tensor]
Shape = tuple[int, ...]
Conversion = Callable[[Tensor], Tensor]


def _as_is(tensors: Tensors) -> Tensors:
    return tensors


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Tensors of a `Model` that are made of tensors of a file, and back.

    `ours` are paths in the model's state, `theirs` names in the file. `load` takes theirs and gives
    ours; `save` undoes it.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    load: Callable[[Tensors], Tensors] = _as_is
    save: Callable[[Tensors], Tensors] = _as_is


Table = tuple[Rule, ...]


def same(ours: str, theirs: str) -> Table:
    """One tensor under another name."""
    return (Rule(ours=(ours,), theirs=(theirs,)),)


def _converted(ours: str, theirs: str, load: Conversion, save: Conversion) -> Table:
    """One tensor in another form."""

    def load_one(tensors: Tensors) -> Tensors:
        return [load(tensors[0])]

    def save_one(tensors: Tensors) -> Tensors:
        return [save(tensors[0])]

    return (Rule(ours=(ours,), theirs=(theirs,), load=load_one, save=save_one),)


def maps(ours: str, theirs: str, *, bias: bool = True) -> Table:
    """Weight and bias of a linear map or a norm."""
    table = same(f"{ours}.weight", f"{theirs}.weight")
    if bias:
        table += same(f"{ours}.bias", f"{theirs}.bias")
    return table


def fused(ours: str, theirs: Sequence[str]) -> Table:
    """Several maps of one input, one below the other in ours."""

    def load(tensors: Tensors) -> Tensors:
        return [torch.cat(list(tensors))]

    def save(tensors: Tensors) -> Tensors:
        return tensors[0].chunk(len(theirs))

    table = []
    for kind in ("weight", "bias"):
        names = tuple(_named(name, kind) for name in theirs)
        table.append(Rule(ours=(f"{ours}.{kind}",), theirs=names, load=load, save=save))
    return tuple(table)


def _named(name: str, kind: str) -> str:
    """torch's MultiheadAttention, which open_clip uses, writes in_proj_weight without a dot."""
    if name.endswith("in_proj"):
        return f"{name}_{kind}"
    return f"{name}.{kind}"


def transposed(ours: str, theirs: str) -> Table:
    """A map stored as [inputs, outputs]."""

    def transpose(tensor: Tensor) -> Tensor:
        return tensor.T.contiguous()

    return _converted(ours, theirs, transpose, transpose)


def reshaped(ours: str, theirs: str, shape: Shape, back: Shape) -> Table:
    """The same numbers in another shape; -1 is worked out."""

    def load(tensor: Tensor) -> Tensor:
        return tensor.reshape(shape)

    def save(tensor: Tensor) -> Tensor:
        return tensor.reshape(back)

    return _converted(ours, theirs, load, save)


def convolution(ours: str, theirs: str, side: int, *, bias: bool = True) -> Table:
    """A convolution whose stride is its size is a map of patches: channel, row, column."""

    def load(tensor: Tensor) -> Tensor:
        return tensor.flatten(1)

    def save(tensor: Tensor) -> Tensor:
        return tensor.reshape(-1, 3, side, side)

    table = _converted(f"{ours}.weight", f"{theirs}.weight", load, save)
    if bias:
        table += same(f"{ours}.bias", f"{theirs}.bias")
    return table


def positions(ours: str, theirs: str, grid: int, *, dims: int = 3) -> Table:
    """Position embeddings of the class token and a square of patches, [(1,) 1 + grid², width]."""

    def load(tensors: Tensors) -> Tensors:
        width = tensors[0].shape[-1]
        rows = tensors[0].reshape(-1, width)
        patches = rows[1:].reshape(grid, grid, -1)
        return [rows[0], patches]

    def save(tensors: Tensors) -> Tensors:
        first, patches = tensors
        rows = torch.cat([first[None], patches.flatten(0, 1)])
        return [rows if dims == 2 else rows[None]]

    paths = (f"{ours}.first_place", f"{ours}.place")
    return (Rule(ours=paths, theirs=(theirs,), load=load, save=save),)


def distilled_positions(ours: str, theirs: str, token: str, grid: int) -> Table:
    """DeiT's: a second token with a position of its own stands behind the class token.

    Ours has no position apart, so the two are added; on the way back the position is zero.
    """

    def load(tensors: Tensors) -> Tensors:
        rows = tensors[0][0]
        register = tensors[1][0] + rows[1:2]
        patches = rows[2:].reshape(grid, grid, -1)
        return [rows[0], register, patches]

    def save(tensors: Tensors) -> Tensors:
        first, register, patches = tensors
        no_position = torch.zeros_like(register)
        patch_rows = patches.flatten(0, 1)
        rows = torch.cat([first[None], no_position, patch_rows])
        return [rows[None], register[None]]

    paths = (f"{ours}.first_place", f"{ours}.registers", f"{ours}.place")
    return (Rule(ours=paths, theirs=(theirs, token), load=load, save=save),)


def rows(ours: Sequence[str], theirs: str) -> Table:
    """A table whose rows are single vectors of ours; further rows are left."""

    def load(tensors: Tensors) -> Tensors:
        return list(tensors[0][: len(ours)])

    def save(tensors: Tensors) -> Tensors:
        return [torch.stack(list(tensors))]

    return (Rule(ours=tuple(ours), theirs=(theirs,), load=load, save=save),)


def without_rows(ours: str, theirs: str, start: int) -> Table:
    """A table without its first rows (RoBERTa counts positions from 2)."""

    def load(table: Tensor) -> Tensor:
        return table[start:]

    def save(table: Tensor) -> Tensor:
        unused = table.new_zeros(start, table.shape[1])
        return torch.cat([unused, table])

    return _converted(ours, theirs, load, save)


@dataclass(frozen=True, kw_only=True)
class BlockNames:
    """How a family calls the parts of a transformer block.

    `qkv` are one or three maps; `norm` and `feed_norm` belong to the attention and to the
    feed-forward network, before or after them; `scales` are the factors of both.
    """

    qkv: tuple[str, ...]
    out: str
    norm: str
    into: str
    back: str
    feed_norm: str
    scales: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CrossNames:
    """How a family calls the parts of cross-attention."""

    query: str
    key_value: tuple[str, str]
    out: str
    norm: str


def block(ours: str, theirs: str, names: BlockNames, attention: str = "self") -> Table:
    """Self-attention and feed-forward network of one block."""
    own = f"{ours}.attentions.{attention}"
    feed = f"{ours}.feedforwards.shared"

    scales: Table = ()
    if names.scales:
        of_attention, of_feed = names.scales
        scales = same(f"{own}.scale", f"{theirs}.{of_attention}")
        scales += same(f"{feed}.scale", f"{theirs}.{of_feed}")

    qkv = [f"{theirs}.{name}" for name in names.qkv]
    return (
        *fused(f"{own}.inner.qkv", qkv),
        *maps(f"{own}.inner.out", f"{theirs}.{names.out}"),
        *maps(f"{own}.norm", f"{theirs}.{names.norm}"),
        *maps(f"{feed}.inner.into", f"{theirs}.{names.into}"),
        *maps(f"{feed}.inner.out", f"{theirs}.{names.back}"),
        *maps(f"{feed}.norm", f"{theirs}.{names.feed_norm}"),
        *scales,
    )


def cross(ours: str, theirs: str, names: CrossNames) -> Table:
    """Cross-attention of one block."""
    key_value = [f"{theirs}.{name}" for name in names.key_value]
    return (
        *maps(f"{ours}.cross.inner.query", f"{theirs}.{names.query}"),
        *fused(f"{ours}.cross.inner.key_value", key_value),
        *maps(f"{ours}.cross.inner.out", f"{theirs}.{names.out}"),
        *maps(f"{ours}.cross.norm", f"{theirs}.{names.norm}"),
    )


def blocks(
    layers: int, ours: str, theirs: str, names: BlockNames, attention: str = "self"
) -> Table:
    """All blocks of a stack."""
    table: list[Rule] = []
    for index in range(layers):
        our_block = f"{ours}.blocks.{index}"
        table += block(our_block, f"{theirs}.{index}", names, attention)
    return tuple(table)
