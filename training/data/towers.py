"""Frozen towers whose features are cached: a network of timm or transformers, from a folder."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from training.data.images import Channels, ImageSpec
from training.data.tokenizer import TextSpec
from training.folder import read_json, write_whole
from training.hub import local_folder

FILES = ("*.safetensors", "*.bin", "config.json", "tokenizer.json", "vocab.txt")
BESIDE = (
    "*.index.json",  # which file has which weights
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "vocab.json",
    "*.model",  # of SentencePiece
)
INPUTS = {"vision": ("pixel_values", "images"), "text": ("input_ids", "texts")}

Forward = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class TowerSpec:
    """A network in a folder, and what is taken of it.

    timm: the grid before pooling, or a ViT's tokens. transformers: hidden states after `layers`
    layers (0: all of them; -1: all but the last); of a CLIP the tower that is asked for.
    """

    folder: str
    library: Literal["timm", "transformers"]
    layers: int = 0

    def digest(self) -> str:
        """Of its weights, its vocabulary, and of what is taken of it."""
        digest = hashlib.blake2b(digest_size=16)
        for path in _files(self.folder, FILES):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        digest.update(f"{self.library} {self.layers}".encode())
        return digest.hexdigest()


def _files(folder: str, patterns: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for pattern in patterns:
        files += Path(folder).glob(pattern)
    if not files:
        raise ValueError(f"{folder} holds no tower: give a folder of timm or transformers")
    return sorted(files)


def keep_tower(spec: TowerSpec, folder: Path) -> None:
    """A copy of a tower's files, so that a model that needs it can be carried away."""
    for path in _files(spec.folder, FILES + BESIDE):
        copy = folder / path.name
        if not copy.is_file() or copy.stat().st_size != path.stat().st_size:
            write_whole(copy, partial(shutil.copyfile, path))


def given_folder(source: str, part: Literal["image", "text"]) -> str:
    """The folder of a tower that `--init` gives for a part; ValueError when there is none."""
    try:
        return local_folder(source)
    except ValueError as error:
        raise ValueError(
            f"init {part}={source}: {error}; give the folder of a tower of timm or transformers, "
            "or its name on the hub"
        ) from error


def image_tower(spec: TowerSpec, device: torch.device | str) -> Callable[[Tensor], Tensor]:
    """[n, 3, h, w] scaled pixels -> [n, k, features]; without gradient, in evaluation mode."""
    if spec.library == "timm":
        model = _frozen(_timm(spec), device)
        forward = cast(Forward, model.forward_features)
    else:
        model = _frozen(_transformers(spec, "vision"), device)
        forward = _hidden(model, spec, "pixel_values")
    model.to(memory_format=torch.channels_last)  # a convolution costs half of it on a CPU
    channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"  # of timm's Swin

    def tower(pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            features = forward(pixels)
        if features.ndim == 3:
            return features
        if channels_last:
            return features.flatten(1, 2)
        return features.flatten(2).transpose(1, 2)

    return tower


def text_tower(spec: TowerSpec, device: torch.device | str) -> Callable[[Tensor, Tensor], Tensor]:
    """ids [n, t], valid [n, t] -> [n, t, features]; without gradient, in evaluation mode."""
    if spec.library != "transformers":
        raise ValueError("texts are read by a tower of transformers: timm has none")
    model = _frozen(_transformers(spec, "text"), device)
    forward = _hidden(model, spec, "input_ids")

    def tower(ids: Tensor, valid: Tensor) -> Tensor:
        with torch.inference_mode():
            return forward(ids, attention_mask=valid.long())

    return tower


def _frozen(model: nn.Module, device: torch.device | str) -> nn.Module:
    model.requires_grad_(False)
    return model.eval().to(device)


def is_timm(folder: str | Path) -> bool:
    """Whether a folder is one of timm: its configuration names an architecture."""
    return "architecture" in _config(Path(folder) / "config.json")


def prepared_as(spec: TowerSpec, size: int = 0) -> ImageSpec:
    """The size (unless it is given), mean and deviation that a tower's own folder names.

    224 px and 0.5 where it is silent. DINOv2 was last trained at 518 px and reads any size: 224.
    """
    folder = Path(spec.folder)
    config = _config(folder / "config.json")
    image = {
        **config.get("vision_config", {}),
        **config,
        **config.get("pretrained_cfg", {}),
        **_config(folder / "preprocessor_config.json"),
    }
    mean = image.get("image_mean", image.get("mean", [0.5] * 3))
    std = image.get("image_std", image.get("std", [0.5] * 3))
    if not size:
        sides = image.get("input_size", [0])
        size = sides[-1] or image.get("image_size", 224)
        if config.get("model_type") == "dinov2":
            size = min(size, 224)
    return ImageSpec(size=size, mean=_channels(mean), std=_channels(std))


def _config(path: Path) -> dict[str, Any]:
    """A table of a folder's own file; empty where there is no such file."""
    if not path.is_file():
        return {}
    return read_json(path)


def text_prepared_as(spec: TowerSpec, length: int) -> TextSpec:
    """The tokenizer in a tower's own folder."""
    return TextSpec(vocabulary=spec.folder, length=length)


def _channels(numbers: list[float]) -> Channels:
    red, green, blue = numbers
    return red, green, blue


def _timm(spec: TowerSpec) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(f"local-dir:{spec.folder}", pretrained=True)
    return model


def _transformers(spec: TowerSpec, side: Literal["vision", "text"]) -> nn.Module:
    """The whole network, or of one with two towers (CLIP, SigLIP) the one that is asked for.

    ValueError when it reads something else, or when the folder lacks some of its weights.
    """
    from transformers import MODEL_MAPPING, AutoConfig, AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a second of it, in the midst of what the run prints
    config = AutoConfig.from_pretrained(spec.folder, local_files_only=True)
    one_of_two = getattr(config, f"{side}_config", None)
    kind: Any = AutoModel
    if one_of_two is not None:
        kind = MODEL_MAPPING[type(one_of_two)]
    model, report = kind.from_pretrained(
        spec.folder, local_files_only=True, output_loading_info=True
    )

    argument, inputs = INPUTS[side]
    if model.main_input_name != argument:
        raise ValueError(
            f"{spec.folder} is a {config.model_type}, which does not read {inputs}: "
            f"give a tower that does"
        )
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise ValueError(
            f"{spec.folder} lacks {len(missing)} weights of its tower, {missing[0]} among them: "
            "fetch it again"
        )
    return cast(nn.Module, model)


def _hidden(model: nn.Module, spec: TowerSpec, argument: str) -> Forward:
    """The forward pass to the hidden states that the specification takes."""

    def forward(inputs: Tensor, **more: Any) -> Tensor:
        more[argument] = inputs
        if not spec.layers:
            last: Tensor = model(**more).last_hidden_state
            return last

        states = model(**more, output_hidden_states=True).hidden_states
        layers = len(states) - 1
        layer = spec.layers if spec.layers > 0 else layers + spec.layers
        if not 0 <= layer <= layers:
            raise ValueError(f"{spec.folder} has {layers} layers, not {spec.layers}")
        state: Tensor = states[layer]
        return state

    return forward
