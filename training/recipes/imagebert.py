"""ImageBERT's staging (Qi et al. 2020) over any recipe: the web first, then people's captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from training.config import nearest
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.plan import Optimizer, TrainingPlan, TrainingStage
from training.recipes import load

Control = Literal["staged", "web", "clean", "mixed"]
WEB, CLEAN = 10, 4  # million pairs of LAIT, of CC with SBU: the shares of the steps


def plan(
    *,
    size: Literal["tiny", "small", "base"] = "base",
    init: Mapping[str, str] | None = None,
    over: str = "vilt",
    control: str = "staged",
    seed: int = 0,
) -> TrainingPlan:
    """The stages of `over` on the release `web`, then on `clean`, then its matching fine-tuned.

        winnow train imagebert --set over=albef --set control=mixed \\
            --release web=laion --release clean=coco --out models/staged

    Controls see as many samples: `web` and `clean` one release alone, `mixed` both at once; all end
    with the same fine-tuning on `clean`. A stage's steps are parted 10 to 4, as LAIT's 10 million
    pairs to the 4 million of CC and SBU. Time: that of `over`, and a twentieth of it. Expected of
    the paper's model of regions: zero-shot Flickr30k R@1 70.7 (text) and 54.3 (image), "far better
    than every other setting" of its Table 3, whose numbers are not known to us.

    Fine-tuning: false texts and false images of each pair, at half the rate (the paper: 1e-4, then
    5e-5) by binary cross entropy, its best of four losses; of two logits, cross entropy is that of
    their difference. A contrast goes on beside it, because retrieval asks it for a shortlist.
    """
    if control not in get_args(Control):
        hint = nearest(control, get_args(Control))
        raise ValueError(f"control: {control!r} is none of {', '.join(get_args(Control))}{hint}")
    if over == "imagebert":
        raise ValueError("over: imagebert cannot be staged over itself; take albef, blip or vilt")

    base = load(over, size=size, init=init, seed=seed)
    stages = [stage for data, share in _data(control) for stage in _on(base.stages, data, share)]
    name = f"imagebert-{control}-{base.name}"
    return replace(base, name=name, stages=(*stages, _finetuning(over, base.stages[-1])))


def _data(control: str) -> list[tuple[Mapping[str, float], float]]:
    """What is read, one after another, and for which share of the steps."""
    whole = WEB + CLEAN
    match control:
        case "staged":
            return [({"web": 1.0}, WEB / whole), ({"clean": 1.0}, CLEAN / whole)]
        case "mixed":
            return [({"web": float(WEB), "clean": float(CLEAN)}, 1.0)]
    return [({control: 1.0}, 1.0)]


def _on(
    stages: Sequence[TrainingStage], data: Mapping[str, float], share: float
) -> list[TrainingStage]:
    """All stages of a recipe on other releases, for a share of their steps."""
    return [
        replace(
            stage,
            name=f"{'-'.join(data)}-{stage.name}",
            data=data,
            steps=max(1, round(share * stage.steps)),
        )
        for stage in stages
    ]


def _finetuning(over: str, stage: TrainingStage) -> TrainingStage:
    contrasts = [one for one in stage.objectives if isinstance(one, Contrast)]
    matchings = [one for one in stage.objectives if isinstance(one, Matching)]
    if not matchings:
        raise ValueError(f"over: {over} judges no pairs; take one that does, as albef does")
    matching = replace(matchings[0], false="both", same_source=False, alignment=None)

    settings: Optimizer = replace(stage.optimizer, lr=stage.optimizer.lr / 2)
    return replace(
        stage,
        name="finetune",
        data={"clean": 1.0},
        objectives=(*contrasts, matching),
        weights={},
        steps=max(1, stage.steps // 20),
        optimizer=settings,
    )
