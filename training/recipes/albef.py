"""ALBEF (Li et al. 2021): align image and text before they are fused, and distil from a twin."""

from __future__ import annotations

from collections.abc import Mapping

from training.embed import PatchesSpec, WordsSpec
from training.model import ModelSpec, Pass
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.mlm import MaskedWords
from training.plan import Momentum, Optimizer, Schedule, TrainingPlan, TrainingStage
from training.recipes import Size, parts
from training.stack import Cross

# layers of the image tower and of each half of BERT, width, heads, patch, pixels, shared space
SIZES = {
    "tiny": (3, 2, 128, 4, 8, parts.PIXELS, 128),
    "small": (12, 3, 384, 6, 16, 224, 256),
    "base": (12, 6, 768, 12, 16, 256, 256),
}


def plan(
    *,
    size: Size = "base",
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

    model = ModelSpec(
        embeds={
            "words": WordsSpec(vocab=0, width=width, length=25, types=2, dropout=0.1),
            "patches": PatchesSpec(patch=patch, width=width, grid=pixels // patch),
        },
        stacks={
            "image": parts.vit(layers=layers, width=width, heads=heads),
            "text": parts.bert(layers=half, width=width, heads=heads),
            "fusion": parts.bert(layers=half, width=width, heads=heads, cross=Cross(width=width)),
        },
        passes={
            "image": Pass(stack="image", inputs=("patches",)),
            "text": Pass(stack="text", inputs=("words",)),
            "match": Pass(stack="fusion", inputs=("text",), reads="image"),
        },
        heads=parts.albef_heads(image=width, text=width, shared=shared),
        prepare={
            "words": parts.albef_texts(vocabulary=init.get("text"), drawn=size == "tiny"),
            "patches": parts.albef_images(patch=patch, pixels=pixels, drawn=size == "tiny"),
        },
    )
    stage = _pretrain(data or {"train": 1.0})
    if size == "tiny":
        stage = parts.for_drawn_scenes(stage)
    if "text" in init:
        init = {**init, "fusion": init["text"]}  # its blocks behind those of the text stack
    return TrainingPlan(name=f"albef-{size}", model=model, stages=(stage,), init=init, seed=seed)


def _pretrain(data: Mapping[str, float]) -> TrainingStage:
    """30 epochs of 14.1 million pairs; the queue holds 65,536 of them."""
    contrast = Contrast()
    matching = Matching(contrast=contrast, over="rank")
    return TrainingStage(
        name="pretrain",
        data=data,
        objectives=(contrast, matching, MaskedWords(whole_words=False, soft=True)),
        steps=826_000,
        batch=512,
        chunk=64,
        optimizer=Optimizer(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.02),
        schedule=Schedule(shape="cosine", warmup=1000, start=0.1, end=0.1),
        momentum=Momentum(queue=65_536, alpha_warmup=27_500),
    )
