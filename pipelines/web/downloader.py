"""The downloader: one event loop in a thread of its own asks for the images of many addresses, as a
guest should.

Each address is a task, not a thread. img2dataset's Downloader is gone round here, with the same
contract (addresses in; for each its picture or the reason why there is none), because its threads
are the limit: it holds one for every address that waits for bytes or for its host's turn, so one
paced host fills them all. Our client in its 32 threads reached 533 to 758 images a second on two
cores; here a picture of 224 x 224 costs 0.3 ms of CPU. (With a client that answers at once its own
part is 0.06 ms in 32 threads, 0.21 ms in 256.)
"""

import asyncio
import atexit
import functools
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.images.decode import Decoded, Undecodable
from pipelines.permission.networks import Resolver, is_public, resolve
from pipelines.sources.fetch_result import FetchError, FetchResult, Reply, has_content
from pipelines.sources.spool import Found, Keep, settled
from pipelines.web.decoding import Decode, Decoding
from pipelines.web.guest_client import GuestClient, ended, image_kind, redirect_target, requestable
from pipelines.web.politeness import MAX_REDIRECTS, Politeness, status_error

PART_SECONDS = 5.0  # that a part waits for its addresses before it may leave slow ones behind
# images under way at most that no part waits for: what a kill costs beside the part itself
LEFT_BEHIND = 256


@dataclass(slots=True)
class _Taker:
    """Who takes the picture of an address over; nobody while the address is left behind, and the
    picture waits.
    """

    keep: Keep | None

    def __call__(self, picture: Decoded | Undecodable) -> Decoded | Undecodable:
        return picture if self.keep is None else self.keep(picture)


@dataclass(frozen=True, slots=True)
class _Way:
    """An address under way, and who takes its picture over."""

    task: asyncio.Task[Found]
    taker: _Taker


class Downloader:
    """Fetches images on a thread of its own; safe between threads. Hosts, policies and connections
    outlive a call.

    `resolver` and `public` are those of `GuestClient`.
    """

    def __init__(
        self,
        guest: Politeness,
        *,
        resolver: Resolver = resolve,
        public: Callable[[str], bool] = is_public,
    ) -> None:
        self.guest = guest
        self._left: dict[str, _Way] = {}
        self._loop = asyncio.new_event_loop()
        self._decoding = Decoding(self._loop)
        self._client = GuestClient(
            guest, self._loop, resolver=resolver, public=public, room=self._decoding.room
        )
        self._kind = image_kind(guest)
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="downloader", daemon=True
        )
        self._thread.start()

    def fetch(
        self,
        urls: Sequence[str],
        *,
        decode: Decode,
        keep: Keep,
        deadline: float | None = None,
        leave: bool = False,
    ) -> dict[str, Found]:
        """What became of each address; `keep` takes each picture over. What is not there at
        `deadline` (epoch seconds) is late.

        With `leave`, slow addresses may be missing in what returns: they stay under way, and a
        later call that names them has them.
        """
        seconds = math.inf if deadline is None else deadline - time.time()
        future = asyncio.run_coroutine_threadsafe(
            self._part(urls, decode, keep, seconds, leave), self._loop
        )
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread and close all connections."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._decoding.close()

    async def _stop(self) -> None:
        await ended(task for task in asyncio.all_tasks() if task is not asyncio.current_task())
        await self._client.close()

    async def _part(
        self, urls: Sequence[str], decode: Decode, keep: Keep, seconds: float, leave: bool
    ) -> dict[str, Found]:
        self._client.forget()
        if seconds <= 0:
            await ended(
                way.task for way in (self._left.pop(url, None) for url in urls) if way is not None
            )
            return {url: (_late(), None) for url in urls}
        end = time.monotonic() + seconds
        ways = {url: self._way(url, decode, keep) for url in urls}
        under_way = {way.task for way in ways.values()}
        try:
            under_way = await _waited(
                under_way, min(end, time.monotonic() + PART_SECONDS) if leave else end
            )
            while len(under_way) + len(self._left) > LEFT_BEHIND and time.monotonic() < end:
                under_way = await _waited(under_way, end, asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await ended(under_way)
            raise
        if time.monotonic() >= end:
            await ended(under_way)
        for url, way in ways.items():
            if not way.task.done():
                way.taker.keep, self._left[url] = None, way
        return {url: self._found(way, keep) for url, way in ways.items() if way.task.done()}

    def _way(self, url: str, decode: Decode, keep: Keep) -> _Way:
        """An address on its way: one that an earlier part left behind, else a new one."""
        way = self._left.pop(url, None)
        if way is None:
            taker = _Taker(keep)
            return _Way(asyncio.create_task(self._image(url, decode, taker)), taker)
        if not way.task.done():
            way.taker.keep = keep
        return way

    def _found(self, way: _Way, keep: Keep) -> Found:
        """What became of an address; a picture that waited is taken over."""
        if way.task.cancelled():
            return _late(), None
        attempt, picture = way.task.result()
        return (
            (attempt, picture)
            if picture is None or way.taker.keep is not None
            else settled(attempt, keep(picture))
        )

    async def _image(self, url: str, decode: Decode, keep: Keep) -> Found:
        """One address from its first question to its picture; whatever else breaks is its outcome
        too.

        What the system says (a full disk) is not of the address, and stops the part.
        """
        try:
            final, reply = await self._followed(url)
            picture = await self._decoding.picture(reply, self.guest.image_bytes, decode)
        except FetchError as error:
            return error.result(), None
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - one address's surprise is no other's
            return FetchError("fetch.failed", f"{type(error).__name__}: {error}").result(), None
        return settled(reply.result(final), keep(picture))

    async def _followed(self, url: str) -> tuple[str, Reply]:
        clock = self._client.clock()
        url = requestable(url)
        for _ in range(MAX_REDIRECTS + 1):
            reply = await self._client.ask(url, self._kind, clock)
            target = redirect_target(url, reply)
            if not target:
                if not has_content(reply.status):
                    raise status_error(reply)
                return url, reply
            url = target
        raise FetchError("fetch.redirects", f"more than {MAX_REDIRECTS} redirects")


def _late() -> FetchResult:
    return FetchResult(outcome="fetch.deadline", detail="the time for the run was over")


async def _waited(
    tasks: set[asyncio.Task[Found]], end: float, until: str = asyncio.ALL_COMPLETED
) -> set[asyncio.Task[Found]]:
    """Those of some tasks that are not done at `end` (monotonic seconds), or when one of them
    is.
    """
    if not tasks:
        return tasks
    left = end - time.monotonic()
    return (
        await asyncio.wait(
            tasks, timeout=None if math.isinf(left) else max(0.0, left), return_when=until
        )
    )[1]


@functools.cache
def _downloader(guest: Politeness, process: int) -> Downloader:
    made = Downloader(guest)
    atexit.register(made.close)
    return made


def downloader_of(guest: Politeness) -> Downloader:
    """The downloader of this process: its connections, policies and paces outlive a part."""
    return _downloader(guest, os.getpid())
