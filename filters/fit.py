"""Train the small classifiers whose coefficients lie in filters/data.

    python -m filters.fit natural --photos DIR… --graphics DIR…
    python -m filters.fit language --english FILE… --foreign FILE…      (one text a line)

Both are logistic regressions on the filter's own features; a third of the examples is kept apart, and the shares told wrong there are
stored beside the coefficients.
"""

import argparse
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from filters import language, natural
from filters.graphics import graphic
from filters.lexicon import function_words

FLOATS = NDArray[np.float64]
GENERATED = 1500  # graphics drawn beside those given
PER_FOLDER = 1500  # pictures taken of one folder at most
PIECES = 2500  # short pieces cut out of longer texts, of each kind
HELD_OUT = 3  # every third example is kept apart
RIDGE = 2.0
MISLABELLED = 0.6  # foreign texts that look so English are names and brands, which every language writes alike


def logistic(rows: FLOATS, truth: NDArray[np.bool_], *, ridge: float = RIDGE, steps: int = 40) -> FLOATS:
    """Weights, intercept first, of a ridge-penalised logistic regression with both classes weighing the same; Newton's method."""
    known = np.concatenate([np.ones((len(rows), 1)), rows], axis=1)
    weight = np.where(truth, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))
    penalty = np.eye(known.shape[1]) * ridge
    penalty[0, 0] = 1e-9
    found = np.zeros(known.shape[1])
    for _ in range(steps):
        chance = 1 / (1 + np.exp(-np.clip(known @ found, -50, 50)))
        gradient = known.T @ ((chance - truth) * weight) + penalty @ found
        curvature = (known.T * (chance * (1 - chance) * weight)) @ known + penalty
        found -= np.linalg.solve(curvature, gradient)
    return found


def fit_natural(photos: Sequence[Path], graphics: Sequence[Path], seed: int = 1) -> dict[str, Any]:
    """Coefficients of `image.natural`, and the shares told wrong of each folder's held-out third at 0.2."""
    rng = Random(seed)
    groups = {path.name: (True, [_varied(data, rng) for data in _pictures(path, rng)]) for path in photos}
    groups |= {path.name: (False, list(_pictures(path, rng))) for path in graphics}
    groups["generated"] = (False, [graphic(rng) for _ in range(GENERATED)])
    rows, truth, group = _natural_rows(groups)
    held = np.arange(len(rows)) % HELD_OUT == 0
    mean, deviation = rows[~held].mean(axis=0), rows[~held].std(axis=0) + 1e-6
    expanded = natural.expand(rows, mean, deviation)
    weights = logistic(expanded[~held], truth[~held])
    score = 1 / (1 + np.exp(-np.clip(weights[0] + expanded @ weights[1:], -50, 50)))
    wrong = (score < 0.2) == truth
    figures = {name: _figure(wrong[held & (group == name)]) for name in groups}
    return {"weights": _rounded(weights), "mean": _rounded(mean), "deviation": _rounded(deviation), "wrong_at_0.2": figures}


def _natural_rows(groups: dict[str, tuple[bool, list[bytes]]]) -> tuple[FLOATS, NDArray[np.bool_], NDArray[np.str_]]:
    found = [(natural.features(pixels), truth, name) for name, (truth, images) in groups.items() for pixels in map(natural.decode, images) if pixels is not None]
    return np.array([row for row, _, _ in found]), np.array([truth for _, truth, _ in found]), np.array([name for _, _, name in found])


def _pictures(folder: Path, rng: Random) -> Iterable[bytes]:
    """Some of the files that Pillow can open anywhere below a folder."""
    suffixes = {suffix for suffix in Image.registered_extensions() if suffix != ".pdf"}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    rng.shuffle(paths)
    return (path.read_bytes() for path in paths[:PER_FOLDER])


def _varied(data: bytes, rng: Random) -> bytes:
    """Half of the photographs as they are; the others in another size and quality, some of them grey."""
    if rng.random() < 0.5:
        return data
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    scale = min(rng.uniform(0.35, 1.6), 1600 / max(picture.size))
    picture = picture.resize((max(64, int(picture.width * scale)), max(64, int(picture.height * scale))), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    (picture.convert("L") if rng.random() < 0.12 else picture).save(buffer, "JPEG", quality=rng.choice((30, 50, 70, 85, 95)))
    return buffer.getvalue()


def fit_language(english: Sequence[str], foreign: Sequence[str], seed: int = 5) -> dict[str, Any]:
    """Coefficients of `text.english`, and the shares told wrong at 0.4 of whole texts and of pieces of one to three words."""
    rng = Random(seed)
    kinds = {"english": (True, list(english)), "foreign": (False, list(foreign))}
    kinds |= {f"{name} pieces": (truth, pieces(texts, rng)) for name, (truth, texts) in kinds.items()}
    rows = np.concatenate([_language_rows(texts) for _, texts in kinds.values()])
    truth = np.concatenate([np.full(len(texts), truth) for truth, texts in kinds.values()])
    kind = np.concatenate([np.full(len(texts), name) for name, (_, texts) in kinds.items()])
    held = np.arange(len(rows)) % HELD_OUT == 0
    used = ~held
    for _ in range(3):
        weights = logistic(rows[used], truth[used], ridge=0.5)
        score = 1 / (1 + np.exp(-(weights[0] + rows @ weights[1:])))
        used = ~held & (truth | (score < MISLABELLED))
    wrong = (score < 0.4) == truth
    return {"weights": _rounded(weights), "wrong_at_0.4": {name: _figure(wrong[held & (kind == name)]) for name in kinds}}


def _language_rows(texts: Sequence[str]) -> FLOATS:
    words = [language.words_of(text) for text in texts]
    return language.features(words, language.fasttext_guess([" ".join(line) for line in words])[1])


def pieces(texts: Sequence[str], rng: Random) -> list[str]:
    """One to three successive words of some texts, without function words: how names and labels look."""
    found = []
    for text in rng.sample(texts, min(PIECES, len(texts))):
        words = [word for word in language.words_of(text) if word not in function_words() and len(word) > 1]
        length = rng.choice((1, 2, 2, 3))
        if len(words) >= 2:
            start = rng.randrange(max(1, len(words) - length + 1))
            found.append(" ".join(words[start : start + length]))
    return found


def _figure(wrong: NDArray[np.bool_]) -> dict[str, float]:
    return {"examples": len(wrong), "share": round(float(wrong.mean()), 4) if len(wrong) else 0.0}


def _rounded(values: FLOATS) -> list[float]:
    return [round(float(value), 5) for value in values]


def main() -> None:
    """Fit one classifier and write its file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_natural, of_language = commands.add_parser("natural"), commands.add_parser("language")
    for option in ("--photos", "--graphics"):
        of_natural.add_argument(option, nargs="+", type=Path, required=True)
    for option in ("--english", "--foreign"):
        of_language.add_argument(option, nargs="+", type=Path, required=True)
    asked = parser.parse_args()
    if asked.command == "natural":
        path, found = natural.COEFFICIENTS, fit_natural(asked.photos, asked.graphics)
    else:
        path, found = language.COEFFICIENTS, fit_language(*(_read(paths) for paths in (asked.english, asked.foreign)))
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in found.items() if name.startswith("wrong")}, indent=1))


def _read(paths: Sequence[Path]) -> list[str]:
    return [line for path in paths for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


if __name__ == "__main__":
    main()
