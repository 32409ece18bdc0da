"""ViLT-B/32 (Kim, Son and Kim 2021): one stack over words and patches, and nothing before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from training.data.images import ImageSpec
from training.data.tokenizer import TextSpec
from training.embed import WordsSpec
from training.heads import ClassifySpec, VocabularySpec
from training.model import ModelSpec, Pass
from training.objectives.itm import Matching
from training.objectives.mlm import MaskedWords
from training.objectives.wra import Alignment
from training.plan import Optimizer, TrainingPlan, TrainingStage
from training.recipes import Size, parts

# layers, width, heads, patch, pixels of the shorter side, patches drawn, pieces of a text, dropout
SIZES = {
    "tiny": (4, 128, 4, 16, parts.PIXELS, 0, 24, 0.0),
    "small": (12, 384, 6, 32, 384, 200, 40, 0.1),
    "base": (12, 768, 12, 32, 384, 200, 40, 0.1),
}
# steps, batch, rows at once, rate, share of masked words
LEARNING = {
    "tiny": (6000, 32, 0, 1e-3, 0.3),
    "small": (100_000, 512, 64, 1e-4, 0.15),
    "base": (100_000, 4096, 64, 1e-4, 0.15),
}


def plan(
    *,
    size: Size = "base",
    init: Mapping[str, str] | None = None,
    data: Mapping[str, float] | None = None,
    finetune: str = "",
    seed: int = 0,
) -> TrainingPlan:
    """The 100k-step schedule of the paper: masked words, matching, and word-patch alignment (.1).

        winnow train vilt --release mine --init image=google/vit-base-patch32-384 --out models/vilt
        winnow train vilt --release mine --set finetune=models/vilt/model --out models/mine

    Expected with the paper's data: zero-shot Flickr30k R@1 69.7 (text) and 51.3 (image), its Table
    5; about 96 H200-hours at 40 % of peak. The stack starts from ViT-B/32, words from nothing;
    images keep their aspect, the shorter side 384 and the longer at most 640, both in whole
    patches, of which 200 are drawn. `finetune` names a model of this recipe: its matching goes on
    with all patches and the paper's RandAugment. `tiny` learns drawn scenes in an hour on two cores
    (docs/log.md).
    """
    data = data or {"train": 1.0}
    if finetune:
        return _finetuned(Path(finetune), data, seed)
    layers, width, heads, patch, pixels, drawn, length, dropout = SIZES[size]
    tiny = size == "tiny"

    model = ModelSpec(
        embeds={
            "words": WordsSpec(vocab=0, width=width, length=length, modality=True, dropout=dropout),
            "patches": parts.vilt_patches(
                patch=patch, width=width, pixels=pixels, sample=drawn, dropout=dropout
            ),
        },
        stacks={
            "fusion": parts.vilt_stack(layers=layers, width=width, heads=heads, dropout=dropout)
        },
        passes={"match": Pass(stack="fusion", inputs=("words", "patches"))},
        heads={
            "match": ClassifySpec(width=width, classes=2, tanh=True),
            "vocabulary": VocabularySpec(width=width, vocab=0),
        },
        prepare={
            "words": TextSpec(length=length, size=2000 if tiny else 30522),
            "patches": ImageSpec(
                size=pixels, how="square" if tiny else "shorter", longest=640, patch=patch
            ),
        },
    )
    stage = _pretrain(size, data)
    stacks = {"fusion" if part == "image" else part: name for part, name in (init or {}).items()}
    return TrainingPlan(name=f"vilt-{size}", model=model, stages=(stage,), init=stacks, seed=seed)


def _pretrain(size: Size, data: Mapping[str, float]) -> TrainingStage:
    steps, batch, chunk, rate, share = LEARNING[size]
    matching = Matching(false="half", same_source=True, alignment=Alignment())
    return TrainingStage(
        name="pretrain",
        data=data,
        objectives=(MaskedWords(share=share), matching),
        weights={"wra": 0.1},
        steps=steps,
        batch=batch,
        chunk=chunk,
        optimizer=Optimizer(lr=rate),
    )


def _finetuned(folder: Path, data: Mapping[str, float], seed: int) -> TrainingPlan:
    """Its matching on other captions: batch 256 and rate 1e-4 as in the paper, ten epochs of COCO.

    Each image's text stands against a false text, and each text's image against a false image.
    """
    stage = TrainingStage(
        name="finetune",
        data=data,
        objectives=(Matching(false="both"),),
        steps=22_000,  # ten epochs of COCO's 567,000 captions
        batch=256,
        chunk=64,
        optimizer=Optimizer(lr=1e-4),
        init=str(folder),
    )
    model = parts.vilt_for_finetuning(folder)
    return TrainingPlan(name="vilt-finetune", model=model, stages=(stage,), seed=seed)
