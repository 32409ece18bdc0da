"""What the dashboard looks at: the decisions of a root, their rows (all, or the sample that stands
for them) and their statistics.
"""

import atexit
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from filters.recipe.recipe import Recipe, load
from filters.recipe.statistics import Summary, add_up
from pipelines.decide.statistics import modulus_for, part_statistics, read_statistics, summary
from pipelines.engine.stage import Manifest
from pipelines.schema import KEPT
from pipelines.store import Folder
from pipelines.tables import read_table

if TYPE_CHECKING:
    import duckdb

DECISION = "decision.json"


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A recipe applied to collections, as it stands in a root."""

    folder: Folder
    digest: str
    recipe: Recipe
    collections: tuple[str, ...]
    outcomes: Mapping[str, int]  # exact, in the order in which they apply

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def root(self) -> Folder:
        return Folder(self.folder.url.rsplit("/", 2)[0])

    @property
    def candidates(self) -> int:
        return sum(self.outcomes.values())

    @property
    def kept(self) -> int:
        return self.outcomes.get(KEPT, 0)

    @property
    def modulus(self) -> int:
        """Of how many rows one is looked at: 1 where all are."""
        return modulus_for(self.candidates) if self.folder.exists("sample") else 1

    @property
    def label(self) -> str:
        first, *others = self.collections
        return f"{self.recipe.name} · {first}" + (
            f" to {others[-1]} ({len(others) + 1})" if others else ""
        )

    def __hash__(self) -> int:
        return hash((self.folder.url, self.digest))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decided) and (self.folder.url, self.digest) == (
            other.folder.url,
            other.digest,
        )


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A decision that nothing can be shown of: its recipe and collections as far as they are known,
    and why.
    """

    id: str
    recipe: str
    collections: tuple[str, ...]
    cause: str


def decisions(root: Folder) -> list[Decided]:
    """The finished decisions of a root, those of a recipe together and in the order of their
    collections.
    """
    found = [one for one in _all(root) if isinstance(one, Decided)]
    return sorted(found, key=lambda one: (one.recipe.name, one.collections, one.id))


def unfinished(root: Folder) -> list[Unfinished]:
    """The decisions of a root that were stopped, failed, or are being made."""
    found = [one for one in _all(root) if isinstance(one, Unfinished)]
    return sorted(found, key=lambda one: (one.recipe, one.collections, one.id))


def find(
    root: Folder, recipe: str | None = None, collections: Sequence[str] = (), id: str | None = None
) -> Decided:
    """One decision: by its id, or the one of a recipe over collections; ValueError, naming those
    that are there, if there is none.
    """
    there, asked = decisions(root), tuple(dict.fromkeys(collections))
    for one in there:
        same = recipe in (None, one.recipe.name) and asked in ((), one.collections)
        if one.id == id or (id is None and same):
            return one
    listed = "; ".join(f"{one.id} ({one.label})" for one in there) or "none"
    stopped = "".join(
        f"; unfinished {one.id} ({one.recipe}): {one.cause}" for one in unfinished(root)
    )
    raise ValueError(
        f"there is no such decision in {root.path()}: run `winnow funnel` for it first (there are:"
        f" {listed}{stopped})"
    )


def _all(root: Folder) -> Iterator[Decided | Unfinished]:
    for name in (root / "outcomes").names():
        folder = root / "outcomes" / name
        try:
            found = _decided(folder)
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OSError,
        ) as error:  # half written, or of another version
            found = Unfinished(id=name, recipe="", collections=(), cause=str(error) or repr(error))
        if found is not None:
            yield found


def _decided(folder: Folder) -> Decided | Unfinished | None:
    if not folder.exists(DECISION):
        return None
    about = folder.read_json(DECISION)
    manifest = Manifest.read(folder)
    if manifest is None or manifest.failed or not manifest.names(".parquet", "part-"):
        names = tuple(about["collections"])
        return Unfinished(
            id=folder.name,
            recipe=str(about["recipe"]),
            collections=names,
            cause=_cause(folder, manifest),
        )
    recipe = _recipe(about, str(manifest.config.get("recipe", "")))
    if recipe is None:
        return None
    outcomes = recipe.ordered(manifest.counts)
    return Decided(
        folder=folder,
        digest=manifest.digest,
        recipe=recipe,
        collections=tuple(about["collections"]),
        outcomes=outcomes,
    )


def _cause(folder: Folder, manifest: Manifest | None) -> str:
    """Why a decision holds no outcomes: the error of the first part that failed, in the last stage
    or in one on the way.
    """
    stages = [
        manifest,
        *(Manifest.read(folder / "work" / name) for name in (folder / "work").names()),
    ]
    for one in stages:
        if one is not None and one.failed:
            part, error = next(iter(one.failed.items()))
            return (
                f"{len(one.failed)} parts of stage {one.stage} failed, first {part}:"
                f" {error.strip().splitlines()[-1]}"
            )
    return (
        "it is being made, or was stopped: the same command goes on with it"
        if manifest is None
        else "it holds no candidates"
    )


def _recipe(about: Mapping[str, Any], digest: str) -> Recipe | None:
    """The recipe as the decision holds it; of an older one that which bears its name, if it is
    still the same.
    """
    if "rules" in about:
        return Recipe.stored(about["rules"])
    try:
        named = load(about["recipe"])
    except ValueError:
        return None
    return named if named.digest == digest else None


def rows(decided: Decided, columns: Sequence[str]) -> pa.Table:
    """Some columns of the rows that are looked at; a column that the outcomes do not have is left
    out. Read once, then held.
    """
    there = _schema(decided).names
    return pa.table(
        {name: _column(decided, name) for name in dict.fromkeys(columns) if name in there}
    )


def columns(decided: Decided) -> list[str]:
    return list(_schema(decided).names)


def some(
    decided: Decided, ids: Sequence[str], wanted: Sequence[str], places: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Columns of the rows with these candidate_ids, in their order, asked of the Parquet files in
    place.

    Where it is known at which places the rows stand, only the files that hold these are asked.
    """
    there = [name for name in dict.fromkeys(["candidate_id", *wanted]) if name in columns(decided)]
    named = ", ".join(f'"{name}"' for name in there)
    question = f"select {named} from parts where candidate_id in (select unnest(?))"
    found = _ask(_holding(decided, places), question, [list(ids)]) if ids else []
    by_id = {row["candidate_id"]: row for row in found}
    return [by_id[id] for id in ids if id in by_id]


def ask(
    folder: Folder, names: Sequence[str], question: str, values: Sequence[Any] = ()
) -> list[dict[str, Any]]:
    """The rows that answer a question in SQL about Parquet files of a folder, which it calls
    `parts`; values stand for its `?`.

    The column `filename` says in which file a row is.
    """
    if not folder.is_local:
        _database().register_filesystem(fsspec.core.url_to_fs(folder.url)[0])
    return _ask([folder.path(name) for name in names], question, values)


def _ask(paths: Sequence[str], question: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    import duckdb

    if not paths:
        return []
    cursor = _database().cursor()
    parts = "with parts as (select * from read_parquet(?, union_by_name = true, filename = true)) "
    try:
        asked = cursor.execute(parts + question, [list(paths), *values])
    except duckdb.IOException as error:  # a file was removed meanwhile, or is damaged
        raise ValueError(f"{error}: decide again with `winnow funnel`") from error
    named = [str(column[0]) for column in asked.description or ()]
    return [dict(zip(named, row, strict=True)) for row in asked.fetchall()]


@functools.cache
def _database() -> "duckdb.DuckDBPyConnection":
    import duckdb

    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False})
    # what lives until the interpreter ends makes the bindings complain on standard error
    atexit.register(_let_go, connection)
    return connection


def _let_go(connection: "duckdb.DuckDBPyConnection") -> None:
    connection.close()
    _database.cache_clear()


def _holding(decided: Decided, places: Sequence[int] | None) -> Sequence[str]:
    every = paths(decided)
    if places is None:
        return every
    return [
        every[place]
        for place in np.unique(
            np.searchsorted(_ends(decided), np.asarray(places, dtype=np.int64), side="right")
        )
    ]


@functools.lru_cache(maxsize=32)
def _ends(decided: Decided) -> np.ndarray:
    """[files] how many rows there are up to the end of each file."""
    folder, names = files(decided)
    return np.cumsum([_rows_of(folder, name) for name in names])


def _rows_of(folder: Folder, name: str) -> int:
    with folder.open(name) as file:
        return int(pq.read_metadata(file).num_rows)


@functools.lru_cache(maxsize=32)
def paths(decided: Decided) -> tuple[str, ...]:
    """The files of the rows that are looked at."""
    folder, names = files(decided)
    if not folder.is_local:
        _database().register_filesystem(fsspec.core.url_to_fs(folder.url)[0])
    return tuple(folder.path(name) for name in names)


@functools.lru_cache(maxsize=256)
def _column(decided: Decided, name: str) -> pa.Array:
    folder, names = files(decided)
    system, _ = fsspec.core.url_to_fs(folder.url)
    paths = [folder.path(name_).removeprefix("file://") for name_ in names]
    found = (
        ds.dataset(paths, format="parquet", filesystem=system)
        .to_table(columns=[name])[name]
        .combine_chunks()
    )
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def files(decided: Decided) -> tuple[Folder, list[str]]:
    """The folder of the rows that are looked at, and its files."""
    place = decided.folder / "sample" if decided.modulus > 1 else decided.folder
    names = [
        name for name in place.names() if name.startswith("part-") and name.endswith(".parquet")
    ]
    if not names:
        raise ValueError(
            f"the outcomes in {place.path()} are gone: decide again with `winnow funnel`"
        )
    return place, names


@functools.lru_cache(maxsize=32)
def _schema(decided: Decided) -> pa.Schema:
    place, names = files(decided)
    with place.open(names[0]) as file:
        return pq.read_schema(file)


@functools.lru_cache(maxsize=32)
def statistics(decided: Decided) -> Summary:
    """The statistics of a decision; of an older one, which has none beside it, counted now."""
    if decided.folder.exists("statistics"):
        return read_statistics(decided.folder)
    names = [name for name in decided.folder.names() if name.startswith("part-")]
    measured = [name for name in columns(decided) if name in decided.recipe.reads]
    return summary(
        add_up([part_statistics(read_table(decided.folder, name), measured)]) for name in names
    )
