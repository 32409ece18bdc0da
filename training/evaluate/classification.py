"""Zero-shot classification: which class's name, in a sentence, is nearest to an image?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.evaluate.encoded import Encoded, Tell, encode, left_out, numbers, silent
from training.evaluate.lines import CaptionsFile, Line, lines_of
from training.evaluate.retrieval import shuffled
from training.evaluate.scorer import Scorer
from training.export import load_scorer

TEMPLATES = ("a photo of a {}.",)  # CLIP's; give several, and their vectors are averaged
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))
WANTED = '{"image": path, "label": name}'


def evaluate(
    model: str | Path | Scorer,
    asked: str | Path,
    *,
    templates: Sequence[str] = TEMPLATES,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Accuracy in percent, of the first and of the first five, with chance and a blind baseline.

    `asked` is a folder of folders of images, each named after its class, or a file of lines of
    {"image", "label"}. A class is the mean of the vectors of all `templates` with its name in the
    place of {} (Radford et al. 2021); a model that only judges pairs is asked about the first
    template alone. A tie counts against the model. ValueError when a score is not a number.
    """
    if not templates or not all("{}" in one for one in templates):
        raise ValueError("a template is a text with {} where the name of the class belongs")
    scorer = model if isinstance(model, Scorer) else load_scorer(model)
    lines = labelled(asked)
    encoded = encode(scorer, CaptionsFile(lines, "labels"), workers=workers, tell=tell)
    classes = sorted({line.captions[0] for line in lines})
    places = {name: place for place, name in enumerate(classes)}
    truth = torch.tensor([places[text] for text in encoded.texts])

    scores = numbers(_scores(encoded, classes, templates))
    other = shuffled(torch.arange(len(truth)), len(truth)) if len(truth) > 1 else torch.zeros(1)
    return {
        **_told(scores, truth),
        "images": len(truth),
        "classes": len(classes),
        "templates": list(templates),
        "chance": {f"top{cut}": round(100 * min(1.0, cut / len(classes)), 2) for cut in (1, 5)},
        "blind": {"shuffled_images": _told(scores[other.long()], truth)},
        **left_out(encoded.bad),
    }


def _scores(encoded: Encoded, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """[images, classes]."""
    scorer = encoded.scorer
    if encoded.image_vectors is not None:
        vectors = []
        for name in classes:
            scorer.texts([template.replace("{}", name) for template in templates])
            vectors.append(scorer.text_vectors().float().cpu().mean(0))
        return encoded.image_vectors @ F.normalize(torch.stack(vectors), dim=1).T

    found = []
    for rows in encoded.images:
        scorer.texts([templates[0].replace("{}", name) for name in classes])
        image = torch.arange(len(rows)).repeat_interleave(len(classes))
        text = torch.arange(len(classes)).repeat(len(rows))
        found.append(scorer.match(image, text).float().cpu().view(len(rows), -1))
    return torch.cat(found)


def _told(scores: Tensor, truth: Tensor) -> dict[str, float]:
    own = scores.gather(1, truth[:, None])
    rank = (scores >= own).sum(1)
    return {f"top{cut}": round(100 * float((rank <= cut).double().mean()), 2) for cut in (1, 5)}


def labelled(asked: str | Path) -> list[Line]:
    """Images whose one caption is the name of their class. ValueError says what is wrong where."""
    path = Path(asked)
    if path.is_dir():
        found = [
            Line(image=image, captions=(folder.name.replace("_", " "),), where=str(image))
            for folder in sorted(path.iterdir())
            if folder.is_dir()
            for image in sorted(folder.iterdir())
            if image.suffix.lower() in SUFFIXES
        ]
        if not found:
            raise ValueError(f"{path} has no folders of images, each named after its class")
        return found
    lines = lines_of(path, f"{WANTED}, or a folder of folders")
    return [_line(path, where, value) for where, value in lines]


def _line(path: Path, where: str, value: dict[str, Any]) -> Line:
    label = value.get("label")
    if not value["image"] or not isinstance(label, str) or not label:
        raise ValueError(f"{where}: needs {WANTED}")
    return Line(image=path.parent / value["image"], captions=(label,), where=where)
