"""Ranks whose rows differ in length, brought to the longest of them all.

A global batch is padded alike however it is cut: rows can travel from rank to rank, and a draw for
each place of a row falls on the same places as in a process alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from training.distributed import Ranks
from training.inputs import FeatureInput, ImageInput, Input, TextInput
from training.tokens import Tokens, lengthened


def alike(
    inputs: Mapping[str, Input], ranks: Ranks, patches: Mapping[str, int]
) -> dict[str, Input]:
    """Every rank's inputs in the shape that all of them together have; the same for one rank.

    `patches` are the sides of the patches that embeddings of images cut.
    """
    if ranks.world == 1:
        return dict(inputs)

    padded: dict[str, Input] = {}
    for name, given in sorted(inputs.items()):  # ranks speak of one input at a time
        match given:
            case TextInput():
                padded[name] = _texts(given, ranks)
            case ImageInput():
                padded[name] = _images(given, ranks, patches.get(name, 1))
            case FeatureInput():
                padded[name] = _features(given, ranks)
    return padded


def _texts(text: TextInput, ranks: Ranks) -> TextInput:
    missing = ranks.most(text.ids.shape[1]) - text.ids.shape[1]
    return replace(text, ids=F.pad(text.ids, (0, missing)), valid=F.pad(text.valid, (0, missing)))


def _images(images: ImageInput, ranks: Ranks, patch: int) -> ImageInput:
    n, _, height, width = images.pixels.shape
    tallest, widest = ranks.most(height), ranks.most(width)
    smaller = (height, width) != (tallest, widest) or images.sizes is not None
    if not ranks.most(int(smaller)):
        return images

    sizes = images.sizes
    if sizes is None:
        sizes = torch.tensor([[height // patch, width // patch]]).expand(n, 2)
    pixels = F.pad(images.pixels, (0, widest - width, 0, tallest - height))
    return ImageInput(pixels=pixels, sizes=sizes)


def _features(given: FeatureInput, ranks: Ranks) -> FeatureInput:
    features, valid, boxes = given.features, given.valid, given.boxes
    missing = ranks.most(features.shape[1]) - features.shape[1]
    if ranks.most(int(missing > 0 or valid is not None)):
        if valid is None:
            valid = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        valid = F.pad(valid, (0, missing))
    features = F.pad(features, (0, 0, 0, missing))
    if boxes is not None:
        boxes = F.pad(boxes, (0, 0, 0, missing))
    return FeatureInput(features=features, boxes=boxes, valid=valid)


def rows_from_all(tokens: Tokens, rows: Tensor, ranks: Ranks) -> Tokens:
    """Rows of the global batch by their global numbers, [m] -> [m, t, width].

    Patches may be as many as this rank's largest image has, although all pixels are padded alike.
    """
    if ranks.world == 1:
        return tokens[rows]

    tokens = lengthened(tokens, ranks.most(tokens.x.shape[1]))
    valid = None
    if ranks.most(int(tokens.valid is not None)):
        valid = ranks.take(tokens.mask().to(tokens.x), rows) > 0
    x = ranks.take(tokens.x, rows)
    return Tokens(x=x, spans=tokens.spans, valid=valid)
