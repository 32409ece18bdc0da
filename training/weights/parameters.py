"""Tensors of a checkpoint copied into parameters, resized where that makes sense."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.embed import Patches, Words
from training.model import Model
from training.weights.files import Checkpoint
from training.weights.rules import Rule

Parameters = Mapping[str, nn.Parameter]


class ParameterLoader:
    """Copies tensors into parameters, and remembers what it did."""

    def __init__(self, model: Model, parameters: Parameters, new_words: int) -> None:
        self.model = model
        self.parameters = parameters
        self.new_words = new_words
        self.loaded: dict[str, Tensor] = {}
        self.resized: list[str] = []

    def load(self, rule: Rule, paths: tuple[str, ...], checkpoint: Checkpoint) -> None:
        """One rule's tensors; ValueError when the file gives two for one of ours."""
        tensors = rule.load([checkpoint.state[name] for name in rule.theirs])
        for path, tensor in zip(paths, tensors, strict=True):
            if not path:
                continue
            if path not in self.loaded:
                self._copy(path, tensor, checkpoint)
                self.loaded[path] = tensor
            elif not torch.equal(self.loaded[path], tensor):
                raise ValueError(
                    f"{checkpoint.source} has two different tensors for {path}, one of them "
                    f"{' + '.join(rule.theirs)}: leave one by its prefix (`without`)"
                )

    @torch.no_grad()
    def _copy(self, path: str, tensor: Tensor, checkpoint: Checkpoint) -> None:
        parameter = self.parameters[path]
        if tensor.shape != parameter.shape:
            tensor = self._resized(path, tensor, parameter)
        if tensor.shape[1:] != parameter.shape[1:] or tensor.dim() != parameter.dim():
            raise ValueError(
                f"{path} is {list(parameter.shape)} here and {list(tensor.shape)} in "
                f"{checkpoint.source}: give both the same shape"
            )
        if not parameter.dim():
            parameter.copy_(tensor)
        else:
            parameter[: len(tensor)].copy_(tensor)

    def _resized(self, path: str, tensor: Tensor, parameter: Tensor) -> Tensor:
        """Tensors of another shape that can still be used, and no others."""
        module, _, name = path.rpartition(".")
        owner = self.model.get_submodule(module)
        same_width = tensor.shape[-1] == parameter.shape[-1]
        if isinstance(owner, Patches) and name == "place" and same_width:
            self.resized.append(
                f"{path} resampled from {tensor.shape[0]} x {tensor.shape[1]} "
                f"to {parameter.shape[0]} x {parameter.shape[1]}"
            )
            return _resampled(tensor, len(parameter))

        shorter = len(parameter) < len(tensor)
        if isinstance(owner, Words) and name in ("place", "token_type") and same_width and shorter:
            self.resized.append(f"{path} cut from {len(tensor)} rows to {len(parameter)}")
            return tensor[: len(parameter)]

        if path.endswith(("word.weight", "decode.weight", "decode.bias")):
            return self._words(path, tensor, parameter)
        raise ValueError(
            f"{path} is {list(parameter.shape)} here and {list(tensor.shape)} in the file: "
            "give both the same shape, or leave this part out"
        )

    def _words(self, path: str, tensor: Tensor, parameter: Tensor) -> Tensor:
        more = len(parameter) - len(tensor)
        if more != self.new_words or tensor.shape[1:] != parameter.shape[1:]:
            raise ValueError(
                f"{path} has {len(parameter)} words here and {len(tensor)} in the file: use the "
                "file's tokenizer; where ours is theirs with tokens behind it, say how many "
                "(`new_words`); or leave the words out (`parts`)"
            )
        self.resized.append(f"{path}: the last {self.new_words} rows are new, left as they were")
        return tensor


def _resampled(positions: Tensor, side: int) -> Tensor:
    """[rows, columns, width] -> [side, side, width], as ViT is fine-tuned at another size."""
    channels_first = positions.permute(2, 0, 1)[None].float()
    resampled = F.interpolate(
        channels_first, size=(side, side), mode="bicubic", align_corners=False
    )
    return resampled[0].permute(1, 2, 0).to(positions.dtype)
