"""The crawl itself: level by level from the seeds, so that which pages are read does not depend on
which answers first.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.html.relative_urls import absolute
from pipelines.permission.outcomes import headers_outcome, origin, user_agent
from pipelines.permission.takedown_list import NOTHING, TakedownList
from pipelines.sources.archives.earlier_crawls import Stored
from pipelines.sources.archives.responses import decoded, is_html, media_type
from pipelines.sources.fetch_result import FetchError, Headers, Reply, has_content, status_outcome
from pipelines.urls import octets_escaped
from pipelines.web.crawl_archive import CrawlArchive
from pipelines.web.crawl_config import Crawl
from pipelines.web.frontier import AT_ONCE, Frontier, Visit, host_of, visit_of_page
from pipelines.web.guest_client import GuestClient, ended, image_kind, page_kind, redirect_target
from pipelines.web.links import header, images_on_page, links_of_page, page_address
from pipelines.web.politeness import MAX_REDIRECTS, REDIRECTS, Politeness, status_error
from pipelines.web.sitemaps import MAX_DEPTH, MAX_FILES, read_sitemap

# threads that read pages, so that a heavy one holds up no host
READERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a crawl writes (a local folder), the address that its archives will have, the archives
    of the crawl before, and what was taken down since."""

    folder: Path
    pages: str
    earlier: tuple[str, ...] = ()
    forgotten: TakedownList = NOTHING
    spent_in: str | None = None  # the file where the bytes of the run are counted


async def run_crawl(config: Crawl, where: Where, progress: Callable[[int], None]) -> dict[str, Any]:
    """Crawl into a local folder; the report of its counts."""
    archive = CrawlArchive(
        where.folder,
        pages=where.pages,
        earlier=where.earlier,
        rotate_bytes=config.rotate_bytes,
        agent=user_agent(config.contact),
    )
    client = GuestClient(
        politeness_of(config, where),
        asyncio.get_running_loop(),
        explain=lambda request, reply, body: archive.explain(
            request.url, request.headers, reply, body
        ),
    )
    crawler = Crawler(config, client, archive, progress)
    try:
        await crawler.levels()
    finally:
        await client.close()
        crawler.close()
        archive.close()
    return crawler.frontier.report()


def politeness_of(config: Crawl, where: Where) -> Politeness:
    """One page of a public host at a time, and several of a private one."""
    return Politeness(
        allow_private_addresses=config.allow_private_addresses,
        allow_private_proxy=config.allow_private_proxy,
        ca_file=config.ca_file,
        contact=config.contact,
        images_per_second=config.images_per_second,
        pages_per_second=config.pages_per_second,
        connections_per_host=1,
        connections_per_private_host=config.private_concurrency,
        seconds=config.timeout,
        image_bytes=config.image_bytes,
        page_bytes=config.page_bytes,
        max_bytes=config.max_bytes,
        spent_in=where.spent_in,
        forgotten=where.forgotten,
    )


class Crawler:
    """Visits the frontier level by level, and stores what it reads."""

    def __init__(
        self,
        config: Crawl,
        client: GuestClient,
        archive: CrawlArchive,
        progress: Callable[[int], None],
    ) -> None:
        self.config, self.client, self.archive = config, client, archive
        self.frontier = Frontier(config=config, hosts=set(config.hosts()))
        self._progress = progress
        self._page = page_kind(client.politeness)
        self._image = replace(image_kind(client.politeness), robots="permission.robots")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._loop = asyncio.get_running_loop()
        self._end = None if config.seconds is None else self._loop.time() + config.seconds

    def close(self) -> None:
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def levels(self) -> None:
        """The crawl, from the seeds to where its budgets end it."""
        frontier, config = self.frontier, self.config
        seeds = [url for seed in config.seeds if (url := page_address(seed, seed))]
        listed = await self._listed(seeds) if config.sitemaps else []
        level = frontier.fresh(seeds + listed)
        for depth in range(config.max_depth + 1):
            below: list[str] = []
            while level and frontier.pages < config.max_pages and not self._is_over():
                now, level = frontier.take(level)
                hops = await self._visit_all(now, below, depth)
                level = frontier.fresh(hops) + level
            self._leave("max_pages", level)
            level = frontier.fresh(below)
        self._leave("max_depth", level)

    def _is_over(self) -> bool:
        return self._end is not None and self._loop.time() >= self._end

    def _leave(self, why: str, level: list[str]) -> None:
        """Count addresses that a budget leaves; those that the deadline leaves are outcomes like
        those that it stopped."""
        if level and self._is_over():
            self.frontier.outcomes["fetch.deadline"] += len(level)
        elif level:
            self.frontier.left[why] += len(level)

    async def _visit_all(self, urls: list[str], below: list[str], depth: int) -> list[str]:
        """Visit addresses, note each in its order, and return where some were sent on to."""
        self.client.forget()
        hops: list[str] = []
        images: list[str] = []
        tasks = [asyncio.create_task(self._settled(self._visit(url))) for url in urls]
        try:
            for url, task in zip(urls, tasks, strict=True):
                visit = self.frontier.note(url, await task)
                below += visit.links
                images += visit.images
                if visit.hop:
                    self._follow_seed(visit.hop, depth)
                    hops.append(visit.hop)
                elif not visit.outcome:
                    self._progress(self.frontier.pages)
        finally:
            await ended(tasks)
        await self._images(images)
        return hops

    def _follow_seed(self, hop: str, depth: int) -> None:
        """A seed may live elsewhere by now, as with www."""
        if depth == 0 and not self.config.allowed_hosts:
            self.frontier.hosts.add(host_of(hop))

    async def _settled(self, work: Coroutine[Any, Any, Visit]) -> Visit:
        """What became of an address; whatever else breaks is its outcome too.

        What the system says (a full disk) is not of the address, and stops the crawl.
        """
        try:
            async with asyncio.timeout_at(self._end):
                return await work
        except TimeoutError:
            if not self._is_over():  # of a store: as all that the system says
                raise
            words = f"the crawl ended after its {self.config.seconds:g} seconds"
            return Visit(outcome="fetch.deadline", detail=words)
        except FetchError as error:
            return Visit(outcome=error.outcome, detail=error.detail)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - one page's surprise is no other's
            return Visit(outcome="page.failed", detail=f"{type(error).__name__}: {error}"[:300])

    async def _visit(self, url: str) -> Visit:
        """One address: from the archive if it holds it, else from the web if that is permitted."""
        held = self.archive.stored.get(url)
        if held is not None and (visit := await self._known(url, held)) is not None:
            return visit
        conditions = self._conditions(url)
        reply = await self.client.ask(url, self._page, self.client.clock(), conditions)
        held = self.archive.earlier.get(url)
        if reply.status == 304 and held is not None:
            now = replace(held, headers=reply.headers, not_modified=True)
            if (visit := await self._known(url, now)) is not None:
                sent = (*self._page.headers, *conditions)
                await self.archive.write_unchanged(url, sent, reply, held)
                return visit
            conditions = ()
            # the archive is gone
            reply = await self.client.ask(url, self._page, self.client.clock())
        if reply.status not in REDIRECTS and not has_content(reply.status):
            raise status_error(reply)
        body = reply.body.take()
        visit = await self._thread(self._decoded_and_read, url, reply.status, reply.headers, body)
        if visit.hop or not visit.outcome:
            await self.archive.write(url, (*self._page.headers, *conditions), reply, body)
        return visit

    def _thread(self, work: Callable[..., Visit], *given: Any) -> asyncio.Future[Visit]:
        return self._loop.run_in_executor(self._readers, work, *given)

    async def _known(self, url: str, held: Stored) -> Visit | None:
        """A page as an archive of ours holds it."""
        found = await self.archive.read(held, self.config.page_bytes)
        if found is None:
            return None
        visit = await self._thread(self._read, url, found.status, found.headers, found.body)
        return replace(visit, not_modified=held.not_modified)

    def _conditions(self, url: str) -> Headers:
        """The request headers that ask for what the crawl before holds only if it changed."""
        held = self.archive.earlier.get(url)
        return held.conditions() if held is not None and has_content(held.status) else ()

    def _decoded_and_read(self, url: str, status: int, headers: Headers, body: bytes) -> Visit:
        return self._read(url, status, headers, decoded(body, headers, self.config.page_bytes))

    def _read(self, url: str, status: int, headers: Headers, body: bytes) -> Visit:
        """What a response means for the crawl; runs in a thread."""
        if status in REDIRECTS:
            hop = page_address(url, octets_escaped(header(headers, "location")))
            nowhere = Visit(outcome="fetch.redirect", detail="a redirect to nowhere")
            return Visit(hop=hop) if hop else nowhere
        if not has_content(status):
            return Visit(outcome=status_outcome(status), detail=f"HTTP {status}")
        content_type = header(headers, "content-type")
        if not is_html(media_type(content_type), body):
            return Visit(outcome="page.not_html", detail=content_type or "no content type")
        links = links_of_page(body, url, headers)
        return visit_of_page(links, self._images_of(body, url, headers))

    def _images_of(self, body: bytes, url: str, headers: Headers) -> list[str]:
        """The images of a page that are stored: if that is asked for, and the page allows its
        use.
        """
        if not self.config.images or headers_outcome(headers) is not None:
            return []
        return images_on_page(body, url, headers, target_width=self.config.target_width)

    async def _images(self, found: list[str]) -> None:
        """The images of pages into the same archives, so that fetching them needs no web."""
        fresh = self.frontier.fresh_images(found)
        for start in range(0, len(fresh), AT_ONCE):
            if self._is_over():
                self.frontier.images["fetch.deadline"] += len(fresh) - start
                return
            some = fresh[start : start + AT_ONCE]
            tasks = [asyncio.create_task(self._settled(self._stored_image(url))) for url in some]
            try:
                for task in tasks:
                    self.frontier.images[(await task).outcome or "fetched"] += 1
            finally:
                await ended(tasks)

    async def _stored_image(self, url: str) -> Visit:
        """One image, stored with the hops to it; nothing is kept of one that its headers refuse."""
        clock = self.client.clock()
        for _ in range(MAX_REDIRECTS + 1):
            held = self.archive.stored.get(url)
            if held is not None and has_content(held.status):
                return Visit(not_modified=held.not_modified)
            conditions = self._conditions(url)
            reply = await self.client.ask(url, self._image, clock, conditions)
            visit = await self._keep_image(url, (*self._image.headers, *conditions), reply)
            if not visit.hop:
                return visit
            url = visit.hop
        raise FetchError("fetch.redirects", f"more than {MAX_REDIRECTS} redirects")

    async def _keep_image(self, url: str, sent: Headers, reply: Reply) -> Visit:
        held = self.archive.earlier.get(url)
        if reply.status == 304 and held is not None:
            if outcome := headers_outcome(reply.headers):
                return Visit(outcome=outcome)
            await self.archive.write_unchanged(url, sent, reply, held)
            return Visit(not_modified=True)
        hop = redirect_target(url, reply)
        if not hop and not has_content(reply.status):
            raise status_error(reply)
        body = reply.body.take()
        if not hop and is_html(media_type(reply.header("content-type")), body):
            return Visit(outcome="image.not_image", detail="a page in the place of an image")
        await self.archive.write(url, sent, reply, body)
        return Visit(hop=hop)

    async def _listed(self, seeds: list[str]) -> list[str]:
        """The pages that the sites of the seeds list in their sitemaps: those that robots.txt
        names, and /sitemap.xml, which a site need not have."""
        level: list[str] = []
        guessed: set[str] = set()
        for site in dict.fromkeys(origin(seed) for seed in seeds):
            named = await self._named_sitemaps(site)
            level += [absolute(f"{site}/", address) for address in (*named, "/sitemap.xml")]
            guessed.add(f"{site}/sitemap.xml")
        pages: dict[str, None] = {}
        read: set[str] = set()
        for _ in range(MAX_DEPTH):
            below: list[str] = []
            for url in dict.fromkeys(level):
                known = not url or url in read or not self.frontier.inside(url)
                if known or self._is_over():
                    continue
                if len(read) >= MAX_FILES:
                    self.frontier.left["max_sitemaps"] += 1
                    continue
                place, body = await self._sitemap(url, read)
                again = place in read
                read |= {url, place}
                if body:
                    listed = await self._loop.run_in_executor(
                        self._readers, read_sitemap, body, place
                    )
                    self.frontier.left.update(listed.left)
                    pages |= dict.fromkeys(listed.pages)
                    below += listed.sitemaps
                elif not again and url not in guessed:
                    self.frontier.left["sitemap_unreadable"] += 1
            level = below
        if deeper := len(set(level) - read):
            self.frontier.left["max_sitemaps"] += deeper
        return list(pages)

    async def _named_sitemaps(self, site: str) -> tuple[str, ...]:
        if self._is_over():
            return ()
        try:
            return (await self.client.policy(site)).robots.sitemaps
        except FetchError:  # its pages will say why
            return ()

    async def _sitemap(self, url: str, read: set[str]) -> tuple[str, bytes]:
        """Where a sitemap is in the end, and its bytes; none where it may not or cannot be had, or
        was read already under another address."""
        for _ in range(MAX_REDIRECTS + 1):
            held = self.archive.stored.get(url)
            if held and (found := await self.archive.read(held, self.config.page_bytes)):
                return url, found.body if has_content(found.status) else b""
            try:
                async with asyncio.timeout_at(self._end):
                    reply = await self.client.ask(url, self._page, self.client.clock())
            except (TimeoutError, FetchError):
                return url, b""
            hop = redirect_target(url, reply)
            if not hop or not self.frontier.inside(hop):
                return url, await self._sitemap_of(url, reply)
            url = hop
            if url in read:
                break
        return url, b""

    async def _sitemap_of(self, url: str, reply: Reply) -> bytes:
        """The bytes of an answer, stored if they may be a sitemap's."""
        if not has_content(reply.status):
            return b""
        body = reply.body.take()
        if not is_html(media_type(reply.header("content-type")), b""):
            await self.archive.write(url, self._page.headers, reply, body)
        return decoded(body, reply.headers, self.config.page_bytes)
