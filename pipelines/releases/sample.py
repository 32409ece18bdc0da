"""Samples: what a release holds of each image. Its texts, where each was found and what was
measured, of the kept rows of a decision.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.registry import FILTERS
from pipelines.engine.shuffle import stable_hash
from pipelines.store import digest

# where an image stands in the shuffle: 64 bits that depend on the image and the seed alone
SHUFFLED = "shuffled"
# the smallest image_id of the near duplicates of an image; null where it has none
CLUSTER = "image.cluster"
ORIGINAL = "original_text"  # what a rewriter was given
SPLITS = ("train", "heldout")
LOCATION = ("image_collection", "image_part", "image_row")
# of each text, if the decision holds it
PROVENANCE = ("text_source", "page_url", "image_url", "candidate_id", ORIGINAL)
# never the candidate_id, which holds a time
_TIMELESS = ("text_source", "page_url", "image_url", ORIGINAL)

SAMPLE = pa.schema(
    [
        ("image", pa.binary()),
        ("caption", pa.list_(pa.string())),
        ("image_id", pa.string()),
        ("split", pa.string()),
        # from here on a value for each caption, in its order
        ("text_source", pa.list_(pa.string())),
        ("page_url", pa.list_(pa.string())),
        ("image_url", pa.list_(pa.string())),
        ("candidate_id", pa.list_(pa.string())),
    ]
)


def of_image(measurement: str) -> bool:
    """Whether a measurement is one of the image, the same whatever text stands beside it."""
    return measurement.startswith("image.") or any(
        measurement in one.writes for one in FILTERS if one.level == "image"
    )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns of a release, from those of the kept rows: which hold a value for each text, and
    which one for the image.
    """

    rows: pa.Schema
    measurements: tuple[str, ...]  # those that the recipe reads

    @cached_property
    def of_texts(self) -> tuple[str, ...]:
        there = [name for name in PROVENANCE if name in self.rows.names]
        return (*there, *(name for name in self.measurements if not of_image(name)))

    @cached_property
    def of_images(self) -> tuple[str, ...]:
        known = [CLUSTER] if CLUSTER in self.rows.names and CLUSTER not in self.measurements else []
        return (*known, *(name for name in self.measurements if of_image(name)))

    @cached_property
    def schema(self) -> pa.Schema:
        """What a shard holds: the columns that the original ViLT code reads come first."""
        texts = [pa.field(name, pa.list_(self.rows.field(name).type)) for name in self.of_texts]
        return pa.schema(
            [*list(SAMPLE)[:4], *texts, *(self.rows.field(name) for name in self.of_images)]
        )

    @property
    def digested(self) -> tuple[str, ...]:
        """What the digest of a release covers."""
        return ("image_id", "caption", "split", *self.measurements)


def samples(rows: pa.Table, layout: Layout) -> pa.Table:
    """A row for each image, in the order of the shuffle, with its distinct texts in their own
    order.

    Where a text was found several times for an image, its provenance and measurements are those of
    the first by addresses, then by the measurements themselves; what is of the image is taken from
    its first text. The candidate_id decides nothing but itself.
    """
    # a recipe may keep what has no text: its caption is empty
    texts_there = pc.fill_null(rows["text"], "")
    rows = rows.set_column(rows.schema.get_field_index("text"), "text", texts_there)
    ordered = rows.take(
        pc.sort_indices(
            rows, sort_keys=[(name, "ascending") for name in _order(rows.schema, layout)]
        )
    )
    texts = ordered.filter(pa.array(_begins(ordered, ("image_id", "text"))))
    first = np.flatnonzero(_begins(texts, ("image_id",)))
    offsets = pa.array(np.append(first, texts.num_rows).astype(np.int32))
    images = texts.take(pa.array(first))
    columns = {name: images[name] for name in (SHUFFLED, "image_id", *LOCATION, *layout.of_images)}
    lists = {"caption": "text", **{name: name for name in layout.of_texts}}
    columns |= {
        name: pa.ListArray.from_arrays(offsets, _whole(texts[source]))
        for name, source in lists.items()
    }
    return pa.table(columns)


def _order(schema: pa.Schema, layout: Layout) -> list[str]:
    """What rows are ordered by; lists cannot be compared, and none of them differs where all else
    is the same.
    """
    plain = [
        name
        for name in (*layout.of_texts, *layout.of_images)
        if name not in PROVENANCE and _comparable(schema.field(name).type)
    ]
    return [
        SHUFFLED,
        "image_id",
        "text",
        *(name for name in _TIMELESS if name in schema.names),
        *plain,
        "candidate_id",
    ]


def _comparable(kind: pa.DataType) -> bool:
    return bool(not pa.types.is_nested(kind) and not pa.types.is_float16(kind))


def _begins(table: pa.Table, names: Iterable[str]) -> np.ndarray:
    """[n] truths: rows that differ in these columns from the row before."""
    begins = np.zeros(table.num_rows, dtype=bool)
    begins[:1] = True
    for name in names:
        values = _whole(pc.fill_null(table[name], ""))
        begins[1:] |= pc.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    return begins


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)


def shuffled(image_ids: pa.ChunkedArray, seed: int) -> pa.Array:
    """Where each image stands in the shuffle, uint64."""
    encoded = _whole(image_ids).dictionary_encode()
    places = np.array(
        [stable_hash(f"{seed}:{one}") for one in encoded.dictionary.to_pylist()], dtype=np.uint64
    )
    return pa.array(places[encoded.indices.to_numpy(zero_copy_only=False)], pa.uint64())


def split_of(cluster: str, heldout: float) -> str:
    """The split of a cluster of near duplicates, by 64 bits of its own: no picture is in two
    splits, nor one much like it.
    """
    return "heldout" if stable_hash(f"split:{cluster}") < heldout * 2**64 else "train"


def splits(table: pa.Table, heldout: float) -> pa.Array:
    """The split of each sample, by the cluster of its image, which is the image itself where none
    was asked for or found.
    """
    clusters = (
        pc.coalesce(table[CLUSTER], table["image_id"])
        if CLUSTER in table.column_names
        else table["image_id"]
    )
    encoded = _whole(clusters).dictionary_encode()
    return pa.array(
        [split_of(one, heldout) for one in encoded.dictionary.to_pylist()], pa.string()
    ).take(encoded.indices)


class Summing:
    """The digest of samples as they come, each column on its own: it depends on their order, and
    not on how they are cut into batches.

    Of a column are hashed which values are null, how long each is, and the values themselves, a
    null counting as empty or zero.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._hashes: dict[str, Any] = {}

    def add(self, batch: pa.RecordBatch | pa.Table) -> None:
        for name in self._names:
            column = batch.column(name)
            for array in column.chunks if isinstance(column, pa.ChunkedArray) else (column,):
                self._values(name, array)

    def hexdigest(self) -> str:
        return digest({name: found.hexdigest() for name, found in self._hashes.items()})

    def _hash(self, name: str, values: np.ndarray | pa.Buffer) -> None:
        self._hashes.setdefault(name, hashlib.sha256()).update(values)

    def _values(self, name: str, array: pa.Array) -> None:
        kind = array.type
        self._hash(f"{name} there", _numbers(array.is_valid()))
        if pa.types.is_list(kind):
            self._hash(f"{name} length", _numbers(pc.list_value_length(array)))
            self._values(f"{name} item", pc.list_flatten(array))
        elif pa.types.is_string(kind) or pa.types.is_binary(kind):
            filled = pc.fill_null(array, "" if pa.types.is_string(kind) else b"")
            self._hash(f"{name} length", _numbers(pc.binary_length(filled)))
            self._hash(name, _bytes(filled))
        else:
            self._hash(name, _numbers(array))


def _numbers(array: pa.Array) -> np.ndarray:
    """Numbers as they lie in memory, little-endian."""
    plain = array.cast(pa.uint8()) if pa.types.is_boolean(array.type) else array
    plain = plain.view(pa.uint16()) if pa.types.is_float16(plain.type) else plain
    return np.ascontiguousarray(pc.fill_null(plain, 0).to_numpy(zero_copy_only=False))


def _bytes(array: pa.Array) -> pa.Buffer:
    """The bytes of texts, one after another."""
    _, offsets, data = array.buffers()
    ends = (
        np.frombuffer(offsets, dtype=np.int32)[array.offset : array.offset + len(array) + 1]
        if len(array)
        else [0]
    )
    return data.slice(ends[0], ends[-1] - ends[0]) if data is not None else pa.py_buffer(b"")
