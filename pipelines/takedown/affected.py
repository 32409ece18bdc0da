"""What a list of things taken down means for the collections of a root: their candidates, images,
addresses and pages.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.permission.takedown_list import FORGOTTEN, TakedownList, among
from pipelines.store import Folder
from pipelines.tables import read_table
from pipelines.takedown.redact_files import Affected

_CANDIDATE = (
    "candidate_id",
    "page_url",
    "image_url",
    "alternatives",
    "text",
    "archive",
    "permission",
)
_FETCH = ("image_url", "image_id", "final_url", "held_in")


@dataclass(kw_only=True)
class Found:
    """What of one collection was taken down, while it is being gathered."""

    folder: Folder
    candidates: set[str] = field(default_factory=set)
    pages: set[str] = field(default_factory=set)
    texts: set[tuple[str, str]] = field(default_factory=set)  # image_url, text
    addresses: set[str] = field(default_factory=set)  # of images that no other candidate names
    shared: set[str] = field(default_factory=set)  # of images that other candidates name too
    archives: set[str] = field(default_factory=set)  # where the pages were read
    # collection that holds the bytes, image_id; of `addresses`
    held: set[tuple[str, str]] = field(default_factory=set)
    # image_url -> image_id
    ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was taken down, by collection, and which texts of which images went with it."""

    forgotten: TakedownList
    collections: dict[str, Affected]
    texts: dict[str, frozenset[str]]  # image_id -> texts
    outside: tuple[str, ...]  # archives that were given and hold pages of it

    @property
    def candidates(self) -> pa.Array:
        """The candidate_id of all that was taken down in the root."""
        return pa.array(
            sorted(
                {
                    one
                    for doomed in self.collections.values()
                    for one in doomed.candidates.to_pylist()
                }
            ),
            pa.string(),
        )

    def samples(self, shard: pa.Table, names: Collection[str] = ()) -> np.ndarray:
        """[n] truths: which samples of a release hold something of it; `names` are of all its
        columns, which does not matter here.
        """
        gone = self.forgotten.images(shard["image_id"])
        for name in {"candidate_id", "page_url", "image_url"} & set(shard.column_names):
            parents, found = _of_texts(shard[name])
            listed = (
                among(found, self.candidates)
                if name == "candidate_id"
                else self.forgotten.addresses(found)
            )
            gone[parents[listed]] = True
        told = [name for name in ("caption", "original_text") if name in shard.column_names]
        for row in np.flatnonzero(
            among(shard["image_id"], pa.array(sorted(self.texts), pa.string()))
        ).tolist():
            texts = self.texts[shard["image_id"][row].as_py()]
            gone[row] |= any(
                text in texts for name in told for text in shard[name][row].as_py() or ()
            )
        return np.asarray(gone)


def _of_texts(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array | pa.ChunkedArray]:
    """The sample that each text belongs to, and what is told of it; once, releases told it of the
    first text of a sample alone.
    """
    if not pa.types.is_list(column.type):
        return np.arange(len(column)), column
    lists = column.combine_chunks()
    return pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), pc.list_flatten(lists)


def survey(root: Folder, forgotten: TakedownList) -> Survey:
    """Everything in the collections of a root, finished or not, that a list means; what was erased
    before is known by its mark.
    """
    folders = (
        [root / "collections" / name for name in (root / "collections").names()]
        if forgotten
        else []
    )
    found = {folder.name: _gather(folder, forgotten) for folder in folders}
    doomed_ids = {one for each in found.values() for one in each.held}
    alive = {one for each in found.values() for one in _alive(each, doomed_ids)}
    texts: dict[str, set[str]] = defaultdict(set)
    for each in found.values():
        for url, text in each.texts:
            for image_id in each.ids[url]:
                texts[image_id].add(text)
    listed = set(forgotten.sha256)
    return Survey(
        forgotten=forgotten,
        collections={
            name: Affected(
                forgotten=forgotten,
                candidates=_strings(each.candidates),
                images=_strings({id for home, id in doomed_ids - alive if home == name} | listed),
                addresses=_strings(each.addresses),
                pages=frozenset(each.pages),
            )
            for name, each in found.items()
        },
        texts={image_id: frozenset(several) for image_id, several in texts.items()},
        outside=tuple(
            sorted(
                {
                    url
                    for each in found.values()
                    for url in each.archives - set((each.folder / "pages").names())
                }
            )
        ),
    )


def _gather(folder: Folder, forgotten: TakedownList) -> Found:
    """The candidates of a collection that were taken down, then what only they lead to."""
    found = Found(folder=folder)
    taken = _taken_addresses(folder, forgotten)
    for table in _tables(folder / "candidates", "part-", _CANDIDATE):
        _note(found, table.filter(pa.array(_gone(table, taken, forgotten))))
    for table in (
        _tables(folder / "candidates", "part-", ("candidate_id", "image_url"))
        if found.addresses
        else ()
    ):
        others = table.filter(pa.array(~among(table["candidate_id"], _strings(found.candidates))))
        found.shared |= _texts(others["image_url"]) & found.addresses
    named = found.addresses | taken
    found.addresses = (found.addresses - found.shared) | taken
    for table in _tables(folder / "fetches", "part-", _FETCH) if named else ():
        rows = table.filter(pa.array(among(table["image_url"], _strings(named))))
        for row in rows.filter(pc.is_valid(rows["image_id"])).to_pylist():
            found.ids[row["image_url"]].add(row["image_id"])
            if row["image_url"] in found.addresses:
                found.held.add((row.get("held_in") or folder.name, row["image_id"]))
    return found


def _taken_addresses(folder: Folder, forgotten: TakedownList) -> set[str]:
    """Addresses whose images were taken down: by themselves, by where they led to, or by the hash
    of what came.
    """
    taken: set[str] = set()
    for table in _tables(folder / "fetches", "part-", _FETCH):
        gone = (
            forgotten.addresses(table["image_url"])
            | forgotten.addresses(table["final_url"])
            | forgotten.images(table["image_id"])
        )
        taken |= _texts(table["image_url"].filter(pa.array(gone)))
    return taken


def _gone(table: pa.Table, taken: set[str], forgotten: TakedownList) -> np.ndarray:
    marked = pc.fill_null(pc.equal(table["permission"], FORGOTTEN), False).to_numpy()
    return np.asarray(
        forgotten.candidates(table) | among(table["image_url"], _strings(taken)) | marked
    )


def _note(found: Found, gone: pa.Table) -> None:
    found.candidates |= _texts(gone["candidate_id"])
    found.pages |= _texts(gone["page_url"])
    found.addresses |= _texts(gone["image_url"])
    found.archives |= _texts(gone["archive"])
    found.texts |= {
        pair
        for pair in zip(gone["image_url"].to_pylist(), gone["text"].to_pylist(), strict=True)
        if all(pair)
    }


def _alive(found: Found, doomed: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Those images, among the doomed, that an address of this collection still leads to."""
    ids, addresses = _strings({id for _, id in doomed}), _strings(found.addresses)
    for table in _tables(found.folder / "fetches", "part-", _FETCH) if doomed else ():
        rows = table.filter(
            pa.array(among(table["image_id"], ids) & ~among(table["image_url"], addresses))
        )
        for row in rows.to_pylist():
            yield row.get("held_in") or found.folder.name, row["image_id"]


def _tables(folder: Folder, prefix: str, columns: Iterable[str]) -> Iterator[pa.Table]:
    """Those columns that there are of the Parquet files of a folder, file by file."""
    for name in folder.names():
        if name.startswith(prefix) and name.endswith(".parquet"):
            yield _read(folder, name, columns)


def _read(folder: Folder, name: str, columns: Iterable[str]) -> pa.Table:
    try:
        with folder.open(name) as file:
            there = set(pq.read_schema(file).names)
        return read_table(folder, name, [column for column in columns if column in there])
    except pa.ArrowInvalid as error:
        words = f"{folder.path(name)} cannot be read, so nobody knows what it holds"
        raise ValueError(f"{words}: remove it or bring it back ({error})") from error


def _texts(column: pa.ChunkedArray) -> set[str]:
    return set(column.unique().to_pylist()) - {None, ""}


def _strings(values: Iterable[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())
