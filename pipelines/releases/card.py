"""The data set card of a release: Markdown with the header that Hugging Face reads; every number is
the manifest's or the funnel's.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from filters.recipe.recipe import REWRITTEN, GroupRule, Recipe, RowRule
from pipelines.releases.croissant import LICENCE
from pipelines.releases.shards import ENDINGS

_READ = {
    "arrow": (
        """    import datasets, pyarrow as pa
    samples = datasets.load_dataset("arrow", data_files={files})
    images = datasets.load_dataset(".")  # in the folder of this file: they decode, streamed too
    mapped = pa.ipc.open_file(pa.memory_map("{first}")).read_all()  # any sample in about a millisecond
"""  # noqa: E501
    ),
    "webdataset": (
        """    import datasets, webdataset
    samples = datasets.load_dataset("webdataset", data_files={files})
    pairs = webdataset.WebDataset("{first}", shardshuffle=False).decode("pil").to_tuple("jpg;png;webp", "txt")
"""  # noqa: E501
    ),
}
_DTYPES = {"float": "float32", "double": "float64"}  # where Arrow and `datasets` differ
_CROISSANT = {
    "arrow": (
        "`croissant.json` describes files and columns; it has no records of samples, as mlcroissant"
        " has no reader for Arrow files."
    ),
    "webdataset": (
        "`croissant.json` describes files and columns;"
        ' `mlcroissant.Dataset("croissant.json").records("samples")` gives each picture with its'
        " first text. It unpacks tars once, under their names alone: set CROISSANT_CACHE to a"
        " folder for each release."
    ),
}


def card(manifest: Mapping[str, Any], funnel: Mapping[str, Any], recipe: Recipe) -> str:
    """The card of the release that a manifest is of; what comes from outside (names, reasons,
    sources) stands in it as plain text.
    """
    parts = [
        "\n".join(_header(manifest)),
        f"# {manifest['name']}",
        _summary(manifest),
        _plain(recipe.description),
        *_left_out(recipe),
        "## Reading it\n\n" + _reading(manifest),
        "## Splits\n\n" + _splits(manifest),
        "## What became of every candidate\n\n" + "\n".join(_funnel(funnel)),
        "## Rules\n\nIn the order in which they were applied.\n\n" + "\n".join(_rules(recipe)),
        "## Licence\n\n"
        + LICENCE
        + " Whoever wants something taken out asks the publisher of this release: `winnow forget`"
        " takes it out of every collection and release for ever.",
    ]
    return "\n\n".join(parts) + "\n"


def _header(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield from ("---", "configs:", "- config_name: default", "  data_files:")
    for split in (split for split, count in manifest["splits"].items() if count):
        yield from (f"  - split: {split}", f"    path: {split}-*{ENDINGS[manifest['format']]}")
    if manifest["format"] == "arrow":
        yield from _features(manifest["columns"])
    yield "---"


def _features(columns: Mapping[str, str]) -> Iterator[str]:
    """The columns as `datasets` calls them. A shard holds the bytes of an image, as ViLT's reader
    wants them; said to be an image here, they decode and are displayed.
    """
    yield from ("dataset_info:", "  features:")
    first = ("image", "caption", "image_id", "split")
    for name in [*first, *(name for name in columns if name not in first)]:
        listed = re.fullmatch(r"list<item: (.*)>", columns[name])
        kind = "image" if name == "image" else listed.group(1) if listed else columns[name]
        yield f"  - name: {name}"
        yield f"    {'list' if listed else 'dtype'}: {_DTYPES.get(kind, kind)}"


def _summary(manifest: Mapping[str, Any]) -> str:
    collections = ", ".join(f"`{name}`" for name in manifest["collections"])
    before = (
        f" It stands for `{manifest['supersedes']}`, of which something was taken down."
        if manifest["supersedes"]
        else ""
    )
    return (
        f"{manifest['samples']:,} images with {manifest['captions']:,} texts, kept by the recipe"
        f" `{manifest['recipe']}` from {collections}.{before} Digest `{manifest['digest']}`."
    )


def _left_out(recipe: Recipe) -> Iterator[str]:
    if not recipe.left_out:
        return
    names = ", ".join(f"`{name}`" for name in recipe.left_out)
    rewritten = [name for name in recipe.left_out if name in REWRITTEN]
    texts = f" The texts are those that were found, not `{rewritten[0]}`." if rewritten else ""
    yield (
        f"**Not the whole recipe**: it was applied without {names}, and so without the rules that"
        f" read them.{texts}"
    )


def _reading(manifest: Mapping[str, Any]) -> str:
    ending = ENDINGS[manifest["format"]]
    there = [split for split, count in manifest["splits"].items() if count]
    files = {split: f"{split}-*{ending}" for split in there}
    first = next(
        (
            file["name"]
            for file in manifest["files"]
            if file["rows"] and file["name"].startswith(f"{there[0]}-")
        ),
        "",
    )
    columns = ", ".join(f"`{name}`" for name in manifest["columns"])
    return (
        _READ[manifest["format"]].replace("{first}", first).replace("{files}", json.dumps(files))
        + f"\nColumns: {columns}. Those that are lists hold a value for each caption, in the order"
        " of the captions: where it was found, and what was measured of it."
        f" {_CROISSANT[manifest['format']]} `funnel.json` has the counts below, `manifest.json`"
        " the digest of every file; `winnow validate` checks them all."
    )


def _splits(manifest: Mapping[str, Any]) -> str:
    lines = [
        "| split | images |",
        "|---|---:|",
        *(f"| {split} | {count:,} |" for split, count in manifest["splits"].items()),
    ]
    by = (
        "Near duplicates of a picture are in the same split."
        if "image.cluster" in manifest["columns"]
        else "Samples of the same picture, by the sha256 of its bytes, are in the same split."
    )
    return "\n".join(lines) + f"\n\n{by}"


def _funnel(funnel: Mapping[str, Any]) -> Iterator[str]:
    yield from ("| outcome | candidates |", "|---|---:|")
    yield from (f"| `{name}` | {count:,} |" for name, count in funnel["outcomes"].items())
    yield f"| all | {funnel['candidates']:,} |"


def _rules(recipe: Recipe) -> Iterator[str]:
    if not recipe.rule:
        yield "None: everything that was fetched and decoded is here."
        return
    yield from ("| what stays | else | source |", "|---|---|---|")
    for rule in (*recipe.candidate_rules, *recipe.other_rules):
        yield f"| `{_asked(rule)}` | `{rule.reason}` | {_plain(rule.source)} |"


def _asked(rule: Any) -> str:
    """What a rule asks for, as it stands in the recipe."""
    if isinstance(rule, RowRule):
        return " ".join(
            str(word) for word in (rule.measure, rule.op, rule.value) if word is not None
        )
    assert isinstance(rule, GroupRule), "a rule is of a row or of a group"
    fields = rule.model_dump(
        mode="json", exclude={"group", "key", "reason", "source"}, exclude_unset=True
    )
    said = " ".join(
        f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in fields.items()
    )
    return f"{rule.group} for each {rule.key} {said}".strip()


def _plain(text: str) -> str:
    """A text that neither ends a cell of a table nor begins markup."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
