"""Word-region alignment: the cost of carrying a text's words onto an image's patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.heads import at_least_float
from training.tokens import Segment, Tokens


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Optimal transport by IPOT (Xie et al. 2020), as in UNITER and ViLT.

    `beta` .5, 50 iterations, uniform marginals, cost 1 - cosine. `specials`: whether the text's
    first and last token and the image's class token take part (UNITER: the text's do; ViLT: none
    does).
    """

    beta: float = 0.5
    iterations: int = 50
    specials: bool = False
    class_token: bool = True  # the image's first token is one, and takes no part

    def signed(self, fused: Tokens, labels: Tensor) -> Tensor:
        """Distances of true pairs less those of false ones, summed: true ones are to be near."""
        distance = self.distance(fused)
        sign = labels.to(distance) * 2 - 1
        return (distance * sign).sum()

    def distance(self, fused: Tokens) -> Tensor:
        """[n]: what the transport costs."""
        cost, text, image = self.cost(fused)
        with torch.no_grad():
            plan = ipot(cost.detach(), text, image, self.beta, self.iterations)
        return (cost * plan).sum(dim=(1, 2))

    def cost(self, fused: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """[n, text, image] costs, 0 at what takes no part; and what does, as [n, t] bool each."""
        words, patches = fused.part(Segment.TEXT), fused.part(Segment.IMAGE)
        text, image = words.mask(), patches.mask()
        if not self.specials:
            text = _without_ends(text)
        if self.class_token:
            image = image.clone()
            image[:, 0] = False

        words_x, patches_x = _unit(words.x), _unit(patches.x)
        cost = 1 - words_x @ patches_x.transpose(1, 2)
        both = text[:, :, None] & image[:, None, :]
        return cost.masked_fill(~both, 0.0), text, image


def _unit(x: Tensor) -> Tensor:
    return F.normalize(at_least_float(x), dim=-1)


def _without_ends(valid: Tensor) -> Tensor:
    """Without the first and the last valid token of each row."""
    inner = valid.clone()
    inner[:, 0] = False
    last = valid.sum(dim=1) - 1
    inner[torch.arange(len(valid), device=valid.device), last.clamp(min=0)] = False
    return inner


def ipot(cost: Tensor, text: Tensor, image: Tensor, beta: float, iterations: int) -> Tensor:
    """The transport plan [n, t, k] between uniform marginals over what takes part; no gradient.

    cost [n, t, k]; text [n, t] and image [n, k] bool. A row without words or without patches gets a
    plan of zeros. With more iterations it comes to the exact plan.
    """
    both = (text[:, :, None] & image[:, None, :]).to(cost)
    word_share = text / text.sum(1, keepdim=True).clamp(min=1).to(cost)
    patch_share = image / image.sum(1, keepdim=True).clamp(min=1).to(cost)

    kernel = torch.exp(-cost / beta) * both
    plan = both
    patch_factor = patch_share
    for _ in range(iterations):
        scaled = kernel * plan
        word_factor = _divide(word_share, (scaled * patch_factor[:, None, :]).sum(2))
        patch_factor = _divide(patch_share, (scaled * word_factor[:, :, None]).sum(1))
        plan = word_factor[:, :, None] * scaled * patch_factor[:, None, :]
    return plan


def _divide(share: Tensor, total: Tensor) -> Tensor:
    """share / total, 0 where nothing takes part."""
    return torch.where(share > 0, share / total.masked_fill(total == 0, 1.0), 0.0)
