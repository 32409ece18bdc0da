"""The images of pages against two parsers that share no code with ours: html5lib with a plain
reading of the HTML standard, and Chromium.

Slow for a test file (a minute): html5lib reads about a megabyte a second, and the real pages are
twelve.
"""

import contextlib
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.html.images_of_page import TARGET_WIDTH, read_page
from pipelines.html.media_queries import WINDOW_HEIGHT
from pipelines.html.page_tree import parse
from pipelines.permission.outcomes import is_placeholder
from pipelines.sources.archives.responses import HTML, Response, is_html, responses

pytest.importorskip("html5lib", reason="html5lib is not installed: it is the oracle")
from tests.pipelines import html_oracle

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TREES = SHARED / "ground_truth" / "html5lib-tests" / "tree-construction"
RECALL, PRECISION = 0.998, 0.999  # of (page, image, text)
CHROMIUM = Path("/usr/bin/chromium")
BLOCKS = frozenset(
    {
        "address",
        "article",
        "aside",
        "blockquote",
        "br",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    }
)
Triple = tuple[str, str, str]  # page, image, text


def real_pages() -> Iterator[Response]:
    """Each page of the archives, once."""
    seen: set[tuple[str, bytes]] = set()
    for path in sorted((SHARED / "warc").rglob("*.warc*")):
        with contextlib.suppress(ValueError):  # broken on purpose
            for response in responses(
                str(path),
                Counter(),
                wanted=lambda status, media: status == 200 and (media in HTML or not media),
            ):
                if (
                    is_html(response.media_type, response.body)
                    and (response.url, response.body) not in seen
                ):
                    seen.add((response.url, response.body))
                    yield response


def words_of(node: Any) -> str:
    pieces: list[str] = []

    def visit(element: Any) -> None:
        for child in element:
            if isinstance(child.tag, str) and child.tag not in (
                "script",
                "style",
                "template",
                "iframe",
                "noembed",
                "noframes",
                "noscript",
            ):
                edge = " " if child.tag in BLOCKS else ""
                pieces.extend((edge, child.text or ""))
                visit(child)
                pieces.append(edge)
            pieces.append(child.tail or "")

    pieces.append(node.text or "")
    visit(node)
    return "".join(pieces)


def stands_in(address: str) -> bool:
    return not address.startswith("http") or is_placeholder(urlsplit(address).path)


def expected(html: bytes, url: str, content_type: str) -> list[tuple[str, dict[str, str]]]:
    """(address, texts by source) of each image."""
    tree, charset = html_oracle.tree_of(html, content_type)
    captions: dict[Any, str] = {}
    for node, holders in html_oracle.walked(tree):
        figures = [holder for holder in holders if holder.tag == "figure"]
        if node.tag == "figcaption" and figures:
            captions.setdefault(figures[-1], words_of(node))
    found = []
    for image in html_oracle.images_of(tree, url, charset):
        figure = next(
            (holder for holder in reversed(image.holders) if holder.tag == "figure"), None
        )
        texts = {
            "alt": image.alt,
            "title": image.node.get("title"),
            "figcaption": captions.get(figure),
        }
        found.append(
            (image.url, {name: text for name, text in texts.items() if text and text.strip()})
        )
    return found


def squeezed(text: str) -> str:
    return "".join(text.split())


def score(found: Counter[Triple], truth: Counter[Triple], name: str) -> None:
    both = (found & truth).total()
    recall, precision = both / max(truth.total(), 1), both / max(found.total(), 1)
    missed, extra = list((truth - found).items()), list((found - truth).items())
    print(f"{name:10} {truth.total():5} true  recall {recall:.4f}  precision {precision:.4f}")
    for label, rows in (("missed", missed), ("extra", extra)):
        for (page, image, text), count in rows[:30]:
            print(f"   {label} {count} {page[:70]} | {image[:110]} | {text[:60]!r}")
    assert recall >= RECALL
    assert precision >= PRECISION


@pytest.mark.real
def test_real_pages_against_html5lib() -> None:
    if not SHARED.exists():
        pytest.skip("the shared test data are not here")
    truth: dict[str, Counter[Triple]] = {
        name: Counter() for name in ("image", "alt", "title", "figcaption")
    }
    found: dict[str, Counter[Triple]] = {name: Counter() for name in truth}
    for number, page in enumerate(real_pages()):
        label = f"{number} {page.url}"
        for address, texts in expected(page.body, page.url, page.header("content-type")):
            truth["image"][label, address, ""] += 1
            truth["alt"].update(
                [(label, address, squeezed(texts["alt"][:8192]))] if "alt" in texts else []
            )
            truth["title"].update(
                [(label, address, squeezed(texts["title"]))] if "title" in texts else []
            )
            truth["figcaption"].update(
                [(label, address, squeezed(texts["figcaption"]))] if "figcaption" in texts else []
            )
        for picture in read_page(page.body, page.url, page.header("content-type")).pictures:
            found["image"][label, picture.url, ""] += 1
            for source, text in picture.texts:
                if source in found and text.strip():
                    found[source][label, picture.url, squeezed(text)] += 1
    assert truth["image"].total() > 3000
    for name in truth:
        score(found[name], truth[name], name)


# pages of our own, and made ones


OWN = """<base href=/b/><img src=a.jpg alt=a><img src=a.jpg alt='other words'>
<img src=dot.gif data-src=c.jpg alt=c><img src=/1x1.trans.gif data-lazy-src='c d.jpg' alt=d><img src=cake_1x1.jpg alt=cake>
<img src=s.jpg data-pin-media=pin.jpg alt=pinned><img src=blank.gif data-origin=o.jpg alt=o><img pm-lazy-src=/p.jpg src=data:, alt=p>
<img srcset='s.jpg 300w, m.jpg 600w, l.jpg 1200w' src=x.jpg alt=w><img srcset='two.jpg 2x' src=one.jpg alt=x>
<picture><source media='(min-width: 600px)' srcset=wide.jpg><source type=image/webp data-some-srcset='n.webp 600w'>
<img src=n.jpg alt=p></picture>
<img src='data:image/gif;base64,R0' alt=e><noscript><img src=e.jpg alt=e></noscript><noscript><img src=c.jpg alt=c></noscript>
<img src='data:,' alt=spoken><p>words</p><noscript><img src=chart.png alt=''></noscript><hr>
<img src=loading.gif alt=loading><noscript><img src=b.gif?v=1 alt='' style='height: 1px'></noscript>
<img src=lazy-l.png data-zeen-src=z1.jpg alt=1><img src=lazy-l.png data-zeen-src=z2.jpg alt=2><img src=lazy-l.png data-zeen-src=z3.jpg>
<img data-x='{"srcset":"/q?w=1 300w,/q?w=2 600w"}' alt=json><img data-src={width}.jpg alt=template><img data-src=blank.gif src=data:, alt=s>
<div><template shadowrootmode=open><img src=shadow.jpg></template></div><template><img src=inert.jpg></template>
<table><img src=foster.jpg alt='before'><tr><td><a><img src=in.jpg><a><img src=in2.jpg></table><svg><img src=out.jpg></svg>"""  # noqa: E501


def pairs_of(html: bytes) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """(address, alt) of each image as we read the page, and as the oracle does."""
    url = "https://site.example/dir/page.html"
    ours = {(one.url, dict(one.texts).get("alt", "")) for one in read_page(html, url).pictures}
    tree, charset = html_oracle.tree_of(html)
    return ours, {(image.url, image.alt) for image in html_oracle.images_of(tree, url, charset)}


def test_a_page_of_our_own_against_html5lib() -> None:
    ours, theirs = pairs_of(OWN.encode())
    assert ours == theirs
    assert len(ours) == 27
    names = {url.removeprefix("https://site.example/b/") for url, _ in ours}
    assert {
        "c.jpg",
        "cake_1x1.jpg",
        "s.jpg",
        "o.jpg",
        "m.jpg",
        "one.jpg",
        "n.webp",
        "e.jpg",
        "z1.jpg",
        "chart.png",
    } <= names
    assert not {"pin.jpg", "blank.gif?", "lazy-l.png", "inert.jpg", "wide.jpg"} & names


ADDRESSES = [
    "a.jpg",
    "/b/c.png?x=1",
    "blank.gif",
    "data:image/gif;base64,R0",
    "",
    "//cdn.example/e",
    "x_1x1.jpg",
    "é.jpg",
    "{{a}}",
]
SETS = [
    "s.jpg 300w, m.jpg 600w",
    "two.jpg 2x",
    "one.jpg, two.jpg 2x",
    "a.jpg 1q",
    "blank.gif 600w",
    ",",
    "w.jpg 0w",
]
NAMES = [
    "src",
    "data-src",
    "data-lazy-src",
    "data-original",
    "data-pin-media",
    "data-source",
    "data-some-src",
    "data-caption",
]
SET_NAMES = ["srcset", "data-srcset", "data-other-srcset"]
attribute = st.one_of(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(ADDRESSES)),
    st.tuples(st.sampled_from(SET_NAMES), st.sampled_from(SETS)),
    st.tuples(st.just("alt"), st.sampled_from(["", "words", "other"])),
)
image = st.lists(attribute, max_size=4).map(
    lambda said: "<img " + " ".join(f'{name}="{value}"' for name, value in said) + ">"
)
piece = st.one_of(
    image,
    image.map(lambda one: f"<noscript>{one}</noscript>"),
    image.map(lambda one: f'<picture><source srcset="p.jpg 1x">{one}</picture>'),
    st.sampled_from(
        [
            "<p>",
            "words",
            "<table><tr>",
            "</table>",
            "<a>",
            "</b>",
            "<div><template shadowrootmode=open>",
            "</template>",
        ]
    ),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(piece, max_size=8))
def test_made_pages_against_html5lib(pieces: list[str]) -> None:
    ours, theirs = pairs_of("".join(["<!doctype html><body>", *pieces]).encode())
    assert ours == theirs


def cases() -> Iterator[tuple[str, str, list[tuple[str | None, str | None]]]]:
    """(place, page, src and alt of every img in the tree that html5lib's tests expect)."""
    for path in sorted(TREES.glob("*.dat")):
        for number, case in enumerate(path.read_text("utf-8").split("#data\n")[1:]):
            data, _, rest = case.partition("\n#errors")
            expected_tree = rest.partition("#document\n")[2]
            if "#document-fragment" in rest or "#script-on" in rest:
                continue
            yield f"{path.name}:{number}", data, images_of_dump(expected_tree)


def images_of_dump(dump: str) -> list[tuple[str | None, str | None]]:
    """The images of a tree as html5lib writes it down, those inside templates left out."""
    found: list[dict[str, str]] = []
    template: int | None = None
    for line in dump.splitlines():
        depth = len(line) - len(line[1:].lstrip())
        if template is not None and depth > template:
            continue
        template = depth if line.endswith("<template>") else None
        if re.fullmatch(r"\|\s+<\S.*>", line):
            inside = line.endswith("<img>")
            if inside:
                found.append({})
            current = found[-1] if inside else {}
        elif match := re.fullmatch(r'\|\s+([\w:-]+)="(.*)"', line):
            current[match[1]] = match[2]
    return [(image.get("src"), image.get("alt")) for image in found]


@pytest.mark.real
def test_the_cases_of_html5lib() -> None:
    if not TREES.exists():
        pytest.skip("the shared test data are not here")
    different = {}
    count = 0
    for place, page, images in cases():
        count += 1
        tree, _ = parse(page.encode(), "text/html; charset=utf-8")
        found = [
            (node.attributes.get("src", None), node.attributes.get("alt"))
            for node in tree.css("img")
        ]
        if [(src or None, alt or None) for src, alt in found] != [
            (src or None, alt or None) for src, alt in images
        ]:
            different[place] = (page, found, images)
        pictures = read_page(
            page.encode(), "http://a.example/", "text/html; charset=utf-8"
        ).pictures
        assert [picture.url for picture in pictures] == [
            urljoin("http://a.example/", src) for src, _ in found if src
        ]
    print(count, different)
    assert count > 1000
    assert different == {}


# Chromium: which source it takes


def made_images(count: int) -> str:
    """Images with several sources in every combination that a seed brings about, right ones and
    wrong ones.

    Without image/jxl: Debian's build of Chromium shows it, other browsers do not, and we cannot
    decode it.
    """
    dice = random.Random(4)
    conditions = [
        "(min-width: 600px)",
        "(min-width:512px)",
        "(max-width: 511.5px)",
        "(max-width: 40em)",
        "screen and (min-width: 20em)",
        "print",
        "not print",
        "not all and (min-width: 900px)",
        "(orientation: landscape)",
        "(orientation:portrait)",
        "only screen",
        "(400px <= width < 600px)",
        "(width > 512px)",
        "(width >= 512px)",
        "(min-width: 100px) and (max-width: 800px)",
        "nonsense(",
        "(min-width: 700px), (max-width: 600px)",
        "(prefers-color-scheme: dark)",
        "(prefers-color-scheme: light)",
        "",
        "all and",
        "not (min-width: 300px)",
        "(min-width: 300px) or (hover)",
        "((min-width: 300px) and (hover)) or (color)",
        "(unknown: 1)",
        "not (unknown: 1)",
        "(unknown: 1) or (color)",
        "(-webkit-min-device-pixel-ratio: 2)",
        "(min-resolution: 1dppx)",
        "(color)",
        "(max-aspect-ratio: 1/1)",
        "screen, print",
        "(min-width: 10cm)",
        "/* no */ (min-width: 1px)",
        "(monochrome)",
        "(grid)",
        "(MIN-WIDTH: 300PX)",
        "(prefers-reduced-motion)",
        "(prefers-reduced-motion: no-preference)",
        "(min-width: 0)",
        "handheld",
        "(min-width: -1px)",
        "(width)",
        "(min-width:300)",
    ]
    kinds = [
        "image/jpeg",
        "image/webp",
        "image/avif",
        "IMAGE/PNG",
        "image/svg+xml",
        "",
        "text/html",
        "image/webp;q=1",
        "webp",
    ]

    def srcset(name: str) -> str:
        pieces = []
        for number in range(dice.randint(1, 4)):
            unit = dice.choice(["w", "w", "w", "x", "none", "odd"])
            value = {
                "w": f"{dice.choice([100, 300, 511, 512, 513, 800, 1024, 2000])}w",
                "x": dice.choice(["1x", "2x", "1.5x", ".5x", "0x", "1e0x"]),
                "none": "",
                "odd": dice.choice(
                    [
                        "300h",
                        "300w 200h",
                        "-1x",
                        "2x 300w",
                        "huge",
                        "1.x",
                        "+1x",
                        "0w",
                        "1.5w",
                        "(a, b)",
                        "300W",
                    ]
                ),
            }[unit]
            pieces.append(
                f"{name}{number}{dice.choice(['', ',', ',b', '?a,b'])}.jpg {value}".strip()
            )
        return (
            dice.choice([", ", ",", " , ", ",,\n"]).join(pieces)
            if dice.random() < 0.7
            else ", ".join(pieces)
        )

    made = []
    for number in range(count):
        sources = []
        for place in range(dice.choice([0, 0, 1, 2, 3])):
            media = f' media="{dice.choice(conditions)}"' if dice.random() < 0.6 else ""
            kind = f' type="{dice.choice(kinds)}"' if dice.random() < 0.4 else ""
            sources.append(
                f'<source sizes=1px{media}{kind} srcset="{srcset(f"/i{number}s{place}-")}">'
            )
        own = f' srcset="{srcset(f"/i{number}-")}"' if dice.random() < 0.6 else ""
        src = f" src=/i{number}.jpg" if dice.random() < 0.9 else ""
        image = f"<img{src}{own} sizes=1px alt={number}>"
        made.append(f"<picture>{''.join(sources)}{image}</picture>" if sources else image)
    return "<!doctype html><meta charset=utf-8><base href=http://a.example/>" + "\n".join(made)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A page of Chromium without scripts and without network, its window as wide as the target."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as run:
        chromium = run.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        size = {"width": TARGET_WIDTH, "height": WINDOW_HEIGHT}
        page = chromium.new_context(
            viewport=size, device_scale_factor=1, java_script_enabled=False
        ).new_page()
        yield page
        chromium.close()


SIZED = (
    "width => document.querySelectorAll('img[srcset], source[srcset]').forEach(one =>"
    " one.setAttribute('sizes', width + 'px'))"
)
TAKEN = """() => [...document.images]
  .filter(one => one.srcset || one.parentNode.nodeName == 'PICTURE')
  .map(one => [one.alt, one.currentSrc])"""


def taken(page: Any, url: str, html: bytes, content_type: str) -> list[tuple[str, str]]:
    """(alt, currentSrc) of the images of a page that have several sources."""
    answer = {"body": html, "content_type": content_type or "text/html"}
    page.route(
        "**/*", lambda route: route.fulfill(**answer) if route.request.url == url else route.abort()
    )
    page.goto(url, wait_until="domcontentloaded")
    page.evaluate(SIZED, TARGET_WIDTH)
    page.wait_for_timeout(300)  # the choice is made a turn of the event loop later
    found = [(str(alt), str(source)) for alt, source in page.evaluate(TAKEN)]
    page.unroute("**/*")
    return found


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
def test_made_images_against_chromium() -> None:
    html = made_images(1500).encode()
    url = "http://a.example/p.html"
    ours = {
        dict(picture.texts)["alt"]: picture.url
        for picture in read_page(html, url, "text/html").pictures
    }
    with browser() as page:
        theirs = dict(taken(page, url, html, "text/html"))
    # where a browser shows nothing, because no <source> holds in its window, we take what there is
    different = {
        alt: (ours.get(alt, ""), source)
        for alt, source in theirs.items()
        if source and ours.get(alt, "") != source
    }
    for alt, (our, their) in different.items():
        print(
            alt,
            "ours",
            our,
            "theirs",
            their,
            next(line for line in html.decode().splitlines() if f"alt={alt}>" in line),
        )
    assert len(theirs) > 1000
    assert different == {}


@pytest.mark.real
@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
def test_real_pages_against_chromium() -> None:
    """Images with a srcset or in a <picture>, lazy ones apart: without scripts a browser shows
    their stand-ins.
    """
    if not SHARED.exists():
        pytest.skip("the shared test data are not here")
    found: Counter[Triple] = Counter()
    truth: Counter[Triple] = Counter()
    with browser() as window:
        for page in real_pages():
            if not re.search(
                rb"srcset|<picture", page.body, re.IGNORECASE
            ) or not page.url.startswith("http"):
                continue
            theirs = [
                (alt, source)
                for alt, source in taken(window, page.url, page.body, page.header("content-type"))
                if source
            ]
            ours = Counter(
                (dict(picture.texts).get("alt", ""), picture.url)
                for picture in read_page(page.body, page.url).pictures
            )
            for alt, source in theirs:
                if not stands_in(source):
                    truth[page.url, source.split("#")[0], alt] += 1
                    found[
                        page.url,
                        (
                            source.split("#")[0]
                            if ours[alt, source.split("#")[0]]
                            else f"none for {alt!r}"
                        ),
                        alt,
                    ] += 1
    assert truth.total() > 50
    score(found, truth, "currentSrc")
