"""What is known of the hosts of images: their addresses, whose turn it is, and whether they want or
are able to answer.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor

from pipelines.permission.networks import Resolver, permitted
from pipelines.sources.fetch_result import FetchError, Reply
from pipelines.web.politeness import BUSY, MAX_RETRY_AFTER, Politeness, retry_after

# how long addresses are remembered: the system's resolver does not tell the time to live
ADDRESS_SECONDS = 300.0
DNS_SECONDS = 15.0  # for one look-up
DNS_RETRY_SECONDS = 0.5  # before a look-up that failed for the moment is tried once more
# requests that failed in a row, until a host is left alone; as many as are under way at once
DOWN_AFTER = 8
DOWN_SECONDS = 60.0
FAILURES = frozenset(
    {
        "fetch.refused",
        "fetch.unreachable",
        "fetch.timeout",
        "fetch.closed",
        "fetch.tls",
        "fetch.dns",
    }
)
# seconds; a host that is busy for longer, however slowly it is asked, has us on a list
IN_VAIN = 120.0
LEFT_ALONE = 600.0  # seconds that it is then left alone
MIN_GAP, MAX_GAP = 0.1, 10.0  # seconds between two requests of a host that says it is busy


class Host:
    """One host. Its addresses are looked up once in `ADDRESS_SECONDS`, however many ask for
    them.
    """

    def __init__(self, name: str, guest: Politeness) -> None:
        self.name = name
        self.addresses: tuple[str, ...] = ()
        self.private = self._is_allowed = False
        # whether it is asked through a proxy, which may know names that are unknown here
        self.proxied = False
        self._guest = guest
        self._look_up: asyncio.Task[None] | None = None
        self._until = 0.0
        self._slots: asyncio.Semaphore | None = None
        self._queue = asyncio.Lock()
        self._next = 0.0  # when the next request may begin
        self._gap = 0.0  # seconds that a busy host is given between requests
        self._failures = 0
        self._down_until = self._busy_until = 0.0
        # for so long it has answered nothing but that it is busy
        self._busy_since: float | None = None
        self._last = ""

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by forgetting it."""
        now = time.monotonic()
        free = not self._queue.locked() and (self._look_up is None or self._look_up.done())
        return free and max(self._until, self._next, self._busy_until, self._down_until) < now

    async def locate(
        self, port: int, resolver: Resolver, pool: Executor, public: Callable[[str], bool]
    ) -> None:
        """Make sure of its addresses; FetchError as fetch.dns if it has none, as address.private if
        one of them may not be connected to.
        """
        if self._look_up is None or (self._look_up.done() and self._until < time.monotonic()):
            self._look_up = asyncio.create_task(self._located(port, resolver, pool, public))
        if self._look_up.done():
            self._look_up.result()
        else:
            await asyncio.shield(self._look_up)
        if self.private and not self._is_allowed:
            raise FetchError("address.private", f"{self.name} is not a public address")

    async def _located(
        self, port: int, resolver: Resolver, pool: Executor, public: Callable[[str], bool]
    ) -> None:
        try:
            self.addresses = await self._addresses(port, resolver, pool)
            self.private = not all(public(address) for address in self.addresses)
            self._is_allowed = self._guest.allow_private_addresses and permitted(
                self.addresses, allow_private=True
            )
            own = (
                self._guest.connections_per_private_host
                if self.private
                else self._guest.connections_per_host
            )
            at_once = min(own, self._guest.connections)
            self._slots = self._slots or asyncio.Semaphore(at_once)
        finally:
            self._until = time.monotonic() + ADDRESS_SECONDS

    async def _addresses(self, port: int, resolver: Resolver, pool: Executor) -> tuple[str, ...]:
        try:
            return await _looked_up(self.name, port, resolver, pool)
        except FetchError:
            if self.proxied:
                return ()
            raise

    @property
    def slots(self) -> asyncio.Semaphore:
        """As many as may ask at once."""
        assert self._slots is not None, "located first"
        return self._slots

    async def turn(self, per_second: float, delay: float) -> None:
        """Return when the next request may begin, `delay` seconds (what robots.txt asks for) or
        more after the last one.

        FetchError as fetch.host_down or fetch.host_busy where waiting would be in vain.
        """
        self._check()
        seconds = max(0.0 if self.private else 1 / per_second, delay, self._gap)
        if seconds or self._next:
            async with self._queue:
                self._check()
                while (wait := self._next - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                    self._check()
                self._next = time.monotonic() + seconds if seconds else 0.0

    def _check(self) -> None:
        now = time.monotonic()
        if self._down_until > now:
            raise FetchError(
                "fetch.host_down",
                f"the last {self._failures} requests to {self.name} failed: {self._last}",
            )
        if self._busy_until - now > MAX_RETRY_AFTER:
            raise FetchError(
                "fetch.host_busy",
                f"{self.name} asked to be left alone for another {self._busy_until - now:.0f} s",
            )

    def note(self, answer: Reply | FetchError) -> None:
        """Learn from an answer whether the host is well."""
        failed = (
            answer.outcome in FAILURES if isinstance(answer, FetchError) else answer.status >= 500
        )
        self._failures = self._failures + 1 if failed else 0
        if failed:
            self._last = (
                answer.detail if isinstance(answer, FetchError) else f"HTTP {answer.status}"
            )
        if self._failures >= DOWN_AFTER:
            self._down_until = time.monotonic() + DOWN_SECONDS
        if isinstance(answer, Reply) and answer.status in BUSY:
            self._slow_down(answer)
        elif not failed:
            self._busy_since = None
            self._gap = self._gap / 2 if self._gap > MIN_GAP else 0.0

    def _slow_down(self, reply: Reply) -> None:
        self._gap = min(MAX_GAP, max(MIN_GAP, 2 * self._gap))
        asked = retry_after(reply) or 0.0
        now = time.monotonic()
        again = self._busy_since is not None
        self._busy_since = self._busy_since or now
        if now - self._busy_since > IN_VAIN:
            asked = max(asked, LEFT_ALONE)
        if asked > MAX_RETRY_AFTER and reply.status == 503 and not again:
            # one address that is not to be had for long; of the host it says so when it is heard
            # twice in a row
            return
        self._busy_until = max(self._busy_until, now + asked)
        self._next = max(self._next, now + min(asked, MAX_RETRY_AFTER))


async def _looked_up(name: str, port: int, resolver: Resolver, pool: Executor) -> tuple[str, ...]:
    loop = asyncio.get_running_loop()
    for last in (False, True):
        try:
            async with asyncio.timeout(DNS_SECONDS):
                found = await loop.run_in_executor(pool, resolver, name, port)
            if found:
                return tuple(address for _, address in found)
            raise FetchError("fetch.dns", f"{name} has no address")
        except TimeoutError as error:
            raise FetchError(
                "fetch.dns", f"no answer on {name} within {DNS_SECONDS:.0f} s"
            ) from error
        except (OSError, UnicodeError) as error:
            if isinstance(error, FetchError):
                raise
            if last or getattr(error, "errno", None) != socket.EAI_AGAIN:
                raise FetchError("fetch.dns", str(error)) from error
        await asyncio.sleep(DNS_RETRY_SECONDS)
    raise AssertionError("the last try returns or raises")
