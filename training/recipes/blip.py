"""BLIP (Li et al. 2022): one text stack that encodes, matches and captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from training.data.augment import RandAugment
from training.data.images import CLIP_MEAN, CLIP_STD, ImageSpec
from training.data.tokenizer import TextSpec
from training.embed import PatchesSpec, WordsSpec
from training.heads import ClassifySpec, ProjectSpec, ScaleSpec, VocabularySpec
from training.model import ModelSpec, Pass
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.plan import AnyObjective, Momentum, Optimizer, Schedule, TrainingPlan, TrainingStage
from training.recipes.parts import (
    PIXELS,
    Tower,
    albef_heads,
    bert,
    frozen_image,
    frozen_text,
    given_image,
    given_text,
    vit,
)
from training.stack import Cross, StackSpec

Size = Literal["tiny", "small", "base"]
# layers, width and heads of the image tower and of the text stack, patch, pixels, shared space
SIZES = {
    "tiny": ((3, 128, 4), (2, 128, 4), 8, PIXELS, 128),
    "small": ((12, 384, 6), (6, 384, 6), 16, 224, 256),
    "base": ((12, 768, 12), (12, 768, 12), 16, 224, 256),
}


def plan(
    *,
    size: Size = "base",
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
    cores; with a frozen image tower it is another, staged plan, for some thousand photographs:

        winnow train blip --size tiny --release mine --out models/blip \\
            --init image=towers/efficientnet-lite0 --init text=towers/minilm
    """
    given = init or {}
    if size == "tiny" and given.get("image"):
        return _on_features(given, data or {"train": 1.0}, seed)
    image = _image(size, given.get("image", ""))
    text = _text(size, given.get("text", ""))
    widths = {"image": image.stack.width, "text": text.stack.width}
    stack = replace(text.stack, cross=Cross(width=widths["image"]), attentions=("both", "causal"))
    model = ModelSpec(
        embeds={"words": text.embed, "patches": image.embed},
        stacks={"image": image.stack, "text": stack},
        passes=_passes(),
        heads=albef_heads(**widths, shared=SIZES[size][-1]),
        prepare={"words": text.prepare, "patches": image.prepare},
    )
    return TrainingPlan(
        name=f"blip-{size}",
        model=model,
        stages=(_pretrain(data or {"train": 1.0}, tiny=size == "tiny"),),
        init=given,
        seed=seed,
    )


def _image(size: Size, source: str) -> Tower:
    """The paper's, or a given one in its own shape; images are cropped in training alone."""
    (layers, width, heads), _, patch, pixels, _ = SIZES[size]
    tiny = size == "tiny"
    how: dict[str, Any] = {
        "how": "square" if tiny else "crop",
        "evaluate": "square",
        "flip": not tiny,
        "augment": None if tiny else RandAugment(operations="blip", strength=5, probability=0.5),
    }
    if source:
        return given_image(source, **how)
    return Tower(
        name="patches",
        embed=PatchesSpec(patch=patch, width=width, grid=pixels // patch),
        stack=vit(layers=layers, width=width, heads=heads),
        prepare=ImageSpec(size=pixels, patch=patch, mean=CLIP_MEAN, std=CLIP_STD, **how),
    )


def _text(size: Size, source: str) -> Tower:
    """The paper's BERT, or a given one in its own shape, its vocabulary and two pieces more."""
    _, (layers, width, heads), *_ = SIZES[size]
    tiny = size == "tiny"
    length = 24 if tiny else 32
    texts = TextSpec(
        length=length,
        size=2000 if tiny else 30522,
        clean="blip",
        words=30,
        extra=("[DEC]", "[ENC]"),
    )
    if not source:
        return Tower(
            name="words",
            embed=WordsSpec(vocab=0, width=width, length=length, types=0, dropout=0.1),
            stack=bert(layers=layers, width=width, heads=heads),
            prepare=texts,
        )
    given = given_text(source, length=length)
    assert isinstance(given.embed, WordsSpec), "a text tower embeds words"
    return replace(
        given,
        embed=replace(given.embed, vocab=0),
        prepare=replace(texts, vocabulary=source, length=given.embed.length),
    )


def _passes() -> dict[str, Pass]:
    """One text stack three times: alone, reading the image, and writing beside it."""
    return {
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


def _pretrain(data: Mapping[str, float], *, tiny: bool) -> TrainingStage:
    """All three tasks in each step, as in the paper."""
    contrast = Contrast()
    return TrainingStage(
        name="pretrain",
        data=data,
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


def _on_features(init: Mapping[str, str], data: Mapping[str, float], seed: int) -> TrainingPlan:
    """On frozen towers, for some thousand photographs: contrast, then captions, then matching too.

    The paper's mixture in stages, because it is too much to learn at once from so few. The towers'
    answers are computed once and kept; contrast has a text tower of its own above them. Matching
    and captions share all but self-attention, as in the paper, above the image tower's grid and
    with the vocabulary of the captions. Captions come first: they teach where in an image a word
    is, so that matching learns in 300 steps what it does not in 600 from nothing (docs/log.md).
    Of its negatives 3 in 10 are hard: of hard ones alone a new matcher learns nothing.
    """
    text = _text_tower(init.get("text", ""))
    image = frozen_image(
        init["image"], vit(layers=1, width=text.stack.width, heads=text.stack.heads, dropout=0.1)
    )
    contrast = Contrast(smoothing=0.1)
    captions = Captions(text="spoken", image=image.name, smoothing=0.1)
    matching = Matching(text="spoken", image=image.name, contrast=contrast, hard=0.3)
    rates = {r"^stacks\.text\.": 0.3} if text.init else {}  # pretrained: it learns slowly
    towers = (
        r"^embeds\.(grid|states|words)",
        r"^stacks\.(image|text)",
        r"^heads\.(image|text)_project",
        "scale",
    )
    return TrainingPlan(
        name="blip-tiny-towers",
        model=_staged_model(image, text),
        stages=(
            _stage("itc", data, (contrast,), steps=350, batch=512, groups=rates),
            _stage("lm", data, (captions,), steps=1000, batch=128, freeze=towers),
            _stage("itm", data, (matching, captions), steps=1000, batch=128, freeze=towers),
        ),
        init={"text": text.init} if text.init else {},
        seed=seed,
    )


def _staged_model(image: Tower, text: Tower) -> ModelSpec:
    """Two towers to compare, and beside them the stack that matches and writes."""
    width = text.stack.width
    decoder = StackSpec(
        layers=2,
        width=256,
        heads=4,
        dropout=0.3,
        attentions=("causal", "both"),
        cross=Cross(width=width),
    )
    return ModelSpec(
        embeds={
            image.name: image.embed,
            text.name: text.embed,
            "spoken": WordsSpec(vocab=0, width=256, length=24, types=0, dropout=0.1),
        },
        stacks={"image": image.stack, "text": text.stack, "decoder": decoder},
        passes={
            "image": image.run("image"),
            "text": text.run("text"),
            "match": Pass(stack="decoder", inputs=("spoken",), attention="both", reads=image.name),
            "caption": Pass(
                stack="decoder",
                inputs=("spoken",),
                attention="causal",
                rules=("causal",),
                reads=image.name,
            ),
        },
        heads={
            "image_project": ProjectSpec(width=width, dim=256, pool="mean"),
            "text_project": ProjectSpec(width=width, dim=256, pool="mean"),
            "scale": ScaleSpec(highest=30.0),
            "match": ClassifySpec(width=256, classes=2, pool="mean"),
            "vocabulary": VocabularySpec(width=256, vocab=0, tied="spoken"),
        },
        prepare={
            image.name: image.prepare,
            text.name: text.prepare,
            "spoken": TextSpec(size=3000, length=24, clean="blip"),
        },
    )


def _text_tower(source: str) -> Tower:
    """The last layer of a given tower above its frozen ones, or two layers from random weights."""
    if source:
        return frozen_text(source, length=64)  # as CLIP, whose cached states serve both
    return Tower(
        name="words",
        embed=WordsSpec(vocab=0, width=384, length=48, types=0, dropout=0.3),
        stack=bert(layers=2, width=384, heads=6, dropout=0.3),
        prepare=TextSpec(size=4000, length=48, clean="blip"),
    )


def _stage(
    name: str,
    data: Mapping[str, float],
    objectives: tuple[AnyObjective, ...],
    *,
    steps: int,
    batch: int,
    groups: Mapping[str, float] | None = None,
    freeze: tuple[str, ...] = (),
) -> TrainingStage:
    return TrainingStage(
        name=name,
        data=data,
        objectives=objectives,
        steps=steps,
        batch=batch,
        optimizer=Optimizer(lr=1e-3, weight_decay=0.1, clip=1.0, groups=groups or {}),
        schedule=Schedule(shape="cosine", warmup=0.1),
        freeze=freeze,
        ema=0.99,
    )
