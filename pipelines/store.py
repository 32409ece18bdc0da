"""The store: folders under one root, local or any fsspec URL, where a file appears whole or not at
all.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import pyarrow as pa

TEMPORARY = ".tmp-"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES})  # no retry mends these


@dataclass(frozen=True, kw_only=True)
class Written:
    """A file as it was written: name in its folder, size in bytes, sha256 in hex, rows if it is a
    table.
    """

    name: str
    bytes: int
    sha256: str
    rows: int | None = None


class _Hashing(io.RawIOBase):
    """A binary sink that counts and hashes what passes to the file below; it only appends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._file.write(view)
        self._hash.update(view)
        self.size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.size

    def written(self, name: str, rows: int | None = None) -> Written:
        return Written(name=name, bytes=self.size, sha256=self._hash.hexdigest(), rows=rows)


@dataclass(frozen=True)
class Folder:
    """A folder at any fsspec URL; it exists as soon as a file is written into it."""

    url: str

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        return self.url.rstrip("/").rsplit("/", 1)[-1]

    def beside(self, name: str) -> "Folder":
        """The folder of another name in the same place."""
        return Folder(f"{self.url.rstrip('/').rsplit('/', 1)[0]}/{name}")

    @property
    def _system(self) -> tuple[Any, str]:
        import fsspec  # a tenth of a second, which `--help` need not wait for

        # what another process has written since must be seen, so no listing is kept
        return cast(tuple[Any, str], fsspec.core.url_to_fs(self.url, use_listings_cache=False))

    @property
    def is_local(self) -> bool:
        from fsspec.implementations.local import LocalFileSystem

        return isinstance(self._system[0], LocalFileSystem)

    def path(self, name: str = "") -> str:
        """The address of a file of this folder: a plain path when local, else its URL."""
        system, folder = self._system
        path = f"{folder}/{name}" if name else folder
        return path if self.is_local else cast(str, system.unstrip_protocol(path))

    def names(self) -> list[str]:
        """Sorted names of what lies directly inside, temporary files left out; empty if there is no
        such folder.
        """
        system, folder = self._system
        try:
            found = (
                system.ls(folder, detail=False, refresh=True)
                if not self.is_local
                else os.listdir(folder)
            )
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in found)
        return sorted(name for name in names if not name.startswith(TEMPORARY))

    def exists(self, name: str = "") -> bool:
        system, folder = self._system
        return bool(system.exists(f"{folder}/{name}" if name else folder))

    def read(self, name: str) -> bytes:
        system, folder = self._system
        return cast(bytes, system.cat_file(f"{folder}/{name}"))

    def read_json(self, name: str) -> Any:
        """The value of a JSON file; ValueError, with a remedy, when it was cut or is something
        else.
        """
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise ValueError(
                f"{self.path(name)} is damaged ({error}): remove it and run the same command again"
            ) from error

    def open(self, name: str) -> "pa.NativeFile":
        """A file to read at random: a memory map when local."""
        import pyarrow as pa  # half a second, which who only looks at names need not wait for

        if self.is_local:
            return pa.memory_map(self.path(name))
        system, folder = self._system
        return pa.PythonFile(system.open(f"{folder}/{name}", "rb"), mode="r")

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[_Hashing]:
        """A binary file that appears under its name when the block ends well, and not at all when
        it raises.
        """
        system, folder = self._system
        if not self.is_local:
            remote = system.open(f"{folder}/{name}", "wb", autocommit=False)
            try:
                yield _Hashing(remote)
                remote.close()
            except BaseException:
                remote.discard()
                # systems that show a file while it is written
                with contextlib.suppress(FileNotFoundError):
                    system.rm(f"{folder}/{name}")
                raise
            remote.commit()
            return
        os.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}-{name}"
        try:
            with open(temporary, "wb") as file:
                yield _Hashing(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, f"{folder}/{name}")
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def write_bytes(self, name: str, data: bytes) -> Written:
        with self.write(name) as file:
            file.write(data)
        return file.written(name)

    def write_json(self, name: str, value: Any) -> Written:
        return self.write_bytes(
            name, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
        )

    def create(self, name: str, data: bytes) -> None:
        """Write a file that must not be there yet; FileExistsError if it is."""
        system, folder = self._system
        if not self.is_local:
            system.pipe_file(f"{folder}/{name}", data, mode="create")
            return
        os.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}-{name}"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, f"{folder}/{name}")
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def remove(self, name: str = "") -> None:
        """Remove a file, or a folder with all that it holds; nothing happens if it is not there."""
        system, folder = self._system
        path = f"{folder}/{name}" if name else folder
        if self.is_local and not os.path.lexists(path):
            return  # where nothing may be written, removing what is not there would be refused too
        with contextlib.suppress(FileNotFoundError):
            system.rm(path, recursive=True)

    def size(self) -> int:
        """The bytes of all files below it; 0 where there is none."""
        system, folder = self._system
        return int(system.du(folder)) if system.exists(folder) else 0

    def sweep(self) -> None:
        """Remove the temporary files that a killed writer left; only the holder of the lease
        may.
        """
        folder = self._system[1]
        if self.is_local and os.path.isdir(folder):
            for entry in os.scandir(folder):
                if entry.name.startswith(TEMPORARY):
                    os.unlink(entry.path)


def digest(value: Any) -> str:
    """The sha256 of a JSON value in its canonical spelling."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # names of files may be no UTF-8
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
