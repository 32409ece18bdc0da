"""A batch: what the modules of a model are given, and what is known of its samples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from training.data.draws import number_of
from training.data.images import ImageSpec
from training.data.order import StreamState
from training.inputs import FeatureInput, ImageInput, Input, TextInput
from training.negatives import Keys

WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of one rank, and the state of the stream after the whole global batch.

    Pixels are bytes until `to`: they travel to a device as such, and are scaled there.
    """

    inputs: Mapping[str, Input]
    keys: Keys
    ids: Sequence[str]  # release/image_id of each row
    texts: Sequence[str]
    state: StreamState
    images: Mapping[str, ImageSpec]
    answers: Sequence[Sequence[str]]  # of each row, where it is a question
    bad: Mapping[str, str]  # replaced samples: release/image_id -> reason
    waited: float = 0.0  # seconds until it was there

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Batch:
        """On a device, pixels scaled with the mean and the deviation of their module."""
        inputs: dict[str, Input] = {}
        for name, given in self.inputs.items():
            match given:
                case ImageInput():
                    pixels = given.pixels.to(device, non_blocking=True)
                    if pixels.dtype == torch.uint8:
                        pixels = scaled(pixels, self.images[name], dtype)
                    inputs[name] = ImageInput(pixels=pixels, sizes=_moved(given.sizes, device))
                case FeatureInput():
                    features = given.features.to(device, non_blocking=True)
                    inputs[name] = FeatureInput(
                        features=features.to(dtype),
                        boxes=_moved(given.boxes, device),
                        valid=_moved(given.valid, device),
                    )
                case TextInput():
                    inputs[name] = given  # views and masking decide where ids are needed
        return replace(self, inputs=inputs)


def _moved(x: Tensor | None, device: torch.device | str) -> Tensor | None:
    if x is None:
        return None
    return x.to(device, non_blocking=True)


def scaled(pixels: Tensor, spec: ImageSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """[n, 3, h, w] bytes, channels last in memory -> (x / 255 - mean) / std, laid out alike.

    Computed along rows of w x 3 numbers: a loop over three channels would be ten times slower.
    """
    n, _, height, width = pixels.shape
    mean = torch.tensor(spec.mean, device=pixels.device, dtype=dtype)
    std = torch.tensor(spec.std, device=pixels.device, dtype=dtype)
    factor = 1 / (255 * std)
    shift = mean / std
    channels_last = pixels.permute(0, 2, 3, 1)
    rows = channels_last.reshape(n, height, width * 3).to(dtype)
    rows.mul_(factor.repeat(width))
    rows.sub_(shift.repeat(width))
    return rows.view(n, height, width, 3).permute(0, 3, 1, 2)


def padded(images: Sequence[Tensor], patch: int) -> ImageInput:
    """Images [h, w, 3] of bytes, of one size or several, as one input.

    Copied by numpy: torch would wake its threads, which then spin beside those who decode.
    """
    sizes = torch.tensor([image.shape[:2] for image in images])
    height, width = sizes.amax(0).tolist()
    one_size = bool((sizes == sizes[0]).all())
    make = np.empty if one_size else np.zeros
    pixels = make((len(images), height, width, 3), dtype=np.uint8)
    for row, image in zip(pixels, images, strict=True):
        image_height, image_width, _ = image.shape
        row[:image_height, :image_width] = image.numpy()

    channels_first = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return ImageInput(pixels=channels_first, sizes=None if one_size else sizes // patch)


def keys_of(image_ids: Sequence[str], texts: Sequence[str], releases: Sequence[str]) -> Keys:
    """Hashes that tell equal images, equal texts (but for case, signs and blanks) and sources."""
    return Keys(
        image=_hashes("image", image_ids),
        text=_hashes("text", list(map(normalized, texts))),
        source=_hashes("release", releases),
    )


def normalized(text: str) -> str:
    """Its words in small letters: the same for texts that differ in case, signs or blanks."""
    words = WORD.findall(text.casefold())
    return " ".join(words)


def _hashes(kind: str, values: Sequence[str]) -> Tensor:
    hashes = {value: number_of(kind, value) for value in set(values)}
    return torch.tensor([hashes[value] for value in values], dtype=torch.int64)
