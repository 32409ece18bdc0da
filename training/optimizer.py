"""The optimizer: what is trained, parameter groups, the learning rate along a stage, clipping."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from training.distributed import local, whole
from training.plan import Optimizer, Schedule, TrainingStage


def freeze(model: nn.Module, stage: TrainingStage) -> None:
    """Say which parameters are trained; ValueError when a pattern names none, or nothing is left.

    A head that no objective of the stage uses is frozen too, so that weight decay does not wear it.
    """
    idle_heads = _idle_heads(model, stage)
    used: set[str] = set()
    num_trained = 0
    for name, parameter in model.named_parameters():
        patterns = [pattern for pattern in stage.freeze if re.search(pattern, name)]
        used.update(patterns)
        trained = not patterns and not name.startswith(idle_heads)
        parameter.requires_grad_(trained)
        num_trained += trained

    for pattern in stage.freeze:
        if pattern not in used:
            raise ValueError(f"stage {stage.name}: freeze {pattern!r} matches no parameter")
    if not num_trained:
        raise ValueError(f"stage {stage.name}: everything is frozen; nothing is left to train")


def _idle_heads(model: nn.Module, stage: TrainingStage) -> tuple[str, ...]:
    used: set[object] = set()
    for objective in stage.objectives:
        used.update(vars(objective).values())
        contrast = getattr(objective, "contrast", None)
        if contrast is not None:
            used.update(vars(contrast).values())

    heads = dict(model.get_submodule("heads").named_children())
    return tuple(f"heads.{name}." for name in heads if name not in used)


def make_optimizer(model: nn.Module, stage: TrainingStage) -> torch.optim.AdamW:
    """AdamW over what is trained, a group for each factor of the rate, with and without decay.

    Biases, norms and other vectors do not decay (BERT, ViLT). A group keeps its factor as `factor`.
    """
    settings = stage.optimizer
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim >= 2
        is_sharded = isinstance(parameter, DTensor)  # one kernel takes one kind of tensor
        groups[_factor(settings, name), decays, is_sharded].append(parameter)

    param_groups = []
    for (factor, decays, _), parameters in groups.items():
        weight_decay = settings.weight_decay if decays else 0.0
        group = {"params": parameters, "weight_decay": weight_decay, "factor": factor}
        param_groups.append(group)
    return torch.optim.AdamW(
        param_groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True
    )


def _factor(settings: Optimizer, name: str) -> float:
    for pattern, factor in settings.groups.items():
        if re.search(pattern, name):
            return factor
    return 1.0


def learning_rate(stage: TrainingStage, step: int) -> float:
    """The rate of step 0, 1, 2 ... of a stage, for a factor of 1."""
    schedule, peak = stage.schedule, stage.optimizer.lr
    steps = schedule.warmup if schedule.warmup >= 1 else schedule.warmup * stage.steps
    warmup = max(1, round(steps))
    if step < warmup:
        progress = (step + 1) / warmup
        return peak * (schedule.start + (1 - schedule.start) * progress)
    return peak * _after_warmup(schedule, step - warmup, max(1, stage.steps - warmup))


def _after_warmup(schedule: Schedule, step: int, steps: int) -> float:
    progress = step / steps
    match schedule.shape:
        case "constant":
            return 1.0
        case "exponential":
            return max(schedule.end, schedule.decay ** (step // schedule.every))
        case "linear":
            share = 1 - progress
        case "cosine":
            share = (1 + math.cos(math.pi * progress)) / 2
    return schedule.end + (1 - schedule.end) * share


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Step and moments of every trained parameter, by name: the optimizer's own tensors.

    Before the first step they are made here, so that a checkpoint can be loaded into them.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        state = optimizer.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        for key in ("step", "exp_avg", "exp_avg_sq"):
            tensors[f"{name}.{key}"] = state[key]
    return tensors


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of every group, times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """The gradients' norm over all parameters; scaled down to `largest` unless that is 0.

    Of sharded parameters, all shards count.
    """
    gradients = [one.grad for one in parameters if one.grad is not None]
    sharded = [one for one in gradients if isinstance(one, DTensor)]
    plain = [one for one in gradients if not isinstance(one, DTensor)]
    norms = [whole(nn.utils.get_total_norm(kind)) for kind in (plain, sharded) if kind]
    if not norms:
        return 0.0

    total = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
    norm = float(total)
    if largest and norm > largest:
        scale = largest / (norm + 1e-6)
        torch._foreach_mul_([local(one) for one in gradients], scale)
    return norm
