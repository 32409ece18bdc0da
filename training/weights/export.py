"""Models of ours as folders of transformers and open_clip: CLIP, ViLT, BLIP."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from training.embed import PatchesSpec, WordsSpec
from training.heads import ClassifySpec, ProjectSpec, ScaleSpec, VocabularySpec
from training.model import Model, ModelSpec
from training.stack import StackSpec
from training.weights.files import KINDS, understand
from training.weights.towers import ACTIVATIONS, Family

Format = Literal["clip", "open_clip", "vilt", "blip"]
StateDict = dict[str, Tensor]
Settings = dict[str, Any]

# What changes no output of a trained model, and their modules do not know
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
    names of this model; without it, each bears its standard name. `tokens` are ids of special
    tokens for the configuration (bos_token_id, sep_token_id ...). BLIP's folder serves
    BlipForConditionalGeneration and BlipForImageTextRetrieval alike, ViLT's ViltForMaskedLM and
    ViltForImageAndTextRetrieval. ValueError when their modules cannot express the model.
    """
    spec, state = _standard(model, parts or {})
    if kind == "blip":
        spec, state = _without_types(spec, state)
    config, expected = _config(spec, kind, tokens or {})
    family = KINDS[kind].family(config, expected)
    _check_expressible(spec, family.spec, kind)

    tensors = _converted(family, state)
    if kind == "vilt":
        tensors |= _ranking(spec, state)
    for name, tensor in tensors.items():
        tensors[name] = tensor.detach().clone().contiguous()

    folder.mkdir(parents=True, exist_ok=True)
    stem = "open_clip_model" if kind == "open_clip" else "model"
    save_file(tensors, folder / f"{stem}.safetensors", metadata={"format": "pt"})
    if kind == "open_clip":
        settings = {"model_cfg": config, "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(settings, indent=2))
    else:
        config.save_pretrained(folder)

    missing = []
    for name in sorted(expected - tensors.keys()):
        tied = name.endswith(("decoder.weight", "decoder.bias"))
        if not tied:
            missing.append(name)
    return tuple(missing)


def _standard(model: Model, parts: Mapping[str, str]) -> tuple[ModelSpec, StateDict]:
    """Specification and tensors under standard names; parts that are not named keep theirs."""
    spec = model.spec
    standard = {name: name for name in (*spec.embeds, *spec.stacks, *spec.heads)}
    for standard_name, name in parts.items():
        if name not in standard:
            raise ValueError(f"the model has no part {name}: {sorted(standard)}")
        standard[name] = standard_name

    heads = {}
    for name, head in spec.heads.items():
        if isinstance(head, VocabularySpec) and head.tied:
            head = replace(head, tied=standard[head.tied])
        heads[standard[name]] = head
    renamed = ModelSpec(
        embeds={standard[name]: embed for name, embed in spec.embeds.items()},
        stacks={standard[name]: stack for name, stack in spec.stacks.items()},
        passes={},
        heads=heads,
    )

    state: StateDict = {}
    for path, tensor in model.state_dict().items():
        kind, name, rest = path.split(".", 2)
        state[f"{kind}.{standard.get(name, name)}.{rest}"] = tensor
    for name, head in heads.items():
        if isinstance(head, ScaleSpec):  # theirs knows no bounds
            log = f"heads.{name}.log"
            state[log] = state[log].clamp(math.log(head.lowest), math.log(head.highest))
    return renamed, state


def _without_types(spec: ModelSpec, state: StateDict) -> tuple[ModelSpec, StateDict]:
    """BLIP has no token types: the row that is added everywhere goes into the positions."""
    words = spec.embeds.get("words")
    if not isinstance(words, WordsSpec) or not words.types:
        return spec, state
    state = dict(state)
    types = state.pop("embeds.words.token_type")
    state["embeds.words.place"] = state["embeds.words.place"] + types[0]
    embeds = {**spec.embeds, "words": replace(words, types=0)}
    return replace(spec, embeds=embeds), state


def _converted(family: Family, state: StateDict) -> StateDict:
    """Tensors under the family's names, as far as the model has them."""
    converted: StateDict = {}
    for rule in family.table:
        if all(path in state for path in rule.ours):
            tensors = rule.save([state[path] for path in rule.ours])
            converted.update(zip(rule.theirs, tensors, strict=True))
    return converted


def _ranking(spec: ModelSpec, state: StateDict) -> StateDict:
    """ViLT's two classes as one score, by what true has over false; a sigmoid of it is the same."""
    if not isinstance(spec.heads.get("match"), ClassifySpec):
        return {}
    ranking = {}
    for kind in ("weight", "bias"):
        false, true = state[f"heads.match.linear.{kind}"]
        ranking[f"rank_output.{kind}"] = (true - false)[None]
    return ranking


def _check_expressible(ours: ModelSpec, theirs: ModelSpec, kind: str) -> None:
    """ValueError for the first thing in which their modules differ from ours."""
    for group in ("embeds", "stacks", "heads"):
        our_parts = getattr(ours, group)
        their_parts = getattr(theirs, group)
        unknown = [name for name in our_parts if name not in their_parts]
        if unknown:
            known = ", ".join(their_parts)
            raise ValueError(f"{kind} has no {', '.join(unknown)}, but {known} (`parts`)")
        for name, part in our_parts.items():
            _check_same(name, part, their_parts[name], kind)


def _check_same(name: str, ours: Any, theirs: Any, kind: str) -> None:
    if type(ours) is not type(theirs):
        raise ValueError(f"{name} of {kind} is {type(theirs).__name__}, not {type(ours).__name__}")
    for field in fields(ours):
        if field.name in OF_TRAINING:
            continue
        our_value = getattr(ours, field.name)
        their_value = getattr(theirs, field.name)
        if field.name == "hidden":
            our_value = our_value or 4 * ours.width
            their_value = their_value or 4 * theirs.width
        if our_value != their_value:
            raise ValueError(
                f"{name} has {field.name} {our_value}, and {kind} can only have {their_value}"
            )


def _config(spec: ModelSpec, kind: Format, tokens: Mapping[str, int]) -> tuple[Any, set[str]]:
    """Their configuration, and the names that their classes for it look for."""
    words = spec.embeds.get("words")
    patches = spec.embeds.get("patches")
    if not isinstance(words, WordsSpec) or not isinstance(patches, PatchesSpec):
        raise ValueError(f"{kind} has words and patches, this model {', '.join(spec.embeds)}")

    if kind == "vilt":
        return _vilt(spec, words, patches)
    if not {"text", "image"} <= spec.stacks.keys():
        raise ValueError(f"{kind} has stacks text and image, this model {', '.join(spec.stacks)}")

    text = {**_text(spec.stacks["text"], words), **tokens}
    image = _image(spec.stacks["image"], patches)
    if kind == "blip":
        return _blip(spec, text, image)
    if kind == "clip":
        return _clip(spec, text, image)
    return _open_clip(spec, text, image)


def _stack(stack: StackSpec) -> Settings:
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


def _text(stack: StackSpec, words: WordsSpec) -> Settings:
    return {
        **_stack(stack),
        "vocab_size": words.vocab,
        "max_position_embeddings": words.length,
    }


def _image(stack: StackSpec, patches: PatchesSpec) -> Settings:
    return {
        **_stack(stack),
        "image_size": patches.grid * patches.patch,
        "patch_size": patches.patch,
    }


def _names(config: Any, *classes: str) -> set[str]:
    """What the classes call their weights, as a table does."""
    config.architectures = [classes[0]]
    names: set[str] = set()
    with torch.device("meta"):
        for name in classes:
            state = getattr(transformers, name)(config).state_dict()
            checkpoint = understand(config, config.model_type, state)
            names |= checkpoint.state.keys()
    return names


def _clip(spec: ModelSpec, text: Settings, image: Settings) -> tuple[Any, set[str]]:
    config = transformers.CLIPConfig(
        text_config=text, vision_config=image, projection_dim=_dim(spec)
    )
    return config, _names(config, "CLIPModel")


def _dim(spec: ModelSpec) -> int:
    """Of the vectors that are compared; 1 where none are."""
    head = spec.heads.get("text_project")
    if not isinstance(head, ProjectSpec):
        return 1
    return head.dim


def _open_clip(spec: ModelSpec, text: Settings, image: Settings) -> tuple[Any, set[str]]:
    from open_clip.model import CLIP

    text_stack = spec.stacks["text"]
    image_stack = spec.stacks["image"]
    config = {
        "embed_dim": _dim(spec),
        "quick_gelu": text_stack.activation == "quick_gelu",
        "vision_cfg": {
            "image_size": image["image_size"],
            "patch_size": image["patch_size"],
            "head_width": image_stack.width // image_stack.heads,
            **_open_clip_tower(image_stack),
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "heads": text_stack.heads,
            **_open_clip_tower(text_stack),
        },
    }
    with torch.device("meta"):
        names = CLIP(**config).state_dict()
    return config, set(names)


def _open_clip_tower(stack: StackSpec) -> Settings:
    hidden = stack.hidden or 4 * stack.width
    return {
        "width": stack.width,
        "layers": stack.layers,
        "mlp_ratio": hidden / stack.width,
    }


def _vilt(spec: ModelSpec, words: WordsSpec, patches: PatchesSpec) -> tuple[Any, set[str]]:
    if "fusion" not in spec.stacks:
        raise ValueError(f"vilt has one stack, fusion; this model has {', '.join(spec.stacks)}")
    config = transformers.ViltConfig(
        **_image(spec.stacks["fusion"], patches),
        vocab_size=words.vocab,
        max_position_embeddings=words.length,
        type_vocab_size=max(1, words.types),
    )

    classes = []
    vocabulary = spec.heads.get("vocabulary")
    if vocabulary is not None:
        classes.append("ViltForMaskedLM")
    if "match" in spec.heads or "rank" in spec.heads:
        classes.append("ViltForImageAndTextRetrieval")
    names = _names(config, *(classes or ["ViltModel"]))
    if isinstance(vocabulary, VocabularySpec) and not vocabulary.tied:
        names.add("mlm_score.decoder.weight")
    if "match" in spec.heads:
        names |= {"itm_score.fc.weight", "itm_score.fc.bias"}
    return config, names


def _blip(spec: ModelSpec, text: Settings, image: Settings) -> tuple[Any, set[str]]:
    vocabulary = spec.heads.get("vocabulary")
    tied = not isinstance(vocabulary, VocabularySpec) or bool(vocabulary.tied)
    text["encoder_hidden_size"] = spec.stacks["image"].width
    text["tie_word_embeddings"] = tied
    config = transformers.BlipConfig(
        text_config=text,
        vision_config=image,
        image_text_hidden_size=_dim(spec),
        tie_word_embeddings=tied,
    )

    classes = []
    attentions = spec.stacks["text"].attentions
    if "causal" in attentions:
        classes.append("BlipForConditionalGeneration")
    if "both" in attentions:
        classes.append("BlipForImageTextRetrieval")
    if not classes:
        raise ValueError(f"blip has both-sided (both) and causal attention, not {attentions}")
    names = _names(config, *classes)
    if "scale" in spec.heads:
        names.add("logit_scale")  # of the contrast, which only BlipModel keeps
    return config, names
