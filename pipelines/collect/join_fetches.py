"""Resolve: what became of the image of each candidate, taken from the buckets of hosts back to the
parts of candidates.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe.recipe import Recipe, decide_row
from pipelines.accounts import Account
from pipelines.collect.collection import stage_manifest
from pipelines.collect.fetched_urls import host_buckets, references
from pipelines.engine.shuffle import bucket_of, hosts, read_group, write_groups
from pipelines.engine.stage import Manifest, Output, Part, Stage
from pipelines.measure import beside_candidates, with_nulls
from pipelines.permission.outcomes import address_outcome
from pipelines.permission.takedown_list import FORGOTTEN
from pipelines.schema import CANDIDATES
from pipelines.store import Folder
from pipelines.tables import read_table, write_parquet

WANTED = pa.schema([("part", pa.int32()), ("row", pa.int32()), ("image_url", pa.string())])
FOUND = pa.schema(
    [
        ("image_id", pa.string()),
        ("fetch_outcome", pa.string()),
        ("image_collection", pa.string()),  # the collection that holds the bytes
        ("image_part", pa.string()),  # its file
        ("image_row", pa.int64()),
    ]
)
STOPPED = "stopped."  # before the names of what keeps candidates from being fetched
LOST = "fetch.lost"  # no row tells what became of the address: the part that held it failed


@dataclass(frozen=True, kw_only=True)
class PartitionByHost(Stage):
    """Sends the image addresses that may be fetched to the bucket of their host.

    With a recipe, only those of candidates that its rules on candidates alone let pass; `measured`
    are the folders of what they read.
    """

    name: ClassVar[str] = "scatter"
    version: ClassVar[int] = 4
    accounts: ClassVar[tuple[Account, ...]] = (
        Account(of="candidates", into=("addresses", STOPPED)),
    )
    collection: Folder
    recipe: Recipe | None = None
    measured: tuple[Folder, ...] = ()

    @property
    def doing(self) -> str:
        return "addresses by host"

    @classmethod
    def of(cls, collection: Folder) -> "PartitionByHost":
        return cls(out=collection / "urls" / "by-host", collection=collection)

    def _candidates(self) -> Manifest:
        return stage_manifest(self.collection, "candidates")

    def config(self) -> dict[str, Any]:
        return (
            {}
            if self.recipe is None
            else {
                "before_fetch": [
                    rule.model_dump(mode="json") for rule in self.recipe.candidate_rules
                ]
            }
        )

    def inputs(self) -> dict[str, str]:
        measured = {
            folder.name: manifest.digest
            for folder in self.measured
            if (manifest := Manifest.read(folder)) is not None
        }
        return {"candidates": self._candidates().digest, **measured}

    def buckets(self) -> int:
        return host_buckets(int(self._candidates().counts.get("candidates", 0)))

    def parts(self) -> list[Part]:
        names = self._candidates().names(".parquet", "part-")
        return [
            Part(name=name.removesuffix(".parquet"), inputs=(name, str(index)))
            for index, name in enumerate(names)
        ]

    def process(self, part: Part) -> Output:
        name, index = part.inputs
        table = read_table(self.collection / "candidates", name, ["image_url", "permission"])
        malformed = pa.array(
            [address_outcome(url) for url in table["image_url"].to_pylist()], pa.string()
        )
        forgotten = pc.if_else(
            pa.array(self.forgotten.addresses(table["image_url"])), FORGOTTEN, None
        )
        stopped = pc.coalesce(self._stopped(name, table["permission"]), malformed, forgotten)
        place = {
            "part": np.full(table.num_rows, int(index), dtype=np.int32),
            "row": np.arange(table.num_rows, dtype=np.int32),
        }
        rows = pa.table({**place, "image_url": table["image_url"]}, schema=WANTED).filter(
            pc.is_null(stopped)
        )
        bucket = bucket_of(hosts(rows["image_url"]), self.buckets())
        counts = Counter(f"{STOPPED}{outcome}" for outcome in stopped.drop_null().to_pylist())
        written = write_groups(self.out, f"{part.name}.parquet", rows, bucket)
        return Output(files=(written,), counts={"addresses": rows.num_rows, **counts})

    def _stopped(self, name: str, outcome: pa.ChunkedArray) -> pa.ChunkedArray:
        """What stops each candidate before its address is asked: its page's permission, then the
        recipe's rules on candidates.
        """
        if self.recipe is None:
            return outcome
        reads = {column for rule in self.recipe.candidate_rules for column in rule.reads}
        table = with_nulls(beside_candidates(self.collection, name, self.measured, reads), reads)
        for rule in self.recipe.candidate_rules:
            outcome = pc.coalesce(outcome, decide_row(rule, table))
        return outcome


@dataclass(frozen=True, kw_only=True)
class DistinctUrls(Stage):
    """The distinct image addresses of each bucket, sorted by host and address: what is to be
    fetched, and what is held already.

    `remembered` are the memories of earlier collections; what one of them fetched after `since`
    (ISO 8601) is not fetched again.
    """

    name: ClassVar[str] = "distinct"
    version: ClassVar[int] = 3
    accounts: ClassVar[tuple[Account, ...]] = (
        Account(of="addresses", into=("distinct", "repeated")),
    )
    scatter: PartitionByHost
    remembered: tuple[Folder, ...] = ()
    since: str = ""

    @property
    def doing(self) -> str:
        return "distinct addresses"

    @classmethod
    def of(cls, collection: Folder) -> "DistinctUrls":
        return cls(out=collection / "urls", scatter=PartitionByHost.of(collection))

    def config(self) -> dict[str, Any]:
        return {"since": self.since} if self.remembered else {}

    def inputs(self) -> dict[str, str]:
        memories = {
            folder.name: manifest.digest
            for folder in self.remembered
            if (manifest := Manifest.read(folder)) is not None
        }
        return {
            "scatter": stage_manifest(self.scatter.collection, "urls/by-host").digest,
            **memories,
        }

    def parts(self) -> list[Part]:
        return [
            Part(name=f"bucket-{bucket:05d}", inputs=(str(bucket),))
            for bucket in range(self.scatter.buckets())
        ]

    def process(self, part: Part) -> Output:
        bucket = int(part.inputs[0])
        scattered = stage_manifest(self.scatter.collection, "urls/by-host")
        rows = read_group(self.scatter.out, scattered.names(), bucket, WANTED)
        urls = pc.unique(rows["image_url"])
        known = references(self.remembered, bucket, self.scatter.buckets(), urls, self.since)
        held = known.take(
            pc.index_in(urls, value_set=known["image_url"].combine_chunks())
        ).drop_columns(["image_url"])
        address = {"image_url": pa.chunked_array([urls]), "host": hosts(pa.chunked_array([urls]))}
        table = pa.table({**address, **{name: held[name] for name in held.column_names}})
        table = table.sort_by([("host", "ascending"), ("image_url", "ascending")])
        repeated = rows.num_rows - table.num_rows
        counts = {
            "distinct": table.num_rows,
            "repeated": repeated,
            **Counter(f"held.{id}" for id in known["held_in"].to_pylist()),
        }
        return Output(
            files=(write_parquet(self.out, f"{part.name}.parquet", table),), counts=counts
        )


@dataclass(frozen=True, kw_only=True)
class FetchedImages:
    """The images of one collection with the folders of what was measured on them, and the digests
    of those measurements.
    """

    collection: Folder
    measured: tuple[Folder, ...] = ()
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JoinFetches(Stage):
    """Joins the addresses of a bucket with their fetches and with what was measured on the images,
    and sends them home.

    `pictures` are the images of the collection itself first, then of each collection that it refers
    to.
    """

    name: ClassVar[str] = "resolve"
    version: ClassVar[int] = 3
    scatter: PartitionByHost
    fetched: Manifest
    pictures: tuple[FetchedImages, ...]
    schema: pa.Schema  # of the result

    @property
    def doing(self) -> str:
        return "join fetches"

    def config(self) -> dict[str, Any]:
        return {"columns": self.schema.names}

    def inputs(self) -> dict[str, str]:
        measured = {
            f"{pictures.collection.name}-{place}": one
            for pictures in self.pictures
            for place, one in enumerate(pictures.digests)
        }
        return {
            "scatter": stage_manifest(self.scatter.collection, "urls/by-host").digest,
            "fetches": self.fetched.digest,
            **measured,
        }

    def parts(self) -> list[Part]:
        return [
            Part(name=f"bucket-{bucket:05d}", inputs=(str(bucket),))
            for bucket in range(self.scatter.buckets())
        ]

    def process(self, part: Part) -> Output:
        bucket = int(part.inputs[0])
        rows = read_group(
            self.scatter.out,
            stage_manifest(self.scatter.collection, "urls/by-host").names(),
            bucket,
            WANTED,
        )
        fetches = self._fetches(bucket)
        fetch = fetches.take(
            pc.index_in(rows["image_url"], value_set=fetches["image_url"].combine_chunks())
        )
        images = self._images(bucket, fetches)
        image = images.take(
            pc.index_in(
                fetch["image_id"], value_set=images["image_id"].combine_chunks(), skip_nulls=True
            )
        )
        outcome = pc.fill_null(fetch["outcome"], LOST)
        columns = [
            rows["part"],
            rows["row"],
            fetch["image_id"],
            outcome,
            *(image[name] for name in self.schema.names[4:]),
        ]
        table = pa.table(columns, schema=self.schema)
        written = write_groups(self.out, f"{part.name}.arrow", table, table["part"].to_numpy())
        return Output(files=(written,), counts={"addresses": table.num_rows})

    def _fetches(self, bucket: int) -> pa.Table:
        """What became of the addresses of a bucket."""
        columns = ["image_url", "image_id", "outcome", "held_in"]
        folder = self.scatter.collection / "fetches"
        found = [
            read_table(folder, name, columns)
            for name in self.fetched.names(".parquet", f"part-{bucket:05d}-")
        ]
        return pa.concat_tables(
            [pa.schema([(name, pa.string()) for name in columns]).empty_table(), *found]
        )

    def _images(self, bucket: int, fetches: pa.Table) -> pa.Table:
        """The images of a bucket with their places and measurements, from the collection and from
        those that it refers to here.
        """
        referred = set(fetches["held_in"].unique().to_pylist())
        schema = pa.schema([("image_id", pa.string()), *list(self.schema)[4:]])
        own, *others = self.pictures
        found = [schema.empty_table()]
        for pictures in (own, *(other for other in others if other.collection.name in referred)):
            manifest = (
                self.fetched if pictures is own else stage_manifest(pictures.collection, "fetches")
            )
            for prefix in _prefixes(pictures.collection, bucket, self.scatter.buckets()):
                names = manifest.names(".arrow", prefix)
                found += [_placed(pictures, name, schema) for name in names]
        return pa.concat_tables(found)


def _prefixes(collection: Folder, bucket: int, buckets: int) -> list[str]:
    """How the names of the fetches begin that may hold addresses of a bucket of so many."""
    theirs = host_buckets(int(stage_manifest(collection, "candidates").counts.get("candidates", 0)))
    chosen = [bucket % theirs] if theirs <= buckets else range(bucket, theirs, buckets)
    return [f"part-{one:05d}-" for one in chosen]


def _placed(pictures: FetchedImages, name: str, schema: pa.Schema) -> pa.Table:
    """The ids of a file of images, where each lies, and its measurements; null where that part was
    not measured.
    """
    ids = read_table(pictures.collection / "images", name, ["image_id"])["image_id"]
    rows = len(ids)
    place = {"image_collection": pictures.collection.name, "image_part": name}
    columns: dict[str, Any] = {"image_id": ids, "image_row": pa.array(np.arange(rows))}
    columns |= {field: pa.array([value] * rows, pa.string()) for field, value in place.items()}
    part = name.replace(".arrow", ".parquet")
    for measured in pictures.measured:
        if measured.exists(part):
            table = read_table(measured, part)
            columns |= {
                column: table[column]
                for column in table.column_names
                if column in schema.names and column != "image_id"
            }
    return pa.table(
        {field.name: columns.get(field.name, pa.nulls(rows, field.type)) for field in schema},
        schema=schema,
    )


def resolved_schema(measurements: dict[str, pa.DataType]) -> pa.Schema:
    """The columns that `JoinFetches` writes: the place of the candidate, what became of its image,
    and its measurements.
    """
    return pa.schema([*list(WANTED)[:2], *FOUND, *measurements.items()])


assert set(WANTED.names) - {"part", "row"} <= set(CANDIDATES.names)
