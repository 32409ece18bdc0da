"""Going on with a trained model: on other captions, or for another task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from training.config import decode
from training.data.features import FeatureSpec
from training.data.tokenizer import TextSpec
from training.export import CONFIG, IMPORTED, KIND, TOWER, decode_objectives
from training.folder import PLAN, read_json
from training.heads import ClassifySpec
from training.model import ModelSpec, PrepareSpec
from training.objectives.itm import Matching
from training.plan import AnyObjective, Optimizer, TrainingPlan, TrainingStage

SHARE = 10  # of the steps and of the rate that the run had


def finetune(
    folder: Path, *, data: Mapping[str, float] | None = None, seed: int = 0
) -> TrainingPlan:
    """The stages in which a model learned each thing last, at a tenth of their steps and rates.

    Texts are read with the vocabulary that the model has, images with its towers. A model that was
    taken in from another library goes on with all that it can be asked. ValueError when the folder
    holds no model, or the plan of its run is not beside it.
    """
    path = folder.resolve().parent / PLAN
    model, objectives = trained(str(folder))
    if read_json(folder / CONFIG).get(IMPORTED):
        stage = replace(_imported(objectives), data=data or {"train": 1.0}, init=str(folder))
        return TrainingPlan(name=f"{folder.name}-finetune", model=model, stages=(stage,), seed=seed)
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
        samples=0,
        seed=seed,
    )


def _imported(objectives: tuple[AnyObjective, ...]) -> TrainingStage:
    """How a model of another library, whose training nobody knows, goes on: a thousand small steps.

    The rate is that of BLIP's fine-tuning for captions and retrieval.
    """
    return TrainingStage(
        name="finetune",
        data={"train": 1.0},
        objectives=objectives,
        steps=1000,
        batch=64,
        chunk=16,
        optimizer=Optimizer(lr=1e-5, weight_decay=0.05),
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


def trained(folder: str) -> tuple[ModelSpec, tuple[AnyObjective, ...]]:
    """A model that was exported, read from where it lies, and what it was trained for."""
    home = Path(folder)
    if not (home / CONFIG).is_file():
        raise ValueError(f"finetune: {home} holds no model; give the folder `model` of a run")
    plain = read_json(home / CONFIG)
    if plain.get("model_type") != KIND:
        raise ValueError(
            f"{home} holds a model of another kind ({plain.get('model_type')!r}): give it as "
            "initial weights of a recipe (--init image=… text=…)"
        )
    spec = decode(ModelSpec, plain.get("model"), f"{home / CONFIG}: model")
    prepare: dict[str, PrepareSpec] = {}
    for name, one in spec.prepare.items():
        own = home / "prepare" / name
        if isinstance(one, TextSpec):
            one = replace(one, vocabulary=str(own / "tokenizer.json"))
        elif isinstance(one, FeatureSpec):
            one = one.moved(str(own / TOWER))
        prepare[name] = one
    objectives = decode_objectives(plain.get("objectives", []), home / CONFIG)
    return replace(spec, prepare=prepare), objectives


def only(spec: ModelSpec, node: str) -> ModelSpec:
    """What a model needs to come to one pass; without heads."""
    needed, queue = {node}, [node]
    while queue:
        step = spec.passes.get(queue.pop())
        if step is None:
            continue
        for name in (*step.inputs, step.reads):
            if name and name not in needed:
                needed.add(name)
                queue.append(name)

    passes = {name: step for name, step in spec.passes.items() if name in needed}
    stacks = {step.stack for step in passes.values()}
    return ModelSpec(
        embeds={name: embed for name, embed in spec.embeds.items() if name in needed},
        stacks={name: stack for name, stack in spec.stacks.items() if name in stacks},
        passes=passes,
        prepare={name: one for name, one in spec.prepare.items() if name in needed},
    )


def answering(spec: ModelSpec, matching: Matching, *, classes: int, joined: int) -> ClassifySpec:
    """ViLT's head for answers, above whatever the head of the matching looks at."""
    head = spec.heads[matching.head]
    assert isinstance(head, ClassifySpec), "a matching has two classes"
    return replace(head, classes=classes, joined=joined, hidden=2 * head.width)
