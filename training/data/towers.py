"""Frozen towers whose answers are kept: a network of timm or transformers, read from a folder."""

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

from training.data.images import ImageSpec
from training.data.tokenizer import TextSpec
from training.folder import read_json, write_whole
from training.hub import local_folder

FILES = ("*.safetensors", "*.bin", "config.json", "tokenizer.json", "vocab.txt")
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "merges.txt", "vocab.json")


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
        files = _files(self.folder, FILES)
        total = hashlib.blake2b(digest_size=16)
        for path in files:
            total.update(path.name.encode())
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    total.update(piece)
        total.update(f"{self.library} {self.layers}".encode())
        return total.hexdigest()


def _files(folder: str, patterns: Sequence[str]) -> list[Path]:
    files = sorted(path for pattern in patterns for path in Path(folder).glob(pattern))
    if not files:
        raise ValueError(f"{folder} holds no tower: give a folder of timm or transformers")
    return files


def keep_tower(spec: TowerSpec, folder: Path) -> None:
    """A copy of a tower's files, so that a model which asks it can be carried away."""
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
    model = _timm(spec) if spec.library == "timm" else _transformers(spec, "vision")
    model = model.eval().requires_grad_(False).to(device)
    model = model.to(memory_format=torch.channels_last)  # a convolution costs half of it on a CPU
    ask = _hidden(model, spec, "pixel_values")
    if spec.library == "timm":
        ask = cast(Callable[..., Tensor], model.forward_features)
    last = getattr(model, "output_fmt", "NCHW") == "NHWC"  # of timm's Swin: features stand last

    def tower(pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            features = ask(pixels)
        if features.ndim == 3:
            return features
        return features.flatten(1, 2) if last else features.flatten(2).transpose(1, 2)

    return tower


def text_tower(spec: TowerSpec, device: torch.device | str) -> Callable[[Tensor, Tensor], Tensor]:
    """ids [n, t], valid [n, t] -> [n, t, features]; without gradient, in evaluation mode."""
    if spec.library != "transformers":
        raise ValueError("texts are read by a tower of transformers: timm has none")
    model = _transformers(spec, "text").eval().requires_grad_(False).to(device)
    ask = _hidden(model, spec, "input_ids")

    def tower(ids: Tensor, valid: Tensor) -> Tensor:
        with torch.inference_mode():
            return ask(ids, attention_mask=valid.long())

    return tower


def is_timm(folder: str | Path) -> bool:
    """Whether a folder is one of timm: its configuration names an architecture."""
    return "architecture" in _told(Path(folder) / "config.json")


def prepared_as(spec: TowerSpec, size: int = 0) -> ImageSpec:
    """The size (unless it is given), mean and deviation that a tower's own folder names.

    224 px and 0.5 where it is silent. DINOv2 was last trained at 518 px and reads any size: 224.
    """
    config = _told(Path(spec.folder) / "config.json")
    told = {**config.get("vision_config", {}), **config, **config.get("pretrained_cfg", {})}
    told |= _told(Path(spec.folder) / "preprocessor_config.json")
    mean = told.get("image_mean", told.get("mean", [0.5] * 3))
    std = told.get("image_std", told.get("std", [0.5] * 3))
    if not size:
        size = told.get("input_size", [0, 0, 0])[-1] or told.get("image_size", 224)
        size = min(size, 224) if config.get("model_type") == "dinov2" else size
    return ImageSpec(size=size, mean=_three(mean), std=_three(std))


def _told(path: Path) -> dict[str, Any]:
    """A table that a folder's own file holds; empty where there is no such file."""
    return read_json(path) if path.is_file() else {}


def text_prepared_as(spec: TowerSpec, length: int) -> TextSpec:
    """The tokenizer in a tower's own folder."""
    return TextSpec(vocabulary=spec.folder, length=length)


def _three(numbers: list[float]) -> tuple[float, float, float]:
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

    disable_progress_bar()  # a second of it, in the midst of what the run says
    config = AutoConfig.from_pretrained(spec.folder, local_files_only=True)
    one_of_two = getattr(config, f"{side}_config", None)
    kind: Any = AutoModel if one_of_two is None else MODEL_MAPPING[type(one_of_two)]
    model, report = kind.from_pretrained(
        spec.folder, local_files_only=True, output_loading_info=True
    )

    reads = {"pixel_values": "images", "input_ids": "texts"}
    wanted = "pixel_values" if side == "vision" else "input_ids"
    if model.main_input_name != wanted:
        raise ValueError(
            f"{spec.folder} is a {config.model_type}, which does not read {reads[wanted]}: "
            f"give a tower that does"
        )
    lacking = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if lacking:
        raise ValueError(
            f"{spec.folder} lacks {len(lacking)} weights of its tower, {lacking[0]} among them: "
            "fetch it again"
        )
    return cast(nn.Module, model)


def _hidden(model: nn.Module, spec: TowerSpec, argument: str) -> Callable[..., Tensor]:
    def ask(given: Tensor, **more: Any) -> Tensor:
        if not spec.layers:
            whole: Tensor = model(**{argument: given}, **more).last_hidden_state
            return whole
        states = model(**{argument: given}, **more, output_hidden_states=True).hidden_states
        number = spec.layers if spec.layers > 0 else len(states) - 1 + spec.layers
        if not 0 <= number < len(states):
            raise ValueError(f"{spec.folder} has {len(states) - 1} layers, not {spec.layers}")
        state: Tensor = states[number]
        return state

    return ask
