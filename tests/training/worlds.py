"""Small releases of drawn shapes, and plans that learn them in seconds."""

import io
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from training import loop
from training.data.feed import Weighted
from training.data.images import ImageSpec
from training.data.tokenizer import TextSpec
from training.embed import PatchesSpec, WordsSpec
from training.heads import ClassifySpec, ProjectSpec, ScaleSpec, VocabularySpec
from training.model import ModelSpec, Pass
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.objectives.mlm import MaskedWords
from training.plan import Momentum, Optimizer, TrainingPlan, TrainingStage
from training.run import Run
from training.stack import Cross, StackSpec
from training.train import train

COLOURS = ("red", "green", "blue", "black", "orange", "purple")
SHAPES = ("circle", "square", "triangle")


def picture(colour: str, shape: str, seed: int) -> bytes:
    """A shape somewhere in a 32-pixel square, as PNG."""
    draws = np.random.default_rng(seed)
    image = Image.new("RGB", (32, 32), "white")
    pen = ImageDraw.Draw(image)
    x, y = draws.integers(2, 14, 2).tolist()
    box = (x, y, x + 14, y + 14)
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon([(x, y + 14), (x + 14, y + 14), (x + 7, y)], fill=colour)
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def release(folder: Path, rows: int, *, seed: int = 0, shards: int = 2, heldout: int = 0) -> Path:
    """A folder of shards, each row a drawn shape and its caption, the last ones held out."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(seed)
    images, captions = [], []
    for row in range(rows):
        colour = COLOURS[int(draws.integers(len(COLOURS)))]
        shape = SHAPES[int(draws.integers(len(SHAPES)))]
        images.append(picture(colour, shape, seed * 10000 + row))
        captions.append([f"a {colour} {shape} on white"])

    table = pa.table(
        {
            "image": pa.array(images, pa.binary()),
            "caption": captions,
            "image_id": [f"{folder.name}{row:05d}" for row in range(rows)],
            "split": ["train"] * (rows - heldout) + ["heldout"] * heldout,
        }
    )
    train = rows - heldout
    if heldout:
        _write(folder / "heldout-00000-of-00001.arrow", table.slice(train))
    size = -(-train // shards)
    for shard in range(shards):
        name = f"train-{shard:05d}-of-{shards:05d}.arrow"
        _write(folder / name, table.slice(shard * size, min(size, train - shard * size)))
    return folder


def _write(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table, max_chunksize=20)


def shapes_plan(steps: int = 6, **changes: object) -> TrainingPlan:
    """Towers apart and fused, at 32 pixels; two stages on two releases."""
    width = 32
    model = ModelSpec(
        embeds={
            "words": WordsSpec(vocab=0, width=width, length=12),
            "patches": PatchesSpec(patch=8, width=width, grid=4),
        },
        stacks={
            "text": StackSpec(layers=1, width=width, heads=2),
            "image": StackSpec(layers=1, width=width, heads=2),
            "fusion": StackSpec(layers=1, width=width, heads=2),
        },
        passes={
            "text": Pass(stack="text", inputs=("words",)),
            "image": Pass(stack="image", inputs=("patches",)),
            "match": Pass(stack="fusion", inputs=("text", "image")),
        },
        heads={
            "image_project": ProjectSpec(width=width, dim=16),
            "text_project": ProjectSpec(width=width, dim=16),
            "scale": ScaleSpec(),
            "match": ClassifySpec(width=width, classes=2),
            "vocabulary": VocabularySpec(width=width, vocab=0),
        },
        prepare={
            "words": TextSpec(length=12, size=200),
            "patches": ImageSpec(size=32, patch=8),
        },
    )
    contrast = Contrast()
    stages = tuple(
        TrainingStage(
            name=name,
            data={name: 1.0},
            objectives=(contrast, Matching(contrast=contrast), MaskedWords()),
            weights={"itm": 0.5, "mlm": 0.5},
            steps=steps,
            batch=8,
            optimizer=Optimizer(lr=3e-3),
        )
        for name in ("web", "clean")
    )
    settings = {"threads": 1, "precision": "float32", "checkpoint_steps": 2, **changes}
    return TrainingPlan(name="shapes", model=model, stages=stages, **settings)  # type: ignore[arg-type]


def captions_plan(steps: int) -> TrainingPlan:
    """The shapes' model with a decoder that reads the image; first the contrast, then captions."""
    plan = shapes_plan(steps=steps, checkpoint_steps=1000)
    decoder = StackSpec(layers=1, width=32, heads=2, cross=Cross(width=32))
    model = replace(
        plan.model,
        stacks={**plan.model.stacks, "decoder": decoder},
        passes={
            **plan.model.passes,
            "caption": Pass(
                stack="decoder", inputs=("words",), rules=("causal",), reads="image", first="[DEC]"
            ),
        },
        prepare={
            **plan.model.prepare,
            "words": replace(plan.model.prepare["words"], extra=("[DEC]",)),
        },
    )
    contrast, captions = plan.stages
    captions = replace(
        captions,
        objectives=(Captions(),),
        weights={},
        batch=16,
        optimizer=Optimizer(lr=6e-3),
    )
    return replace(plan, model=model, stages=(replace(contrast, steps=5), captions))


def all_plan(**changes: object) -> TrainingPlan:
    """What a run can hold, in two stages.

    First a twin and its queue, hard negatives and chunks; then an average of the weights, and a
    batch of each of two releases in every step.
    """
    plan = shapes_plan(steps=4, checkpoint_steps=3, validate_steps=2, **changes)
    first, second = plan.stages
    first = replace(first, chunk=3, momentum=Momentum(keep=0.9, queue=20))
    second = replace(second, data={"web": 3.0, "clean": 1.0}, mixing="accumulate", ema=0.8)
    return replace(plan, stages=(first, second))


def random_plan() -> TrainingPlan:
    """The same with everything that draws numbers: dropout, sampled patches, MixGen, soft
    targets.
    """
    plan = all_plan()
    embeds = dict(plan.model.embeds)
    embeds["words"] = replace(embeds["words"], dropout=0.1)
    embeds["patches"] = replace(embeds["patches"], dropout=0.1, sample=12)
    stacks = {
        name: replace(stack, dropout=0.1, attention_dropout=0.1)
        for name, stack in plan.model.stacks.items()
    }
    first, second = plan.stages
    contrast, matching, _ = first.objectives
    soft = (contrast, matching, MaskedWords(soft=True))
    first = replace(first, mixgen=0.5, objectives=soft)
    second = replace(second, mixgen=0.5, momentum=Momentum(keep=0.9, queue=40, alpha_warmup=3))
    model = replace(plan.model, embeds=embeds, stacks=stacks)
    return replace(plan, model=model, stages=(first, second))


class Killed(BaseException):
    """In the place of a kill: nobody tidies up behind it."""


def trained(
    plan: TrainingPlan,
    folder: Path,
    name: str,
    *,
    stop: int = 0,
    kill: int = 0,
    ids: bool = False,
    workers: int = 0,
    amend: bool = False,
) -> None:
    """Train on folder/web and folder/clean into folder/name, till a stop is asked after a step.

    `kill`: Killed is raised after a step, when its line is written and before its checkpoint is;
    those that were begun before are whole.
    `ids`: what this rank saw of every step goes to folder/name-RANK.json.
    """
    seen: list[list[str]] = []
    step_of = loop.train_step

    def step(run: Run, batches: list[Weighted]) -> dict[str, float]:
        seen.append([sample for one in batches for sample in one.batch.ids])
        return step_of(run, batches)

    def told(progress: loop.Progress) -> None:
        if progress.step == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        if progress.step == kill:
            raise Killed

    loop.train_step = step  # type: ignore[assignment]
    releases = {one: folder / one for one in plan.releases}
    try:
        out = folder / name
        train(
            plan,
            releases=releases,
            out=out,
            workers=workers,
            amend=amend,
            on_progress=told,
            say=str,
        )
    except KeyboardInterrupt:
        assert stop, "nobody asked"
    finally:
        loop.train_step = step_of
        if ids:
            rank = os.environ.get("RANK", "0")
            (folder / f"{name}-{rank}.json").write_text(json.dumps(seen))
