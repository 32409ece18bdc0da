"""A trained model as a folder: its specification, its weights, its tokenizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.config import decode, encode
from training.data.tokenizer import TextSpec, Tokenizer, make_tokenizer
from training.embed import WordsSpec
from training.folder import read_json, write_json, write_whole
from training.heads import VocabularySpec
from training.model import Model, ModelSpec

KIND = "winnow"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def export_model(folder: Path, model: Model, tokenizers: Mapping[str, Tokenizer]) -> None:
    """Weights, tokenizers, and last the configuration, which makes the folder complete."""
    tensors = _without_twice(model)
    write_whole(folder / WEIGHTS, lambda temporary: save_file(tensors, temporary))
    for name, tokenizer in tokenizers.items():
        place = folder / "tokenizers" / name
        place.mkdir(parents=True, exist_ok=True)
        tokenizer.save(place)
    write_json(folder / CONFIG, {"model_type": KIND, "model": encode(model.spec)})


def _without_twice(model: Model) -> dict[str, Tensor]:
    """Parameters that stand under two names are written under the first."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach().to("cpu").contiguous()
    return tensors


def load_model(folder: str | Path) -> tuple[Model, dict[str, Tokenizer]]:
    """The model, in evaluation mode, and its tokenizers.

    ValueError when the folder is no such model, or damaged.
    """
    folder = Path(folder)
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder} is not a trained model: it lacks {', '.join(missing)}; give the folder "
            "`model` of a finished run"
        )
    config = read_json(folder / CONFIG)
    if config.get("model_type") != KIND:
        raise ValueError(f"{folder} holds another kind of model: {config.get('model_type')!r}")

    model = Model(decode(ModelSpec, config["model"], f"{folder / CONFIG}: model"))
    try:
        tensors = load_file(folder / WEIGHTS)
        found = model.load_state_dict(tensors, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged ({error}): export it again") from error
    _check_complete(model, found.missing_keys, found.unexpected_keys, folder)
    return model.eval(), _tokenizers(model.spec, folder)


def _check_complete(model: Model, missing: list[str], unexpected: list[str], folder: Path) -> None:
    """Only the second names of shared parameters may be absent."""
    named = {name for name, _ in model.named_parameters()}
    lacking = sorted(named & set(missing))
    if lacking or unexpected:
        raise ValueError(
            f"{folder / WEIGHTS} is not of this model: it lacks {lacking[:3]}, and has "
            f"{sorted(unexpected)[:3]} besides"
        )
    bad = [name for name, one in model.named_parameters() if not bool(torch.isfinite(one).all())]
    if bad:
        raise ValueError(f"{folder / WEIGHTS}: {bad[0]} holds numbers that are none")


def _tokenizers(spec: ModelSpec, folder: Path) -> dict[str, Tokenizer]:
    return {
        name: make_tokenizer(one, folder=folder / "tokenizers" / name)
        for name, one in spec.prepare.items()
        if isinstance(one, TextSpec)
    }


def fit_vocabularies(spec: ModelSpec, tokenizers: Mapping[str, Tokenizer]) -> ModelSpec:
    """Tables of words as large as the vocabularies; a `vocab` of 0 asks for that."""
    embeds = dict(spec.embeds)
    heads = dict(spec.heads)
    for name, tokenizer in tokenizers.items():
        words = embeds[name]
        assert isinstance(words, WordsSpec), f"{name} has a tokenizer, and so embeds words"
        if words.vocab == 0:
            embeds[name] = replace(words, vocab=tokenizer.size)
        elif tokenizer.size > words.vocab:
            raise ValueError(
                f"{name}: the vocabulary has {tokenizer.size} pieces, the table of the model "
                f"{words.vocab} rows: set vocab to 0, or take the model's own vocabulary"
            )

    sizes = {one.vocab for one in embeds.values() if isinstance(one, WordsSpec)}
    for name, head in heads.items():
        if isinstance(head, VocabularySpec) and head.vocab == 0:
            (size,) = sizes
            heads[name] = replace(head, vocab=size)
    return replace(spec, embeds=embeds, heads=heads)
