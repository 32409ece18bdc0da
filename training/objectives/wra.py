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
        """[n] the cost of the transport."""
        cost, text, image = self.cost(fused)
        with torch.no_grad():
            plan = ipot(cost.detach(), text, image, self.beta, self.iterations)
        return (cost * plan).sum(dim=(1, 2))

    def cost(self, fused: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """[n, text, image] costs, 0 where a token takes no part; which do, as [n, t] bool each."""
        words = fused.part(Segment.TEXT)
        patches = fused.part(Segment.IMAGE)
        text, image = words.mask(), patches.mask()
        if not self.specials:
            text = _without_ends(text)
        if self.class_token:
            image = image.clone()
            image[:, 0] = False

        cosines = _normalised(words.x) @ _normalised(patches.x).transpose(1, 2)
        both = text[:, :, None] & image[:, None, :]
        cost = (1 - cosines).masked_fill(~both, 0.0)
        return cost, text, image


def _normalised(x: Tensor) -> Tensor:
    return F.normalize(at_least_float(x), dim=-1)


def _without_ends(valid: Tensor) -> Tensor:
    """Without the first and the last valid token of each row."""
    rows = torch.arange(len(valid), device=valid.device)
    last = valid.sum(dim=1) - 1
    inner = valid.clone()
    inner[:, 0] = False
    inner[rows, last.clamp(min=0)] = False
    return inner


def ipot(cost: Tensor, text: Tensor, image: Tensor, beta: float, iterations: int) -> Tensor:
    """The transport plan [n, t, k] between uniform marginals; without gradient.

    cost [n, t, k]; text [n, t] and image [n, k] bool: which tokens take part. A row without words
    or without patches gets a plan of zeros. With more iterations it comes to the exact plan.
    """
    both = (text[:, :, None] & image[:, None, :]).to(cost)
    num_words = text.sum(1, keepdim=True).clamp(min=1).to(cost)
    num_patches = image.sum(1, keepdim=True).clamp(min=1).to(cost)
    word_marginal = text / num_words
    patch_marginal = image / num_patches

    kernel = torch.exp(-cost / beta) * both
    plan = both
    patch_factor = patch_marginal
    for _ in range(iterations):
        scaled = kernel * plan
        row_sums = (scaled * patch_factor[:, None, :]).sum(2)
        word_factor = _divide(word_marginal, row_sums)
        column_sums = (scaled * word_factor[:, :, None]).sum(1)
        patch_factor = _divide(patch_marginal, column_sums)
        plan = word_factor[:, :, None] * scaled * patch_factor[:, None, :]
    return plan


def _divide(marginal: Tensor, sums: Tensor) -> Tensor:
    """marginal / sums, 0 where no token takes part."""
    return torch.where(marginal > 0, marginal / sums.masked_fill(sums == 0, 1.0), 0.0)
