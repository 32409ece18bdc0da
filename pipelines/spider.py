"""The crawl itself: level by level from the seeds, so that which pages are read does not depend on which answers first."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from scrapy import Request, Spider, exceptions
from scrapy.crawler import CrawlerProcess
from scrapy.http import Response
from scrapy.resolver import CachingThreadedResolver
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError

from pipelines.addresses import permitted, resolve
from pipelines.archives import PAGE_BYTES, decoded, is_html, media_type, response_at, responses
from pipelines.crawl import Crawl
from pipelines.images_of_page import absolute
from pipelines.links import Headers, header, links_of_page, page_address
from pipelines.permission import Answer, Rules, address_outcome, origin, rules_of, user_agent
from pipelines.warc_writer import PageWriter, mend, part_names

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5  # RFC 9309 2.3.1.2 asks for at least five hops
TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
MAX_RETRY_AFTER = 30.0  # seconds; a longer wish is an error of that page
AT_ONCE = 1000  # pages in flight or waiting for their host's turn
FAILURES = {
    exceptions.DownloadTimeoutError: "fetch.timeout",
    exceptions.CannotResolveHostError: "fetch.dns",
    exceptions.DownloadConnectionRefusedError: "fetch.refused",
    exceptions.DownloadCancelledError: "fetch.too_large",  # Scrapy cancels a download only for its size
    exceptions.ResponseDataLossError: "fetch.cut",
    exceptions.DownloadFailedError: "fetch.failed",
}
NOT_USED = ("robotstxt.RobotsTxtMiddleware", "retry.RetryMiddleware", "redirect.MetaRefreshMiddleware", "redirect.RedirectMiddleware",
            "offsite.OffsiteMiddleware", "httpcompression.HttpCompressionMiddleware", "cookies.CookiesMiddleware",
            "httpproxy.HttpProxyMiddleware", "httpauth.HttpAuthMiddleware")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Where the archive holds a response."""

    path: str
    offset: int


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What became of one address: a page with links, a hop to another address, or an outcome that stopped it."""

    outcome: str = ""
    detail: str = ""
    links: tuple[str, ...] = ()
    hop: str = ""


@dataclass
class Lane:
    """The pace of one host: so many at once, and so many seconds between two starts."""

    at_once: asyncio.Semaphore
    seconds: float
    next_start: float = 0.0

    async def turn(self) -> None:
        now = time.monotonic()
        start = max(now, self.next_start)
        self.next_start = start + self.seconds
        await asyncio.sleep(start - now)


class GuardingResolver(CachingThreadedResolver):
    """Gives the reactor only addresses that may be connected to, whatever the name resolves to at that moment."""

    allow_private: ClassVar[bool] = False

    def getHostByName(self, name: str, timeout: Any = ()) -> "Deferred[str]":
        return super().getHostByName(name, timeout).addCallback(self._permitted)

    @classmethod
    def _permitted(cls, address: str) -> str:
        if not permitted([address], allow_private=cls.allow_private):
            raise DNSLookupError(f"{address} is a private address")
        return address


@dataclass
class Frontier:
    """The addresses still to visit, by depth, and what came of those visited."""

    config: Crawl
    hosts: set[str]
    seen: set[str] = field(default_factory=set)
    pages: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    first_error: str = ""

    def fresh(self, urls: Iterable[str]) -> list[str]:
        """Those not seen before that may be visited, now seen."""
        found = []
        for url in urls:
            if url not in self.seen and self.inside(url):
                self.seen.add(url)
                found.append(url)
        return found

    def inside(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.netloc.rsplit("@", 1)[-1].lower() in self.hosts or (parts.hostname or "") in self.hosts

    def note(self, url: str, visit: Visit) -> None:
        if visit.outcome:
            self.outcomes[visit.outcome] += 1
            self.first_error = self.first_error or f"{url}: {visit.detail or visit.outcome}"
        elif not visit.hop:
            self.pages += 1

    def report(self) -> dict[str, Any]:
        refused = {name: n for name, n in sorted(self.outcomes.items()) if name.startswith(("permission.", "address."))}
        errors = {name: n for name, n in sorted(self.outcomes.items()) if name not in refused}
        return {"pages": self.pages, "refused": refused, "errors": errors, "first_error": self.first_error}


def run(config: Crawl, folder: Path, progress: Callable[[int], None]) -> dict[str, Any] | None:
    """Crawl into a local folder; None if it was stopped before its end."""
    logging.getLogger("scrapy").setLevel(logging.ERROR)
    GuardingResolver.allow_private = config.allow_private_addresses
    found: dict[str, Any] = {}
    process = CrawlerProcess(_settings(config))
    process.crawl(PageSpider, config=config, folder=folder, progress=progress, found=found)
    process.start(install_signal_handlers=False)  # whoever started this process ends it
    return found.get("report")


def _settings(config: Crawl) -> dict[str, Any]:
    """Scrapy downloads; pace, robots, redirects, retries and cookies are ours or nobody's."""
    return {
        "USER_AGENT": user_agent(config.contact),
        "DEFAULT_REQUEST_HEADERS": {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1", "Accept-Encoding": "gzip, deflate"},
        "DOWNLOADER_MIDDLEWARES": {f"scrapy.downloadermiddlewares.{name}": None for name in NOT_USED},
        "TWISTED_DNS_RESOLVER": "pipelines.spider.GuardingResolver",
        "DOWNLOAD_VERIFY_CERTIFICATES": True,
        "DOWNLOAD_TIMEOUT": config.timeout,
        "DOWNLOAD_MAXSIZE": config.page_bytes,
        "DOWNLOAD_WARNSIZE": 0,
        "DOWNLOAD_DELAY": 0,
        "CONCURRENT_REQUESTS": 64,
        "CONCURRENT_REQUESTS_PER_DOMAIN": max(8, config.private_concurrency),
        "EXTENSIONS_BASE": {},  # among them since Scrapy 2.19 a server on localhost that runs code sent to it, and a telnet console
        "LOG_ENABLED": False,
        "REFERER_ENABLED": False,
    }


class PageSpider(Spider):
    """Visits the frontier level by level, stores what it reads, and reports once at the end."""

    name = "winnow"

    def __init__(self, config: Crawl, folder: Path, progress: Callable[[int], None], found: dict[str, Any], **rest: Any) -> None:
        super().__init__(**rest)
        self.config, self.folder, self.progress, self.found = config, folder, progress, found
        self.frontier = Frontier(config=config, hosts=set(config.hosts()))
        self.lanes: dict[str, Lane] = {}
        self.robots: dict[str, asyncio.Task[Rules | Visit]] = {}
        self.private: dict[str, asyncio.Task[Visit | bool]] = {}

    async def start(self) -> AsyncIterator[Any]:
        """Scrapy's entry: here the whole crawl."""
        mend(self.folder)
        self.stored = _stored(self.folder)
        self.writer = PageWriter(self.folder, rotate_bytes=self.config.rotate_bytes, software=user_agent(self.config.contact))
        try:
            await self._levels()
        finally:
            self.writer.close()
        self.found["report"] = self.frontier.report()
        return
        yield  # what makes this a generator, as Scrapy wants it

    async def _levels(self) -> None:
        frontier, config = self.frontier, self.config
        level = frontier.fresh(filter(None, (page_address(seed, seed) for seed in config.seeds)))
        for depth in range(config.max_depth + 1):
            below: list[str] = []
            while level and frontier.pages < config.max_pages:
                count = min(AT_ONCE, config.max_pages - frontier.pages)
                now, level = level[:count], level[count:]
                visits = await asyncio.gather(*(self._visit(url) for url in now))
                hops: list[str] = []
                for url, visit in zip(now, visits, strict=True):
                    self._note(url, visit, hops, below, depth)
                level = frontier.fresh(hops) + level
            level = frontier.fresh(below)

    def _note(self, url: str, visit: Visit, hops: list[str], below: list[str], depth: int) -> None:
        self.frontier.note(url, visit)
        below += visit.links
        if visit.hop:
            if depth == 0 and not self.config.allowed_hosts:  # a seed may live elsewhere by now, as with www
                self.frontier.hosts.add(urlsplit(visit.hop).netloc.lower())
            hops.append(visit.hop)
        elif not visit.outcome:
            self.progress(self.frontier.pages)

    async def _visit(self, url: str) -> Visit:
        """One address: from the archive if it holds it, else from the web if that is permitted."""
        stored = self.stored.get(url)
        if stored is not None:
            held = response_at(stored.path, stored.offset, limit=self.config.page_bytes)
            if held is not None and held.url == url:
                return _read(url, held.status, held.headers, held.body)
        refusal = await self._refusal(url)
        if refusal is not None:
            return refusal
        response = await self._download(url)
        if isinstance(response, Visit):
            return response
        visit = await asyncio.to_thread(_read_response, url, response)
        if visit.hop or not visit.outcome:
            self._store(url, response)
        return visit

    async def _refusal(self, url: str) -> Visit | None:
        """Why an address may not be asked, None if it may."""
        if outcome := address_outcome(url):
            return Visit(outcome=outcome) if outcome != "address.placeholder" else None
        private = await self._is_private(url)
        if isinstance(private, Visit):
            return private
        rules = await self._rules(url)
        if isinstance(rules, Visit):
            return rules
        if not rules.allows(url):
            return Visit(outcome="permission.robots", detail="its robots.txt does not allow it, or answers with an error")
        self._lane(url, private, rules)
        return None

    async def _is_private(self, url: str) -> Visit | bool:
        """Whether the host of an address is private; the outcome if it may not or cannot be reached."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if host not in self.private:
            self.private[host] = asyncio.create_task(self._look_up(host, parts.port or 80))
        return await self.private[host]

    async def _look_up(self, host: str, port: int) -> Visit | bool:
        try:
            addresses = [address for _, address in await asyncio.to_thread(resolve, host, port)]
        except (OSError, UnicodeError) as error:
            return Visit(outcome="fetch.dns", detail=str(error))
        if not permitted(addresses, allow_private=self.config.allow_private_addresses):
            return Visit(outcome="address.private", detail=f"{host} is a private address")
        return not permitted(addresses, allow_private=False)

    async def _rules(self, url: str) -> Rules | Visit:
        """What robots.txt says, or why its host gave no answer: then no page of it is asked for either."""
        key = origin(url)
        if key not in self.robots:
            self.robots[key] = asyncio.create_task(self._ask_robots(f"{key}/robots.txt"))
        return await self.robots[key]

    async def _ask_robots(self, url: str) -> Rules | Visit:
        answer: Answer = (None, b"")
        for _ in range(MAX_REDIRECTS + 1):
            private = await self._is_private(url)
            response = private if isinstance(private, Visit) else await self._once(url)
            if isinstance(response, Visit):
                return response
            headers = _headers(response)
            answer = response.status, decoded(response.body, headers, self.config.page_bytes)
            target = absolute(url, header(headers, "location")) if response.status in REDIRECTS else ""
            if not target:
                break
            url, answer = target, (404, b"")  # RFC 9309 2.3.1.2: after too many hops it counts as unavailable
        return rules_of(answer, time.monotonic())

    def _lane(self, url: str, private: bool, rules: Rules) -> Lane:
        host = urlsplit(url).netloc.lower()
        if host not in self.lanes:
            seconds = 0.0 if private else 1 / self.config.pages_per_second
            at_once = self.config.private_concurrency if private else 1
            self.lanes[host] = Lane(at_once=asyncio.Semaphore(at_once), seconds=max(seconds, rules.delay()))
        return self.lanes[host]

    async def _download(self, url: str) -> Response | Visit:
        """A response in its host's turn, asked for again once where that may help."""
        lane = self.lanes[urlsplit(url).netloc.lower()]
        async with lane.at_once:
            await lane.turn()
            response = await self._once(url)
            wait = _patience(response)
            if wait is not None:
                await asyncio.sleep(wait)
                response = await self._once(url)
        return response

    async def _once(self, url: str) -> Response | Visit:
        try:
            assert self.crawler.engine is not None
            return await self.crawler.engine.download_async(Request(url, dont_filter=True))
        except tuple(FAILURES) as error:
            outcome = "fetch.tls" if "SSL.Error" in str(error) else FAILURES[type(error)]
            return Visit(outcome=outcome, detail=str(error))
        except (OSError, ValueError) as error:
            return Visit(outcome="fetch.failed", detail=str(error))

    def _store(self, url: str, response: Response) -> None:
        request = response.request.headers if response.request is not None else {}
        asked = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, values in request.items() for value in values)
        self.writer.write(
            url,
            status=f"{response.status} {'OK' if response.status == 200 else 'Moved'}",
            headers=_headers(response),
            body=response.body,
            request=(("Host", urlsplit(url).netloc), *asked),
            address=str(response.ip_address) if response.ip_address else None,
        )


def _stored(folder: Path) -> dict[str, Stored]:
    """Where each stored address lies in the archives of an earlier try."""
    found = {}
    for name in part_names(folder):
        path = str(folder / name)
        for response in responses(path, Counter(), wanted=lambda status, media: True, limit=1):
            found[response.url] = Stored(path=path, offset=response.offset)
    return found


def _patience(response: Response | Visit) -> float | None:
    """Seconds to wait before one more try, None if that would not help."""
    if isinstance(response, Visit):
        return 1.0 if response.outcome in ("fetch.failed", "fetch.cut") else None
    if response.status not in TRY_AGAIN:
        return None
    wish = header(_headers(response), "retry-after")
    seconds = float(wish) if wish.isdigit() else 1.0
    return seconds if seconds <= MAX_RETRY_AFTER else None


def _headers(response: Response) -> Headers:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, values in response.headers.items() for value in values)


def _read_response(url: str, response: Response) -> Visit:
    headers = _headers(response)
    return _read(url, response.status, headers, decoded(response.body, headers, PAGE_BYTES))


def _read(url: str, status: int, headers: Headers, body: bytes) -> Visit:
    """What a response means for the crawl."""
    if status in REDIRECTS:
        hop = page_address(url, header(headers, "location"))
        return Visit(hop=hop) if hop else Visit(outcome="fetch.redirect", detail="a redirect to nowhere")
    if status != 200:
        return Visit(outcome="fetch.http_5xx" if status >= 500 else f"fetch.http_{status}", detail=f"HTTP {status}")
    content_type = header(headers, "content-type")
    if not is_html(media_type(content_type), body):
        return Visit(outcome="page.not_html", detail=f"{content_type or 'no content type'}")
    return Visit(links=tuple(links_of_page(body, url, headers)))
