"""What a page shows, read from literal HTML."""

import pytest

from pipelines.html.charset import charset_of, decoded
from pipelines.html.images_of_page import Picture, read_page
from pipelines.html.relative_urls import absolute
from pipelines.html.srcset import parse_srcset
from pipelines.permission.outcomes import is_placeholder

URL = "http://a.example/dir/page.html"


def pictures(body: str, **options: object) -> tuple[Picture, ...]:
    return read_page(body.encode(), URL, "text/html; charset=utf-8", **options).pictures  # type: ignore[arg-type]


def short(body: str) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (picture.url.replace("http://a.example", ""), list(picture.texts))
        for picture in pictures(body)
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('<img src="a.jpg" alt="A dog &amp; a cat">', [("/dir/a.jpg", [("alt", "A dog & a cat")])]),
        ('<IMG  SRC=/img/1.jpg ALT="x" width=224>', [("/img/1.jpg", [("alt", "x")])]),
        (
            "<img src=/a.jpg alt='<script>alert(1)</script>'>",
            [("/a.jpg", [("alt", "<script>alert(1)</script>")])],
        ),
        (
            '<img src="/a.jpg" alt=\'=HYPERLINK("http://evil")\'>',
            [("/a.jpg", [("alt", '=HYPERLINK("http://evil")')])],
        ),
        (
            '<img src="/static/blank.gif" data-src="/b.jpg" class="lazyload" alt="x">',
            [("/b.jpg", [("alt", "x")])],
        ),
        (
            '<img src="data:image/gif;base64,R0lGOD" data-lazy-src="/b.jpg" alt="x">',
            [("/b.jpg", [("alt", "x")])],
        ),
        ('<img src="/small.jpg" data-original="/b.jpg" alt="x">', [("/b.jpg", [("alt", "x")])]),
        ('<img src="/b.jpg" data-src="{{ image }}" alt="x">', [("/b.jpg", [("alt", "x")])]),
        (
            '<img data-srcset="/s.jpg 300w, /m.jpg 700w, /l.jpg 1400w" src="/blank.gif" alt="x">',
            [("/m.jpg", [("alt", "x")])],
        ),
        (
            '<img srcset="/s.jpg 300w, /m.jpg 400w" src="/x.jpg" alt="x">',
            [("/m.jpg", [("alt", "x")])],
        ),
        ('<img srcset="/1.jpg 1x, /2.jpg 2x" src="/1.jpg" alt="x">', [("/1.jpg", [("alt", "x")])]),
        (
            (
                '<picture><source srcset="/p.jpg 1x" type="image/jpeg"><img src="/p.jpg"'
                ' alt="x"></picture>'
            ),
            [("/p.jpg", [("alt", "x")])],
        ),
        (
            (
                '<picture><source srcset="/p.jxl 900w" type="image/jxl"><img src="/p.jpg"'
                ' alt="x"></picture>'
            ),
            [("/p.jpg", [("alt", "x")])],
        ),
        (
            (
                '<picture><source srcset="/p-480.webp 480w, /p-800.webp 800w"'
                ' type="image/webp"><img src="/p.jpg" alt="x"></picture>'
            ),
            [("/p-800.webp", [("alt", "x")])],
        ),
        ('<img src="a.jpg" title="T">', [("/dir/a.jpg", [("title", "T")])]),
        ('<img src="a.jpg" alt="" title="T">', [("/dir/a.jpg", [("alt", ""), ("title", "T")])]),
        ('<img src="a.jpg" alt>', [("/dir/a.jpg", [("alt", "")])]),
        ('<img src="a.jpg">', [("/dir/a.jpg", [("alt", "")])]),
        ('<img alt="no address">', []),
        (
            (
                '<figure><img src="a.jpg" alt="x"><figcaption>Two <b>dogs</b>\n'
                " play</figcaption></figure>"
            ),
            [("/dir/a.jpg", [("alt", "x"), ("figcaption", "Two dogs play")])],
        ),
        (
            '<a href="/p"><img src="a.jpg" aria-label="L">Read <i>this</i></a>',
            [("/dir/a.jpg", [("aria_label", "L"), ("link", "Read this")])],
        ),
        (
            (
                '<script>write("<img src=/no.jpg>")</script><!-- <img src=/no.jpg> --><img'
                " src=/yes.jpg alt=x>"
            ),
            [("/yes.jpg", [("alt", "x")])],
        ),
        ("<svg><image href=/no.jpg></image></svg><textarea><img src=/no.jpg></textarea>", []),
        ('<amp-img src="/a.jpg" alt="x"></amp-img>', [("/a.jpg", [("alt", "x")])]),
    ],
)
def test_address_and_texts(body: str, expected: list[tuple[str, list[tuple[str, str]]]]) -> None:
    assert short(body) == expected


def test_noscript_copies_are_not_doubled() -> None:
    lazy = (
        '<img src="/blank.gif" data-src="/a.jpg" alt="x"><noscript><img src="/a.jpg"'
        ' alt="x"></noscript>'
    )
    assert short(lazy) == [("/a.jpg", [("alt", "x")])]
    early = (
        '<body><noscript><img src="/a.jpg" alt="x"></noscript><img src="/blank.gif"'
        ' data-src="/a.jpg" alt="x">'
    )
    assert short(early) == [("/a.jpg", [("alt", "x")])]


def test_noscript_fills_an_empty_stand_in() -> None:
    assert short('<img src="/blank.gif" alt="x"><noscript><img src="/a.jpg"></noscript>') == [
        ("/a.jpg", [("alt", "x")])
    ]
    assert short('<img src="/blank.gif"><noscript><img src="/a.jpg" alt="y"></noscript>') == [
        ("/a.jpg", [("alt", "y")])
    ]


def test_noscript_alone_counts() -> None:
    assert short('<noscript><img src="/a.jpg" alt="x"></noscript>') == [("/a.jpg", [("alt", "x")])]


def test_a_stand_in_without_an_image_stays_a_candidate() -> None:
    assert [
        picture.url for picture in pictures('<img src="data:image/gif;base64,R0lGOD" alt="x">')
    ] == ["data:image/gif;base64,R0lGOD"]
    assert [picture.url for picture in pictures('<img src="/blank.gif" alt="x">')] == [
        "http://a.example/blank.gif"
    ]


def test_other_addresses_are_kept_as_alternatives() -> None:
    (picture,) = pictures(
        '<img srcset="/s.jpg 300w, /l.jpg 1400w" src="/x.jpg" data-src="/blank.gif" alt="x">'
    )
    assert picture.url == "http://a.example/l.jpg"
    assert picture.alternatives == ("http://a.example/s.jpg", "http://a.example/x.jpg")


def test_the_target_width_decides() -> None:
    body = '<img srcset="/s.jpg 300w, /m.jpg 600w, /l.jpg 1200w" alt="x">'
    assert [
        pictures(body, target_width=width)[0].url[-5] for width in (200, 300, 512, 601, 5000)
    ] == ["s", "s", "m", "l", "l"]


def test_size_context_and_language() -> None:
    page = read_page(
        b'<html lang="de-CH"><body><p>Davor <script>x()</script>steht.</p><img src=a.jpg'
        b' width="640px" height=50%><p>Danach.</p>',
        URL,
        "text/html",
    )
    (picture,) = page.pictures
    assert (picture.width, picture.height, picture.context, page.language) == (
        640,
        None,
        "Davor steht. Danach.",
        "de-CH",
    )


def test_context_is_bounded() -> None:
    (picture,) = pictures(f"<p>{'a ' * 5000}</p><img src=a.jpg><p>{'b ' * 5000}</p>")
    assert len(picture.context) <= 401
    assert picture.context.startswith("a a")
    assert picture.context.endswith("b b")


def test_base_element() -> None:
    assert short('<base href="/other/"><img src="a.jpg" alt="x">') == [
        ("/other/a.jpg", [("alt", "x")])
    ]
    assert (
        pictures('<base href="https://cdn.example/x/"><img src="a.jpg" alt="">')[0].url
        == "https://cdn.example/x/a.jpg"
    )


@pytest.mark.parametrize(
    ("html", "content_type", "alt"),
    [
        ("<img src=a alt='Grüße'>".encode(), "text/html", "Grüße"),
        ("<img src=a alt='Grüße'>".encode("latin-1"), "text/html; charset=ISO-8859-1", "Grüße"),
        (
            "<meta charset=windows-1251><img src=a alt='Привет'>".encode("cp1251"),
            "text/html",
            "Привет",
        ),
        (
            "<meta http-equiv=content-type content='a; charset=shift_jis'><img src=a alt='犬'>".encode(  # noqa: E501
                "shift_jis"
            ),
            "text/html",
            "犬",
        ),
        ("\ufeff<img src=a alt='犬'>".encode("utf-16-le"), "text/html", "犬"),
        ("<img src=a alt='Grüße'>".encode("latin-1"), "", "Grüße"),
        (b"<img src=a alt='bad \xff byte'>", "text/html; charset=utf-8", "bad \ufffd byte"),
        ("<img src=a alt='Grüße'>".encode(), "text/html; charset=no-such", "Grüße"),
    ],
)
def test_charsets(html: bytes, content_type: str, alt: str) -> None:
    assert read_page(html, URL, content_type).pictures[0].texts == (("alt", alt),)


def test_meta_permission() -> None:
    assert (
        read_page(
            b'<meta name="robots" content="noindex, max-image-preview:large"><img src=a>', URL
        ).permission
        == "permission.noindex"
    )
    assert (
        read_page(b'<meta name="winnow" content="noimageai"><img src=a>', URL).permission
        == "permission.noimageai"
    )
    assert (
        read_page(b'<meta name="tdm-reservation" content="1"><img src=a>', URL).permission
        == "permission.tdm"
    )
    assert (
        read_page(b'<meta name="robots" content="index,follow"><img src=a>', URL).permission is None
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("a.jpg", [("a.jpg", None, 1.0)]),
        ("a.jpg 300w, b.jpg 600w", [("a.jpg", 300, 1.0), ("b.jpg", 600, 1.0)]),
        ("a.jpg 1x,b.jpg 1.5x", [("a.jpg", None, 1.0), ("b.jpg", None, 1.5)]),
        ("a.jpg, b.jpg 2x", [("a.jpg", None, 1.0), ("b.jpg", None, 2.0)]),
        (
            "https://c.example/w_300,h_2/a.jpg 300w, https://c.example/w_600,h_2/a.jpg 600w",
            [
                ("https://c.example/w_300,h_2/a.jpg", 300, 1.0),
                ("https://c.example/w_600,h_2/a.jpg", 600, 1.0),
            ],
        ),
        ("  ,, a.jpg 300w 200h ,", [("a.jpg", 300, 1.0)]),
        (
            "data:image/png;base64,AA== 1x, b.jpg 2x",
            [("data:image/png;base64,AA==", None, 1.0), ("b.jpg", None, 2.0)],
        ),
        ("a.jpg (max-width: 1px, 2px) 300w, b.jpg", [("b.jpg", None, 1.0)]),
        ("a.jpg 2x 300w, b.jpg -1x, c.jpg 0w, d.jpg 10h, e.jpg 1e1x", [("e.jpg", None, 10.0)]),
        ("a.jpg huge", []),
    ],
)
def test_srcset(value: str, expected: list[tuple[str, float | None, float]]) -> None:
    assert [
        (source.url, source.width, source.density) for source in parse_srcset(value)
    ] == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("a b.jpg", "http://a.example/dir/a%20b.jpg"),
        ("../x.jpg", "http://a.example/x.jpg"),
        ("//b.example/x.jpg", "http://b.example/x.jpg"),
        ("?x=1#frag", "http://a.example/dir/page.html?x=1"),
        ("/gr\u00fcn.jpg", "http://a.example/gr%C3%BCn.jpg"),
        ("\n /x\n.jpg ", "http://a.example/x.jpg"),
        ("http://[bad/x.jpg", "http://[bad/x.jpg"),
        ("#top", ""),
        ("", ""),
    ],
)
def test_joining(url: str, expected: str) -> None:
    assert absolute(URL, url) == expected


def test_hostile_pages_end() -> None:
    deep = b"<div>" * 20_000 + b"<img src=a alt=x>" + b"</div>" * 20_000
    assert len(read_page(deep, URL).pictures) == 1
    assert len(read_page(b"<img src=a alt=x>" * 20_000, URL).pictures) == 10_000
    assert read_page(b"", URL).pictures == ()
    assert read_page(bytes(range(256)) * 50, URL).pictures == ()
    # 60,000 deep: without a bound nine seconds
    wrongly_closed = b"<div></x>" * 60_000 + b"<img src=a alt=x>"
    assert len(read_page(wrongly_closed, URL).pictures) == 1
    assert len(read_page(b'<img data-x="' + b"http://" * 100_000 + b'">', URL).pictures) == 0
    (picture,) = read_page(b'<img src=a alt="' + b"x " * 500_000 + b'">', URL).pictures
    assert len(picture.texts[0][1]) == 8192
    nested = read_page(b"<figure><figcaption><div><img src=a>x" * 5000, URL).pictures
    assert len(nested) == 5000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('<img data-anything="/real.jpg" alt=x>', ["/real.jpg"]),
        ('<img src=/blank.gif data-anything="/real.jpg?w=9" alt=x>', ["/real.jpg?w=9"]),
        ('<img src="data:," data-photo-url="//cdn.example/42" alt=x>', ["http://cdn.example/42"]),
        ('<img data-href="/product/1" data-id="42" data-json=\'{"a": 1}\' alt=x>', []),
        ('<img data-sizes-set="/s.jpg 300w, /m.jpg 600w" alt=x>', ["/m.jpg"]),
        (
            """<img data-dynamic='{"https:\\/\\/m.example\\/1.jpg":[500,500]}' alt=x>""",
            ["https://m.example/1.jpg"],
        ),
        ('<img src="/photo.jpg" data-id="7" data-large="/large.jpg" alt=x>', ["/photo.jpg"]),
        ('<img src="/photo.jpg" data-placeholder="/p.jpg" alt=x>', ["/photo.jpg"]),
        ('<img data-placeholder="/p.jpg" alt=x>', []),
        ("<img src=/t.gif file=/real.jpg alt=x>", ["/real.jpg"]),
        ('<img src=/tiny.jpg srcset="/tiny.jpg 20w" data-src=/real.jpg alt=x>', ["/real.jpg"]),
        ('<img srcset="/s.jpg 300w, /m.jpg 600w" data-src=/unsized.jpg alt=x>', ["/m.jpg"]),
        ('<img srcset="/lqip.jpg 20w" data-srcset="/s.jpg 300w, /m.jpg 600w" alt=x>', ["/m.jpg"]),
        (
            (
                '<picture><source data-srcset="/l.webp" media="(min-width: 400px)"><img'
                " src=/blank.gif alt=x></picture>"
            ),
            ["/l.webp"],
        ),
        (
            (
                '<picture><source srcset="/wide.jpg" media="(min-width: 900px)"><img src=/small.jpg'
                " alt=x></picture>"
            ),
            ["/small.jpg"],
        ),
        (
            (
                '<picture><source srcset="/late.jpg"><img src=/a.jpg alt=x><source'
                ' srcset="/after.jpg"></picture>'
            ),
            ["/late.jpg"],
        ),
        ("<image src=/old.jpg alt=x>", ["/old.jpg"]),
        (
            (
                "<template><img src=/no.jpg></template><iframe><img"
                " src=/no.jpg></iframe><noframes><img src=/no.jpg></noframes>"
            ),
            [],
        ),
        ("<svg><foreignObject><img src=/in-svg.jpg></foreignObject></svg>", ["/in-svg.jpg"]),
        ("<p><noscript><img src=/a.jpg alt=x></noscript><img src=data:, alt=x>", ["/a.jpg"]),
        ("<img class=lazy alt=x><noscript><img src=/a.jpg></noscript>", ["/a.jpg"]),
        (
            "<img data-src=/a-300.jpg alt=dog><noscript><img src=/a-900.jpg alt=dog></noscript>",
            ["/a-300.jpg"],
        ),
        (
            "<img src=/hero.jpg alt=''><noscript><img width=1 height=1 src=/count?id=1></noscript>",
            ["/hero.jpg", "/count?id=1"],
        ),
        (
            "<amp-img src=/a.jpg alt=x><noscript><img src=/b/a.jpg alt=x></noscript></amp-img>",
            ["/a.jpg"],
        ),
    ],
)
def test_which_address(body: str, expected: list[str]) -> None:
    assert [picture.url.removeprefix("http://a.example") for picture in pictures(body)] == expected


@pytest.mark.parametrize(
    ("body", "region"),
    [
        ("<nav><ul><li><img src=a></ul></nav>", "nav"),
        ("<header><img src=a></header>", "header"),
        ("<main><article><header><p><img src=a></p></header></article></main>", "article"),
        ("<main><aside><img src=a></aside></main>", "aside"),
        ("<footer><div><img src=a></div></footer>", "footer"),
        ("<div><img src=a></div>", None),
    ],
)
def test_the_landmark_of_an_image(body: str, region: str | None) -> None:
    assert pictures(body)[0].region == region


def test_captions_read_as_they_look() -> None:
    body = (
        "<figure><img"
        " src=a><figcaption><p>One.</p><p>Two<sup>2</sup>,<br>three<script>x()</script></p></figcaption></figure>"  # noqa: E501
    )
    assert pictures(body)[0].texts == (("figcaption", "One. Two2, three"),)
    gallery = "<figure><figure><img src=a alt=1></figure><figcaption>All</figcaption></figure>"
    assert pictures(gallery)[0].texts == (("alt", "1"),)


@pytest.mark.parametrize(
    ("html", "content_type", "name"),
    [
        (b"\xef\xbb\xbfx", "text/html; charset=koi8-r", "utf-8"),
        (b"x", 'text/html; charset="ISO-8859-1"', "windows-1252"),
        (b"x", "text/html; Charset=GB2312", "gbk"),
        (b"<meta charset=utf-16>\xe9", "", "utf-8"),
        (b"<meta charset=x-user-defined>\xe9", "", "windows-1252"),
        (b"<!-- <meta charset=koi8-r> --><meta charset=big5>\xe9", "", "big5"),
        (
            (
                b"<a title='<meta charset=koi8-r>'><META\nhttp-equiv='Content-Type'"
                b" content='text/html;charset=euc-kr'>\xe9"
            ),
            "",
            "euc-kr",
        ),
        (b"<meta name=x content='text/html; charset=koi8-r'>\xe9", "", "windows-1252"),
        (b"<?xml version='1.0' encoding='shift_jis'?>\xe9", "", "shift_jis"),
        (b" " * 1020 + b"<meta charset=koi8-r>\xe9", "", "windows-1252"),
        ("Grüße".encode(), "", "utf-8"),
        ("Grüße, cut in ".encode() + b"\xc3", "", "utf-8"),
        (b"x", "text/html; charset=iso-2022-kr", "replacement"),
    ],
)
def test_charset_names(html: bytes, content_type: str, name: str) -> None:
    assert charset_of(html, content_type).name == name


@pytest.mark.parametrize(
    ("data", "name", "text"),
    [
        (b"\x81\x80\x93", "windows-1252", "\x81\u20ac\u201c"),
        (b"\xad\xa1\xa4\xa2\xff", "euc-jp", "①あ\ufffd"),
        (b"\x87\x40", "shift_jis", "①"),
        (b"\xb0\xa1", "gbk", "啊"),
        (b"\xe9", "x-user-defined", "\uf7e9"),
        (b"anything", "replacement", "\ufffd"),
    ],
)
def test_characters_of_encodings(data: bytes, name: str, text: str) -> None:
    assert decoded(data, name) == text


def test_a_declaration_far_down_counts() -> None:
    html = (
        f"<html><head><title>{'x' * 2000}</title><meta charset=koi8-r></head><body><img src=a"
        " alt='Привет'>".encode("koi8-r")
    )
    assert read_page(html, URL, "text/html").pictures[0].texts == (("alt", "Привет"),)


def test_the_query_of_an_address_is_written_in_the_charset_of_the_page() -> None:
    html = "<meta charset=windows-1251><img src='/ж.jpg?ж'>".encode("cp1251")
    assert read_page(html, URL, "text/html").pictures[0].url == "http://a.example/%D0%B6.jpg?%E6"


def test_context_has_single_blanks() -> None:
    contexts = [
        picture.context
        for picture in pictures(
            "<p>One\n  two </p> <img src=a> <b> </b> <img src=b> <p>\u00a0 three"
        )
    ]
    assert contexts == ["One two three", "One two three"]


def test_images_beyond_the_most_are_counted() -> None:
    page = read_page(b"<img src=a.png alt=x>" * 10_003, "http://h.example/")
    assert (len(page.pictures), page.left_out) == (10_000, 3)


def test_a_query_in_the_encoding_of_whoever_defines_it() -> None:
    page = read_page(b"<img src='/a?\xe9'>", URL, "text/html; charset=x-user-defined")
    assert [picture.url for picture in page.pictures] == ["http://a.example/a?%E9"]
    page = read_page(b"<img src='/a?&eacute;'>", URL, "text/html; charset=x-user-defined")
    assert [picture.url for picture in page.pictures] == ["http://a.example/a?%26%23233%3B"]


@pytest.mark.parametrize(
    "name",
    [
        "blank.gif",
        "1x1.trans.gif",
        "post-placeholder.png",
        "ajax-loader.gif",
        "lazy_placeholder.jpg",
        "transparent.png",
        "shim.gif",
        "grey_1x1.png",
        "1x1-white.jpg",
        "spacer.webp",
    ],
)
def test_names_that_keep_a_place(name: str) -> None:
    assert is_placeholder(f"/images/{name}")


@pytest.mark.parametrize(
    "name",
    [
        "cake_1x1.jpg",
        "car-grey.jpg",
        "truck-loading.jpg",
        "logo-transparent.png",
        "640x480.jpg",
        "image.png",
        "white.jpg",
        "google-pixel.jpg",
        "image_1x1.webp",
        "gray-1.jpg",
        "blank",
        "clear.html",
    ],
)
def test_names_of_pictures(name: str) -> None:
    assert not is_placeholder(f"/images/{name}")
