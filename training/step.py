"""One step of training: gradients of a global batch, exact however it is cut."""

from __future__ import annotations

from collections import defaultdict
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
    """Add the gradient of the weighted sum of losses to the parameters; return all means.

    A loss is its sum over all ranks divided by its count over all ranks, however the batch is cut
    into chunks and ranks. `weights` are by loss, 1 for those that it does not name. Gradients of
    ranks are not yet added up: see `all_reduce_gradients`.
    """
    prepared = [objective.prepare(views) for objective in objectives]
    counts = views.ranks.add_up(_local_counts(prepared))

    sums: dict[str, float] = defaultdict(float)
    for objective, work in zip(objectives, prepared, strict=True):
        factors = {}
        for name in objective.losses:
            factors[name] = weights.get(name, 1.0) / max(1.0, counts[name])

        for number, part in enumerate(work.parts):
            views.draws.begin(f"{objective.losses} {views.first_row + number}")
            with views.precision():
                values = part()
            _backward(values, factors)
            for name, value in values.items():
                sums[name] += float(value.detach())
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


def _backward(values: Mapping[str, Tensor], factors: Mapping[str, float]) -> None:
    losses = [factor * values[name] for name, factor in factors.items()]
    total = torch.stack(losses).sum()
    if total.requires_grad:
        total.backward()


def total_loss(
    means: Mapping[str, float], objectives: Sequence[Objective], weights: Mapping[str, float]
) -> float:
    """What a step minimises: the weighted sum of the means of its losses."""
    terms = []
    for objective in objectives:
        for name in objective.losses:
            if name in means:
                terms.append(weights.get(name, 1.0) * means[name])
    return sum(terms)


def all_reduce_gradients(model: nn.Module, ranks: Ranks) -> None:
    """Sum the gradients of all ranks, in one flat message for each dtype.

    A parameter without a gradient on one rank may have one on another: it takes part with zeros.
    One that has none anywhere keeps none, so that the optimizer leaves it alone, as it does in a
    process alone. Those that are sharded (FSDP2) were added up in the backward pass.
    """
    if ranks.world == 1:
        return
    trained = [one for one in model.parameters() if one.requires_grad]
    whole = [one for one in trained if not isinstance(one, DTensor)]
    has_gradient = ranks.any_of([one.grad is not None for one in whole])

    by_dtype: dict[torch.dtype, list[Tensor]] = defaultdict(list)
    for parameter, somewhere in zip(whole, has_gradient, strict=True):
        if not somewhere:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        by_dtype[parameter.dtype].append(parameter.grad)

    for gradients in by_dtype.values():
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, total in zip(gradients, flat.split(sizes), strict=True):
            gradient.copy_(total.view_as(gradient))
