"""Captioned images in a file: a line of {"image": path, "captions": [text, ...]} each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.shards import Release, Sample

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
    return [_line(value, path, where) for where, value in lines_of(path, WANTED)]


def lines_of(path: Path, wanted: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each line of JSON stands, and what it says of an image; blank ones are passed over.

    ValueError names file and line, and says what is `wanted`.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give lines of {wanted}")
    try:
        texts = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}): write it again as such") from error

    if not any(map(str.strip, texts)):
        raise ValueError(f"{path}: the file is empty; give at least one line of {wanted}")

    for number, text in enumerate(texts, start=1):
        if text.strip():
            where = f"{path}, line {number}"
            yield where, _naming_an_image(text, where)


def _naming_an_image(text: str, where: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get("image"), str):
        raise ValueError(f'{where}: needs "image", the path of an image')
    return value


def image_beside(value: dict[str, Any], path: Path, where: str) -> Path:
    """The image that a line of a file names; ValueError when it is not there."""
    image: Path = path.parent / value["image"]
    if not image.is_file():
        raise ValueError(f"{where}: no such image: {image}")
    return image


class CaptionsFile:
    """The lines of a file as samples, as those of a release: images are read when asked for."""

    def __init__(self, lines: Sequence[Line], name: str = "captions") -> None:
        self.name = name
        self.lines = list(lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, row: int) -> Sample:
        """A sample by its number; its id is the path of its image."""
        line = self.lines[row]
        captions, sources = self.texts(row)
        try:
            image = line.image.read_bytes()
        except OSError as error:
            raise ValueError(f"{line.where}: {line.image} cannot be read ({error})") from error
        return Sample(image, captions, sources, str(line.image))

    def image_id(self, row: int) -> str:
        """The path of a sample's image."""
        return str(self.lines[row].image)

    def texts(self, row: int) -> tuple[list[str], list[str]]:
        """Captions of a sample; of their sources nothing is known."""
        captions = list(self.lines[row].captions)
        return captions, [""] * len(captions)


Samples = CaptionsFile | Release
Asked = str | Path | Sequence[Line] | Samples  # what a model is evaluated on


def opened(asked: Asked) -> Samples:
    """The samples of a file of captions or of its lines, or those that are given as such."""
    match asked:
        case CaptionsFile() | Release():
            return asked
        case str() | Path():
            return CaptionsFile(read_lines(asked))
        case _:
            return CaptionsFile(asked)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _line(value: dict[str, Any], path: Path, where: str) -> Line:
    captions = value.get("captions")
    if not isinstance(captions, list) or not captions or not all(map(_is_text, captions)):
        raise ValueError(f'{where}: needs "captions", a list of at least one text')
    image = image_beside(value, path, where)
    return Line(image=image, captions=tuple(map(_written, captions)), where=where)


def _written(text: str) -> str:
    """Half a surrogate pair, which JSON can say and nobody can read, is replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
