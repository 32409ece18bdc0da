"""Where the lists of a path are, and what they are."""

from pipelines.sources.datasets.detect_format import File, listing
from pipelines.sources.lists.json_records import is_array
from pipelines.sources.lists.lines import ListBytes

FORMATS = {
    "parquet": "parquet",
    "csv": "csv",
    "tsv": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
}


COMPRESSIONS = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstd"}


def lists_at(path: str) -> tuple[list[tuple[str, str]], int]:
    """(address, label) of each list at a file, a pattern or a folder, and how many files beside
    them are none.

    A single file needs no label to tell its lines from others'.
    """
    try:
        files, _ = listing(path)
    except ValueError as error:
        raise ValueError(f"there is no list of pairs at {path}") from error
    kept = [file for file in files if _is_list(file, alone=len(files) == 1)]
    if not kept:
        raise ValueError(
            f"{path} is no list of pairs: its name must end in .parquet, .csv, .tsv or .jsonl (or"
            " .json, for an array)"
        )
    return [(file.url, file.name if len(kept) > 1 else "") for file in kept], len(files) - len(kept)


def _is_list(file: File, *, alone: bool) -> bool:
    """Whether a file is a list by its name; a JSON file among others, by its content: many a folder
    has notes in JSON.
    """
    kind = _format(file.name)
    return kind is not None and (
        alone or kind != "json" or is_array(next(ListBytes(file.url).chunks(), b""))
    )


def _format(name: str) -> str | None:
    endings = [
        ending
        for ending in name.rsplit("/", 1)[-1].lower().split(".")[1:]
        if ending not in COMPRESSIONS
    ]
    return FORMATS.get(endings[-1]) if endings else None


def kind_of(path: str) -> str:
    """The format of a list by its name, a compression left aside."""
    found = _format(path)
    assert found is not None, "only lists are taken"
    return found
