"""Shares: one stage by many commands without an engine, as a job array runs them; each takes its
share of the parts.
"""

import contextlib
import heapq
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipelines.lease import LeaseHeld, holder, lease
from pipelines.store import Folder

T = TypeVar("T")
# for shares that nobody runs; those that live are waited for as long as they work
WAIT_SECONDS = 600.0
POLL_SECONDS = 2.0  # at most, between two looks at what the others have done


@dataclass(frozen=True, kw_only=True, order=True)
class Share:
    """The third of sixteen is `Share(index=3, of=16)`, in words 3/16."""

    of: int
    index: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.of:
            raise ValueError(
                f"there is no share {self.index}/{self.of}: the first of sixteen is 1/16, the last"
                " 16/16"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> "Share":
        """A share as it is written on the command line; ValueError when it is none."""
        found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if found is None:
            raise ValueError(f"{text!r} is no share: write the third of sixteen as 3/16")
        return cls(index=int(found[1]), of=int(found[2]))


class ShareUnfinished(RuntimeError):
    """What this share had to do is done; other shares, which nobody seems to run, have not done
    theirs.
    """


def share_of_lanes(lanes: Mapping[str, int], of: int) -> dict[str, int]:
    """Which share (1 to `of`) each lane belongs to: a lane (name and number of parts) is never
    split, and shares are about as large.

    The largest lane first, each to the share that has least so far; the same on every machine.
    """
    shares = [(0, index) for index in range(1, of + 1)]
    chosen = {}
    for name, parts in sorted(lanes.items(), key=lambda lane: (-lane[1], lane[0])):
        load, index = shares[0]
        chosen[name] = index
        heapq.heapreplace(shares, (load + parts, index))
    return chosen


def live_shares(folder: Folder, name: str = "lease") -> dict[Share, str]:
    """The shares that living processes hold of a folder, each with what it is about."""
    held = folder / f"{name}s"
    found = {}
    for entry in held.names():
        numbers = re.fullmatch(r"(\d+)-of-(\d+)\.json", entry)
        one = holder(held, entry)
        if numbers is not None and one is not None and not one.dead():
            found[Share(index=int(numbers[1]), of=int(numbers[2]))] = one.about
    return found


@contextlib.contextmanager
def right_to_write(
    folder: Folder, share: Share | None, *, name: str = "lease", about: str = ""
) -> Iterator[None]:
    """Hold a folder alone, or together with the other shares of as many that are about the same;
    LeaseHeld while others have it.
    """
    if share is None:
        with lease(folder, f"{name}.json", about=about):
            _none_other(folder, name, None, about)
            yield
        return
    held = folder / f"{name}s"
    try:
        with lease(held, f"{share.index}-of-{share.of}.json", about=about):
            whole = holder(folder, f"{name}.json")
            if whole is not None and not whole.dead():
                raise LeaseHeld(
                    f"{folder.path()} is being written, all of it, by process {whole.pid} on"
                    f" {whole.host}; wait for it, or stop it and run the same command again"
                )
            _none_other(folder, name, share, about)
            yield
    finally:
        if held.is_local:
            with contextlib.suppress(OSError):  # another share is still there
                os.rmdir(held.path())


def _none_other(folder: Folder, name: str, share: Share | None, about: str) -> None:
    for other, its in sorted(live_shares(folder, name).items()):
        if share is None or other.of != share.of:
            raise LeaseHeld(
                f"{folder.path()} is being written by share {other}: wait for the shares, or give"
                " this command one of them"
            )
        if its != about:
            raise LeaseHeld(
                f"{folder.path()} is being written by share {other} with other options or input:"
                " wait for it, or stop it"
            )


def wait_for(
    ready: Callable[[], T | None],
    *,
    missing: Callable[[], Sequence[Share]],
    living: Callable[[], Collection[Share]],
    wait_seconds: float,
    what: str,
) -> T:
    """Poll until `ready` gives something. `missing` names the share of each part that is still to
    be done.

    That lasts while a missing share lives or parts become fewer, and `wait_seconds` beyond; then
    ShareUnfinished names the missing.
    """
    pause, last, since = 0.05, -1, time.monotonic()
    while (found := ready()) is None:
        absent = missing()
        now = time.monotonic()
        if len(absent) != last or not set(absent).isdisjoint(living()):
            last, since = len(absent), now
        if absent and now - since >= wait_seconds:
            # what was missing has just been done, and tidied away
            if (found := ready()) is not None:
                return found
            raise ShareUnfinished(
                f"{what}: this share is done, but {len(absent):,} parts of shares"
                f" {listed(set(absent))} are not, and nobody has worked on them for"
                f" {wait_seconds:.0f} s; run those shares, and then this one again: what is"
                " finished is kept"
            )
        time.sleep(pause)
        pause = min(POLL_SECONDS, 1.5 * pause)
    return found


def listed(shares: Collection[Share]) -> str:
    """Shares in words, as many as fit on a line."""
    words = [str(share) for share in sorted(shares)]
    return ", ".join(words[:12]) + (f" and {len(words) - 12} others" if len(words) > 12 else "")
