"""Crawling live pages into WARC files: the configuration, and the process that Scrapy runs in.

Scrapy's reactor cannot be started twice in a process, so a crawl is `python -m pipelines.web.crawl` with its order on standard input,
which stays open: when it closes, the caller is dead and the crawl stops too.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from pipelines.pages.archives import PAGE_BYTES
from pipelines.pages.images_of_page import TARGET_WIDTH
from pipelines.takedown.forgotten import NOTHING, Forgotten
from pipelines.web.addresses import is_public
from pipelines.web.warc_writer import ROTATE_BYTES

if TYPE_CHECKING:  # the crawling process does without pyarrow and starts sooner
    from pipelines.store import Folder

REPORT = "crawl.json"


@dataclass(frozen=True, kw_only=True)
class Crawl:
    """What to crawl, how far and how politely.

    `allowed_hosts` (names, with a port where one is meant, or `*.example.org` for a domain and all below it) are those of the seeds
    unless given; `contact` is an e-mail or web address that the user agent shows. With `sitemaps` the pages that the sites of the
    seeds list are seeds too, with `images` the images of the pages are stored beside them, from whatever host. `previous` is the
    address of the pages of an earlier crawl: what did not change since is stored as that and not sent again.
    """

    seeds: tuple[str, ...]
    allowed_hosts: tuple[str, ...] = ()
    max_pages: int = 10_000
    max_depth: int = 10  # links from a seed
    allow_private_addresses: bool = False
    contact: str = ""
    pages_per_second: float = 1.0  # of one public host; private hosts are not paced unless their robots.txt asks
    private_concurrency: int = 8  # pages of one private host at once
    timeout: float = 30.0  # seconds for a page
    page_bytes: int = PAGE_BYTES
    max_pages_per_host: int | None = None
    seconds: float | None = None  # for the whole crawl, which then ends as it is
    sitemaps: bool = False
    images: bool = False
    target_width: int = TARGET_WIDTH  # which of an image's sizes is stored
    image_bytes: int = 32 * 1024 * 1024
    images_per_second: float = 10.0  # of one public host
    previous: str | None = None
    rotate_bytes: int = ROTATE_BYTES

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("a crawl needs at least one seed: give --seed https://…")
        for seed in self.seeds:
            _check_seed(seed, self)
        if self.max_pages < 1 or self.max_depth < 0 or self.pages_per_second <= 0 or self.timeout <= 0:
            raise ValueError("max_pages must be at least 1, max_depth at least 0, pages_per_second and timeout above 0")
        if (self.max_pages_per_host or 1) < 1 or self.images_per_second <= 0 or (self.seconds is not None and self.seconds <= 0):
            raise ValueError("max_pages_per_host must be at least 1, images_per_second and seconds above 0")
        for host in self.allowed_hosts:
            if "/" in host or "*" in host.removeprefix("*."):
                raise ValueError(f"{host!r} is no host: write it as example.org, example.org:8080 or *.example.org")

    def hosts(self) -> frozenset[str]:
        """The hosts that may be asked for pages, in lower case."""
        return frozenset(host.lower() for host in (self.allowed_hosts or [urlsplit(seed).netloc.rsplit("@", 1)[-1] for seed in self.seeds]))


def _check_seed(seed: str, config: Crawl) -> None:
    try:
        parts = urlsplit(seed)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"the seed {seed!r} is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"the seed {seed!r} is no web address: write it as https://host/path")
    private = host == "localhost" or ((host.replace(".", "").isdigit() or ":" in host) and not is_public(host))
    if private and not config.allow_private_addresses:
        raise ValueError(f"the seed {seed!r} is a private address: add --allow-private-addresses to crawl it")
    if not private and not config.allow_private_addresses and not config.contact:
        raise ValueError(
            "a crawl of public hosts shows whom to write to: give a contact, an e-mail or web address "
            "(--contact, or WINNOW_CONTACT in the environment)"
        )


Report = dict[str, Any]  # pages, not_modified, refused, errors, left, images (each {name: n}), first_error: frontier.Frontier.report


DEFAULTS = {entry.name: entry.default for entry in dataclasses.fields(Crawl)}  # for crawls from before an option was there


def crawl(
    config: Crawl, pages: "Folder", *, progress: Callable[[int], None] = lambda done: None, forgotten: Forgotten = NOTHING
) -> Report:
    """Crawl into `pages` (part-*.warc.gz, crawl.json) and return the report; a finished crawl is not run again.

    A killed crawl goes on: stored pages are read from the archive instead of the web, so the pages are those of an uninterrupted
    crawl. What is `forgotten` is not asked for. Raises ValueError when no page could be read or when `pages` holds another crawl.
    """
    order = json.loads(json.dumps(dataclasses.asdict(config)))
    if pages.exists(REPORT):
        known = cast(Report, pages.read_json(REPORT))
        if any(known["config"].get(name, DEFAULTS.get(name)) != value for name, value in order.items()):
            raise ValueError(f"{pages.url} holds the pages of another crawl: give this one another --id")
        if known["complete"]:
            return known
    pages.write_json(REPORT, {"config": order, "complete": False})
    with _local(pages) as folder:
        where = {"folder": str(folder), "pages": pages.path(), "earlier": _earlier(config), "forgotten": forgotten.to_json()}
        found = _run({"config": order, **where}, progress)
    if not found["pages"]:
        pages.remove(REPORT)
        raise ValueError(_nothing(config, found))
    report = {"config": order, "complete": True, **found}
    pages.write_json(REPORT, report)
    return report


def _earlier(config: Crawl) -> list[str]:
    """The archives of the earlier crawl."""
    if config.previous is None:
        return []
    from pipelines.store import Folder

    pages = Folder(config.previous)
    names = [name for name in pages.names() if name.startswith("part-") and ".warc" in name]
    if not names:
        raise ValueError(f"there are no pages of an earlier crawl in {config.previous}: give the pages folder of a collection")
    return [pages.path(name) for name in names]


def _nothing(config: Crawl, found: Report) -> str:
    reasons = {**found["refused"], **found["errors"]}
    why = ", ".join(f"{name} ({count})" for name, count in sorted(reasons.items())) or "the seeds gave no HTML"
    first = f"; {found['first_error']}" if found.get("first_error") else ""
    return f"no page could be read from {', '.join(config.seeds)}: {why}{first}"


@contextmanager
def _local(pages: "Folder") -> Iterator[Path]:
    """A local folder to append to; for a remote store one of the same name each time, copied there in the end."""
    if pages.is_local:
        yield Path(pages.path())
        return
    folder = Path(tempfile.gettempdir()) / f"winnow-crawl-{hashlib.sha256(pages.url.encode()).hexdigest()[:16]}"
    yield folder
    for path in sorted(folder.glob("part-*")):
        with open(path, "rb") as source, pages.write(path.name) as target:
            shutil.copyfileobj(source, cast(Any, target))
    shutil.rmtree(folder, ignore_errors=True)


def _run(order: dict[str, Any], progress: Callable[[int], None]) -> Report:
    """Start the crawling process, follow its lines, and return its last one."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    child = subprocess.Popen(
        [sys.executable, "-m", "pipelines.web.crawl"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the caller, who closes the lifeline
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(order) + "\n")
        child.stdin.flush()
        return _follow(child, progress)
    finally:
        child.stdin.close()  # the lifeline: the child ends if it still runs
        child.wait()
        child.stdout.close()


def _follow(child: "subprocess.Popen[str]", progress: Callable[[int], None]) -> Report:
    assert child.stdout is not None
    for line in child.stdout:
        message = json.loads(line)
        if "report" in message:
            return cast(Report, message["report"])
        progress(message["pages"])
    raise RuntimeError(f"the crawl ended early with status {child.wait()}; the same command goes on from there")


def main() -> None:
    """The crawling process: reads its order, prints a JSON line for each page, and the report last."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_caller, daemon=True).start()
    from pipelines.web.spider import Where, run  # only this process loads Scrapy and its reactor

    values = order["config"]
    config = Crawl(**{**values, "seeds": tuple(values["seeds"]), "allowed_hosts": tuple(values["allowed_hosts"])})
    forgotten = Forgotten.from_json(order["forgotten"])
    where = Where(folder=Path(order["folder"]), pages=order["pages"], earlier=tuple(order["earlier"]), forgotten=forgotten)
    report = run(config, where, lambda pages: print(json.dumps({"pages": pages}), flush=True))
    if report is None:
        sys.exit(1)
    print(json.dumps({"report": report}), flush=True)


def _end_with_caller() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
