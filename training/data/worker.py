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
from training.data.pixel_buffer import PixelBuffer
from training.data.sample import Bad, Made, SampleMaker

MEMORY = 2 << 30  # bytes of private data; the largest images need half a gigabyte


class Chunk(NamedTuple):
    """Rows of one batch, for one worker."""

    batch: int  # of the buffer
    rows: tuple[int, ...]
    slots: tuple[Slot, ...]


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What a worker is sent once."""

    maker: SampleMaker
    buffer: PixelBuffer
    seconds: float  # that one sample may take


class Worker:
    """A worker as the process that asks it sees it.

    Slots and samples travel as plain tuples: to name a class for each costs several times as much.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        ours, theirs = socket.socketpair()
        self._seconds = setup.seconds
        descriptors = theirs.fileno(), setup.buffer.descriptor
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
        self.queue: deque[Chunk] = deque()  # submitted, without a result yet
        with contextlib.suppress(OSError):  # it is dead already: the next `result` says so
            self.channel.send(setup)

    def submit(self, chunk: Chunk) -> None:
        """Let it make the rows of a chunk."""
        self.queue.append(chunk)
        with contextlib.suppress(OSError):
            slots = [tuple(slot) for slot in chunk.slots]
            self.channel.send((chunk.batch, chunk.rows, slots))

    def result(self) -> tuple[Chunk, list[Made | Bad]] | None:
        """The first chunk of its queue, made; None when it is dead. Raises what it raised."""
        try:
            message = self.channel.recv()
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        if isinstance(message, Exception):
            raise message

        samples: list[Made | Bad] = []
        for good, values in message:
            samples.append(Made(*values) if good else Bad(*values))
        return self.queue.popleft(), samples

    def end(self) -> str:
        """Kill it, and say how it ended if it was dead already."""
        self.channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5 if self._process.poll() is None else None)
        self._process.kill()
        return self._reason(self._process.wait())

    def _reason(self, status: int) -> str:
        if status == -signal.SIGALRM:
            return f"its decoder took more than {self._seconds:g} s"
        if status < 0:
            return f"its decoder was killed by {signal.Signals(-status).name}"
        return f"its decoder ended with status {status}"


def main(descriptor: int, buffer: int) -> None:
    """The worker: makes chunks until its socket closes."""
    channel = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        setup: WorkerSetup = channel.recv()
        assert setup.buffer.descriptor == buffer, "a descriptor keeps its number in a child"
        _confine()
        while True:
            batch, rows, slots = channel.recv()
            chunk = Chunk(batch, rows, tuple(Slot(*values) for values in slots))
            channel.send(_made(chunk, setup))
    os._exit(0)


def _made(chunk: Chunk, setup: WorkerSetup) -> list[tuple[bool, tuple[object, ...]]] | Exception:
    """Of each row whether it is good, and the fields of what it became."""
    samples = []
    try:
        for row, slot in zip(chunk.rows, chunk.slots, strict=True):
            sample = setup.maker.read(slot)
            pixels = setup.buffer.row(chunk.batch, row)
            signal.setitimer(signal.ITIMER_REAL, setup.seconds)
            made = setup.maker.make(slot, sample, pixels)
            signal.setitimer(signal.ITIMER_REAL, 0)
            samples.append((isinstance(made, Made), tuple(made)))
    except Exception as error:  # noqa: BLE001 - raised where the result is asked for
        signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(error, ValueError):
            return ValueError(str(error))
        return RuntimeError(f"{type(error).__name__}: {error}")
    return samples


def _confine() -> None:
    """No core file, bounded memory, and the first to go when the machine has none left."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # Linux alone has it
