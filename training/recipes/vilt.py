"""ViLT-B/32 (Kim, Son and Kim 2021): one stack over words and patches, and nothing before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from training.config import decode
from training.data.augment import RandAugment
from training.data.images import ImageSpec
from training.data.tokenizer import TextSpec
from training.embed import PatchesSpec, WordsSpec
from training.folder import read_json
from training.heads import ClassifySpec, VocabularySpec
from training.model import ModelSpec, Pass, PrepareSpec
from training.objectives.itm import Matching
from training.objectives.mlm import MaskedWords
from training.objectives.wra import Alignment
from training.plan import Optimizer, TrainingPlan, TrainingStage
from training.recipes.parts import PIXELS
from training.stack import StackSpec

# layers, width, heads, patch, pixels of the shorter side, steps, batch, rate, share of masked words
SIZES = {
    "tiny": (4, 128, 4, 16, PIXELS, 6000, 32, 1e-3, 0.3),
    "small": (12, 384, 6, 32, 384, 100_000, 512, 1e-4, 0.15),
    "base": (12, 768, 12, 32, 384, 100_000, 4096, 1e-4, 0.15),
}


def plan(
    *,
    size: Literal["tiny", "small", "base"] = "base",
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
    if finetune:
        return _finetuned(Path(finetune), data or {"train": 1.0}, seed)

    layers, width, heads, patch, pixels, steps, batch, rate, share = SIZES[size]
    tiny = size == "tiny"
    length = 24 if tiny else 40
    dropout = 0.0 if tiny else 0.1

    model = ModelSpec(
        embeds={
            "words": WordsSpec(vocab=0, width=width, length=length, modality=True, dropout=dropout),
            "patches": PatchesSpec(
                patch=patch,
                width=width,
                grid=pixels // patch,
                interpolation="bilinear",
                align_corners=True,
                modality=True,
                sample=0 if tiny else 200,
                dropout=dropout,
            ),
        },
        stacks={
            "fusion": StackSpec(
                layers=layers,
                width=width,
                heads=heads,
                eps=1e-12,  # transformers' ViLT has one for words and blocks (the paper's: 1e-6)
                dropout=dropout,
            )
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
    matching = Matching(false="half", same_source=True, alignment=Alignment())
    stage = TrainingStage(
        name="pretrain",
        data=data or {"train": 1.0},
        objectives=(MaskedWords(share=share), matching),
        weights={"wra": 0.1},
        steps=steps,
        batch=batch,
        chunk=0 if tiny else 64,
        optimizer=Optimizer(lr=rate),
    )
    stacks = {"fusion" if part == "image" else part: name for part, name in (init or {}).items()}
    return TrainingPlan(name=f"vilt-{size}", model=model, stages=(stage,), init=stacks, seed=seed)


def _finetuned(folder: Path, data: Mapping[str, float], seed: int) -> TrainingPlan:
    """Its matching on other captions: batch 256 and rate 1e-4 as in the paper, ten epochs of COCO.

    Each image's text stands against a false text, and each text's image against a false image.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"finetune: {folder} holds no model; give the folder `model` of a run")
    spec = decode(ModelSpec, read_json(folder / "config.json")["model"], f"{folder}/config.json")
    words, patches = spec.prepare.get("words"), spec.prepare.get("patches")
    inputs = spec.embeds.get("patches")
    if not (
        isinstance(words, TextSpec)
        and isinstance(patches, ImageSpec)
        and isinstance(inputs, PatchesSpec)
    ):
        raise ValueError(f"finetune: {folder} holds another model than ViLT's words and patches")

    vocabulary = folder / "prepare" / "words" / "tokenizer.json"
    prepare: dict[str, PrepareSpec] = {
        "words": replace(words, vocabulary=str(vocabulary)),
        "patches": replace(patches, augment=RandAugment(operations="vilt")),
    }
    embeds = {**spec.embeds, "patches": replace(inputs, sample=0)}
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
    model = replace(spec, embeds=embeds, prepare=prepare)
    return TrainingPlan(name="vilt-finetune", model=model, stages=(stage,), seed=seed)
