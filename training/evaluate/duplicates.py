"""Whether images that a model is asked about were, nearly, among those that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.data.hashes import GreysSpec, Hashes, carried, flat, hashes_of
from training.data.reading import read_in_order
from training.data.sample import Samples
from training.data.shards import Release
from training.evaluate.encoded import Tell, silent
from training.evaluate.lines import Asked, opened
from training.folder import write_whole

NEAR = 3  # bits of 64: what curation, too, takes for one picture (docs/curate.md)
COMPARED = 1 << 22  # pairs at a time


def near_duplicates(
    asked: Asked,
    releases: Mapping[str, Release],
    *,
    cache: Path | None = None,
    workers: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """How many images stand in a training release too, by difference hashes three bits apart.

    Hashes of a release are those that it carries, else they are computed, and kept in the folder
    `cache`. An image that cannot be decoded, or is blank, is not compared.
    """
    samples = opened(asked)
    own = hashed(samples, workers, tell)
    found = {}
    nearly = np.zeros(len(own), dtype=bool)
    for name, release in releases.items():
        known = known_hashes(release, cache, workers, tell)
        near = within(own, known, NEAR)
        nearly |= near
        found[name] = {"images": int(near.sum()), "compared_with": len(known)}
    count = int(nearly.sum())
    share = round(100 * count / len(own), 2) if len(own) else 0.0
    return {"images": count, "share": share, "compared": len(own), "bits": NEAR, "releases": found}


def known_hashes(release: Release, cache: Path | None, workers: int, tell: Tell) -> Hashes:
    """The distinct hashes of a release that tell pictures apart."""
    found = carried(release)
    if found is not None:
        return distinct(found)
    path = None if cache is None else cache / f"hashes-{release.digest()[:24]}-{len(release)}.npy"
    if path is not None and path.is_file():
        kept: Hashes = np.load(path, allow_pickle=False)
        return kept
    made = distinct(hashed(release, workers, tell))
    if path is not None:
        write_whole(path, lambda temporary: _save(temporary, made))
    return made


def hashed(samples: Samples, workers: int, tell: Tell) -> Hashes:
    """Hashes of all images that can be decoded and are not blank."""
    found: list[Hashes] = [np.zeros(0, np.uint64)]
    rows = range(len(samples))
    for part in read_in_order(samples, {"greys": GreysSpec()}, rows, workers=workers):
        good = [
            image.numpy()[:, :, 0]
            for row, image in zip(part.rows, part.images["greys"], strict=True)
            if row not in part.bad
        ]
        if good:
            found.append(hashes_of(np.stack(good)))
        tell(f"hash images of {samples.name}", part.rows[-1] + 1, len(samples))
    hashes = np.concatenate(found)
    return hashes[~flat(hashes)]


def distinct(hashes: Hashes) -> Hashes:
    """Each once, ascending, without those of blank pictures."""
    found: Hashes = np.unique(hashes)
    return found[~flat(found)]


def within(hashes: Hashes, known: Hashes, bits: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """[n] whether a known hash differs in at most so many bits."""
    found = np.zeros(len(hashes), dtype=bool)
    size = max(1, COMPARED // max(1, len(hashes)))
    for start in range(0, len(known), size):
        differing = np.bitwise_count(hashes[:, None] ^ known[None, start : start + size])
        found |= (differing <= bits).any(axis=1)
    return found


def _save(path: Path, hashes: Sequence[int] | Hashes) -> None:
    with path.open("wb") as file:
        np.save(file, hashes, allow_pickle=False)
