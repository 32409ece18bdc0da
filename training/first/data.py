"""Releases as training reads them: memory-mapped Arrow shards, a settled order, batches that carry their place."""

import hashlib
import io
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from training.data.decode import DECODED, frame_of

CACHED_BYTES = 1 << 30  # decoded pixels of a release are held in memory when they fit into a gigabyte
# what Pillow 12.3 and its plugins raise of broken pictures, beside OSError: of a damaged AVIF, RuntimeError and NotImplementedError
BROKEN = (
    RuntimeError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip
Place = dict[str, int]  # name of a release -> samples already taken from it in this stage


def decode(encoded: bytes, side: int) -> NDArray[np.uint8]:
    """An encoded picture as [side, side, 3]; it is stretched to a square, bicubic (ViLT's filter). OSError if it cannot be decoded."""
    if (frame := frame_of(encoded)) and frame not in DECODED:  # Pillow 12.3 corrupts memory where it scales a lossless one
        raise OSError(f"a JPEG of frame type SOF{frame - 0xC0}, which is not decoded")
    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            picture.draft("RGB", (side, side))  # JPEG: decode at the nearest larger eighth, never below `side`
            return np.array(picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
    except BROKEN as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def scale(pixels: NDArray[np.uint8]) -> Tensor:
    """[n, side, side, 3] bytes -> [n, 3, side, side] in -1..1 (mean and deviation 0.5: ViT, ViLT)."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1.0).contiguous()


class Release:
    """The samples of one release; any sample is reached without reading the others."""

    def __init__(self, name: str, shards: Sequence[Path]) -> None:
        if not shards:
            raise ValueError(f"release {name} has no shards: was it built, and with a train split?")
        self.name, self.shards = name, [Path(shard) for shard in shards]
        tables = [_map(shard, name) for shard in self.shards]
        table = pa.concat_tables(tables)
        self._images, captions = table.column("image"), table.column("caption")
        self.captions: list[list[str]] = captions.to_pylist()
        self._pixels: NDArray[np.uint8] | None = None
        if not self.captions:
            raise ValueError(f"release {name} has no samples: loosen the recipe or collect more")

    def __len__(self) -> int:
        return len(self.captions)

    def digest(self) -> str:
        """The digest in the manifest beside the shards; without a manifest, one over the shards' bytes."""
        manifest = self.shards[0].parent / "manifest.json"
        if manifest.is_file():
            return str(json.loads(manifest.read_text(encoding="utf-8"))["digest"])
        total = hashlib.blake2b(digest_size=16)
        for shard in self.shards:
            total.update(shard.read_bytes())
        return total.hexdigest()

    def pixels(self, rows: Sequence[int], side: int, pool: ThreadPoolExecutor) -> NDArray[np.uint8]:
        """[n, side, side, 3]; a small release is decoded once and held."""
        if self._pixels is None and len(self) * side * side * 3 <= CACHED_BYTES:
            self._pixels = self._decode(range(len(self)), side, pool)
        held = self._pixels
        return self._decode(rows, side, pool) if held is None else held[np.asarray(rows)]

    def _decode(self, rows: Sequence[int], side: int, pool: ThreadPoolExecutor) -> NDArray[np.uint8]:
        return np.stack(list(pool.map(lambda row: self._picture(row, side), rows)))

    def _picture(self, row: int, side: int) -> NDArray[np.uint8]:
        try:
            return decode(self._images[row].as_py(), side)
        except OSError as error:  # Pillow's errors of broken pictures are of this kind
            raise ValueError(f"release {self.name}: the picture of sample {row} cannot be decoded ({error}): build it again") from error


def _map(shard: Path, name: str) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(shard))).read_all().select(["image", "caption"])
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise ValueError(f"release {name}: {shard} is not a shard of a release ({error}); build the release again") from error


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples, and the place after them: what a run needs to go on from here."""

    captions: list[str]
    pixels: Tensor  # [n, 3, side, side]
    place: Place


class Mixture:
    """An endless, settled order of samples over releases in given shares.

    Which release gives a sample depends on (seed, step); the order inside a release on (seed, release, epoch). Nothing else is remembered
    than how many samples each release gave, so a run goes on exactly where another stopped.
    """

    def __init__(self, releases: Mapping[str, Release], shares: Mapping[str, float], *, batch: int, side: int, seed: int) -> None:
        self.releases = {name: releases[name] for name in sorted(shares)}
        total = sum(shares.values())
        self._shares = [shares[name] / total for name in self.releases]
        self._batch, self._side, self._seed = batch, side, seed
        self._orders: dict[tuple[str, int], NDArray[np.int64]] = {}

    def batches(self, step: int, place: Place) -> Iterator[Batch]:
        """Batches from `step` on, the releases having given `place` samples."""
        taken = {name: place.get(name, 0) for name in self.releases}
        with ThreadPoolExecutor(max_workers=2) as pool:
            while True:
                yield self._next(step, taken, pool)
                step += 1

    def _next(self, step: int, taken: Place, pool: ThreadPoolExecutor) -> Batch:
        counts = np.random.default_rng([self._seed, 1, step]).multinomial(self._batch, self._shares)
        captions: list[str] = []
        pixels = []
        for (name, release), count in zip(self.releases.items(), counts.tolist(), strict=True):
            if count:
                rows = [self._row(name, number) for number in range(taken[name], taken[name] + count)]
                captions += [self._caption(release, row, taken[name] + place) for place, row in enumerate(rows)]
                pixels.append(release.pixels(rows, self._side, pool))
                taken[name] += count
        return Batch(captions=captions, pixels=scale(np.concatenate(pixels)), place=dict(taken))

    def _row(self, name: str, number: int) -> int:
        epoch, place = divmod(number, len(self.releases[name]))
        if (name, epoch) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key[0] != name or key[1] == epoch - 1}
            letters = list(name.encode())
            self._orders[name, epoch] = np.random.default_rng([self._seed, 2, epoch, *letters]).permutation(len(self.releases[name]))
        return int(self._orders[name, epoch][place])

    def _caption(self, release: Release, row: int, number: int) -> str:
        captions = release.captions[row]
        if not captions:
            return ""
        return captions[int(np.random.default_rng([self._seed, 3, number]).integers(len(captions)))] if len(captions) > 1 else captions[0]
