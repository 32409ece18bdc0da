"""Shards from anywhere, in a local folder that does not grow beyond its bound."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_BYTES = 20 << 30


def is_local(address: str) -> bool:
    """Whether an address is a path of this machine."""
    return "://" not in address or address.startswith("file://")


def local_path(address: str) -> Path:
    """The path that a local address names."""
    return Path(address.removeprefix("file://"))


def read_bytes(address: str) -> bytes:
    """A small file, from anywhere. FileNotFoundError when it is not there."""
    if is_local(address):
        return local_path(address).read_bytes()
    system, path = _system(address)
    return bytes(system.cat_file(path))


def names_in(folder: str) -> list[str]:
    """Names of the files in a folder, from anywhere, sorted."""
    if is_local(folder):
        return sorted(os.listdir(local_path(folder)))
    system, path = _system(folder)
    paths = map(str, system.ls(path, detail=False))
    return sorted(path.rpartition("/")[2] for path in paths)


@dataclass(frozen=True, kw_only=True)
class ShardCache:
    """Copies of remote shards, the least recently used of them removed when there are too many.

    Any number of processes may share a folder: a shard is fetched by one of them under a lock, and
    stands under its name only when it is whole. Whoever has a removed one mapped can still read it.
    """

    folder: str = ""  # "": a folder of this user among the system's temporary ones
    bytes: int = DEFAULT_BYTES

    def path(self, address: str) -> Path:
        """A local file with the content of `address`; fetched if it is not there."""
        if is_local(address):
            return local_path(address)
        digest = hashlib.blake2b(address.encode(), digest_size=12).hexdigest()
        path = self._folder() / f"{digest}.shard"
        with _lock(path.with_suffix(".lock")):
            if not path.exists():
                self._fetch(address, path)
            os.utime(path)
        return path

    def _folder(self) -> Path:
        default = Path(tempfile.gettempdir()) / f"winnow-shards-{os.getuid()}"
        folder = Path(self.folder) if self.folder else default
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def _fetch(self, address: str, path: Path) -> None:
        system, remote = _system(address)
        size = int(system.size(remote) or 0)
        with _lock(path.parent / "room.lock"):
            self._make_room(path.parent, size)
        temporary = path.with_suffix(".part")  # alone under the lock: what a kill left is replaced
        system.get_file(remote, str(temporary))
        if size and temporary.stat().st_size != size:
            raise ValueError(f"{address}: {size} bytes there, fewer came: try again")
        temporary.replace(path)

    def _make_room(self, folder: Path, size: int) -> None:
        """Remove shards until one of that size fits; unfinished ones count, and stay."""
        held = size
        for path in folder.glob("*.part"):
            held += path.stat().st_size

        shards = []
        for path in folder.glob("*.shard"):
            status = path.stat()
            held += status.st_size
            shards.append((status.st_mtime_ns, status.st_size, path))
        for _, shard_size, path in sorted(shards):
            if held <= self.bytes:
                break
            path.unlink(missing_ok=True)
            held -= shard_size


def _system(address: str) -> tuple[Any, str]:
    import fsspec

    system, path = fsspec.core.url_to_fs(address)
    return system, str(path)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
