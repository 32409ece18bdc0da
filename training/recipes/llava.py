"""LLaVA-1.5 (Liu et al. 2024): a frozen tower, two maps, any causal language model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from training.data.features import FeatureSpec
from training.data.images import ImageSpec
from training.data.tokenizer import BEGIN, END, TextSpec
from training.data.towers import TowerSpec, prepared_as
from training.embed import GridSpec
from training.folder import read_json
from training.language import LanguageHeadSpec, LanguageSpec, LanguageWordsSpec
from training.model import ModelSpec, Pass
from training.objectives.lm import Captions
from training.plan import Optimizer, Schedule, TrainingPlan, TrainingStage

# tower, pixels, language model, rank of what is trained in it, steps and batch of both stages
SIZES = {
    "tiny": ("openai/clip-vit-base-patch32", 224, "HuggingFaceTB/SmolLM2-135M", 8, 300, 16),
    "small": ("openai/clip-vit-base-patch16", 224, "Qwen/Qwen2.5-0.5B", 64, 2180, 64),
    "base": ("openai/clip-vit-large-patch14-336", 336, "lmsys/vicuna-7b-v1.5", 128, 2180, 256),
}


def plan(
    *,
    size: Literal["tiny", "small", "base"] = "base",
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
    for a release and kept beside it. Towers of timm are asked for their grid.
    """
    tower_folder, pixels, language_folder, rank, steps, batch = SIZES[size]
    init = init or {}
    language = LanguageSpec(
        folder=init.get("text", language_folder), rank=rank, dropout=0.05, half=size == "base"
    )
    tower, prepare = _tower(init.get("image", tower_folder), pixels)
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
            "words": TextSpec(vocabulary=language.folder, length=64, first=BEGIN, last=END),
            "patches": FeatureSpec(tower=tower, prepare=prepare) if kept else prepare,
        },
        languages={"language": language},
    )
    projector = TrainingStage(
        name="projector",
        data=data or {"train": 1.0},
        objectives=(Captions(),),
        steps=steps,
        batch=batch,
        chunk=8,
        freeze=(r"\.lora\.",),
        optimizer=Optimizer(lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0),
        schedule=Schedule(shape="cosine", warmup=0.03),
    )
    adapted = TrainingStage(
        name="language",
        data=data or {"train": 1.0},
        objectives=(Captions(),),
        steps=2 * steps,
        batch=max(2, batch // 2),
        chunk=8,
        optimizer=Optimizer(
            lr=2e-4, betas=(0.9, 0.999), weight_decay=0.0, groups={r"^embeds\.": 0.1}
        ),
        schedule=projector.schedule,
    )
    return TrainingPlan(name=f"llava-{size}", model=model, stages=(projector, adapted), seed=seed)


def _tower(folder: str, pixels: int) -> tuple[TowerSpec, ImageSpec]:
    """A tower of timm or transformers, at its own size where its folder says one."""
    config = Path(folder) / "config.json"
    told = read_json(config) if config.is_file() else {}
    told = {**told, **told.get("vision_config", {})}
    if "architecture" in told:
        pixels = told.get("pretrained_cfg", {}).get("input_size", [pixels])[-1]
        tower = TowerSpec(folder=folder, library="timm")
    else:
        pixels = told.get("image_size", pixels)
        tower = TowerSpec(folder=folder, library="transformers", layers=-1)
    return tower, prepared_as(tower, pixels)
