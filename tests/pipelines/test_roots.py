"""Pages that cost the square of their size by tags of the document itself, and tags of one word."""

import resource
import time

import pytest

from pipelines.html.attributes import few_attributes
from pipelines.html.images_of_page import read_page
from pipelines.html.page_tree import parse
from pipelines.html.root_tags import MOST, SMALL, few_roots

SIZE = 2_000_000


def page(begin: bytes, one: bytes) -> bytes:
    return begin + one * (SIZE // len(one)) + b'<img src="/last.jpg">'


COSTLY = {
    "comments behind the body": page(b"<body></body>", b"\n<!--x-->"),
    "references behind the body": page(b"<body></body>", b"&#10;</ x>"),
    "titles behind the head": page(b"<head></head>", b"\n \n<title>x</title></head>"),
    "the document again": (
        b"".join(b"<Html a%d>" % number for number in range(150_000)) + b"<img src=/last.jpg>"
    ),
    "the body again": (
        b"".join(b"<body a%d>" % number for number in range(150_000)) + b"<img src=/last.jpg>"
    ),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_page_that_copies_or_gathers_without_end(name: str) -> None:
    """Each took minutes, or gigabytes: now a fifth of a second and 70 MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    (picture,) = read_page(COSTLY[name], "http://a.example/").pictures
    assert picture.url == "http://a.example/last.jpg"
    assert time.process_time() - begin < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024**2  # KiB


def test_other_pages_stay_as_they_are() -> None:
    html = (
        b"<html lang=en><head></head><body>"
        + b"<p>words <b>and</b>\n<!-- x -->" * 5000
        + b"</body></html>"
    )
    assert len(html) > SMALL
    assert few_roots(html) == html


def test_a_document_is_opened_a_hundred_times() -> None:
    padding = b"<p>words" * SMALL
    assert (
        few_roots(padding + b"<body a>" * (MOST + 50) + b"<bodyguard>")
        == padding + b"<body a>" * MOST + b"<bodyguard>"
    )


@pytest.mark.parametrize("one", [b"<a", b"<a ", b"<a/x=/", b'<a b="'])
@pytest.mark.parametrize("size", [1_000_000, 4_000_000])
def test_tags_inside_tags(one: bytes, size: int) -> None:
    begin = time.process_time()
    few_attributes(one * (size // len(one)))
    assert time.process_time() - begin < 10


def test_limits_stand_before_pages_in_utf_16() -> None:
    html = (
        "<img src=/a.jpg "
        + " ".join(f"a{number}" for number in range(60_000))
        + "><img src='/b.jpg' alt='Grüße'>"
    )
    begin = time.process_time()
    tree, charset = parse(html.encode("utf-16"), "text/html")
    assert time.process_time() - begin < 3
    assert charset == "utf-16le"
    assert [len(node.attributes) for node in tree.css("img")] == [1000, 2]
    first, second = read_page(html.encode("utf-16"), "http://a.example/").pictures
    assert (first.url, second.url, second.texts) == (
        "http://a.example/a.jpg",
        "http://a.example/b.jpg",
        (("alt", "Grüße"),),
    )
