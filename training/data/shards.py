"""Releases: Arrow shards, mapped into memory; any sample is reached without reading the others."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.data.cache import ShardCache, is_local, local_path, names_in, read_bytes

SPLITS = ("train", "heldout")
EVERY = "all"  # asks for both
# the first two must be there; `answers` are those to a question, `second` is another image of it
COLUMNS = ("image", "caption", "image_id", "split", "text_source", "answers", "second")
OPEN_SHARDS = 256  # mapped at once by a process; systems commonly allow 65,530 maps
OPEN_FETCHED = 8  # of those that came from afar: a removed copy takes room until it is closed


class Sample(NamedTuple):
    """One image with its texts, as they lie in the shard."""

    image: bytes
    captions: list[str]
    sources: list[str]  # where each caption was found (alt, given, synthetic ...); "" if unknown
    image_id: str
    answers: Sequence[str] = ()  # to the question that the one caption is
    second: bytes = b""  # of a sample with two images


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a release."""

    address: str
    rows: int
    split: str = ""  # of its rows that count; "": all of them do


class Release:
    """The samples of one split of one release.

    Nothing is held for a sample: columns stay where they are mapped, shards are opened when they
    are asked for. A release travels to another process as the names of its shards.
    """

    def __init__(
        self, name: str, shards: Sequence[Shard], *, cache: ShardCache | None = None
    ) -> None:
        self.name = name
        self.shards = list(shards)
        self.cache = cache or ShardCache()
        self.counts = [shard.rows for shard in self.shards]
        self._ends = list(accumulate(self.counts))
        self._open_shards: OrderedDict[int, _OpenShard] = OrderedDict()
        if not self.shards:
            raise ValueError(f"release {name} has no shards: was it built, and with this split?")
        if not len(self):
            raise ValueError(f"release {name} has no samples: loosen the recipe or collect more")

    @classmethod
    def open(
        cls, name: str, folder: str | Path, *, split: str = "train", cache: ShardCache | None = None
    ) -> Release:
        """The release in a folder or under any fsspec URL.

        Its manifest says which shards there are and how many rows they have, so that none is
        opened; without one, every shard is asked.
        """
        if split not in (*SPLITS, EVERY):
            raise ValueError(f"split {split!r} is not known: train, heldout or all")
        address = str(folder).rstrip("/")
        cache = cache or ShardCache()
        return cls(name, _shards(name, address, split, cache), cache=cache)

    @classmethod
    def heldout(cls, name: str, folder: str | Path) -> Release | None:
        """What a release holds out of training, called NAME/heldout; None if that is nothing."""
        address = str(folder).rstrip("/")
        cache = ShardCache()
        shards = []
        for shard in _shards(name, address, "heldout", cache):
            if shard.rows:
                shards.append(shard)
        if not shards:
            return None
        return cls(f"{name}/heldout", shards, cache=cache)

    @classmethod
    def of(cls, name: str, paths: Sequence[str | Path]) -> Release:
        """Some files, all rows of them."""
        cache = ShardCache()
        shards = []
        for path in paths:
            opened = _OpenShard(name, str(path), cache)
            shards.append(Shard(address=str(path), rows=opened.rows))
        return cls(name, shards)

    def first(self, samples: int) -> Release:
        """So many samples from the front; all of them where there are no more, or for 0."""
        if not 0 < samples < len(self):
            return self
        last = int(np.searchsorted(self._ends, samples))  # the shard in which the cut lies
        cut = Release(self.name, self.shards[: last + 1], cache=self.cache)
        cut.counts[last] -= len(cut) - samples
        cut._ends = list(accumulate(cut.counts))
        return cut

    def __len__(self) -> int:
        if not self._ends:
            return 0
        return self._ends[-1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open_shards": OrderedDict()}

    def __getitem__(self, row: int) -> Sample:
        """A sample by its number; ValueError if its shard is damaged."""
        shard, row_of_shard = self._find(row)
        sample = shard.sample(row_of_shard)
        if sample.image_id:
            return sample
        return sample._replace(image_id=f"{self.name}-{row}")

    def texts(self, row: int) -> tuple[list[str], list[str]]:
        """Captions of a sample and their sources; its image is not touched."""
        shard, row_of_shard = self._find(row)
        return shard.texts(row_of_shard)

    def answers(self, row: int) -> Sequence[str]:
        """Answers to the question of a sample; its image is not touched."""
        shard, row_of_shard = self._find(row)
        return shard.answers(row_of_shard)

    def image_id(self, row: int) -> str:
        """The id of a sample's image, which is not touched."""
        shard, row_of_shard = self._find(row)
        return shard.image_id(row_of_shard) or f"{self.name}-{row}"

    def all_captions(self) -> Iterator[str]:
        """Every text, a record batch at a time."""
        for number, rows in enumerate(self.counts):
            shard = self._open(number)
            if rows == shard.rows:
                yield from shard.all_captions()
                continue
            for row in range(rows):
                captions, _ = shard.texts(row)
                yield from captions

    def digest(self) -> str:
        """The digest in the manifest beside the shards; without one, one over the shards' bytes."""
        manifest = _manifest(self._folder)
        if manifest is not None and "digest" in manifest:
            return str(manifest["digest"])
        digest = hashlib.blake2b(digest_size=16)
        for shard in self.shards:
            with self.cache.path(shard.address).open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        return digest.hexdigest()

    @property
    def home(self) -> Path | None:
        """The folder in which the shards lie; None when that is not on this machine."""
        if not is_local(self._folder):
            return None
        return local_path(self._folder)

    @property
    def _folder(self) -> str:
        """The address of the folder in which the shards lie."""
        return self.shards[0].address.rpartition("/")[0]

    def _find(self, row: int) -> tuple[_OpenShard, int]:
        """The shard that a row lies in, and its number there."""
        if not 0 <= row < len(self):
            raise IndexError(f"release {self.name} has {len(self)} samples, none numbered {row}")
        number = bisect_right(self._ends, row)
        start = self._ends[number] - self.counts[number]
        return self._open(number), row - start

    def _open(self, number: int) -> _OpenShard:
        """A shard, mapped; the least recently used ones are closed."""
        if number in self._open_shards:
            self._open_shards.move_to_end(number)
            return self._open_shards[number]

        shard = self.shards[number]
        opened = _OpenShard(self.name, shard.address, self.cache, shard.split)
        if opened.rows != shard.rows:
            raise ValueError(
                f"release {self.name}: {shard.address} has {opened.rows} rows, its manifest says "
                f"{shard.rows}: build the release again"
            )
        limit = OPEN_SHARDS if is_local(shard.address) else OPEN_FETCHED
        while len(self._open_shards) >= limit:
            self._open_shards.popitem(last=False)
        self._open_shards[number] = opened
        return opened


class _OpenShard:
    """A shard that is mapped: its columns, as the record batches that it was written in."""

    def __init__(self, release: str, address: str, cache: ShardCache, split: str = "") -> None:
        self._name = f"release {release}: {address}"
        try:
            self._columns = _map(cache.path(address))
            self._rows_of_split = self._find_split(split) if split else None
        except FileNotFoundError as error:
            raise ValueError(f"{self._name} is missing: build the release again") from error
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise ValueError(
                f"{self._name} is not a shard of a release ({error}): build the release again"
            ) from error
        lengths = [len(chunk) for chunk in self._columns["image"]]
        self._ends = list(accumulate(lengths))

    @property
    def rows(self) -> int:
        if self._rows_of_split is not None:
            return len(self._rows_of_split)
        if not self._ends:
            return 0
        return self._ends[-1]

    def sample(self, row: int) -> Sample:
        """ValueError when the bytes of a column cannot be what its header says."""
        captions, sources = self.texts(row)
        return Sample(
            image=self._value("image", row) or b"",
            captions=captions,
            sources=sources,
            image_id=self.image_id(row),
            answers=self.answers(row),
            second=self._value("second", row) or b"",
        )

    def answers(self, row: int) -> list[str]:
        """What was answered to a question; nothing where there is none."""
        answers = self._value("answers", row) or []
        return [answer for answer in answers if answer]

    def image_id(self, row: int) -> str:
        """The id; "" where the shard has none."""
        return self._value("image_id", row) or ""

    def texts(self, row: int) -> tuple[list[str], list[str]]:
        """Captions and their sources, "" for each that is null."""
        captions = self._value("caption", row) or []
        sources = self._value("text_source", row) or [""] * len(captions)
        return [caption or "" for caption in captions], [source or "" for source in sources]

    def all_captions(self) -> Iterator[str]:
        if self._rows_of_split is not None:
            for row in range(self.rows):
                captions, _ = self.texts(row)
                yield from captions
            return
        for chunk in self._columns["caption"]:
            for caption in chunk.flatten():
                yield caption.as_py() or ""

    def _find_split(self, split: str) -> NDArray[np.int64]:
        """The rows of a split, ascending."""
        if "split" not in self._columns:
            raise KeyError("it has no column split")
        column = pa.chunked_array(self._columns["split"], pa.string())
        mask = pc.equal(column, split).fill_null(False)
        return np.flatnonzero(mask.to_numpy())

    def _value(self, column: str, row: int) -> Any:
        """A value of a row; None where the shard has no such column."""
        chunks = self._columns.get(column)
        if chunks is None:
            return None
        if self._rows_of_split is not None:
            row = int(self._rows_of_split[row])
        number = bisect_right(self._ends, row)
        start = self._ends[number - 1] if number else 0
        try:
            return chunks[number][row - start].as_py()
        except (pa.ArrowInvalid, UnicodeDecodeError, IndexError, MemoryError) as error:
            raise ValueError(f"{self._name} is damaged at row {row} ({error})") from error


def _map(path: Path) -> dict[str, list[pa.Array]]:
    """Of each column that training reads, its chunks; nothing of them is read yet."""
    source = pa.memory_map(str(path))
    names = pa.ipc.open_file(source).schema.names
    missing = {"image", "caption"} - set(names)
    if missing:
        raise KeyError(f"it lacks {', '.join(sorted(missing))}")

    columns = [name for name in COLUMNS if name in names]
    fields = [names.index(name) for name in columns]
    options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
    table = pa.ipc.open_file(source, options=options).read_all()
    return {name: table.column(name).chunks for name in columns}


def _manifest(folder: str) -> dict[str, Any] | None:
    """The manifest of a release; None where there is no such file."""
    path = f"{folder}/manifest.json"
    try:
        return dict(json.loads(read_bytes(path)))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _listed(name: str, folder: str) -> Mapping[str, int | None]:
    """Names of the files in a folder, with their rows where the manifest says so."""
    if is_local(folder) and not local_path(folder).is_dir():
        raise ValueError(f"release {name}: there is no folder {folder}")
    manifest = _manifest(folder)
    if manifest is None or "files" not in manifest:
        return dict.fromkeys(names_in(folder))
    if manifest.get("format", "arrow") != "arrow":
        raise ValueError(f"release {name} is in {manifest['format']}: training reads arrow")
    return {str(file["name"]): file.get("rows") for file in manifest["files"]}


def _shards(name: str, folder: str, split: str, cache: ShardCache) -> list[Shard]:
    """The shards of a split: by their name, or by the column where the name says nothing.

    Of `all` every shard.
    """
    shards = []
    for file, rows in sorted(_listed(name, folder).items()):
        if not file.endswith(".arrow"):
            continue
        split_of_file = file.partition("-")[0]
        if split_of_file in SPLITS and split not in (split_of_file, EVERY):
            continue

        address = f"{folder}/{file}"
        whole = split in (split_of_file, EVERY)
        column = "" if whole else split  # whose rows count
        if rows is None or not whole:
            rows = _OpenShard(name, address, cache, column).rows
        shards.append(Shard(address=address, rows=rows, split=column))
    return shards
