"""Sitemaps as sites write them: every charset, damage and dialect, and files made to cost time or
memory.
"""

import gzip
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.web.sitemaps import ADDRESSES, read_sitemap

URL = "http://a.example/dir/sitemap.xml"
HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
SIMPLE = "<urlset><url><loc>http://a.example/käse?a=1&b=2&copy=3</loc></url></urlset>"
CHEESE = "http://a.example/k%C3%A4se?a=1&b=2&copy=3"


def pages(text: str | bytes) -> list[str]:
    return list(read_sitemap(text.encode() if isinstance(text, str) else text, URL).pages)


@pytest.mark.parametrize(
    "body",
    [
        SIMPLE.encode(),
        (HEAD + SIMPLE).encode(),
        ("\ufeff" + HEAD + SIMPLE).encode(),
        ("\ufeff" + HEAD + SIMPLE).encode("utf-16-le"),
        ("\ufeff" + HEAD + SIMPLE).encode("utf-16-be"),
        SIMPLE.encode("utf-16-le"),
        (HEAD.replace("UTF-8", "UTF-16") + SIMPLE).encode("utf-16-be"),
        # it was converted, the declaration not
        (HEAD.replace("UTF-8", "UTF-16") + SIMPLE).encode(),
        (HEAD.replace("UTF-8", "ISO-8859-1") + SIMPLE).encode("latin-1"),
        SIMPLE.encode("latin-1"),
        f"<!-- a comment -->\n\n{HEAD}{SIMPLE}".encode(),
        f"Warning: include() failed in /var/www\n{HEAD}{SIMPLE}".encode(),
        (HEAD + SIMPLE.replace("&b", "&amp;b").replace("ä", "&#xE4;")).encode(),
        SIMPLE.replace("loc>", "loc >", 1).replace("urlset", 'urlset xmlns="x"', 1).encode(),
        SIMPLE.removesuffix("</loc></url></urlset>").encode(),
        SIMPLE.replace("<loc>", "<loc>\n<![CDATA[ ").replace("</loc>", " ]]></loc>").encode(),
        gzip.compress(SIMPLE.encode()),
        gzip.compress(SIMPLE.encode())[:-6],
        b"\r\n" + CHEESE.encode() + b"\r\n",
        b"# ours\r" + CHEESE.encode(),
        CHEESE.encode("utf-16"),
    ],
)
def test_however_it_is_written(body: bytes) -> None:
    listed = read_sitemap(body, URL)
    assert (listed.pages, listed.sitemaps, listed.left) == ((CHEESE,), (), {})


def test_prefixes_and_extensions() -> None:
    text = """<sm:urlset xmlns:sm="x"><sm:url><sm:loc>/a</sm:loc><image:image><image:loc>/a.jpg
    </image:loc></image:image><xhtml:link rel="alternate" href="/de"/><loc>/no</loc>
    <video:player_loc>/v</video:player_loc></sm:url></sm:urlset>"""
    assert pages(text) == ["http://a.example/a"]
    plain = "<urlset><url><loc>/a</loc><image:loc>/a.jpg</image:loc><location>/x</location></url>"
    assert pages(plain) == ["http://a.example/a"]


def test_what_is_commented_out_is_not_listed() -> None:
    assert pages("<urlset><!-- <loc>/old</loc> --><loc>/new</loc><!-- <loc>/end</loc>") == [
        "http://a.example/new"
    ]


def test_an_index_and_feeds() -> None:
    index = "<SITEMAPINDEX><SITEMAP>".lower() + "<loc>/s.xml</loc></sitemap></sitemapindex>"
    assert read_sitemap(index.encode(), URL).sitemaps == ("http://a.example/s.xml",)
    rss = "<rss><channel><link>/home</link><item><link>/a</link><atom:link href='/b'/></item></rss>"
    assert pages(rss) == ["http://a.example/a"]
    atom = """<feed><link href="/home"/><entry><link rel="self" href="/no"/><link href='/a?b&amp;c'/>
    <link rel="alternate" type="text/html" href="/d"/></entry></feed>"""  # noqa: E501
    assert pages(atom) == ["http://a.example/a?b&c", "http://a.example/d"]


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html><html><body>not found",
        b"not found",
        b"\x1f\x8bbroken",
        b"\x00\x01\x02",
        b"<",
        b"{}",
    ],
)
def test_what_is_no_sitemap_is_counted(body: bytes) -> None:
    listed = read_sitemap(body, URL)
    assert (listed.pages, listed.sitemaps) == ((), ())
    assert listed.left == {"sitemap_unreadable": 1}


def test_what_is_no_address_is_counted() -> None:
    text = "<urlset><loc>/a</loc><loc>javascript:x()</loc><loc></loc><loc>http://[</loc></urlset>"
    listed = read_sitemap(text.encode(), URL)
    assert (listed.pages, listed.left) == (("http://a.example/a",), {"sitemap_malformed": 3})


def test_no_entity_is_expanded() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    declared = f'<!DOCTYPE u [<!ENTITY l0 "ha"><!ENTITY f SYSTEM "file:///etc/passwd">{laughs}]>'
    entries = "".join(f"<loc>/{name}</loc>" for name in ("&l11;", "&f;", "a&undeclared;", "b"))
    listed = read_sitemap(f"{declared}<urlset>{entries}".encode(), URL)
    assert listed.pages == ("http://a.example/a&undeclared;", "http://a.example/b")
    assert listed.left == {"sitemap_malformed": 2}


def test_more_than_is_read_is_counted() -> None:
    text = "<urlset>" + "".join(f"<loc>/{n}</loc>" for n in range(ADDRESSES + 7))
    listed = read_sitemap(text.encode(), URL)
    assert (len(listed.pages), listed.left) == (ADDRESSES, {"max_sitemap_addresses": 7})


LENGTH = 10_000_000
COSTLY = {
    "elements": b"<urlset>" + b"<loc>/a</loc>" * (LENGTH // 12),
    "open elements": b"<urlset>" + b"<loc>" * (LENGTH // 5),
    "cut elements": b"<urlset>" + b"<loc " * (LENGTH // 5),
    "character data": b"<urlset>" + b"<loc><![CDATA[" * (LENGTH // 14),
    "comments": b"<urlset>" + b"<!--" * (LENGTH // 4),
    "empty comments": b"<urlset>" + b"<!---->" * (LENGTH // 7),
    "entities": b"<!DOCTYPE u [" + b"<!ENTITY a 'b'>" * 4000 + b"]><urlset>" + b"&a;" * 3_000_000,
    "an address": b"<urlset><loc>/" + b"&" * LENGTH,
    "links": b"<feed><entry>" + b"<link href='/a' " * (LENGTH // 15),
    "attributes": b"<feed><entry><link " + b"href = " * (LENGTH // 7),
    "lines": b"\n" * LENGTH,
    "blanks": b" " * LENGTH,
    "gzip that grows": gzip.compress(b"<urlset>" + b" " * 100_000_000, 1),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_sitemap(name: str) -> None:
    """Ten megabytes take three seconds of CPU at most here."""
    begin = time.process_time()
    assert len(read_sitemap(COSTLY[name], URL).pages) <= 1
    assert time.process_time() - begin < 30


MARKS = (
    "<urlset> <sitemapindex> <loc> </loc> /x & &amp; <!-- --> <![CDATA[ ]]> <feed> <entry>"
    " <rss> &x;"
)
PIECES = [
    *MARKS.split(),
    HEAD,
    "<link href='/y'",
    "\0",
    "\ud800",
    "http://[",
    "\n",
    "<!ENTITY x 'y'>",
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([*PIECES, "<sm:urlset>", "<sm:loc>"]), max_size=30),
    st.sampled_from(["utf-8", "utf-16", "latin-1"]),
    st.integers(0, 100),
)
def test_any_sitemap_is_read(pieces: list[str], charset: str, cut: int) -> None:
    text = "".join(pieces)
    errors = "replace" if charset == "latin-1" else "surrogatepass"
    listed = read_sitemap(text.encode(charset, errors)[cut % 3 :], URL)
    assert all(page.isascii() for page in (*listed.pages, *listed.sitemaps))
    assert listed.left.keys() <= Counter(sitemap_unreadable=0, sitemap_malformed=0).keys()
