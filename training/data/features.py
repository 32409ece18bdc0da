"""Features of a release by a frozen tower, computed once and cached beside it.

This makes small machines useful: a step then costs what is trained, and not the tower. The folder
is named by the digest of all that settles the numbers; its parts are written whole, so that a
killed computation goes on where it was. One process at a time computes a folder: others that find
it unfinished wait, and go on where it ends or is killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
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
from training.folder import locked, write_json, write_whole
from training.inputs import FeatureInput

VERSION = 1  # raised when the same tower and images give other numbers
PART = 512  # samples: what a kill costs at most
SAMPLED = 512  # images from which the principal components are computed
DONE = "features.json"
REDUCTION = "reduction.npz"
LOCK = ".lock"
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
        """Of weights, preprocessing, reduction and views; wherever the tower lies."""
        prepare = asdict(self.moved("").prepare)  # the tower's digest covers its vocabulary
        parts = [VERSION, self.tower.digest(), prepare, self.reduce, self.flip]
        text = json.dumps(parts, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def moved(self, folder: str) -> FeatureSpec:
        """The same, the tower and its vocabulary lying elsewhere."""
        tower = replace(self.tower, folder=folder)
        prepare = self.prepare
        if isinstance(prepare, TextSpec) and prepare.vocabulary == self.tower.folder:
            prepare = replace(prepare, vocabulary=folder)
        return replace(self, tower=tower, prepare=prepare)


@dataclass(frozen=True, kw_only=True)
class Computing:
    """How features are computed; none of it changes them beyond rounding."""

    device: torch.device | str = "cpu"
    batch: int = 64
    workers: int = 0
    progress: Callable[[int, int], None] = lambda done, total: None
    waiting: Callable[[Path], None] = lambda folder: None  # told when another process computes it


def compute_features(
    spec: FeatureSpec,
    release: Release,
    folder: Path,
    *,
    reduction: Reduction | None = None,
    computing: Computing | None = None,
) -> Path:
    """Compute what is missing of a release's features under `folder`, and say where they are.

    Parts that are there and whole stay; a part that is damaged is computed again. Several releases
    of one model are cut to the same components: those of the first are passed to the others as
    `reduction`; without it they are computed from images of this release.
    """
    computing = computing or Computing()
    name = f"{spec.digest()}-{_name_of(release)}"
    target = _target(folder / name, reduction)
    if _is_done(target, release):
        return target

    with locked(target / LOCK, lambda: computing.waiting(target)):
        if not _is_done(target, release):
            _compute(spec, release, target, reduction, computing)
    return target


def _is_done(target: Path, release: Release) -> bool:
    return (target / DONE).is_file() and not _missing(target, release)


def _missing(target: Path, release: Release) -> list[range]:
    """Rows of the parts that are not there, or not whole."""
    missing = []
    for start in range(0, len(release), PART):
        rows = range(start, min(start + PART, len(release)))
        if not _is_whole(_part(target, start), len(rows)):
            missing.append(rows)
    return missing


def _is_whole(path: Path, rows: int) -> bool:
    """Whether a part is there, and has these rows; its header says so, numbers are not read."""
    if not path.exists():
        return False
    try:
        column, _ = _mapped(path)
    except ValueError:
        return False
    return len(column) == rows


def _compute(
    spec: FeatureSpec,
    release: Release,
    target: Path,
    reduction: Reduction | None,
    computing: Computing,
) -> None:
    """Make the parts that are missing; no other process does."""
    for unfinished in target.glob(".*.part"):  # of a process that was killed as it wrote
        unfinished.unlink()

    tower = FrozenTower(spec.tower, spec.prepare, device=computing.device)
    if spec.reduce:
        tower.reduction = _reduction(spec.reduce, release, target, reduction, tower, computing)
    tower.flip = spec.flip

    missing = _missing(target, release)
    rows = [row for part in missing for row in part]
    done = len(release) - len(rows)
    views = _views(tower, release, rows, computing)
    for part in missing:
        _write_part(_part(target, part.start), list(islice(views, len(part))))
        done += len(part)
        computing.progress(done, len(release))
    write_json(target / DONE, asdict(spec))


def _target(folder: Path, reduction: Reduction | None) -> Path:
    """Where features of a reduction are: the release's own folder if the components are its own."""
    if reduction is None:
        return folder
    own = _stored_reduction(folder)
    if own is not None and own.digest() == reduction.digest():
        return folder
    return folder.with_name(f"{folder.name}-{reduction.digest()}")


def features_of(
    spec: FeatureSpec,
    releases: Mapping[str, Release],
    place: Callable[[Release], Path],
    *,
    reduction: Reduction | None = None,
    computing: Computing | None = None,
) -> Features:
    """Features of all releases of a model, computed where they are missing, with one reduction.

    `place` says under which folder those of a release are cached. The components are `reduction`
    (of a model that is trained further), or else those of the first release.
    """
    folders: dict[str, Path] = {}
    for name, release in releases.items():
        folder = compute_features(
            spec, release, place(release), reduction=reduction, computing=computing
        )
        folders[name] = folder
        reduction = reduction or _stored_reduction(folder)
    return Features(spec, folders)


class Features:
    """Features of several releases, as a module of a model is given them."""

    def __init__(self, spec: FeatureSpec, folders: Mapping[str, Path]) -> None:
        self.spec = spec
        self.reduction: Reduction | None = None
        self._cached: dict[str, _CachedFeatures] = {}
        for name, folder in folders.items():
            self._cached[name] = _CachedFeatures(folder)
            self.reduction = self.reduction or _stored_reduction(folder)

    def bad(self, release: str) -> frozenset[int]:
        """Rows of which there are no features, because their image could not be decoded."""
        return self._cached[release].bad

    def read(
        self, slots: Sequence[Slot], captions: Sequence[int], flipped: Sequence[bool]
    ) -> FeatureInput:
        """Features of samples: of their image, plain or flipped, or of one of their captions."""
        rows = []
        for slot, caption, flip in zip(slots, captions, flipped, strict=True):
            view = caption
            if isinstance(self.spec.prepare, ImageSpec):
                view = int(flip and self.spec.flip)
            rows.append(self._cached[slot.release].view(slot.row, view))
        return stacked(rows)

    def tower(self, device: torch.device | str = "cpu") -> FrozenTower:
        """What makes the same features of images or texts that stand in no release."""
        spec = self.spec
        return FrozenTower(spec.tower, spec.prepare, device=device, reduction=self.reduction)


def stacked(rows: Sequence[Array]) -> FeatureInput:
    """Rows [k, features] of one length or several, padded behind; float16."""
    longest = max(map(len, rows))
    _, width = rows[0].shape
    features = np.zeros((len(rows), longest, width), dtype=np.float16)
    valid = torch.zeros(len(rows), longest, dtype=torch.bool)
    for index, row in enumerate(rows):
        features[index, : len(row)] = row
        valid[index, : len(row)] = True
    one_length = bool(valid.all())
    return FeatureInput(features=torch.from_numpy(features), valid=None if one_length else valid)


def _stored_reduction(folder: Path) -> Reduction | None:
    path = folder / REDUCTION
    if not path.is_file():
        return None
    return Reduction.load(path)


class _CachedFeatures:
    """The features of one release, mapped part by part."""

    def __init__(self, folder: Path) -> None:
        if not (folder / DONE).is_file():
            raise ValueError(f"{folder} holds no whole features: compute them first")
        self._folder = folder
        self._open = lru_cache(maxsize=256)(lambda start: _mapped(_part(folder, start)))

    @cached_property
    def bad(self) -> frozenset[int]:
        """Rows without a view."""
        rows: list[int] = []
        for path in self._folder.glob("part-*.arrow"):
            start = int(path.stem.removeprefix("part-"))
            column, _ = self._open(start)
            views = np.diff(column.offsets.to_numpy())
            empty = np.flatnonzero(views == 0) + start
            rows += empty.tolist()
        return frozenset(rows)

    def view(self, row: int, view: int) -> Array:
        """[k, features] of one view of an image, or of one caption; mapped, not copied."""
        row_of_part = row % PART
        column, width = self._open(row - row_of_part)
        views = column[row_of_part].values
        if not 0 <= view < len(views):
            raise ValueError(f"{self._folder}: of sample {row} there is no view {view}")
        features: Array = np.frombuffer(views[view].as_buffer(), dtype=np.float16)
        return features.reshape(-1, width)


def _mapped(path: Path) -> tuple[Any, int]:
    """The column of views, mapped, and how many features a token has; ValueError if damaged."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        (column,) = table.column(VIEWS).chunks
        return column, int(table.schema.metadata[b"width"])
    except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): train again, it is made anew") from error


def _part(folder: Path, start: int) -> Path:
    return folder / f"part-{start:010d}.arrow"


def _write_part(path: Path, samples: Sequence[Sequence[Array]]) -> None:
    """Views of each sample, as bytes; the schema says how many features a token has."""
    width = 1
    rows = []
    for views in samples:
        rows.append([view.tobytes() for view in views])
        if views:
            width = views[0].shape[1]

    kind = pa.list_(pa.binary())
    schema = pa.schema([(VIEWS, kind)], metadata={"width": str(width)})
    batch = pa.record_batch([pa.array(rows, kind)], schema=schema)
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_file(buffer, schema) as writer:
        writer.write_batch(batch)
    write_whole(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))


def _views(
    tower: FrozenTower, release: Release, rows: Sequence[int], computing: Computing
) -> Iterator[list[Array]]:
    """Of each row the tower's features, view by view; nothing of what cannot be decoded."""
    batch = computing.batch
    if not isinstance(tower.prepare, ImageSpec):
        for start in range(0, len(rows), PART):
            yield from _text_views(tower, release, rows[start : start + PART], batch)
        return

    specs = {"image": tower.prepare}
    for part in read_in_order(release, specs, rows, batch=batch, workers=computing.workers):
        features = iter(tower.of_images(part.images["image"]))
        for row in part.requested:
            yield [] if row in part.bad else _halved(next(features))


def _text_views(
    tower: FrozenTower, release: Release, rows: Sequence[int], batch: int
) -> Iterator[list[Array]]:
    """Texts of some samples, those of one length together: padding costs as much as words."""
    counts = []
    texts: list[str] = []
    for row in rows:
        captions = release.texts(row)[0] or [""]
        counts.append(len(captions))
        texts += captions

    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    features: dict[int, Array] = {}
    for start in range(0, len(order), batch):
        indices = order[start : start + batch]
        views = tower.of_texts([texts[index] for index in indices])
        features.update(zip(indices, _halved(views), strict=True))

    in_order = iter([features[index] for index in range(len(texts))])
    for count in counts:
        yield list(islice(in_order, count))


def _reduction(
    components: int,
    release: Release,
    target: Path,
    reduction: Reduction | None,
    tower: FrozenTower,
    computing: Computing,
) -> Reduction:
    """The one that is stored in the folder already, else `reduction`, else one of this release."""
    stored = _stored_reduction(target)
    if stored is not None:
        return stored

    if reduction is None:
        step = max(1, len(release) // SAMPLED)
        rows = range(0, len(release), step)
        sampled = [views[0] for views in _views(tower, release, rows, computing) if views]
        if not sampled:
            raise ValueError(f"release {release.name}: none of its images can be decoded")
        features = torch.from_numpy(np.concatenate(sampled))
        reduction = Reduction.fit(features, components)
    path = target / REDUCTION
    reduction.save(path)
    return Reduction.load(path)  # as a run that goes on reads it


def _name_of(release: Release) -> str:
    """A release's samples: those of its digest that its shards hold."""
    splits = [shard.split for shard in release.shards]
    text = json.dumps([release.digest(), release.counts, splits])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _halved(views: Sequence[Tensor]) -> list[Array]:
    return [view.to(torch.float16).cpu().numpy() for view in views]
