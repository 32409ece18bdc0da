"""What a model looks at: words carried to patches, and the patterns of its attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.attention import Attention
from training.data.reading import read_in_order
from training.data.tokenizer import Tokenizer
from training.embed import PatchesSpec
from training.evaluate.encoded import Tell, seen, silent
from training.evaluate.lines import Asked, opened
from training.evaluate.scorer import Scorer
from training.export import load_scorer
from training.objectives.wra import Alignment, ipot
from training.tokens import Segment, Tokens

SHOWN = 6  # images, spread evenly over what is asked about


def evaluate(
    model: str | Path | Scorer,
    asked: Asked,
    *,
    shown: int = SHOWN,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Of some images with a caption: word-patch alignment and patterns of attention.

    As plain data for a report; the image is kept as the model saw it, and the caption is the first
    one that has words. ValueError when the model does not join words and patches in one stack, or a
    number is none.
    """
    scorer = model if isinstance(model, Scorer) else load_scorer(model)
    check_joined(scorer)
    samples = opened(asked)
    looks: list[dict[str, Any]] = []
    unreadable = 0
    step = max(1, len(samples) // shown)
    chosen = {row: _worded(scorer, samples.texts(row)[0]) for row in range(0, len(samples), step)}
    rows = [row for row, text in chosen.items() if text]
    for part in read_in_order(samples, scorer.image_specs, rows, batch=shown, workers=workers):
        for place, row in enumerate(part.rows):
            if row in part.bad:
                unreadable += 1
            elif len(looks) < shown:
                pixels = {name: [of[place]] for name, of in part.images.items()}
                found = look(scorer, pixels, chosen[row])
                looks.append({"image_id": samples.image_id(row), **found})
        tell("look at pairs", len(looks), shown)
        if len(looks) == shown:
            break
    return {"pairs": looks, "unreadable": unreadable}


def _worded(scorer: Scorer, texts: Sequence[str]) -> str:
    """The first text that has words; "" if none has."""
    return next((text for text in texts if words_of(scorer, text)), "")


def check_joined(scorer: Scorer) -> None:
    """ValueError unless words and patches are tokens of one sequence."""
    matching = scorer.matching
    if matching is not None:
        step = scorer.model.spec.passes[matching.fused]
        if len(step.inputs) > 1 and not step.reads:
            return
    raise ValueError(
        "this model does not join words and patches in one stack: there is nothing to align"
    )


@torch.inference_mode()
def look(scorer: Scorer, image: Mapping[str, Sequence[Tensor]], text: str) -> dict[str, Any]:
    """One pair: its words, the grid, how words are carried to patches, what attends to what.

    `alignment` [words, rows, columns]: the share of each word that the optimal transport between
    words and patches carries to each patch, 1 a word (ViLT, figure 4); `distance` is what it costs.
    `patterns` [layers][heads]: `shares_of_patterns`. `image` is given decoded, [1][h, w, 3].
    """
    check_joined(scorer)
    matching = scorer.matching
    assert matching is not None, "checked above"
    scorer.forget()
    scorer.pixels(image, plain=True)
    scorer.texts([text])
    step = scorer.model.spec.passes[matching.fused]
    one = torch.zeros(1, dtype=torch.int64)
    with attention_of(scorer.model.stacks[step.stack]) as weights:
        odds = scorer.match(one, one)
    fused = scorer.fused(one, one)

    rows, columns = _grid(scorer, fused)
    first = fused.part(Segment.IMAGE).x.shape[1] - rows * columns
    plan, distance = transport(fused, first)
    words = words_of(scorer, text)
    if not words:
        raise ValueError(f"the text {text!r} has no words that the model knows of")
    carried = _carried(plan, words).reshape(len(words), rows, columns)
    probability = float(torch.sigmoid(odds)[0])
    if not np.isfinite(carried).all() or not np.isfinite(probability):
        raise ValueError("scores are not numbers: the model has come apart; train it again")
    layers = weights[-scorer.model.spec.stacks[step.stack].layers :]  # towers may share the stack
    return {
        "text": text,
        "words": [word for word, _ in words],
        "grid": [rows, columns],
        "image": seen(next(iter(image.values()))[0]),
        "probability": probability,
        "distance": distance,
        "alignment": [[[round(v, 5) for v in line] for line in word] for word in carried.tolist()],
        "patterns": [shares_of_patterns(layer[0], fused.segments()) for layer in layers],
    }


def transport(fused: Tokens, first: int) -> tuple[NDArray[np.float64], float]:
    """The plan [pieces, patches] between a text's inner pieces and an image's patches; its cost.

    fused: one row; `first` tokens of the image stand before its patches and take no part.
    """
    alignment = Alignment(class_token=False)
    cost, text, image = alignment.cost(fused)
    image = image.clone()
    image[:, :first] = False
    cost = cost.masked_fill(~image[:, None, :], 0.0)
    plan = ipot(cost, text, image, alignment.beta, alignment.iterations)
    distance = float((cost * plan).sum())
    kept: NDArray[np.float64] = plan[0][:, first:].double().cpu().numpy()
    return kept, distance


def _carried(plan: NDArray[np.float64], words: Sequence[tuple[str, list[int]]]) -> Any:
    """[words, patches]: what goes from the pieces of each word, as shares of it."""
    rows = np.stack([plan[pieces].sum(0) for _, pieces in words])
    total = rows.sum(1, keepdims=True)
    return rows / np.where(total == 0, 1, total)


def words_of(scorer: Scorer, text: str) -> list[tuple[str, list[int]]]:
    """Words of a text as the model reads it, each with the places of its pieces."""
    tokenizer = _tokenizer(scorer)
    given = tokenizer([text])
    ids, valid = given.ids[0].tolist(), given.valid[0].tolist()
    words: list[tuple[list[int], list[int]]] = []
    for place in range(1, sum(valid) - 1):
        piece = ids[place]
        if words and bool(given.pieces.continues[piece]):
            words[-1][0].append(piece)
            words[-1][1].append(place)
        else:
            words.append(([piece], [place]))
    return [(tokenizer.text_of(pieces) or "?", places) for pieces, places in words]


def _tokenizer(scorer: Scorer) -> Tokenizer:
    found = [one for one in scorer.prepared.values() if isinstance(one, Tokenizer)]
    if not found:
        raise ValueError("the words of this model come from a frozen tower: they are not told")
    return found[0]


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


@contextmanager
def attention_of(stack: nn.Module) -> Iterator[list[Tensor]]:
    """What the self-attentions of a stack weigh: [n, heads, queries, keys] a layer, as they run."""
    found: list[Tensor] = []

    def listen(module: nn.Module, given: tuple[Any, ...], out: object) -> None:
        assert isinstance(module, Attention), "only attentions are listened to"
        found.append(_weights(module, *given[:2]))

    handles = [
        module.register_forward_hook(listen)
        for module in stack.modules()
        if isinstance(module, Attention) and not module.is_cross
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _weights(attention: Attention, x: Tensor, mask: Any) -> Tensor:
    n, tokens, _ = x.shape
    query, key, _ = attention.qkv(x).float().chunk(3, dim=-1)
    width = query.shape[-1] // attention.heads
    query = query.view(n, tokens, attention.heads, width).transpose(1, 2)
    key = key.view(n, tokens, attention.heads, width).transpose(1, 2)
    logits = query @ key.transpose(2, 3) * width**-0.5
    if mask.is_causal:
        later = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).triu(1)
        logits = logits.masked_fill(later, -torch.inf)
    if mask.dense is not None:
        logits = logits.masked_fill(~mask.dense, -torch.inf)
    weights: Tensor = logits.softmax(-1)
    return weights


def shares_of_patterns(weights: Tensor, segments: Tensor) -> list[dict[str, Any]]:
    """UNITER's patterns in the attention of each head: [heads, t, t], segments [t].

    Shares of all attention: `vertical` goes to the one token that gets most; `diagonal` to a token
    itself and its neighbours of the same segment; `block` stays within words or within patches;
    `reversed_block` goes across. They overlap. `even` holds what attention that is the same
    everywhere would give, and `pattern` names the share that exceeds it most, of what it could.
    """
    tokens = len(segments)
    same = segments[:, None] == segments[None, :]
    place = torch.arange(tokens, device=segments.device)
    near = same & ((place[:, None] - place[None, :]).abs() <= 1)
    even = _shares(torch.full((1, tokens, tokens), 1 / tokens, device=weights.device), same, near)
    found = []
    for head in _shares(weights, same, near):
        excess = {
            name: (head[name] - even[0][name]) / max(1 - even[0][name], 1e-9) for name in head
        }
        pattern = max(excess, key=lambda name: excess[name])
        rounded = {name: round(value, 4) for name, value in head.items()}
        found.append({**rounded, "even": even[0], "pattern": pattern})
    return found


def _shares(weights: Tensor, same: Tensor, near: Tensor) -> list[dict[str, float]]:
    tokens = len(same)
    found: list[Mapping[str, Tensor]] = []
    for head in weights.double():
        found.append(
            {
                "vertical": head.mean(0).max(),
                "diagonal": (head * near).sum() / tokens,
                "block": (head * same).sum() / tokens,
                "reversed_block": (head * ~same).sum() / tokens,
            }
        )
    return [{name: round(float(value), 6) for name, value in one.items()} for one in found]
