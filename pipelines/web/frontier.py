"""Where a crawl goes next: the addresses still to visit, the sites and budgets that bound them, and what came of each."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pipelines.web.crawl import Crawl

AT_ONCE = 1000  # addresses in flight or waiting for their host's turn


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What became of one address: a page with links and images, a hop to another address, or an outcome that stopped it."""

    outcome: str = ""
    detail: str = ""
    links: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    hop: str = ""
    not_modified: bool = False


def host_of(url: str) -> str:
    """Host and port of an address in lower case, as in `allowed_hosts`."""
    return urlsplit(url).netloc.rsplit("@", 1)[-1].lower()


@dataclass
class Frontier:
    """Which addresses may be visited, and the counts of those that were."""

    config: Crawl
    hosts: set[str]
    seen: set[str] = field(default_factory=set)
    seen_images: set[str] = field(default_factory=set)
    pages: int = 0
    not_modified: int = 0
    of_host: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    first_error: str = ""

    def fresh(self, urls: Iterable[str]) -> list[str]:
        """Those not seen before that may be visited, now seen."""
        found = []
        for url in urls:
            if url not in self.seen and self.inside(url):
                self.seen.add(url)
                found.append(url)
        return found

    def fresh_images(self, urls: Iterable[str]) -> list[str]:
        """Those not seen before, now seen; images may lie on any host."""
        found = [url for url in dict.fromkeys(urls) if url not in self.seen_images]
        self.seen_images.update(found)
        return found

    def inside(self, url: str) -> bool:
        """Whether an address belongs to an allowed site: its host, with or without port, or a domain above it as `*.example.org`."""
        host, name = host_of(url), urlsplit(url).hostname or ""
        if host in self.hosts or name in self.hosts:
            return True
        labels = name.split(".")
        return any(f"*.{'.'.join(labels[start:])}" in self.hosts for start in range(len(labels)))

    def take(self, level: list[str]) -> tuple[list[str], list[str]]:
        """Addresses to visit now, so many that no budget can be passed, and those that wait for what becomes of them."""
        cap = self.config.max_pages_per_host
        room = min(AT_ONCE, self.config.max_pages - self.pages)
        now: list[str] = []
        rest: list[str] = []
        asked: Counter[str] = Counter()
        for url in level:
            host = host_of(url)
            if cap is not None and self.of_host[host] >= cap:
                self.left["max_pages_per_host"] += 1
            elif len(now) >= room or (cap is not None and self.of_host[host] + asked[host] >= cap):
                rest.append(url)
            else:
                now.append(url)
                asked[host] += 1
        return now, rest

    def note(self, url: str, visit: Visit) -> None:
        if visit.outcome:
            self.outcomes[visit.outcome] += 1
            self.first_error = self.first_error or f"{url}: {visit.detail or visit.outcome}"
        elif not visit.hop:
            self.pages += 1
            self.not_modified += visit.not_modified
            self.of_host[host_of(url)] += 1

    def report(self) -> dict[str, Any]:
        """The counts of the crawl: pages, what was refused, what failed, what a budget left, and the images by outcome."""
        refused = {name: n for name, n in sorted(self.outcomes.items()) if name.startswith(("permission.", "address."))}
        return {
            "pages": self.pages,
            "not_modified": self.not_modified,
            "refused": refused,
            "errors": {name: n for name, n in sorted(self.outcomes.items()) if name not in refused},
            "left": dict(sorted(self.left.items())),
            "images": dict(sorted(self.images.items())),
            "first_error": self.first_error,
        }
