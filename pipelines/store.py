"""The store: folders under one root, local or any fsspec URL, where a file appears whole or not at
all.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import IO, Any, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from pipelines.background import meanwhile

TEMPORARY = ".tmp-"
LEASE_SECONDS = 60.0  # a writer that has not renewed its lease for so long is dead
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
        # what another process has written since must be seen, so no listing is kept
        return cast(tuple[Any, str], fsspec.core.url_to_fs(self.url, use_listings_cache=False))

    @property
    def is_local(self) -> bool:
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

    def open(self, name: str) -> pa.NativeFile:
        """A file to read at random: a memory map when local."""
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

    def sweep(self) -> None:
        """Remove the temporary files that a killed writer left; only the holder of the lease
        may.
        """
        folder = self._system[1]
        if self.is_local and os.path.isdir(folder):
            for entry in os.scandir(folder):
                if entry.name.startswith(TEMPORARY):
                    os.unlink(entry.path)


def read_table(folder: Folder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet or Arrow file, whole or some of its columns; an Arrow file on a local disk is
    mapped, not read.
    """
    chosen = list(columns) if columns is not None else None
    if name.endswith(".arrow"):
        table = pa.ipc.open_file(folder.open(name)).read_all()
        return table.select(chosen) if chosen is not None else table
    with folder.open(name) as file:
        return pq.read_table(file, columns=chosen, use_threads=False)


def write_parquet(folder: Folder, name: str, table: pa.Table) -> Written:
    with folder.write(name) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=65_536)
    return file.written(name, table.num_rows)


def write_arrow(
    folder: Folder, name: str, table: pa.Table, *, rows_per_batch: int = 256
) -> Written:
    """An Arrow IPC file, uncompressed, in record batches small enough to reach any row at once."""
    return write_batches(
        folder, name, table.schema, table.combine_chunks().to_batches(max_chunksize=rows_per_batch)
    )


def write_batches(
    folder: Folder, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Written:
    """An Arrow IPC file of record batches as they come, one in memory at a time."""
    rows = 0
    with (
        folder.write(name) as file,
        pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return file.written(name, rows)


def digest(value: Any) -> str:
    """The sha256 of a JSON value in its canonical spelling."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # names of files may be no UTF-8
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class LeaseHeld(RuntimeError):
    """Another living process writes here."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lease; `about` says for what, where holders of different work must not meet."""

    owner: str
    host: str
    pid: int
    started: str
    renewed: float
    machine: str = ""
    about: str = ""

    def dead(self) -> bool:
        """Its process is gone (same machine), or it has not renewed its lease for a minute (another
        one).
        """
        if self.machine == _machine() if self.machine else self.host == socket.gethostname():
            # the number may have been given to a stranger since: its start tells
            return _started(self.pid) != self.started
        return time.time() - self.renewed > LEASE_SECONDS


def _started(pid: int) -> str:
    """When a living process of this machine started, in clock ticks since boot ("?" where there is
    no /proc); empty if it is gone.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, *numbers = file.read().rsplit(")", 1)[1].split()
            # a killed process that nobody has waited for is dead too
            return "" if state in "ZX" else numbers[18]
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            return ""
    except (IndexError, ProcessLookupError):
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "?"


@functools.cache
def _machine() -> str:
    """What tells one set of process numbers from another: the boot, and the container that counts
    them; empty where unknown.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


@contextlib.contextmanager
def lease(
    folder: Folder, name: str = "lease.json", *, about: str = "", wait: float = 0.0
) -> Iterator[None]:
    """Hold the right to write a folder; LeaseHeld if a living process has it still after `wait`
    seconds. A dead holder loses it.

    The holder renews it from a thread; it is dead when its process is gone (same machine) or it was
    not renewed for a minute.
    """
    mine = Holder(
        owner=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        renewed=time.time(),
        machine=_machine(),
        about=about,
    )
    _acquire(folder, name, mine, time.monotonic() + wait)
    try:
        with meanwhile(functools.partial(_renew, folder, name, mine), "lease"):
            yield
    finally:
        there = holder(folder, name)
        if there is not None and there.owner == mine.owner:
            folder.remove(name)


def holder(folder: Folder, name: str = "lease.json") -> Holder | None:
    """Who holds a lease, dead or alive; None if nobody does. A file that is no lease (a crash of
    the machine cut it) is nobody's.
    """
    try:
        return Holder(**folder.read_json(name))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return Holder(owner="", host="", pid=0, started="", renewed=0.0)


def _acquire(folder: Folder, name: str, mine: Holder, deadline: float) -> None:
    pause = 0.02
    while True:
        try:
            folder.create(name, json.dumps(asdict(mine)).encode())
            return
        except FileExistsError:
            other = holder(folder, name)
        except (
            FileNotFoundError
        ):  # the last of some shares has just removed the folder of their leases
            other = None
        if other is None:
            continue
        if other.dead():
            _bury(folder, name, other)
        elif time.monotonic() >= deadline:
            raise LeaseHeld(
                f"{folder.path()} is being written by process {other.pid} on {other.host}; "
                "wait for it, or stop it and run the same command again"
            )
        else:
            time.sleep(pause)
            pause = min(1.0, 1.5 * pause)


def _bury(folder: Folder, name: str, dead: Holder) -> None:
    """Remove a dead holder's lease, and no other's: of several that find it dead, one is quicker
    and may hold it already.

    On a local disk those that bury take turns, by a lock on the folder; whoever creates a lease
    needs none, since a name that is there cannot be created.
    """
    if not folder.is_local:
        if holder(folder, name) == dead:
            folder.remove(name)
        return
    try:
        place = os.open(folder.path(), os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        if holder(folder, name) == dead:
            folder.remove(name)
    finally:
        os.close(place)  # and with it the lock


def _renew(folder: Folder, name: str, mine: Holder, stop: threading.Event) -> None:
    while not stop.wait(LEASE_SECONDS / 4):
        # a full disk must not stop the holder here: the next file that it writes will say so
        with contextlib.suppress(OSError):
            there = holder(folder, name)
            # a machine that slept for a minute has lost it
            if there is not None and there.owner != mine.owner:
                return
            folder.write_json(name, asdict(replace(mine, renewed=time.time())))
