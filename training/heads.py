"""What stands behind a stack: one small module for each kind of question that an objective asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import within
from training.stack import ACTIVATIONS, Activation
from training.tokens import Tokens

Pooling = Literal["first", "mean", "last", "each"]


def pool(tokens: Tokens, how: Pooling) -> Tensor:
    """One vector a row: of the first token, the mean or the last valid one; or `each` token's.

    [n, width], with "each" [n, t, width].
    """
    if how == "each":
        return tokens.x
    if how == "first":
        return tokens.x[:, 0]
    if how == "mean":
        weights = tokens.mask().to(tokens.x)
        total = (tokens.x * weights[..., None]).sum(dim=1)
        return total / weights.sum(dim=1, keepdim=True).clamp(min=1)
    last = tokens.mask().sum(dim=1) - 1
    return tokens.x[torch.arange(len(tokens), device=tokens.x.device), last]


def at_least_float(x: Tensor) -> Tensor:
    """In float32, unless it is finer already: losses are not computed in half precision."""
    return x if x.dtype == torch.float64 else x.float()


@dataclass(frozen=True, kw_only=True)
class ProjectSpec:
    """Into the space in which images and texts are compared; the result has length 1.

    `tanh` puts BERT's pooler before it: a map and tanh (transformers' BlipModel).
    """

    width: int
    dim: int
    pool: Pooling = "first"
    tanh: bool = False
    bias: bool = True

    def __post_init__(self) -> None:
        within(1, 1_000_000, width=self.width, dim=self.dim)


class Project(nn.Module):
    """Tokens to unit vectors."""

    def __init__(self, spec: ProjectSpec) -> None:
        super().__init__()
        self.spec = spec
        self.pooler = nn.Linear(spec.width, spec.width) if spec.tanh else None
        self.linear = nn.Linear(spec.width, spec.dim, bias=spec.bias)

    def forward(self, tokens: Tokens) -> Tensor:
        """[n, dim] (pooling "each": [n, t, dim]) of length 1, in float32 or finer."""
        pooled = pool(tokens, self.spec.pool)
        if self.pooler is not None:
            pooled = torch.tanh(self.pooler(pooled))
        vectors = self.linear(pooled)
        return F.normalize(at_least_float(vectors), dim=-1)


@dataclass(frozen=True, kw_only=True)
class ScaleSpec:
    """The learned factor of cosines: exp of a number, within bounds (CLIP: 1/0.07, at most 100)."""

    start: float = 1 / 0.07
    lowest: float = 1.0
    highest: float = 100.0

    def __post_init__(self) -> None:
        within(1e-6, 1e6, start=self.start, lowest=self.lowest, highest=self.highest)
        if self.lowest > self.highest:
            raise ValueError(f"lowest {self.lowest} is above highest {self.highest}: change one")


class Scale(nn.Module):
    """A positive number, learned by its logarithm."""

    def __init__(self, spec: ScaleSpec) -> None:
        super().__init__()
        self.spec = spec
        self.log = nn.Parameter(torch.tensor(spec.start).log())

    def forward(self) -> Tensor:
        """[] the factor."""
        return self.log.exp().clamp(self.spec.lowest, self.spec.highest)


@dataclass(frozen=True, kw_only=True)
class ClassifySpec:
    """Logits over classes, from one vector a row or from each token.

    `tanh` puts BERT's pooler before it: a map and tanh (ViLT). BLIP's matching head has none.
    `joined` vectors, each of other tokens, stand one behind the other (ViLT's two images of NLVR2);
    `hidden` is the width of a further map, with norm and GELU (ViLT's answers; 0: none).
    """

    width: int
    classes: int
    pool: Pooling = "first"
    tanh: bool = False
    joined: int = 1
    hidden: int = 0


class Classify(nn.Module):
    """Tokens to logits."""

    def __init__(self, spec: ClassifySpec) -> None:
        super().__init__()
        self.spec = spec
        self.pooler = nn.Linear(spec.width, spec.width) if spec.tanh else None
        width = spec.width * spec.joined
        self.into = nn.Linear(width, spec.hidden) if spec.hidden else None
        self.norm = nn.LayerNorm(spec.hidden) if spec.hidden else None
        self.linear = nn.Linear(spec.hidden or width, spec.classes)

    def forward(self, *tokens: Tokens) -> Tensor:
        """[n, classes], with pooling "each" [n, t, classes]; as many tokens as are `joined`."""
        pooled = torch.cat([self._pooled(one) for one in tokens], dim=-1)
        if self.into is not None and self.norm is not None:
            pooled = F.gelu(self.norm(self.into(pooled)))
        logits: Tensor = self.linear(pooled)
        return logits

    def _pooled(self, tokens: Tokens) -> Tensor:
        pooled = pool(tokens, self.spec.pool)
        return pooled if self.pooler is None else torch.tanh(self.pooler(pooled))


@dataclass(frozen=True, kw_only=True)
class VocabularySpec:
    """Logits over a vocabulary.

    `transform` is BERT's map, activation and norm before it; `tied` names the word embedding whose
    table is the matrix, "" for a matrix of its own (ViLT).
    """

    width: int
    vocab: int
    transform: bool = True
    bias: bool = True
    tied: str = ""
    activation: Activation = "gelu"
    eps: float = 1e-12


class Vocabulary(nn.Module):
    """Vectors to logits over words."""

    def __init__(self, spec: VocabularySpec) -> None:
        super().__init__()
        self.spec = spec
        self.transform = nn.Linear(spec.width, spec.width) if spec.transform else None
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps) if spec.transform else nn.Identity()
        self.activation = ACTIVATIONS[spec.activation]
        self.decode = nn.Linear(spec.width, spec.vocab, bias=spec.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """[m, width] -> [m, vocab]."""
        if self.transform is not None:
            vectors = self.norm(self.activation(self.transform(vectors)))
        logits: Tensor = self.decode(vectors)
        return logits


@dataclass(frozen=True, kw_only=True)
class RegressSpec:
    """Back to the features of a region: map, GELU, norm, then the transpose of the way in (UNITER).

    `tied` names the region embedding whose map is used backwards; "": a map of its own (ImageBERT).
    """

    width: int
    features: int
    tied: str = ""
    eps: float = 1e-12


class Regress(nn.Module):
    """Vectors to features."""

    def __init__(self, spec: RegressSpec) -> None:
        super().__init__()
        self.spec = spec
        self.transform = nn.Linear(spec.width, spec.width)
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps)
        self.weight = nn.Parameter(torch.zeros(spec.width, spec.features))
        self.bias = nn.Parameter(torch.zeros(spec.features))

    def forward(self, vectors: Tensor) -> Tensor:
        """[m, width] -> [m, features]."""
        hidden = self.norm(F.gelu(self.transform(vectors)))
        features: Tensor = hidden @ self.weight + self.bias
        return features
