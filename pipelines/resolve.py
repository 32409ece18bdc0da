"""Resolve: what became of the image of each candidate, taken from the buckets of hosts back to the parts of candidates."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.exchange import bucket_of, read_group, write_groups
from pipelines.permission import address_outcome
from pipelines.schema import CANDIDATES
from pipelines.stage import Manifest, Output, Part, Stage
from pipelines.store import Folder, read_table, write_parquet

WANTED = pa.schema([("part", pa.int32()), ("row", pa.int32()), ("image_url", pa.string())])
FOUND = pa.schema([("image_id", pa.string()), ("fetch_outcome", pa.string()), ("image_part", pa.string()), ("image_row", pa.int64())])


def hosts(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    """The host (with its port) of each address; empty where there is none."""
    matched = pc.extract_regex(urls, r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(?P<host>[^/?#]*)")
    return pc.utf8_lower(pc.fill_null(pc.struct_field(matched, "host"), ""))


def host_buckets(candidates: int) -> int:
    """How many buckets of hosts a collection has: one for some thousand candidates, so that a bucket fits in memory."""
    return max(1, -(-candidates // 16_384))


@dataclass(frozen=True, kw_only=True)
class Scatter(Stage):
    """Sends the image addresses that may be fetched to the bucket of their host."""

    name: ClassVar[str] = "scatter"
    version: ClassVar[int] = 1
    collection: Folder

    @classmethod
    def of(cls, collection: Folder) -> "Scatter":
        return cls(out=collection / "urls" / "by-host", collection=collection)

    def _candidates(self) -> Manifest:
        manifest = Manifest.read(self.collection / "candidates")
        assert manifest is not None, "candidates come first"
        return manifest

    def inputs(self) -> dict[str, str]:
        return {"candidates": self._candidates().digest}

    def buckets(self) -> int:
        return host_buckets(int(self._candidates().counts.get("candidates", 0)))

    def parts(self) -> list[Part]:
        names = self._candidates().names(".parquet", "part-")
        return [Part(name=name.removesuffix(".parquet"), inputs=(name, str(index))) for index, name in enumerate(names)]

    def process(self, part: Part) -> Output:
        name, index = part.inputs
        table = read_table(self.collection / "candidates", name, ["image_url", "permission"])
        refused = pa.array([address_outcome(url) is not None for url in table["image_url"].to_pylist()], pa.bool_())
        wanted = pc.and_not(pc.is_null(table["permission"]), refused)
        row = pa.array(np.arange(table.num_rows, dtype=np.int32))
        rows = pa.table([pa.array(np.full(table.num_rows, int(index), dtype=np.int32)), row, table["image_url"]], schema=WANTED).filter(
            wanted
        )
        bucket = bucket_of(hosts(rows["image_url"]), self.buckets())
        return Output(files=(write_groups(self.out, f"{part.name}.parquet", rows, bucket),), counts={"addresses": rows.num_rows})


@dataclass(frozen=True, kw_only=True)
class Distinct(Stage):
    """The distinct image addresses of each bucket, sorted by host and address: what is to be fetched."""

    name: ClassVar[str] = "distinct"
    version: ClassVar[int] = 1
    scatter: Scatter

    @classmethod
    def of(cls, collection: Folder) -> "Distinct":
        return cls(out=collection / "urls", scatter=Scatter.of(collection))

    def inputs(self) -> dict[str, str]:
        return {"scatter": self.scatter.identity()}

    def parts(self) -> list[Part]:
        return [Part(name=f"bucket-{bucket:05d}", inputs=(str(bucket),)) for bucket in range(self.scatter.buckets())]

    def process(self, part: Part) -> Output:
        manifest = Manifest.read(self.scatter.out)
        assert manifest is not None, "scatter comes first"
        rows = read_group(self.scatter.out, manifest.names(), int(part.inputs[0]), WANTED)
        urls = pa.chunked_array([pc.unique(rows["image_url"])])
        table = pa.table({"image_url": urls, "host": hosts(urls)}).sort_by([("host", "ascending"), ("image_url", "ascending")])
        return Output(files=(write_parquet(self.out, f"{part.name}.parquet", table),), counts={"distinct": table.num_rows})


@dataclass(frozen=True, kw_only=True)
class Resolve(Stage):
    """Joins the addresses of a bucket with their fetches and with what was measured on the images, and sends them home."""

    name: ClassVar[str] = "resolve"
    version: ClassVar[int] = 1
    scatter: Scatter
    fetched: Manifest
    measured: tuple[Folder, ...]
    columns: tuple[str, ...]  # measurements that are asked for
    schema: pa.Schema  # of the result
    digests: tuple[str, ...]

    def config(self) -> dict[str, Any]:
        return {"columns": list(self.columns)}

    def inputs(self) -> dict[str, str]:
        return {
            "scatter": self.scatter.identity(),
            "fetches": self.fetched.digest,
            **{f"measured-{i}": d for i, d in enumerate(self.digests)},
        }

    def parts(self) -> list[Part]:
        return [Part(name=f"bucket-{bucket:05d}", inputs=(str(bucket),)) for bucket in range(self.scatter.buckets())]

    def process(self, part: Part) -> Output:
        bucket = int(part.inputs[0])
        manifest = Manifest.read(self.scatter.out)
        assert manifest is not None, "scatter comes first"
        rows = read_group(self.scatter.out, manifest.names(), bucket, WANTED)
        fetches, images = self._fetched(bucket)
        fetch = fetches.take(pc.index_in(rows["image_url"], value_set=fetches["image_url"].combine_chunks()))
        image = images.take(pc.index_in(fetch["image_id"], value_set=images["image_id"].combine_chunks(), skip_nulls=True))
        columns = [rows["part"], rows["row"], fetch["image_id"], fetch["outcome"], *(image[name] for name in self.schema.names[4:])]
        table = pa.table(columns, schema=self.schema)
        written = write_groups(self.out, f"{part.name}.parquet", table, table["part"].to_numpy())
        return Output(files=(written,), counts={"addresses": table.num_rows})

    def _fetched(self, bucket: int) -> tuple[pa.Table, pa.Table]:
        """The fetches of a bucket, and its images with their places and measurements, each image once."""
        collection = self.scatter.collection
        prefix = f"part-{bucket:05d}-"
        fetches = [pa.schema([("image_url", pa.string()), ("image_id", pa.string()), ("outcome", pa.string())]).empty_table()]
        images = [pa.schema([("image_id", pa.string()), *list(self.schema)[4:]]).empty_table()]
        for name in self.fetched.names(".parquet"):
            if name.startswith(prefix):
                fetches.append(read_table(collection / "fetches", name, ["image_url", "image_id", "outcome"]))
                images.append(self._images(collection / "images", name.replace(".parquet", ".arrow")))
        return pa.concat_tables(fetches), pa.concat_tables(images)

    def _images(self, folder: Folder, name: str) -> pa.Table:
        ids = read_table(folder, name, ["image_id"])["image_id"]
        columns: dict[str, Any] = {"image_id": ids, "image_part": pa.array([name] * len(ids), pa.string())}
        columns["image_row"] = pa.array(np.arange(len(ids)))
        for measured in self.measured:
            part = name.replace(".arrow", ".parquet")
            if measured.exists(part):
                table = read_table(measured, part)
                columns |= {column: table[column] for column in table.column_names if column in self.columns}
        rows = len(ids)
        return pa.table(
            {
                field.name: columns.get(field.name, pa.nulls(rows, field.type))
                for field in [pa.field("image_id", pa.string()), *list(self.schema)[4:]]
            }
        )


def resolved_schema(measurements: dict[str, pa.DataType]) -> pa.Schema:
    """The columns that `Resolve` writes: the place of the candidate, what became of its image, and its measurements."""
    return pa.schema([*list(WANTED)[:2], *FOUND, *measurements.items()])


assert set(WANTED.names) - {"part", "row"} <= set(CANDIDATES.names)
