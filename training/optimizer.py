"""What moves the parameters: groups, the learning rate along a stage, the moving average."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from training.distributed import local, whole
from training.plan import Optimizer, Schedule, TrainingStage


def freeze(model: nn.Module, stage: TrainingStage) -> None:
    """Say which parameters are trained; ValueError when a pattern names none, or nothing is left.

    A head that no objective of the stage asks is frozen too, so that weight decay does not wear it.
    """
    patterns = [re.compile(pattern) for pattern in stage.freeze]
    used = dict.fromkeys(patterns, False)
    idle = _idle_heads(model, stage)
    trained = 0
    for name, parameter in model.named_parameters():
        found = [pattern for pattern in patterns if pattern.search(name)]
        used.update(dict.fromkeys(found, True))
        still = not found and not name.startswith(idle)
        parameter.requires_grad_(still)
        trained += still

    for pattern, was_used in used.items():
        if not was_used:
            raise ValueError(f"stage {stage.name}: freeze {pattern.pattern!r} matches no parameter")
    if not trained:
        raise ValueError(f"stage {stage.name}: everything is frozen; nothing is left to train")


def _idle_heads(model: nn.Module, stage: TrainingStage) -> tuple[str, ...]:
    asked: set[str] = set()
    for objective in stage.objectives:
        asked |= {value for value in vars(objective).values() if isinstance(value, str)}
        contrast = getattr(objective, "contrast", None)
        if contrast is not None:
            asked |= {value for value in vars(contrast).values() if isinstance(value, str)}
    heads = dict(model.get_submodule("heads").named_children())
    return tuple(f"heads.{name}." for name in heads if name not in asked)


def make_optimizer(model: nn.Module, stage: TrainingStage) -> torch.optim.AdamW:
    """AdamW over what is trained, a group for each factor of the rate, with and without decay.

    Biases, norms and other vectors do not decay (BERT, ViLT). A group knows its factor as `factor`.
    """
    settings = stage.optimizer
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            cut = isinstance(parameter, DTensor)  # one kernel takes one kind of tensor
            key = _factor(settings, name), parameter.ndim >= 2, cut
            groups.setdefault(key, []).append(parameter)

    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": settings.weight_decay if decays else 0.0,
                "factor": factor,
            }
            for (factor, decays, _), parameters in groups.items()
        ],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
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
    warm = max(1, round(steps))
    if step < warm:
        share = (step + 1) / warm
        return peak * (schedule.start + (1 - schedule.start) * share)
    return peak * _after_warmup(schedule, step - warm, max(1, stage.steps - warm))


def _after_warmup(schedule: Schedule, step: int, steps: int) -> float:
    done = step / steps
    match schedule.shape:
        case "constant":
            return 1.0
        case "exponential":
            return max(schedule.end, schedule.decay ** (step // schedule.every))
        case "linear":
            share = 1 - done
        case "cosine":
            share = (1 + math.cos(math.pi * done)) / 2
    return schedule.end + (1 - schedule.end) * share


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of every trained parameter, and its steps, by name: the optimizer's own tensors.

    What the first step has not made yet is made here, so that a checkpoint can be loaded into it.
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

    Of parameters that are cut among ranks, all pieces count.
    """
    gradients = [one.grad for one in parameters if one.grad is not None]
    cut = [one for one in gradients if isinstance(one, DTensor)]
    plain = [one for one in gradients if not isinstance(one, DTensor)]
    norms = [whole(nn.utils.get_total_norm(kind)) for kind in (plain, cut) if kind]
    if not norms:
        return 0.0
    norm = float(norms[0] if len(norms) == 1 else torch.stack(norms).norm())
    if largest and norm > largest:
        torch._foreach_mul_([local(one) for one in gradients], largest / (norm + 1e-6))
    return norm
