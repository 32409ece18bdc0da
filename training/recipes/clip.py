"""CLIP (Radford et al. 2021): an image tower and a text tower that find each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from training.data.images import CLIP_MEAN, CLIP_STD, ImageSpec
from training.data.tokenizer import TextSpec
from training.embed import PatchesSpec, WordsSpec
from training.heads import ProjectSpec, ScaleSpec
from training.model import ModelSpec, Pass
from training.objectives.itc import Contrast
from training.plan import Optimizer, Schedule, TrainingPlan, TrainingStage
from training.recipes.parts import PIXELS, vit
from training.stack import StackSpec

# layers, width and heads of the image tower and of the text tower, patch, pixels, shared space
SIZES = {
    "tiny": ((3, 128, 4), (2, 128, 4), 8, PIXELS, 128),
    "small": ((12, 384, 6), (6, 384, 6), 16, 224, 512),
    "base": ((12, 768, 12), (12, 512, 8), 32, 224, 512),
}


def plan(
    *,
    size: Literal["tiny", "small", "base"] = "base",
    init: Mapping[str, str] | None = None,
    data: Mapping[str, float] | None = None,
    seed: int = 0,
) -> TrainingPlan:
    """ViT-B/32 of the paper, on the release `train` unless `data` says otherwise.

        plan = load("clip", size="tiny")
        train(plan, releases={"train": "data/releases/mine"}, out=Path("models/clip"))

    Batch 32,768, 32 epochs of 400 million pairs in the paper: 12 days on 256 V100; ImageNet
    zero-shot 63.2 %. Here 32,000 steps of the same batch, cut into chunks of 256 rows that change
    no gradient. `small` is a day on one GPU of 24 GB, `tiny` some minutes on two cores.
    """
    (layers, width, heads), text, patch, pixels, shared = SIZES[size]
    text_layers, text_width, text_heads = text
    tiny = size == "tiny"

    model = ModelSpec(
        embeds={
            "words": WordsSpec(vocab=0, width=text_width, length=77, types=0, norm=False),
            "patches": PatchesSpec(patch=patch, width=width, grid=pixels // patch, bias=False),
        },
        stacks={
            "image": StackSpec(
                layers=layers,
                width=width,
                heads=heads,
                eps=1e-5,
                activation="quick_gelu",
                first_norm=True,
            ),
            "text": vit(layers=text_layers, width=text_width, heads=text_heads),
        },
        passes={
            "image": Pass(stack="image", inputs=("patches",)),
            "text": Pass(stack="text", inputs=("words",), rules=("causal",)),
        },
        heads={
            "image_project": ProjectSpec(width=width, dim=shared, bias=False),
            "text_project": ProjectSpec(width=text_width, dim=shared, pool="last", bias=False),
            "scale": ScaleSpec(highest=30.0 if tiny else 100.0),
        },
        prepare={
            "words": TextSpec(length=77, size=4000 if tiny else 30522),
            "patches": ImageSpec(
                size=pixels,
                how="crop",
                scale=(0.9, 1.0),
                patch=patch,
                mean=CLIP_MEAN,
                std=CLIP_STD,
            ),
        },
    )
    stage = TrainingStage(
        name="pretrain",
        data=data or {"train": 1.0},
        objectives=(Contrast(),),
        steps=600 if tiny else 32_000,
        batch=64 if tiny else 32_768,
        chunk=0 if tiny else 256,
        optimizer=Optimizer(
            lr=1e-3 if tiny else 5e-4,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=0.2,
        ),
        schedule=Schedule(shape="cosine", warmup=60 if tiny else 2000),
    )
    return TrainingPlan(
        name=f"clip-{size}", model=model, stages=(stage,), init=init or {}, seed=seed
    )
