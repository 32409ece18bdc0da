"""Is a sentence true of two images (NLVR2)? ViLT's pair method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from training.finetune import answering, only
from training.objectives.answers import Answers
from training.plan import TrainingPlan
from training.recipes.vqa import Size, finetuning, judging
from training.second import SECOND, with_second

# steps, batch, rows at once, rate: ten epochs of 86,000 sentences in the paper
SIZES = {
    "tiny": (600, 32, 0, 3e-4),
    "small": (6750, 128, 32, 1e-4),
    "base": (6750, 128, 32, 1e-4),
}


def plan(
    *,
    size: Size = "base",
    finetune: str = "",
    data: Mapping[str, float] | None = None,
    seed: int = 0,
) -> TrainingPlan:
    """ViLT's fine-tuning on a file of lines of {"images", "sentence", "label"}.

        winnow train nlvr2 --set finetune=models/vilt/model --release train.jsonl --out models/nlvr2
        winnow evaluate models/nlvr2/model --captions dev.jsonl --task nlvr2

    Each of the two images goes with the sentence through the model; what it says of both stands
    side by side before the head. The second image is told by a modality of its own, which begins
    as a copy of the first one's; all else of its embedding is shared. `finetune` as in `vqa`, of a
    model that reads pixels. Expected of ViLT-B/32: 75.7 (dev) and 76.1 (test-P), its Table 5; about
    an H200-hour.
    """
    spec, matching = judging(finetune, size)
    head = answering(spec, matching, classes=2, joined=2)
    model = replace(with_second(only(spec, matching.fused), matching.image), heads={"answer": head})
    answers = Answers(
        fused=(matching.fused, f"{matching.fused}_{SECOND}"),
        images=(matching.image, SECOND),
        text=matching.text,
        classes=("false", "true"),
        loss="one",
    )
    stage = finetuning(answers, matching, finetune, SIZES[size], data)
    copied = {f"embeds.{SECOND}.modality": f"embeds.{matching.image}.modality"}
    stage = replace(stage, fresh={**stage.fresh, **copied})
    return TrainingPlan(name=f"nlvr2-{size}", model=model, stages=(stage,), seed=seed)
