"""Fit the small classifiers whose coefficients lie in filters/data.

    python -m filters.fit.classifiers natural --natural FOLDER... --graphic FOLDER...
    python -m filters.fit.classifiers language --english FILE... --foreign FILE...   (a text a line)

A part of the examples is kept apart; the shares told wrong there are stored beside the
coefficients.
"""

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from filters.image import is_photo as natural
from filters.image.graphics import graphic
from filters.image.pixels import opened
from filters.logistic import Logistic, fit
from filters.text import language

FLOATS = NDArray[np.float64]
KINDS = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".gif"}
COPIES = 4  # variations of each picture, the first as it is
# times that the first counts, so that what is rare on the web does not outweigh what is common
PLAIN = 3
DRAWN = 1500  # graphics drawn beside those given
RESAMPLING = (
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
)
PALETTES = (Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE, Image.Quantize.FASTOCTREE)
DITHERS = (Image.Dither.NONE, Image.Dither.FLOYDSTEINBERG)


def varied(picture: Image.Image, rng: random.Random) -> bytes:
    """The picture as the web might show it: its long side 64 to 1600 pixels, perhaps with other
    tones or a frame, and encoded.
    """
    side = min(max(picture.size), int(64 * 25 ** rng.random()))
    seen = picture.convert("RGB")
    if side < max(picture.size):
        scale = side / max(picture.size)
        size = (max(16, round(picture.width * scale)), max(16, round(picture.height * scale)))
        seen = seen.resize(size, rng.choice(RESAMPLING))
    seen = toned(seen, rng)
    if rng.random() < 0.12:
        frame = round(rng.uniform(0.02, 0.25) * max(seen.size))
        seen = ImageOps.expand(seen, frame, rng.choice(("white", "white", "black", "gray")))
    return encoded(seen, rng)


def toned(picture: Image.Image, rng: random.Random) -> Image.Image:
    """One in ten in grey; one in forty each in one tint as in sepia, in pale and in dark tones."""
    chance = rng.random()
    if chance < 0.1:
        return picture.convert("L").convert("RGB")
    if chance < 0.125:
        return ImageOps.colorize(picture.convert("L"), "black", "antiquewhite", mid="rosybrown")
    if chance < 0.15:
        return ImageEnhance.Contrast(picture).enhance(rng.uniform(0.2, 0.7))
    if chance < 0.175:
        return ImageEnhance.Brightness(picture).enhance(rng.uniform(0.15, 0.6))
    return picture


def encoded(picture: Image.Image, rng: random.Random) -> bytes:
    """One in eight as a GIF of 32 to 256 colours, three in five as a JPEG of quality 10 to 95, one
    in ten as a WebP, others as a PNG.
    """
    buffer, chance = BytesIO(), rng.random()
    if chance < 0.125:
        # colours laid over a picture are dithered on demand, those found with it never
        palette = picture.quantize(rng.choice((32, 64, 128, 256)), rng.choice(PALETTES))
        picture.quantize(palette=palette, dither=rng.choice(DITHERS)).save(buffer, "GIF")
    elif chance < 0.725:
        picture.save(buffer, "JPEG", quality=rng.randint(10, 95))
    elif chance < 0.825:
        picture.save(buffer, "WEBP", quality=rng.randint(30, 95), method=1)
    else:
        picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def pictures(folders: Sequence[Path]) -> list[Image.Image]:
    """The pictures below some folders, on white where they are transparent; large ones with a long
    side of 1600.
    """
    found = []
    for path in (
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in KINDS
    ):
        with opened(path.read_bytes()) as picture:
            picture.draft("RGB", (1600, 1600))
            whole = picture.convert("RGBA")
        whole.thumbnail((1600, 1600))
        found.append(
            Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
        )
    return found


def rows_of(shown: Sequence[Image.Image], rng: random.Random) -> tuple[FLOATS, NDArray[np.int64]]:
    """Statistics of each picture and of some variations of it, and which picture each row is of."""
    seen = [
        (number, natural.decode(varied(picture, rng)) if copy else natural.shrink(picture))
        for number, picture in enumerate(shown)
        for copy in range(COPIES)
    ]
    kept = [(number, small) for number, small in seen if small is not None]
    return np.array([natural.statistics(small) for _, small in kept]), np.array(
        [number for number, _ in kept]
    )


def train_natural(
    photos: tuple[FLOATS, NDArray[np.int64]], graphics: tuple[FLOATS, NDArray[np.int64]]
) -> Logistic:
    """Fit on statistics and the numbers of their pictures; pictures whose number divides by 4 give
    the figures.
    """
    parts = {"natural": photos, "graphic": graphics}
    plain = {name: np.r_[True, number[1:] != number[:-1]] for name, (_, number) in parts.items()}
    held = {name: number % 4 == 0 for name, (_, number) in parts.items()}
    often = {name: np.where(held[name], 0, np.where(plain[name], PLAIN, 1)) for name in parts}
    taught = [
        natural.expand(np.repeat(rows, often[name], axis=0)) for name, (rows, _) in parts.items()
    ]
    fitted = fit(natural.names(), taught[0], taught[1], ridge=0.3)
    dropped = {name: fitted(natural.expand(rows)) < 0.5 for name, (rows, _) in parts.items()}
    shares = {
        f"held_out_{name}_dropped{seen}": round(float(dropped[name][held[name] & which].mean()), 4)
        for name in parts
        for seen, which in (("", plain[name]), ("_varied", ~plain[name]))
    }
    pictures = {name: len(set(number.tolist())) for name, (_, number) in parts.items()}
    apart = {name: int((held[name] & plain[name]).sum()) for name in parts}
    return replace(fitted, training={"pictures": pictures, "held_out": apart, **shares})


def train_language(english: Sequence[str], foreign: Sequence[str], seed: int = 0) -> Logistic:
    """Fit on two thirds of the texts and on runs of two to five of their words; the rest gives the
    figures.

    Foreign texts of which most words are English (names of products) teach nothing and are left
    out.
    """
    rng = random.Random(seed)
    parts = {
        name: rng.sample(list(texts), len(texts))
        for name, texts in (("english", english), ("foreign", foreign))
    }
    cut = {name: len(texts) * 2 // 3 for name, texts in parts.items()}
    values = {
        name: language.features(pa.array(texts[: cut[name]] + _runs(texts[: cut[name]], rng)))[0]
        for name, texts in parts.items()
    }
    fitted = fit(
        language.FEATURES,
        values["english"],
        values["foreign"][values["foreign"][:, 3] < 0.7],
        ridge=0.01,
    )
    said = {
        name: fitted(language.features(pa.array(texts[cut[name] :]))[0])
        for name, texts in parts.items()
    }
    kept = {
        name: round(float((probability >= 0.5).mean()), 4) for name, probability in said.items()
    }
    training = {
        "texts": {name: len(texts) for name, texts in parts.items()},
        "held_out_taken_for_english": kept,
        "seed": seed,
    }
    return replace(fitted, training=training)


def _runs(texts: Sequence[str], rng: random.Random) -> list[str]:
    """Two to five words that follow each other in each text."""
    runs = []
    for words in (text.split() for text in texts):
        start = rng.randint(0, max(0, len(words) - 2))
        runs.append(" ".join(words[start : start + rng.randint(2, 5)]))
    return runs


def main() -> None:
    """Fit one classifier and write its file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command, options in (
        ("natural", ("--natural", "--graphic")),
        ("language", ("--english", "--foreign")),
    ):
        of_command = commands.add_parser(command)
        for option in options:
            of_command.add_argument(option, nargs="+", type=Path, required=True)
    given = parser.parse_args()
    if given.command == "natural":
        rng = random.Random(0)
        drawn = [Image.open(BytesIO(graphic(rng))).convert("RGB") for _ in range(DRAWN)]
        result = train_natural(
            rows_of(pictures(given.natural), rng), rows_of(pictures(given.graphic) + drawn, rng)
        )
        folders = {
            option: " ".join(folder.name for folder in getattr(given, option))
            for option in ("natural", "graphic")
        }
        command = (
            f"python -m filters.fit.classifiers natural --natural {folders['natural']} --graphic"
            f" {folders['graphic']}"
        )
        result = replace(result, training={"command": command, **result.training})
        result.write(natural.MODEL)
    else:
        result = train_language(_lines(given.english), _lines(given.foreign))
        result.write(language.MODEL)
    print(result.training)


def _lines(paths: Sequence[Path]) -> list[str]:
    return [
        line
        for path in paths
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]


if __name__ == "__main__":
    main()
