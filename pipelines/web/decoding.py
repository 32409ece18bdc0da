"""Bodies on their way to pictures: threads that take what waits for them, several at once where one
wake-up of a decoding child serves several.
"""

import asyncio
import contextlib
import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from pipelines.engine.children import BATCH, BATCH_BYTES
from pipelines.images.decode import Decoded, Undecodable
from pipelines.images.isolated import Isolated
from pipelines.sources.archives.responses import decoded
from pipelines.sources.fetch_result import FetchError, Reply

THREADS = min(8, os.cpu_count() or 1)  # Pillow lets go of the interpreter lock
WAITING_BYTES = 1 << 26  # of bodies that wait for a decoder; beyond that nothing more is asked for
T = TypeVar("T")
R = TypeVar("R")
Picture = Decoded | Undecodable
Decode = Callable[[bytes], Picture]


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """An answer whose body waits for its decoder, and who waits for its picture."""

    reply: Reply
    body: bytes
    limit: int
    decode: Decode
    picture: asyncio.Future[Picture]


class Decoding:
    """Decodes bodies for the tasks of an event loop; to be used on its thread alone.

    A thread that is free takes its share of what waits. So pictures go one by one while decoders
    are quicker than the web, and in batches as soon as they are not.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="decoder")
        self._free = THREADS
        self._waiting: deque[_Job] = deque()
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Return once few enough bytes wait."""
        await self._room.wait()

    async def picture(self, reply: Reply, limit: int, decode: Decode) -> Picture:
        """The picture of an answer, without its content encoding.

        FetchError if it inflates beyond the limit; else raises what `decode` raises.
        """
        body = reply.body.take()
        job = _Job(reply, body, limit, decode, self._loop.create_future())
        self._count(len(body))
        try:
            self._waiting.append(job)
            self._start()
            return await job.picture
        finally:
            self._count(-len(body))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > WAITING_BYTES:
            self._room.clear()
        else:
            self._room.set()

    def _start(self) -> None:
        while self._free and (jobs := self._batch()):
            self._free -= 1
            self._pool.submit(_pictures, jobs).add_done_callback(self._answered(jobs))

    def _batch(self) -> list[_Job]:
        """What the next thread takes: jobs of one decoder, as many as are for each that is free."""
        jobs: list[_Job] = []
        most, size = min(BATCH, math.ceil(len(self._waiting) / self._free)), 0
        while self._waiting and len(jobs) < most and size < BATCH_BYTES:
            if jobs and self._waiting[0].decode is not jobs[0].decode:
                break
            job = self._waiting.popleft()
            if not job.picture.done():  # nobody waits for it any more
                jobs.append(job)
                size += len(job.body)
        return jobs

    def _answered(self, jobs: list[_Job]) -> Callable[["Future[list[Picture | Exception]]"], None]:
        def tell(done: "Future[list[Picture | Exception]]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._settle, jobs, done)

        return tell

    def _settle(self, jobs: list[_Job], done: "Future[list[Picture | Exception]]") -> None:
        self._free += 1
        self._start()
        for job, answer in zip(jobs, done.result(), strict=True):
            if job.picture.done():
                continue
            if isinstance(answer, Exception):
                job.picture.set_exception(answer)
            else:
                job.picture.set_result(answer)


def _pictures(jobs: list[_Job]) -> list[Picture | Exception]:
    """The picture of each job, or what it raised; runs in a thread."""
    bodies = [_caught(_inflated, job) for job in jobs]
    decode = jobs[0].decode
    good = [body for body in bodies if isinstance(body, bytes)]
    pictures = iter(_decoded(decode, good))
    return [next(pictures) if isinstance(body, bytes) else body for body in bodies]


def _decoded(decode: Decode, bodies: list[bytes]) -> list[Picture | Exception]:
    if isinstance(decode, Isolated) and len(bodies) > 1:
        try:
            return list(decode.many(bodies))
        except Exception:  # noqa: BLE001 - of one of them: each is tried by itself
            pass
    return [_caught(decode, body) for body in bodies]


def _caught(function: Callable[[T], R], value: T) -> R | Exception:
    try:
        return function(value)
    except Exception as error:  # noqa: BLE001 - whoever waits for the picture gets it
        return error


def _inflated(job: _Job) -> bytes:
    """The body without its content encoding."""
    encoding = tuple(one for one in job.reply.headers if one[0].lower() == "content-encoding")
    if not encoding:
        return job.body
    body = decoded(job.body, encoding, job.limit + 1)
    if len(body) > job.limit:
        words = f"inflates to more than {job.limit} bytes"
        raise FetchError("fetch.too_large", words, job.reply.status)
    return body
