"""From WARC to complete candidates, against reading with fastwarc and parsing with lexbor alone:
pages a second of CPU, on one file.

Reported: pages a second, and the share of the limit. Measured, Parquet written: 0.37 on the sample
of real pages, 0.29 to 0.31 on the made ones (20 images a page, a third with srcset); 0.29 on a
processor with AVX2 and no more. The aim of 0.6 is not reached. Asserted: a floor below the least of
these, as inflating and parsing gain more from a processor's vectors than our part does.
"""

import gzip
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecordType
from selectolax.lexbor import LexborHTMLParser

from pipelines.sources.archives.extract import Extract
from pipelines.sources.archives.responses import HTML, responses
from pipelines.store import Folder
from tests.benchmarks.ratios import compare

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "warc"
PAGES = 1000
FLOOR = 0.25  # of the limit
WORDS = (
    "the",
    "river",
    "light",
    "of",
    "morning",
    "on",
    "wide",
    "stone",
    "houses",
    "where",
    "two",
    "dogs",
    "run",
    "beside",
    "a",
    "red",
    "boat",
    "and",
    "people",
    "watch",
    "from",
    "bridges",
)


def real_pages() -> list[tuple[str, bytes]]:
    found: dict[bytes, str] = {}
    for path in sorted(SHARED.rglob("*.warc.gz")):
        for response in responses(
            str(path), Counter(), wanted=lambda status, media: status == 200 and media in HTML
        ):
            if len(response.body) > 2000:
                found.setdefault(response.body, response.url)
    return [(url, body) for body, url in found.items()]


def made_pages(count: int) -> Iterator[tuple[str, bytes]]:
    """Pages with the markup of a news site: head, navigation, scripts, articles, pictures, lists of
    links.
    """
    dice = random.Random(7)

    def words(number: int) -> str:
        return " ".join(dice.choices(WORDS, k=number))

    def item(place: int) -> str:
        sizes = ", ".join(f"/media/{place}-{width}.jpg {width}w" for width in (320, 640, 1280))
        picture = dice.choice(
            [
                (
                    f'<img class="photo" src="/media/{place}.jpg" alt="{words(6)}" width="300"'
                    ' height="200">'
                ),
                (
                    f'<img src="/media/{place}.jpg" srcset="{sizes}" sizes="50vw" alt="{words(5)}"'
                    ' loading="lazy">'
                ),
                (
                    f'<img class="lazy" src="/blank.gif" data-src="/media/{place}.jpg"'
                    f' alt="{words(4)}">'
                ),
            ]
        )
        linked = f'<a href="/a/{place}">{picture}</a>'
        shown = (
            f"<figure>{picture}<figcaption>{words(12)}</figcaption></figure>"
            if dice.random() < 0.3
            else linked
        )
        said = f'<h3><a href="/a/{place}">{words(8)}</a></h3><p>{words(60)}</p>'
        return f'<div class="card" id="c{place}"><div class="inner">{shown}{said}</div></div>'

    for number in range(count):
        links = "".join(
            f'<li class="menu-item"><a href="/section/{place}"><span>{words(2)}</span></a></li>'
            for place in range(150)
        )
        script = "".join(
            f"window.data[{place}] = {{name: '{words(3)}', value: {place * 37}}};\n"
            for place in range(300)
        )
        style = "".join(
            f".card-{place} .inner > a:hover {{ color: #{place:06x}; margin: {place}px }}\n"
            for place in range(200)
        )
        body = "".join(item(place) for place in range(20))
        body += "".join(f"<p>{words(9)} <a href=/w>{words(2)}</a>.</p>" for _ in range(150))
        yield (
            f"http://made.example/{number}/page.html",
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{words(6)}</title>'
            f'<meta name="description" content="{words(20)}">'
            f"<style>{style}</style><script>{script}</script></head><body><header><nav><ul>{links}</ul></nav></header><main>{body}</main>"
            f"<footer>{links}</footer></body></html>".encode(),
        )


def archive(path: Path) -> Path:
    """A WARC file of a thousand pages, a gzip member each."""
    pages = real_pages() if SHARED.exists() else list(made_pages(100))
    with path.open("wb") as file:
        for number in range(PAGES):
            url, body = pages[number % len(pages)]
            http = (
                f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n".encode()  # noqa: E501
                + body
            )
            head = (
                f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date:"
                f" 2026-01-02T03:04:05Z\r\nWARC-Record-ID: <urn:uuid:{number}>\r\nContent-Type:"
                f" application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
            )
            file.write(gzip.compress(head.encode() + http + b"\r\n\r\n", 6))
    return path


def test_extraction_against_reading_and_parsing(tmp_path: Path) -> None:
    path = archive(tmp_path / "pages.warc.gz")
    stage = Extract(out=Folder(str(tmp_path / "candidates")), archives=(str(path),))

    def parse_alone() -> int:
        with path.open("rb") as file:
            records = ArchiveIterator(file, record_types=WarcRecordType.response)
            return sum(LexborHTMLParser(record.reader.read()) is not None for record in records)

    def extract() -> dict[str, int]:
        return dict(stage.process(stage.parts()[0]).counts)

    assert parse_alone() == PAGES
    counts = extract()
    assert counts["pages"] == PAGES
    timings = compare({"read and parse": parse_alone, "extract": extract})
    ratio = timings["read and parse"].cpu / timings["extract"].cpu
    rate = PAGES / timings["extract"].cpu
    print(
        f"{counts['candidates']} candidates, {rate:,.0f} pages a second of CPU, {ratio:.2f} of the"
        f" limit (floor {FLOOR})"
    )
    assert ratio >= FLOOR
