"""What there is to read: paths, patterns, fsspec URLs and path lists turned into addresses; files
and byte ranges behind them.

Remote files are read in blocks, each asked for again when the network fails. What stays unreachable
raises Unreachable, so that no failure of the network passes for the end of a file.
"""

import functools
import glob
import gzip
import hashlib
import io
import os
import re
import shutil
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import fsspec
import msgspec
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from pipelines.schema import identify
from pipelines.sources.archives import wacz
from pipelines.sources.retrying import ADVICE, NoRanges, Unreachable, patiently

HASHED_WHOLE = 64 * 1024 * 1024  # bytes; a larger file is known by its size and time of change
COMMON_CRAWL = "https://data.commoncrawl.org/"  # what Common Crawl's own path lists are relative to
LISTS = (".paths", ".paths.gz", ".txt", ".txt.gz")
LIST_BYTES = 256 * 1024 * 1024  # of a path list; Common Crawl's largest has 100,000 lines and 14 MB
# how the names of what lists name end, before and after compression
KINDS = ("warc", "wat", "wet", "arc", "cdx", "cdxj", "wacz", "parquet", "gz", "zst", "lz4")
# of deflated entries of WACZ files that a process holds on the disk: a package in a package takes
# one
COPIES = 2
PACKAGES = 4  # WACZ files whose directories are held; a package of packages has two
MULTI_WACZ = "multi-wacz-package"  # profile of a datapackage.json that names WACZ files
BLOCK = 8 * 1024 * 1024  # bytes of a remote file asked for at once
_inflating = threading.RLock()  # a package may lie in a package


@dataclass(frozen=True, kw_only=True)
class Source:
    """An address to read; `listed` says that it is a line of a path list and was not looked at."""

    url: str
    listed: bool = False


def is_local(url: str) -> bool:
    return get_protocol(url) in ("file", "local")


def expand(
    patterns: Sequence[str], prefix: str = "", endings: tuple[str, ...] = wacz.ARCHIVES
) -> list[Source]:
    """What paths, patterns, fsspec URLs and path lists name, sorted, each once; ValueError if one
    of them finds nothing.

    Of a WACZ file that is at hand, what lies in it with one of the `endings`; the file itself if it
    is broken or holds none.

    A path list is a text file, gzipped or not, of one address a line (its name ends in .paths,
    .paths.gz, .txt or .txt.gz). Lines that are no whole address are joined to `prefix`; without
    one, to the folder or host of the list where the file is there, else to Common Crawl's.
    """
    found: dict[str, Source] = {}
    for pattern in patterns:
        for url in _matches(pattern):
            for source in (
                _listed(url, prefix) if url.endswith((*LISTS, ".json")) else [Source(url=url)]
            ):
                for one in [source] if source.listed else _unpacked(source, endings):
                    found.setdefault(one.url, one)
    return [found[url] for url in sorted(found)]


def _unpacked(source: Source, endings: tuple[str, ...]) -> list[Source]:
    """What a WACZ file holds, if it is one that can be read."""
    try:
        return [Source(url=url) for url in inside(source.url, endings)] or [source]
    except ValueError:
        return [source]  # said, or counted, where it is read


def inside(url: str, endings: tuple[str, ...] = wacz.ARCHIVES) -> list[str]:
    """The files in a WACZ file by their addresses; of another file, its own. ValueError for a WACZ
    file that is broken.
    """
    if not wacz.is_package(url):
        return [url]
    with opened(url) as stream:
        return list(wacz.inside(stream, url, endings))


def _matches(pattern: str) -> list[str]:
    system, path = fsspec.core.url_to_fs(pattern)
    if isinstance(system, LocalFileSystem):
        matches = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
    else:
        matches = (
            system.glob(path) if _is_pattern(path, system) else [path] if exists(pattern) else []
        )
    if not matches:
        raise ValueError(f"there is no archive at {pattern}: {ADVICE}")
    folders = [
        match for match in matches if isinstance(system, LocalFileSystem) and os.path.isdir(match)
    ]
    if folders and folders == matches:
        raise ValueError(f"{pattern} is a folder: {ADVICE}")
    matches = [match for match in matches if match not in folders]
    return [
        str(match) if isinstance(system, LocalFileSystem) else str(system.unstrip_protocol(match))
        for match in matches
    ]


def _is_pattern(path: str, system: Any) -> bool:
    """Whether a path holds wildcards; a question mark of an http address begins its query."""
    return any(mark in path for mark in ("*[" if isinstance(system, HTTPFileSystem) else "*?["))


def _listed(url: str, prefix: str) -> Iterator[Source]:
    lines = _lines(url)
    if not lines:
        raise ValueError(f"the path list {url} is empty: it must name one archive a line")
    join = joiner(url, prefix, lines[0])
    for number, line in enumerate(lines, 1):
        if not _names_archive(line) and not (
            is_local(join(line)) and os.path.isfile(fsspec.core.url_to_fs(join(line))[1])
        ):
            raise ValueError(
                f"{url} is no list of archives: its line {number} is {line[:60]!r}, where the path"
                " or the address of an archive is meant, such as crawl/a.warc.gz; give archives"
                " themselves by their names, lists by those of .paths, .txt and their .gz"
            )
    return (Source(url=join(line), listed=not is_local(join(line))) for line in lines)


def _lines(url: str) -> list[str]:
    """What a path list, or the datapackage.json of many WACZ files, names."""
    with opened(url) as file:
        packed = gzip.GzipFile(fileobj=file) if url.endswith(".gz") else file
        try:
            data = packed.read(LIST_BYTES + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"the path list {url} is damaged: {error}; write it anew") from error
    if len(data) > LIST_BYTES:
        raise ValueError(
            f"the path list {url} has more than {LIST_BYTES:,} bytes: cut it into several"
        )
    if url.endswith(".json"):
        return _resources(url, data)
    return [
        line.strip() for line in data.decode("utf-8", errors="replace").splitlines() if line.strip()
    ]


def _resources(url: str, data: bytes) -> list[str]:
    try:
        package = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        package = None
    if (
        not isinstance(package, dict)
        or package.get("profile") != MULTI_WACZ
        or not isinstance(package.get("resources"), list)
    ):
        raise ValueError(f"{url} is no {MULTI_WACZ}: {ADVICE}")
    return [
        resource["path"]
        for resource in package["resources"]
        if isinstance(resource, dict) and isinstance(resource.get("path"), str)
    ]


def _names_archive(line: str) -> bool:
    """Whether a line of a path list looks like one: an ending of archives or of their indexes, or a
    whole address without blanks.
    """
    ending = line.partition("?")[0].rpartition(".")[2].lower()
    return ending in KINDS or ("://" in line and not re.search(r"\s", line))


def joiner(list_url: str, prefix: str, sample: str) -> Callable[[str], str]:
    """How the names in a list or index become addresses: see `expand`; `sample` is one of them,
    asked for at a remote host.
    """
    if (entry := wacz.parted(list_url)) is not None:  # an index in a WACZ file, beside its archives
        return lambda name: wacz.address(f"archive/{name.removeprefix('archive/')}", entry[1])
    if prefix:
        return lambda name: name if _is_whole(name) else f"{prefix.rstrip('/')}/{name.lstrip('/')}"
    if is_local(list_url):
        folder = os.path.dirname(fsspec.core.url_to_fs(list_url)[1])
        return lambda name: (
            name if _is_whole(name) else _beside(folder, name) or COMMON_CRAWL + name.lstrip("/")
        )
    folder = list_url.rsplit("/", 1)[0]
    host = "/".join(list_url.split("/", 3)[:3])
    near = [] if _is_whole(sample) else [f"{host}/{sample}", f"{folder}/{sample}"]
    base = next((url.removesuffix(sample) for url in near if exists(url)), COMMON_CRAWL)
    return lambda name: name if _is_whole(name) else base + name.lstrip("/")


def _is_whole(name: str) -> bool:
    return "://" in name or os.path.isabs(name)


def _beside(folder: str, name: str) -> str | None:
    """The file of that name in a local folder, with its own folders or without them."""
    places = (os.path.join(folder, name), os.path.join(folder, os.path.basename(name)))
    return next((place for place in places if os.path.isfile(place)), None)


def exists(url: str) -> bool:
    """Whether something is at an address; Unreachable if that cannot be told."""
    try:
        information(url)
    except ValueError:
        return False
    return True


def information(url: str) -> dict[str, Any]:
    """What the file system says of a file: its size and, if known, what changes with it; ValueError
    if it is not there.
    """
    if (entry := wacz.parted(url)) is not None:
        return {"size": _entry(*entry).size}
    system, path = fsspec.core.url_to_fs(url)
    return dict(patiently(lambda: system.info(path), url))


def _entry(name: str, package: str) -> wacz.Entry:
    found = _directory(package, _state(package)).get(name)
    if found is None:
        raise ValueError(f"the zip file holds no {name!r}")
    return found


@functools.lru_cache(maxsize=PACKAGES)
def _directory(package: str, state: str) -> dict[str, wacz.Entry]:
    """What a WACZ file in some state holds, by name; of several of one name the first. It is asked
    about entry by entry.
    """
    with opened(package) as stream:
        return {entry.name: entry for entry in reversed(wacz.entries(stream))}


@functools.lru_cache(maxsize=PACKAGES)
def _fingerprint_of_package(package: str, state: str) -> str:
    return fingerprint(package)


def _state(package: str) -> str:
    """What changes with a WACZ file, or with the one that it lies in."""
    outer = wacz.parted(package)
    return str(information(package)) if outer is None else _state(outer[1])


def fingerprint(source: Source | str) -> str:
    """What tells one version of a file from another: its content where that is quickly read, else
    size and time of change.

    A remote file of a path list is known by its address alone: such lists name tens of thousands of
    files that never change.
    """
    url = source.url if isinstance(source, Source) else source
    if isinstance(source, Source) and source.listed:
        return identify(url)
    if (entry := wacz.parted(url)) is not None:
        return identify(entry[0], _fingerprint_of_package(entry[1], _state(entry[1])))
    info = information(url)
    place = fsspec.core.url_to_fs(url)[1]
    # a pipe would be waited for
    if is_local(url) and info["size"] <= HASHED_WHOLE and os.path.isfile(place):
        with open(place, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    changed = (
        info.get("ETag")
        or info.get("mtime")
        or info.get("LastModified")
        or info.get("Last-Modified")
    )
    return identify(str(info.get("size")), str(changed))


def read_range(url: str, start: int, end: int) -> bytes:
    """Bytes [start, end) of a file, fewer only where it ends.

    Raises ValueError if there is no such file, NoRanges if its server sends whole files alone,
    Unreachable after several failures.
    """
    if wacz.parted(url) is not None or is_local(url):
        with opened(url) as file:
            size = file.seek(0, 2)
            file.seek(min(start, size))  # an index may name a place that no file can have
            return file.read(end - start)
    system, path = fsspec.core.url_to_fs(url)
    return patiently(lambda: _range(system, path, start, end), url)


def _range(system: Any, path: str, start: int, end: int) -> bytes:
    if not isinstance(system, HTTPFileSystem):
        return bytes(system.cat_file(path, start=start, end=end))
    # as a file, for so a server that ignores the range is noticed before it has sent everything
    try:
        with system.open(path, "rb", size=end, cache_type="none") as file:
            file.seek(start)
            return bytes(file.read(end - start))
    except ValueError as error:
        raise NoRanges(
            f"{path} is on a server that sends no byte ranges: copy the file here first"
        ) from error


class Ranged(io.RawIOBase):
    """A remote file of known size, read in blocks of byte ranges."""

    def __init__(self, url: str, size: int, block: int = BLOCK) -> None:
        self._url, self._size, self._step = url, size, block
        self._position = 0
        self._block, self._start = b"", 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        if not self._start <= self._position < self._start + len(self._block):
            self._start = self._position
            self._block = read_range(
                self._url, self._start, min(self._start + self._step, self._size)
            )
        data = self._block[self._position - self._start :][: len(buffer)]
        if not data:
            raise Unreachable(
                f"{self._url} ends at byte {self._position:,} of {self._size:,}; run the same"
                " command again later"
            )
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@contextmanager
def opened(url: str, block: int = BLOCK) -> Iterator[IO[bytes]]:
    """A seekable binary file at a path or fsspec URL, remote ones read `block` bytes at a time;
    ValueError if it is not there.

    A file whose server tells no size or serves no ranges is copied to a temporary file first. What
    lies in a WACZ file is read there.
    """
    if (entry := wacz.parted(url)) is not None:
        found = _entry(*entry)
        if found.method == wacz.DEFLATED:
            yield wacz.reader(_inflated(url))
            return
        with opened(entry[1], block) as package:
            yield wacz.open_entry(package, found)
        return
    system, path = fsspec.core.url_to_fs(url)
    if isinstance(system, LocalFileSystem):
        if not os.path.isfile(path):
            raise ValueError(f"there is no archive at {url}: {ADVICE}")
        with open(path, "rb") as file:
            yield file
        return
    info = information(url)
    if info.get("size") is not None and _serves_ranges(url, system, int(info["size"])):
        yield io.BufferedReader(Ranged(url, int(info["size"]), block), 1 << 16)
        return
    with tempfile.TemporaryFile() as copy:
        patiently(lambda: _copied(system, path, copy), url)
        copy.seek(0)
        yield copy


def _inflated(url: str) -> IO[bytes]:
    """A copy of what lies deflated in a WACZ file: records and images are asked for one by one, in
    any order.

    A process keeps the last ones. ValueError if it cannot be read.
    """
    entry = wacz.parted(url)
    assert entry is not None, "it lies in a WACZ file"
    with _inflating:
        return _inflated_copy(url, _state(entry[1]))


@functools.lru_cache(maxsize=COPIES)
def _inflated_copy(url: str, state: str) -> IO[bytes]:
    entry = wacz.parted(url)
    assert entry is not None, "it lies in a WACZ file"
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it is no longer kept
    with opened(entry[1]) as package:
        shutil.copyfileobj(wacz.open_entry(package, _entry(*entry)), copy, 1 << 20)
    copy.flush()
    return copy


def _serves_ranges(url: str, system: Any, size: int) -> bool:
    try:
        return not isinstance(system, HTTPFileSystem) or size < 2 or len(read_range(url, 1, 2)) == 1
    except NoRanges:
        return False


def _copied(system: Any, path: str, copy: IO[bytes]) -> None:
    copy.seek(0)
    copy.truncate()
    options = {"block_size": 0} if isinstance(system, HTTPFileSystem) else {}
    with system.open(path, "rb", **options) as file:
        shutil.copyfileobj(file, copy, 1 << 20)
