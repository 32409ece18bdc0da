"""What people see of a flow: its progress, and artifacts on the pages of a Prefect server."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from filters.recipe.funnel import Funnel
from flows.progress import Lines
from pipelines.engine.stage import Progress
from pipelines.terminal import guard_terminal

guard_terminal()  # a served run is a process of Prefect's own, which enters here

TOLD_SECONDS = 10.0  # between two words about one stage to a server: each costs two requests

Listener = Callable[[Progress], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(progress: Listener) -> Iterator[None]:
    """The flows called in this context report to `progress`; others tell their server."""
    token = _listener.set(progress)
    try:
        yield
    finally:
        _listener.reset(token)


def listener() -> Listener:
    """Who hears of the progress of the task that asks."""
    return _listener.get() or _Server()


def speaker() -> Callable[[str], None]:
    """Who hears a line of the task that asks: the terminal, or the run's log."""
    heard = _listener.get()
    return heard.say if isinstance(heard, Lines) else get_run_logger().info


class _Server:
    """Tells the run's log and a progress artifact for each stage; safe to call from several
    threads.
    """

    def __init__(self) -> None:
        self._log = get_run_logger()
        # a thread that reports has none of its own, and so no server
        self._context = copy_context()
        self._lock = threading.Lock()
        self._artifacts: dict[str, UUID] = {}
        self._told: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        last = bool(progress.parts) and progress.done >= progress.parts
        with self._lock:
            if (
                last
                or time.monotonic() - self._told.get(progress.stage, -TOLD_SECONDS) >= TOLD_SECONDS
            ):
                self._told[progress.stage] = time.monotonic()
                self._context.run(self._tell, progress)

    def _tell(self, progress: Progress) -> None:
        said = progress.words or dict(progress.counts)
        self._log.info(
            "%s: %d of %s parts, %s",
            progress.stage,
            progress.done,
            progress.parts or "unknown",
            said,
        )
        if not progress.parts:
            return
        share = 100.0 * progress.done / progress.parts
        known = self._artifacts.get(progress.stage)
        if known is None:
            made = create_progress_artifact(
                share, key=key("progress", progress.stage), description=progress.stage
            )
            self._artifacts[progress.stage] = _uuid(made)
        else:
            update_progress_artifact(known, progress=share)


def _uuid(value: Any) -> UUID:
    assert isinstance(value, UUID), "called from a thread without an event loop"
    return value


def key(*words: str) -> str:
    """A key as Prefect wants it: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def show_funnel(name: str, funnel: Funnel) -> None:
    """The funnel of a release as a table artifact."""
    rows = [
        {"outcome": outcome, "candidates": count, "share": f"{share:.1%}"}
        for outcome, count, share in funnel.rows()
    ]
    described = (
        f"Recipe {funnel.recipe}: {funnel.kept:,} of {funnel.candidates:,} candidates kept for"
        f" release {name}."
    )
    create_table_artifact(table=rows, key=key("funnel", name), description=described)


def show_counts(kind: str, name: str, counts: Mapping[str, Any]) -> None:
    """Counts or numbers as a table artifact."""
    rows = [{"name": entry, "value": value} for entry, value in counts.items()]
    create_table_artifact(table=rows, key=key(kind, name), description=f"{kind} {name}")


def warn(failed: int, what: str) -> None:
    """Say in the run's log that parts were set aside; the run goes on without them."""
    if failed:
        get_run_logger().warning(
            "%s: %d parts were set aside with their errors; the next run tries them again",
            what,
            failed,
        )
