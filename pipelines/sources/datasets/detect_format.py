"""What lies at a path: which kind of data set it is, told by looking at its files."""

import contextlib
import itertools
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipelines.sources.datasets.files import NAME_KEYS, coco_images, ending_of, of_line, place_of
from pipelines.sources.datasets.samples import IMAGE_ENDINGS, found_key, json_value
from pipelines.sources.datasets.tables import columns_of, schema_of
from pipelines.sources.lists.charset import text_of
from pipelines.sources.lists.lines import ListBytes
from pipelines.store import digest

UNDERSTOOD = (
    "webdataset tars, img2dataset output, a Hugging Face data set (save_to_disk or Parquet), COCO"
    ' captions JSON with its images, a captions.jsonl of {"image", "captions"}, or a folder of'
    " images with .txt or .json beside"
)
REFUSED = {
    "zip": "unpack it and import the folder",
    "tgz": "a compressed tar cannot be read in place: decompress it with gunzip",
    "gz": "a compressed file cannot be read in place: decompress it with gunzip",
    "zst": "a compressed file cannot be read in place: decompress it with zstd -d",
    "bz2": "a compressed file cannot be read in place: decompress it with bunzip2",
    "xz": "a compressed file cannot be read in place: decompress it with xz -d",
    "tfrecord": (
        "write it with img2dataset's --output_format webdataset, or give its Parquet file to"
        " --pairs"
    ),
    "csv": "a list of addresses is taken by --pairs",
    "tsv": "a list of addresses is taken by --pairs",
}
HIDDEN = (".", "_winnow")  # beginnings of names; our own work lies beside img2dataset's shards
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a data set: its name within it, its address, its size in bytes and when it
    changed.
    """

    name: str
    url: str
    size: int
    changed: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is read in one way: `beside` is the table of an img2dataset shard or the folder of
    images.
    """

    kind: str  # tar, parquet, arrow, coco, lines, files, shard
    url: str
    label: str  # its name within the data set, empty where that is one file
    beside: str = ""
    names: tuple[str, ...] = ()  # of files below `url`


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A recognised data set: the name that its addresses bear, what is read of it, and the digest
    of names, sizes and times.
    """

    name: str
    sources: tuple[Source, ...]
    digest: str


def recognise(path: str, *, images: str = "", name: str = "") -> DataSet:
    """The data set at a file, a folder, a pattern (`*`, `{00000..00099}`), or
    `captions.json,folder`; ValueError for anything else.
    """
    if not images and path.count(",") and ending_of(path.split(",", 1)[0]) in ("json", "jsonl"):
        path, images = path.split(",", 1)
    files, folder = listing(path)
    single = len(files) == 1 and files[0].url == _address(path)
    sources = tuple(_sources(path, folder, files, images, single))
    by_folder = not single or sources[0].kind == "lines"
    own = posixpath.basename(folder.rstrip("/")) if by_folder else files[0].name.split(".")[0]
    stamp = [(file.name, file.size, file.changed) for file in files]
    return DataSet(
        name=name or own or "import", sources=sources, digest=digest([stamp, images, name])
    )


def _address(path: str) -> str:
    system, plain = fsspec.core.url_to_fs(path)
    return (
        str(plain) if isinstance(system, LocalFileSystem) else str(system.unstrip_protocol(plain))
    )


def listing(path: str) -> tuple[list[File], str]:
    """The files at a path, sorted by name, and the folder that they are named from; ValueError if
    there are none.
    """
    expanded = list(_expanded(path))
    system, plain = fsspec.core.url_to_fs(expanded[0])
    if len(expanded) == 1 and not any(mark in plain for mark in "*?["):
        if system.isdir(plain):
            found = _below(system, plain)
            return sorted(found, key=lambda file: file.name), _address(path)
        found = [_file(system, plain)]
    else:
        found = [_file(system, match) for one in expanded for match in _matches(system, one)]
    folder = (
        posixpath.commonpath([posixpath.dirname(file.url) for file in found])
        if "://" not in found[0].url
        else _shared(found)
    )
    return [replace(file, name=file.url.removeprefix(folder).lstrip("/")) for file in found], folder


def _shared(files: Sequence[File]) -> str:
    """The folder that remote files have in common."""
    scheme, _, first = files[0].url.partition("://")
    return f"{scheme}://{posixpath.commonpath([posixpath.dirname(file.url.partition('://')[2]) for file in files]) or first}"  # noqa: E501


def _expanded(path: str) -> Iterator[str]:
    """The paths of a pattern with `{00000..00099}`, as webdataset writes it."""
    match = BRACES.search(path)
    if match is None:
        yield path
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _expanded(f"{path[: match.start()]}{number:0{len(first)}d}{path[match.end() :]}")


def _matches(system: fsspec.AbstractFileSystem, path: str) -> list[str]:
    plain = system._strip_protocol(path)
    found = sorted(system.glob(plain)) if any(mark in plain for mark in "*?[") else [plain]
    if not found:
        raise ValueError(f"there is nothing at {path}")
    return found


def _file(system: fsspec.AbstractFileSystem, path: str) -> File:
    try:
        info = system.info(path)
    except FileNotFoundError as error:
        raise ValueError(f"there is nothing at {path}: give {UNDERSTOOD}") from error
    changed = info.get("ETag") or info.get("mtime") or info.get("LastModified")
    url = str(path) if isinstance(system, LocalFileSystem) else str(system.unstrip_protocol(path))
    return File(
        name=posixpath.basename(path), url=url, size=int(info["size"] or 0), changed=str(changed)
    )


def _below(system: fsspec.AbstractFileSystem, folder: str) -> list[File]:
    """All files below a folder, hidden ones and linked folders left out."""
    if isinstance(system, LocalFileSystem):
        return list(_walk(folder, ""))
    found = system.find(folder, detail=True)
    prefix = folder.rstrip("/") + "/"
    names = {path.removeprefix(prefix): info for path, info in found.items()}
    return [
        File(
            name=name,
            url=str(system.unstrip_protocol(prefix + name)),
            size=int(info.get("size") or 0),
            changed=str(info.get("ETag") or info.get("mtime") or info.get("LastModified")),
        )
        for name, info in names.items()
        if not any(part.startswith(HIDDEN) for part in name.split("/"))
    ]


def _walk(folder: str, prefix: str) -> Iterator[File]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(HIDDEN):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif not os.path.isdir(
                entry.path
            ):  # a link that leads nowhere, or to itself, is a file that is missing
                info = entry.stat(follow_symlinks=False)
                yield File(
                    name=prefix + entry.name,
                    url=entry.path,
                    size=info.st_size,
                    changed=str(info.st_mtime_ns),
                )


def _sources(
    path: str, folder: str, files: Sequence[File], images: str, single: bool
) -> Iterator[Source]:
    """The first reading that fits: what is packed before what lies open, so that a picture beside a
    table is no data set.
    """
    endings = {ending_of(file.name) for file in files}
    if single and ending_of(files[0].name) in REFUSED:
        raise ValueError(f"{path} is not imported: {REFUSED[ending_of(files[0].name)]}")
    tables = [file for file in files if file.name.endswith(".parquet")]
    captions = [file for file in files if _is_captions(file, single)]
    lines = [
        file
        for file in files
        if ending_of(file.name) in ("jsonl", "ndjson") and _names_images(file)
    ]
    if "tar" in endings:
        by_name = {file.name: file.url for file in tables}
        for file in (file for file in files if file.name.endswith(".tar")):
            table = by_name.get(file.name.removesuffix(".tar") + ".parquet", "")
            yield Source(
                kind="tar",
                url=file.url,
                label="" if single else file.name.removesuffix(".tar"),
                beside=_keyed(table),
            )
        loose = tuple(file.name for file in files if not file.name.endswith((".tar", ".parquet")))
        # more than previews of what is packed
        if sum(ending_of(name) in IMAGE_ENDINGS for name in loose) > len(files) - len(loose):
            yield Source(kind="files", url=folder, label="", names=loose)
    elif "arrow" in endings:
        for file in _of_ending(files, "arrow"):
            yield Source(
                kind="arrow", url=file.url, label="" if single else file.name.removesuffix(".arrow")
            )
    elif shards := list(_shards(folder, files, tables)):
        yield from shards
    elif tables:
        for file in tables:
            yield Source(
                kind="parquet",
                url=file.url,
                label="" if single else file.name.removesuffix(".parquet"),
            )
    elif captions:
        for file in captions:
            beside, version = _image_folder(file, images), _version(file)
            label = "" if single else posixpath.basename(beside)
            yield Source(
                kind="coco",
                url=file.url,
                label=label,
                beside=beside,
                names=(version, str(len(coco_images(file.url, version)))),
            )
    elif lines:
        for file in lines:
            beside = _address(images) if images else _beside_lines(file)
            yield Source(
                kind="lines", url=file.url, label="" if single else file.name, beside=beside
            )
    elif endings & IMAGE_ENDINGS and not single:
        yield Source(kind="files", url=folder, label="", names=tuple(file.name for file in files))
    else:
        raise ValueError(_unknown(path, files))


def _of_ending(files: Iterable[File], ending: str) -> list[File]:
    """Files of an ending, without those that Hugging Face keeps beside the data."""
    return [
        file
        for file in files
        if ending_of(file.name) == ending
        and not file.name.rsplit("/", 1)[-1].startswith(("indices", "cache-"))
    ]


def _keyed(table: str) -> str:
    """The table beside a tar if it is img2dataset's: a row for each key with its status."""
    columns = columns_of(table, schema_of(table), images=False) if table else None
    return table if columns is not None and columns.key and columns.status else ""


def _shards(folder: str, files: Sequence[File], tables: Sequence[File]) -> Iterator[Source]:
    """img2dataset's output as files: a table `00000.parquet` with a folder `00000` beside."""
    below: dict[str, list[str]] = {}
    for file in files:
        parent, _, base = file.name.rpartition("/")
        below.setdefault(parent, []).append(base)
    for table in tables:
        label = table.name.removesuffix(".parquet")
        if label in below and _keyed(table.url):
            yield Source(
                kind="shard",
                url=f"{folder.rstrip('/')}/{label}",
                label=label,
                beside=table.url,
                names=tuple(below[label]),
            )


def _is_captions(file: File, single: bool) -> bool:
    """Whether a JSON file is one of captions: by its name in a folder, since each other picture may
    have a JSON of its own.
    """
    base = file.name.rsplit("/", 1)[-1]
    return base.endswith(".json") and (
        single or base.startswith(("captions_", "captions.", "dataset_coco", "dataset_flickr"))
    )


def _names_images(file: File) -> bool:
    """Whether the first line of a file is an object that names an image."""
    lines = (text_of(line.data)[0] for line in ListBytes(file.url).lines())
    first = next((line for line in lines if line.strip()), "")
    try:
        value = json_value(first)
    except ValueError:
        return False
    key = found_key(value, NAME_KEYS) if isinstance(value, dict) else None
    # an empty name is a broken line, counted when it is read; what is no text is another format
    return key is not None and isinstance(value[key], str)


def _version(file: File) -> str:
    return f"{file.size}:{file.changed}"


def _image_folder(file: File, images: str) -> str:
    """The folder of the images of a captions file: as told, else where one of the first of them
    lies.
    """
    if images:
        return _address(images)
    here = posixpath.dirname(file.url)
    split = posixpath.basename(file.url).removeprefix("captions_").removesuffix(".json")
    below = ("", "images", split, f"images/{split}", "val2014", "train2014")
    folders = [
        f"{start}/{name}".rstrip("/") for start in (here, posixpath.dirname(here)) for name in below
    ]
    names = [name for name, _, _ in coco_images(file.url, _version(file))[:20] if name]
    for folder in folders:
        if any(_exists(folder, name) for name in names):
            return folder
    raise ValueError(
        f"the images of {file.url} are not beside it: name their folder with --import-images FOLDER"
    )


def _beside_lines(file: File) -> str:
    """The folder of the images that lines name: that of the file, unless the first of them lie in
    `images` below it.
    """
    here = posixpath.dirname(file.url)
    names = []
    for line in itertools.islice(ListBytes(file.url).lines(), 20):
        with contextlib.suppress(ValueError):  # a broken line is counted when it is read
            names.append(of_line(text_of(line.data)[0], "").key)
    return next(
        (
            folder
            for folder in (here, f"{here}/images")
            if any(_exists(folder, name) for name in names)
        ),
        here,
    )


def _exists(folder: str, name: str) -> bool:
    place = place_of(folder, name)
    system, path = fsspec.core.url_to_fs(place.archive or folder)
    return bool(place.archive and system.isfile(path))


def _unknown(path: str, files: Sequence[File]) -> str:
    endings = sorted({ending_of(file.name) for file in files} - {""})
    refused = next(
        (f" ({ending}: {REFUSED[ending]})" for ending in endings if ending in REFUSED), ""
    )
    holds = (
        f"it holds {len(files):,} files of the kinds {', '.join(endings) or 'none'}{refused}"
        if files
        else "it is empty"
    )
    return f"{path} is no data set that can be imported: {holds}; give {UNDERSTOOD}"
