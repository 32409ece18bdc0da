"""Shapes that several recipes share: the towers of the papers, small ones, and given ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from training.config import decode
from training.data.features import FeatureSpec
from training.data.images import ImageSpec
from training.data.tokenizer import TextSpec
from training.data.towers import (
    TowerSpec,
    image_tower,
    is_timm,
    prepared_as,
    text_prepared_as,
)
from training.embed import GridSpec, PatchesSpec, QueriesSpec, WordsSpec
from training.export import CONFIG, TOWER, decode_objectives
from training.folder import read_json
from training.heads import ClassifySpec, Pooling, ProjectSpec, ScaleSpec, VocabularySpec
from training.masks import RuleName
from training.model import EmbedSpec, HeadSpec, ModelSpec, Pass, PrepareSpec
from training.objectives.itm import Matching
from training.plan import AnyObjective
from training.stack import Cross, StackSpec
from training.tokens import Segment
from training.weights.files import read

PIXELS = 64  # a side, of images that two cores can learn from
COMPONENTS = 256  # of EfficientNet-Lite0's 1,280: retrieval notices no loss (docs/log.md)


def trained(folder: str) -> tuple[ModelSpec, tuple[AnyObjective, ...]]:
    """A model that was exported, read from where it lies, and what it was trained for."""
    home = Path(folder)
    if not (home / CONFIG).is_file():
        raise ValueError(f"finetune: {home} holds no model; give the folder `model` of a run")
    plain = read_json(home / CONFIG)
    spec = decode(ModelSpec, plain["model"], f"{home / CONFIG}: model")
    prepare: dict[str, PrepareSpec] = {}
    for name, one in spec.prepare.items():
        kept = home / "prepare" / name
        if isinstance(one, TextSpec):
            one = replace(one, vocabulary=str(kept / "tokenizer.json"))
        elif isinstance(one, FeatureSpec):
            one = one.moved(str(kept / TOWER))
        prepare[name] = one
    objectives = decode_objectives(plain.get("objectives", []), home / CONFIG)
    return replace(spec, prepare=prepare), objectives


def only(spec: ModelSpec, node: str) -> ModelSpec:
    """What a model needs to come to one pass; without heads."""
    wanted, open_ = {node}, [node]
    while open_:
        step = spec.passes.get(open_.pop())
        if step is not None:
            found = {*step.inputs, *filter(None, [step.reads])} - wanted
            wanted |= found
            open_ += found
    passes = {name: step for name, step in spec.passes.items() if name in wanted}
    stacks = {step.stack for step in passes.values()}
    return ModelSpec(
        embeds={name: one for name, one in spec.embeds.items() if name in wanted},
        stacks={name: one for name, one in spec.stacks.items() if name in stacks},
        passes=passes,
        prepare={name: one for name, one in spec.prepare.items() if name in wanted},
    )


def answering(spec: ModelSpec, matching: Matching, *, classes: int, joined: int) -> ClassifySpec:
    """ViLT's head for answers, above whatever the head of the matching looks at."""
    head = spec.heads[matching.head]
    assert isinstance(head, ClassifySpec), "a matching has two classes"
    return replace(head, classes=classes, joined=joined, hidden=2 * head.width)


def vit(*, layers: int, width: int, heads: int, dropout: float = 0.0) -> StackSpec:
    """ViT: pre-norm, a norm behind (Dosovitskiy et al. 2021)."""
    return StackSpec(layers=layers, width=width, heads=heads, eps=1e-6, dropout=dropout)


def bert(
    *,
    layers: int,
    width: int,
    heads: int,
    cross: Cross | None = None,
    attentions: tuple[str, ...] = ("self",),
    dropout: float = 0.1,
) -> StackSpec:
    """BERT: post-norm (Devlin et al. 2019); with `cross` it reads an image in its blocks."""
    return StackSpec(
        layers=layers,
        width=width,
        heads=heads,
        norm="post",
        eps=1e-12,
        dropout=dropout,
        attention_dropout=dropout,
        cross=cross,
        attentions=attentions,
    )


def albef_heads(*, image: int, text: int, shared: int) -> dict[str, HeadSpec]:
    """What ALBEF and BLIP ask of images and texts of these widths: contrast, matching, words."""
    return {
        "image_project": ProjectSpec(width=image, dim=shared),
        "text_project": ProjectSpec(width=text, dim=shared),
        "scale": ScaleSpec(lowest=2.0, highest=1000.0),  # temperatures .5 to .001
        "match": ClassifySpec(width=text, classes=2),
        "vocabulary": VocabularySpec(width=text, vocab=0, tied="words"),
    }


@dataclass(frozen=True, kw_only=True)
class Tower:
    """What a model needs of an image tower or a text tower.

    `embed` goes into the model as `name`, and `stack` takes it in, or looks at it with `queries`;
    `pool` is where the vector of the whole lies; `init` is what weights of the stack are loaded
    from ("": none are).
    """

    name: str
    embed: EmbedSpec
    stack: StackSpec
    prepare: PrepareSpec
    queries: QueriesSpec | None = None
    rules: tuple[RuleName, ...] = ("full",)
    pool: Pooling = "first"
    init: str = ""

    @property
    def embeds(self) -> dict[str, EmbedSpec]:
        """What the model embeds for it."""
        asked = {} if self.queries is None else {"queries": self.queries}
        return {self.name: self.embed, **asked}

    def run(self, stack: str) -> Pass:
        """The pass through its stack, which the model calls `stack`."""
        if self.queries is not None:
            return Pass(stack=stack, inputs=("queries",), reads=self.name)
        return Pass(stack=stack, inputs=(self.name,), rules=self.rules)


def asking(*, queries: int, layers: int, width: int, heads: int) -> tuple[QueriesSpec, StackSpec]:
    """Learned vectors that look at the tokens of a frozen tower (Perceiver, BLIP-2).

    A layer over 49 tokens costs a CPU four times what eight queries cost.
    """
    asked = QueriesSpec(count=queries, width=width)
    stack = StackSpec(
        layers=layers, width=width, heads=heads, cross=Cross(width=width), dropout=0.1
    )
    return asked, stack


def frozen_image(
    folder: str,
    stack: StackSpec,
    *,
    queries: QueriesSpec | None = None,
    drop: float = 0.3,
) -> Tower:
    """A stack of one's own on the tokens of a frozen tower, which are computed once and kept.

    Any image tower of timm or transformers, at its own size; in two views, cut to their principal
    components. A grid of a convolution has no places, so that it is given some; `drop` of the
    tokens and of their features are hidden in training.
    """
    tower = TowerSpec(folder=folder, library="timm" if is_timm(folder) else "transformers")
    prepare = prepared_as(tower)
    pixels = torch.zeros(1, 3, prepare.size, prepare.size)
    tokens, features = image_tower(tower, "cpu")(pixels).shape[1:]
    convolution = tokens == round(tokens**0.5) ** 2  # a ViT has a class token besides
    kept = min(COMPONENTS, features)
    grid = GridSpec(
        features=kept,
        width=stack.width,
        places=tokens if convolution else 0,
        norm=True,
        feature_dropout=drop,
        token_dropout=drop,
    )
    cut = FeatureSpec(
        tower=tower, prepare=prepare, reduce=kept if kept < features else 0, flip=True
    )
    return Tower(name="grid", embed=grid, stack=stack, prepare=cut, queries=queries, pool="mean")


def frozen_text(folder: str, *, length: int, trained: int = 1, drop: float = 0.3) -> Tower:
    """A text tower whose first layers are frozen and kept as what they say; the last are trained.

    Any text tower of transformers. `drop` of the tokens are hidden in training.
    """
    tower = TowerSpec(folder=folder, library="transformers", layers=-trained)
    given = given_text(folder, length=length)
    stack = replace(given.stack, layers=trained, attention_dropout=0.0)  # slow on a CPU
    states = GridSpec(
        features=stack.width,
        width=stack.width,
        segment=Segment.TEXT,
        linear=False,
        token_dropout=drop,
    )
    prepare = FeatureSpec(tower=tower, prepare=text_prepared_as(tower, length))
    return replace(given, name="states", embed=states, stack=stack, prepare=prepare)


def given_image(source: str, **how: Any) -> Tower:
    """A vision transformer as a file has it, to be trained: ViT, DeiT, DINOv2, CLIP, open_clip.

    `how` says more of the preprocessing, whose size, mean and deviation are the file's.
    """
    spec = read(source).family.spec
    patches = spec.embeds.get("patches")
    if not isinstance(patches, PatchesSpec) or "image" not in spec.stacks:
        raise ValueError(f"{source} holds no image tower, but {_held(spec)}: give a ViT or a CLIP")
    size = patches.grid * patches.patch
    told = ImageSpec(size=size)
    if Path(source).is_dir():
        told = prepared_as(TowerSpec(folder=source, library="transformers"), size)
    prepare = replace(told, patch=patches.patch, **how)
    stack = spec.stacks["image"]
    return Tower(name="patches", embed=patches, stack=stack, prepare=prepare, init=source)


def _held(spec: ModelSpec) -> str:
    return f"{', '.join(spec.embeds)} and the stacks {', '.join(spec.stacks)}"


def given_text(source: str, *, length: int) -> Tower:
    """A text tower as a file has it, to be trained: BERT and its kin by their mean, CLIP's."""
    spec = read(source).family.spec
    words = spec.embeds.get("words")
    if not isinstance(words, WordsSpec) or "text" not in spec.stacks:
        raise ValueError(f"{source} holds no text tower, but {_held(spec)}: give a BERT or a CLIP")
    rules = spec.passes["text"].rules
    return Tower(
        name="words",
        embed=replace(words, length=min(length, words.length)),
        stack=spec.stacks["text"],
        prepare=TextSpec(vocabulary=source, length=min(length, words.length)),
        rules=rules,
        pool="last" if rules == ("causal",) else "mean",
        init=source,
    )
