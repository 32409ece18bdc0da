"""Comparing a model of ours with one of transformers, to the last digits of float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.model import Model
from training.weights.files import Checkpoint, understand
from training.weights.load import load
from training.weights.rules import Rule

EXACT = 1e-9  # relative to the largest number


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Every parameter and buffer, for zero biases and unit norms would hide a swap."""
    generator = torch.Generator().manual_seed(seed)
    model.double().eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            lowered = name.lower()
            norm = any(part in lowered for part in ("norm", "ln_", "layrnorm", "scale"))
            around = 1.0 if norm and name.endswith(("weight", "lambda1", "gamma")) else 0.0
            tensor.copy_(around + 0.3 * noise)


def ours_of(
    theirs: nn.Module, kind: str, config: Any = None, *, dtype: torch.dtype = torch.float64
) -> tuple[Model, Checkpoint]:
    """Our model of their weights; all of it has to come from there."""
    config = theirs.config if config is None else config
    checkpoint = understand(config, kind, theirs.state_dict())
    model = Model(checkpoint.family.spec).to(dtype).eval()
    report = load(model, checkpoint)
    assert not report.missing, str(report)
    assert not report.resized, str(report)
    return model, checkpoint


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest number."""
    assert found.shape == wanted.shape, f"{found.shape} against {wanted.shape}"
    return float(((found - wanted).abs().max() / wanted.abs().max()).detach())


def probe(outputs: Tensor, valid: Tensor | None = None) -> Tensor:
    """A number that depends on every valid output, each in its own way."""
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    if valid is not None:
        weights = weights * valid[..., None]
    return (outputs * weights.to(outputs)).sum()


def gradient_difference(
    model: Model, theirs: nn.Module, checkpoint: Checkpoint, kind: str, *, summed: str = "none"
) -> float:
    """The largest of all rules, after both went backwards; each rule maps gradients too.

    Except where ours is a sum of two of theirs (`summed`), which both have its gradient.
    """
    known = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in theirs.named_parameters(remove_duplicate=False)
    }
    config = theirs.settings if hasattr(theirs, "settings") else theirs.config
    named = understand(config, kind, known).state
    mine = dict(model.named_parameters(remove_duplicate=False))

    worst, compared = 0.0, 0
    largest = max(float(grad.abs().max()) for grad in known.values())
    for rule in checkpoint.family.table:
        for path, wanted in zip(rule.ours, _mapped(rule, named), strict=True):
            parameter = mine[path]
            found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert found.shape == wanted.shape, path
            wanted = wanted / 2 if path.endswith(summed) else wanted
            scale = max(float(wanted.abs().max()), 1e-6 * largest)
            worst = max(worst, float((found - wanted).abs().max()) / scale)
            compared += int(bool(wanted.any()))
    assert compared > len(checkpoint.family.table) // 2, "most parameters have a gradient"
    return worst


def _mapped(rule: Rule, named: Mapping[str, Tensor]) -> list[Tensor]:
    return list(rule.load([named[name] for name in rule.theirs]))


def texts(vocab: int, lengths: list[int], seed: int = 1) -> tuple[Tensor, Tensor]:
    """Ids and which of them are no padding, padded behind."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.randint(0, vocab, (len(lengths), longest), generator=generator)
    return ids, torch.arange(longest)[None] < torch.tensor(lengths)[:, None]


def pixels(*shape: int, seed: int = 2) -> Tensor:
    """Random images in float64, that gradients are asked of."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(shape, generator=generator, dtype=torch.float64)
    return images.requires_grad_()
