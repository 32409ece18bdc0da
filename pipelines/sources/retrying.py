"""File systems of other machines, asked again while they fail."""

import time
from collections.abc import Callable
from typing import TypeVar

REFUSALS = frozenset({401, 403, 404, 410})  # HTTP statuses that asking again does not change
ATTEMPTS = 4
PAUSE = 0.5  # seconds before the second attempt, doubled for each further one
ADVICE = (
    "give a file, a pattern such as 'dir/*.warc.gz', an fsspec URL, or a path list such as"
    " warc.paths.gz"
)
T = TypeVar("T")
# hosts that answered, and those that did not from the first: long lists are not waited for line by
# line
_heard: dict[str, bool] = {}


class Unreachable(RuntimeError):
    """A remote file that could not be read after several attempts; reading it later may succeed."""


class NoRanges(RuntimeError):
    """A server that sends the whole file whatever range is asked for."""


def patiently(ask: Callable[[], T], url: str) -> T:
    """The answer of a file system, asked again while it fails; ValueError if there is no such file,
    Unreachable in the end.
    """
    host = "/".join(url.split("/", 3)[:3])
    attempts = 1 if _heard.get(host) is False else ATTEMPTS
    for attempt in range(attempts):
        try:
            answer = ask()
            _heard[host] = True
            return answer
        except NoRanges:
            raise
        except Exception as error:  # each file system raises its own kinds
            if (why := _refusal(error)) is not None:
                raise ValueError(f"there is no archive at {url}{why}: {ADVICE}") from error
            if attempt == attempts - 1:
                _heard.setdefault(host, False)
                raise Unreachable(
                    f"{url} cannot be read ({type(error).__name__}: {error}); run the same command"
                    " again later"
                ) from error
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError


def _refusal(error: BaseException) -> str | None:
    """Why asking again cannot help, empty if a file simply is not there; None if it can.

    The http file system says of whatever went wrong that the file was not found, and gives the
    cause beside it.
    """
    status = getattr(error, "status", None) or getattr(error.__cause__, "status", None)
    if status is not None:
        return f" (HTTP status {status})" if status in REFUSALS else None
    if (
        isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
        and error.__cause__ is None
    ):
        return ""
    return None
