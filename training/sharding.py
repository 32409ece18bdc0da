"""Blocks cut among ranks (FSDP2), recomputed, compiled: what a plan asks for and no result shows.

A block of a stack is the unit: it is one group with all its self-attentions, so that a parameter
that several passes share (BLIP's text stack) stands in one group. Embeddings, heads and outer norms
stay whole on every rank; they are small beside the blocks, and heads are tied to embeddings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from training.distributed import Ranks
from training.model import Model
from training.plan import TrainingPlan
from training.stack import Stack


def prepare_stacks(model: Model, plan: TrainingPlan, ranks: Ranks, device: torch.device) -> None:
    """Recompute, compile and cut the blocks of a model as the plan says."""
    for stack in model.stacks.values():
        assert isinstance(stack, Stack)
        stack.checkpointing = plan.recompute
        if plan.compile:
            for block in stack.blocks:
                block.compile()
    if plan.shard == "fsdp" and ranks.world > 1:
        _cut(model, ranks, device)


def _cut(model: Model, ranks: Ranks, device: torch.device) -> None:
    mesh = init_device_mesh(device.type, (ranks.world,))
    uses = Counter(id(one) for _, one in model.named_parameters(remove_duplicate=False))
    for stack in model.stacks.values():
        assert isinstance(stack, Stack)
        for block in stack.blocks:
            if any(uses[id(one)] > 1 for one in block.parameters()):
                continue  # what stands in two places stays whole
            # by default a block that no other one holds stays whole until its way back, and a twin
            # and held-out samples have none
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
            assert isinstance(block, FSDPModule)
            block.set_gradient_divide_factor(1.0)  # losses are divided by global counts already
            block.set_force_sum_reduction_for_comms(True)  # the one reduction that gloo has too


@torch.no_grad()
def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Whole tensors into the parameters and buffers of these names; RuntimeError by their shape."""
    for name, mine in [*model.named_parameters(), *model.named_buffers()]:
        if name not in tensors:
            continue
        given = tensors[name]
        if given.shape != mine.shape:
            raise RuntimeError(f"{name} is {list(given.shape)}, and not {list(mine.shape)}")
        given = given.to(mine.device)
        if isinstance(mine, DTensor):
            given = distribute_tensor(given, mine.device_mesh, mine.placements)
        mine.copy_(given)
