"""Whether images of an evaluation stand, nearly, among those that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.hashes import GreysSpec, Hashes, flat, hashes_of, stored_hashes
from training.data.reading import read_in_order
from training.data.sample import Samples
from training.data.shards import Release
from training.evaluate.encoded import Tell, silent
from training.evaluate.lines import Asked, opened
from training.folder import write_whole

NEAR = 3  # bits of 64: what curation, too, takes for one image (docs/curate.md)
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

    Hashes of a release are those that its shards store, else they are computed, and kept in the
    folder `cache`. An image that cannot be decoded, or is blank, is not compared.
    """
    hashes = compute_hashes(opened(asked), workers, tell)
    counts = {}
    duplicate = np.zeros(len(hashes), dtype=bool)
    for name, release in releases.items():
        training_hashes = _release_hashes(release, cache, workers, tell)
        near = within(hashes, training_hashes, NEAR)
        duplicate |= near
        counts[name] = {"images": int(near.sum()), "compared_with": len(training_hashes)}

    images = int(duplicate.sum())
    share = images / max(1, len(hashes))
    return {
        "images": images,
        "share": round(100 * share, 2),
        "compared": len(hashes),
        "bits": NEAR,
        "releases": counts,
    }


def _release_hashes(release: Release, cache: Path | None, workers: int, tell: Tell) -> Hashes:
    """The distinct hashes of a release, without those of blank images."""
    stored = stored_hashes(release)
    if stored is not None:
        return _distinct(stored)
    if cache is None:
        return _distinct(compute_hashes(release, workers, tell))

    path = cache / f"hashes-{release.digest()[:24]}-{len(release)}.npy"
    if not path.is_file():
        hashes = _distinct(compute_hashes(release, workers, tell))
        write_whole(path, lambda temporary: _save(temporary, hashes))
    cached: Hashes = np.load(path, allow_pickle=False)
    return cached


def compute_hashes(samples: Samples, workers: int, tell: Tell) -> Hashes:
    """Hashes of all images that can be decoded and are not blank."""
    parts: list[Hashes] = [np.zeros(0, np.uint64)]
    rows = range(len(samples))
    for part in read_in_order(samples, {"greys": GreysSpec()}, rows, workers=workers):
        if part.rows:
            images = np.stack(part.images["greys"])
            greys = images[:, :, :, 0]
            parts.append(hashes_of(greys))
        tell(f"hash images of {samples.name}", part.done, len(samples))
    hashes = np.concatenate(parts)
    return hashes[~flat(hashes)]


def _distinct(hashes: Hashes) -> Hashes:
    """Each once, ascending, without those of blank images."""
    distinct: Hashes = np.unique(hashes)
    return distinct[~flat(distinct)]


def within(hashes: Hashes, others: Hashes, bits: int) -> NDArray[np.bool_]:
    """[n] whether one of the others differs in at most so many bits."""
    near = np.zeros(len(hashes), dtype=bool)
    size = max(1, COMPARED // max(1, len(hashes)))
    for start in range(0, len(others), size):
        block = others[start : start + size]
        differing = np.bitwise_count(hashes[:, None] ^ block[None, :])
        near |= (differing <= bits).any(axis=1)
    return near


def _save(path: Path, hashes: Hashes) -> None:
    with path.open("wb") as file:
        np.save(file, hashes, allow_pickle=False)
