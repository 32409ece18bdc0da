"""One step of training: gradients of a global batch, exact however it is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from training.distributed import Ranks
from training.objectives.base import Objective, Prepared
from training.views import Views


def accumulate_gradients(
    objectives: Sequence[Objective], weights: Mapping[str, float], views: Views
) -> dict[str, float]:
    """Add the gradient of the weighted sum of losses to the parameters; the mean of every number.

    A loss is its sum over all ranks divided by its count over all ranks, however the batch is cut
    into chunks and ranks. `weights` names losses; 1 where it is silent. Gradients of ranks are not
    yet added up: see `add_up_gradients`.
    """
    prepared = [objective.prepare(views) for objective in objectives]
    counts = views.ranks.add_up(_local_counts(prepared))

    sums: dict[str, float] = {}
    for objective, work in zip(objectives, prepared, strict=True):
        factors = {
            name: weights.get(name, 1.0) / max(1.0, counts[name]) for name in objective.losses
        }
        for number, part in enumerate(work.parts):
            views.draws.begin(f"{objective.losses} {number}")
            with views.precision():
                values = part()
            _send_back(values, factors)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
    views.backward()

    totals = views.ranks.add_up(sums)
    return {name: total / max(1.0, counts[name]) for name, total in totals.items()}


def _local_counts(prepared: Sequence[Prepared]) -> dict[str, float]:
    counts: dict[str, float] = {}
    for work in prepared:
        repeated = counts.keys() & work.counts.keys()
        assert not repeated, f"two objectives give {sorted(repeated)}"
        counts.update(work.counts)
    return counts


def _send_back(values: Mapping[str, Tensor], factors: Mapping[str, float]) -> None:
    losses = [factor * values[name] for name, factor in factors.items()]
    total = torch.stack(losses).sum()
    if total.requires_grad:
        total.backward()


def total_loss(
    numbers: Mapping[str, float], objectives: Sequence[Objective], weights: Mapping[str, float]
) -> float:
    """The number that a step lowers: the weighted sum of its losses' means."""
    names = [name for objective in objectives for name in objective.losses]
    return sum(weights.get(name, 1.0) * numbers[name] for name in names if name in numbers)


def add_up_gradients(model: nn.Module, ranks: Ranks) -> None:
    """Sum the gradients of all ranks, in one flat message for each type of number.

    A parameter without a gradient on one rank may have one on another: it takes part with zeros.
    One that has none anywhere keeps none, so that the optimizer leaves it alone, as it does in a
    process alone. Those that are cut among ranks (FSDP2) were added up on the way back.
    """
    if ranks.world == 1:
        return
    trained = [one for one in model.parameters() if one.requires_grad and not _is_cut(one)]
    asked = ranks.any_of([one.grad is not None for one in trained])
    reached = [one for one, somewhere in zip(trained, asked, strict=True) if somewhere]
    for parameter in reached:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)

    for kind in sorted({parameter.dtype for parameter in reached}, key=str):
        gradients = [p.grad for p in reached if p.dtype == kind and p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        pieces = flat.split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))


def _is_cut(parameter: nn.Parameter) -> bool:
    return isinstance(parameter, DTensor)
