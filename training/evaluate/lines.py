"""Captioned images in a file: a line of {"image": path, "captions": [text, ...]} each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.decode import open_image
from training.evaluate.scorer import Scorer

WANTED = "{'image': path, 'captions': [text, ...]}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One image and its captions."""

    image: Path
    captions: tuple[str, ...]
    where: str  # file and line number, for messages


def read_lines(captions: str | Path) -> list[Line]:
    """All lines; a path is taken from the file's own folder. ValueError names file and line."""
    path = Path(captions)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give lines of {WANTED}")
    with path.open(encoding="utf-8") as file:
        texts = list(enumerate(file, start=1))
    lines = [_line(text, path, number) for number, text in texts if text.strip()]
    if not lines:
        raise ValueError(f"{path}: the file is empty; give at least one line of {WANTED}")
    return lines


def give_images(scorer: Scorer, lines: Sequence[Line]) -> None:
    """The images of some lines to a scorer; ValueError names file and line of one that is none."""
    try:
        scorer.images([line.image.read_bytes() for line in lines])
    except OSError:
        for line in lines:
            _check_image(line)
        raise


def _check_image(line: Line) -> None:
    try:
        open_image(line.image.read_bytes())
    except OSError as error:
        raise ValueError(
            f"{line.where}: {line.image} cannot be read as an image ({error})"
        ) from error


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _line(text: str, path: Path, number: int) -> Line:
    where = f"{path}, line {number}"
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get("image"), str):
        raise ValueError(f'{where}: needs "image", the path of an image')

    captions = value.get("captions")
    if not isinstance(captions, list) or not captions or not all(map(_is_text, captions)):
        raise ValueError(f'{where}: needs "captions", a list of at least one text')
    image = path.parent / value["image"]
    if not image.is_file():
        raise ValueError(f"{where}: no such image: {image}")
    return Line(image=image, captions=tuple(captions), where=where)
