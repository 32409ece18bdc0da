"""The captioner of CapFilt: what a trained model says of images in a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.evaluate.captioning import Captioner, Written
from training.evaluate.lines import CaptionsFile, Line, lines_of
from training.export import load_scorer
from training.generate import Decoding

LINES = 256  # images in memory at once: what is held does not grow with a file
WANTED = "{'image': path beside the file}"


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """An image and its captions; none, and why, where it could not be captioned."""

    image: str  # as the line names it
    captions: tuple[str, ...]
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """{"image", "captions"}, and "error" where there is one."""
        plain: dict[str, Any] = {"image": self.image, "captions": list(self.captions)}
        return {**plain, "error": self.error} if self.error else plain


def caption(
    model: str | Path, images: str | Path, *, decoding: Decoding, prompt: str = "", seed: int = 0
) -> Iterator[Captioned]:
    """A caption for each line of {"image": path}, in the file's order.

    An image that is missing or cannot be decoded is an outcome and costs no other. ValueError names
    file and line where the file's form is wrong, before anything is captioned.
    """
    paths = read_images(images)
    captioner = Captioner(scorer=load_scorer(model), decoding=decoding, prompt=prompt, seed=seed)
    folder = Path(images).parent
    for start in range(0, len(paths), LINES):
        yield from _some(captioner, folder, paths[start : start + LINES], start)


def _some(captioner: Captioner, folder: Path, paths: list[str], start: int) -> Iterator[Captioned]:
    lines = [Line(image=folder / path, captions=(), where=path) for path in paths]
    there = [line for line in lines if line.image.is_file()]
    written = iter(captioner.write(CaptionsFile(there), start=start, workers=1) if there else [])
    for path, line in zip(paths, lines, strict=True):
        one = next(written) if line in there else Written(bad="no such file")
        captions = () if one.bad else (one.text,)
        yield Captioned(image=path, captions=captions, error=one.bad)


def read_images(file: str | Path) -> list[str]:
    """The images that lines name; ValueError names file and line of what is wrong."""
    return [value["image"] for _, value in lines_of(Path(file), WANTED)]
