"""LLaVA-1.5 (Liu et al. 2024): a frozen tower, two maps, any causal language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from training.data.features import FeatureSpec
from training.data.tokenizer import BEGIN, END, TextSpec
from training.data.towers import given_folder
from training.embed import GridSpec
from training.language import LanguageHeadSpec, LanguageSpec, LanguageWordsSpec
from training.model import ModelSpec, Pass
from training.objectives.lm import Captions
from training.plan import Optimizer, Schedule, TrainingPlan, TrainingStage
from training.recipes import Size, parts

# tower, pixels, language model, rank of what is trained in it, steps and batch of the first stage
SIZES = {
    "tiny": ("openai/clip-vit-base-patch32", 224, "HuggingFaceTB/SmolLM2-135M", 8, 300, 16),
    "small": ("openai/clip-vit-base-patch16", 224, "Qwen/Qwen2.5-0.5B", 64, 2180, 64),
    "base": ("openai/clip-vit-large-patch14-336", 336, "lmsys/vicuna-7b-v1.5", 128, 2180, 256),
}


def plan(
    *,
    size: Size = "base",
    init: Mapping[str, str] | None = None,
    data: Mapping[str, float] | None = None,
    seed: int = 0,
) -> TrainingPlan:
    """Patch features of the last layer but one, mapped twice, in front of a caption's words.

        winnow train llava --size small --release mine --init image=models/siglip \\
            --init text=models/qwen2.5-0.5b --out models/llava

    First the projector alone (rate 1e-3), then LoRA in the language model (2e-4; the projector a
    tenth of it), one epoch each; losses on caption pieces only. The paper's `base` on 558,000
    captions and 665,000 instructions: 6 and 20 hours on 8 A100, VQAv2 78.5, GQA 62.0 (its Table 3);
    captions alone, as here, teach to describe and not to converse. `small` is a day on one GPU of
    24 GB; `tiny` takes an hour on two cores. Below `base` the tower's features are computed once
    for a release and kept beside it. Of a timm tower they are its last grid, before pooling.
    """
    tower_folder, pixels, language, rank, steps, batch = SIZES[size]
    init = init or {}
    if "image" in init:
        tower_folder = given_folder(init["image"], "image")
    if "text" in init:
        language = parts.given_language(init["text"])
    tower, images = parts.patch_tower(tower_folder, pixels)
    kept = size != "base"

    model = ModelSpec(
        embeds={
            "patches": GridSpec(features=0, width=0, tower=None if kept else tower),
            "words": LanguageWordsSpec(language="language"),
        },
        stacks={},
        passes={"caption": Pass(stack="language", inputs=("patches", "words"), rules=("causal",))},
        heads={"vocabulary": LanguageHeadSpec(language="language")},
        prepare={
            "words": TextSpec(vocabulary=language, length=64, first=BEGIN, last=END),
            "patches": FeatureSpec(tower=tower, prepare=images) if kept else images,
        },
        languages={
            "language": LanguageSpec(folder=language, rank=rank, dropout=0.05, half=not kept)
        },
    )
    stages = _stages(data or {"train": 1.0}, steps, batch)
    return TrainingPlan(name=f"llava-{size}", model=model, stages=stages, seed=seed)


def _stages(
    data: Mapping[str, float], steps: int, batch: int
) -> tuple[TrainingStage, TrainingStage]:
    """The projector alone, then the small matrices too: twice the steps, half the batch."""
    projector = TrainingStage(
        name="projector",
        data=data,
        objectives=(Captions(),),
        steps=steps,
        batch=batch,
        chunk=8,
        freeze=(r"\.lora\.",),
        optimizer=Optimizer(lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0),
        schedule=Schedule(shape="cosine", warmup=0.03),
    )
    slower = replace(projector.optimizer, lr=2e-4, groups={r"^embeds\.": 0.1})
    language = replace(
        projector,
        name="language",
        steps=2 * steps,
        batch=max(2, batch // 2),
        freeze=(),
        optimizer=slower,
    )
    return projector, language
