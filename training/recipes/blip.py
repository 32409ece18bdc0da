"""BLIP (Li et al. 2022): one text stack that encodes, matches and captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from training.data.augment import RandAugment
from training.data.images import CLIP_MEAN, CLIP_STD, ImageSpec
from training.data.tokenizer import TextSpec
from training.embed import PatchesSpec, WordsSpec
from training.heads import ClassifySpec, ProjectSpec, ScaleSpec, VocabularySpec
from training.model import ModelSpec, Pass
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.plan import Momentum, Optimizer, Schedule, TrainingPlan, TrainingStage
from training.recipes.parts import PIXELS, bert, vit
from training.stack import Cross

# layers, width and heads of the image tower and of the text stack, patch, pixels, shared space
SIZES = {
    "tiny": ((3, 128, 4), (2, 128, 4), 8, PIXELS, 128),
    "small": ((12, 384, 6), (6, 384, 6), 16, 224, 256),
    "base": ((12, 768, 12), (12, 768, 12), 16, 224, 256),
}


def plan(
    *,
    size: Literal["tiny", "small", "base"] = "base",
    init: Mapping[str, str] | None = None,
    data: Mapping[str, float] | None = None,
    seed: int = 0,
) -> TrainingPlan:
    """The mixture of encoder and decoder: contrast with a momentum queue, hard matching, captions.

        plan = load("blip", size="tiny")
        train(plan, releases={"train": "data/releases/mine"}, out=Path("models/blip"))

    All text parameters are shared but for self-attention. Expected with the paper's 14 million
    images and 20 epochs: COCO R@1 78.4 (text) and 60.7 (image) after fine-tuning, CIDEr 127.8, its
    Table 1; about 74 H200-hours at 40 % of peak. `tiny` learns drawn scenes in some minutes on two
    cores.
    """
    (layers, width, heads), text, patch, pixels, shared = SIZES[size]
    text_layers, text_width, text_heads = text
    tiny = size == "tiny"
    length = 24 if tiny else 32

    stack = bert(
        layers=text_layers,
        width=text_width,
        heads=text_heads,
        cross=Cross(width=width),
        attentions=("both", "causal"),
    )
    passes = {
        "image": Pass(stack="image", inputs=("patches",)),
        "text": Pass(stack="text", inputs=("words",), attention="both"),
        "match": Pass(
            stack="text", inputs=("words",), attention="both", reads="image", first="[ENC]"
        ),
        "caption": Pass(
            stack="text",
            inputs=("words",),
            attention="causal",
            rules=("causal",),
            reads="image",
            first="[DEC]",
        ),
    }
    model = ModelSpec(
        embeds={
            "words": WordsSpec(vocab=0, width=text_width, length=length, types=0, dropout=0.1),
            "patches": PatchesSpec(patch=patch, width=width, grid=pixels // patch),
        },
        stacks={"image": vit(layers=layers, width=width, heads=heads), "text": stack},
        passes=passes,
        heads={
            "image_project": ProjectSpec(width=width, dim=shared),
            "text_project": ProjectSpec(width=text_width, dim=shared),
            "scale": ScaleSpec(lowest=2.0, highest=1000.0),  # temperatures .5 to .001
            "match": ClassifySpec(width=text_width, classes=2),
            "vocabulary": VocabularySpec(width=text_width, vocab=0, tied="words"),
        },
        prepare={
            "words": TextSpec(
                length=length,
                size=2000 if tiny else 30522,
                clean="blip",
                words=30,
                extra=("[DEC]", "[ENC]"),
            ),
            "patches": ImageSpec(
                size=pixels,
                how="square" if tiny else "crop",
                patch=patch,
                mean=CLIP_MEAN,
                std=CLIP_STD,
                evaluate="square",
                flip=not tiny,
                augment=None
                if tiny
                else RandAugment(operations="blip", strength=5, probability=0.5),
            ),
        },
    )
    contrast = Contrast()
    stage = TrainingStage(
        name="pretrain",
        data=data or {"train": 1.0},
        objectives=(contrast, Matching(contrast=contrast, over="rank"), Captions(smoothing=0.1)),
        steps=1500 if tiny else 97_000,  # 20 epochs of 14 million
        batch=32 if tiny else 2880,
        chunk=0 if tiny else 64,
        optimizer=Optimizer(lr=1e-3 if tiny else 3e-4, betas=(0.9, 0.999), weight_decay=0.05),
        schedule=Schedule(
            shape="exponential",
            warmup=100 if tiny else 3000,
            decay=0.9,
            every=150 if tiny else 4860,
        ),
        momentum=Momentum(queue=512 if tiny else 57_600, alpha_warmup=150 if tiny else 9720),
    )
    return TrainingPlan(
        name=f"blip-{size}", model=model, stages=(stage,), init=init or {}, seed=seed
    )
