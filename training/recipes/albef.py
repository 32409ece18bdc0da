"""ALBEF (Li et al. 2021): align image and text before they are fused, and distil from a twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from training.data.augment import RandAugment
from training.data.images import CLIP_MEAN, CLIP_STD, ImageSpec
from training.data.tokenizer import CAPTIONS, TextSpec
from training.embed import PatchesSpec, WordsSpec
from training.model import ModelSpec, Pass
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.mlm import MaskedWords
from training.plan import Momentum, Optimizer, Schedule, TrainingPlan, TrainingStage
from training.recipes.parts import PIXELS, albef_heads, bert, vit
from training.stack import Cross

# layers of the image tower and of each half of BERT, width, heads, patch, pixels, shared space
SIZES = {
    "tiny": (3, 2, 128, 4, 8, PIXELS, 128),
    "small": (12, 3, 384, 6, 16, 224, 256),
    "base": (12, 6, 768, 12, 16, 256, 256),
}


def plan(
    *,
    size: Literal["tiny", "small", "base"] = "base",
    init: Mapping[str, str] | None = None,
    data: Mapping[str, float] | None = None,
    seed: int = 0,
) -> TrainingPlan:
    """ViT-B/16 beside half of BERT, its other half on top; contrast, matching, masked words.

        winnow train albef --release mine --init image=facebook/deit-base-patch16-224 \\
            --init text=bert-base-uncased --out models/albef

    Targets of contrast and of masked words are shared with a momentum twin; wrong pairs are hard
    ones, of the same rank. Expected with the paper's 14 million images and 30 epochs, fine-tuned:
    COCO R@1 77.6 (text) and 60.7 (image), Flickr30k 95.9 and 85.6, its Table 2; about a hundred
    H200-hours at 40 % of peak (our estimate, by BLIP's operations a sample). `small` is a day on
    one GPU of 24 GB, `tiny` learns drawn scenes in some minutes on two cores.
    """
    init = init or {}
    layers, half, width, heads, patch, pixels, shared = SIZES[size]
    tiny = size == "tiny"

    model = ModelSpec(
        embeds={
            "words": WordsSpec(vocab=0, width=width, length=25, types=2, dropout=0.1),
            "patches": PatchesSpec(patch=patch, width=width, grid=pixels // patch),
        },
        stacks={
            "image": vit(layers=layers, width=width, heads=heads),
            "text": bert(layers=half, width=width, heads=heads),
            "fusion": bert(layers=half, width=width, heads=heads, cross=Cross(width=width)),
        },
        passes={
            "image": Pass(stack="image", inputs=("patches",)),
            "text": Pass(stack="text", inputs=("words",)),
            "match": Pass(stack="fusion", inputs=("text",), reads="image"),
        },
        heads=albef_heads(image=width, text=width, shared=shared),
        prepare={
            "words": TextSpec(
                vocabulary=init.get("text", CAPTIONS),
                length=25,
                size=2000 if tiny else 30522,
                clean="albef",
                words=30,
            ),
            "patches": _images(patch, pixels, tiny=tiny),
        },
    )
    contrast = Contrast()
    stage = TrainingStage(
        name="pretrain",
        data=data or {"train": 1.0},
        objectives=(
            contrast,
            Matching(contrast=contrast, over="rank"),
            MaskedWords(whole_words=False, soft=True),
        ),
        steps=1500 if tiny else 826_000,  # 30 epochs of 14.1 million
        batch=32 if tiny else 512,
        chunk=0 if tiny else 64,
        optimizer=Optimizer(lr=1e-3 if tiny else 1e-4, betas=(0.9, 0.999), weight_decay=0.02),
        schedule=Schedule(shape="cosine", warmup=100 if tiny else 1000, start=0.1, end=0.1),
        momentum=Momentum(queue=512 if tiny else 65_536, alpha_warmup=150 if tiny else 27_500),
    )
    if "text" in init:
        init = {**init, "fusion": init["text"]}  # its blocks behind those of the text stack
    return TrainingPlan(name=f"albef-{size}", model=model, stages=(stage,), init=init, seed=seed)


def _images(patch: int, pixels: int, *, tiny: bool) -> ImageSpec:
    """Crops, flips and two operations of strength 7; drawn scenes say where things are: none."""
    if tiny:
        return ImageSpec(size=pixels, patch=patch, mean=CLIP_MEAN, std=CLIP_STD)
    return ImageSpec(
        size=pixels,
        how="crop",
        patch=patch,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        evaluate="square",
        flip=True,
        augment=RandAugment(operations="blip", strength=7, probability=0.5),
    )
