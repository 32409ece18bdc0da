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
from training.model import EmbedSpec, Model, ModelSpec
from training.objectives.answers import Answers
from training.objectives.base import first_of
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.plan import AnyObjective, TrainingPlan, TrainingStage
from training.precision import best_device

KIND = "winnow"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
REDUCTION = "reduction.npz"
TOWER = "tower"
IMPORTED = "imported"  # in the configuration: from which family, if from another library


def export_model(
    folder: Path,
    model: Model,
    prepared: Mapping[str, Prepared],
    objectives: Sequence[AnyObjective] = (),
) -> None:
    """Weights, tokenizers, frozen towers, and last the configuration: it makes the folder complete.

    `objectives` are written with it: they say what the model can be used for. Under torchrun all
    ranks must call it, and the first one writes.
    """
    tensors = _unique_tensors(model)
    if not Ranks.current().first:
        return
    write_whole(folder / WEIGHTS, lambda temporary: _save(tensors, temporary))
    pieces: dict[str, int] = {}
    for name, one in prepared.items():
        own = folder / "prepare" / name
        own.mkdir(parents=True, exist_ok=True)
        if isinstance(one, Tokenizer):
            one.save(own)
            pieces[name] = one.size
        elif isinstance(one, Features):
            keep_tower(one.spec.tower, own / TOWER)
            if one.reduction is not None:
                one.reduction.save(own / REDUCTION)
    config = {
        "model_type": KIND,
        "model": encode(model.spec),
        "objectives": encode(list(objectives)),
        "pieces": pieces,
    }
    write_json(folder / CONFIG, config)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """OSError when the disk is full: the library has an error of its own for that."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error


def _unique_tensors(model: Model) -> dict[str, Tensor]:
    """Parameters that have two names are written under the first."""
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

    model = Model(decode(ModelSpec, config.get("model"), f"{folder / CONFIG}: model"))
    try:
        tensors = load_file(folder / WEIGHTS)
        keys = model.load_state_dict(tensors, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged ({error}): export it again") from error
    _check_complete(model, keys.missing_keys, keys.unexpected_keys, folder)
    objectives = decode_objectives(config.get("objectives", []), folder / CONFIG)
    return model.eval(), objectives


def _check_complete(model: Model, missing: list[str], unexpected: list[str], folder: Path) -> None:
    """Only the second names of shared parameters may be absent."""
    parameters = dict(model.named_parameters())
    lacking = sorted(parameters.keys() & missing)
    if lacking or unexpected:
        raise ValueError(
            f"{folder / WEIGHTS} is not of this model: it lacks {lacking[:3]}, and has "
            f"{sorted(unexpected)[:3]} besides"
        )
    for name, parameter in parameters.items():
        if not bool(torch.isfinite(parameter).all()):
            raise ValueError(f"{folder / WEIGHTS}: {name} holds numbers that are none")


def decode_objectives(plain: object, where: Path) -> tuple[AnyObjective, ...]:
    """Objectives as they stand in a configuration."""
    kind = tuple[AnyObjective, ...]
    objectives: tuple[AnyObjective, ...] = decode(kind, plain, f"{where}: objectives")
    return objectives


def load_scorer(folder: str | Path, device: torch.device | str | None = None) -> Scorer:
    """A trained model for evaluation, on a GPU if there is one. ValueError as `load_model`."""
    device = device or best_device()
    model, objectives = load_model(folder)
    model.to(device)
    prepared: dict[str, ScorerPrepared] = {}
    for name, spec in model.spec.prepare.items():
        own = Path(folder) / "prepare" / name
        match spec:
            case TextSpec():
                prepared[name] = _tokenizer(spec, own, Path(folder))
            case ImageSpec():
                prepared[name] = spec
            case FeatureSpec():
                prepared[name] = _frozen_tower(spec, own, device)
    return Scorer(
        model=model,
        prepared=prepared,
        contrast=first_of(Contrast, objectives),
        matching=first_of(Matching, objectives),
        captions=first_of(Captions, objectives),
        answers=first_of(Answers, objectives),
    )


def _frozen_tower(spec: FeatureSpec, own: Path, device: torch.device | str) -> FrozenTower:
    path = own / REDUCTION
    reduction = Reduction.load(path) if path.is_file() else None
    spec = spec.moved(str(own / TOWER))
    return FrozenTower(spec.tower, spec.prepare, device=device, reduction=reduction, flip=spec.flip)


def _tokenizer(spec: TextSpec, own: Path, folder: Path) -> Tokenizer:
    """The tokenizer that the model was exported with; ValueError when it has lost pieces since."""
    tokenizer = make_tokenizer(spec, folder=own)
    pieces = read_json(folder / CONFIG).get("pieces", {}).get(own.name, tokenizer.size)
    if tokenizer.size != pieces:
        raise ValueError(
            f"{own / 'tokenizer.json'} has {tokenizer.size} pieces, and the model was exported "
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

    for name, head in heads.items():
        if isinstance(head, VocabularySpec) and head.vocab == 0:
            heads[name] = replace(head, vocab=_words_of(name, head, embeds))
    return replace(spec, embeds=embeds, heads=heads, prepare=prepare)


def _words_of(name: str, head: VocabularySpec, embeds: Mapping[str, EmbedSpec]) -> int:
    """As many as the words have that a head is tied to; else as all words of the model have."""
    sizes = {part: one.vocab for part, one in embeds.items() if isinstance(one, WordsSpec)}
    if head.tied in sizes:
        return sizes[head.tied]
    if len(set(sizes.values())) == 1:
        return next(iter(sizes.values()))
    said = ", ".join(f"{part} {size}" for part, size in sizes.items()) or "none"
    raise ValueError(f"head {name}: say how many words it knows (vocab); embeddings have {said}")


def fit_answers(plan: TrainingPlan, releases: Mapping[str, Release]) -> TrainingPlan:
    """Classes of answers, where an objective has none: the most frequent ones of its releases.

    ValueError when they have no answers.
    """
    heads, stages = dict(plan.model.heads), []
    for stage in plan.stages:
        objectives: list[AnyObjective] = []
        for objective in stage.objectives:
            if isinstance(objective, Answers):
                if not objective.classes:
                    classes = _frequent_answers(stage, releases, objective.most)
                    objective = replace(objective, classes=classes)
                head = heads[objective.head]
                assert isinstance(head, ClassifySpec), "answers are classes"
                heads[objective.head] = replace(head, classes=len(objective.classes))
            objectives.append(objective)
        stages.append(replace(stage, objectives=tuple(objectives)))
    return replace(plan, model=replace(plan.model, heads=heads), stages=tuple(stages))


def _frequent_answers(
    stage: TrainingStage, releases: Mapping[str, Release], most: int
) -> tuple[str, ...]:
    """In the form in which answers are compared; ties are settled by the alphabet."""
    counts: Counter[str] = Counter()
    for name in stage.data:
        release = releases[name]
        for row in range(len(release)):
            counts.update(map(normal, release.answers(row)))
    if not counts:
        names = ", ".join(stage.data)
        raise ValueError(f"{names}: no answers to learn from; give lines of {QUESTION}")

    ordered = sorted(counts, key=lambda answer: (-counts[answer], answer))
    return tuple(ordered[:most])


def fit_grids(spec: ModelSpec) -> ModelSpec:
    """Grids as wide as their frozen tower and the language model that reads them; 0 asks for that.

    Tokens of the tower that are no patches (a class token, registers) are skipped.
    """
    embeds = dict(spec.embeds)
    for name, grid in spec.embeds.items():
        if not isinstance(grid, GridSpec) or grid.features:
            continue
        tower, images = _tower_of(spec, name, grid)
        tokens, features = tower_shape(tower, images.size)
        width = grid.width or _language_width(spec, name)
        skip = tokens - isqrt(tokens) ** 2
        embeds[name] = replace(grid, features=features, width=width, hidden=width, skip=skip)
    return replace(spec, embeds=embeds)


def tower_shape(tower: TowerSpec, pixels: int) -> tuple[int, int]:
    """How many tokens a tower makes of an image of so many pixels a side, and how wide they are."""
    image = torch.zeros(1, 3, pixels, pixels)
    tokens, features = image_tower(tower, "cpu")(image).shape[1:]
    return tokens, features


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
