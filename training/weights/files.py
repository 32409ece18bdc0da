"""Checkpoints as files, in a folder or by name from the hub: tensors under canonical names."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig

from training.hub import find_file
from training.weights import open_clip, pairs, timm_vit, towers
from training.weights.towers import Family

# A file may be of any age: transformers 5 renamed what ViT and DINOv2 are called in memory, and
# writes the old names; BERT's oldest files say gamma and beta. The table knows one name each.
VIT_SPELLINGS = (
    (r"^(vit|deit|dinov2)\.", ""),
    (r"^layers\.", "encoder.layer."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
)
PLAIN_SPELLINGS = ((r"\.mlp\.fc1\.", ".intermediate.dense."), (r"\.mlp\.fc2\.", ".output.dense."))
BERT_SPELLINGS = (
    (r"^(bert|roberta)\.", ""),
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
    (r"^cls\.predictions\.decoder\.bias$", "cls.predictions.bias"),
    (r"^lm_head\.decoder\.bias$", "lm_head.bias"),
)
VILT_SPELLINGS = (
    (r"^(embeddings|encoder|layernorm|pooler)\.", r"vilt.\1."),
    (r"^mlm_score\.bias$", "mlm_score.decoder.bias"),
)
BLIP_SPELLINGS = (
    (r"^text_decoder\.cls\.predictions\.decoder\.bias$", "text_decoder.cls.predictions.bias"),
)
TIED = {"mlm_score.decoder.weight": "vilt.embeddings.text_embeddings.word_embeddings.weight"}
StateDict = dict[str, Tensor]

IMAGE = ("image",)
TEXT = ("text",)
BOTH = IMAGE + TEXT
SUITABLE = {
    "image": "a ViT, DeiT, DINOv2, CLIP or BLIP: its folder, or its name on the hub",
    "text": "a BERT, RoBERTa, CLIP or BLIP: its folder, or its name on the hub",
}
NO_WEIGHTS = re.compile(r"(^|\.)(position_ids|attn_mask|num_batches_tracked)$")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How files of one `model_type` are read, and what their stacks can be the beginning of."""

    family: Callable[[Any, Set[str]], Family]
    towers: tuple[str, ...] = BOTH
    spellings: tuple[tuple[str, str], ...] = ()


KINDS: dict[str, Kind] = {
    "bert": Kind(family=towers.bert, towers=TEXT, spellings=BERT_SPELLINGS),
    "roberta": Kind(family=towers.roberta, towers=TEXT, spellings=BERT_SPELLINGS),
    "xlm-roberta": Kind(family=towers.roberta, towers=TEXT, spellings=BERT_SPELLINGS),
    "vit": Kind(family=towers.vit, towers=IMAGE, spellings=VIT_SPELLINGS + PLAIN_SPELLINGS),
    "deit": Kind(family=towers.deit, towers=IMAGE, spellings=VIT_SPELLINGS + PLAIN_SPELLINGS),
    "dinov2": Kind(family=towers.dinov2, towers=IMAGE, spellings=VIT_SPELLINGS),
    "clip": Kind(family=pairs.clip),
    "vilt": Kind(family=pairs.vilt, spellings=VILT_SPELLINGS),
    "blip": Kind(family=pairs.blip, spellings=BLIP_SPELLINGS),
    "open_clip": Kind(family=open_clip.open_clip),
    "timm": Kind(family=timm_vit.vit, towers=IMAGE),
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A file that was read: its tensors under the names of the family's table."""

    source: str
    kind: str
    family: Family
    state: Mapping[str, Tensor]


def read(source: str | Path) -> Checkpoint:
    """A folder, or a name of the hub, as transformers, timm or open_clip write them.

    ValueError when there is no such thing or its family is not known.
    """
    kind, config = _described(source)
    if kind == "open_clip":
        state = _state(source, "open_clip_model", "open_clip_pytorch_model")
        return understand(_table(config)["model_cfg"], kind, state, str(source))
    state = _state(source, "model", "pytorch_model")
    if kind == "timm":
        return understand(_table(config), kind, state, str(source))
    settings = AutoConfig.from_pretrained(config.parent)
    return understand(settings, kind, state, str(source))


def check_sources(init: Mapping[str, str]) -> None:
    """ValueError where a part is to begin with what is not there, or with another kind of tower.

    Configurations are read, weights are not: a typo is told before anything long begins.
    """
    for part, source in init.items():
        try:
            kind, _ = _described(source)
        except ValueError as error:
            raise ValueError(f"init {part}={source}: {error}; {_wanted(part)}") from error
        if part in SUITABLE and part not in KINDS[kind].towers:
            has = " and ".join(KINDS[kind].towers)
            raise ValueError(
                f"init {part}={source}: it is a {kind}, a tower for {has}; {_wanted(part)}"
            )


def _wanted(part: str) -> str:
    return f"give {SUITABLE.get(part, 'the folder of a model or its name on the hub')}"


def _described(source: str | Path) -> tuple[str, Path]:
    """The family of a checkpoint, and the file that names it. ValueError as `read`."""
    if (config := find_file(source, "open_clip_config.json")) is not None:
        return "open_clip", config
    config = find_file(source, "config.json")
    if config is None:
        raise ValueError(
            f"{source} is no folder with a config.json, nor a name of the hub with one"
        )
    settings = _table(config)
    if "model_type" in settings:
        _known(settings["model_type"], str(source))
        return str(settings["model_type"]), config
    if "architecture" in settings:
        return "timm", config
    raise ValueError(f"{config} says neither model_type (transformers) nor architecture (timm)")


def _table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): fetch the model again") from error
    if not isinstance(table, dict):
        raise ValueError(f"{path} is damaged: it holds no table; fetch the model again")
    return table


def understand(
    config: Any, kind: str, state: Mapping[str, Tensor], source: str = "memory"
) -> Checkpoint:
    """Tensors and the configuration that belongs to them, under canonical names."""
    _known(kind, source)
    named = {}
    for name, tensor in state.items():
        if not NO_WEIGHTS.search(name):
            canonical = spell(name, KINDS[kind].spellings)
            named[canonical] = tensor
    for name, table in TIED.items():
        if name in named and _same_memory(named[name], named.get(table)):
            del named[name]  # in memory a tied matrix has two names, in a file one
    family = KINDS[kind].family(config, named.keys())
    return Checkpoint(source=source, kind=kind, family=family, state=named)


def _same_memory(tensor: Tensor, other: Tensor | None) -> bool:
    """Whether both are the same memory (their names in a state are different objects)."""
    return other is not None and other.data_ptr() == tensor.data_ptr()


def spell(name: str, spellings: tuple[tuple[str, str], ...]) -> str:
    """The name that the table knows."""
    for pattern, replacement in spellings:
        name = re.sub(pattern, replacement, name)
    return name


def _known(kind: str, source: str) -> None:
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise ValueError(f"{source} is a {kind}: no table for it; there are tables for: {known}")


def _state(source: str | Path, *stems: str) -> StateDict:
    """All tensors, from one file or several, safetensors before pickles."""
    for stem in stems:
        if (path := find_file(source, f"{stem}.safetensors")) is not None:
            return _load(path)
        if (path := find_file(source, f"{stem}.safetensors.index.json")) is not None:
            return _pieces(source, path, _load)
    for stem in stems:
        if (path := find_file(source, f"{stem}.bin")) is not None:
            return _unpickle(path)
        if (path := find_file(source, f"{stem}.bin.index.json")) is not None:
            return _pieces(source, path, _unpickle)
    raise ValueError(f"{source} has no weights: none of {', '.join(stems)} as .safetensors or .bin")


def _pieces(source: str | Path, index: Path, load: Callable[[Path], StateDict]) -> StateDict:
    weight_map = json.loads(index.read_text())["weight_map"]
    names = sorted(set(weight_map.values()))
    state: StateDict = {}
    for name in names:
        path = find_file(source, name)
        if path is None:
            raise ValueError(f"{source}: {index.name} names {name}, which is not there")
        state |= load(path)
    return state


def _load(path: Path) -> StateDict:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): fetch the model again") from error


def _unpickle(path: Path) -> StateDict:
    try:
        state: StateDict = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is damaged, or holds more than weights: {error}") from error
    return state
