"""Whoever makes chunks of samples: this process itself, or workers that may die."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait

from training.data.order import Slot
from training.data.sample import Bad, Made
from training.data.worker import Chunk, Orders, Worker

Answer = tuple[Chunk, list[Made | Bad]]
QUEUED = 2  # chunks with a worker: the one it makes, and the next, so that it never waits for us
BEING_MADE = 2  # batches at a time, so that workers need not wait for the last row of one
CHUNK = 32  # rows that go to a worker at once, at most: to hand them over costs a third of one
DEATHS = 5  # of workers one after the other that have answered nothing: something else is wrong


class InProcess:
    """No workers: chunks are made when they are asked for. What kills a decoder kills the run."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._pending: deque[Chunk] = deque()

    def give(self, chunks: Sequence[Chunk]) -> None:
        """Chunks to be made."""
        self._pending.extend(chunks)

    def answers(self) -> list[Answer]:
        """One chunk, made."""
        chunk = self._pending.popleft()
        maker, room = self._orders.maker, self._orders.room
        found = [
            maker.make(slot, maker.read(slot), room.row(chunk.batch, row))
            for row, slot in zip(chunk.rows, chunk.slots, strict=True)
        ]
        return [(chunk, found)]

    def wake(self) -> None:
        """Nobody sleeps here."""

    def close(self) -> None:
        """Nothing is held."""


class Crew:
    """Workers that take chunks as they finish others.

    The samples of a chunk that killed its worker are tried again, each by itself; the one that
    kills a worker again is bad. So whoever kills a worker from outside costs nothing.
    """

    def __init__(self, orders: Orders, count: int) -> None:
        self._orders = orders
        self._workers = [Worker(orders) for _ in range(count)]
        self._pending: deque[Chunk] = deque()
        self._suspects: set[Slot] = set()
        self._deaths = 0
        self._bell, self._ring = socket.socketpair()

    def give(self, chunks: Sequence[Chunk]) -> None:
        """Chunks to be made, after those that wait already."""
        self._pending.extend(chunks)
        self._hand_out()

    def answers(self) -> list[Answer]:
        """Chunks that were made since, in any order; none when `wake` was called meanwhile."""
        by_channel = {worker.channel: worker for worker in self._workers}
        ready = wait([*by_channel, self._bell])
        found: list[Answer] = []
        for channel, worker in by_channel.items():
            if channel not in ready:
                continue
            answer = worker.answer()
            if answer is not None:
                self._deaths = 0
                found.append(answer)
            else:
                found += self._replace(worker)
        self._hand_out()
        return found

    def wake(self) -> None:
        """Let `answers` return; from any thread."""
        self._ring.send(b"!")

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.channel.close()
        for worker in self._workers:
            worker.end()
        self._bell.close()
        self._ring.close()

    def _hand_out(self) -> None:
        while self._pending:
            idlest = min(self._workers, key=lambda worker: len(worker.waiting))
            if len(idlest.waiting) >= QUEUED:
                return
            idlest.give(self._pending.popleft())

    def _replace(self, dead: Worker) -> list[Answer]:
        """Another worker; what the dead one had goes back, but for a sample that killed twice."""
        how = dead.end()
        self._deaths += 1
        if self._deaths > DEATHS:
            raise RuntimeError(f"workers die one after the other, the last so: {how}")
        self._workers[self._workers.index(dead)] = Worker(self._orders)
        if not dead.waiting:
            return []

        killer = dead.waiting.popleft()
        self._pending.extendleft(reversed(dead.waiting))
        if len(killer.slots) == 1 and killer.slots[0] in self._suspects:
            self._deaths = 0
            return [(killer, [Bad("", how)])]
        self._suspects.update(killer.slots)
        singles = [
            Chunk(killer.batch, (row,), (slot,))
            for row, slot in zip(killer.rows, killer.slots, strict=True)
        ]
        self._pending.extendleft(reversed(singles))
        return []


def cut(batch: int, slots: Sequence[Slot], workers: int) -> list[Chunk]:
    """The rows of a batch in chunks, small enough that each worker has some of the next batches."""
    share = BEING_MADE * len(slots) // (QUEUED * max(1, workers))
    size = max(1, min(CHUNK, share))
    chunks = []
    for at in range(0, len(slots), size):
        part = tuple(slots[at : at + size])
        chunks.append(Chunk(batch, tuple(range(at, at + len(part))), part))
    return chunks


def crew_of(orders: Orders, workers: int) -> InProcess | Crew:
    """So many workers, or none."""
    return Crew(orders, workers) if workers else InProcess(orders)
