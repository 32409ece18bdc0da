"""Crawling live pages into WARC files, to the end or on from where a crawl was killed."""

import asyncio
import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from pipelines.accounts import Account
from pipelines.permission.takedown_list import NOTHING, TakedownList
from pipelines.store import Folder
from pipelines.web.budget import spent_file
from pipelines.web.crawl_config import Crawl
from pipelines.web.crawler import Where, run_crawl

__all__ = ["REPORT", "Crawl", "accounts_of", "counts_of", "crawl"]

REPORT = "crawl.json"
# known, pages, not_modified, redirects, refused, errors, left, images (each {name: n}), first_error
Report = dict[str, Any]
# what of `left` are addresses that may be visited; the rest are links that are not followed
BUDGETS = ("max_pages", "max_pages_per_host", "max_depth")
VISITS = Account(of="page_addresses", into=("crawled", "redirected", "pages."))
# for crawls from before an option was there
DEFAULTS = {entry.name: entry.default for entry in dataclasses.fields(Crawl)}


def crawl(
    config: Crawl,
    pages: Folder,
    *,
    progress: Callable[[int], None] = lambda done: None,
    forgotten: TakedownList = NOTHING,
    spent_in: str | None = None,
) -> Report:
    """Crawl into `pages` (part-*.warc.gz, crawl.json) and return the report.

    A finished crawl is not run again. A killed crawl goes on: stored pages are read from the
    archive instead of the web, so the pages are those of an uninterrupted crawl. What is
    `forgotten` is not asked for; `spent_in` is the file where the bytes of the run are counted.
    Raises ValueError when no page could be read or when `pages` holds another crawl.
    """
    order = json.loads(json.dumps(dataclasses.asdict(config)))
    if pages.exists(REPORT):
        known = cast(Report, pages.read_json(REPORT))
        if any(
            known["config"].get(key, DEFAULTS.get(key)) != value for key, value in order.items()
        ):
            raise ValueError(
                f"{pages.url} holds the pages of another crawl: give this one another --id"
            )
        if known["complete"]:
            return known
    earlier = _earlier(config)
    pages.write_json(REPORT, {"config": order, "complete": False})
    with _local(pages) as folder:
        where = Where(
            folder=folder,
            pages=pages.path(),
            earlier=earlier,
            forgotten=forgotten,
            spent_in=spent_in or spent_file(pages.path()),
        )
        found = asyncio.run(run_crawl(config, where, progress))
    if not found["pages"]:
        pages.remove(REPORT)
        raise ValueError(_nothing(config, found))
    report = {"config": order, "complete": True, **found}
    pages.write_json(REPORT, report)
    return report


def counts_of(report: Report) -> dict[str, int]:
    """The counts of a crawl beside those of its pages, by the names that a collection gives
    them.
    """
    ended = {f"pages.{name}": n for name, n in {**report["refused"], **report["errors"]}.items()}
    return ended | {f"pages.left.{name}": n for name, n in report["left"].items()}


def accounts_of(report: Report) -> list[dict[str, Any]]:
    """Where the addresses of pages went, which links were not followed, and where the images of the
    pages went; Miscounted if an address is lost."""
    counts = counts_of(report)
    links = {
        name: counts.pop(name)
        for name in list(counts)
        if name.startswith("pages.left.") and name.removeprefix("pages.left.") not in BUDGETS
    }
    visits = counts | {"crawled": report["pages"], "redirected": report["redirects"]}
    known = report.get("known", sum(visits.values()))  # crawls of old did not count them
    told = [{"of": VISITS.of, "in": known, "went": VISITS.check(known, visits, "crawl")}]
    for of, went in (("links_left", links), ("page_images", report["images"])):
        if total := sum(went.values()):
            ordered = Account(of=of, into=tuple(went)).went(went)
            told.append({"of": of, "in": total, "went": ordered})
    return told


def _earlier(config: Crawl) -> tuple[str, ...]:
    """The archives of the earlier crawl."""
    if config.previous is None:
        return ()
    pages = Folder(config.previous)
    names = [name for name in pages.names() if name.startswith("part-") and ".warc" in name]
    if not names:
        raise ValueError(
            f"there are no pages of an earlier crawl in {config.previous}: "
            "give the pages folder of a collection"
        )
    return tuple(pages.path(name) for name in names)


def _nothing(config: Crawl, found: Report) -> str:
    reasons = {**found["refused"], **found["errors"]}
    said = ", ".join(f"{name} ({count})" for name, count in sorted(reasons.items()))
    first = f"; {found['first_error']}" if found["first_error"] else ""
    why = f"{said or 'the seeds gave no HTML'}{first}"
    return f"no page could be read from {', '.join(config.seeds)}: {why}"


@contextmanager
def _local(pages: Folder) -> Iterator[Path]:
    """A local folder to append to; for a remote store one of the same name each time, copied there
    in the end."""
    if pages.is_local:
        yield Path(pages.path())
        return
    name = f"winnow-crawl-{hashlib.sha256(pages.url.encode()).hexdigest()[:16]}"
    folder = Path(tempfile.gettempdir()) / name
    yield folder
    for path in sorted(folder.glob("part-*")):
        with open(path, "rb") as source, pages.write(path.name) as target:
            shutil.copyfileobj(source, cast(Any, target))
    shutil.rmtree(folder, ignore_errors=True)
