"""ImageBERT's staging (Qi et al. 2020) over any recipe: the web first, then people's captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from training.plan import TrainingPlan, TrainingStage
from training.recipes import Size, load
from training.recipes.parts import matching_alone, on_releases

# Releases by their shares of the samples, one table after the other, with the share of the steps:
# LAIT has 10 million pairs, CC with SBU 4
WEB, CLEAN = 10.0, 4.0
CONTROLS: dict[str, list[tuple[dict[str, float], float]]] = {
    "staged": [({"web": 1.0}, WEB / (WEB + CLEAN)), ({"clean": 1.0}, CLEAN / (WEB + CLEAN))],
    "web": [({"web": 1.0}, 1.0)],
    "clean": [({"clean": 1.0}, 1.0)],
    "mixed": [({"web": WEB, "clean": CLEAN}, 1.0)],
}


def plan(
    *,
    size: Size = "base",
    init: Mapping[str, str] | None = None,
    over: str = "vilt",
    control: Literal["staged", "web", "clean", "mixed"] = "staged",
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
    if over == "imagebert":
        raise ValueError("over: imagebert cannot be staged over itself; take albef, blip or vilt")
    base = load(over, size=size, init=init, seed=seed)
    last = base.stages[-1]

    stages: list[TrainingStage] = []
    for data, share in CONTROLS[control]:
        stages += on_releases(base.stages, data, share)
    finetuning = replace(
        last,
        name="finetune",
        data={"clean": 1.0},
        objectives=matching_alone(over, last.objectives),
        weights={},
        steps=max(1, last.steps // 20),
        optimizer=replace(last.optimizer, lr=last.optimizer.lr / 2),
    )
    name = f"imagebert-{control}-{base.name}"
    return replace(base, name=name, stages=(*stages, finetuning))
