"""How an image's address is asked as a guest, and what the answer means: budgets, outcomes, and when another try may help."""

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from pipelines.takedown.forgotten import NOTHING, Forgotten
from pipelines.times import now
from pipelines.web.body import Body

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
BUSY = frozenset({429, 503})  # what a host answers that wants to be asked less
PASSING = frozenset({"fetch.closed", "fetch.cut"})  # outcomes of a moment: another try may help
RETRIES = 2  # of one request; img2dataset's users got 56 % of their images without, 77 % with one, 78 % with ten (its issue 361)
RETRY_SECONDS = 0.5  # before the first retry, four times as long before the next, where the server names no time
MAX_RETRY_AFTER = 30.0  # seconds that an image waits where the server names them; what asks for longer is not tried again
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Guest:
    """How we behave on the web of images."""

    allow_private_addresses: bool = False
    contact: str = ""
    images_per_second: float = 10.0  # of one public host; private hosts are not paced unless they ask
    connections_per_host: int = 8  # at once to one public host; browsers open six
    connections_per_private_host: int = 32  # small servers let few wait: what is beyond is lost and comes again seconds later
    connections: int = 256  # at once to all hosts: one in ten of the web's addresses keeps its connection until the time is over
    seconds: float = 30.0  # for one image, redirects and retries and all; waiting for its turn or for robots.txt not counted
    image_bytes: int = 32 * 1024 * 1024
    forgotten: Forgotten = NOTHING  # what was taken down, and is not asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """What became of one address: `fetched`, or what stopped it."""

    outcome: str
    detail: str | None = None
    status: int | None = None
    final_url: str | None = None
    content_type: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    fetched_at: str | None = None


class Refused(OSError):
    """An address that gave no image: the outcome and the error in words."""

    def __init__(self, outcome: str, detail: str, status: int | None = None) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome, self.detail, self.status = outcome, detail, status

    def attempt(self) -> Attempt:
        return Attempt(outcome=self.outcome, detail=self.detail[:300], status=self.status, fetched_at=now())


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its body lies in memory or, when it is long, in a file."""

    status: int
    headers: Headers
    body: Body

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def attempt(self, url: str) -> Attempt:
        """That this reply, found at `url` in the end, was fetched."""
        return Attempt(
            outcome="fetched",
            status=self.status,
            final_url=url,
            content_type=self.header("content-type"),
            etag=self.header("etag"),
            last_modified=self.header("last-modified"),
            fetched_at=now(),
        )


def status_outcome(status: int) -> str:
    return "fetch.http_5xx" if status >= 500 else f"fetch.http_{status}"


def retry_after(reply: Reply) -> float | None:
    """The seconds that a server asks us to wait, given as a number or as a date (RFC 9110 10.2.3); None if it asks nothing readable."""
    wish = (reply.header("retry-after") or "").strip()
    if wish.isascii() and wish.isdigit():
        return float(wish[:9])
    try:
        return max(0.0, parsedate_to_datetime(wish).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def patience(answer: Reply | Refused, tries: int) -> float | None:
    """Seconds to wait before one more try after `tries` of them, None where that would not help."""
    passing = answer.outcome in PASSING if isinstance(answer, Refused) else answer.status in TRY_AGAIN
    if not passing or tries > RETRIES:
        return None
    asked = retry_after(answer) if isinstance(answer, Reply) else None
    wait = RETRY_SECONDS * 4 ** (tries - 1) if asked is None else asked
    return wait if wait <= MAX_RETRY_AFTER else None
