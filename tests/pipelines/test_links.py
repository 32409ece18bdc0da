"""Where pages lead: links, frames and refreshing, and what is counted instead of followed."""

import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.web.links import links_of_page, refresh_target

PAGE = "http://a.example/dir/p"


def leads_to(
    html: str, headers: tuple[tuple[str, str], ...] = ()
) -> tuple[list[str], dict[str, int]]:
    links = links_of_page(html.encode(), PAGE, headers)
    return [page.removeprefix("http://a.example") for page in links.pages], dict(links.left)


def test_links_and_their_base() -> None:
    html = """<base href="/b/"><a href="one">1</a><a href="one#two">1</a><a href="javascript:x()">4</a>
    <area href="//h.example"><a href="http://[bad">5</a><a>6</a><a href>7</a><a href="#top">8</a>"""  # noqa: E501
    assert leads_to(html) == (["/b/one", "http://h.example/"], {})


def test_links_inside_svg() -> None:
    html = """<svg><a xlink:href="/map"><text>region</text></a><a href="/new" xlink:href="/old"/>
    <a xlink:href><a XLINK:HREF="/shouted"></a></a></svg><a xlink:title="no link">x</a>"""
    assert leads_to(html) == (["/map", "/new", "/shouted"], {})


def test_frames_and_the_next_page() -> None:
    html = """<link rel="canonical" href="/c"><link rel="NEXT prefetch" href="/2"><link rel="stylesheet" href="/s">
    <iframe src="/in"></iframe><iframe srcdoc="<a href=/no>"></iframe><iframe src="about:blank"></iframe>"""  # noqa: E501
    assert leads_to(html) == (["/2", "/in"], {})
    assert leads_to('<frameset><frame src="l.html"><frame src="/r"></frameset>') == (
        ["/dir/l.html", "/r"],
        {},
    )


@pytest.mark.parametrize(
    ("content", "target"),
    [
        ("0; URL=/x", "/x"),
        ("5", ""),
        ("5;", ""),
        ("0;url='/a b'; more", "/a b"),
        ('0;url="/q', "/q"),
        ("0 /plain", "/plain"),
        ("0,/comma", "/comma"),
        ("1.5;/half", "/half"),
        (".;/dot", "/dot"),
        (" 3 ; uRl = /blanks ", "/blanks "),
        ("0; u=/whole", "u=/whole"),
        ("0; 'quoted'rest", "quoted"),
        ("0;url=", ""),
        (";/no", ""),
        ("-1;/no", ""),
        ("0x;/no", ""),
        ("0url=/no", ""),
        ("soon", ""),
        ("", ""),
    ],
)
def test_where_a_page_refreshes_to(content: str, target: str) -> None:
    assert refresh_target(content) == target


def test_refreshing_is_a_link() -> None:
    assert leads_to('<meta http-equiv="Refresh" content="0; URL=/next">') == (["/next"], {})
    assert leads_to('<meta http-equiv=refresh content="0;javascript:x()">') == ([], {})
    assert leads_to('<noscript><meta http-equiv=refresh content="0;/plain"></noscript>') == (
        ["/plain"],
        {},
    )


def test_names_of_images_are_names_of_pages() -> None:
    html = """<a href="/wiki/File:Photo.jpg"><img src="t.jpg"></a><a href="/wiki/Hill.svg">Hill</a>
    <a href="/w/Datei:Film.webm">Film</a><a href="/wiki/Node.js">Node</a><a href="a.png?page=2">a</a>"""  # noqa: E501
    pages = [
        "/wiki/File:Photo.jpg",
        "/wiki/Hill.svg",
        "/w/Datei:Film.webm",
        "/wiki/Node.js",
        "/dir/a.png?page=2",
    ]
    assert leads_to(html) == (pages, {})


def test_files_are_counted_and_not_followed() -> None:
    html = """<a href="/a.ZIP">1</a><a href="/a.zip">2</a><a href="/b.pdf?download">3</a><a href="/big.jpg"><img src=t></a>
    <a href="/p">page</a><a href="/song.mp3">4</a>"""  # noqa: E501
    assert leads_to(html) == (["/p"], {"not_a_page": 5})


def test_what_an_author_wants_not_followed_is_counted() -> None:
    html = """<a rel="nofollow" href="/no">1</a><a rel="ugc NoFollow" href="/both">2</a>
    <a href="/both">3</a><a rel=nofollower href="/c">4</a>"""
    assert leads_to(html) == (["/both", "/c"], {"nofollow": 1})
    assert leads_to(html, (("X-Robots-Tag", "none"),)) == ([], {"nofollow": 3})
    assert leads_to(f"<meta name=robots content=nofollow>{html}") == ([], {"nofollow": 3})


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "<a",
                "<svg>",
                "<frame",
                "<meta",
                " href=",
                " xlink:href=",
                " src=",
                '"',
                ">",
                "</svg>",
                "0;url=",
                "/x",
                "http://[",
                "\ud800",
                " http-equiv=refresh",
                " content=",
                " rel=next",
                "<link",
                "<base",
            ]
        ),
        max_size=30,
    )
)
def test_any_page_is_read(pieces: list[str]) -> None:
    html = "".join(pieces).encode("utf-8", "surrogatepass")
    links = links_of_page(html, PAGE)
    assert all(page.startswith(("http://", "https://")) and page.isascii() for page in links.pages)
    assert links.left.keys() <= Counter(nofollow=0, not_a_page=0).keys()


@pytest.mark.parametrize(
    "piece",
    [
        "<a href=/x.jpg>",
        "<a href=/#>x</a>",
        "<meta http-equiv=refresh content=0;/#>",
        "<a href='" + " " * 1000 + "'>",
        "<svg><a xlink:href=#>",
    ],
)
def test_a_page_of_links_costs_no_more_than_its_length(piece: str) -> None:
    begin = time.process_time()
    html = "".join(piece.replace("#", str(number)) for number in range(1_000_000 // len(piece)))
    links_of_page(html.encode(), PAGE)
    assert time.process_time() - begin < 20
