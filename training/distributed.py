"""Several ranks that train one model: what they tell each other, with gradients where needed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor

_JOINED = itertools.count()  # what an earlier group of this process said in the store is not read
PATIENCE = timedelta(days=2)  # features of a large release may be computed while the others wait


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Who takes part. One process alone is a world of one, in which nothing is sent.

    Every rank holds equally many rows of a global batch; rank r holds rows r x n to (r + 1) x n.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """What torchrun set up, or one process alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(rank=dist.get_rank(), world=dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this rank writes and speaks for all."""
        return self.rank == 0

    def meet(self, group: dist.ProcessGroup | None = None) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.barrier(group)

    def most(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        if self.world == 1:
            return number
        value = torch.tensor(number, device=_where())
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def any_of(self, mine: Sequence[bool]) -> list[bool]:
        """For each place whether it is true on some rank; all give equally many."""
        if self.world == 1 or not mine:
            return list(mine)
        values = torch.tensor(mine, dtype=torch.uint8, device=_where())
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return [bool(value) for value in values.tolist()]

    def merge(self, mine: Mapping[str, str]) -> dict[str, str]:
        """The entries of all ranks' tables."""
        if self.world == 1:
            return dict(mine)
        tables: list[Any] = [None] * self.world
        dist.all_gather_object(tables, dict(mine))
        return {name: value for table in tables for name, value in table.items()}

    def gather(self, x: Tensor) -> Tensor:
        """[n, ...] of each rank -> [world x n, ...]; gradients come back to whose rows they are."""
        if self.world == 1:
            return x
        gathered: Tensor = _Gather.apply(x)
        return gathered

    def take(self, x: Tensor, rows: Tensor) -> Tensor:
        """Rows of the global batch, by their global numbers, fetched from the rank that has them.

        Only what is asked for travels: x [n, ...], rows [m] -> [m, ...].
        """
        if self.world == 1:
            return x[rows]
        taken: Tensor = _Take.apply(x, rows)
        return taken

    def add_up(self, counts: Mapping[str, float]) -> dict[str, float]:
        """The sum over ranks of each number."""
        if self.world == 1:
            return dict(counts)
        names = sorted(counts)
        numbers = [float(counts[name]) for name in names]
        values = torch.tensor(numbers, dtype=torch.float64, device=_where())
        dist.all_reduce(values)
        return dict(zip(names, values.tolist(), strict=True))


def _where() -> str:
    """On which device the ranks speak to each other."""
    return "cuda" if dist.get_backend() == "nccl" else "cpu"


class _Gather(torch.autograd.Function):
    """all_gather whose backward pass is reduce_scatter, spelt with what gloo and nccl both have."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        pieces = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(pieces, x.contiguous())
        return torch.cat(pieces)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


class _Take(torch.autograd.Function):
    """Rows of other ranks by all_to_all; the backward pass sends their gradients back."""

    @staticmethod
    def forward(context: Any, x: Tensor, rows: Tensor) -> Tensor:
        world, held = dist.get_world_size(), len(x)
        owner = rows // held
        order = owner.argsort(stable=True)
        receive_counts = torch.bincount(owner, minlength=world)
        send_counts = torch.empty_like(receive_counts)
        dist.all_to_all_single(send_counts, receive_counts)
        receives, sends = receive_counts.tolist(), send_counts.tolist()

        requests = rows.new_empty(sum(sends))
        dist.all_to_all_single(requests, rows[order] % held, sends, receives)
        received = x.new_empty((len(rows), *x.shape[1:]))
        dist.all_to_all_single(received, x[requests].contiguous(), receives, sends)

        context.save_for_backward(order, requests)
        context.sizes = receives, sends, x.shape
        out = torch.empty_like(received)
        out[order] = received
        return out

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        order, requests = context.saved_tensors
        receives, sends, shape = context.sizes
        (gradient,) = gradients
        returned = gradient.new_empty((len(requests), *shape[1:]))
        dist.all_to_all_single(returned, gradient[order].contiguous(), sends, receives)
        total = gradient.new_zeros(shape)
        return total.index_add(0, requests, returned), None


@contextmanager
def joined() -> Iterator[Ranks]:
    """All processes that torchrun started, for as long as this lasts; else this one alone.

    Whoever set up torch.distributed before keeps it.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or dist.is_initialized():
        yield Ranks.current()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "nccl"
    store, rank, world = next(rendezvous("env://"))
    store = PrefixStore(f"winnow {next(_JOINED)}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    try:
        yield Ranks.current()
    finally:
        dist.destroy_process_group()


def patient_group(ranks: Ranks) -> dist.ProcessGroup | None:
    """A group of all ranks that talks beside training (checkpoints), and waits long."""
    if ranks.world == 1:
        return None
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(group, dist.ProcessGroup), "every rank belongs to it"
    return group


def local(x: Tensor) -> Tensor:
    """This rank's piece of a tensor that is cut among ranks; any other as it is."""
    return x.to_local() if isinstance(x, DTensor) else x


def whole(x: Tensor) -> Tensor:
    """All of a tensor that is cut among ranks, which must ask together; any other as it is."""
    return x.full_tensor() if isinstance(x, DTensor) else x
