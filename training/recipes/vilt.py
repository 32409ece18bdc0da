"""ViLT-B/32 (Kim, Son and Kim 2021): one stack over words and patches, and nothing before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from training.data.images import ImageSpec
from training.data.tokenizer import TextSpec
from training.embed import PatchesSpec, WordsSpec
from training.heads import ClassifySpec, VocabularySpec
from training.model import ModelSpec, Pass
from training.objectives.itm import Matching
from training.objectives.mlm import MaskedWords
from training.objectives.wra import Alignment
from training.plan import Optimizer, TrainingPlan, TrainingStage
from training.recipes.parts import PIXELS, vit

# layers, width, heads, patch, pixels of the shorter side, steps, batch, rate
SIZES = {
    "tiny": (4, 128, 4, 8, PIXELS, 3000, 32, 1e-3),
    "small": (12, 384, 6, 32, 384, 100_000, 512, 1e-4),
    "base": (12, 768, 12, 32, 384, 100_000, 4096, 1e-4),
}


def plan(
    *,
    size: Literal["tiny", "small", "base"] = "base",
    init: Mapping[str, str] | None = None,
    data: Mapping[str, float] | None = None,
    seed: int = 0,
) -> TrainingPlan:
    """The 100k-step schedule of the paper: masked words, matching, and word-patch alignment (.1).

        plan = load("vilt", size="tiny")
        train(plan, releases={"train": "data/releases/mine"}, out=Path("models/vilt"))

    Expected with the paper's data: zero-shot Flickr30k R@1 69.7 (text) and 51.3 (image), its Table
    5; about 96 H200-hours at 40 % of peak. The paper starts the stack from ViT-B/32 and learns its
    words from nothing; images keep their aspect, the shorter side 384, 200 patches of each drawn.
    """
    layers, width, heads, patch, pixels, steps, batch, rate = SIZES[size]
    tiny = size == "tiny"
    length = 24 if tiny else 40

    model = ModelSpec(
        embeds={
            "words": WordsSpec(
                vocab=0 if tiny else 30522,
                width=width,
                length=length,
                modality=True,
                dropout=0.1,
            ),
            "patches": PatchesSpec(
                patch=patch,
                width=width,
                grid=pixels // patch,
                interpolation="bilinear",
                align_corners=True,
                modality=True,
                sample=0 if tiny else 200,
                dropout=0.1,
            ),
        },
        stacks={"fusion": vit(layers=layers, width=width, heads=heads, dropout=0.1)},
        passes={"match": Pass(stack="fusion", inputs=("words", "patches"))},
        heads={
            "match": ClassifySpec(width=width, classes=2, tanh=True),
            "vocabulary": VocabularySpec(width=width, vocab=0),
        },
        prepare={
            "words": TextSpec(length=length, size=2000 if tiny else 30522),
            "patches": ImageSpec(size=pixels, how="square" if tiny else "shorter", patch=patch),
        },
    )
    matching = Matching(false="half", same_source=True, alignment=Alignment())
    stage = TrainingStage(
        name="pretrain",
        data=data or {"train": 1.0},
        objectives=(MaskedWords(), matching),
        weights={"wra": 0.1},
        steps=steps,
        batch=batch,
        chunk=0 if tiny else 64,
        optimizer=Optimizer(lr=rate),
    )
    return TrainingPlan(
        name=f"vilt-{size}", model=model, stages=(stage,), init=init or {}, seed=seed
    )
