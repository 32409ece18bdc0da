"""The downloader: one event loop in a thread of its own asks for the images of many addresses, as a guest should.

Each address is a task, not a thread. img2dataset's Downloader is gone round here, with the same contract (addresses in; for each its
picture or the reason why there is none), because its threads are the limit: it holds one for every address that waits for bytes or for
its host's turn, so one paced host fills them all. Our opener in its 32 threads reached 533 to 758 images a second on two cores; here a
picture of 224 x 224 costs 0.3 ms of CPU. (With an opener that answers at once its own part is 0.06 ms in 32 threads, 0.21 ms in 256.)
"""

import asyncio
import atexit
import functools
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelines.images.decode import Decoded, Undecodable
from pipelines.images.spool import Found, Keep, settled
from pipelines.pages.archives import decoded
from pipelines.pages.relative import absolute
from pipelines.takedown.forgotten import FORGOTTEN
from pipelines.web.addresses import Resolver, is_public, resolve
from pipelines.web.connection import Order, Wire
from pipelines.web.hosts import Host
from pipelines.web.opener import MAX_REDIRECTS, REDIRECTS, Attempt, Guest, Refused, Reply, patience, status_outcome
from pipelines.web.permission import ROBOTS_BYTES, WELL_KNOWN, Answer, Policy, address_outcome, is_given, origin, policy_of, user_agent

ROBOTS = WELL_KNOWN[0]
RESOLVERS = 16  # look-ups at once
PART_SECONDS = 5.0  # that a part waits for its addresses before it may leave slow ones behind
LEFT_BEHIND = 256  # images under way at most that no part waits for: what a kill costs beside the part itself
DECODERS = min(8, os.cpu_count() or 1)  # threads; Pillow lets go of the interpreter lock
REMEMBERED = 20_000  # hosts and origins, beyond which idle ones are forgotten
Decode = Callable[[bytes], Decoded | Undecodable]


@dataclass(slots=True)
class _Clock:
    """The seconds that are left for the exchanges of one image."""

    left: float


@dataclass(slots=True)
class _Taker:
    """Who takes the picture of an address over; nobody while the address is left behind, and the picture waits."""

    keep: Keep | None

    def __call__(self, picture: Decoded | Undecodable) -> Decoded | Undecodable:
        return picture if self.keep is None else self.keep(picture)


@dataclass(frozen=True, slots=True)
class _Way:
    """An address under way, and who takes its picture over."""

    task: asyncio.Task[Found]
    taker: _Taker


@dataclass(frozen=True, slots=True)
class _Site:
    """The policy of an origin, or why its robots.txt gave no answer: then nothing else is asked there."""

    policy: Policy
    silence: Refused | None


class Downloader:
    """Fetches images on a thread of its own; safe between threads. Hosts, policies and connections outlive a call.

    `resolver` and `public` stand for the name servers and for what counts as a public address.
    """

    def __init__(self, guest: Guest, *, resolver: Resolver = resolve, public: Callable[[str], bool] = is_public) -> None:
        self.guest, self._resolver, self._public = guest, resolver, public
        self._hosts: dict[str, Host] = {}
        self._sites: dict[str, asyncio.Task[_Site]] = {}
        self._left: dict[str, _Way] = {}
        self._loop = asyncio.new_event_loop()
        self._wire = Wire(self._loop, user_agent(guest.contact))
        self._open = asyncio.Semaphore(guest.connections)
        self._resolvers = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolver")
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decoder")
        self._thread = threading.Thread(target=self._loop.run_forever, name="downloader", daemon=True)
        self._thread.start()

    def fetch(
        self, urls: Sequence[str], *, decode: Decode, keep: Keep, deadline: float | None = None, leave: bool = False
    ) -> dict[str, Found]:
        """What became of each address; `keep` takes each picture over. What is not there at `deadline` (epoch seconds) is late.

        With `leave`, slow addresses may be missing in what returns: they stay under way, and a later call that names them has them.
        """
        seconds = math.inf if deadline is None else deadline - time.time()
        future = asyncio.run_coroutine_threadsafe(self._part(urls, decode, keep, seconds, leave), self._loop)
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
            self._wire.close()
            self._loop.close()
            self._resolvers.shutdown(wait=False, cancel_futures=True)
            self._decoders.shutdown(wait=False, cancel_futures=True)

    async def _stop(self) -> None:
        await _ended(task for task in asyncio.all_tasks() if task is not asyncio.current_task())

    async def _part(self, urls: Sequence[str], decode: Decode, keep: Keep, seconds: float, leave: bool) -> dict[str, Found]:
        self._forget()
        if seconds <= 0:
            await _ended(way.task for way in (self._left.pop(url, None) for url in urls) if way is not None)
            return {url: (_late(), None) for url in urls}
        end = time.monotonic() + seconds
        ways = {url: self._way(url, decode, keep) for url in urls}
        under_way = {way.task for way in ways.values()}
        try:
            under_way = await _waited(under_way, min(end, time.monotonic() + PART_SECONDS) if leave else end)
            while len(under_way) + len(self._left) > LEFT_BEHIND and time.monotonic() < end:
                under_way = await _waited(under_way, end, asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _ended(under_way)
            raise
        if time.monotonic() >= end:
            await _ended(under_way)
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
        return (attempt, picture) if picture is None or way.taker.keep is not None else settled(attempt, keep(picture))

    def _forget(self) -> None:
        """Let go of what is not needed, where there is much."""
        if len(self._hosts) > REMEMBERED:
            self._hosts = {name: host for name, host in self._hosts.items() if not host.idle}
        if len(self._sites) > REMEMBERED:
            self._sites = {key: task for key, task in self._sites.items() if not task.done()}

    async def _image(self, url: str, decode: Decode, keep: Keep) -> Found:
        """One address from its first question to its picture."""
        try:
            final, reply = await self._followed(url)
            body = reply.body.take()
            picture = await self._loop.run_in_executor(self._decoders, _picture, reply, body, self.guest.image_bytes, decode)
        except Refused as refused:
            return refused.attempt(), None
        return settled(reply.attempt(final), keep(picture))

    async def _followed(self, url: str) -> tuple[str, Reply]:
        clock = _Clock(self.guest.seconds)
        for _ in range(MAX_REDIRECTS + 1):
            reply = await self._asked(url, clock)
            target = absolute(url, reply.header("location") or "") if reply.status in REDIRECTS else ""
            if not target:
                if reply.status != 200:
                    raise Refused(status_outcome(reply.status), f"HTTP {reply.status}", reply.status)
                return url, reply
            url = target
        raise Refused("fetch.redirects", f"more than {MAX_REDIRECTS} redirects")

    async def _asked(self, url: str, clock: _Clock) -> Reply:
        """One address, permitted and in its host's turn, tried again where that may help."""
        host = await self._located(url)
        site = await self._site(url)
        if site.silence is not None:
            raise Refused(site.silence.outcome, site.silence.detail)
        refusal = site.policy.refusal(url)
        if refusal is not None:
            raise Refused("permission.robots_image" if refusal == "permission.robots" else refusal, f"{origin(url)} does not allow it")
        tries, answer = 0, None
        while True:
            tries += 1
            try:
                answer = await self._in_turn(url, host, site.policy.delay(), clock)
            except Refused:  # the host may not be asked any more: what it has answered stands
                if answer is None:
                    raise
                break
            wait = patience(answer, tries)
            if wait is None or clock.left <= 0:
                break
            await asyncio.sleep(wait)
        if isinstance(answer, Refused):
            raise answer
        return answer

    async def _in_turn(self, url: str, host: Host, delay: float, clock: _Clock) -> Reply | Refused:
        async with host.slots:
            await host.turn(delay)
            async with self._open:
                order = Order(url=url, addresses=host.addresses, seconds=clock.left, limit=self.guest.image_bytes)
                answer = await self._timed(order, clock)
            host.note(answer)
            return answer

    async def _timed(self, order: Order, clock: _Clock) -> Reply | Refused:
        begin = time.monotonic()
        try:
            return await self._wire.ask(order)
        except Refused as refused:
            return refused
        finally:
            clock.left -= time.monotonic() - begin

    async def _located(self, url: str) -> Host:
        """The host of an address, if the address may be asked at all."""
        if self.guest.forgotten.url(url):
            raise Refused(FORGOTTEN, "the address was taken down")
        outcome = address_outcome(url)
        if outcome not in (None, "address.placeholder") or is_given(url):
            raise Refused(outcome or "address.scheme", f"{url[:100]} is no address of an image")
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port or 80
        key = name if port in (80, 443) else f"{name}:{port}"  # a host is one house by http and https; another port is another's
        host = self._hosts.get(key)
        if host is None:
            host = self._hosts[key] = Host(name, self.guest)
        await host.locate(port, self._resolver, self._resolvers, self._public)
        return host

    async def _site(self, url: str) -> _Site:
        """What the origin of an address says of itself, asked once however many wait for it."""
        key = origin(url)
        task = self._sites.get(key)
        if task is None or (task.done() and task.result().policy.until < time.monotonic()):
            task = self._sites[key] = asyncio.create_task(self._read_site(key))
        return task.result() if task.done() else await asyncio.shield(task)

    async def _read_site(self, key: str) -> _Site:
        answers: dict[str, Answer] = {}
        try:
            answers[ROBOTS] = await self._file(f"{key}{ROBOTS}")
        except Refused as refused:
            return _Site(policy_of({ROBOTS: (None, b"")}, time.monotonic()), refused)
        if not policy_of(answers, 0.0).closed:
            others = [path for path in WELL_KNOWN if path != ROBOTS]
            answers |= dict(zip(others, await asyncio.gather(*(self._maybe(f"{key}{path}") for path in others)), strict=True))
        return _Site(policy_of(answers, time.monotonic()), None)

    async def _maybe(self, url: str) -> Answer:
        try:
            return await self._file(url)
        except Refused:
            return None, b""

    async def _file(self, url: str) -> Answer:
        """A well-known file, redirects followed; 404 after too many of them (RFC 9309 2.3.1.2)."""
        clock = _Clock(self.guest.seconds)
        for _ in range(MAX_REDIRECTS + 1):
            host = await self._located(url)
            async with self._open:
                order = Order(url=url, addresses=host.addresses, seconds=clock.left, limit=ROBOTS_BYTES, whole=False)
                answer = await self._timed(order, clock)
            if isinstance(answer, Refused):
                raise answer
            target = absolute(url, answer.header("location") or "") if answer.status in REDIRECTS else ""
            if not target:
                return answer.status, answer.body.take()
            url = target
        return 404, b""


def _picture(reply: Reply, body: bytes, limit: int, decode: Decode) -> Decoded | Undecodable:
    """The picture of a body without its content encoding; runs in a thread. Refused if it inflates beyond the limit."""
    encoding = tuple(header for header in reply.headers if header[0].lower() == "content-encoding")
    if encoding:
        body = decoded(body, encoding, limit + 1)
        if len(body) > limit:
            raise Refused("fetch.too_large", f"inflates to more than {limit} bytes", reply.status)
    return decode(body)


def _late() -> Attempt:
    return Attempt(outcome="fetch.deadline", detail="the time for the run was over")


async def _waited(tasks: set[asyncio.Task[Found]], end: float, until: str = asyncio.ALL_COMPLETED) -> set[asyncio.Task[Found]]:
    """Those of some tasks that are not done at `end` (monotonic seconds), or when one of them is."""
    if not tasks:
        return tasks
    left = end - time.monotonic()
    return (await asyncio.wait(tasks, timeout=None if math.isinf(left) else max(0.0, left), return_when=until))[1]


async def _ended(tasks: Iterable[asyncio.Task[Found]]) -> None:
    """Cancel tasks and see them end."""
    pending = list(tasks)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


@functools.cache
def _downloader(guest: Guest, process: int) -> Downloader:
    made = Downloader(guest)
    atexit.register(made.close)
    return made


def downloader_of(guest: Guest) -> Downloader:
    """The downloader of this process: its connections, policies and paces outlive a part."""
    return _downloader(guest, os.getpid())
