"""Pages whose tags have attributes without end."""

import time

import pytest

from pipelines.html.attributes import MOST, SMALL, few_attributes
from pipelines.html.page_tree import parse

PADDING = b"<!--" + b"x" * SMALL + b"-->"
FIRST = b'<img src="/a.jpg" alt="first"'


@pytest.mark.parametrize("one", [b" a", b' a=">"', b" a='>'", b"/a", b' a"<', b"\na = b", b' a=""'])
def test_a_tag_keeps_its_first_attributes(one: bytes) -> None:
    html = PADDING + FIRST + one * 300_000 + b'><img src="/b.jpg" alt="second">'
    begin = time.process_time()
    tree, _ = parse(html, "text/html")
    assert time.process_time() - begin < 3
    assert [node.attributes["alt"] for node in tree.css("img")] == ["first", "second"]
    assert (
        few_attributes(html)
        == PADDING + FIRST + one * (MOST - 2) + b'><img src="/b.jpg" alt="second">'
    )


@pytest.mark.parametrize(
    "html",
    [
        FIRST + b" a" * (MOST - 2) + b">",
        b'<a title="' + b"a " * 100_000 + b'">',
        b"<p>" + b"a < b " * 100_000,
        b"<script>if (a<b) " + b'c("<d e>");' * 20_000 + b"</script>",
        b"<a" + b" " * 1_000_000,
        b"<a" + b"/" * 1_000_000,
    ],
)
def test_other_pages_stay_as_they_are(html: bytes) -> None:
    begin = time.process_time()
    assert few_attributes(PADDING + html) == PADDING + html
    assert time.process_time() - begin < 1


def test_small_pages_are_not_looked_at() -> None:
    html = FIRST + b" a" * 2 * MOST + b">"
    assert few_attributes(html) == html
