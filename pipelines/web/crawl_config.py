"""What to crawl, how far and how politely."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelines.html.images_of_page import TARGET_WIDTH
from pipelines.permission.networks import is_public
from pipelines.sources.archives.responses import PAGE_BYTES
from pipelines.web.warc_writer import ROTATE_BYTES


@dataclass(frozen=True, kw_only=True)
class Crawl:
    """What to crawl, how far and how politely.

    `allowed_hosts` (names, with a port where one is meant, or `*.example.org` for a domain and all
    below it) are those of the seeds unless given; `contact` is an e-mail or web address that the
    user agent shows. With `sitemaps` the pages that the sites of the seeds list are seeds too, with
    `images` the images of the pages are stored beside them, from whatever host. `previous` is the
    address of the pages of an earlier crawl: what did not change since is stored as that and not
    sent again.
    """

    seeds: tuple[str, ...]
    allowed_hosts: tuple[str, ...] = ()
    max_pages: int = 10_000
    max_depth: int = 10  # links from a seed
    allow_private_addresses: bool = False
    contact: str = ""
    # of one public host; private hosts are not paced unless their robots.txt asks
    pages_per_second: float = 1.0
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
    allow_private_proxy: bool = False
    ca_file: str | None = None  # certificates that are trusted beside the system's
    max_bytes: int | None = None  # of all bodies of the run that the crawl is part of

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("a crawl needs at least one seed: give --seed https://…")
        for seed in self.seeds:
            _check_seed(seed, self)
        if (
            self.max_pages < 1
            or self.max_depth < 0
            or self.pages_per_second <= 0
            or self.timeout <= 0
        ):
            raise ValueError(
                "max_pages must be at least 1, max_depth at least 0, pages_per_second and timeout"
                " above 0"
            )
        if (
            (self.max_pages_per_host or 1) < 1
            or self.images_per_second <= 0
            or (self.seconds is not None and self.seconds <= 0)
        ):
            raise ValueError(
                "max_pages_per_host must be at least 1, images_per_second and seconds above 0"
            )
        for host in self.allowed_hosts:
            if "/" in host or "*" in host.removeprefix("*."):
                raise ValueError(
                    f"{host!r} is no host: write it as example.org, example.org:8080 or"
                    " *.example.org"
                )

    def hosts(self) -> frozenset[str]:
        """The hosts that may be asked for pages, in lower case."""
        return frozenset(
            host.lower()
            for host in self.allowed_hosts
            or [urlsplit(seed).netloc.rsplit("@", 1)[-1] for seed in self.seeds]
        )


def _check_seed(seed: str, config: Crawl) -> None:
    try:
        parts = urlsplit(seed)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"the seed {seed!r} is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"the seed {seed!r} is no web address: write it as https://host/path")
    private = host == "localhost" or (
        (host.replace(".", "").isdigit() or ":" in host) and not is_public(host)
    )
    if private and not config.allow_private_addresses:
        raise ValueError(
            f"the seed {seed!r} is a private address: add --allow-private-addresses to crawl it"
        )
    if not private and not config.allow_private_addresses and not config.contact:
        raise ValueError(
            "a crawl of public hosts shows whom to write to: give a contact, an e-mail or web"
            " address (--contact, or WINNOW_CONTACT in the environment)"
        )
