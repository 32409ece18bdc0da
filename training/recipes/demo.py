"""The small model of the demonstration, in ImageBERT's stages: a web release, then a clean one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from training.data.images import ImageSpec
from training.data.tokenizer import TextSpec
from training.embed import PatchesSpec, WordsSpec
from training.heads import ClassifySpec, ProjectSpec, ScaleSpec, VocabularySpec
from training.model import ModelSpec, Pass
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.mlm import MaskedWords
from training.plan import Optimizer, TrainingPlan, TrainingStage
from training.recipes.parts import PIXELS, vit

WIDTH, HEADS, PATCH, LENGTH = 128, 4, 16, 24


def plan(
    *,
    size: Literal["tiny", "small", "base"] = "tiny",
    init: Mapping[str, str] | None = None,
    seed: int = 0,
) -> TrainingPlan:
    """Two layers apart and two together at 64 pixels, of one size; releases `web` and `clean`.

        winnow train demo --release web=web-1 clean=human-1 --out models/demo

    Contrast aligns the modalities before they are fused (ALBEF) and costs half of the arithmetic;
    the other two weigh little, because with weights of .5 and .25 they cost a third of R@1 (21 for
    28) and their own layers, which nothing else trains, learn as fast under Adam. Batches of 32
    did better than of 64 and a width of 128 better than 192, for the same time. 450 steps of 32
    see a release of the demo's 2,100 pairs seven times: at thirteen times wrong pairs were learnt
    by heart. Expected of `winnow demo` with seeds 0, 1 and 2: R@1 of 12 to 20 among 240, of the
    control 4 to 8.
    """
    model = ModelSpec(
        embeds={
            "words": WordsSpec(vocab=0, width=WIDTH, length=LENGTH),
            "patches": PatchesSpec(patch=PATCH, width=WIDTH, grid=PIXELS // PATCH),
        },
        stacks={
            "text": vit(layers=2, width=WIDTH, heads=HEADS),
            "image": vit(layers=2, width=WIDTH, heads=HEADS),
            "fusion": vit(layers=2, width=WIDTH, heads=HEADS),
        },
        passes={
            "text": Pass(stack="text", inputs=("words",)),
            "image": Pass(stack="image", inputs=("patches",)),
            "match": Pass(stack="fusion", inputs=("text", "image")),
        },
        heads={
            "image_project": ProjectSpec(width=WIDTH, dim=128),
            "text_project": ProjectSpec(width=WIDTH, dim=128),
            "scale": ScaleSpec(),
            "match": ClassifySpec(width=WIDTH, classes=2, tanh=True),
            "vocabulary": VocabularySpec(width=WIDTH, vocab=0),
        },
        prepare={
            "words": TextSpec(length=LENGTH, size=2000),
            "patches": ImageSpec(size=PIXELS, patch=PATCH),
        },
    )
    web = TrainingStage(
        name="web",
        data={"web": 1.0},
        objectives=(Contrast(), Matching(rows=8), MaskedWords(rows=8)),
        weights={"itm": 0.1, "mlm": 0.05},
        steps=450,
        batch=32,
        optimizer=Optimizer(lr=1.5e-3),
    )
    clean = TrainingStage(
        name="clean",
        data={"clean": 1.0},
        objectives=web.objectives,
        weights=web.weights,
        steps=45,
        batch=32,
        optimizer=Optimizer(lr=1e-4),
    )
    # One thread: at this size a second one costs more than it gives on a busy machine, where each
    # waits for the other; a second run beside this one uses the second core better
    return TrainingPlan(
        name="demo", model=model, stages=(web, clean), init=init or {}, seed=seed, threads=1
    )
