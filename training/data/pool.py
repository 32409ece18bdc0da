"""Makes chunks of samples: in this process itself, or by workers that may die."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait

from training.data.order import Slot
from training.data.sample import Bad, Made
from training.data.worker import Chunk, Worker, WorkerSetup

Result = tuple[Chunk, list[Made | Bad]]
QUEUED = 2  # chunks with a worker: the one it makes, and the next, so that it never waits for us
BEING_MADE = 2  # batches at a time, so that workers need not wait for the last row of one
CHUNK = 32  # rows that go to a worker at once, at most: to hand them over costs a third of one
DEATHS = 5  # of workers one after the other that have returned nothing: something else is wrong


class InProcess:
    """No workers: chunks are made when they are asked for. What kills a decoder kills the run."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._pending: deque[Chunk] = deque()

    def submit(self, chunks: Sequence[Chunk]) -> None:
        """Chunks to be made."""
        self._pending.extend(chunks)

    def results(self) -> list[Result]:
        """One chunk, made."""
        chunk = self._pending.popleft()
        maker = self._setup.maker
        samples = []
        for row, slot in zip(chunk.rows, chunk.slots, strict=True):
            pixels = self._setup.buffer.row(chunk.batch, row)
            samples.append(maker.make(slot, maker.read(slot), pixels))
        return [(chunk, samples)]

    def wake(self) -> None:
        """Nobody sleeps here."""

    def close(self) -> None:
        """Nothing is held."""


class WorkerPool:
    """Workers that take chunks as they finish others.

    The samples of a chunk that killed its worker are tried again, each by itself; the one that
    kills a worker again is bad. So a worker that is killed from outside costs nothing.
    """

    def __init__(self, setup: WorkerSetup, count: int) -> None:
        self._setup = setup
        self._workers = [Worker(setup) for _ in range(count)]
        self._pending: deque[Chunk] = deque()
        self._suspects: set[Slot] = set()
        self._deaths = 0
        self._wake_reader, self._wake_writer = socket.socketpair()

    def submit(self, chunks: Sequence[Chunk]) -> None:
        """Chunks to be made, after those that wait already."""
        self._pending.extend(chunks)
        self._hand_out()

    def results(self) -> list[Result]:
        """Chunks that were made since, in any order; none when `wake` was called meanwhile."""
        by_channel = {worker.channel: worker for worker in self._workers}
        ready = wait([*by_channel, self._wake_reader])
        results: list[Result] = []
        for channel, worker in by_channel.items():
            if channel not in ready:
                continue
            result = worker.result()
            if result is not None:
                self._deaths = 0
                results.append(result)
            else:
                results += self._replace(worker)
        self._hand_out()
        return results

    def wake(self) -> None:
        """Let `results` return; from any thread."""
        self._wake_writer.send(b"!")

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.channel.close()
        for worker in self._workers:
            worker.end()
        self._wake_reader.close()
        self._wake_writer.close()

    def _hand_out(self) -> None:
        while self._pending:
            idlest = min(self._workers, key=lambda worker: len(worker.queue))
            if len(idlest.queue) >= QUEUED:
                return
            idlest.submit(self._pending.popleft())

    def _replace(self, dead: Worker) -> list[Result]:
        """Another worker; what the dead one had goes back, but for a sample that killed twice."""
        reason = dead.end()
        self._deaths += 1
        if self._deaths > DEATHS:
            raise RuntimeError(f"workers die one after the other, the last so: {reason}")
        self._workers[self._workers.index(dead)] = Worker(self._setup)
        if not dead.queue:
            return []

        killer = dead.queue.popleft()
        self._pending.extendleft(reversed(dead.queue))
        if len(killer.slots) == 1 and killer.slots[0] in self._suspects:
            self._deaths = 0
            return [(killer, [Bad("", reason)])]
        self._suspects.update(killer.slots)
        singles = []
        for row, slot in zip(killer.rows, killer.slots, strict=True):
            singles.append(Chunk(killer.batch, (row,), (slot,)))
        self._pending.extendleft(reversed(singles))
        return []


def cut(batch: int, slots: Sequence[Slot], workers: int) -> list[Chunk]:
    """The rows of a batch in chunks, small enough that each worker has some of the next batches."""
    share = BEING_MADE * len(slots) // (QUEUED * max(1, workers))
    size = max(1, min(CHUNK, share))
    chunks = []
    for start in range(0, len(slots), size):
        part = tuple(slots[start : start + size])
        rows = range(start, start + len(part))
        chunks.append(Chunk(batch, tuple(rows), part))
    return chunks


Pool = InProcess | WorkerPool


def make_pool(setup: WorkerSetup, workers: int) -> Pool:
    """A pool of so many workers, or this process itself for none."""
    if not workers:
        return InProcess(setup)
    return WorkerPool(setup, workers)
