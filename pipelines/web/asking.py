"""How a crawl asks: where it may, in each host's turn, from permitted addresses only, and once more where that may help."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from scrapy import Request, exceptions
from scrapy.http import Response

from pipelines.pages.archives import decoded, is_html, media_type
from pipelines.pages.relative import absolute
from pipelines.takedown.forgotten import FORGOTTEN, NOTHING, Forgotten
from pipelines.web.addresses import permitted, resolve
from pipelines.web.crawl import Crawl
from pipelines.web.frontier import Visit
from pipelines.web.links import Headers, header
from pipelines.web.permission import ROBOTS_PATH, WELL_KNOWN, Answer, Policy, address_outcome, origin, policy_of
from pipelines.web.warc_writer import Exchange, PageWriter

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5  # RFC 9309 2.3.1.2 asks for at least five hops
TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
MAX_RETRY_AFTER = 30.0  # seconds; a longer wish is an error of that page
IMAGE_ACCEPT = "image/jpeg,image/png,image/webp,image/*;q=0.8,*/*;q=0.5"
FAILURES = {
    exceptions.DownloadTimeoutError: "fetch.timeout",
    exceptions.CannotResolveHostError: "fetch.dns",
    exceptions.DownloadConnectionRefusedError: "fetch.refused",
    exceptions.DownloadCancelledError: "fetch.too_large",  # Scrapy cancels a download only for its size
    exceptions.ResponseDataLossError: "fetch.cut",
    exceptions.DownloadFailedError: "fetch.failed",
}


@dataclass
class Lane:
    """The pace of one host: so many at once, and so many seconds between two starts."""

    at_once: asyncio.Semaphore
    seconds: float
    next_start: float = 0.0

    async def turn(self, seconds: float | None = None) -> None:
        now = time.monotonic()
        start = max(now, self.next_start)
        self.next_start = start + (self.seconds if seconds is None else seconds)
        await asyncio.sleep(start - now)


@dataclass
class Asker:
    """Asks for pages and images as a guest; every answer of a well-known file is stored, so that decisions can be explained."""

    config: Crawl
    download: Callable[[Request], Awaitable[Response]]
    writer: PageWriter
    forgotten: Forgotten = NOTHING
    lanes: dict[str, Lane] = field(default_factory=dict)
    policies: dict[str, "asyncio.Task[Policy | Visit]"] = field(default_factory=dict)
    private: dict[str, "asyncio.Task[Visit | bool]"] = field(default_factory=dict)

    async def refusal(self, url: str) -> Visit | None:
        """Why an address may not be asked, None if it may; then its host has a lane."""
        if outcome := address_outcome(url):
            return Visit(outcome=outcome) if outcome != "address.placeholder" else None
        if self.forgotten.url(url):
            return Visit(outcome=FORGOTTEN, detail="the address was taken down")
        policy = await self.policy(url)
        if isinstance(policy, Visit):
            return policy
        if outcome := policy.refusal(url):
            return Visit(outcome=outcome, detail=f"a well-known file of its site says {outcome}, or could not be read")
        return None

    async def policy(self, url: str) -> Policy | Visit:
        """What the site of an address says, or why its host gave no robots.txt: then nothing of it is asked for either."""
        key = origin(url)
        task = self.policies.get(key)
        if task is None or (task.done() and isinstance(known := task.result(), Policy) and known.until < time.monotonic()):
            task = self.policies[key] = asyncio.create_task(self._ask_policy(key))
        return await asyncio.shield(task)  # whoever runs out of time does not take it from the others

    async def get(self, url: str, *, conditions: Headers = (), image: bool = False) -> Response | Visit:
        """A response in its host's turn, asked for again once where that may help."""
        headers = dict(conditions) | ({"Accept": IMAGE_ACCEPT} if image else {})
        meta = {"download_maxsize": self.config.image_bytes} if image else {}
        request = Request(url, headers=headers, meta=meta, dont_filter=True)
        lane = self.lanes[urlsplit(url).netloc.lower()]
        async with lane.at_once:
            await lane.turn(await self._image_pace(url) if image else None)
            response = await self._once(request)
            wait = _patience(response)
            if wait is not None:
                await asyncio.sleep(wait)
                response = await self._once(request.copy())
        return response

    def exchange(self, url: str, response: Response) -> Exchange:
        """What was asked and answered, as it is stored."""
        request = response.request.headers if response.request is not None else {}
        asked = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, values in request.items() for value in values)
        return Exchange(
            url=url,
            status=f"{response.status} {'OK' if response.status == 200 else 'Not Modified' if response.status == 304 else 'Other'}",
            headers=headers_of(response),
            body=response.body,
            request=(("Host", urlsplit(url).netloc), *asked),
            address=str(response.ip_address) if response.ip_address else None,
        )

    async def is_private(self, url: str) -> Visit | bool:
        """Whether the host of an address is private; the outcome if it may not or cannot be reached."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if host not in self.private:
            self.private[host] = asyncio.create_task(self._look_up(host, parts.port or 80))
        return await asyncio.shield(self.private[host])

    def close(self) -> None:
        """Leave what is still being asked."""
        for task in (*self.policies.values(), *self.private.values()):
            task.cancel()

    async def _look_up(self, host: str, port: int) -> Visit | bool:
        try:
            addresses = [address for _, address in await asyncio.to_thread(resolve, host, port)]
        except (OSError, UnicodeError) as error:
            return Visit(outcome="fetch.dns", detail=str(error))
        if not permitted(addresses, allow_private=self.config.allow_private_addresses):
            return Visit(outcome="address.private", detail=f"{host} is a private address")
        return not permitted(addresses, allow_private=False)

    async def _ask_policy(self, key: str) -> Policy | Visit:
        robots = await self._ask(f"{key}{ROBOTS_PATH}")
        if isinstance(robots, Visit):
            return robots
        answers = {ROBOTS_PATH: robots}
        policy = policy_of(answers, time.monotonic())
        lane = self._lane(key, await self.is_private(key) is True, policy)
        for path in WELL_KNOWN if not policy.closed else ():
            if path != ROBOTS_PATH:
                await lane.turn()
                answer = await self._ask(f"{key}{path}")
                answers[path] = (None, b"") if isinstance(answer, Visit) else answer
        return policy_of(answers, time.monotonic())

    async def _ask(self, url: str) -> Answer | Visit:
        """The answer to the request for a well-known file, redirects followed, each exchange stored."""
        answer: Answer = (None, b"")
        for _ in range(MAX_REDIRECTS + 1):
            private = await self.is_private(url)
            response = private if isinstance(private, Visit) else await self._once(Request(url, dont_filter=True))
            if isinstance(response, Visit):
                return response
            self._explain(url, response)
            headers = headers_of(response)
            answer = response.status, decoded(response.body, headers, self.config.page_bytes)
            target = absolute(url, header(headers, "location")) if response.status in REDIRECTS else ""
            if not target:
                break
            url, answer = target, (404, b"")  # RFC 9309 2.3.1.2: after too many hops it counts as unavailable
        return answer

    def _explain(self, url: str, response: Response) -> None:
        """Keep a well-known file as it was read; a page in its place is noted without its text, so that nobody takes it for one."""
        content_type = header(headers_of(response), "content-type")
        if is_html(media_type(content_type), response.body):
            self.writer.write_note(url, {"http-status": str(response.status), "content-type": content_type.replace("\r", " ")})
        else:
            self.writer.write(self.exchange(url, response))

    def _lane(self, url: str, private: bool, policy: Policy) -> Lane:
        host = urlsplit(url).netloc.lower()
        if host not in self.lanes:
            at_once = self.config.private_concurrency if private else 1
            self.lanes[host] = Lane(at_once=asyncio.Semaphore(at_once), seconds=0.0)
        self.lanes[host].seconds = max(0.0 if private else 1 / self.config.pages_per_second, policy.delay())
        return self.lanes[host]

    async def _image_pace(self, url: str) -> float:
        policy = await self.policy(url)
        own = 0.0 if await self.is_private(url) is True else 1 / self.config.images_per_second
        return max(own, policy.delay() if isinstance(policy, Policy) else 0.0)

    async def _once(self, request: Request) -> Response | Visit:
        try:
            return await self.download(request)
        except tuple(FAILURES) as error:
            outcome = "fetch.tls" if "SSL.Error" in str(error) else FAILURES[type(error)]
            return Visit(outcome=outcome, detail=str(error))
        except (OSError, ValueError) as error:
            return Visit(outcome="fetch.failed", detail=str(error))


def headers_of(response: Response) -> Headers:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, values in response.headers.items() for value in values)


def _patience(response: Response | Visit) -> float | None:
    """Seconds to wait before one more try, None if that would not help."""
    if isinstance(response, Visit):
        return 1.0 if response.outcome in ("fetch.failed", "fetch.cut") else None
    if response.status not in TRY_AGAIN:
        return None
    wish = header(headers_of(response), "retry-after")
    seconds = float(wish) if wish.isdigit() else 1.0
    return seconds if seconds <= MAX_RETRY_AFTER else None
