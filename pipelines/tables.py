"""Tables in files: Parquet, which is asked questions, and Arrow, which is read row by row."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.store import Folder, Written


def read_table(folder: Folder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet or Arrow file, whole or some of its columns; an Arrow file on a local disk is
    mapped, not read.
    """
    chosen = list(columns) if columns is not None else None
    if name.endswith(".arrow"):
        table = pa.ipc.open_file(folder.open(name)).read_all()
        return table.select(chosen) if chosen is not None else table
    with folder.open(name) as file:
        return pq.read_table(file, columns=chosen, use_threads=False)


def write_parquet(folder: Folder, name: str, table: pa.Table) -> Written:
    with folder.write(name) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=65_536)
    return file.written(name, table.num_rows)


def write_arrow(
    folder: Folder, name: str, table: pa.Table, *, rows_per_batch: int = 256
) -> Written:
    """An Arrow IPC file, uncompressed, in record batches small enough to reach any row at once."""
    return write_batches(
        folder, name, table.schema, table.combine_chunks().to_batches(max_chunksize=rows_per_batch)
    )


def write_batches(
    folder: Folder, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Written:
    """An Arrow IPC file of record batches as they come, one in memory at a time."""
    rows = 0
    with (
        folder.write(name) as file,
        pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return file.written(name, rows)
