"""Questions about images, answered out of a list (VQA v2), by a model that has learnt to judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from training.data.augment import RandAugment
from training.data.images import ImageSpec
from training.embed import PatchesSpec
from training.finetune import answering, only, trained
from training.model import ModelSpec
from training.objectives.answers import Answers
from training.objectives.base import first_of
from training.objectives.itm import Matching
from training.plan import Optimizer, TrainingPlan, TrainingStage
from training.recipes import vilt

Size = Literal["tiny", "small", "base"]
# steps, batch, rows at once, rate: ten epochs of the 658,000 questions of VQA v2 in the paper
SIZES = {
    "tiny": (600, 32, 0, 3e-4),
    "small": (25_700, 256, 64, 1e-4),
    "base": (25_700, 256, 64, 1e-4),
}


def plan(
    *,
    size: Size = "base",
    finetune: str = "",
    data: Mapping[str, float] | None = None,
    seed: int = 0,
) -> TrainingPlan:
    """ViLT's fine-tuning on a file of lines of {"image", "question", "answers"}.

        winnow train vqa --set finetune=models/vilt/model --release train.jsonl --out models/vqa
        winnow evaluate models/vqa/model --captions val.jsonl --task vqa

    `finetune` names any model that judges pairs (of `vilt`, `albef`, `blip`); without it a ViLT of
    this size begins with random weights. Each answer that is frequent enough is a class with its
    soft score. Expected of ViLT-B/32: 71.3 on test-dev (its Table 5); about 10 H200-hours.
    """
    spec, matching = judging(finetune, size)
    head = answering(spec, matching, classes=0, joined=1)
    model = replace(only(spec, matching.fused), heads={"answer": head})
    answers = Answers(fused=(matching.fused,), images=(matching.image,), text=matching.text)
    stage = finetuning(answers, matching, finetune, SIZES[size], data)
    return TrainingPlan(name=f"vqa-{size}", model=model, stages=(stage,), seed=seed)


def judging(finetune: str, size: Size) -> tuple[ModelSpec, Matching]:
    """A model that judges pairs, with all patches and the paper's RandAugment; how it judges."""
    if finetune:
        spec, objectives = trained(finetune)
    else:
        base = vilt.plan(size=size)
        spec, objectives = base.model, base.stages[0].objectives
    matching = first_of(Matching, objectives)
    if matching is None:
        raise ValueError(
            f"finetune: {finetune} judges no pairs: take a model of vilt, albef or blip"
        )

    embeds, prepare = dict(spec.embeds), dict(spec.prepare)
    patches, images = embeds[matching.image], prepare[matching.image]
    if isinstance(patches, PatchesSpec) and isinstance(images, ImageSpec):
        embeds[matching.image] = replace(patches, sample=0)
        prepare[matching.image] = replace(images, augment=RandAugment(operations="vilt"))
    return replace(spec, embeds=embeds, prepare=prepare), matching


def finetuning(
    answers: Answers,
    matching: Matching,
    finetune: str,
    settings: tuple[int, int, int, float],
    data: Mapping[str, float] | None,
) -> TrainingStage:
    """Linear decay; what is new of the head learns ten times faster, as in ViLT's code."""
    steps, batch, chunk, rate = settings
    return TrainingStage(
        name="finetune",
        data=data or {"train": 1.0},
        objectives=(answers,),
        steps=steps,
        batch=batch,
        chunk=chunk,
        optimizer=Optimizer(lr=rate, groups={r"^heads\.answer\.(into|norm|linear)": 10.0}),
        init=finetune,
        fresh={"heads.answer.pooler": f"heads.{matching.head}.pooler", "heads.answer": ""},
    )
