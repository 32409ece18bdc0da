"""Word-patch alignment of pairs, with the patterns of the attention, as plain data for a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.reading import read_in_order
from training.data.tokenizer import Tokenizer
from training.embed import PatchesSpec
from training.evaluate.attention_patterns import attention_of, shares_of_patterns
from training.evaluate.encoded import AnyModel, Tell, data_uri, scorer_of, silent
from training.evaluate.lines import Asked, opened
from training.evaluate.scorer import Scorer
from training.objectives.itm import Matching
from training.objectives.wra import Alignment, ipot
from training.tokens import Segment, Tokens

SHOWN = 6  # images, spread evenly over the samples

Word = tuple[str, list[int]]  # with the positions of its pieces


def evaluate(
    model: AnyModel,
    asked: Asked,
    *,
    shown: int = SHOWN,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Of some images with a caption: word-patch alignment and patterns of attention.

    The image is kept as the model saw it, and the caption is the first one that has words.
    ValueError when the model does not join words and patches in one stack, or a number is none.
    """
    scorer = scorer_of(model)
    joined_matching(scorer)
    samples = opened(asked)
    captions = {}
    step = max(1, len(samples) // shown)
    for row in range(0, len(samples), step):
        for text in samples.texts(row)[0]:
            if words_of(scorer, text):
                captions[row] = text
                break

    pairs: list[dict[str, Any]] = []
    unreadable = 0
    specs = scorer.image_specs
    for part in read_in_order(samples, specs, list(captions), batch=shown, workers=workers):
        for position, row in enumerate(part.rows[: shown - len(pairs)]):
            image = {name: [images[position]] for name, images in part.images.items()}
            pair = look(scorer, image, captions[row])
            pairs.append({"image_id": samples.image_id(row), **pair})
        unreadable += len(part.bad)
        tell("look at pairs", len(pairs), shown)
        if len(pairs) == shown:
            break
    return {"pairs": pairs, "unreadable": unreadable}


def joined_matching(scorer: Scorer) -> Matching:
    """The matching objective; ValueError unless words and patches are tokens of one sequence."""
    matching = scorer.matching
    if matching is not None:
        step = scorer.model.spec.passes[matching.fused]
        if len(step.inputs) > 1 and not step.reads:
            return matching
    raise ValueError(
        "this model does not join words and patches in one stack, as `vilt` does: there is "
        "nothing to align"
    )


@torch.inference_mode()
def look(scorer: Scorer, image: Mapping[str, Sequence[Tensor]], text: str) -> dict[str, Any]:
    """One pair: its words, the grid, how words are carried to patches, what attends to what.

    `alignment` [words, rows, columns]: the share of each word that the optimal transport between
    words and patches carries to each patch, 1 a word (ViLT, figure 4); `distance` is what it costs.
    `patterns` [layers][heads]: `shares_of_patterns`. `image` is decoded, [1][h, w, 3].
    """
    matching = joined_matching(scorer)
    words = words_of(scorer, text)
    if not words:
        raise ValueError(f"the text {text!r} has no words that the model knows of")

    scorer.forget()
    scorer.pixels(image, plain=True)
    scorer.texts([text])
    step = scorer.model.spec.passes[matching.fused]
    first_row = torch.zeros(1, dtype=torch.int64)
    with attention_of(scorer.model.stacks[step.stack]) as attention:
        odds = scorer.match(first_row, first_row)
    probability = float(torch.sigmoid(odds)[0])
    fused = scorer.fused(first_row, first_row)

    rows, columns = _grid(scorer, fused)
    tokens = fused.part(Segment.IMAGE).x.shape[1]
    plan, distance = transport(fused, tokens - rows * columns)
    alignment = _word_shares(plan, words).reshape(len(words), rows, columns)
    if not np.isfinite(alignment).all() or not np.isfinite(probability):
        raise ValueError("scores are not numbers: the model has come apart; train it again")

    layers = scorer.model.spec.stacks[step.stack].layers
    segments = fused.segments()
    patterns = []
    for weights in attention[-layers:]:  # towers may share the stack
        patterns.append(shares_of_patterns(weights[0], segments))
    pixels = next(iter(image.values()))
    return {
        "text": text,
        "words": [word for word, _ in words],
        "grid": [rows, columns],
        "image": data_uri(pixels[0]),
        "probability": probability,
        "distance": distance,
        "alignment": alignment.round(5).tolist(),
        "patterns": patterns,
    }


def transport(fused: Tokens, first: int) -> tuple[NDArray[np.float64], float]:
    """The plan [pieces, patches] between a text's inner pieces and an image's patches; its cost.

    fused: one row; `first` tokens of the image stand before its patches and take no part.
    """
    objective = Alignment(class_token=False)
    cost, text, image = objective.cost(fused)
    image = image.clone()
    image[:, :first] = False
    cost = cost.masked_fill(~image[:, None, :], 0.0)
    plan = ipot(cost, text, image, objective.beta, objective.iterations)
    distance = float((cost * plan).sum())
    of_patches = plan[0][:, first:].double()
    return of_patches.cpu().numpy(), distance


def _word_shares(plan: NDArray[np.float64], words: Sequence[Word]) -> NDArray[np.float64]:
    """[words, patches]: what goes from the pieces of each word, as shares of it."""
    shares: NDArray[np.float64] = np.stack([plan[positions].sum(0) for _, positions in words])
    total = shares.sum(1, keepdims=True)
    total[total == 0] = 1
    shares /= total
    return shares


def words_of(scorer: Scorer, text: str) -> list[Word]:
    """Words of a text as the model reads it, each with the positions of its pieces."""
    tokenizer = _tokenizer(scorer)
    tokens = tokenizer([text])
    ids = tokens.ids[0]
    positions: list[list[int]] = []
    for position in range(1, int(tokens.valid.sum()) - 1):  # between the first and the last piece
        if positions and bool(tokens.pieces.continues[ids[position]]):
            positions[-1].append(position)
        else:
            positions.append([position])

    words = []
    for of_word in positions:
        word = tokenizer.text_of(ids[of_word].tolist())
        words.append((word or "?", of_word))
    return words


def _tokenizer(scorer: Scorer) -> Tokenizer:
    for prepared in scorer.prepared.values():
        if isinstance(prepared, Tokenizer):
            return prepared
    raise ValueError("the words of this model come from a frozen tower: they are not known here")


def _grid(scorer: Scorer, fused: Tokens) -> tuple[int, int]:
    """Rows and columns of patches of the one image that the scorer holds."""
    (name,) = scorer.image_specs
    spec = scorer.model.spec.embeds[name]
    if isinstance(spec, PatchesSpec):
        height, width = scorer.size_of_image(name)
        return height // spec.patch, width // spec.patch

    tokens = fused.part(Segment.IMAGE).x.shape[1]
    side = int(tokens**0.5)
    if side * side != tokens:
        raise ValueError(f"{tokens} features of an image are no square grid")
    return side, side
