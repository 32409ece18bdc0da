"""robots.txt, ai.txt and tdmrep.json of strangers: other encodings than UTF-8, and files made to
cost time or memory.
"""

import codecs
import gzip
import json
import random
import re
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.permission.directives import expiries, page_outcome, usage_outcome
from pipelines.permission.path_rules import FEW, PathRules, path_of
from pipelines.permission.robots import (
    ROBOTS_BYTES,
    ROBOTS_RETRY_SECONDS,
    ROBOTS_SECONDS,
    Rules,
    rules_of,
)
from pipelines.permission.well_known import media_rules_of, reservations_of

FORBIDS = "User-agent: *\r\nDisallow: /käse\r\nDisallow: /no\r\nSitemap: /s.xml\r\n"
# of CPU; each takes less than one here, and a way that grows with the square takes minutes
SECONDS = 10.0
MEGABYTES = 120  # at worst 23 are measured


def rules(body: bytes) -> Rules:
    return rules_of((200, body), 0.0)


def allowed(body: bytes, *paths: str) -> list[bool]:
    read = rules(body)
    return [read.allows(f"https://a.example{path}") for path in paths]


# encodings


@pytest.mark.parametrize(
    "body",
    [
        codecs.BOM_UTF16_LE + FORBIDS.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + FORBIDS.encode("utf-16-be"),
        FORBIDS.encode("utf-16-le"),
        FORBIDS.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + FORBIDS.encode("utf-32-le"),
        codecs.BOM_UTF32_BE + FORBIDS.encode("utf-32-be"),
        codecs.BOM_UTF8 + FORBIDS.encode(),
        FORBIDS.encode("latin-1"),
        gzip.compress(FORBIDS.encode()),
        gzip.compress(codecs.BOM_UTF16_LE + FORBIDS.encode("utf-16-le")),
    ],
    ids=[
        "utf-16le",
        "utf-16be",
        "utf-16le without mark",
        "utf-16be without mark",
        "utf-32le",
        "utf-32be",
        "utf-8",
        "latin-1",
        "gzip",
        "both",
    ],
)
def test_other_encodings_than_utf_8(body: bytes) -> None:
    assert allowed(body, "/no", "/yes", "/k%C3%A4se", "/käse") == [False, True, False, False]
    assert rules(body).sitemaps == ("/s.xml",)


def test_octets_of_another_encoding_are_what_the_site_expects() -> None:
    assert allowed(
        "User-agent: *\nDisallow: /käse".encode("latin-1"),
        "/k%E4se",
        "/k%e4se",
        "/k%E5se",
        "/k%FFse",
    ) == [False, False, True, True]


def test_utf_16_with_a_line_that_another_editor_added() -> None:
    body = (
        codecs.BOM_UTF16_LE
        + "User-agent: *\r\nDisallow: /a\r\n".encode("utf-16-le")
        + b"Disallow: /no\r\n"
    )
    assert allowed(body, "/a", "/no", "/yes") == [False, False, True]


def test_utf_16_beyond_the_limit_is_read_to_it() -> None:
    body = codecs.BOM_UTF16_LE + (
        "User-agent: *\nDisallow: /first\n" + "#" * ROBOTS_BYTES + "\nDisallow: /behind"
    ).encode("utf-16-le")
    assert allowed(body, "/first", "/behind") == [False, True]


def test_what_cannot_be_inflated_is_no_permission() -> None:
    read = rules(b"\x1f\x8b\x08\x00" + b"\xff" * 40)
    assert not read.allows("https://a.example/")
    assert read.until == ROBOTS_RETRY_SECONDS
    assert rules(gzip.compress(b"")).until == ROBOTS_SECONDS


def test_the_other_files_of_a_site_in_utf_16() -> None:
    locations = codecs.BOM_UTF16_LE + json.dumps(
        [{"location": "/käse*", "tdm-reservation": 1}], ensure_ascii=False
    ).encode("utf-16-le")
    assert reservations_of((200, locations)).reserves("https://a.example/k%C3%A4se.jpg")
    assert not media_rules_of((200, "User-Agent: *\nDisallow: *.jpg".encode("utf-16"))).allows(
        "https://a.example/a.JPG"
    )


# rules that are many


def made(head: str, line: str, numbers: bool = True) -> bytes:
    """A file as long as is read, of one line repeated; `#` in it becomes its number."""
    count = (ROBOTS_BYTES - len(head)) // (len(line) + 1)
    return (
        head
        + "\n".join(
            line.replace("#", f"{number:06}"[:6]) if numbers else line for number in range(count)
        )
    ).encode()[:ROBOTS_BYTES]


def two(first: str, second: str) -> bytes:
    return (
        made("", first, False)[: ROBOTS_BYTES // 2]
        + b"\n"
        + made("", second, False)[: ROBOTS_BYTES // 2 - 2]
    )


ALL = "User-agent: *\n"
COSTLY = {
    "agents before rules": two("User-agent:xyz", "Allow:/"),
    "all agents before rules": two("User-agent:*", "Disallow:/a"),
    "one agent a rule": two("User-agent:*\nDisallow:/a", "User-agent:winnow\nAllow:/"),
    "prefixes": made(ALL, "Disallow:/#"),
    "stars": made(ALL, "Disallow:/*#"),
    "pieces alike": made(ALL, f"Disallow:/*{'a' * 50}b{'a' * 40}#*"),
    "one pattern of stars": (ALL + "Disallow:/" + "*a" * (ROBOTS_BYTES // 2 - 20) + "b").encode(),
    "bytes that are no text": ALL.encode() + b"Disallow:/" + b"\xff" * (ROBOTS_BYTES - 30),
    "escapes": (ALL + "Disallow:/" + "%41" * (ROBOTS_BYTES // 3 - 20)).encode(),
    "line ends": b"\r" * ROBOTS_BYTES,
    "uses": made(ALL, "Content-Usage:/# train-ai=n"),
    "quotes in a use": (ALL + "Content-Usage: x=" + '\\"' * (ROBOTS_BYTES // 2 - 30)).encode(),
    "parentheses in a use": (ALL + "Content-Usage: x=" + "(" * (ROBOTS_BYTES - 40)).encode(),
    "digits of a delay": (ALL + "Crawl-delay: " + "1" * (ROBOTS_BYTES - 40)).encode(),
    "gzip that grows": gzip.compress(ALL.encode() + b"Disallow: /aaaa\n" * 4_000_000),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_file(name: str) -> None:
    begin = time.process_time()
    read = rules(COSTLY[name])
    for path in ("/", "/page/one.jpg", "/" + "a" * 8000, "/" + "a?" * 4000, "/" + "é" * 2000):
        read.refusal(f"https://a.example{path}")
    assert time.process_time() - begin < SECONDS


@pytest.mark.parametrize(
    "name", ["agents before rules", "all agents before rules", "stars", "bytes that are no text"]
)
def test_the_memory_of_a_costly_file(name: str) -> None:
    tracemalloc.start()
    rules(COSTLY[name])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEGABYTES * 1e6


@pytest.mark.parametrize(
    ("line", "covered", "other"),
    [("Disallow: /#", "/000007", "/00000x"), ("Disallow: /*#$", "/a/000007", "/a/000007x")],
)
def test_many_rules_say_what_few_say(line: str, covered: str, other: str) -> None:
    assert allowed(made(ALL, line), covered, other) == [False, True]
    assert allowed(
        made("User-agent: *\nAllow: /*/open-to-all*\n", line), "/b/open-to-all/x000007", "/z"
    ) == [True, True]


def test_many_rules_against_many_addresses() -> None:
    """Fifteen thousand patterns, ten thousand addresses: 150 million pairs if each were
    compared.
    """
    read = rules(
        "\n".join(
            ["User-agent: *", *(f"Disallow: /*-{number}-x*.gif$" for number in range(15_000))]
        ).encode()
    )
    begin = time.process_time()
    refused = [
        number
        for number in range(10_000, 20_000)
        if not read.allows(f"https://a.example/photos/a-{number}-xl.gif")
    ]
    assert refused == list(range(10_000, 15_000))
    assert time.process_time() - begin < 3 * SECONDS


def test_what_cannot_be_told_with_bounded_effort_is_no_permission() -> None:
    same = "a" * 20
    patterns = "\n".join(f"Allow: /*{same}*{number}" for number in range(15_000))
    assert allowed(
        f"User-agent: *\n{patterns}".encode(), "/a", f"/{same}/7", f"/{same}/" + "b" * 8000
    ) == [True, True, False]
    locations = json.dumps(
        [{"location": f"/*{number}", "tdm-reservation": 0} for number in range(9_000)]
    ).encode()
    reserved = reservations_of((200, locations))
    assert [reserved.reserves(f"https://a.example/{path}") for path in ("7", "b" * 8000)] == [
        False,
        True,
    ]


# the other files


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 400_000,
        b'{"a":' * 100_000,
        b'[{"location":' + b"[" * 100_000,
        b"[" + b"1" * 400_000 + b"]",
        b"[" + b"[]," * 100_000 + b"[]]",
        b"\xff\xfe[",
    ],
    ids=["lists", "objects", "a location of lists", "a number", "many lists", "cut"],
)
def test_a_costly_tdmrep_says_nothing(body: bytes) -> None:
    assert reservations_of((200, body)).rules == ()


def test_a_location_with_half_a_character() -> None:
    rules = reservations_of(
        (
            200,
            (
                b'[{"location": "/\\ud800*", "tdm-reservation": 1}, {"location": "/a",'
                b' "tdm-reservation": 1}]'
            ),
        )
    )
    assert [rules.reserves(f"https://a.example{path}") for path in ("/a", "/b", "/\ud800")] == [
        True,
        False,
        True,
    ]


COSTLY_VALUES = {
    "bots": "index:" * 200_000,
    "dates": "unavailable_after:" * 60_000,
    "dates and commas": "a,unavailable_after: 9999-12-31," * 30_000,
    "strings": '\\"' * 500_000,
    "parentheses": "(" * 1_000_000,
    "commas": "," * 1_000_000,
}


@pytest.mark.parametrize("name", COSTLY_VALUES)
def test_a_costly_directive(name: str) -> None:
    begin = time.process_time()
    for kind in ("robots", "tdm-reservation"):
        assert page_outcome((), [(kind, COSTLY_VALUES[name])]) is None
    for kind in ("X-Robots-Tag", "Content-Usage", "Content-Signal"):
        assert page_outcome([(kind, COSTLY_VALUES[name])], ()) is None
    assert time.process_time() - begin < SECONDS


def test_dates_speak_to_the_bot_that_is_named_before_them() -> None:
    far = "2999-01-02"
    read = lambda value: [date.year for date in expiries([value])]  # noqa: E731
    assert read(f"unavailable_after: {far}") == [2999]
    assert read(f"otherbot: unavailable_after: {far}") == []
    assert read(f"winnow: noarchive, unavailable_after: {far}") == [2999]
    assert read(
        f"otherbot: noarchive, unavailable_after: {far}, winnow: nocache, unavailable_after: Wed,"
        " 02 Jan 2998 00:00:00 GMT"
    ) == [2998]


def test_a_string_that_is_not_closed() -> None:
    assert usage_outcome('x="a, train-ai=y"') is None
    assert usage_outcome('train-ai=n, x="abc') == "permission.content_usage"


# against a plain reading of the RFC


def plainly(patterns: list[tuple[str, bool]], path: str) -> bool:
    """Each pattern as a regular expression; the longest that matches decides, allow wins a tie."""
    best = (-1, True)
    for pattern, says in patterns:
        expression = "".join(
            ".*" if character == "*" else re.escape(character)
            for character in pattern.removesuffix("$")
        )
        if re.match(f"{expression}{'$' if pattern.endswith('$') else ''}", path):
            best = max(best, (len(pattern), says))
    return best[1]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("ab/*", max_size=6), st.sampled_from(["", "", "$"]), st.booleans()),
        max_size=12,
    ),
    st.lists(st.text("ab/", max_size=10), min_size=1, max_size=8),
)
def test_the_longest_pattern_decides(drawn: list[tuple[str, str, bool]], paths: list[str]) -> None:
    patterns = [(f"/{text}{end}", says) for text, end, says in drawn]
    few, many = (
        PathRules(patterns),
        PathRules([*patterns, *((f"/*zz{number}z", False) for number in range(FEW + 1))]),
    )
    for path in paths:
        expected = plainly(patterns, f"/{path}")
        assert few.allow(path_of(f"https://a.example/{path}")) is expected
        assert many.allow(path_of(f"https://a.example/{path}")) is expected


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2**32))
def test_any_bytes_are_read(noise: bytes, seed: int) -> None:
    """Lines of a real file among anything, cut and joined: no exception, and what is forbidden
    before the noise stays so.
    """
    dice = random.Random(seed)
    lines = [
        b"User-agent: *",
        b"Disallow: /no",
        b"Content-Usage: train-ai=n",
        b"Crawl-delay: 2",
        b"Sitemap: /s",
        b"Allow: /*.gif$",
        noise,
    ]
    dice.shuffle(lines)
    body = dice.choice([b"\n", b"\r\n", b"\r"]).join(lines)
    assert rules(b"User-agent: winnow\nDisallow: /first\n" + body).delay() <= 60
    assert not rules(b"User-agent: winnow\nDisallow: /first\n\n" + body).allows(
        "https://a.example/first"
    )
    for encoding in ("utf-16-le", "utf-16-be", "utf-8"):
        rules(body.decode("latin-1").encode(encoding)[dice.randrange(3) :]).refusal(
            "https://a.example/x?y"
        )
