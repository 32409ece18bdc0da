"""Shapes that several recipes share: the towers of the papers, and small ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from training.data.features import FeatureSpec
from training.data.images import ImageSpec
from training.data.towers import TowerSpec
from training.embed import GridSpec
from training.stack import Cross, StackSpec

PIXELS = 64  # a side, of images that two cores can learn from


def vit(*, layers: int, width: int, heads: int, dropout: float = 0.0) -> StackSpec:
    """ViT: pre-norm, a norm behind (Dosovitskiy et al. 2021)."""
    return StackSpec(layers=layers, width=width, heads=heads, eps=1e-6, dropout=dropout)


def bert(
    *,
    layers: int,
    width: int,
    heads: int,
    cross: Cross | None = None,
    attentions: tuple[str, ...] = ("self",),
    dropout: float = 0.1,
) -> StackSpec:
    """BERT: post-norm (Devlin et al. 2019); with `cross` it reads an image in its blocks."""
    return StackSpec(
        layers=layers,
        width=width,
        heads=heads,
        norm="post",
        eps=1e-12,
        dropout=dropout,
        attention_dropout=dropout,
        cross=cross,
        attentions=attentions,
    )


def frozen_grid(folder: str, *, side: int, features: int = 256) -> FeatureSpec:
    """The grid of a convolutional tower of timm, cut to its principal components, in two views.

    256 components of EfficientNet-Lite0's 1,280 lose nothing that retrieval notices (docs/log.md).
    """
    return FeatureSpec(
        tower=TowerSpec(folder=folder, library="timm"),
        prepare=ImageSpec(
            size=side,
            mean=(0.485, 0.456, 0.406),  # ImageNet's
            std=(0.229, 0.224, 0.225),
        ),
        reduce=features,
        flip=True,
    )


def grid_embed(*, width: int, features: int = 256, places: int = 49) -> GridSpec:
    """Tokens of such a grid: mapped, normalised, each at a place of its own."""
    return GridSpec(
        features=features,
        width=width,
        places=places,
        norm=True,
        dropout=0.3,
        token_dropout=0.3,
    )


def is_timm(init: Mapping[str, str], module: str) -> bool:
    """Whether the weights given for a module are a folder of timm."""
    folder = Path(init.get(module, ""))
    config = folder / "config.json"
    return config.is_file() and "architecture" in config.read_text(encoding="utf-8")
