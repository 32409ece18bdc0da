"""Retrieval on captioned pictures, and match scores of given pairs."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from training.first.data import decode, scale
from training.first.files import load_model
from training.first.fusion import FusionModel, Tokens
from training.first.tokenizer import Tokenizer
from training.threads import threads as using

CUTS = (1, 5, 10)  # R@1, R@5, R@10: what the papers report


@dataclass(frozen=True, kw_only=True)
class Line:
    """One picture and its captions."""

    image: Path
    captions: tuple[str, ...]
    where: str  # file and line number, for messages


def read_lines(captions_jsonl: str | Path) -> list[Line]:
    """Lines of {"image": path, "captions": [...]}; a path is taken from the file's own folder. ValueError names file and line."""
    path = Path(captions_jsonl)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give lines of {{'image': path, 'captions': [text, ...]}}")
    with path.open(encoding="utf-8") as file:
        lines = [_line(text, path, number) for number, text in enumerate(file, start=1) if text.strip()]
    if not lines:
        raise ValueError(f"{path}: the file is empty; give at least one line of {{'image': path, 'captions': [text, ...]}}")
    return lines


def _line(text: str, path: Path, number: int) -> Line:
    where = f"{path}, line {number}"
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get("image"), str):
        raise ValueError(f"{where}: needs \"image\", the path of a picture")
    captions = value.get("captions")
    if not isinstance(captions, list) or not captions or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"{where}: needs \"captions\", a list of at least one text")
    image = path.parent / value["image"]
    if not image.is_file():
        raise ValueError(f"{where}: no such picture: {image}")
    return Line(image=image, captions=tuple(captions), where=where)


def evaluate(model_path: str | Path, captions_jsonl: str | Path, *, shortlist: int = 32, threads: int = 0) -> dict[str, Any]:
    """Recall in percent at 1, 5 and 10, both ways, over all pictures and captions of the file.

    Each modality is encoded once. A model with projections ranks by their cosines first; fusion scores only the best `shortlist` of each
    picture and of each caption, and both scores are added (BLIP). Without projections, or with shortlist 0, all pairs are fused. A picture
    counts as right when any of its captions ranks high enough (Karpathy and Fei-Fei 2015). A tie counts against the model.
    `threads` of torch, 0 for its own choice; a small model is no slower with one.
    """
    lines = read_lines(captions_jsonl)
    with using(threads), torch.inference_mode():
        scorer = Scorer.load(model_path)
        images = scorer.images([line.image for line in lines], [line.where for line in lines])
        texts = scorer.texts([caption for line in lines for caption in line.captions])
        scores, scored = scorer.table(images, texts, shortlist)
    owner = np.repeat(np.arange(len(lines)), [len(line.captions) for line in lines])
    return {**recalls(scores.double().numpy(), owner), "candidates": len(lines), "captions": len(owner), "pairs_fused": scored}


def recalls(scores: NDArray[np.float64], owner: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """scores [images, captions] and the image that each caption belongs to -> R@k in percent, both ways."""
    captions = np.arange(len(owner))
    own = scores[owner, captions]
    better = (scores >= own[None, :]).sum(axis=0)  # the true one counts itself: 1 is the best rank
    mine = owner[None, :] == np.arange(len(scores))[:, None]
    best = np.where(mine, scores, -np.inf).max(axis=1)
    worse = (~mine & (scores >= best[:, None])).sum(axis=1) + 1
    return {"text_to_image": _at(better), "image_to_text": _at(worse)}


def _at(ranks: NDArray[np.int64]) -> dict[str, float]:
    return {f"r{cut}": round(100.0 * float((ranks <= cut).mean()), 2) for cut in CUTS}


def match(model_path: str | Path, captions_jsonl: str | Path, *, threads: int = 0) -> list[dict[str, Any]]:
    """The probability that each given pair belongs together: one {"image", "caption", "score"} for each caption, in the file's order."""
    lines = read_lines(captions_jsonl)
    with using(threads), torch.inference_mode():
        scorer = Scorer.load(model_path)
        images = scorer.images([line.image for line in lines], [line.where for line in lines])
        texts = scorer.texts([caption for line in lines for caption in line.captions])
        owner = torch.tensor([row for row, line in enumerate(lines) for _ in line.captions])
        scores = torch.sigmoid(scorer.pairs(images, texts, owner, torch.arange(len(owner))))
    named = [(str(line.image), caption) for line in lines for caption in line.captions]
    return [
        {"image": image, "caption": caption, "score": score} for (image, caption), score in zip(named, scores.tolist(), strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A trained model that scores pictures against texts; pictures and texts are encoded once, pairs are fused in batches."""

    model: FusionModel
    tokenizer: Tokenizer
    batch: int = 256

    @classmethod
    def load(cls, model_path: str | Path) -> "Scorer":
        """From an exported folder."""
        model, tokenizer = load_model(model_path)
        return cls(model=model, tokenizer=tokenizer)

    def images(self, paths: Sequence[Path], names: Sequence[str]) -> Tokens:
        """Encoded pictures; `names` say in an error which one could not be read."""
        side = self.model.spec.image_size
        with ThreadPoolExecutor(max_workers=2) as pool:
            pixels = list(pool.map(lambda path, name: _picture(path, name, side), paths, names))
        parts = [self.model.encode_image(scale(np.stack(pixels[start : start + self.batch]))) for start in _starts(len(pixels), self.batch)]
        return Tokens(x=torch.cat([part.x for part in parts]))

    def encoded(self, pictures: Sequence[bytes]) -> Tokens:
        """Encoded pictures from their bytes."""
        side = self.model.spec.image_size
        parts = [
            self.model.encode_image(scale(np.stack([decode(data, side) for data in pictures[start : start + self.batch]])))
            for start in _starts(len(pictures), self.batch)
        ]
        return Tokens(x=torch.cat([part.x for part in parts]))

    def texts(self, texts: Sequence[str]) -> Tokens:
        """Encoded texts."""
        return self.model.encode_text(self.tokenizer.ids(texts))

    def pairs(self, images: Tokens, texts: Tokens, image_rows: Tensor, text_rows: Tensor) -> Tensor:
        """Log odds of a match for chosen pairs; [n]."""
        found = [torch.zeros(0)]
        for start in _starts(len(image_rows), self.batch):
            chosen = slice(start, start + self.batch)
            logits = self.model.match(texts[text_rows[chosen]], images[image_rows[chosen]]).float()
            found.append(logits[:, 1] - logits[:, 0])
        return torch.cat(found)

    def table(self, images: Tokens, texts: Tokens, shortlist: int) -> tuple[Tensor, int]:
        """Scores [images, texts], and how many pairs were fused; a pair that was not stands below all that were."""
        shape = (len(images.x), len(texts.x))
        near = torch.zeros(shape)
        wanted = torch.ones(shape, dtype=torch.bool)
        if self.model.spec.project:
            near = self.model.project_image(images) @ self.model.project_text(texts).T * self.model.log_scale.exp()
            wanted = _best(near, shortlist) if shortlist else wanted
        image_rows, text_rows = wanted.nonzero(as_tuple=True)
        scores = near - 1e4  # far below any sum of log odds and scaled cosine
        scores[image_rows, text_rows] = near[image_rows, text_rows] + self.pairs(images, texts, image_rows, text_rows)
        return scores, len(image_rows)


def _best(near: Tensor, count: int) -> Tensor:
    """True for the best `count` of each row and of each column."""
    wanted = torch.zeros_like(near, dtype=torch.bool)
    wanted.scatter_(1, near.topk(min(count, near.shape[1]), dim=1).indices, True)
    return wanted.scatter_(0, near.topk(min(count, near.shape[0]), dim=0).indices, True)


def _picture(path: Path, name: str, side: int) -> NDArray[np.uint8]:
    try:
        return decode(path.read_bytes(), side)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: {path} cannot be read as a picture ({error})") from error


def _starts(total: int, batch: int) -> range:
    return range(0, total, batch)
