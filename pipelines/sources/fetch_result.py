"""What an address gave: an answer of its host, or what stopped it."""

from dataclasses import dataclass

from pipelines.sources.body import Body
from pipelines.times import now

Headers = tuple[tuple[str, str], ...]
# RFC 9110 15.3: the content of these is not what the address stands for (the state of an action,
# nothing, a part, a list, a change); all other 2xx, those unknown too, are to be read as 200 (15),
# and 203 only says that a proxy changed it
NOT_THE_CONTENT = frozenset({201, 202, 204, 205, 206, 207, 208, 226})


def has_content(status: int) -> bool:
    """Whether an answer of this status to a plain GET brings what the address stands for."""
    return 200 <= status < 300 and status not in NOT_THE_CONTENT


def status_outcome(status: int) -> str:
    return "fetch.http_5xx" if status >= 500 else f"fetch.http_{status}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchResult:
    """What became of one address: `fetched`, or what stopped it."""

    outcome: str
    detail: str | None = None
    status: int | None = None
    final_url: str | None = None
    content_type: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    fetched_at: str | None = None


class FetchError(OSError):
    """An address that gave nothing: the outcome and the error in words."""

    def __init__(self, outcome: str, detail: str, status: int | None = None) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome, self.detail, self.status = outcome, detail, status

    def result(self) -> FetchResult:
        return FetchResult(
            outcome=self.outcome, detail=self.detail[:300], status=self.status, fetched_at=now()
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its body lies in memory or, when it is long, in a file. Headers are Latin-1, byte
    by byte as they were sent.
    """

    status: int
    headers: Headers
    body: Body
    reason: str = ""
    address: str | None = None  # that was connected to; None behind a proxy
    cut: bool = False  # whether its body was longer than what is read of such an answer

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def result(self, url: str) -> FetchResult:
        """That this reply, found at `url` in the end, was fetched."""
        return FetchResult(
            outcome="fetched",
            status=self.status,
            final_url=url,
            content_type=self.header("content-type"),
            etag=self.header("etag"),
            last_modified=self.header("last-modified"),
            fetched_at=now(),
        )
