"""Images that scripts and shadow roots bring, and what stands in data attributes beside them."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.html.images_of_page import Picture, read_page

PLACEHOLDER = "src='data:image/gif;base64,R0lGODlhAQABAAAAACw='"


def images(html: str) -> tuple[Picture, ...]:
    return read_page(html.encode(), "http://a.example/", "text/html; charset=utf-8").pictures


def urls(html: str) -> list[str]:
    return [picture.url.removeprefix("http://a.example") for picture in images(html)]


# declarative shadow roots


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<x-a><template shadowrootmode=open><img src=/in></template></x-a>", ["/in"]),
        ("<x-a><template shadowrootmode=CLOSED><img src=/in></template></x-a>", ["/in"]),
        ("<div><p>light<template shadowrootmode=open><img src=/in></template></div>", ["/in"]),
        ("<x-a><template><img src=/inert></template></x-a>", []),
        ("<x-a><template shadowrootmode><img src=/inert></template></x-a>", []),
        ("<x-a><template shadowrootmode=shut><img src=/inert></template></x-a>", []),
        ("<a><template shadowrootmode=open><img src=/inert></template></a>", []),
        ("<head><template shadowrootmode=open><img src=/inert></template></head>", []),
        ("<table><template shadowrootmode=open><tr><td><img src=/inert></template></table>", []),
        (
            (
                "<x-a><template shadowrootmode=open><img src=/first></template>"
                "<template shadowrootmode=open><img src=/second></template></x-a>"
            ),
            ["/first"],
        ),
        (
            (
                "<x-a><template shadowrootmode=open><x-b><template shadowrootmode=open><img"
                " src=/deep></template></x-b><template><img src=/inert></template></template><img"
                " src=/slot></x-a>"
            ),
            ["/deep", "/slot"],
        ),
        (
            (
                "<template><x-a><template shadowrootmode=open><img"
                " src=/no></template></x-a></template>"
            ),
            [],
        ),
        ("<!-- <x-a><template shadowrootmode=open><img src=/no></template></x-a> -->", []),
    ],
)
def test_declarative_shadow_roots(html: str, expected: list[str]) -> None:
    assert urls(html) == expected


def test_an_image_of_a_shadow_root_has_the_texts_around_it() -> None:
    html = """<main><figure><span><template shadowrootmode=open><img src=/in alt=seen></template></span>
    <figcaption>A caption</figcaption></figure></main>"""  # noqa: E501
    (image,) = images(html)
    assert (image.texts, image.region) == ((("alt", "seen"), ("figcaption", "A caption")), "main")


# widths that scripts put in


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("data-src='/p_{width}x.jpg' data-widths='[180, 360, 700, 1000]'", "/p_700x.jpg"),
        ("data-src='/p_{width}x.jpg' data-widths='[100, 200]'", "/p_200x.jpg"),
        ("data-src='/p_{width}x.jpg' data-widths='none'", "/p_540x.jpg"),
        ("data-src='/p_{width}x.jpg'", "/p_540x.jpg"),
        ("data-src='/p_%7Bwidth%7Dx.jpg' data-widths='[600]'", "/p_600x.jpg"),
        ("data-srcset='/p_{width}x.jpg' data-widths='[600]'", "/p_600x.jpg"),
        ("data-src='/{width}/{height}/p' data-widths='[600]' data-aspectratio=1.5", "/600/400/p"),
        ("data-src='/{width}x{height}' data-widths='[600]' data-aspectratio='2/1'", "/600x300"),
        ("data-src='/{width}x{height}' data-widths='[600]' width=3 height=4", "/600x800"),
        ("data-src='/{width}x{height}' data-widths='[600]' data-aspectratio=0", "/600x600"),
    ],
)
def test_widths_that_lazysizes_puts_in(attributes: str, expected: str) -> None:
    assert urls(f"<img class=lazyload {PLACEHOLDER} {attributes} alt=x>") == [expected]


def test_widths_that_no_page_names_are_no_alternatives() -> None:
    (named,) = images(f"<img {PLACEHOLDER} data-src='/{{width}}' data-widths='[300, 600]' alt=x>")
    (own,) = images(f"<img {PLACEHOLDER} data-src='/{{width}}' alt=x>")
    assert named.alternatives == ("http://a.example/300",)
    assert own.alternatives == ()


# data attributes that are no addresses


@pytest.mark.parametrize(
    "attribute",
    [
        "data-source='picture alliance / dpa'",
        "data-source='dpa/Reuters'",
        "data-source='Foto: A. Meier/imago.images'",
        "data-original='Getty Images / AFP'",
        "data-url='/article/1'",
        "data-image='gallery/12'",
        "data-copyright='© dpa/archive.jpg'",
        "data-caption='IMG_2041.jpg'",
        "data-photo-credit='/agency'",
        "data-lazy='1.5'",
    ],
)
def test_what_is_said_of_an_image_never_beats_its_address(attribute: str) -> None:
    (image,) = images(f"<img src=/good {attribute} alt=x>")
    assert (image.url, image.alternatives) == ("http://a.example/good", ())
    assert urls(f"<img src='' {attribute} alt=x>")[1:] == []


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("data-source='picture alliance / dpa' data-copyright='a/b.jpg'", []),
        ("data-caption='my.jpg'", []),
        ("data-href='/image-3.35.191'", ["/image-3.35.191"]),
        ("data-href='/image-3.35.191' data-id=7", ["/image-3.35.191"]),
        ("data-href='/image-3.35.191' data-other='/image-3'", []),
        ("data-href='/article.html'", []),
        ("data-href='/film.mp4'", []),
    ],
)
def test_an_image_whose_src_is_empty(attributes: str, expected: list[str]) -> None:
    assert urls(f"<img src='' {attributes} alt=x>") == expected


def test_lazy_attributes_still_beat_a_small_src() -> None:
    beats = ["data-src=/large", "data-original='//cdn.example/large'", "data-source=/large.jpg"]
    for attribute in beats:
        assert urls(f"<img src=/small.jpg {attribute} alt=x>")[0].endswith(("/large", "large.jpg"))
    assert urls(f"<img {PLACEHOLDER} data-image='gallery/12' alt=x>") == ["/gallery/12"]


# names that the themes of sites give


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("src=/s.jpg data-pin-media=/pin.jpg", ["/s.jpg"]),
        ("src='data:,' data-pin-media=/pin.jpg", ["/pin.jpg"]),
        ("src='data:,' pm-lazy-src=/p.jpg", ["/p.jpg"]),
        ("src='data:,' defer-src='/image?id=7'", ["/image?id=7"]),
        ("lazy-source=/p.jpg?w=660", ["/p.jpg?w=660"]),
        ("src=/dot/placeholder.png data-lg=/logo.svg", ["/logo.svg"]),
        ("src='data:,' data-zeen-srcset='/s.jpg 370w, /m.jpg 770w'", ["/m.jpg"]),
        (
            "src='data:,' data-dark-srcset='/dark.jpg 2x' data-some-srcset='/day.jpg 2x'",
            ["/day.jpg"],
        ),
        ("src='data:,' data-src=/feed/placeholder.png", ["/feed/placeholder.png"]),
        ('data-ofl=\'{"offset":2,"srcset":"/p?w=375 375w,/p?w=630 630w"}\'', ["/p?w=630"]),
        ('data-ofl=\'{"src":"/p?w=375"}\'', ["/p?w=375"]),
        ("src=/cake_1x1.jpg data-src=blank.gif", ["/cake_1x1.jpg"]),
    ],
)
def test_where_themes_keep_the_image(attributes: str, expected: list[str]) -> None:
    assert urls(f"<img {attributes} alt=x>") == expected


def test_a_source_that_comes_later() -> None:
    source = "<source srcset='data:,' data-lazyimage-srcset='/a 300w, /b 600w'>"
    assert urls(f"<picture>{source}<img src=/c.jpg></picture>") == ["/b"]


def test_one_address_that_keeps_the_place_of_three() -> None:
    three = "".join(
        f"<img src=/soon.png data-zeen-src=/{number}.jpg alt={number}>" for number in range(3)
    )
    assert urls(three) == ["/0.jpg", "/1.jpg", "/2.jpg"]
    assert urls(three + "<img src=/soon.png>") == ["/0.jpg", "/1.jpg", "/2.jpg", "/soon.png"]
    two = "".join(f"<img src=/icon.png data-zeen-src=/{number}.jpg>" for number in (1, 2, 2))
    assert urls(two) == ["/icon.png"] * 3
    other = "".join(f"<img src=/cart.png data-image=product/{number}>" for number in range(3))
    assert urls(other) == ["/cart.png"] * 3


def test_an_inline_image_however_long() -> None:
    inline = "data:image/png;base64," + "A" * 20_000
    assert urls(f"<img src='{inline}' alt=x>") == [inline[:8192]]


# what stands in a noscript


@pytest.mark.parametrize("style", ["height:1px;width:1px", "display: none", "Visibility:HIDDEN"])
def test_a_dot_by_its_style(style: str) -> None:
    html = (
        f"<img src=loading.gif alt=loading><noscript><img src=b.gif?v=1 style='{style}'"
        " alt=''></noscript>"
    )
    assert [(image.url[-7:], image.texts[0][1]) for image in images(html)] == [
        ("ing.gif", "loading"),
        ("gif?v=1", ""),
    ]


def test_a_chart_far_from_a_photograph_has_no_words_of_it() -> None:
    html = (
        f"<img {PLACEHOLDER} alt='A couple'><p>words</p><noscript><img src=/chart.png"
        " alt=''></noscript>"
    )
    assert [dict(image.texts)["alt"] for image in images(html)] == ["A couple", ""]


def test_a_copy_brings_its_words() -> None:
    html = (
        "<a href=/x><img src='data:,'> More<noscript><img src=/dog.jpg alt='A dog'></noscript></a>"
    )
    assert [image.texts[0] for image in images(html)] == [("alt", "A dog")]


@pytest.mark.parametrize(
    "pixel",
    [
        "<img src='https://count.example/tr?id=1'>",
        "<img src='https://count.example/tr?id=1' alt=''>",
        "<img src='https://count.example/tr.gif' width=1 height=1 alt=''>",
        "<img src='https://count.example/tr?id=1' style='display:none' alt='Counter'>",
    ],
)
@pytest.mark.parametrize("between", ["", "<p>words</p>"])
def test_a_dot_that_counts_visits_has_no_words_of_others(pixel: str, between: str) -> None:
    html = f"<img {PLACEHOLDER} alt='A dog on a beach'>{between}<noscript>{pixel}</noscript>"
    counted = [picture for picture in images(html) if "count.example" in picture.url]
    assert [dict(picture.texts).get("alt") for picture in counted] in ([""], ["Counter"])


@pytest.mark.parametrize(
    "copy", ["<img src=/dog.jpg>", "<img src=/dog alt='A dog'>", "<img src=/dog.jpg alt='A dog'>"]
)
def test_a_copy_gives_its_address_to_what_stands_in(copy: str) -> None:
    between = ("", "<p>words</p>") if "alt" in copy else ("",)
    for words in between:
        (image,) = images(f"<img {PLACEHOLDER} alt='A dog'>{words}<noscript>{copy}</noscript>")
        assert image.url.startswith("http://a.example/dog")
        assert dict(image.texts)["alt"] == "A dog"


# any page

MARKS = (
    "<img <x-a> </x-a> <template> </template> <noscript> </noscript> <picture> <source </picture> >"
    " src='' src=/a srcset='/a,,b' data-src='/{width}' data-widths=[1 alt=x <figure> <figcaption>"
    " <template/shadowrootmode=open> <base/href=//[> data-href=/x & <!-- \0 \ud800 é"
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(MARKS.split(" ")), max_size=40))
def test_any_page_is_read(pieces: list[str]) -> None:
    page = read_page(" ".join(pieces).encode("utf-8", "surrogatepass"), "http://a.example/")
    for picture in page.pictures:
        assert picture.url
        assert picture.url not in picture.alternatives


SIZE = 2_000_000
COSTLY = {
    "shadow roots": "<x-a><template shadowrootmode=open>",
    "hosts": "<x-a><template shadowrootmode=open><img src=/a></template></x-a>",
    "templates": "<template>",
    "noscripts": "<noscript><img src=/a>",
    "figures": "<figure><figcaption>x",
    "captions": "<figcaption>",
    "links": "<a href=/x><img src=/a>",
    "entities": "&NotEqualTilde;&#x1F600;",
    "open comments": "<!--",
    "open tags": "<img src='",
    "sources": "<picture><source srcset='/a 1w'>",
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_page(name: str) -> None:
    """Two megabytes of one thing, which take two seconds of CPU at most here."""
    begin = time.process_time()
    read_page((COSTLY[name] * (SIZE // len(COSTLY[name]))).encode(), "http://a.example/")
    assert time.process_time() - begin < 30


ATTRIBUTES = {
    "srcset": "srcset='" + "/a 1w," * 300_000 + "'",
    "srcset of commas": "srcset='" + "," * 2_000_000 + "'",
    "srcset of parentheses": "srcset='/a " + "(" * 2_000_000 + "'",
    "srcset of blanks": "srcset='/a" + " " * 2_000_000 + "1q'",
    "data": "src='' data-x='" + "https://a" * 200_000 + "'",
    "widths": "data-src='/{width}' data-widths='" + "1," * 1_000_000 + "'",
    "braces": "data-src='" + "{width}" * 300_000 + "'",
    "sizes": "sizes='" + "(" * 2_000_000 + "' srcset='/a 1w, /b 2w'",
    "alt": "src=/a alt='" + "x " * 1_000_000 + "'",
    "names": " ".join(f"data-a{number}='/b{number}'" for number in range(100_000)),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_costly_image(name: str) -> None:
    begin = time.process_time()
    for html in (
        f"<img {ATTRIBUTES[name]}>",
        f"<picture><source {ATTRIBUTES[name]}><img></picture>",
    ):
        read_page(html.encode(), "http://a.example/")
    assert time.process_time() - begin < 30


def test_a_costly_media_query() -> None:
    begin = time.process_time()
    for media in (
        "(" * 1_000_000,
        "not (" * 200_000,
        "/*" * 500_000,
        "(a" + "<" * 1_000_000,
        "1" * 999_999,
    ):
        html = f"<picture><source srcset=/a media='{media}'><img src=/b></picture>"
        assert urls(html) in (["/b"], ["/a"])
    assert time.process_time() - begin < 30
