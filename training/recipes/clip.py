"""CLIP (Radford et al. 2021): an image tower and a text tower that find each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from training.data.images import CLIP_MEAN, CLIP_STD, ImageSpec
from training.data.tokenizer import TextSpec
from training.embed import PatchesSpec, WordsSpec
from training.heads import ProjectSpec, ScaleSpec
from training.model import ModelSpec
from training.objectives.itc import Contrast
from training.plan import Optimizer, Schedule, TrainingPlan, TrainingStage
from training.recipes.parts import (
    PIXELS,
    Tower,
    frozen_image,
    frozen_text,
    given_image,
    given_text,
    vit,
)
from training.stack import StackSpec

Size = Literal["tiny", "small", "base"]
# layers, width and heads of the image tower and of the text tower, patch, pixels, shared space
SIZES = {
    "tiny": ((3, 128, 4), (2, 128, 4), 8, PIXELS, 128),
    "small": ((12, 384, 6), (6, 384, 6), 16, 224, 512),
    "base": ((12, 768, 12), (12, 512, 8), 32, 224, 512),
}


def plan(
    *,
    size: Size = "base",
    init: Mapping[str, str] | None = None,
    data: Mapping[str, float] | None = None,
    seed: int = 0,
) -> TrainingPlan:
    """ViT-B/32 of the paper, on the release `train` unless `data` says otherwise.

        winnow train clip --size tiny --release mine --out models/clip \\
            --init image=towers/efficientnet-lite0 --init text=towers/minilm

    Batch 32,768, 32 epochs of 400 million pairs in the paper: 12 days on 256 V100; ImageNet
    zero-shot 63.2 %. Here 32,000 steps of the same batch, cut into chunks of 256 rows that change
    no gradient. `small` is a day on one GPU of 24 GB, `tiny` some minutes on two cores.

    `tiny` on frozen towers learns from 5,000 photographs of Flickr8k in 1,150 s of CPU after their
    features (1,010): of 1,000 others R@1 21.6, R@10 64.2, image to text R@1 27.9 (docs/log.md).
    """
    init = init or {}
    image = _image(size, init.get("image", ""))
    on_features = image.name == "grid"
    text = _text(size, init.get("text", ""), bag=on_features)
    shared = 256 if on_features else SIZES[size][-1]
    tiny = size == "tiny"
    model = ModelSpec(
        embeds={text.name: text.embed, image.name: image.embed},
        stacks={"image": image.stack, "text": text.stack},
        passes={"image": image.run("image"), "text": text.run("text")},
        heads={
            "image_project": ProjectSpec(
                width=image.stack.width, dim=shared, pool=image.pool, bias=False
            ),
            "text_project": ProjectSpec(
                width=text.stack.width, dim=shared, pool=text.pool, bias=False
            ),
            "scale": ScaleSpec(highest=30.0 if tiny else 100.0),
        },
        prepare={text.name: text.prepare, image.name: image.prepare},
    )
    stage = _on_features(data, slow=text.init) if on_features else _stage(size, data)
    others = {part: source for part, source in init.items() if part not in ("image", "text")}
    loaded = {"image": image.init, "text": text.init}
    return TrainingPlan(
        name=f"clip-{size}",
        model=model,
        stages=(stage,),
        init={**others, **{part: source for part, source in loaded.items() if source}},
        seed=seed,
    )


def _image(size: Size, source: str) -> Tower:
    (layers, width, heads), _, patch, pixels, _ = SIZES[size]
    if source and size == "tiny":
        # a few queries over the grid would cost half, and find fewer texts of images (docs/log.md)
        return frozen_image(source, vit(layers=1, width=384, heads=6, dropout=0.1))
    prepare = ImageSpec(
        size=pixels, how="crop", scale=(0.9, 1.0), patch=patch, mean=CLIP_MEAN, std=CLIP_STD
    )
    if source:
        return given_image(source, how="crop", scale=(0.9, 1.0))
    stack = _stack(layers, width, heads, first_norm=True)
    embed = PatchesSpec(patch=patch, width=width, grid=pixels // patch, bias=False)
    return Tower(name="patches", embed=embed, stack=stack, prepare=prepare)


def _text(size: Size, source: str, *, bag: bool) -> Tower:
    """The paper's text tower, or a given one; a `bag` takes the mean of its words, in any order."""
    layers, width, heads = (1, 256, 4) if bag else SIZES[size][1]
    if source and size == "tiny":
        return frozen_text(source, length=64)
    if source:
        return given_text(source, length=77)
    return Tower(
        name="words",
        embed=WordsSpec(
            vocab=0, width=width, length=77, types=0, norm=False, dropout=0.3 if bag else 0.0
        ),
        stack=vit(layers=layers, width=width, heads=heads, dropout=0.1)
        if bag
        else _stack(layers, width, heads),
        prepare=TextSpec(length=77, size=4000 if size == "tiny" else 30522),
        rules=("full",) if bag else ("causal",),
        pool="mean" if bag else "last",
    )


def _stack(layers: int, width: int, heads: int, *, first_norm: bool = False) -> StackSpec:
    """Layers of OpenAI's CLIP, of texts and of images."""
    return StackSpec(
        layers=layers,
        width=width,
        heads=heads,
        eps=1e-5,
        activation="quick_gelu",
        first_norm=first_norm,
    )


def _stage(size: Size, data: Mapping[str, float] | None) -> TrainingStage:
    tiny = size == "tiny"
    return TrainingStage(
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


def _on_features(data: Mapping[str, float] | None, *, slow: str) -> TrainingStage:
    """What a few thousand photographs teach before they are learned by heart (docs/log.md).

    A text tower with weights of its own (`slow`) moves slower than what is new.
    """
    return TrainingStage(
        name="pretrain",
        data=data or {"train": 1.0},
        objectives=(Contrast(smoothing=0.1),),
        steps=400,
        batch=512,
        optimizer=Optimizer(
            lr=1e-3,
            betas=(0.9, 0.98),
            weight_decay=0.1,
            clip=1.0,
            groups={r"^stacks\.text": 0.3} if slow else {},
        ),
        schedule=Schedule(shape="cosine", warmup=40),
        ema=0.99,
    )
