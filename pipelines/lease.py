"""The right to write a folder, held by one living process and lost by a dead one."""

import contextlib
import fcntl
import functools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from pipelines.background import meanwhile
from pipelines.store import Folder

LEASE_SECONDS = 60.0  # a writer that has not renewed its lease for so long is dead


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
