"""A plan that goes on with a trained model, on other captions than those that it learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from training.config import decode
from training.data.features import FeatureSpec
from training.data.tokenizer import TextSpec
from training.export import CONFIG, KIND, TOWER
from training.folder import PLAN, read_json
from training.model import ModelSpec
from training.plan import TrainingPlan, TrainingStage

SHARE = 10  # of the steps and of the rate that the run had


def finetune(
    folder: Path, *, data: Mapping[str, float] | None = None, seed: int = 0
) -> TrainingPlan:
    """The stages in which a model learned each thing last, at a tenth of their steps and rates.

    Texts are read with the vocabulary that the model has, images with its towers. ValueError when
    the folder holds no model, or the plan of its run is not beside it.
    """
    path = folder.resolve().parent / PLAN
    model = trained_model(folder)
    if not path.is_file():
        raise ValueError(
            f"{folder}: {path} is missing, which says how the model was trained; give the folder "
            "`model` of a run where it was made, or copy that file with it"
        )
    before = decode(TrainingPlan, read_json(path).get("plan"), str(path))

    stages: list[TrainingStage] = []
    learned: set[type] = set()
    for stage in reversed(before.stages):
        kinds = {type(objective) for objective in stage.objectives}
        if not kinds <= learned:
            stages.insert(0, _shortened(stage, data or {"train": 1.0}))
        learned |= kinds
    stages[0] = replace(stages[0], init=str(folder))
    return replace(
        before,
        name=f"{before.name}-finetune",
        model=model,
        stages=tuple(stages),
        init={},
        seed=seed,
    )


def _shortened(stage: TrainingStage, data: Mapping[str, float]) -> TrainingStage:
    optimizer = replace(stage.optimizer, lr=stage.optimizer.lr / SHARE)
    schedule = stage.schedule
    if schedule.warmup >= 1:  # a number of steps
        schedule = replace(schedule, warmup=max(1.0, schedule.warmup / SHARE))
    return replace(
        stage,
        data=data,
        sources={},
        steps=max(1, stage.steps // SHARE),
        optimizer=optimizer,
        schedule=schedule,
        init="",
    )


def trained_model(folder: Path) -> ModelSpec:
    """The model that a run ended with, its vocabularies and towers those that lie in its folder.

    ValueError where there is none.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} holds no model; give the folder `model` of a run")
    config = read_json(path)
    if config.get("model_type") != KIND:
        raise ValueError(
            f"{folder} holds a model of another kind ({config.get('model_type')!r}): give it as "
            "initial weights of a recipe (--init image=… text=…)"
        )
    spec = decode(ModelSpec, config.get("model"), str(path))

    prepare = dict(spec.prepare)
    for name, one in spec.prepare.items():
        place = folder / "prepare" / name
        if isinstance(one, TextSpec):
            prepare[name] = replace(one, vocabulary=str(place / "tokenizer.json"))
        elif isinstance(one, FeatureSpec):
            prepare[name] = one.moved(str(place / TOWER))
    return replace(spec, prepare=prepare)
