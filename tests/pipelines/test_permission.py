"""What forbids and what allows, as one table each."""

import pytest

from pipelines.permission import (
    Policies,
    Robots,
    address_outcome,
    directives_outcome,
    follows_links,
    headers_outcome,
    metas_outcome,
    rules_of,
)

TAGS = [
    ("noai", "permission.noai"),
    ("noimageai", "permission.noimageai"),
    ("NOINDEX", "permission.noindex"),
    ("noimageindex", "permission.noimageindex"),
    ("none", "permission.none"),
    ("noml", "permission.noml"),
    ("noindex, max-image-preview:large", "permission.noindex"),
    ("max-image-preview:large, noindex", "permission.noindex"),
    ("max-snippet:50, noai", "permission.noai"),
    ("unavailable_after: 25 Jun 2010 15:00:00 PST, noai", "permission.noai"),
    ("unavailable_after: Friday, 25-Jun-10 15:00:00 PST, noai", "permission.noai"),
    ("otherbot: nofollow, winnow: noai", "permission.noai"),
    ("winnow: noai", "permission.noai"),
    ("Winnow: max-snippet: 5, noindex", "permission.noindex"),
    ("*: noai", "permission.noai"),
    ("noindex, noai", "permission.noai"),
    ("otherbot: noai, noindex", None),
    ("otherbot: noai", None),
    ("winnowing: noai", None),
    ("all", None),
    ("index, follow, max-image-preview:large, max-snippet:-1", None),
    ("noarchive", None),
    ("", None),
    (": , ,:", None),
]


@pytest.mark.parametrize(("value", "outcome"), TAGS)
def test_robots_directives(value: str, outcome: str | None) -> None:
    assert directives_outcome([value]) == outcome
    assert headers_outcome([("X-Robots-Tag", value)]) == outcome


def test_one_of_several_headers_is_enough() -> None:
    assert headers_outcome([("x-robots-tag", "otherbot: none"), ("X-ROBOTS-TAG", "noimageai")]) == "permission.noimageai"


def test_reservation_of_text_and_data_mining() -> None:
    assert headers_outcome([("TDM-Reservation", "1")]) == "permission.tdm"
    assert headers_outcome([("tdm-reservation", "0")]) is None
    assert metas_outcome([("tdm-reservation", "1")]) == "permission.tdm"


def test_meta_elements() -> None:
    assert metas_outcome([("Robots", "noindex,follow")]) == "permission.noindex"
    assert metas_outcome([("winnow", "noai")]) == "permission.noai"
    assert metas_outcome([("googlebot", "noindex"), ("description", "noai")]) is None


def test_links_of_a_page_that_says_nofollow_are_left() -> None:
    assert follows_links(["index"])
    assert not follows_links(["noindex, nofollow"])
    assert not follows_links(["none"])
    assert follows_links(["otherbot: nofollow"])


ROBOTS = b"User-agent: *\nDisallow: /private/\nCrawl-delay: 3\n\nUser-agent: winnow\nDisallow: /ours/\n"


@pytest.mark.parametrize(
    ("status", "body", "path", "allowed"),
    [
        (200, ROBOTS, "/private/a", True),  # our own group replaces the general one
        (200, ROBOTS, "/ours/a", False),
        (200, b"User-agent: *\nDisallow: /private/", "/private/a", False),
        (200, b"User-agent: *\nDisallow: /private/", "/open", True),
        (200, b"\xff\xfe\x00garbage", "/open", True),
        (200, b"<html>no robots here</html>", "/open", True),
        (404, b"", "/open", True),
        (403, b"", "/open", True),
        (429, b"", "/open", False),
        (500, b"", "/open", False),
        (503, b"", "/open", False),
        (None, b"", "/open", False),
    ],
)
def test_robots_file(status: int | None, body: bytes, path: str, allowed: bool) -> None:
    assert rules_of((status, body), 0.0).allows(f"http://a.example{path}") is allowed


def test_crawl_delay_is_bounded() -> None:
    assert rules_of((200, b"User-agent: *\nCrawl-delay: 3"), 0.0).delay() == 3.0
    assert rules_of((200, b"User-agent: *\nCrawl-delay: 86400"), 0.0).delay() == 60.0
    assert rules_of((404, b""), 0.0).delay() == 0.0


def test_robots_file_is_read_once_an_origin() -> None:
    asked: list[str] = []

    def ask(url: str) -> tuple[int | None, bytes]:
        asked.append(url)
        return 200, b"User-agent: *\nDisallow: /no"

    robots = Robots(ask)
    answers = [
        robots.allows(url) for url in ("http://a.example/no", "http://A.example/yes", "http://a.example:81/no", "https://a.example/no")
    ]
    assert answers == [False, True, False, False]
    assert asked == ["http://a.example/robots.txt", "http://a.example:81/robots.txt", "https://a.example/robots.txt"]


def test_well_known_files_are_read_once_an_origin() -> None:
    asked: list[str] = []

    def ask(url: str) -> tuple[int | None, bytes]:
        asked.append(url)
        return (500, b"") if "broken" in url else (200, b"User-agent: *\nDisallow: /no") if url.endswith("robots.txt") else (404, b"")

    policies = Policies(ask)
    urls = ("http://a.example/no", "http://A.example/yes", "http://a.example:81/no", "https://broken.example/x")
    assert [policies.policy(url).refusal(url) for url in urls] == ["permission.robots", None, "permission.robots", "permission.robots"]
    files = ("/robots.txt", "/.well-known/tdmrep.json", "/ai.txt")
    assert asked == [f"{host}{path}" for host in ("http://a.example", "http://a.example:81") for path in files] + [
        "https://broken.example/robots.txt"
    ]


@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        ("http://a.example/photo.jpg", None),
        ("https://a.example/gray-cat.jpg", None),
        ("https://a.example/loading-dock-at-dawn.jpg", None),
        ("http://a.example/static/blank.gif", "address.placeholder"),
        ("http://a.example/img/1x1.png?v=3", "address.placeholder"),
        ("http://a.example/t/lazy-placeholder.svg", "address.placeholder"),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "address.placeholder"),
        ("data:image/png;base64," + "A" * 2000, "address.scheme"),
        ("given://flickr/0001.jpg", None),
        ("GIVEN://flickr/blank.gif", None),
        ("given:", "address.malformed"),
        ("file:///etc/passwd", "address.scheme"),
        ("javascript:alert(1)", "address.scheme"),
        ("ftp://a.example/a.jpg", "address.scheme"),
        ("http:///a.jpg", "address.malformed"),
        ("http://[::1/a.jpg", "address.malformed"),
        ("http://a.example:99999/a.jpg", "address.malformed"),
        ("/a.jpg", "address.malformed"),
        ("", "address.malformed"),
        ("http://a.exa mple/a.jpg", "address.malformed"),
    ],
)
def test_addresses(url: str, outcome: str | None) -> None:
    assert address_outcome(url) == outcome
