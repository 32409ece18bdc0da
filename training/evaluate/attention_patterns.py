"""What the heads of a stack attend to: their weights, and UNITER's patterns in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from training.attention import Attention
from training.masks import Mask

Shares = dict[str, float]


@contextmanager
def attention_of(stack: nn.Module) -> Iterator[list[Tensor]]:
    """Weights of the self-attentions of a stack: [n, heads, queries, keys] a layer, as they run."""
    weights: list[Tensor] = []

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        assert isinstance(module, Attention), "the hook is of attentions"
        weights.append(_weights(module, *inputs[:2]))

    with ExitStack() as handles:
        for module in stack.modules():
            if isinstance(module, Attention) and not module.is_cross:
                handle = module.register_forward_hook(hook)
                handles.callback(handle.remove)
        yield weights


def _weights(attention: Attention, x: Tensor, mask: Mask) -> Tensor:
    """[n, heads, queries, keys]: what the fused kernel computes and does not return."""
    n, tokens, _ = x.shape
    qkv = attention.qkv(x).float()
    query, key, _ = qkv.chunk(3, dim=-1)
    width = query.shape[-1] // attention.heads
    query = query.view(n, tokens, attention.heads, width).transpose(1, 2)
    key = key.view(n, tokens, attention.heads, width).transpose(1, 2)

    logits = query @ key.transpose(2, 3) * width**-0.5
    if mask.is_causal:
        later = torch.ones_like(logits, dtype=torch.bool).triu(1)
        logits = logits.masked_fill(later, -torch.inf)
    if mask.dense is not None:
        logits = logits.masked_fill(~mask.dense, -torch.inf)
    weights: Tensor = logits.softmax(-1)
    return weights


def shares_of_patterns(weights: Tensor, segments: Tensor) -> list[dict[str, Any]]:
    """UNITER's patterns in the attention of each head: [heads, t, t], segments [t].

    Shares of all attention: `vertical` goes to the one token that gets most; `diagonal` to a token
    itself and its neighbours of the same segment; `block` stays within words or within patches;
    `reversed_block` goes across. They overlap. `even` holds what attention that is the same
    everywhere would give, and `pattern` names the share that exceeds it most, of what it could.
    """
    tokens = len(segments)
    same = segments[:, None] == segments[None, :]
    position = torch.arange(tokens, device=segments.device)
    distance = position[:, None] - position[None, :]
    near = same & (distance.abs() <= 1)
    uniform = torch.full((tokens, tokens), 1 / tokens, device=weights.device)
    even = _shares(uniform, same, near)

    patterns = []
    for head in weights:
        shares = _shares(head, same, near)
        excess = {}
        for name, share in shares.items():
            possible = max(1 - even[name], 1e-9)
            excess[name] = (share - even[name]) / possible
        pattern = max(excess, key=lambda name: excess[name])
        rounded = {name: round(share, 4) for name, share in shares.items()}
        patterns.append({**rounded, "even": even, "pattern": pattern})
    return patterns


def _shares(weights: Tensor, same: Tensor, near: Tensor) -> Shares:
    """The share of each pattern in one head [t, t]."""
    weights = weights.double()
    sums = {
        "vertical": weights.sum(0).max(),
        "diagonal": (weights * near).sum(),
        "block": (weights * same).sum(),
        "reversed_block": (weights * ~same).sum(),
    }
    shares = {}
    for name, total in sums.items():
        shares[name] = round(float(total) / len(same), 6)
    return shares
