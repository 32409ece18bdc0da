"""How we behave on the web as a guest: pace, budgets, and when another try may help."""

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from pipelines.permission.takedown_list import NOTHING, TakedownList
from pipelines.sources.fetch_result import FetchError, Reply, status_outcome

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5  # RFC 9309 2.3.1.2 asks for at least five hops
TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
BUSY = frozenset({429, 503})  # what a host answers that wants to be asked less
PASSING = frozenset({"fetch.closed", "fetch.cut"})  # outcomes of a moment: another try may help
# of one request; img2dataset's users got 56 % of their images without, 77 % with one, 78 % with ten
# (its issue 361)
RETRIES = 2
# before the first retry, four times as long before the next, where the server names no time
RETRY_SECONDS = 0.5
# seconds that an address waits where the server names them; what asks for longer is not tried again
MAX_RETRY_AFTER = 30.0


@dataclass(frozen=True, kw_only=True)
class Politeness:
    """How we behave: what is asked of a host, how often, and what one answer may cost."""

    allow_private_addresses: bool = False
    allow_private_proxy: bool = False  # whether the proxy of the environment may be one
    ca_file: str | None = None  # certificates that are trusted beside the system's
    contact: str = ""
    # of one public host; private hosts are not paced unless they ask
    images_per_second: float = 10.0
    pages_per_second: float = 1.0
    connections_per_host: int = 8  # at once to one public host; browsers open six
    # small servers let few wait: what is beyond is lost and comes again seconds later
    connections_per_private_host: int = 32
    # at once to all hosts: one in ten of the web's addresses keeps its connection until the time is
    # over
    connections: int = 256
    # for one address, redirects and retries and all; waiting for its turn or for robots.txt not
    # counted
    seconds: float = 30.0
    image_bytes: int = 32 * 1024 * 1024
    page_bytes: int = 16 * 1024 * 1024
    max_bytes: int | None = None  # of all bodies of a whole run
    spent_in: str | None = None  # the file where the processes of a run count them
    forgotten: TakedownList = NOTHING  # what was taken down, and is not asked for


def retry_after(reply: Reply) -> float | None:
    """The seconds that a server asks us to wait, given as a number or as a date (RFC 9110 10.2.3);
    None if it asks nothing readable.
    """
    wish = (reply.header("retry-after") or "").strip()
    if wish.isascii() and wish.isdigit():
        return float(wish[:9])
    try:
        return max(0.0, parsedate_to_datetime(wish).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def status_error(reply: Reply) -> FetchError:
    """What an answer means that does not bring what was asked for."""
    asked = retry_after(reply) if reply.status in TRY_AGAIN else None
    wish = f", asks to be left alone for {asked:.0f} s" if asked else ""
    return FetchError(status_outcome(reply.status), f"HTTP {reply.status}{wish}", reply.status)


def patience(answer: Reply | FetchError, tries: int) -> float | None:
    """Seconds to wait before one more try after `tries` of them, None where that would not help."""
    passing = (
        answer.outcome in PASSING if isinstance(answer, FetchError) else answer.status in TRY_AGAIN
    )
    if not passing or tries > RETRIES:
        return None
    asked = retry_after(answer) if isinstance(answer, Reply) else None
    wait = RETRY_SECONDS * 4 ** (tries - 1) if asked is None else asked
    return wait if wait <= MAX_RETRY_AFTER else None
