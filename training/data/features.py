"""What a frozen tower says of a release, computed once and kept beside it.

It is what makes small machines useful: a step then costs what is trained, and not the tower. The
folder is named by the digest of all that settles the numbers; its parts are written whole, so that
a killed computation goes on where it was. One process at a time computes a folder: others that find
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
        prepare = asdict(self.moved("").prepare)  # the tower's digest tells of its vocabulary
        settled = [VERSION, self.tower.digest(), prepare, self.reduce, self.flip]
        text = json.dumps(settled, sort_keys=True).encode()
        return hashlib.blake2b(text, digest_size=12).hexdigest()

    def moved(self, folder: str) -> FeatureSpec:
        """The same, the tower and its vocabulary lying elsewhere."""
        prepare = self.prepare
        if isinstance(prepare, TextSpec) and prepare.vocabulary == self.tower.folder:
            prepare = replace(prepare, vocabulary=folder)
        return replace(self, tower=replace(self.tower, folder=folder), prepare=prepare)


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

    What is there and whole is taken as it is; a part that is damaged is computed again. Several
    releases of one model are cut to the same components: those of the first are given to the others
    as `reduction`; without it they are computed from images of this release.
    """
    computing = computing or Computing()
    target = _target(folder / f"{spec.digest()}-{_name_of(release)}", reduction)
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
    return [rows for rows in _parts(release) if not _is_whole(_part(target, rows.start), rows)]


def _compute(
    spec: FeatureSpec,
    release: Release,
    target: Path,
    reduction: Reduction | None,
    computing: Computing,
) -> None:
    """Make the parts that are missing; nobody else does."""
    for unfinished in target.glob(".*.part"):  # of a process that was killed as it wrote
        unfinished.unlink()
    missing = _missing(target, release)

    tower = FrozenTower(spec.tower, spec.prepare, device=computing.device)
    tower.reduction = _reduction(spec, release, target, reduction, tower, computing)
    tower.flip = spec.flip
    done = len(release) - sum(map(len, missing))
    views = _views(tower, release, [row for rows in missing for row in rows], computing)
    for rows in missing:
        _write_part(_part(target, rows.start), list(islice(views, len(rows))))
        done += len(rows)
        computing.progress(done, len(release))
    write_json(target / DONE, asdict(spec))


def _target(own: Path, given: Reduction | None) -> Path:
    """The folder for components that are given: a release's own one where they are its own."""
    if given is None:
        return own
    kept = _kept_reduction(own)
    if kept is not None and kept.digest() == given.digest():
        return own
    return own.with_name(f"{own.name}-{given.digest()}")


def _parts(release: Release) -> list[range]:
    size = len(release)
    return [range(start, min(start + PART, size)) for start in range(0, size, PART)]


def _is_whole(path: Path, rows: range) -> bool:
    """Whether a part is there, and has these rows; its header says so, numbers are not read."""
    if not path.exists():
        return False
    try:
        column, _ = _opened(path)
    except ValueError:
        return False
    return len(column) == len(rows)


def features_of(
    spec: FeatureSpec,
    releases: Mapping[str, Release],
    place: Callable[[Release], Path],
    *,
    reduction: Reduction | None = None,
    computing: Computing | None = None,
) -> Features:
    """Features of all releases of a model, computed where they are missing, cut to one reduction.

    `place` says under which folder those of a release are kept. The components are those given (of
    a model that is trained further), or else those of the first release.
    """
    folders: dict[str, Path] = {}
    for name, release in releases.items():
        folders[name] = compute_features(
            spec, release, place(release), reduction=reduction, computing=computing
        )
        reduction = reduction or _kept_reduction(folders[name])
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
        if not (folder / DONE).is_file():
            raise ValueError(f"{folder} holds no whole features: compute them first")
        self._folder = folder
        self._open = lru_cache(maxsize=256)(lambda start: _opened(_part(folder, start)))

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


def _opened(path: Path) -> tuple[Any, int]:
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
        for at in range(0, len(rows), PART):
            yield from _read(tower, release, rows[at : at + PART], computing.batch)
        return

    specs = {"image": tower.prepare}
    batch = computing.batch
    for part in read_in_order(release, specs, rows, batch=batch, workers=computing.workers):
        features = iter(tower.of_images(part.images["image"]))
        for row in part.requested:
            yield [] if row in part.bad else _halved(next(features))


def _read(
    tower: FrozenTower, release: Release, rows: Sequence[int], batch: int
) -> Iterator[list[Array]]:
    """Texts of some samples, those of one length together: padding costs as much as words."""
    captions = [release.texts(row)[0] or [""] for row in rows]
    texts = [text for group in captions for text in group]
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    said: dict[int, Array] = {}
    for at in range(0, len(order), batch):
        chosen = order[at : at + batch]
        features = _halved(tower.of_texts([texts[number] for number in chosen]))
        said.update(zip(chosen, features, strict=True))

    found = (said[number] for number in range(len(texts)))
    for group in captions:
        yield list(islice(found, len(group)))


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
            if not said:
                raise ValueError(f"release {release.name}: none of its images can be decoded")
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
