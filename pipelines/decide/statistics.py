"""Statistics and samples beside the outcomes of a decision, so that a billion rows are seen through
small files.

    <outcomes>/statistics/part-00000.parquet   counts and distributions of a part, exact: they add
                                               up (filters.recipe.statistics.TABLE)
    <outcomes>/sample/part-00000.parquet       whole rows of the part, drawn by a hash, where the
                                               decision is larger than SAMPLE
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe.statistics import OTHER, TABLE, Summary, add_up, tabulate
from pipelines.engine.shuffle import bucket_of
from pipelines.store import Folder, Written
from pipelines.tables import read_table, write_parquet

SAMPLE = 1_000_000  # rows that a page can decide again within a second on two cores
HOSTS = 200  # that a part counts apart; the rest is "other"
UNKNOWN = "unknown"
_AT_ONCE = 64  # parts added up at a time


def part_statistics(table: pa.Table, measurements: Sequence[str]) -> pa.Table:
    """Statistics of a part of outcomes: of all candidates, and by host, language and source.

    `table` has the columns collection, outcome, page_url and image_url, and the measurements;
    page_language and text_source where they are known. The host is the registrable domain of the
    page (of the image where there is no page), the language what was measured (`text.language`) or
    else what the page says. Distributions are counted by language and source, moments alone by
    host.
    """
    if not table.num_rows:
        return TABLE.empty_table()
    by = {
        "host": (_frequent(hosts(table)), False),
        "language": (languages(table), True),
        "source": (sources(table), True),
    }
    return tabulate(table, by, measurements)


def modulus_for(candidates: int) -> int:
    """Of how many rows one is drawn, so that at most about `SAMPLE` of so many candidates are: a
    power of two, 1 for all of them.

    The sample of a greater modulus is a part of that of a smaller one.
    """
    modulus = 1
    while candidates > SAMPLE * modulus:
        modulus *= 2
    return modulus


def sample_rows(table: pa.Table, modulus: int) -> pa.Table:
    """The rows whose image_id (where there is none, whose text) hashes to 0 by the modulus: the
    same candidates under every recipe.

    All texts of an image are drawn or none, so that group rules by image decide on a sample as they
    do on the whole.
    """
    if modulus == 1:
        return table
    text = table["original_text"] if "original_text" in table.column_names else table["text"]
    return table.filter(pa.array(bucket_of(pc.coalesce(table["image_id"], text), modulus) == 0))


def write_statistics(
    outcomes: Folder, part: str, table: pa.Table, measurements: Sequence[str], modulus: int
) -> tuple[Written, ...]:
    """Write the statistics of a part (`part-00000`) and its sample (if not all rows are drawn)
    beside its outcomes; what was written.

    `measurements` are those columns of `table` that statistics are kept of.
    """
    files = [_written(outcomes, "statistics", part, part_statistics(table, measurements))]
    if modulus > 1:
        files.append(_written(outcomes, "sample", part, sample_rows(table, modulus)))
    return tuple(files)


def _written(outcomes: Folder, kind: str, part: str, table: pa.Table) -> Written:
    """A file in a folder of the outcomes, named from there."""
    written = write_parquet(outcomes / kind, f"{part}.parquet", table)
    return dataclasses.replace(written, name=f"{kind}/{written.name}")


def read_statistics(outcomes: Folder) -> Summary:
    """The statistics of a decision, the parts added up some at a time."""
    folder = outcomes / "statistics"
    names = [name for name in folder.names() if name.endswith(".parquet")]
    groups = [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]
    return summary(add_up(read_table(folder, name) for name in group) for group in groups)


def summary(tables: Iterable[pa.Table]) -> Summary:
    """The summary of the statistics of parts."""
    return Summary(
        table=functools.reduce(lambda one, other: add_up([one, other]), tables, TABLE.empty_table())
    )


def hosts(table: pa.Table) -> pa.Array:
    """The registrable domain of each candidate's page, of its image where there is no page; of an
    imported image its data set.
    """
    found = pc.extract_regex(
        pc.coalesce(table["page_url"], table["image_url"]), _HOST
    ).combine_chunks()
    given, host = (pc.fill_null(pc.struct_field(found, name), "") for name in ("given", "host"))
    named = pc.if_else(pc.equal(given, ""), pc.utf8_lower(host), given)
    encoded = named.dictionary_encode()
    short = pa.array([registrable(name) for name in encoded.dictionary.to_pylist()], pa.string())
    return short.take(encoded.indices)


_HOST = r"^(?:(?P<given>given://[^/]*)|[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(?P<host>\[[^\]]*\]|[^/?#:]*))"


@functools.lru_cache(maxsize=100_000)
def registrable(host: str) -> str:
    """The part of a host that somebody registered (`news.example.co.uk`: `example.co.uk`); an
    address of the network or a data set itself.

    Below an end that the list of public suffixes does not have, a name of two parts is registered
    (the list's rule `*`).
    """
    if not host or host.startswith(("given://", "[")) or host.rpartition(".")[2].isdigit():
        return host or UNKNOWN
    found = _suffixes()(host)
    return found.top_domain_under_public_suffix or (
        host if found.suffix else ".".join(host.split(".")[-2:])
    )


@functools.cache
def _suffixes() -> "tldextract.TLDExtract":  # type: ignore[name-defined]  # noqa: F821
    import tldextract

    # the list in its package; it asks nobody
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


def _frequent(names: pa.Array) -> pa.Array:
    """The most frequent names as they are, `OTHER` for the rest."""
    encoded = names.dictionary_encode()
    counts = np.bincount(
        encoded.indices.to_numpy(zero_copy_only=False), minlength=len(encoded.dictionary)
    )
    order = np.argsort(-counts, kind="stable")[HOSTS:]
    shown = np.array(encoded.dictionary.to_pylist(), dtype=object)
    shown[order] = OTHER
    return pa.array(shown, pa.string()).take(encoded.indices)


def languages(table: pa.Table) -> pa.Array:
    """The language of each candidate as two or three letters: as measured, else as its page says;
    `UNKNOWN` if neither does.
    """
    found = [_column(table, name) for name in ("text.language", "page_language")]
    tag = pc.extract_regex(
        pc.utf8_lower(pc.coalesce(*found)), r"^\s*(?P<tag>[a-z]{2,3})(?:[-_].*)?$"
    )
    return pc.fill_null(pc.struct_field(tag, "tag"), UNKNOWN)


def sources(table: pa.Table) -> pa.Array:
    """Where each text was found: alt, title, figcaption, …"""
    return pc.fill_null(_column(table, "text_source"), UNKNOWN)


def _column(table: pa.Table, name: str) -> pa.Array:
    return (
        table[name].combine_chunks()
        if name in table.column_names
        else pa.nulls(table.num_rows, pa.string())
    )
