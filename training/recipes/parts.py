"""Shapes that several recipes share: the towers of the papers, small ones, and those of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any

from training.data.augment import RandAugment
from training.data.features import FeatureSpec
from training.data.images import CLIP_MEAN, CLIP_STD, ImageSpec
from training.data.tokenizer import CAPTIONS, TextSpec
from training.data.towers import (
    TowerSpec,
    given_folder,
    is_timm,
    prepared_as,
    text_prepared_as,
)
from training.embed import GridSpec, PatchesSpec, WordsSpec
from training.export import tower_shape
from training.finetune import trained
from training.heads import ClassifySpec, Pooling, ProjectSpec, ScaleSpec, VocabularySpec
from training.hub import find_file
from training.masks import RuleName
from training.model import EmbedSpec, HeadSpec, ModelSpec, Pass, PrepareSpec
from training.objectives.base import first_of
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.plan import AnyObjective, TrainingStage
from training.stack import Cross, StackSpec
from training.tokens import Segment
from training.weights.files import check_sources, read

PIXELS = 64  # a side, of images that two cores can learn from
COMPONENTS = 256  # of EfficientNet-Lite0's 1,280: retrieval notices no loss (docs/log.md)


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


def albef_texts(*, vocabulary: str | None, drawn: bool) -> TextSpec:
    """ALBEF's captions: 30 words and 25 pieces at most; those of `drawn` scenes have few words."""
    return TextSpec(
        vocabulary=vocabulary or CAPTIONS,
        length=25,
        size=2000 if drawn else 30522,
        clean="albef",
        words=30,
    )


def albef_images(*, patch: int, pixels: int, drawn: bool) -> ImageSpec:
    """Crops, flips and two operations of strength 7; drawn scenes say where things are: none."""
    images = ImageSpec(size=pixels, patch=patch, mean=CLIP_MEAN, std=CLIP_STD)
    if drawn:
        return images
    operations = RandAugment(operations="blip", strength=7, probability=0.5)
    return replace(images, how="crop", evaluate="square", flip=True, augment=operations)


def for_drawn_scenes(stage: TrainingStage) -> TrainingStage:
    """A paper's stage for some thousand drawn scenes: minutes on two cores, a queue to match."""
    momentum = stage.momentum
    if momentum is not None:
        momentum = replace(momentum, queue=512, alpha_warmup=150)
    return replace(
        stage,
        steps=1500,
        batch=32,
        chunk=0,
        optimizer=replace(stage.optimizer, lr=1e-3),
        schedule=replace(stage.schedule, warmup=100),
        momentum=momentum,
    )


def vilt_stack(*, layers: int, width: int, heads: int, dropout: float) -> StackSpec:
    """The one stack; transformers' ViLT has one epsilon for all norms (the paper's: 1e-6)."""
    return replace(vit(layers=layers, width=width, heads=heads, dropout=dropout), eps=1e-12)


def vilt_patches(
    *, patch: int, width: int, pixels: int, sample: int, dropout: float
) -> PatchesSpec:
    """Patches at places of ViT's grid, interpolated as ViLT does; at most `sample` are drawn."""
    return PatchesSpec(
        patch=patch,
        width=width,
        grid=pixels // patch,
        interpolation="bilinear",
        align_corners=True,
        modality=True,
        sample=sample,
        dropout=dropout,
    )


def vilt_for_finetuning(folder: Path) -> ModelSpec:
    """A trained ViLT with all its patches and the paper's RandAugment; ValueError for another."""
    model, _ = trained(str(folder))
    patches, images = model.embeds.get("patches"), model.prepare.get("patches")
    if not (isinstance(patches, PatchesSpec) and isinstance(images, ImageSpec)):
        raise ValueError(f"finetune: {folder} holds another model than ViLT's words and patches")
    patches = replace(patches, sample=0)
    images = replace(images, augment=RandAugment(operations="vilt"))
    return replace(
        model,
        embeds={**model.embeds, "patches": patches},
        prepare={**model.prepare, "patches": images},
    )


def on_releases(
    stages: Sequence[TrainingStage], data: Mapping[str, float], share: float
) -> list[TrainingStage]:
    """Stages of a recipe on other releases, for a share of their steps."""
    return [
        replace(
            stage,
            name=f"{'-'.join(data)}-{stage.name}",
            data=data,
            steps=max(1, round(share * stage.steps)),
        )
        for stage in stages
    ]


def matching_alone(recipe: str, objectives: Sequence[AnyObjective]) -> tuple[AnyObjective, ...]:
    """A recipe's matching with false texts and false images, and its contrast if it has one.

    ValueError when there is no matching.
    """
    contrast = first_of(Contrast, objectives)
    matching = first_of(Matching, objectives)
    if matching is None:
        raise ValueError(f"over: {recipe} judges no pairs; take one that does, as albef does")
    matching = replace(matching, false="both", same_source=False, alignment=None)
    return (matching,) if contrast is None else (contrast, matching)


def given_language(source: str) -> str:
    """A causal language model, by its folder or name; ValueError where it is none."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    advice = "give the folder of a causal language model of transformers, or its name on the hub"
    try:
        config = find_file(source, "config.json")
        if config is None:
            raise ValueError(f"{source} has no config.json")
        kind = AutoConfig.from_pretrained(config.parent)
    except (OSError, ValueError) as error:
        raise ValueError(f"init text={source}: {error}; {advice}") from error
    if type(kind) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"init text={source}: a {kind.model_type} writes no texts; {advice}")
    return source


def patch_tower(folder: str, pixels: int) -> tuple[TowerSpec, ImageSpec]:
    """The tower that LLaVA asks, at its folder's own size; `pixels` is said of one not here yet.

    Of transformers the last layer but one; of timm what it says before pooling: the last grid of a
    convolution, or the tokens of a ViT's last layer.
    """
    if is_timm(folder):
        tower = TowerSpec(folder=folder, library="timm")
    else:
        tower = TowerSpec(folder=folder, library="transformers", layers=-1)
    return tower, prepared_as(tower, 0 if Path(folder).is_dir() else pixels)


@dataclass(frozen=True, kw_only=True)
class Tower:
    """What a model needs of an image tower or a text tower.

    `embed` goes into the model as `name`, and `stack` takes it in; `pool` is where the vector of
    the whole lies; `init` is what weights of the stack are loaded from ("": none are).
    """

    name: str
    embed: EmbedSpec
    stack: StackSpec
    prepare: PrepareSpec
    rules: tuple[RuleName, ...] = ("full",)
    pool: Pooling = "first"
    init: str = ""

    def run(self, stack: str) -> Pass:
        """The pass through its stack, which the model calls `stack`."""
        return Pass(stack=stack, inputs=(self.name,), rules=self.rules)


def frozen_image(folder: str, stack: StackSpec, *, drop: float = 0.3) -> Tower:
    """A stack of one's own on the tokens of a frozen tower, which are computed once and kept.

    Any image tower of timm or transformers, at its own size; in two views, cut to their principal
    components. A grid of a convolution has no places, so that it is given some; `drop` of the
    tokens and of their features are hidden in training.
    """
    folder = given_folder(folder, "image")
    tower = TowerSpec(folder=folder, library="timm" if is_timm(folder) else "transformers")
    prepare = prepared_as(tower)
    tokens, features = tower_shape(tower, prepare.size)
    is_convolution = tokens == isqrt(tokens) ** 2  # a ViT has a class token besides
    kept = min(COMPONENTS, features)
    grid = GridSpec(
        features=kept,
        width=stack.width,
        places=tokens if is_convolution else 0,
        norm=True,
        feature_dropout=drop,
        token_dropout=drop,
    )
    reduce = kept if kept < features else 0
    kept_features = FeatureSpec(tower=tower, prepare=prepare, reduce=reduce, flip=True)
    return Tower(name="grid", embed=grid, stack=stack, prepare=kept_features, pool="mean")


def frozen_text(folder: str, *, length: int, trained: int = 1, drop: float = 0.3) -> Tower:
    """A text tower whose first layers are frozen and kept as what they say; the last are trained.

    Any text tower of transformers. `drop` of the tokens are hidden in training.
    """
    folder = given_folder(folder, "text")
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
    check_sources({"image": source})
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
    check_sources({"text": source})
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
