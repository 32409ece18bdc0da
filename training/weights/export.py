"""Models of ours as folders of transformers and open_clip: CLIP, ViLT, BLIP."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from training.embed import PatchesSpec, WordsSpec
from training.heads import ClassifySpec, ProjectSpec, VocabularySpec
from training.model import Model, ModelSpec
from training.stack import StackSpec
from training.weights.files import KINDS, understand
from training.weights.towers import ACTIVATIONS, Family

Format = Literal["clip", "open_clip", "vilt", "blip"]
# What changes nothing that a trained model says, and their modules do not know
OF_TRAINING = {
    "dropout",
    "attention_dropout",
    "token_dropout",
    "sample",
    "start",
    "lowest",
    "highest",
}


def export(
    model: Model,
    folder: Path,
    kind: Format,
    parts: Mapping[str, str] | None = None,
    *,
    tokens: Mapping[str, int] | None = None,
) -> tuple[str, ...]:
    """The model as a folder that others read; the names that they will look for in vain.

    `parts` maps standard names (words, patches, text, image, fusion, heads: see the families) to
    names of this model; without it, each bears its standard name. `tokens` are numbers of special
    tokens for the configuration (bos_token_id, sep_token_id ...). BLIP's folder serves
    BlipForConditionalGeneration and BlipForImageTextRetrieval alike, ViLT's ViltForMaskedLM and
    ViltForImageAndTextRetrieval. ValueError when their modules cannot express the model.
    """
    spec, state = _standard(model, parts or {})
    if kind == "blip":
        spec, state = _without_types(spec, state)
    config, wanted = _config(spec, kind, tokens or {})
    family = KINDS[kind].family(config, wanted)
    _expressible(spec, family.spec, kind)

    named = _saved(family, state)
    if kind == "vilt":
        named |= _ranking(spec, state)
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.detach().clone().contiguous() for name, tensor in named.items()}
    stem = "open_clip_model" if kind == "open_clip" else "model"
    save_file(whole, folder / f"{stem}.safetensors", metadata={"format": "pt"})

    if kind == "open_clip":
        settings = {"model_cfg": config, "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(settings, indent=2))
    else:
        config.save_pretrained(folder)
    tied = {name for name in wanted if name.endswith(("decoder.weight", "decoder.bias"))}
    return tuple(sorted(wanted - named.keys() - tied))


def _standard(model: Model, parts: Mapping[str, str]) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Specification and tensors under standard names; parts that are not named keep theirs."""
    back = {ours: standard for standard, ours in parts.items()}
    spec = model.spec
    known = {*spec.embeds, *spec.stacks, *spec.heads}
    if unknown := back.keys() - known:
        raise ValueError(f"the model has no part {', '.join(sorted(unknown))}: {sorted(known)}")

    heads = {back.get(name, name): head for name, head in spec.heads.items()}
    for name, head in heads.items():
        if isinstance(head, VocabularySpec):
            heads[name] = replace(head, tied=back.get(head.tied, head.tied))
    renamed = ModelSpec(
        embeds={back.get(name, name): embed for name, embed in spec.embeds.items()},
        stacks={back.get(name, name): stack for name, stack in spec.stacks.items()},
        passes={},
        heads=heads,
    )

    state: dict[str, Tensor] = {}
    for path, tensor in model.state_dict().items():
        kind, name, rest = path.split(".", 2)
        state[f"{kind}.{back.get(name, name)}.{rest}"] = tensor
    return renamed, state


def _without_types(
    spec: ModelSpec, state: dict[str, Tensor]
) -> tuple[ModelSpec, dict[str, Tensor]]:
    """BLIP has no table of types: the row that is added everywhere goes into the places."""
    words = spec.embeds.get("words")
    if not isinstance(words, WordsSpec) or not words.types:
        return spec, state
    state = dict(state)
    row = state.pop("embeds.words.token_type")[0]
    state["embeds.words.place"] = state["embeds.words.place"] + row
    return replace(spec, embeds={**spec.embeds, "words": replace(words, types=0)}), state


def _saved(family: Family, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for rule in family.table:
        if all(path in state for path in rule.ours):
            made = rule.save([state[path] for path in rule.ours])
            named |= dict(zip(rule.theirs, made, strict=True))
    return named


def _ranking(spec: ModelSpec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ViLT's two classes as one score, by what true has over false; a sigmoid of it is the same."""
    itm = spec.heads.get("match")
    if not isinstance(itm, ClassifySpec):
        return {}
    named = {}
    for kind in ("weight", "bias"):
        false, true = state[f"heads.match.linear.{kind}"]
        named[f"rank_output.{kind}"] = (true - false)[None]
    return named


def _expressible(ours: ModelSpec, theirs: ModelSpec, kind: str) -> None:
    """ValueError for the first thing in which their modules differ from ours."""
    for group in ("embeds", "stacks", "heads"):
        mine, other = getattr(ours, group), getattr(theirs, group)
        if odd := [name for name in mine if name not in other]:
            raise ValueError(f"{kind} has no {', '.join(odd)}, but {', '.join(other)} (`parts`)")
        for name, part in mine.items():
            _same(name, part, other[name], kind)


def _same(name: str, ours: Any, theirs: Any, kind: str) -> None:
    if type(ours) is not type(theirs):
        raise ValueError(f"{name} of {kind} is {type(theirs).__name__}, not {type(ours).__name__}")
    for field in fields(ours):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name == "hidden":
            mine, other = mine or 4 * ours.width, other or 4 * theirs.width
        if field.name not in OF_TRAINING and mine != other:
            raise ValueError(f"{name} has {field.name} {mine}, and {kind} can only have {other}")


def _config(spec: ModelSpec, kind: Format, tokens: Mapping[str, int]) -> tuple[Any, Set[str]]:
    """Their configuration, and the names that their classes for it look for."""
    words, patches = spec.embeds.get("words"), spec.embeds.get("patches")
    if not isinstance(words, WordsSpec) or not isinstance(patches, PatchesSpec):
        raise ValueError(f"{kind} has words and patches, this model {', '.join(spec.embeds)}")

    if kind == "vilt":
        return _vilt(spec, words, patches)
    if not {"text", "image"} <= spec.stacks.keys():
        raise ValueError(f"{kind} has stacks text and image, this model {', '.join(spec.stacks)}")
    text = _text(spec.stacks["text"], words) | dict(tokens)
    image = _image(spec.stacks["image"], patches)
    if kind == "blip":
        return _blip(spec, text, image)
    return _clip(spec, text, image) if kind == "clip" else _open_clip(spec, text, image)


def _stack(stack: StackSpec) -> dict[str, Any]:
    names = {ours: theirs for theirs, ours in ACTIVATIONS.items() if theirs != "gelu_new"}
    if stack.activation not in names:
        raise ValueError(f"transformers has no activation {stack.activation}")
    return {
        "hidden_size": stack.width,
        "num_hidden_layers": stack.layers,
        "num_attention_heads": stack.heads,
        "intermediate_size": stack.hidden or 4 * stack.width,
        "hidden_act": names[stack.activation],
        "layer_norm_eps": stack.eps,
    }


def _text(stack: StackSpec, words: WordsSpec) -> dict[str, Any]:
    table = {"vocab_size": words.vocab, "max_position_embeddings": words.length}
    return _stack(stack) | table


def _image(stack: StackSpec, patches: PatchesSpec) -> dict[str, Any]:
    side = {"image_size": patches.grid * patches.patch, "patch_size": patches.patch}
    return _stack(stack) | side


def _names(config: Any, *classes: str) -> set[str]:
    """What the classes call their weights, as a table does."""
    config.architectures = [classes[0]]
    names: set[str] = set()
    with torch.device("meta"):
        for one in classes:
            state = getattr(transformers, one)(config).state_dict()
            names |= understand(config, config.model_type, state).state.keys()
    return names


def _clip(spec: ModelSpec, text: dict[str, Any], image: dict[str, Any]) -> tuple[Any, Set[str]]:
    config = transformers.CLIPConfig(
        text_config=text, vision_config=image, projection_dim=_dim(spec)
    )
    return config, _names(config, "CLIPModel")


def _dim(spec: ModelSpec) -> int:
    head = spec.heads.get("text_project")
    return head.dim if isinstance(head, ProjectSpec) else 1


def _open_clip(
    spec: ModelSpec, text: dict[str, Any], image: dict[str, Any]
) -> tuple[Any, Set[str]]:
    from open_clip.model import CLIP

    stacks = spec.stacks
    config = {
        "embed_dim": _dim(spec),
        "quick_gelu": stacks["text"].activation == "quick_gelu",
        "vision_cfg": {
            "image_size": image["image_size"],
            "patch_size": image["patch_size"],
            "head_width": stacks["image"].width // stacks["image"].heads,
            **_open_clip_tower(stacks["image"]),
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "heads": stacks["text"].heads,
            **_open_clip_tower(stacks["text"]),
        },
    }
    with torch.device("meta"):
        names = CLIP(**config).state_dict().keys()
    return config, set(names)


def _open_clip_tower(stack: StackSpec) -> dict[str, Any]:
    ratio = (stack.hidden or 4 * stack.width) / stack.width
    return {"width": stack.width, "layers": stack.layers, "mlp_ratio": ratio}


def _vilt(spec: ModelSpec, words: WordsSpec, patches: PatchesSpec) -> tuple[Any, Set[str]]:
    if "fusion" not in spec.stacks:
        raise ValueError(f"vilt has one stack, fusion; this model has {', '.join(spec.stacks)}")
    mlm = spec.heads.get("vocabulary")
    config = transformers.ViltConfig(
        **_image(spec.stacks["fusion"], patches),
        vocab_size=words.vocab,
        max_position_embeddings=words.length,
        type_vocab_size=max(1, words.types),
    )
    classes = ["ViltForMaskedLM"] if mlm is not None else []
    classes += ["ViltForImageAndTextRetrieval"] if {"match", "rank"} & spec.heads.keys() else []
    names = _names(config, *(classes or ["ViltModel"]))
    if isinstance(mlm, VocabularySpec) and not mlm.tied:
        names.add("mlm_score.decoder.weight")
    if "match" in spec.heads:
        names |= {"itm_score.fc.weight", "itm_score.fc.bias"}
    return config, names


def _blip(spec: ModelSpec, text: dict[str, Any], image: dict[str, Any]) -> tuple[Any, Set[str]]:
    lm, stack = spec.heads.get("vocabulary"), spec.stacks["text"]
    tied = not isinstance(lm, VocabularySpec) or bool(lm.tied)
    width = spec.stacks["image"].width
    text |= {"encoder_hidden_size": width, "tie_word_embeddings": tied}
    config = transformers.BlipConfig(
        text_config=text,
        vision_config=image,
        image_text_hidden_size=_dim(spec),
        tie_word_embeddings=tied,
    )
    classes = ["BlipForConditionalGeneration"] if "causal" in stack.attentions else []
    classes += ["BlipForImageTextRetrieval"] if "both" in stack.attentions else []
    if not classes:
        raise ValueError(f"blip has both-sided (both) and causal attention, not {stack.attentions}")
    names = _names(config, *classes)
    if "scale" in spec.heads:
        names.add("logit_scale")  # of the contrast, which only BlipModel keeps
    return config, names
