"""Bringing rows together out of core: some parts -> one file each, ordered by group -> one group -> one part.

A file of an exchange is Parquet with one row group for each group of rows; its schema's metadata says which.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.store import Folder, Written

_KEY = b"winnow.groups"


def write_groups(folder: Folder, name: str, table: pa.Table, group: np.ndarray) -> Written:
    """Write the rows of a table ordered by group (an integer for each row), their order within a group kept."""
    order = np.argsort(group, kind="stable")
    groups, starts = np.unique(group[order], return_index=True)
    schema = table.schema.with_metadata({_KEY: json.dumps(groups.tolist()).encode()})
    ordered = table.take(pa.array(order)).cast(schema)
    ends = [*starts[1:].tolist(), table.num_rows][: len(starts)]
    with folder.write(name) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start, end in zip(starts.tolist(), ends, strict=True):
            writer.write_table(ordered.slice(start, end - start), row_group_size=max(1, end - start))
    return file.written(name, table.num_rows)


def read_group(folder: Folder, names: Sequence[str], group: int, schema: pa.Schema) -> pa.Table:
    """The rows of one group from all files of an exchange, in the order of the files; an empty table if there are none."""
    found = [schema.empty_table()]
    for name in names:
        with folder.open(name) as source:
            file = pq.ParquetFile(source)
            groups = json.loads(file.schema_arrow.metadata[_KEY])
            if group in groups:
                found.append(file.read_row_group(groups.index(group), use_threads=False).replace_schema_metadata())
    return pa.concat_tables(found)


def bucket_of(keys: pa.Array | pa.ChunkedArray, buckets: int) -> np.ndarray:
    """A bucket for each string key (a null is an empty one), the same on every machine: blake2b, each distinct key hashed once."""
    encoded = pc.fill_null(pa.chunked_array([keys]) if isinstance(keys, pa.Array) else keys, "").combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    hashes = np.array([stable_hash(key) % buckets for key in encoded.dictionary.to_pylist()], dtype=np.int64)
    return hashes[encoded.indices.to_numpy(zero_copy_only=False)] if len(hashes) else np.zeros(0, dtype=np.int64)


def stable_hash(text: str) -> int:
    """64 bits of a text that never change."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
