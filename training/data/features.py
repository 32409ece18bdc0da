"""What a frozen tower says of a release, computed once and kept beside it.

It is what makes small machines useful: a step then costs what is trained, and not the tower. The
folder is named by the digest of all that settles the numbers; its parts are written whole, so that
a killed computation goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.frozen import FrozenTower
from training.data.images import ImageSpec
from training.data.order import Slot
from training.data.reading import read_in_order
from training.data.reduction import Reduction
from training.data.shards import Release
from training.data.tokenizer import TextSpec
from training.data.towers import TowerSpec
from training.folder import write_json, write_whole
from training.inputs import FeatureInput

PART = 512  # samples: what a kill costs at most
SAMPLED = 512  # images from which the principal components are computed
VIEWS = "views"  # the one column: a list of arrays for each sample, none where it is bad
Array = NDArray[np.float16]


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Features of a frozen tower that belong to a module of a model.

    `prepare` is the tower's own preprocessing, of images or of texts; `reduce` keeps so many
    principal components (0: all features as they are); `flip` keeps a flipped view of each image,
    of which training takes every other one.
    """

    tower: TowerSpec
    prepare: ImageSpec | TextSpec
    reduce: int = 0
    flip: bool = False

    def digest(self) -> str:
        """Of weights, preprocessing, reduction and views."""
        settled = [self.tower.digest(), asdict(self.prepare), self.reduce, self.flip]
        text = json.dumps(settled, sort_keys=True).encode()
        return hashlib.blake2b(text, digest_size=12).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Computing:
    """How features are computed; none of it changes them beyond rounding."""

    device: torch.device | str = "cpu"
    batch: int = 64
    workers: int = 0
    progress: Callable[[int, int], None] = lambda done, total: None


def compute_features(
    spec: FeatureSpec,
    release: Release,
    folder: Path,
    *,
    reduction: Reduction | None = None,
    computing: Computing | None = None,
) -> Path:
    """Compute what is missing of a release's features under `folder`, and say where they are.

    Several releases of one model are cut to the same components: those of the first are given to
    the others as `reduction`; without it they are computed from images of this release.
    """
    computing = computing or Computing()
    cut = "" if reduction is None else f"-{reduction.digest()}"
    target = folder / f"{spec.digest()}-{_name_of(release)}{cut}"
    target.mkdir(parents=True, exist_ok=True)
    if (target / "features.json").is_file():
        return target

    tower = FrozenTower(spec.tower, spec.prepare, device=computing.device, flip=spec.flip)
    tower.reduction = _reduction(spec, release, target, reduction, tower, computing)
    for start in range(0, len(release), PART):
        path = _part(target, start)
        if not path.exists():
            rows = range(start, min(start + PART, len(release)))
            _write_part(path, list(_views(tower, release, rows, computing)))
        computing.progress(min(start + PART, len(release)), len(release))
    write_json(target / "features.json", asdict(spec))
    return target


def features_of(
    spec: FeatureSpec,
    releases: Mapping[str, Release],
    folder: Path,
    *,
    computing: Computing | None = None,
) -> Features:
    """Features of all releases of a model, computed where they are missing, cut to one reduction.

    The components are those of the first release by name.
    """
    folders: dict[str, Path] = {}
    reduction: Reduction | None = None
    for name, release in sorted(releases.items()):
        found = compute_features(spec, release, folder, reduction=reduction, computing=computing)
        folders[name] = found
        reduction = reduction or _kept_reduction(found)
    return Features(spec, folders)


class Features:
    """Features of several releases, as a module of a model is given them."""

    def __init__(self, spec: FeatureSpec, folders: Mapping[str, Path]) -> None:
        self.spec = spec
        self._kept = {name: _Kept(folder) for name, folder in folders.items()}
        self.reduction = next(map(_kept_reduction, folders.values()), None)

    def bad(self, release: str) -> frozenset[int]:
        """Rows of which there are no features, because their image could not be decoded."""
        return self._kept[release].bad

    def read(
        self, slots: Sequence[Slot], captions: Sequence[int], flipped: Sequence[bool]
    ) -> FeatureInput:
        """Features of samples: of their image, plain or flipped, or of one of their captions."""
        rows = []
        for slot, caption, flip in zip(slots, captions, flipped, strict=True):
            view = caption
            if isinstance(self.spec.prepare, ImageSpec):
                view = int(flip and self.spec.flip)
            rows.append(self._kept[slot.release].view(slot.row, view))
        return stacked(rows)

    def tower(self, device: torch.device | str = "cpu") -> FrozenTower:
        """What makes the same features of images or texts that stand in no release."""
        return FrozenTower(
            self.spec.tower, self.spec.prepare, device=device, reduction=self.reduction
        )


def stacked(rows: Sequence[Array]) -> FeatureInput:
    """Rows [k, features] of one length or several, padded behind; float16."""
    longest = max(len(row) for row in rows)
    features = np.zeros((len(rows), longest, rows[0].shape[1]), dtype=np.float16)
    valid = torch.zeros(len(rows), longest, dtype=torch.bool)
    for number, row in enumerate(rows):
        features[number, : len(row)] = row
        valid[number, : len(row)] = True
    alike = bool(valid.all())
    return FeatureInput(features=torch.from_numpy(features), valid=None if alike else valid)


def _kept_reduction(folder: Path) -> Reduction | None:
    path = folder / "reduction.npz"
    return Reduction.load(path) if path.is_file() else None


class _Kept:
    """The features of one release, mapped part by part."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "features.json").is_file():
            raise ValueError(f"{folder} holds no whole features: compute them first")
        self._folder = folder
        self._open = lru_cache(maxsize=256)(self._opened)

    @cached_property
    def bad(self) -> frozenset[int]:
        found = []
        for path in self._folder.glob("part-*.arrow"):
            start = int(path.stem.removeprefix("part-"))
            lengths = np.diff(self._open(start)[0].offsets.to_numpy())
            found += (np.flatnonzero(lengths == 0) + start).tolist()
        return frozenset(found)

    def view(self, row: int, view: int) -> Array:
        """[k, features] of one view of an image, or of one caption; mapped, not copied."""
        column, width = self._open(row // PART * PART)
        views = column[row % PART].values
        if not 0 <= view < len(views):
            raise ValueError(f"{self._folder}: of sample {row} there is no view {view}")
        numbers: Array = np.frombuffer(views[view].as_buffer(), dtype=np.float16)
        return numbers.reshape(-1, width)

    def _opened(self, start: int) -> tuple[Any, int]:
        path = _part(self._folder, start)
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            (column,) = table.column(VIEWS).chunks
            return column, int(table.schema.metadata[b"width"])
        except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): remove it and compute again") from error


def _part(folder: Path, start: int) -> Path:
    return folder / f"part-{start:010d}.arrow"


def _write_part(path: Path, samples: Sequence[Sequence[Array]]) -> None:
    width = next((views[0].shape[1] for views in samples if views), 1)
    kind = pa.list_(pa.binary())
    column = pa.array([[view.tobytes() for view in views] for views in samples], kind)
    schema = pa.schema([(VIEWS, kind)], metadata={"width": str(width)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))
    write_whole(path, lambda temporary: temporary.write_bytes(sink.getvalue()))


def _views(
    tower: FrozenTower, release: Release, rows: Sequence[int], computing: Computing
) -> Iterator[list[Array]]:
    """Of each row what the tower says, view by view; nothing of what cannot be decoded."""
    if not isinstance(tower.prepare, ImageSpec):
        for at in range(0, len(rows), computing.batch):
            texts = [release.texts(row)[0] or [""] for row in rows[at : at + computing.batch]]
            said = iter(_halved(tower.of_texts([text for group in texts for text in group])))
            for group in texts:
                yield [next(said) for _ in group]
        return

    found = _decoded(release, tower.prepare, rows, computing)
    for pixels, bad in found:
        views = iter(tower.of_images(pixels))
        for missing in bad:
            yield [] if missing else _halved(next(views))


def _decoded(
    release: Release, prepare: ImageSpec, rows: Sequence[int], computing: Computing
) -> Iterator[tuple[list[Tensor], list[bool]]]:
    reading = read_in_order(
        release, {"image": prepare}, rows, batch=computing.batch, workers=computing.workers
    )
    for part in reading:
        bad = [row in part.bad for row in part.rows]
        images = part.images["image"]
        yield [image for image, no in zip(images, bad, strict=True) if not no], bad


def _reduction(
    spec: FeatureSpec,
    release: Release,
    target: Path,
    given: Reduction | None,
    tower: FrozenTower,
    computing: Computing,
) -> Reduction | None:
    if not spec.reduce:
        return None
    path = target / "reduction.npz"
    if not path.is_file():
        if given is None:
            step = max(1, len(release) // SAMPLED)
            rows = range(0, len(release), step)
            said = [views[0] for views in _views(tower, release, rows, computing) if views]
            tokens = torch.from_numpy(np.concatenate(said))
            given = Reduction.fit(tokens, spec.reduce)
        given.save(path)
    return Reduction.load(path)


def _name_of(release: Release) -> str:
    """A release's samples: those of its digest that its shards hold."""
    text = json.dumps([release.digest(), release.counts, [one.split for one in release.shards]])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _halved(views: Sequence[Tensor]) -> list[Array]:
    return [view.to(torch.float16).cpu().numpy() for view in views]
