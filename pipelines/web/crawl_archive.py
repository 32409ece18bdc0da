"""What a crawl stores: written by one thread, found again by address, here and in an earlier
crawl.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.sources.archives.earlier_crawls import Stored, by_address
from pipelines.sources.archives.responses import Response, is_html, media_type
from pipelines.sources.fetch_result import Headers, Reply
from pipelines.web.warc_writer import Exchange, PageWriter, mend, part_names


class CrawlArchive:
    """The archives of a crawl in a local folder; `pages` is the address that they will have.

    `earlier` are the archives of the crawl before. What a killed crawl left unfinished is cut off.
    """

    def __init__(
        self, folder: Path, *, pages: str, earlier: tuple[str, ...], rotate_bytes: int, agent: str
    ) -> None:
        mend(folder)
        paths = (folder / name for name in part_names(folder))
        self.stored = by_address(str(path) for path in paths if path.stat().st_size)
        self.earlier = by_address(earlier)
        self._pages, self._agent = pages, agent
        self._writer = PageWriter(folder, rotate_bytes=rotate_bytes, software=agent)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="archive")

    async def write(self, url: str, sent: Headers, reply: Reply, body: bytes) -> None:
        """Store an answer with its request."""
        await self._written(self._writer.write, self._exchange(url, sent, reply, body))

    async def write_unchanged(self, url: str, sent: Headers, reply: Reply, held: Stored) -> None:
        """Store that an address of the earlier crawl did not change."""
        exchange = self._exchange(url, sent, reply, b"")
        refers_to = held.refers_to(self._pages)
        await self._written(
            functools.partial(self._writer.write_unchanged, exchange, refers_to=refers_to)
        )

    async def explain(self, url: str, sent: Headers, reply: Reply, body: bytes) -> None:
        """Store a well-known file as it was read; a page in its place is noted without its text,
        so that nobody takes it for one."""
        content_type = reply.header("content-type") or ""
        if is_html(media_type(content_type), body):
            fields = {"http-status": str(reply.status), "content-type": content_type}
            await self._written(self._writer.write_note, url, fields)
        else:
            await self.write(url, sent, reply, body)

    async def read(self, held: Stored, limit: int) -> Response | None:
        """A stored response; None if it cannot be read any more."""
        return await asyncio.to_thread(held.response, limit)

    def close(self) -> None:
        self._thread.shutdown()
        self._writer.close()

    async def _written(self, write: Callable[..., None], *given: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, write, *given)

    def _exchange(self, url: str, sent: Headers, reply: Reply, body: bytes) -> Exchange:
        host = urlsplit(url).netloc.rsplit("@", 1)[-1]
        return Exchange(
            url=url,
            status=f"{reply.status} {reply.reason}",
            headers=reply.headers,
            body=body,
            request=(("Host", host), ("User-Agent", self._agent), *sent),
            address=reply.address,
            cut=reply.cut,
        )
