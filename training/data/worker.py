"""Processes that decode: what kills one of them costs one image.

A worker is a fresh interpreter without torch: it inherits no lock, no thread and no device. It ends
when its socket closes, as it does when the process that asked is gone, and a timer ends it in the
midst of a decoder that hangs.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import NamedTuple

from training.data.order import Slot
from training.data.room import Room
from training.data.sample import Bad, Made, SampleMaker

MEMORY = 2 << 30  # bytes of private data; the largest pictures need half a gigabyte


class Chunk(NamedTuple):
    """Rows of one batch, for one worker."""

    batch: int  # in the room
    rows: tuple[int, ...]
    slots: tuple[Slot, ...]


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a worker must know once."""

    maker: SampleMaker
    room: Room
    seconds: float  # that one sample may take


class Worker:
    """A worker as the process that asks it sees it.

    Slots and answers travel as plain tuples: to name a class for each costs several times as much.
    """

    def __init__(self, orders: Orders) -> None:
        ours, theirs = socket.socketpair()
        self._seconds = orders.seconds
        descriptors = theirs.fileno(), orders.room.descriptor
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from training.data.worker import main; main{descriptors}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=descriptors,
                start_new_session=True,  # Ctrl-C is for the one who asks
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "OPENBLAS_NUM_THREADS": "1",  # a worker computes with one thread
                    "OMP_NUM_THREADS": "1",
                },
            )
        self.channel = Connection(ours.detach())
        self.waiting: deque[Chunk] = deque()  # what it was given and has not answered
        self.answered = 0
        with contextlib.suppress(OSError):  # it is dead already: the next answer says so
            self.channel.send(orders)

    def give(self, chunk: Chunk) -> None:
        """Let it make the rows of a chunk."""
        self.waiting.append(chunk)
        with contextlib.suppress(OSError):
            self.channel.send((chunk.batch, chunk.rows, [tuple(one) for one in chunk.slots]))

    def answer(self) -> tuple[Chunk, list[Made | Bad]] | None:
        """The chunk that it was given first, made; None when it is dead. Raises what it raised."""
        try:
            found = self.channel.recv()
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        if isinstance(found, Exception):
            raise found
        self.answered += 1
        made = [Made(*one) if good else Bad(*one) for good, one in found]
        return self.waiting.popleft(), made

    def end(self) -> str:
        """Kill it, and say how it ended if it was dead already."""
        self.channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5 if self._process.poll() is None else None)
        self._process.kill()
        return self._how(self._process.wait())

    def _how(self, status: int) -> str:
        if status == -signal.SIGALRM:
            return f"its decoder took more than {self._seconds:g} s"
        if status < 0:
            return f"its decoder was killed by {signal.Signals(-status).name}"
        return f"its decoder ended with status {status}"


def main(descriptor: int, room: int) -> None:
    """The worker: makes chunks until its socket closes."""
    channel = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        orders: Orders = channel.recv()
        assert orders.room.descriptor == room, "a descriptor keeps its number in a child"
        _confine()
        while True:
            batch, rows, slots = channel.recv()
            chunk = Chunk(batch, rows, tuple(Slot(*one) for one in slots))
            channel.send(_made(chunk, orders))
    os._exit(0)


def _made(chunk: Chunk, orders: Orders) -> list[tuple[bool, tuple[object, ...]]] | Exception:
    """Of each row whether it is good, and the fields of what it became."""
    found = []
    try:
        for row, slot in zip(chunk.rows, chunk.slots, strict=True):
            sample = orders.maker.read(slot)
            place = orders.room.row(chunk.batch, row)
            signal.setitimer(signal.ITIMER_REAL, orders.seconds)
            made = orders.maker.make(slot, sample, place)
            signal.setitimer(signal.ITIMER_REAL, 0)
            found.append((isinstance(made, Made), tuple(made)))
    except Exception as error:  # noqa: BLE001 - whoever asked gets it
        signal.setitimer(signal.ITIMER_REAL, 0)
        return ValueError(str(error)) if isinstance(error, ValueError) else _described(error)
    return found


def _described(error: Exception) -> RuntimeError:
    return RuntimeError(f"{type(error).__name__}: {error}")


def _confine() -> None:
    """No core file, bounded memory, and the first to go when the machine has none left."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # Linux alone has it
