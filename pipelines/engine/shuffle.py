"""Bringing rows together out of core: some parts -> one file each, ordered by group -> one group ->
one part.

A file of an exchange has one row group (Parquet) or one record batch (Arrow) for each group of
rows; its schema's metadata says which. Parquet is smaller. Of an Arrow file a group is found
without reading what describes the others, which counts where there are many.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.store import Folder, Written
from pipelines.urls import ascii_host

_KEY = b"winnow.groups"


def write_groups(folder: Folder, name: str, table: pa.Table, group: np.ndarray) -> Written:
    """Write the rows of a table ordered by group (an integer for each row), their order within a
    group kept.
    """
    order = np.argsort(group, kind="stable")
    groups, starts = np.unique(group[order], return_index=True)
    schema = table.schema.with_metadata({_KEY: json.dumps(groups.tolist()).encode()})
    ordered = table.take(pa.array(order)).cast(schema)
    ends = [*starts[1:].tolist(), table.num_rows][: len(starts)]
    slices = (
        ordered.slice(start, end - start) for start, end in zip(starts.tolist(), ends, strict=True)
    )
    with folder.write(name) as file:
        if name.endswith(".arrow"):
            _write_batches(pa.PythonFile(file, mode="w"), schema, slices)
        else:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for rows in slices:
                    writer.write_table(rows, row_group_size=max(1, rows.num_rows))
    return file.written(name, table.num_rows)


def _write_batches(sink: pa.NativeFile, schema: pa.Schema, slices: Iterable[pa.Table]) -> None:
    with pa.ipc.new_file(
        sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    ) as writer:
        for rows in slices:
            writer.write_batch(rows.combine_chunks().to_batches()[0])


def read_group(folder: Folder, names: Sequence[str], group: int, schema: pa.Schema) -> pa.Table:
    """The rows of one group from all files of an exchange, in the order of the files; an empty
    table if there are none.

    Of Arrow files no other columns are read than those of `schema`.
    """
    found = [schema.empty_table()]
    for name in names:
        with folder.open(name) as source:
            rows = (
                _batch(source, group, schema)
                if name.endswith(".arrow")
                else _row_group(source, group)
            )
            if rows is not None:
                found.append(rows)
    return pa.concat_tables(found)


def _row_group(source: pa.NativeFile, group: int) -> pa.Table | None:
    file = pq.ParquetFile(source)
    groups = json.loads(file.schema_arrow.metadata[_KEY])
    return (
        file.read_row_group(groups.index(group), use_threads=False).replace_schema_metadata()
        if group in groups
        else None
    )


def _batch(source: pa.NativeFile, group: int, schema: pa.Schema) -> pa.Table | None:
    whole = pa.ipc.open_file(source)
    groups = json.loads(whole.schema.metadata[_KEY])
    if group not in groups:
        return None
    wanted = [whole.schema.get_field_index(name) for name in schema.names]
    reader = pa.ipc.open_file(
        source, options=pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
    )
    batch = reader.get_batch(groups.index(group))
    return pa.Table.from_batches([batch]).replace_schema_metadata().select(schema.names)


def bucket_of(keys: pa.Array | pa.ChunkedArray, buckets: int) -> np.ndarray:
    """A bucket for each string key (a null is an empty one), the same on every machine: blake2b,
    each distinct key hashed once.
    """
    encoded = (
        pc.fill_null(pa.chunked_array([keys]) if isinstance(keys, pa.Array) else keys, "")
        .combine_chunks()
        .dictionary_encode()
    )
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    hashes = np.array(
        [stable_hash(key) % buckets for key in encoded.dictionary.to_pylist()], dtype=np.int64
    )
    return (
        hashes[encoded.indices.to_numpy(zero_copy_only=False)]
        if len(hashes)
        else np.zeros(0, dtype=np.int64)
    )


def stable_hash(text: str) -> int:
    """64 bits of a text that never change."""
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


def hosts(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    """The host (with its port) of each address; empty where there is none. Of an imported image,
    its data set and the shard in it.

    One host is one, in whichever letters it is written: what is not ASCII is as name servers are
    asked for it.
    """
    matched = pc.extract_regex(
        urls,
        r"^(?:given://(?P<shard>[^/]*/[^/]*)|[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(?P<host>[^/?#]*))",
    )
    shard, host = (pc.fill_null(pc.struct_field(matched, name), "") for name in ("shard", "host"))
    host = pc.utf8_lower(host)
    if not pc.all(pc.string_is_ascii(host), min_count=0).as_py():
        distinct = pc.unique(host)
        spelled = pa.array([_in_ascii(name) for name in distinct.to_pylist()], pa.string())
        host = spelled.take(pc.index_in(host, value_set=distinct))
    return pc.if_else(pc.equal(shard, ""), host, shard)


def _in_ascii(authority: str) -> str:
    if authority.isascii():
        return authority
    host, colon, port = authority.partition(":")
    return f"{ascii_host(host)}{colon}{port}"
