"""The one client that crawl and fetch ask through: where it may, in each host's turn, to addresses
that may be connected to, and once more where that may help."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from pipelines.html.relative_urls import absolute
from pipelines.permission.networks import Resolver, is_public, resolve
from pipelines.permission.outcomes import (
    AI_PATH,
    ROBOTS_BYTES,
    ROBOTS_PATH,
    TDM_PATH,
    WELL_KNOWN,
    Answer,
    Policy,
    Rules,
    address_outcome,
    is_given,
    origin,
    policy_of,
    user_agent,
)
from pipelines.permission.robots import rules_of
from pipelines.permission.takedown_list import FORGOTTEN
from pipelines.permission.well_known import media_rules_of, reservations_of
from pipelines.sources.archives.responses import decoded
from pipelines.sources.fetch_result import FetchError, Headers, Reply
from pipelines.urls import BLANKS, ascii_address, octets_escaped, place_of
from pipelines.web.budget import Spent
from pipelines.web.curl_client import CurlClient
from pipelines.web.curl_handle import FetchRequest, written
from pipelines.web.hosts import Host
from pipelines.web.politeness import MAX_REDIRECTS, REDIRECTS, Politeness, patience
from pipelines.web.proxies import Proxies, Proxy

RESOLVERS = 16  # look-ups at once
PARSERS = 2  # threads that read well-known files, so that a slow one holds up no other host
HEAVY = 32 * 1024  # bytes of well-known files beyond which addresses are compared on another thread
REMEMBERED = 20_000  # hosts and origins, beyond which idle ones are forgotten
Explain = Callable[[FetchRequest, Reply, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is asked for, and how: request headers, most bytes, and the pace of one public host.

    `robots` is the outcome where robots.txt does not allow it.
    """

    headers: Headers
    limit: int
    per_second: float
    robots: str = "permission.robots"
    judged: bool = False  # whether headers that forbid the use refuse it


def image_kind(politeness: Politeness) -> Kind:
    return Kind(
        headers=(("Accept", "image/*,*/*;q=0.5"), ("Accept-Encoding", "identity")),
        limit=politeness.image_bytes,
        per_second=politeness.images_per_second,
        robots="permission.robots_image",
        judged=True,
    )


def page_kind(politeness: Politeness) -> Kind:
    accept = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1"
    return Kind(
        headers=(("Accept", accept), ("Accept-Encoding", "gzip, deflate")),
        limit=politeness.page_bytes,
        per_second=politeness.pages_per_second,
    )


@dataclass(slots=True)
class Clock:
    """The seconds that are left for the exchanges of one address."""

    left: float


@dataclass(frozen=True, slots=True)
class Site:
    """The policy of an origin, or why its robots.txt gave no answer: then nothing is asked there.

    Where it is `heavy`, comparing an address with it may take a while.
    """

    policy: Policy
    silence: FetchError | None = None
    heavy: bool = False


class GuestClient:
    """Asks for pages, images and well-known files; to be used on the thread of its loop alone.

    Hosts, policies and connections are remembered. `resolver` and `public` stand for the name
    servers and for what counts as a public address; `explain` is shown each answer of a
    well-known file, and `room` returns when there is room for one more answer.
    """

    def __init__(
        self,
        politeness: Politeness,
        loop: asyncio.AbstractEventLoop,
        *,
        resolver: Resolver = resolve,
        public: Callable[[str], bool] = is_public,
        explain: Explain | None = None,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.politeness, self._resolver, self._public = politeness, resolver, public
        self._explain, self._room = explain, room
        self._loop = loop
        self._hosts: dict[str, Host] = {}
        self._proxy_hosts: dict[Proxy, Host] = {}
        self._sites: dict[str, asyncio.Task[Site]] = {}
        self._spent = Spent(politeness.spent_in, politeness.max_bytes)
        self._curl = CurlClient(
            loop,
            user_agent(politeness.contact),
            ca_file=politeness.ca_file,
            spend=self._spent.add,
        )
        self._proxies = Proxies()
        self._open = asyncio.Semaphore(politeness.connections)
        self._resolvers = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolver")
        self._parsers = ThreadPoolExecutor(PARSERS, thread_name_prefix="parser")
        self._matcher = ThreadPoolExecutor(1, thread_name_prefix="matcher")
        self._file_kind = Kind(
            headers=(("Accept", "*/*"), ("Accept-Encoding", "identity")),
            limit=ROBOTS_BYTES,
            per_second=politeness.images_per_second,
        )

    async def close(self) -> None:
        """Leave what is still being asked, and close all connections."""
        await ended(self._sites.values())
        self._curl.close()
        self._spent.close()
        for pool in (self._resolvers, self._parsers, self._matcher):
            pool.shutdown(wait=False, cancel_futures=True)

    def forget(self) -> None:
        """Let go of hosts and origins that are not needed, where there are many."""
        if len(self._hosts) > REMEMBERED:
            self._hosts = {name: host for name, host in self._hosts.items() if not host.idle}
        if len(self._sites) > REMEMBERED:
            self._sites = {key: task for key, task in self._sites.items() if not task.done()}

    def clock(self) -> Clock:
        return Clock(self.politeness.seconds)

    async def ask(self, url: str, kind: Kind, clock: Clock, conditions: Headers = ()) -> Reply:
        """The answer of one address, permitted and in its host's turn; FetchError without one.

        It is asked again where that may help. Redirects are answers.
        """
        host = await self._located(url)
        site = await self._site(url)
        policy = site.policy
        if site.heavy:
            refusal = await self._loop.run_in_executor(self._matcher, policy.refusal, url)
        else:
            refusal = policy.refusal(url)
        if refusal is not None:
            name = kind.robots if refusal == "permission.robots" else refusal
            raise FetchError(name, f"{origin(url)} does not allow it")
        request = await self._request(url, host, kind, conditions)
        tries, answer = 0, None
        while True:
            tries += 1
            try:
                answer = await self._in_turn(request, host, kind, policy.delay(), clock)
            except FetchError:  # the host may not be asked any more: what it has answered stands
                if answer is None:
                    raise
                break
            wait = patience(answer, tries)
            if wait is None or clock.left <= 0:
                break
            await asyncio.sleep(wait)
        if isinstance(answer, FetchError):
            raise answer
        return answer

    async def policy(self, url: str) -> Policy:
        """What the origin of an address says of itself; FetchError where it gave no robots.txt."""
        return (await self._site(url)).policy

    async def _site(self, url: str) -> Site:
        """The origin of an address, asked once however many wait for it."""
        key = origin(url)
        task = self._sites.get(key)
        if task is None or (task.done() and self._is_over(task)):
            task = self._sites[key] = asyncio.create_task(self._read_site(key))
        site = task.result() if task.done() else await asyncio.shield(task)
        if site.silence is not None:
            raise FetchError(site.silence.outcome, site.silence.detail)
        return site

    @staticmethod
    def _is_over(task: asyncio.Task[Site]) -> bool:
        return task.cancelled() or (
            task.exception() is None and task.result().policy.until < time.monotonic()
        )

    async def _in_turn(
        self, request: FetchRequest, host: Host, kind: Kind, delay: float, clock: Clock
    ) -> Reply | FetchError:
        async with host.slots:
            await host.turn(kind.per_second, delay)
            async with self._open:
                if self._room is not None:
                    await self._room()
                answer = await self._timed(request, clock)
            host.note(answer)
            return answer

    async def _timed(self, request: FetchRequest, clock: Clock) -> Reply | FetchError:
        begin = time.monotonic()
        try:
            if self._spent.over:
                raise FetchError("fetch.budget", "the bytes of this run are spent (--max-bytes)")
            return await self._curl.ask(request, clock.left)
        except FetchError as error:
            return error
        finally:
            clock.left -= time.monotonic() - begin

    async def _request(
        self, url: str, host: Host, kind: Kind, conditions: Headers = ()
    ) -> FetchRequest:
        proxy = self._proxies.of(url)
        addresses = host.addresses if proxy is None else await self._addresses_of(proxy)
        return FetchRequest(
            url=written(url),
            addresses=addresses,
            limit=kind.limit,
            headers=(*kind.headers, *conditions) if conditions else kind.headers,
            whole=kind is not self._file_kind,
            judged=kind.judged,
            proxy="" if proxy is None else proxy.url,
        )

    async def _addresses_of(self, proxy: Proxy) -> tuple[str, ...]:
        """The addresses of a proxy, judged like others unless a private one is allowed."""
        host = self._proxy_hosts.get(proxy)
        if host is None:
            private = self.politeness.allow_private_proxy or self.politeness.allow_private_addresses
            judged = replace(self.politeness, allow_private_addresses=private)
            host = self._proxy_hosts[proxy] = Host(proxy.host, judged)
        try:
            await host.locate(proxy.port, self._resolver, self._resolvers, self._public)
        except FetchError as error:
            if error.outcome == "address.private":
                words = f"the proxy {proxy.host} is private, and --allow-private-proxy is not given"
                raise FetchError(error.outcome, words) from error
            raise FetchError("fetch.proxy", error.detail) from error
        return host.addresses

    async def _located(self, url: str) -> Host:
        """The host of an address, if the address may be asked at all."""
        if self.politeness.forgotten.url(url):
            raise FetchError(FORGOTTEN, "the address was taken down")
        outcome = address_outcome(url)
        if outcome == "address.placeholder" and not url.startswith("http"):
            outcome = "address.scheme"  # data:
        if outcome not in (None, "address.placeholder") or is_given(url):
            raise FetchError(outcome or "address.scheme", f"{url[:100]!r} cannot be asked for")
        name, given = place_of(urlsplit(url).netloc)
        port = given or 80
        # a host is one house by http and https; another port is another's
        key = name if port in (80, 443) else f"{name}:{port}"
        host = self._hosts.get(key)
        if host is None:
            host = self._hosts[key] = Host(name, self.politeness)
        host.proxied = self._proxies.of(url) is not None
        await host.locate(port, self._resolver, self._resolvers, self._public)
        return host

    async def _read_site(self, key: str) -> Site:
        """Ask an origin for its well-known files; they are read on other threads."""
        try:
            answer = await self._file(f"{key}{ROBOTS_PATH}")
        except FetchError as error:
            return Site(policy_of({ROBOTS_PATH: (None, b"")}, time.monotonic()), error)
        read = self._loop.run_in_executor
        robots = await read(self._parsers, rules_of, answer, time.monotonic())
        if not robots.otherwise:
            return Site(Policy(robots=robots))
        others = [path for path in WELL_KNOWN if path != ROBOTS_PATH]
        asked = await asyncio.gather(*(self._maybe(f"{key}{path}") for path in others))
        policy = await read(self._parsers, _policy, robots, dict(zip(others, asked, strict=True)))
        return Site(policy, heavy=sum(len(body) for _, body in (answer, *asked)) > HEAVY)

    async def _maybe(self, url: str) -> Answer:
        try:
            return await self._file(url)
        except FetchError:
            return None, b""

    async def _file(self, url: str) -> Answer:
        """A well-known file, redirects followed; 404 after too many (RFC 9309 2.3.1.2)."""
        clock = self.clock()
        for _ in range(MAX_REDIRECTS + 1):
            host = await self._located(url)
            request = await self._request(url, host, self._file_kind)
            answer = await self._in_turn(request, host, self._file_kind, 0.0, clock)
            if isinstance(answer, FetchError):
                raise answer
            target = redirect_target(url, answer)
            body = answer.body.take()
            if self._explain is not None:
                await self._explain(request, answer, body)
            if not target:
                return answer.status, decoded(body, answer.headers, ROBOTS_BYTES)
            url = target
        return 404, b""


def _policy(robots: Rules, answers: Mapping[str, Answer]) -> Policy:
    return Policy(
        robots=robots,
        tdm=reservations_of(answers[TDM_PATH]),
        ai_txt=media_rules_of(answers[AI_PATH]),
    )


def redirect_target(url: str, reply: Reply) -> str:
    """Where an answer leads, empty if nowhere; bytes that are not ASCII are escaped, as browsers
    do.
    """
    place = reply.header("location") if reply.status in REDIRECTS else None
    return absolute(url, octets_escaped(place)) if place else ""


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and see them end."""
    pending = list(tasks)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


def requestable(url: str) -> str:
    """An address as it can be asked for: in ASCII and without blanks, as browsers write it."""
    if url.isascii() and not BLANKS.search(url):
        return url
    whole = ascii_address(url)
    if whole is None:
        raise FetchError("address.malformed", f"{url[:100]!a} cannot be written in a request")
    return whole
