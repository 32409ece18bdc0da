"""Captioned images, or questions about images, in a file: a line of JSON each."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from training.data.shards import Release, Sample, Shard

CAPTIONED = "{'image': path, 'captions': [text, ...]}"
QUESTION = "{'image': path, 'question': text, 'answers': [text, ...]}"
PAIR = "{'images': [path, path], 'sentence': text, 'label': true or false}"
MOST_BYTES = 1 << 28  # of an image's file: as many pixels as are decoded, with three bytes each
SUFFIX = ".jsonl"  # of a file that is trained on as a release is


@dataclass(frozen=True, kw_only=True)
class Line:
    """One image and its captions; or a question, which is the one caption, with its answers."""

    image: Path
    captions: tuple[str, ...]
    where: str  # file and line number, for messages
    answers: tuple[str, ...] = ()
    second: Path | None = None  # of a line of two images


def read_lines(captions: str | Path) -> list[Line]:
    """All lines; a path is taken from the file's own folder. ValueError names file and line.

    Lines of captions, of questions with answers, or of two images and a sentence that is true or
    false of them.
    """
    path = Path(captions)
    lines = []
    for where, value in lines_of(path, CAPTIONED):
        lines.append(_line(value, path.parent, where))
    return lines


def lines_of(path: Path, form: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each line of JSON stands, and what it says of an image; blank ones are passed over.

    ValueError names file and line, and says what `form` lines have.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give lines of {form}")
    try:
        texts = path.read_text(encoding="utf-8-sig").split("\n")  # a mark of Windows' editors
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}): write it again as such") from error

    if not any(map(str.strip, texts)):
        raise ValueError(f"{path}: the file is empty; give at least one line of {form}")

    for number, text in enumerate(texts, start=1):
        if text.strip():
            where = f"{path}, line {number}"
            yield where, _naming_an_image(text, where)


def _naming_an_image(text: str, where: str) -> dict[str, Any]:
    """A line as JSON, with an image; ValueError when it is none."""
    try:
        decoded = json.loads(text)
    except (ValueError, RecursionError) as error:  # of numbers of thousands of digits, of nesting
        raise ValueError(f"{where}: not JSON ({error})") from error

    value: dict[str, Any] = decoded if isinstance(decoded, dict) else {}
    if _is_pair(value.get("images")):
        images = list(map(_encodable, value["images"]))
        return {**value, "images": images, "image": images[0]}
    if not isinstance(value.get("image"), str):
        raise ValueError(f'{where}: needs "image", the path of an image')
    return {**value, "image": _encodable(value["image"])}


class CaptionsFile(Release):
    """The lines of a file as a release that has no shards: images are read when asked for.

    All lines are held. `file` is where they stand, if they stand in one.
    """

    def __init__(
        self, lines: Sequence[Line], name: str = "captions", *, file: Path | None = None
    ) -> None:
        self.lines = list(lines)
        super().__init__(name, [Shard(address=str(file or name), rows=len(self.lines))])
        self._file = file

    @classmethod
    def read(cls, file: str | Path, name: str = "captions") -> CaptionsFile:
        """The lines of a file; ValueError as `read_lines`."""
        return cls(read_lines(file), name, file=Path(file))

    def first(self, samples: int) -> CaptionsFile:
        """So many lines from the front; all of them where there are no more, or for 0."""
        if not 0 < samples < len(self):
            return self
        return CaptionsFile(self.lines[:samples], self.name, file=self._file)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, row: int) -> Sample:
        """A sample by its number; its id is the path of its image, which may be missing."""
        line = self.lines[row]
        captions, sources = self.texts(row)
        return Sample(
            image=_bytes_of(line.image),
            captions=captions,
            sources=sources,
            image_id=str(line.image),
            answers=line.answers,
            second=_bytes_of(line.second),
        )

    def answers(self, row: int) -> Sequence[str]:
        """Answers to the question of a sample."""
        return self.lines[row].answers

    def all_captions(self) -> Iterator[str]:
        """Every text."""
        for line in self.lines:
            yield from line.captions

    def digest(self) -> str:
        """Of the lines, wherever they stand; images are known by their names and sizes."""
        digest = hashlib.blake2b(digest_size=16)
        for line in self.lines:
            images = [(line.image.name, _bytes_in(line.image))]
            if line.second is not None:
                images.append((line.second.name, _bytes_in(line.second)))
            text = json.dumps([images, line.captions, line.answers])
            digest.update(text.encode())
        return digest.hexdigest()

    @property
    def home(self) -> Path | None:
        """The folder in which the file lies."""
        if self._file is None:
            return None
        return self._file.absolute().parent

    def image_id(self, row: int) -> str:
        """The path of a sample's image."""
        return str(self.lines[row].image)

    def texts(self, row: int) -> tuple[list[str], list[str]]:
        """Captions of a sample; of their sources nothing is known."""
        captions = list(self.lines[row].captions)
        return captions, [""] * len(captions)


Asked = str | Path | Sequence[Line] | Release  # what a model is evaluated on


def opened_release(name: str, address: str | Path) -> Release:
    """What training reads: a file of lines, or the release in a folder or under an URL."""
    if str(address).endswith(SUFFIX):
        return CaptionsFile.read(address, name)
    return Release.open(name, address)


def opened(asked: Asked) -> Release:
    """The samples of a file of captions or of its lines, or those that are given as such."""
    match asked:
        case Release():
            return asked
        case str() | Path():
            return CaptionsFile.read(asked)
        case _:
            return CaptionsFile(asked)


def _bytes_of(image: Path | None) -> bytes:
    """Nothing of what cannot be read, is no file or larger than an image: it costs itself alone."""
    if image is None or not 0 < _bytes_in(image) <= MOST_BYTES:
        return b""
    try:
        return image.read_bytes()
    except OSError:
        return b""


def _bytes_in(image: Path) -> int:
    """The size of a file; -1 where there is none."""
    try:
        status = image.stat()
    except (OSError, ValueError):  # a name that no system can have
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _line(value: dict[str, Any], folder: Path, where: str) -> Line:
    captions = value.get("captions")
    if captions is None and "question" in value:
        return _question(value, folder, where)
    if captions is None and "sentence" in value:
        return _sentence(value, folder, where)

    if not captions or not _are_texts(captions):
        raise ValueError(f'{where}: needs "captions", a list of at least one text')
    image = folder / value["image"]
    return Line(image=image, captions=tuple(map(_encodable, captions)), where=where)


def _question(value: dict[str, Any], folder: Path, where: str) -> Line:
    question = value["question"]
    answers = value.get("answers")
    if not isinstance(question, str) or not _are_texts(answers):
        raise ValueError(f"{where}: a question is written {QUESTION}")
    if not answers:
        raise ValueError(f"{where}: nobody has answered: a question is written {QUESTION}")
    return Line(
        image=folder / value["image"],
        captions=(_encodable(question),),
        where=where,
        answers=tuple(map(_encodable, answers)),
    )


def _sentence(value: dict[str, Any], folder: Path, where: str) -> Line:
    images = value.get("images")
    sentence = value["sentence"]
    label = value.get("label")
    if not _is_pair(images) or not isinstance(sentence, str) or not isinstance(label, bool):
        raise ValueError(f"{where}: two images and a sentence are written {PAIR}")
    first, second = images
    return Line(
        image=folder / first,
        second=folder / second,
        captions=(_encodable(sentence),),
        where=where,
        answers=("true" if label else "false",),
    )


def _is_pair(images: object) -> TypeGuard[list[str]]:
    return _are_texts(images) and len(images) == 2


def _are_texts(values: object) -> TypeGuard[list[str]]:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _encodable(text: str) -> str:
    """Half a surrogate pair, which JSON can say and nobody can read, is replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
