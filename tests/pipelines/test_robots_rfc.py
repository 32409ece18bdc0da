"""robots.txt against RFC 9309, one row a case: the file, the path, and whether we may ask for it.
The token of ours is `winnow`.
"""

import pytest

from pipelines.permission.robots import ROBOTS_BYTES, ROBOTS_RETRY_SECONDS, ROBOTS_SECONDS, rules_of

PATHS = [
    # 2.2.1 the user-agent line: which group is ours
    ("User-agent: winnow\nDisallow: /no", "/no", False),
    ("User-agent: WiNNoW\nDisallow: /no", "/no", False),
    ("uSER-aGENT:winnow\ndISALLOW:/no", "/no", False),
    ("User-agent: winnow/0.1\nDisallow: /no", "/no", False),
    ("User-agent: winnow (images)\nDisallow: /no", "/no", False),
    ("User-agent: win\nDisallow: /no", "/no", True),
    ("User-agent: winnowing\nDisallow: /no", "/no", True),
    ("User-agent: winnow2\nDisallow: /no", "/no", True),
    ("User-agent: win*\nDisallow: /no", "/no", True),
    ("User-agent: nnow\nDisallow: /no", "/no", True),
    ("User-agent: crawl-winnow\nDisallow: /no", "/no", True),
    ("User-agent: otherbot\nDisallow: /", "/no", True),
    ("User-agent:\nDisallow: /", "/no", True),
    ("User-agent: *\nDisallow: /no", "/no", False),
    ("User-agent: * # all\nDisallow: /no", "/no", False),
    ("User-agent: *bot\nDisallow: /no", "/no", True),
    # ours replaces the one for all
    ("User-agent: *\nDisallow: /\n\nUser-agent: winnow\nAllow: /yes", "/no", True),
    ("User-agent: *\nDisallow: /\n\nUser-agent: winnow\nDisallow:", "/no", True),
    ("User-agent: *\nDisallow: /\n\nUser-agent: winnow", "/no", True),
    ("User-agent: winnow\nDisallow: /no\n\nUser-agent: *\nDisallow: /yes", "/yes", True),
    # merged
    (
        (
            "User-agent: winnow\nDisallow: /a\n\nUser-agent: other\nDisallow: /b\n\nUser-agent:"
            " Winnow\nDisallow: /no"
        ),
        "/no",
        False,
    ),
    (
        (
            "User-agent: winnow\nDisallow: /a\n\nUser-agent: other\nDisallow: /b\n\nUser-agent:"
            " Winnow\nDisallow: /no"
        ),
        "/a",
        False,
    ),
    (
        (
            "User-agent: winnow\nDisallow: /a\n\nUser-agent: other\nDisallow: /b\n\nUser-agent:"
            " Winnow\nDisallow: /no"
        ),
        "/b",
        True,
    ),
    ("User-agent: *\nDisallow: /a\n\nUser-agent: *\nDisallow: /no", "/no", False),
    ("User-agent: *\nDisallow: /a\n\nUser-agent: *\nDisallow: /no", "/a", False),
    ("User-agent: other\nUser-agent: winnow\nDisallow: /no", "/no", False),
    ("User-agent: winnow\nUser-agent: other\nDisallow: /no", "/no", False),
    # empty lines part nothing
    ("User-agent: winnow\n\n\nUser-agent: other\n\nDisallow: /no", "/no", False),
    ("User-agent: winnow\n\nDisallow: /no", "/no", False),
    ("User-agent: winnow\n# a comment\nDisallow: /no", "/no", False),
    ("User-agent: winnow\nDisallow:\nUser-agent: other\nDisallow: /no", "/no", True),
    ("Disallow: /no", "/no", True),  # a rule before any group is none
    ("Disallow: /no\nUser-agent: *\nDisallow: /a", "/no", True),
    # 2.2.2 allow and disallow: the longest match, allow wins a tie, case matters
    (
        "User-agent: *\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif",
        "/example/page/disallowed.gif",
        False,
    ),
    ("User-agent: *\nDisallow: /\nAllow: /yes", "/yes/1", True),
    ("User-agent: *\nAllow: /yes\nDisallow: /", "/yes/1", True),
    ("User-agent: *\nDisallow: /yes\nAllow: /", "/yes/1", False),
    ("User-agent: *\nDisallow: /same\nAllow: /same", "/same", True),
    ("User-agent: *\nAllow: /same\nDisallow: /same", "/same", True),
    ("User-agent: *\nDisallow: /No", "/no", True),
    ("User-agent: *\nDisallow:", "/no", True),
    ("User-agent: *\nDisallow:\nDisallow: /no", "/no", False),
    ("User-agent: *\nDisallow: /", "/", False),
    ("User-agent: *\nDisallow: /", "/robots.txt", True),  # 2.2.2: always allowed
    ("User-agent: *\nDisallow: /robots.txt", "/robots.txt", True),
    ("User-agent: *\nDisallow: /no", "/not", False),  # a prefix
    ("User-agent: *\nDisallow: /no/", "/no", True),
    ("User-agent: *\nDisallow: /no?a=1", "/no?a=1&b=2", False),
    ("User-agent: *\nDisallow: /no?a=1", "/no", True),
    ("User-agent: *\nDisallow: /no", "/no;x?y", False),
    ("User-agent: *\nDisallow: no", "/no", True),  # a path begins with a slash
    ("User-agent: *\nDisallow: /\nAllow: /index.html", "/", False),  # not Google's index.html
    ("User-agent: *\nDisallow: /\nAllow: /index.html", "/index.html", True),
    (
        "User-agent: *\nDisallow: /\nAllow: /a/index.html\nDisallow: /a/index.html?",
        "/a/index.html?b",
        False,
    ),
    (
        "User-agent: *\nDisallow: /\nAllow: /a/index.html\nDisallow: /a/index.html?",
        "/a/index.html",
        True,
    ),
    # 2.2.2 percent-encoding: both sides are compared decoded, but for what is reserved
    ("User-agent: *\nDisallow: /foo/bar?baz=quz", "/foo/bar?baz=quz", False),
    (
        "User-agent: *\nDisallow: /foo/bar?baz=https%3A%2F%2Ffoo.bar",
        "/foo/bar?baz=https%3A%2F%2Ffoo.bar",
        False,
    ),
    ("User-agent: *\nDisallow: /foo/bar/ツ", "/foo/bar/%E3%83%84", False),
    ("User-agent: *\nDisallow: /foo/bar/%E3%83%84", "/foo/bar/%e3%83%84", False),
    ("User-agent: *\nDisallow: /foo/bar/%E3%83%84", "/foo/bar/ツ", False),
    ("User-agent: *\nDisallow: /foo/bar/%62%61%7A", "/foo/bar/baz", False),
    ("User-agent: *\nDisallow: /foo/bar/baz", "/foo/bar/%62%61%7A", False),
    ("User-agent: *\nDisallow: /a%2Fb", "/a/b", True),
    ("User-agent: *\nDisallow: /a b", "/a%20b", False),
    # 2.2.3 special characters
    ("User-agent: *\nDisallow: /no # why", "/no", False),
    ("User-agent: *\nDisallow: /x#y", "/x", False),
    ("User-agent: *\nDisallow: /*.gif$", "/a/b.gif", False),
    ("User-agent: *\nDisallow: /*.gif$", "/a/b.gif?c", True),
    ("User-agent: *\nDisallow: /this/*/exactly", "/this/is/it/exactly/so", False),
    ("User-agent: *\nDisallow: *no", "/a/no", False),
    ("User-agent: *\nDisallow: /exact$", "/exact", False),
    ("User-agent: *\nDisallow: /exact$", "/exactly", True),
    ("User-agent: *\nDisallow: /\nAllow: /$", "/", True),
    ("User-agent: *\nDisallow: /\nAllow: /$", "/page", False),
    ("User-agent: *\nDisallow: /file-with-a-%2A.html", "/file-with-a-*.html", False),
    ("User-agent: *\nDisallow: /file-with-a-%2A.html", "/file-with-a-b.html", True),
    ("User-agent: *\nDisallow: /foo-%24", "/foo-$", False),
    ("User-agent: *\nDisallow: /foo-%24", "/foo-", True),
    ("User-agent: *\nDisallow: /***/x", "/a/x", False),
    # 2.2.4 other records do not interfere
    (
        "User-agent: winnow\nSitemap: https://a.example/s.xml\nUser-agent: other\nDisallow: /no",
        "/no",
        False,
    ),
    ("User-agent: winnow\nHost: a.example\nUser-agent: other\nDisallow: /no", "/no", False),
    ("User-agent: winnow\nUnknown: thing\nUser-agent: other\nDisallow: /no", "/no", False),
    ("User-agent: *\nNonsense\n: \n::\nDisallow: /no", "/no", False),
    # a rule of the group for those who read it
    ("User-agent: *\nCrawl-delay: 9\n\nUser-agent: other\nDisallow: /no", "/no", True),
    ("Sitemap: https://a.example/s.xml\nUser-agent: *\nDisallow: /no", "/no", False),
    # 2.3 as it comes: line ends, byte order mark, blanks, a missing colon, typing mistakes
    ("User-agent: *\rDisallow: /no\rDisallow: /b", "/no", False),
    ("User-agent: *\r\nDisallow: /no\r\n", "/no", False),
    ("\ufeffUser-agent: *\nDisallow: /no", "/no", False),
    ("  User-agent \t: \t* \n \t Disallow\t :\t/no\t", "/no", False),
    ("User-agent *\nDisallow /no", "/no", False),
    ("User-agent: *\nDissallow: /no", "/no", False),
    # one line: only CR and LF end one
    ("User-agent: *\nDisallow: /a\u2028Disallow: /no", "/no", True),
    ("User-agent: *\nDisallow: /a\x0bAllow: /a", "/a\x0bAllow: /a", False),
    ("<html><body>User-agent: *<br>Disallow: /</body></html>", "/no", True),
    ("", "/no", True),
]


@pytest.mark.parametrize(("file", "path", "allowed"), PATHS)
def test_the_cases_of_the_rfc(file: str, path: str, allowed: bool) -> None:
    assert rules_of((200, file.encode()), 0.0).allows(f"https://a.example{path}") is allowed


@pytest.mark.parametrize(
    ("status", "allowed", "until"),
    [
        (200, True, ROBOTS_SECONDS),
        (204, True, ROBOTS_SECONDS),
        (301, True, ROBOTS_SECONDS),  # after five hops: unavailable
        (400, True, ROBOTS_SECONDS),
        (401, True, ROBOTS_SECONDS),
        (403, True, ROBOTS_SECONDS),
        (404, True, ROBOTS_SECONDS),
        (410, True, ROBOTS_SECONDS),
        (451, True, ROBOTS_SECONDS),
        (429, False, ROBOTS_RETRY_SECONDS),
        (500, False, ROBOTS_RETRY_SECONDS),
        (503, False, ROBOTS_RETRY_SECONDS),
        (599, False, ROBOTS_RETRY_SECONDS),
        (None, False, ROBOTS_RETRY_SECONDS),
    ],
)
def test_answers_to_the_request(status: int | None, allowed: bool, until: float) -> None:
    rules = rules_of((status, b""), 1000.0)
    assert rules.allows("https://a.example/") is allowed
    assert rules.until == 1000.0 + until
    assert ROBOTS_SECONDS <= 24 * 3600


def test_a_huge_file_is_read_to_its_limit() -> None:
    """What stands within 500 KiB holds, what stands behind does not, and a line that is cut is no
    line.
    """
    assert ROBOTS_BYTES >= 500 * 1024
    head = b"User-agent: *\nDisallow: /first\n"
    filler = b"#" + b"x" * (500 * 1024 - len(head) - 40) + b"\nDisallow: /within\n"
    rules = rules_of(
        (200, head + filler + b"# " + b"y" * ROBOTS_BYTES + b"\nDisallow: /behind\n"), 0.0
    )
    assert [
        rules.allows(f"https://a.example{path}") for path in ("/first", "/within", "/behind")
    ] == [False, False, True]
    start = b"User-agent: *\n#"
    cut = (
        start
        + b"z" * (ROBOTS_BYTES - len(start) - len(b"\nDisallow: /"))
        + b"\nDisallow: /only-this\n"
    )
    assert rules_of((200, cut), 0.0).allows("https://a.example/other")


def test_bytes_that_are_no_text() -> None:
    assert not rules_of(
        (200, b"User-agent: *\nDisallow: /\xff\xfe\nDisallow: /no\n\x00\x00"), 0.0
    ).allows("https://a.example/no")


@pytest.mark.parametrize(
    ("file", "seconds"),
    [
        ("User-agent: *\nCrawl-delay: 3", 3.0),
        ("User-agent: *\ncrawl-delay: 0.5 # half", 0.5),
        ("User-agent: *\nCrawl-delay: 86400", 60.0),
        ("User-agent: *\nCrawl-delay: soon", 0.0),
        ("User-agent: *\nCrawl-delay: -1", 0.0),
        ("User-agent: *\nCrawl-delay: nan", 0.0),
        ("User-agent: *\nRequest-rate: 1/10", 10.0),
        ("User-agent: *\nRequest-rate: 30/1m", 2.0),
        ("User-agent: *\nCrawl-delay: 9\n\nUser-agent: winnow\nDisallow: /x", 0.0),
        ("User-agent: otherbot\nCrawl-delay: 9", 0.0),
    ],
)
def test_how_long_to_wait(file: str, seconds: float) -> None:
    assert rules_of((200, file.encode()), 0.0).delay() == seconds


def test_sitemaps_are_of_the_whole_file() -> None:
    file = (
        b"Sitemap: https://a.example/1.xml\nUser-agent: other\nDisallow: /\nsitemap:"
        b" /2.xml\nSITEMAP https://a.example/3.xml#x\n"
    )
    assert rules_of((200, file), 0.0).sitemaps == (
        "https://a.example/1.xml",
        "/2.xml",
        "https://a.example/3.xml",
    )
