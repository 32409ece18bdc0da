"""The images of pages against two parsers that share no code with ours: html5lib with a plain reading of the HTML standard, and Chromium.

Slow for a test file (a minute): html5lib reads about a megabyte a second, and the real pages are twelve.
"""

import contextlib
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from w3lib.url import safe_url_string

from pipelines.pages.archives import HTML, Response, is_html, responses
from pipelines.pages.images_of_page import TARGET_WIDTH, read_page
from pipelines.pages.media import WINDOW_HEIGHT
from pipelines.pages.page_tree import parse
from pipelines.web.permission import is_placeholder

html5lib = pytest.importorskip("html5lib", reason="html5lib is not installed: it is the oracle")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TREES = SHARED / "ground_truth" / "html5lib-tests" / "tree-construction"
FLOOR = 0.995  # recall and precision of (page, image, text)
CHROMIUM = Path("/usr/bin/chromium")
BLOCKS = frozenset({"address", "article", "aside", "blockquote", "br", "center", "dd", "details", "div", "dl", "dt", "fieldset", "figure",
                    "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section",
                    "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"})  # fmt: skip
WIDTH = re.compile(r"\s*(?:(?:only\s+)?screen\s+and\s+)?\((min|max)-width:\s*(\d+)(?:\.\d+)?px\)\s*")
LAZY = ("data-src", "data-lazy-src", "data-original", "data-lazy", "data-lazyload")
Triple = tuple[str, str, str]  # page, image, text


def real_pages() -> Iterator[Response]:
    """Each page of the archives, once."""
    seen: set[tuple[str, bytes]] = set()
    for path in sorted((SHARED / "warc").rglob("*.warc*")):
        with contextlib.suppress(ValueError):  # broken on purpose
            for response in responses(str(path), Counter(), wanted=lambda status, media: status == 200 and (media in HTML or not media)):
                if is_html(response.media_type, response.body) and (response.url, response.body) not in seen:
                    seen.add((response.url, response.body))
                    yield response


# the oracle: the HTML standard read aloud, with html5lib's tree


def tree_of(html: bytes, content_type: str) -> tuple[Any, str]:
    label = re.search(r"charset=[\"' ]*([^\s\"';,]+)", content_type, re.IGNORECASE)
    parser = html5lib.HTMLParser(html5lib.getTreeBuilder("etree"), namespaceHTMLElements=False)
    tree = parser.parse(html, scripting=False, transport_encoding=label[1] if label else None)
    encoding, certainty = parser.tokenizer.stream.charEncoding
    if certainty == "tentative" and encoding.name == "windows-1252":
        with contextlib.suppress(UnicodeDecodeError):  # where nothing is declared we read UTF-8 if it is
            html.decode("utf-8")
            tree = parser.parse(html, scripting=False, transport_encoding="utf-8")
            return tree, "utf-8"
    return tree, encoding.name


def descendants(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every element in document order with what holds it, the outermost first; not what is inside a template."""
    todo = [(node, above)]
    while todo:
        element, holders = todo.pop()
        if not isinstance(element.tag, str):
            continue
        yield element, holders
        if element.tag != "template":
            todo.extend((child, (*holders, element)) for child in reversed(list(element)))


def words_of(node: Any) -> str:
    pieces: list[str] = []

    def visit(element: Any) -> None:
        for child in element:
            if isinstance(child.tag, str) and child.tag not in ("script", "style", "template", "iframe", "noembed", "noframes", "noscript"):
                edge = " " if child.tag in BLOCKS else ""
                pieces.extend((edge, child.text or ""))
                visit(child)
                pieces.append(edge)
            pieces.append(child.tail or "")

    pieces.append(node.text or "")
    visit(node)
    return "".join(pieces)


def whole(base: str, address: str, charset: str) -> str:
    address = re.sub(r"[\t\r\n]", "", address.strip()).split("#")[0]
    if not address or address[:5].lower() == "data:":
        return address
    before, mark, query = address.partition("?")
    try:
        joined = urljoin(base, before.replace("\\", "/") + mark + query)
        return str(safe_url_string(joined, encoding=charset))
    except (ValueError, UnicodeError, LookupError):
        return address


def stands_in(address: str) -> bool:
    return address[:5].lower() == "data:" or is_placeholder(urlsplit(address).path)


def srcset_of(value: str) -> list[tuple[str, float | None, float | None]]:
    """(address, width, density), character by character as the standard splits."""
    found, place = [], 0
    while True:
        while place < len(value) and value[place] in " \t\n\f\r,":
            place += 1
        if place == len(value):
            return found
        start = place
        while place < len(value) and value[place] not in " \t\n\f\r":
            place += 1
        address, descriptors = value[start:place], [""]
        if address.endswith(","):
            address = address.rstrip(",")
        else:
            depth = False
            while place < len(value) and (depth or value[place] != ","):
                depth = (depth or value[place] == "(") and value[place] != ")"
                if value[place] in " \t\n\f\r" and not depth:
                    descriptors.append("")
                else:
                    descriptors[-1] += value[place]
                place += 1
        words = [word for word in descriptors if word]
        widths = [float(word[:-1]) for word in words if re.fullmatch(r"\d+w", word)]
        densities = [float(word[:-1]) for word in words if re.fullmatch(r"\d*\.?\d+x", word)]
        if len(words) <= 1 and len(widths) + len(densities) == len(words):
            found.append((address, widths[0] if widths else None, densities[0] if densities else None))


def best_of(offered: list[tuple[str, float | None, float | None]], src: str) -> str:
    """Density by density: one sized in pixels of width has its width by that of the window."""
    scaled = [(width / TARGET_WIDTH if width else density if density is not None else 1.0, address) for address, width, density in offered]
    if src and not any(width for _, width, _ in offered) and 1.0 not in (density for density, _ in scaled):
        scaled.append((1.0, src))
    enough = [density for density, _ in scaled if density >= 1]
    wanted = min(enough) if enough else max((density for density, _ in scaled), default=0.0)
    return next((address for density, address in scaled if density == wanted), "")


def address_of(image: Any, parent: Any, base: str, charset: str) -> str:
    """The one address of an <img>; media queries and lazy loading in the plain forms that the real pages use."""
    if parent is not None and parent.tag == "picture":
        for source in itertools.takewhile(lambda child: child is not image, parent):
            media = WIDTH.fullmatch(source.get("media") or "(min-width:0px)")
            assert media is not None, f"the oracle does not know the media query {source.get('media')}"
            takes = int(media[2]) <= TARGET_WIDTH if media[1] == "min" else int(media[2]) >= TARGET_WIDTH
            kind = source.get("type") or "image/jpeg"
            if source.tag == "source" and takes and kind.split("/")[0] == "image" and "jxl" not in kind:
                address = whole(base, best_of(srcset_of(source.get("data-srcset") or source.get("srcset") or ""), ""), charset)
                if address and not stands_in(address):
                    return address
    src = whole(base, image.get("src") or "", charset)
    lazy = [whole(base, image.get(name) or "", charset) for name in LAZY]
    lazy = [address for address in lazy if address and not stands_in(address) and not re.search(r"[{}<>\[\]]", address)]
    if sets := srcset_of(image.get("data-srcset") or ""):
        return whole(base, best_of(sets, ""), charset)
    now = whole(base, best_of(srcset_of(image.get("srcset") or ""), image.get("src") or ""), charset)
    if "w" in re.findall(r"\d(w)", image.get("srcset") or "") and now and not stands_in(now):
        return now
    return lazy[0] if lazy else now or src


def expected(html: bytes, url: str, content_type: str) -> list[tuple[str, dict[str, str]]]:
    """(address, texts by source) of each image."""
    tree, charset = tree_of(html, content_type)
    elements = list(descendants(tree))
    hrefs = [node.get("href") for node, _ in elements if node.tag == "base" and node.get("href") is not None]
    base = whole(url, hrefs[0], "utf-8") or url if hrefs else url
    base = base if base.startswith("http") else url
    captions: dict[Any, str] = {}
    for node, holders in elements:
        figures = [holder for holder in holders if holder.tag == "figure"]
        if node.tag == "figcaption" and figures:
            captions.setdefault(figures[-1], words_of(node))
    found: list[tuple[str, dict[str, str], bool]] = []
    for node, holders in elements:
        address = address_of(node, holders[-1] if holders else None, base, charset) if node.tag in ("img", "amp-img") else ""
        if address:
            figure = next((holder for holder in reversed(holders) if holder.tag == "figure"), None)
            texts = {"alt": node.get("alt"), "title": node.get("title"), "figcaption": captions.get(figure)}
            inside = any(holder.tag == "noscript" for holder in holders)
            found.append((address, {name: text for name, text in texts.items() if text and text.strip()}, inside))
    shown = {address for address, _, inside in found if not inside}
    return [(address, texts) for address, texts, inside in found if not (inside and address in shown)]


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
    assert recall >= FLOOR
    assert precision >= FLOOR


@pytest.mark.real
def test_real_pages_against_html5lib() -> None:
    if not SHARED.exists():
        pytest.skip("the shared test data are not here")
    truth: dict[str, Counter[Triple]] = {name: Counter() for name in ("image", "alt", "title", "figcaption")}
    found: dict[str, Counter[Triple]] = {name: Counter() for name in truth}
    for number, page in enumerate(real_pages()):
        label = f"{number} {page.url}"
        for address, texts in expected(page.body, page.url, page.header("content-type")):
            truth["image"][label, address, ""] += 1
            truth["alt"].update([(label, address, squeezed(texts["alt"][:8192]))] if "alt" in texts else [])
            truth["title"].update([(label, address, squeezed(texts["title"]))] if "title" in texts else [])
            truth["figcaption"].update([(label, address, squeezed(texts["figcaption"]))] if "figcaption" in texts else [])
        for picture in read_page(page.body, page.url, page.header("content-type")).pictures:
            found["image"][label, picture.url, ""] += 1
            for source, text in picture.texts:
                if source in found and text.strip():
                    found[source][label, picture.url, squeezed(text)] += 1
    assert truth["image"].total() > 3000
    for name in truth:
        score(found[name], truth[name], name)


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
        found = [(node.attributes.get("src", None), node.attributes.get("alt")) for node in tree.css("img")]
        if [(src or None, alt or None) for src, alt in found] != [(src or None, alt or None) for src, alt in images]:
            different[place] = (page, found, images)
        pictures = read_page(page.encode(), "http://a.example/", "text/html; charset=utf-8").pictures
        assert [picture.url for picture in pictures] == [urljoin("http://a.example/", src) for src, _ in found if src]
    print(count, different)
    assert count > 1000
    assert different == {}


# Chromium: which source it takes


def made_images(count: int) -> str:
    """Images with several sources in every combination that a seed brings about, right ones and wrong ones.

    Without image/jxl: Debian's build of Chromium shows it, other browsers do not, and we cannot decode it.
    """
    dice = random.Random(4)
    conditions = ["(min-width: 600px)", "(min-width:512px)", "(max-width: 511.5px)", "(max-width: 40em)",
                  "screen and (min-width: 20em)", "print", "not print", "not all and (min-width: 900px)",
                  "(orientation: landscape)", "(orientation:portrait)", "only screen", "(400px <= width < 600px)",
                  "(width > 512px)", "(width >= 512px)", "(min-width: 100px) and (max-width: 800px)", "nonsense(",
                  "(min-width: 700px), (max-width: 600px)", "(prefers-color-scheme: dark)", "(prefers-color-scheme: light)",
                  "", "all and", "not (min-width: 300px)", "(min-width: 300px) or (hover)",
                  "((min-width: 300px) and (hover)) or (color)", "(unknown: 1)", "not (unknown: 1)", "(unknown: 1) or (color)",
                  "(-webkit-min-device-pixel-ratio: 2)", "(min-resolution: 1dppx)", "(color)", "(max-aspect-ratio: 1/1)",
                  "screen, print", "(min-width: 10cm)", "/* no */ (min-width: 1px)", "(monochrome)", "(grid)",
                  "(MIN-WIDTH: 300PX)", "(prefers-reduced-motion)", "(prefers-reduced-motion: no-preference)",
                  "(min-width: 0)", "handheld", "(min-width: -1px)", "(width)", "(min-width:300)"]  # fmt: skip
    kinds = ["image/jpeg", "image/webp", "image/avif", "IMAGE/PNG", "image/svg+xml", "", "text/html", "image/webp;q=1", "webp"]

    def srcset(name: str) -> str:
        pieces = []
        for number in range(dice.randint(1, 4)):
            unit = dice.choice(["w", "w", "w", "x", "none", "odd"])
            value = {
                "w": f"{dice.choice([100, 300, 511, 512, 513, 800, 1024, 2000])}w",
                "x": dice.choice(["1x", "2x", "1.5x", ".5x", "0x", "1e0x"]),
                "none": "",
                "odd": dice.choice(["300h", "300w 200h", "-1x", "2x 300w", "huge", "1.x", "+1x", "0w", "1.5w", "(a, b)", "300W"]),
            }[unit]
            pieces.append(f"{name}{number}{dice.choice(['', ',', ',b', '?a,b'])}.jpg {value}".strip())
        return dice.choice([", ", ",", " , ", ",,\n"]).join(pieces) if dice.random() < 0.7 else ", ".join(pieces)

    made = []
    for number in range(count):
        sources = []
        for place in range(dice.choice([0, 0, 1, 2, 3])):
            media = f' media="{dice.choice(conditions)}"' if dice.random() < 0.6 else ""
            kind = f' type="{dice.choice(kinds)}"' if dice.random() < 0.4 else ""
            sources.append(f'<source sizes=1px{media}{kind} srcset="{srcset(f"/i{number}s{place}-")}">')
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
        page = chromium.new_context(viewport=size, device_scale_factor=1, java_script_enabled=False).new_page()
        yield page
        chromium.close()


SIZED = "width => document.querySelectorAll('img[srcset], source[srcset]').forEach(one => one.setAttribute('sizes', width + 'px'))"
TAKEN = """() => [...document.images]
  .filter(one => one.srcset || one.parentNode.nodeName == 'PICTURE')
  .map(one => [one.alt, one.currentSrc])"""


def taken(page: Any, url: str, html: bytes, content_type: str) -> list[tuple[str, str]]:
    """(alt, currentSrc) of the images of a page that have several sources."""
    answer = {"body": html, "content_type": content_type or "text/html"}
    page.route("**/*", lambda route: route.fulfill(**answer) if route.request.url == url else route.abort())
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
    ours = {dict(picture.texts)["alt"]: picture.url for picture in read_page(html, url, "text/html").pictures}
    with browser() as page:
        theirs = dict(taken(page, url, html, "text/html"))
    # where a browser shows nothing, because no <source> holds in its window, we take what there is
    different = {alt: (ours.get(alt, ""), source) for alt, source in theirs.items() if source and ours.get(alt, "") != source}
    for alt, (our, their) in different.items():
        print(alt, "ours", our, "theirs", their, next(line for line in html.decode().splitlines() if f"alt={alt}>" in line))
    assert len(theirs) > 1000
    assert different == {}


@pytest.mark.real
@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
def test_real_pages_against_chromium() -> None:
    """Images with a srcset or in a <picture>, lazy ones apart: without scripts a browser shows their stand-ins."""
    if not SHARED.exists():
        pytest.skip("the shared test data are not here")
    found: Counter[Triple] = Counter()
    truth: Counter[Triple] = Counter()
    with browser() as window:
        for page in real_pages():
            if not re.search(rb"srcset|<picture", page.body, re.IGNORECASE) or not page.url.startswith("http"):
                continue
            theirs = [(alt, source) for alt, source in taken(window, page.url, page.body, page.header("content-type")) if source]
            ours = Counter((dict(picture.texts).get("alt", ""), picture.url) for picture in read_page(page.body, page.url).pictures)
            for alt, source in theirs:
                if not stands_in(source):
                    truth[page.url, source.split("#")[0], alt] += 1
                    found[page.url, source.split("#")[0] if ours[alt, source.split("#")[0]] else f"none for {alt!r}", alt] += 1
    assert truth.total() > 50
    score(found, truth, "currentSrc")
