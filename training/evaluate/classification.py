"""Zero-shot classification: which class's name, in a sentence, is nearest to an image?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.evaluate.encoded import (
    AnyModel,
    Encoded,
    Tell,
    encode,
    left_out,
    numbers,
    scorer_of,
    silent,
)
from training.evaluate.lines import CaptionsFile, Line, lines_of
from training.evaluate.retrieval import shuffled

TEMPLATES = ("a photo of a {}.",)  # CLIP's; give several, and their vectors are averaged
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))
CUTS = (1, 5)
LABELLED = '{"image": path, "label": name}'

Accuracy = dict[str, float]


def evaluate(
    model: AnyModel,
    asked: str | Path,
    *,
    templates: Sequence[str] = TEMPLATES,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Accuracy in percent, of the first and of the first five, with chance and a blind baseline.

    `asked` is a folder of folders of images, each named after its class, or a file of lines of
    {"image", "label"}. A class is the mean of the vectors of all `templates` with its name in the
    place of {} (Radford et al. 2021); a model that only scores pairs gets the first template alone.
    A tie counts against the model. ValueError when a score is not a number.
    """
    if not templates or not all("{}" in template for template in templates):
        raise ValueError("a template is a text with {} where the name of the class belongs")

    lines = labelled(asked)
    samples = CaptionsFile(lines, "labels")
    encoded = encode(scorer_of(model), samples, workers=workers, tell=tell)
    classes = sorted({line.captions[0] for line in lines})
    labels = torch.tensor([classes.index(text) for text in encoded.texts])

    scores = numbers(_scores(encoded, classes, templates))
    images = len(labels)
    partner = shuffled(torch.arange(images), images)
    return {
        **_accuracy(scores, labels),
        "images": images,
        "classes": len(classes),
        "templates": list(templates),
        "chance": _chance(len(classes)),
        "blind": {"shuffled_images": _accuracy(scores[partner], labels)},
        **left_out(encoded.bad),
    }


def _scores(encoded: Encoded, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """[images, classes]."""
    if encoded.image_vectors is None:
        return _match(encoded, _filled(templates[:1], classes))

    scorer = encoded.scorer
    vectors = []
    for name in classes:
        scorer.texts(_filled(templates, [name]))
        vectors.append(scorer.text_vectors().mean(0))
    class_vectors = F.normalize(torch.stack(vectors), dim=1)
    return encoded.image_vectors @ class_vectors.T


def _filled(templates: Iterable[str], classes: Iterable[str]) -> list[str]:
    return [template.replace("{}", name) for template in templates for name in classes]


def _match(encoded: Encoded, sentences: Sequence[str]) -> Tensor:
    """[images, sentences] log odds of every pair."""
    scorer = encoded.scorer
    odds = []
    for rows in encoded.image_blocks:
        scorer.texts(sentences)
        images, texts = torch.ones(len(rows), len(sentences)).nonzero(as_tuple=True)
        block = scorer.match(images, texts)
        odds.append(block.view(len(rows), -1))
    return torch.cat(odds)


def _accuracy(scores: Tensor, labels: Tensor) -> Accuracy:
    own = scores.gather(1, labels[:, None])
    rank = (scores >= own).sum(1)
    accuracy = {}
    for cut in CUTS:
        right = (rank <= cut).double()
        accuracy[f"top{cut}"] = round(100 * float(right.mean()), 2)
    return accuracy


def _chance(classes: int) -> Accuracy:
    return {f"top{cut}": round(100 * min(1.0, cut / classes), 2) for cut in CUTS}


def labelled(asked: str | Path) -> list[Line]:
    """Images whose one caption is the name of their class. ValueError says what is wrong where."""
    path = Path(asked)
    if path.is_dir():
        return _folders(path)

    lines = []
    for where, value in lines_of(path, f"{LABELLED}, or a folder of folders"):
        label = value.get("label")
        if not value["image"] or not isinstance(label, str) or not label:
            raise ValueError(f"{where}: needs {LABELLED}")
        image = path.parent / value["image"]
        lines.append(Line(image=image, captions=(label,), where=where))
    return lines


def _folders(path: Path) -> list[Line]:
    lines = []
    for image in sorted(path.glob("*/*")):
        if image.suffix.lower() in SUFFIXES:
            label = image.parent.name.replace("_", " ")
            lines.append(Line(image=image, captions=(label,), where=str(image)))
    if not lines:
        raise ValueError(f"{path} has no folders of images, each named after its class")
    return lines
