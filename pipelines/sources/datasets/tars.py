"""Samples of a webdataset tar: members that share a name up to the first dot, an image with its
.txt, .caption or .json.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from pipelines.sources.datasets.samples import (
    FOUND_BY_NAME,
    IMAGE_ENDINGS,
    NOWHERE,
    SIDECAR_BYTES,
    TEXT_ENDINGS,
    Keys,
    Place,
    Sample,
    apply_sidecar,
    joined,
)
from pipelines.sources.held_readers import opened

MEMBERS = 1 << 22  # of one file; what is known of each is held, some 700 bytes
ENDED = tarfile.NUL * tarfile.BLOCKSIZE  # a tar file ends with blocks of zeros


@dataclass(slots=True)
class _Group:
    """Members of one key until all are seen."""

    key: str
    occurrence: int
    endings: set[str] = field(default_factory=set)
    images: list[tuple[str, Place]] = field(default_factory=list)
    sample: Sample = field(default_factory=lambda: Sample(key=""))


def tar_samples(
    url: str, label: str, counts: Counter[str], keys: Keys = FOUND_BY_NAME
) -> Iterator[Sample]:
    """One sample for each image, in the order of keys; keys with neither image nor text are counted
    as `import.other`.

    A member that ends behind the end of the file, a broken header or a missing end is counted as
    `import.truncated`.
    """
    groups: list[_Group] = []
    # a name that comes again begins another sample: shards that were joined count anew
    current: dict[str, _Group] = {}
    with opened(url) as file:
        end = file.seek(0, 2)
        file.seek(0)
        for member in _members(url, file, counts):
            key, ending = split_name(member.name)
            if not ending:
                continue
            group = current.get(key)
            if group is None or ending in group.endings:
                group = current[key] = _Group(key, 1 if group is None else group.occurrence + 1)
                groups.append(group)
            group.endings.add(ending)
            _take(group, member, ending, _Tar(url, file, end, counts, keys))
    for group in groups:
        yield from _samples(group, label, counts)


def split_name(name: str) -> tuple[str, str]:
    """Key and ending of a member as webdataset has them: the ending begins at the first dot of the
    last part of its name.
    """
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, ending = base.partition(".")
    return (f"{folder}{slash}{stem}", ending.lower()) if stem else ("", "")


def _members(url: str, file: IO[bytes], counts: Counter[str]) -> Iterator[tarfile.TarInfo]:
    try:
        headers: Any = _Headers(file)
        tar: Any = tarfile.open(fileobj=headers, mode="r:", errorlevel=0)  # noqa: SIM115 - the file is closed by whom it belongs to
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{url} is no plain tar file ({error}): decompress a compressed one, its members are"
            " read in place"
        ) from error
    before, seen = -1, 0
    try:
        while (member := tar.next()) is not None:
            tar.members.clear()  # else every header stays in memory
            if tar.offset <= before:
                # which tarfile would read for ever
                raise tarfile.ReadError("a member of negative size")
            before = tar.offset
            seen += 1
            if seen > MEMBERS:
                raise tarfile.ReadError("more members than can be held")
            if not member.isdir():
                yield member
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        counts["import.truncated"] += 1
        return
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != ENDED:
        counts["import.truncated"] += 1


class _Headers:
    """A tar file for tarfile, which reads headers alone and would hold a name of gigabytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if size > SIDECAR_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)


class _Tar(NamedTuple):
    url: str
    file: IO[bytes]
    end: int  # bytes
    counts: Counter[str]
    keys: Keys


def _take(group: _Group, member: tarfile.TarInfo, ending: str, tar: _Tar) -> None:
    kind = ending.rsplit(".", 1)[-1]
    there = member.isreg() and not member.issparse()
    if kind in IMAGE_ENDINGS:
        tar.counts["import.link"] += not there
        group.images.append(
            (ending, Place("tar", tar.url, member.offset_data, member.size) if there else NOWHERE)
        )
    elif kind in TEXT_ENDINGS or kind == "json":
        if not there or member.size > SIDECAR_BYTES or member.offset_data + member.size > tar.end:
            tar.counts["import.bad_sidecar"] += 1
            return
        tar.file.seek(member.offset_data)
        apply_sidecar(group.sample, kind, tar.file.read(member.size), tar.counts, tar.keys)


def _samples(group: _Group, label: str, counts: Counter[str]) -> Iterator[Sample]:
    found = group.sample
    counts["entries"] += len(group.images) or 1
    if not group.images and not (found.texts or found.url):
        counts["import.other"] += 1
        return
    for ending, place in group.images or [("", NOWHERE)]:
        name = (
            joined(label, group.key)
            + (f".{ending}" if ending else "")
            + (f"#{group.occurrence}" if group.occurrence > 1 else "")
        )
        yield Sample(
            key=name, texts=found.texts, url=found.url, page_url=found.page_url, place=place
        )
