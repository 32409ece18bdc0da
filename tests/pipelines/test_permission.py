"""What forbids and what allows: one truth table of statements, and a few words on who is asked."""

from datetime import UTC, datetime

import pytest

from pipelines.permission.outcomes import (
    address_outcome,
    follows_links,
    headers_outcome,
    metas_outcome,
    page_outcome,
    policy_of,
    reserved,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)  # when the use is judged
UNAVAILABLE = "permission.unavailable_after"
USAGE, SIGNAL, TDM = "permission.content_usage", "permission.content_signal", "permission.tdm"

# The truth table: who says it, what is said, and what that means for
# https://a.example/photos/cat.jpg and for pages alike.
X, META, ROBOTS, FILE, AI = (
    "X-Robots-Tag",
    "robots",
    "/robots.txt",
    "/.well-known/tdmrep.json",
    "/ai.txt",
)
SAID: list[tuple[str, str, str | None]] = [
    # robots directives, as header and as meta element (DeviantArt's, Google's, Bing's)
    (X, "noai", "permission.noai"),
    (X, "noimageai", "permission.noimageai"),
    (X, "NOINDEX", "permission.noindex"),
    (X, "noimageindex", "permission.noimageindex"),
    (X, "none", "permission.none"),
    (X, "noml", "permission.noml"),
    (X, "noindex, max-image-preview:large", "permission.noindex"),
    (X, "max-image-preview:large, noindex", "permission.noindex"),
    (X, "noindex,max-image-preview:none", "permission.noindex"),
    (X, "max-snippet:50, noai", "permission.noai"),
    (X, "max-snippet:-1, max-image-preview:large, max-video-preview:-1, noai", "permission.noai"),
    (X, "max-something-new:12, noai", "permission.noai"),
    (X, "noai, noimageai", "permission.noai"),
    (X, "noimageai, noai", "permission.noai"),
    (X, "noindex, noai", "permission.noai"),
    (X, "noindex nofollow", "permission.noindex"),
    (X, "noindex; noai", "permission.noai"),
    (X, "index, noai", "permission.noai"),
    (X, "noindex, indexifembedded", "permission.noindex"),
    (X, "winnow: noai", "permission.noai"),
    (X, "Winnow: max-snippet: 5, noindex", "permission.noindex"),
    (X, "winnow/0.1: noai", "permission.noai"),
    (X, "winnow : noai", "permission.noai"),
    (X, "*: noai", "permission.noai"),
    (X, "otherbot: nofollow, winnow: noai", "permission.noai"),
    (X, "otherbot: noindex, winnow: noai", "permission.noai"),
    (X, "noai, otherbot: noindex", "permission.noai"),
    (X, "winnow: noindex, otherbot: all", "permission.noindex"),
    (X, "unavailable_after: 25 Jun 2010 15:00:00 PST, noai", "permission.noai"),
    (X, "unavailable_after: Friday, 25-Jun-10 15:00:00 PST, noai", "permission.noai"),
    (X, "unavailable_after: 25 Jun 2010 15:00:00 PST, otherbot: noai", UNAVAILABLE),
    (X, "unavailable_after: 25 Jun 2010 15:00:00 PST", UNAVAILABLE),
    (X, "unavailable_after: Friday, 25-Jun-10 15:00:00 PST", UNAVAILABLE),
    (X, "unavailable_after: 2025-12-31", UNAVAILABLE),
    (X, "unavailable_after: 2025-12-31T23:00:00+00:00", UNAVAILABLE),
    (X, "unavailable_after: 2026-01-01T01:00:00+02:00", UNAVAILABLE),
    (X, "noarchive, unavailable_after: 31 Dec 2025 23:59:59 GMT", UNAVAILABLE),
    (X, "winnow: unavailable_after: 2025-12-31", UNAVAILABLE),
    (X, "otherbot: unavailable_after: 2025-12-31", None),
    (X, "unavailable_after: 2026-01-01T01:00:00-02:00", None),
    (X, "unavailable_after: 25 Jun 2030 15:00:00 PST", None),
    (X, "unavailable_after: Tuesday, 25-Jun-30 15:00:00 PST, max-snippet:5", None),
    (X, "unavailable_after: never", None),
    (X, "unavailable_after:", None),
    (X, "otherbot: noai, noindex", None),
    (X, "otherbot: noai", None),
    (X, "otherbot: max-snippet: 5, noai", None),
    (X, "winnowing: noai", None),
    (X, "all", None),
    (X, "index, follow, max-image-preview:large, max-snippet:-1", None),
    (X, "noarchive", None),
    (X, "nocache", None),
    (X, "nofollow", None),
    (X, "nosnippet, notranslate", None),
    (X, "noaiplease", None),
    (X, "something-unknown", None),
    (X, "", None),
    (X, ": , ,:", None),
    (META, "noindex,follow", "permission.noindex"),
    ("Robots", "NoAI", "permission.noai"),
    (" robots ", "noimageai", "permission.noimageai"),
    ("winnow", "noai", "permission.noai"),
    ("googlebot", "noindex", None),
    ("description", "noai", None),
    # TDM reservation
    ("TDM-Reservation", "1", TDM),
    ("tdm-reservation", " 1 ", TDM),
    ("tdm-reservation", "0", None),
    ("tdm-reservation", "2", None),
    ("tdm-reservation", "yes", None),
    ("tdm-policy", "https://a.example/policy.json", None),
    (FILE, '[{"location": "/", "tdm-reservation": 1}]', TDM),
    (FILE, '[{"location": "/", "tdm-reservation": "1", "tdm-policy": "https://a.example/p"}]', TDM),
    (FILE, '\ufeff[{"location": "/photos/", "tdm-reservation": 1}]', TDM),
    (FILE, '[{"location": "/photos/*.jpg$", "tdm-reservation": 1}]', TDM),
    (FILE, '[{"location": "/*/cat", "tdm-reservation": 1}]', TDM),
    (FILE, '[{"location": "/photos/c%61t", "tdm-reservation": 1}]', TDM),
    (
        FILE,
        '[{"location": "/photos/", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}]',
        TDM,
    ),
    # the first decides
    (
        FILE,
        '[{"location": "/", "tdm-reservation": 0}, {"location": "/photos/", "tdm-reservation": 1}]',
        None,
    ),
    (
        FILE,
        (
            '[{"location": "/photos/cat", "tdm-reservation": 0}, {"location": "/",'
            ' "tdm-reservation": 1}]'
        ),
        None,
    ),
    (
        FILE,
        (
            '[7, null, {"location": 3}, {"location": "/", "tdm-reservation": 5}, {"location": "/",'
            ' "tdm-reservation": 1}]'
        ),
        TDM,
    ),
    (FILE, '[{"location": "/Photos/", "tdm-reservation": 1}]', None),
    (FILE, '[{"location": "/texts/", "tdm-reservation": 1}]', None),
    (FILE, '[{"location": "/", "tdm-reservation": 0}]', None),
    (FILE, '[{"location": "/"}]', None),
    (FILE, '{"location": "/", "tdm-reservation": 1}', None),  # the brackets are mandatory
    (FILE, "[" * 100_000, None),
    (FILE, "<html>not found</html>", None),
    (FILE, "", None),
    # Content-Usage, as header and as rule of robots.txt
    ("Content-Usage", "train-ai=n", USAGE),
    ("content-usage", "search=y, train-ai=n", USAGE),
    ("Content-Usage", 'train-ai=n;why="a, b;c=y"', USAGE),
    ("Content-Usage", "train-ai=y, train-ai=n", USAGE),
    ("Content-Usage", "ext=(1 2), train-ai=n", USAGE),
    ("Content-Usage", "train-genai=n", USAGE),
    ("Content-Usage", "ai=n", USAGE),
    ("Content-Usage", "bots=n", USAGE),
    ("Content-Usage", "bots=n, train-ai=y", None),
    ("Content-Usage", "train-ai=n, train-ai=y", None),
    ("Content-Usage", "train-ai;allow=n, train-ai=y", None),
    ("Content-Usage", "train-ai=y", None),
    ("Content-Usage", "search=n", None),
    ("Content-Usage", 'train-ai=y, train-ai, search=n, search="n"', None),
    ("Content-Usage", "Train-AI=n", None),  # the labels have a case
    ("Content-Usage", "train-ai=no", None),
    ("Content-Usage", "train-ai", None),
    ("Content-Usage", "", None),
    (ROBOTS, "User-agent: *\nContent-Usage: train-ai=n", USAGE),
    (ROBOTS, "User-agent: *\nContent-Usage: / train-ai=n", USAGE),
    (
        ROBOTS,
        "User-agent: *\nAllow: /\ncontent-usage:/photos/ \t search=y, train-ai=n # why",
        USAGE,
    ),
    (
        ROBOTS,
        "User-agent: *\nContent-Usage: / train-ai=y\nContent-Usage: /photos/ train-ai=n",
        USAGE,
    ),
    (
        ROBOTS,
        "User-agent: *\nContent-Usage: /photos/ train-ai=n\nContent-Usage: /photos/ train-ai=y",
        USAGE,
    ),
    (ROBOTS, "User-agent: *\nContent-Usage: /*.jpg$ train-ai=n", USAGE),
    (
        ROBOTS,
        "User-agent: winnow\nContent-Usage: train-ai=n\n\nUser-agent: *\nContent-Usage: train-ai=y",
        USAGE,
    ),
    (
        ROBOTS,
        "User-agent: *\nContent-Usage: / train-ai=n\nContent-Usage: /photos/ train-ai=y",
        None,
    ),
    (ROBOTS, "User-agent: *\nContent-Usage: / train-ai=n\nContent-Usage: /photos/ search=y", None),
    (ROBOTS, "User-agent: *\nContent-Usage: /texts/ train-ai=n", None),
    (ROBOTS, "User-agent: otherbot\nContent-Usage: train-ai=n", None),
    (ROBOTS, "User-agent: *\nContent-Usage: train-ai=n\n\nUser-agent: winnow\nAllow: /", None),
    (ROBOTS, "Content-Usage: train-ai=n", None),  # in no group
    # Content-Signal
    ("Content-Signal", "ai-train=no, search=yes, ai-input=yes", SIGNAL),
    ("Content-Signal", "ai-train=yes, search=yes, ai-input=yes", None),
    (
        ROBOTS,
        "User-agent: *\nContent-Signal: search=yes,ai-train=no,use=reference\nAllow: /",
        SIGNAL,
    ),
    (ROBOTS, "User-Agent: *\nContent-signal: search=yes, AI-Train=No\nAllow: /", SIGNAL),
    (ROBOTS, "User-agent: *\nContent-Signal: /photos/ ai-train=no", SIGNAL),
    (
        ROBOTS,
        (
            "User-agent: *\nContent-Signal: ai-train=no\n\nUser-agent: GPTBot\nDisallow:"
            " /\n\nUser-agent: *\nDisallow: /lp"
        ),
        SIGNAL,
    ),
    (
        ROBOTS,
        "User-agent: *\nContent-Signal: ai-train=no\nUser-agent: otherbot\nDisallow: /",
        SIGNAL,
    ),
    (ROBOTS, "User-agent: *\nContent-Signal: search=no, ai-input=no", None),
    (ROBOTS, "User-agent: *\nContent-Signal: ai-train=yes", None),
    (ROBOTS, "User-agent: otherbot\nContent-Signal: ai-train=no", None),
    # robots.txt is named first
    (ROBOTS, "User-agent: *\nDisallow: /photos/", "permission.robots"),
    (
        ROBOTS,
        "User-agent: *\nDisallow: /\nContent-Usage: train-ai=n\nContent-Signal: ai-train=no",
        "permission.robots",
    ),
    (ROBOTS, "User-agent: *\nContent-Usage: train-ai=n\nContent-Signal: ai-train=no", USAGE),
    # ai.txt
    (
        AI,
        "# Spawning AI\n# Prevent datasets from …\n\nUser-Agent: *\nDisallow: /\nDisallow: *",
        "permission.ai_txt",
    ),
    (AI, "User-Agent: *\nDisallow: *.txt\nDisallow: *.jpg\nDisallow: *.py", "permission.ai_txt"),
    (AI, "User-Agent: *\nDisallow: *.JPG", "permission.ai_txt"),
    (AI, "User-Agent: *\nDisallow: /*.jpg", "permission.ai_txt"),
    (AI, "User-Agent: *\nDisallow: /photos/", "permission.ai_txt"),
    (AI, "User-Agent: winnow\nDisallow: /", "permission.ai_txt"),
    (AI, "User-Agent: *\nDisallow: /\nAllow: *.jpg", None),
    (AI, "User-Agent: *\nDisallow: *.jp", None),
    (AI, "User-Agent: *\nDisallow: *.png", None),
    (AI, "User-Agent: *\nAllow: /", None),
    (AI, "User-Agent: GPTBot\nDisallow: /", None),
    (AI, "---\nname: A site\n---\n# About us\nDisallow nothing: be kind", None),
    (AI, "<!doctype html><title>Not found</title>", None),
]


@pytest.mark.parametrize(("where", "value", "outcome"), SAID)
def test_the_truth_table(where: str, value: str, outcome: str | None) -> None:
    if where.startswith("/"):
        policy = policy_of({ROBOTS: (404, b""), where: (200, value.encode())}, 0.0)
        assert policy.refusal("https://a.example/photos/cat.jpg") == outcome
    else:
        assert metas_outcome([(where, value)] if where != X else [(META, value)], AT) == (
            outcome if where not in HEADER_ONLY else None
        )
        if where not in META_ONLY:
            assert headers_outcome([(where, value)], AT) == outcome


HEADER_ONLY = ("Content-Usage", "content-usage", "Content-Signal")
META_ONLY = (META, "Robots", " robots ", "winnow")


def test_one_of_several_statements_is_enough() -> None:
    assert (
        headers_outcome([("x-robots-tag", "otherbot: none"), ("X-ROBOTS-TAG", "noimageai")])
        == "permission.noimageai"
    )
    assert (
        headers_outcome([("Content-Usage", "search=y"), ("content-usage", "train-ai=n")]) == USAGE
    )
    # one dictionary, its last member
    assert (
        headers_outcome([("Content-Usage", "train-ai=n"), ("content-usage", "train-ai=y")]) is None
    )
    assert metas_outcome([("robots", "all"), ("winnow", "noai")]) == "permission.noai"
    assert (
        headers_outcome([("TDM-Reservation", "1"), ("X-Robots-Tag", "noindex")])
        == "permission.noindex"
    )


@pytest.mark.parametrize(
    ("file", "header", "meta", "is_reserved"),
    [
        ((), (), (), False),
        (("1",), (), (), True),
        (("1",), ("0",), (), False),  # the header supersedes the file of the origin
        (("0",), ("1",), (), True),
        (("0",), ("1",), ("0",), False),  # and the page the header
        ((), ("0",), ("1",), True),
        (("1",), ("x",), ("",), True),  # what is no value leaves what was said
        ((), ("0", "1"), (), True),
    ],
)
def test_who_supersedes_whom_in_tdm(
    file: tuple[str], header: tuple[str], meta: tuple[str], is_reserved: bool
) -> None:
    assert reserved(file, header, meta) is is_reserved


def test_a_page_may_lift_the_reservation_of_its_header() -> None:
    assert page_outcome([("TDM-Reservation", "1")], [("tdm-reservation", "0")]) is None
    assert page_outcome([("TDM-Reservation", "0")], [("tdm-reservation", "1")]) == TDM
    assert page_outcome([("X-Robots-Tag", "all")], [("robots", "noai")]) == "permission.noai"


def test_links_of_a_page_that_says_nofollow_are_left() -> None:
    assert follows_links(["index"])
    assert not follows_links(["noindex, nofollow"])
    assert not follows_links(["none"])
    assert follows_links(["otherbot: nofollow"])


@pytest.mark.parametrize(
    ("path", "status", "outcome"),
    [
        (ROBOTS, 404, None),
        (ROBOTS, 403, None),
        (ROBOTS, 429, "permission.robots"),
        (ROBOTS, 500, "permission.robots"),
        (ROBOTS, None, "permission.robots"),
        # no statement, see wellknown.py
        *(
            (path, status, None)
            for path in (FILE, AI)
            for status in (404, 403, 429, 500, 503, None)
        ),
    ],
)
def test_well_known_files_that_cannot_be_had(
    path: str, status: int | None, outcome: str | None
) -> None:
    body = b'User-agent: *\nDisallow: /\n[{"location": "/", "tdm-reservation": 1}]'
    assert (
        policy_of({ROBOTS: (404, b""), path: (status, body)}, 0.0).refusal(
            "https://a.example/photos/cat.jpg"
        )
        == outcome
    )


def test_a_site_that_was_not_asked_refuses() -> None:
    assert policy_of({}, 0.0).refusal("https://a.example/") == "permission.robots"


@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        ("https://a.example/a.jpg", "permission.ai_txt"),
        ("https://a.example/a.JPG?width=3#x", "permission.ai_txt"),
        ("https://a.example/a.jpg.html", None),
        ("https://a.example/jpg", None),
        ("https://a.example/?file=a.jpg", None),
        ("https://a.example", None),
        ("https://a.example//a.jpg", "permission.ai_txt"),
    ],
)
def test_file_types_of_an_ai_txt(url: str, outcome: str | None) -> None:
    assert (
        policy_of({ROBOTS: (404, b""), AI: (200, b"User-Agent: *\nDisallow: *.jpg")}, 0.0).refusal(
            url
        )
        == outcome
    )


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
        ("http://a.example/a photo of\ta dog.jpg?of=a dog", None),
    ],
)
def test_addresses(url: str, outcome: str | None) -> None:
    assert address_outcome(url) == outcome
