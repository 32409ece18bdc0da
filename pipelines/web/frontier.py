"""Where a crawl goes next: the addresses still to visit, the sites and budgets that bound them, and
what came of each.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from pipelines.web.crawl_config import Crawl
from pipelines.web.links import Links
from pipelines.web.politeness import MAX_REDIRECTS

AT_ONCE = 1000  # addresses in flight or waiting for their host's turn
PAGE_LINKS = 10_000  # that are followed of one page; an HTML sitemap has some thousands
PAGE_CHARACTERS = 1024 * 1024  # of those links together
# of all addresses that a crawl knows, each counted with what Python needs for it: some four million
# of ordinary length, and a bound for sites that make up addresses without end
CHARACTERS = 1024 * 1024 * 1024
OVERHEAD = 150


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What became of one address: a page with links and images, a hop to another address, or an
    outcome that stopped it.
    """

    outcome: str = ""
    detail: str = ""
    links: tuple[str, ...] = ()
    # links that are not followed, by the reason
    left: Mapping[str, int] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    hop: str = ""
    not_modified: bool = False


def visit_of_page(links: Links, images: Sequence[str]) -> Visit:
    """A page with as many of its links as are followed of one."""
    room, kept = PAGE_CHARACTERS, 0
    for link in links.pages[:PAGE_LINKS]:
        room -= len(link)
        if room < 0:
            break
        kept += 1
    left = links.left + Counter(max_links=len(links.pages) - kept)
    return Visit(links=links.pages[:kept], left=left, images=tuple(images))


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
    # the redirects that led to an address
    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    room: int = CHARACTERS
    known: int = 0  # addresses that may be visited
    pages: int = 0
    redirects: int = 0
    not_modified: int = 0
    of_host: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    first_error: str = ""

    def fresh(self, urls: Iterable[str]) -> list[str]:
        """Those not seen before that may be visited, now seen; others are counted as left."""
        new = self._new(urls, self.seen, self.left)
        found = [url for url in new if self.inside(url)]
        self.known += len(found)
        if len(found) < len(new):
            self.left["other_site"] += len(new) - len(found)
        return found

    def fresh_images(self, urls: Iterable[str]) -> list[str]:
        """Those not seen before, now seen; images may lie on any host."""
        return self._new(urls, self.seen_images, self.images)

    def _new(self, urls: Iterable[str], seen: set[str], left: Counter[str]) -> list[str]:
        found = []
        for url in urls:
            if url in seen:
                continue
            if self.room <= 0:
                left["max_addresses"] += 1
                continue
            self.room -= len(url) + OVERHEAD
            seen.add(url)
            found.append(url)
        return found

    def inside(self, url: str) -> bool:
        """Whether an address belongs to an allowed site: its host, with or without port, or a
        domain above it as `*.example.org`.
        """
        host, name = host_of(url), urlsplit(url).hostname or ""
        if host in self.hosts or name in self.hosts:
            return True
        labels = name.split(".")
        return any(f"*.{'.'.join(labels[start:])}" in self.hosts for start in range(len(labels)))

    def take(self, level: list[str]) -> tuple[list[str], list[str]]:
        """Addresses to visit now, so many that no budget can be passed, and those that wait for
        what becomes of them.
        """
        cap = self.config.max_pages_per_host
        room = min(AT_ONCE, self.config.max_pages - self.pages)
        if cap is None:
            return level[:room], level[room:]
        now: list[str] = []
        rest: list[str] = []
        asked: Counter[str] = Counter()
        for url in level:
            host = host_of(url)
            if self.of_host[host] >= cap:
                self.left["max_pages_per_host"] += 1
            elif len(now) >= room or self.of_host[host] + asked[host] >= cap:
                rest.append(url)
            else:
                now.append(url)
                asked[host] += 1
        return now, rest

    def note(self, url: str, visit: Visit) -> Visit:
        """Count what became of an address; a redirect that comes back, or one too many, is an
        outcome.
        """
        chain = (*self.chains.pop(url, ()), url)
        if visit.hop in chain or (visit.hop and len(chain) > MAX_REDIRECTS):
            words = (
                "redirects that come back"
                if visit.hop in chain
                else f"more than {MAX_REDIRECTS} redirects"
            )
            visit = replace(visit, hop="", outcome="fetch.redirects", detail=words)
        if visit.outcome:
            self.outcomes[visit.outcome] += 1
            self.first_error = self.first_error or f"{url}: {visit.detail or visit.outcome}"
        elif visit.hop:
            self.redirects += 1
            if visit.hop not in self.seen:
                self.chains[visit.hop] = chain
        else:
            self.pages += 1
            self.not_modified += visit.not_modified
            self.of_host[host_of(url)] += 1
            self.left.update(visit.left)
        return visit

    def report(self) -> dict[str, Any]:
        """The counts of the crawl: pages, what was refused, what failed, what a budget left, and
        the images by outcome.
        """
        refused = {
            name: n
            for name, n in sorted(self.outcomes.items())
            if name.startswith(("permission.", "address."))
        }
        return {
            "known": self.known,
            "pages": self.pages,
            "not_modified": self.not_modified,
            "redirects": self.redirects,
            "refused": refused,
            "errors": {name: n for name, n in sorted(self.outcomes.items()) if name not in refused},
            "left": dict(sorted(self.left.items())),
            "images": dict(sorted(self.images.items())),
            "first_error": self.first_error,
        }
