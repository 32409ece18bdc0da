"""Tiny models of the kinds in the literature, and batches for them."""

from collections.abc import Sequence

import torch

from training.corrupt import Pieces
from training.embed import PatchesSpec, WordsSpec
from training.heads import ClassifySpec, ProjectSpec, ScaleSpec, VocabularySpec
from training.inputs import ImageInput, Input, TextInput
from training.model import Model, ModelSpec, Pass, initialise
from training.negatives import Keys
from training.objectives.base import Objective
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.objectives.mlm import MaskedWords
from training.objectives.wra import Alignment
from training.stack import Cross, StackSpec

VOCABULARY = 50


def vilt() -> tuple[ModelSpec, list[Objective]]:
    """One stack over words and sampled patches."""
    spec = ModelSpec(
        embeds={
            "words": WordsSpec(vocab=VOCABULARY, width=16, length=9, modality=True),
            "patches": PatchesSpec(patch=4, width=16, grid=3, modality=True, sample=6),
        },
        stacks={"fusion": StackSpec(layers=2, width=16, heads=2)},
        passes={"match": Pass(stack="fusion", inputs=("words", "patches"))},
        heads={
            "match": ClassifySpec(width=16, classes=2, tanh=True),
            "vocabulary": VocabularySpec(width=16, vocab=VOCABULARY),
        },
    )
    return spec, [MaskedWords(), Matching(false="half", alignment=Alignment())]


def blip() -> tuple[ModelSpec, list[Objective]]:
    """Two towers; one text stack that encodes, matches and captions."""
    spec = ModelSpec(
        embeds={
            "words": WordsSpec(vocab=VOCABULARY, width=16, length=9, types=0),
            "patches": PatchesSpec(patch=4, width=12, grid=3),
        },
        stacks={
            "image": StackSpec(layers=2, width=12, heads=2),
            "text": StackSpec(
                layers=2,
                width=16,
                heads=2,
                norm="post",
                cross=Cross(width=12),
                attentions=("both", "causal"),
            ),
        },
        passes={
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
        },
        heads={
            "image_project": ProjectSpec(width=12, dim=8),
            "text_project": ProjectSpec(width=16, dim=8),
            "scale": ScaleSpec(),
            "match": ClassifySpec(width=16, classes=2),
            "vocabulary": VocabularySpec(width=16, vocab=VOCABULARY, tied="words"),
        },
    )
    contrast = Contrast()
    return spec, [contrast, Matching(contrast=contrast), Captions(smoothing=0.1)]


def build(spec: ModelSpec, seed: int = 1) -> Model:
    """Random weights in float64, ready to train."""
    model = Model(spec).double()
    initialise(model, torch.Generator().manual_seed(seed))
    return model.train()


def batch(rows: int, seed: int = 0) -> tuple[dict[str, Input], Keys]:
    """Texts of 4 to 8 pieces, images of 9 patches; every two rows show the same image."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (rows, 8), generator=generator)
    length = torch.randint(4, 9, (rows,), generator=generator)
    valid = torch.arange(8)[None] < length[:, None]
    ids = ids * valid
    ids[:, 0] = 2

    text = TextInput(ids=ids, valid=valid, pieces=pieces(), firsts={"[ENC]": 3, "[DEC]": 1})
    pixels = torch.randn(rows, 3, 12, 12, generator=generator, dtype=torch.float64)
    number = torch.arange(rows)
    keys = Keys(image=number // 2, text=number + 100, source=torch.zeros_like(number))
    return {"words": text, "patches": ImageInput(pixels=pixels)}, keys


def pieces() -> Pieces:
    """The last ten pieces go on with a word, the first five are special."""
    number = torch.arange(VOCABULARY)
    return Pieces(continues=number >= 40, special=number < 5, mask=4)


def rows_of(
    inputs: dict[str, Input], keys: Keys, start: int, stop: int
) -> tuple[dict[str, Input], Keys]:
    """A rank's share of a batch."""
    return {name: given.rows(start, stop) for name, given in inputs.items()}, keys.rows(start, stop)


def names(objectives: Sequence[Objective]) -> list[str]:
    """The losses of all objectives."""
    return [name for objective in objectives for name in objective.losses]
