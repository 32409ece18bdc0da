"""A trained model as a folder: its specification, its weights, its tokenizers."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isqrt
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig

from training.answers import normal
from training.config import decode, encode
from training.data.features import Features, FeatureSpec
from training.data.frozen import FrozenTower
from training.data.images import ImageSpec
from training.data.loader import Prepared
from training.data.reduction import Reduction
from training.data.shards import Release
from training.data.tokenizer import TextSpec, Tokenizer, make_tokenizer
from training.data.towers import TowerSpec, image_tower, keep_tower
from training.distributed import Ranks, whole
from training.embed import GridSpec, WordsSpec
from training.evaluate.lines import QUESTION
from training.evaluate.scorer import Prepared as ScorerPrepared
from training.evaluate.scorer import Scorer
from training.folder import read_json, write_json, write_whole
from training.heads import ClassifySpec, VocabularySpec
from training.language import LanguageWordsSpec
from training.model import Model, ModelSpec
from training.objectives.answers import Answers
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.plan import AnyObjective, TrainingPlan
from training.precision import best_device

KIND = "winnow"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
REDUCTION = "reduction.npz"
TOWER = "tower"


def export_model(
    folder: Path,
    model: Model,
    prepared: Mapping[str, Prepared],
    objectives: Sequence[AnyObjective] = (),
) -> None:
    """Weights, tokenizers, frozen towers, and last the configuration: it makes the folder complete.

    `objectives` are written with it: they say what the model can be asked, and by which names.
    Under torchrun all ranks must ask, and the first one writes.
    """
    tensors = _without_twice(model)
    if not Ranks.current().first:
        return
    write_whole(folder / WEIGHTS, lambda temporary: _save(tensors, temporary))
    for name, one in prepared.items():
        place = folder / "prepare" / name
        place.mkdir(parents=True, exist_ok=True)
        if isinstance(one, Tokenizer):
            one.save(place)
        elif isinstance(one, Features):
            keep_tower(one.spec.tower, place / TOWER)
            if one.reduction is not None:
                one.reduction.save(place / REDUCTION)
    config = {
        "model_type": KIND,
        "model": encode(model.spec),
        "objectives": encode(list(objectives)),
        "pieces": {name: one.size for name, one in _tokenizers(prepared).items()},
    }
    write_json(folder / CONFIG, config)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """OSError when the disk is full: the library has an error of its own for that."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error


def _tokenizers(prepared: Mapping[str, Prepared]) -> dict[str, Tokenizer]:
    return {name: one for name, one in prepared.items() if isinstance(one, Tokenizer)}


def _without_twice(model: Model) -> dict[str, Tensor]:
    """Parameters that stand under two names are written under the first."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = whole(tensor.detach()).to("cpu").contiguous()
    return tensors


def load_model(folder: str | Path) -> tuple[Model, tuple[AnyObjective, ...]]:
    """The model, in evaluation mode, and what it was trained for.

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
    objectives = decode_objectives(config.get("objectives", []), folder / CONFIG)
    return model.eval(), objectives


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


def decode_objectives(plain: object, where: Path) -> tuple[AnyObjective, ...]:
    """Objectives as they stand in a configuration."""
    kind = tuple[AnyObjective, ...]
    found: tuple[AnyObjective, ...] = decode(kind, plain, f"{where}: objectives")
    return found


def load_scorer(folder: str | Path, device: torch.device | str | None = None) -> Scorer:
    """A trained model, ready to be asked, on a GPU if there is one. ValueError as `load_model`."""
    where = device or best_device()
    model, objectives = load_model(folder)
    model.to(where)
    prepared: dict[str, ScorerPrepared] = {}
    for name, spec in model.spec.prepare.items():
        place = Path(folder) / "prepare" / name
        match spec:
            case TextSpec():
                prepared[name] = _tokenizer(spec, place, Path(folder))
            case ImageSpec():
                prepared[name] = spec
            case FeatureSpec():
                cut = place / REDUCTION
                reduction = Reduction.load(cut) if cut.is_file() else None
                own = spec.moved(str(place / TOWER))
                prepared[name] = FrozenTower(
                    own.tower, own.prepare, device=where, reduction=reduction, flip=own.flip
                )

    contrasts = [one for one in objectives if isinstance(one, Contrast)]
    matchings = [one for one in objectives if isinstance(one, Matching)]
    captions = [one for one in objectives if isinstance(one, Captions)]
    answers = [one for one in objectives if isinstance(one, Answers)]
    return Scorer(
        model=model,
        prepared=prepared,
        contrast=contrasts[0] if contrasts else None,
        matching=matchings[0] if matchings else None,
        captions=captions[0] if captions else None,
        answers=answers[0] if answers else None,
    )


def _tokenizer(spec: TextSpec, place: Path, folder: Path) -> Tokenizer:
    """The tokenizer that the model was exported with; ValueError when it has lost pieces since."""
    tokenizer = make_tokenizer(spec, folder=place)
    pieces = read_json(folder / CONFIG).get("pieces", {}).get(place.name, tokenizer.size)
    if tokenizer.size != pieces:
        raise ValueError(
            f"{place / 'tokenizer.json'} has {tokenizer.size} pieces, and the model was exported "
            f"with {pieces}: it is damaged; export the model again"
        )
    return tokenizer


def fit_vocabularies(spec: ModelSpec, tokenizers: Mapping[str, Tokenizer]) -> ModelSpec:
    """Tables of words as large as the vocabularies; a `vocab` of 0 asks for that.

    What a tokenizer found out about its first and last pieces is written down with the model.
    """
    embeds = dict(spec.embeds)
    heads = dict(spec.heads)
    prepare = dict(spec.prepare)
    for name, tokenizer in tokenizers.items():
        words = embeds[name]
        prepare[name] = tokenizer.spec
        if isinstance(words, LanguageWordsSpec):
            continue
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
    return replace(spec, embeds=embeds, heads=heads, prepare=prepare)


def fit_answers(plan: TrainingPlan, releases: Mapping[str, Release]) -> TrainingPlan:
    """Classes of answers, where an objective asks for them: the most frequent ones of its releases.

    Ties are settled by the alphabet. ValueError when nobody has answered anything there.
    """
    heads, stages = dict(plan.model.heads), []
    for stage in plan.stages:
        objectives: list[AnyObjective] = []
        for one in stage.objectives:
            if isinstance(one, Answers) and not one.classes:
                counts = _answered([releases[name] for name in stage.data])
                if not counts:
                    names = ", ".join(stage.data)
                    raise ValueError(f"{names}: no answers to learn from; give lines of {QUESTION}")
                ordered = sorted(counts, key=lambda answer: (-counts[answer], answer))
                one = replace(one, classes=tuple(ordered[: one.most]))
            if isinstance(one, Answers):
                head = heads[one.head]
                assert isinstance(head, ClassifySpec), "answers are classes"
                heads[one.head] = replace(head, classes=len(one.classes))
            objectives.append(one)
        stages.append(replace(stage, objectives=tuple(objectives)))
    return replace(plan, model=replace(plan.model, heads=heads), stages=tuple(stages))


def _answered(releases: Sequence[Release]) -> Counter[str]:
    """How often each answer was given, in the form in which answers are compared."""
    counts: Counter[str] = Counter()
    for release in releases:
        for row in range(len(release)):
            counts.update(map(normal, release.answers(row)))
    return counts


def fit_grids(spec: ModelSpec) -> ModelSpec:
    """Grids as wide as their frozen tower and the language model that reads them; 0 asks for that.

    Tokens of the tower that stand for no place in the image (a class token, registers) are skipped.
    """
    embeds = dict(spec.embeds)
    for name, grid in spec.embeds.items():
        if not isinstance(grid, GridSpec) or grid.features:
            continue
        tower, images = _tower_of(spec, name, grid)
        pixels = torch.zeros(1, 3, images.size, images.size)
        tokens, features = image_tower(tower, "cpu")(pixels).shape[1:]
        width = grid.width or _language_width(spec, name)
        embeds[name] = replace(
            grid, features=features, width=width, hidden=width, skip=tokens - isqrt(tokens) ** 2
        )
    return replace(spec, embeds=embeds)


def _tower_of(spec: ModelSpec, name: str, grid: GridSpec) -> tuple[TowerSpec, ImageSpec]:
    prepare = spec.prepare.get(name)
    tower = grid.tower
    if isinstance(prepare, FeatureSpec):
        tower, prepare = prepare.tower, prepare.prepare
    if tower is None or not isinstance(prepare, ImageSpec):
        raise ValueError(f"{name}: say how many features its grid has")
    return tower, prepare


def _language_width(spec: ModelSpec, name: str) -> int:
    """Of the language model in front of whose words the grid stands."""
    for step in spec.passes.values():
        if name in step.inputs and step.stack in spec.languages:
            folder = spec.languages[step.stack].folder
            width: int = AutoConfig.from_pretrained(folder).get_text_config().hidden_size
            return width
    raise ValueError(f"{name}: say how wide its tokens are")
