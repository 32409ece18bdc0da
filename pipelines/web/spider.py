"""The crawl itself: level by level from the seeds, so that which pages are read does not depend on which answers first."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from scrapy import Spider
from scrapy.crawler import CrawlerProcess
from scrapy.http import Response
from scrapy.resolver import CachingThreadedResolver
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError

from pipelines.pages.archives import decoded, is_html, media_type
from pipelines.pages.relative import absolute
from pipelines.takedown.forgotten import NOTHING, Forgotten
from pipelines.web.addresses import permitted
from pipelines.web.asking import MAX_REDIRECTS, REDIRECTS, Asker, headers_of
from pipelines.web.crawl import Crawl
from pipelines.web.frontier import AT_ONCE, Frontier, Visit, host_of
from pipelines.web.links import Headers, header, images_on_page, links_of_page, page_address
from pipelines.web.permission import headers_outcome, origin, user_agent
from pipelines.web.recrawl import Stored, by_address
from pipelines.web.sitemaps import MAX_DEPTH, MAX_FILES, read_sitemap
from pipelines.web.warc_writer import PageWriter, mend, part_names

NOT_USED = ("robotstxt.RobotsTxtMiddleware", "retry.RetryMiddleware", "redirect.MetaRefreshMiddleware", "redirect.RedirectMiddleware",
            "offsite.OffsiteMiddleware", "httpcompression.HttpCompressionMiddleware", "cookies.CookiesMiddleware",
            "httpproxy.HttpProxyMiddleware", "httpauth.HttpAuthMiddleware")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a crawl writes (a local folder), the address that its archives will have, the archives of the crawl before, and what was
    taken down since."""

    folder: Path
    pages: str
    earlier: tuple[str, ...] = ()
    forgotten: Forgotten = NOTHING


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


def run(config: Crawl, where: Where, progress: Callable[[int], None]) -> dict[str, Any] | None:
    """Crawl into a local folder; None if it was stopped before its end."""
    logging.getLogger("scrapy").setLevel(logging.ERROR)
    GuardingResolver.allow_private = config.allow_private_addresses
    found: dict[str, Any] = {}
    process = CrawlerProcess(_settings(config))
    process.crawl(PageSpider, config=config, where=where, progress=progress, found=found)
    process.start(install_signal_handlers=False)  # whoever started this process ends it
    return found.get("report")


def _settings(config: Crawl) -> dict[str, Any]:
    """Scrapy downloads; pace, robots, redirects, retries and cookies are ours or nobody's."""
    return {
        "USER_AGENT": user_agent(config.contact),
        "DEFAULT_REQUEST_HEADERS": {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1", "Accept-Encoding": "gzip, deflate"},
        "DOWNLOADER_MIDDLEWARES": {f"scrapy.downloadermiddlewares.{name}": None for name in NOT_USED},
        "TWISTED_DNS_RESOLVER": "pipelines.web.spider.GuardingResolver",
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

    def __init__(self, config: Crawl, where: Where, progress: Callable[[int], None], found: dict[str, Any], **rest: Any) -> None:
        super().__init__(**rest)
        self.config, self.where, self.progress, self.found = config, where, progress, found
        self.frontier = Frontier(config=config, hosts=set(config.hosts()))

    async def start(self) -> AsyncIterator[Any]:
        """Scrapy's entry: here the whole crawl."""
        assert self.crawler.engine is not None
        folder, config = self.where.folder, self.config
        self.end = None if config.seconds is None else asyncio.get_running_loop().time() + config.seconds
        mend(folder)
        self.stored = by_address(str(folder / name) for name in part_names(folder) if (folder / name).stat().st_size)
        self.earlier = by_address(self.where.earlier)
        self.writer = PageWriter(folder, rotate_bytes=config.rotate_bytes, software=user_agent(config.contact))
        self.asker = Asker(
            config=config, download=self.crawler.engine.download_async, writer=self.writer, forgotten=self.where.forgotten
        )
        try:
            await self._levels()
        finally:
            self.asker.close()
            self.writer.close()
        self.found["report"] = self.frontier.report()
        return
        yield  # what makes this a generator, as Scrapy wants it

    async def _levels(self) -> None:
        frontier, config = self.frontier, self.config
        seeds = list(filter(None, (page_address(seed, seed) for seed in config.seeds)))
        level = frontier.fresh(seeds + (await self._listed(seeds) if config.sitemaps else []))
        for depth in range(config.max_depth + 1):
            below: list[str] = []
            while level and frontier.pages < config.max_pages and not self._is_over():
                now, level = frontier.take(level)
                visits = await asyncio.gather(*(self._in_time(self._visit(url)) for url in now))
                hops: list[str] = []
                for url, visit in zip(now, visits, strict=True):
                    self._note(url, visit, hops, below, depth)
                await self._images([image for visit in visits for image in visit.images])
                level = frontier.fresh(hops) + level
            self._leave("fetch.deadline" if self._is_over() else "max_pages", level)
            level = frontier.fresh(below)
        self._leave("fetch.deadline" if self._is_over() else "max_depth", level)

    def _is_over(self) -> bool:
        return self.end is not None and asyncio.get_running_loop().time() >= self.end

    def _leave(self, why: str, level: list[str]) -> None:
        """Count addresses that a budget leaves unvisited; those that the deadline leaves are outcomes like those that it stopped."""
        if level:
            (self.frontier.outcomes if why == "fetch.deadline" else self.frontier.left)[why] += len(level)

    async def _in_time(self, work: Coroutine[Any, Any, Visit]) -> Visit:
        try:
            async with asyncio.timeout_at(self.end):
                return await work
        except TimeoutError:
            return Visit(outcome="fetch.deadline", detail=f"the crawl ended after its {self.config.seconds:g} seconds")

    def _note(self, url: str, visit: Visit, hops: list[str], below: list[str], depth: int) -> None:
        self.frontier.note(url, visit)
        below += visit.links
        if visit.hop:
            if depth == 0 and not self.config.allowed_hosts:  # a seed may live elsewhere by now, as with www
                self.frontier.hosts.add(host_of(visit.hop))
            hops.append(visit.hop)
        elif not visit.outcome:
            self.progress(self.frontier.pages)

    async def _visit(self, url: str) -> Visit:
        """One address: from the archive if it holds it, else from the web if that is permitted."""
        if (held := self.stored.get(url)) is not None and (visit := await self._known(url, held)) is not None:
            return visit
        if (refusal := await self.asker.refusal(url)) is not None:
            return refusal
        response = await self._ask(url)
        if isinstance(response, Visit):
            return response
        if response.status == 304 and (held := self.earlier.get(url)) is not None:
            now = replace(held, headers=headers_of(response), not_modified=True)
            if (visit := await self._known(url, now)) is not None:
                self._write_unchanged(url, response, held)
                return visit
            response = await self.asker.get(url)  # the earlier archive is gone
            if isinstance(response, Visit):
                return response
        body = decoded(response.body, headers_of(response), self.config.page_bytes)
        visit = await asyncio.to_thread(self._read, url, response.status, headers_of(response), body)
        if visit.hop or not visit.outcome:
            self.writer.write(self.asker.exchange(url, response))
        return visit

    async def _known(self, url: str, held: Stored) -> Visit | None:
        """A page as an archive of ours holds it."""
        found = await asyncio.to_thread(held.response, self.config.page_bytes)
        if found is None:
            return None
        visit = await asyncio.to_thread(self._read, url, found.status, found.headers, found.body)
        return replace(visit, not_modified=held.not_modified)

    async def _ask(self, url: str, *, image: bool = False) -> Response | Visit:
        """The answer of the web; of what the crawl before holds, only if it changed."""
        held = self.earlier.get(url)
        conditions = held.conditions() if held is not None and held.status == 200 else ()
        return await self.asker.get(url, image=image, conditions=conditions)

    def _write_unchanged(self, url: str, response: Response, held: Stored) -> None:
        self.writer.write_unchanged(self.asker.exchange(url, response), refers_to=held.refers_to(self.where.pages))

    def _read(self, url: str, status: int, headers: Headers, body: bytes) -> Visit:
        """What a response means for the crawl."""
        if status in REDIRECTS:
            hop = page_address(url, header(headers, "location"))
            return Visit(hop=hop) if hop else Visit(outcome="fetch.redirect", detail="a redirect to nowhere")
        if status != 200:
            return Visit(outcome="fetch.http_5xx" if status >= 500 else f"fetch.http_{status}", detail=f"HTTP {status}")
        content_type = header(headers, "content-type")
        if not is_html(media_type(content_type), body):
            return Visit(outcome="page.not_html", detail=f"{content_type or 'no content type'}")
        images = images_on_page(body, url, headers, target_width=self.config.target_width) if self._shows(headers) else []
        return Visit(links=tuple(links_of_page(body, url, headers)), images=tuple(images))

    def _shows(self, headers: Headers) -> bool:
        """Whether images of a page are stored: if that is asked for, and the page does not forbid its use."""
        return self.config.images and headers_outcome(headers) is None

    async def _images(self, found: list[str]) -> None:
        """The images of pages into the same archives, so that fetching them needs no web."""
        fresh = self.frontier.fresh_images(found)
        for start in range(0, len(fresh), AT_ONCE):
            if self._is_over():
                self.frontier.images["fetch.deadline"] += len(fresh) - start
                return
            visits = await asyncio.gather(*(self._in_time(self._image(url)) for url in fresh[start : start + AT_ONCE]))
            self.frontier.images.update(visit.outcome or "fetched" for visit in visits)

    async def _image(self, url: str) -> Visit:
        """One image, stored with the hops that lead to it; nothing is kept of one that its headers refuse."""
        for _ in range(MAX_REDIRECTS + 1):
            held = self.stored.get(url)
            if held is not None and held.status == 200:
                return Visit(not_modified=held.not_modified)
            if (refusal := await self.asker.refusal(url)) is not None:
                return refusal
            response = await self._ask(url, image=True)
            if isinstance(response, Visit):
                return response
            visit = self._keep_image(url, response)
            if not visit.hop:
                return visit
            url = visit.hop
        return Visit(outcome="fetch.redirects", detail=f"more than {MAX_REDIRECTS} redirects")

    def _keep_image(self, url: str, response: Response) -> Visit:
        headers = headers_of(response)
        if outcome := headers_outcome(headers):
            return Visit(outcome=outcome)
        if response.status == 304 and (held := self.earlier.get(url)) is not None:
            self._write_unchanged(url, response, held)
            return Visit(not_modified=True)
        hop = absolute(url, header(headers, "location")) if response.status in REDIRECTS else ""
        if response.status != 200 and not hop:
            return Visit(outcome="fetch.http_5xx" if response.status >= 500 else f"fetch.http_{response.status}")
        if not hop and is_html(media_type(header(headers, "content-type")), response.body):
            return Visit(outcome="image.not_image", detail="a page in the place of an image")
        self.writer.write(self.asker.exchange(url, response))
        return Visit(hop=hop)

    async def _listed(self, seeds: list[str]) -> list[str]:
        """The pages that the sites of the seeds list in their sitemaps: those that robots.txt names, and /sitemap.xml."""
        level: list[str] = []
        for site in dict.fromkeys(origin(seed) for seed in seeds):
            policy = None if self._is_over() else await self.asker.policy(site)
            named = policy.robots.sitemaps if policy is not None and not isinstance(policy, Visit) else ()
            level += [absolute(f"{site}/", address) for address in (*named, "/sitemap.xml")]
        pages: dict[str, None] = {}
        read: set[str] = set()
        for _ in range(MAX_DEPTH):
            below: list[str] = []
            for url in dict.fromkeys(level):
                if url and url not in read and len(read) < MAX_FILES and self.frontier.inside(url) and not self._is_over():
                    read.add(url)
                    body = await self._sitemap(url)
                    listed = await asyncio.to_thread(read_sitemap, body, url)
                    pages |= dict.fromkeys(listed.pages)
                    below += listed.sitemaps
            level = below
        return list(pages)

    async def _sitemap(self, url: str) -> bytes:
        """The bytes of a sitemap, empty where it may not or cannot be had: a site need not have one."""
        if (held := self.stored.get(url)) is not None and (found := held.response(self.config.page_bytes)) is not None:
            return found.body if found.status == 200 else b""
        try:
            async with asyncio.timeout_at(self.end):
                refused = await self.asker.refusal(url)
                response = refused if refused is not None else await self.asker.get(url)
        except TimeoutError:
            return b""
        if isinstance(response, Visit) or response.status != 200:
            return b""
        if not is_html(media_type(header(headers_of(response), "content-type")), b""):
            self.writer.write(self.asker.exchange(url, response))
        return decoded(response.body, headers_of(response), self.config.page_bytes)
