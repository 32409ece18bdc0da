"""A hostile web for crawls, on raw sockets: one broken page is an outcome, what is left is counted,
and every crawl ends.
"""

import gzip
import socket
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.permission.outcomes import WELL_KNOWN
from pipelines.sources.body import PIECES, Body
from pipelines.store import Folder
from pipelines.web import crawler, frontier, guest_client
from pipelines.web.crawl import Crawl, crawl
from pipelines.web.downloader import Downloader
from pipelines.web.fetch import as_it_is, download
from pipelines.web.frontier import Frontier, Visit, visit_of_page
from pipelines.web.links import Links
from pipelines.web.politeness import Politeness
from tests.pipelines.test_hostile_web import Behaviour, ask, drip, forever, hang, raw, reset
from tests.pipelines.web import Page, Reply, jpeg, served

OK = b"HTTP/1.1 200 OK\r\n"
HTML = b"Content-Type: text/html\r\n"
SHORT = b"Content-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.web.politeness.RETRY_SECONDS", 0.02)


def run(folder: Path, url: str, **options: Any) -> dict[str, Any]:
    return crawl(Crawl(seeds=(url,), allow_private_addresses=True, **options), Folder(str(folder)))


def linking(*places: str) -> str:
    return "".join(f"<a href='{place}'>x</a>" for place in places)


def answer(body: str, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = b"".join(line + b"\r\n" for line in (b"Content-Type: text/html", *headers))
    length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + lines + length + body.encode()


def beside(folder: Path, odd: Behaviour, **options: Any) -> tuple[dict[str, Any], Counter[str]]:
    """The report of a crawl whose seed links to an odd page and a plain one, and what was asked
    for.
    """
    answers: dict[str, Behaviour] = {
        "/": answer(linking("/odd", "/plain")),
        "/odd": odd,
        "/plain": answer("<p>plain"),
    }
    with raw(answers) as server:
        report = run(folder, f"http://127.0.0.1:{server.port}/", **options)
    return report, Counter(path for path in server.asked if path not in WELL_KNOWN)


@pytest.mark.parametrize(
    "wish",
    [
        b"\xb2",
        b"1\xb3",
        b"\xb9\xb2 Jan",
        b"soon",
        b"-5",
        b"1e9",
        b"",
        b"Fri, 99 Foo 2026 99:99:99 GMT",
    ],
)
def test_a_wish_that_cannot_be_read_is_none(tmp_path: Path, wish: bytes) -> None:
    report, asked = beside(tmp_path, answer("busy", b"Retry-After: " + wish, status=b"503 Busy"))
    assert (report["pages"], report["errors"]) == (2, {"fetch.http_5xx": 1})
    assert asked == {"/": 1, "/odd": 3, "/plain": 1}


@pytest.mark.parametrize("status", [b"503 Busy", b"429 Slow down"])
@pytest.mark.parametrize("date", [True, False])
def test_a_wish_for_hours_is_kept_to(tmp_path: Path, status: bytes, date: bool) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True) if date else "7200"
    report, asked = beside(
        tmp_path, answer("busy", b"Retry-After: " + later.encode(), status=status)
    )
    assert report["errors"] == {"fetch.http_5xx" if status[:1] == b"5" else "fetch.http_429": 1}
    assert asked["/odd"] == 1
    words = report["first_error"].partition("asks to be left alone for ")[2]
    assert 7100 < float(words.removesuffix(" s")) <= 7200


def test_a_host_that_twice_asks_for_hours_is_not_asked_again(tmp_path: Path) -> None:
    """Its 503 may be of one page alone, two in a row are not; a 429 is about us and counts at
    once.
    """
    busy = Reply(status=503, headers=(("Retry-After", "3600"),))
    pages = {f"/{number}": busy for number in range(20)}
    with served({"/": linking(*pages), **pages}) as web:
        report = run(tmp_path / "a", f"{web.url}/", private_concurrency=1)
        asked = [path for path in web.asked if path in pages]
    assert report["errors"] == {"fetch.http_5xx": 2, "fetch.host_busy": 18}
    assert asked == ["/0", "/1"]
    slow = {
        f"/{number}": Reply(status=429, headers=(("Retry-After", "3600"),)) for number in range(20)
    }
    with served({"/": linking(*slow), **slow}) as web:
        report = run(tmp_path / "b", f"{web.url}/", private_concurrency=1)
    assert report["errors"] == {"fetch.http_429": 1, "fetch.host_busy": 19}


ODD = {
    "a header of 20 kB": answer("<p>odd", b"Content-Security-Policy: " + b"x" * 20_000),
    "a header of 90 kB": answer("<p>odd", b"X-Long: " + b"y" * 90_000),
    "250 kB of headers": answer(
        "<p>odd", *[b"X-%d: " % number + b"z" * 2_490 for number in range(100)]
    ),
    "a name that is no token": answer(
        "<p>odd", b"\xe2\x80\x9cx-frame\xe2\x80\x9d: deny", b"x(y): z", b": nameless"
    ),
    "a blank before the colon": (
        OK + b"Content-Type : text/html\r\nContent-Length : 6\r\n\r\n<p>odd"
    ),
    "an identity that is none": OK + HTML + b"Transfer-Encoding: identity\r\n\r\n<p>odd",
    "two lengths that agree": answer("<p>odd", b"Content-Length: 6"),
    "no length": OK + HTML + b"\r\n<p>odd",
    "status 203": answer("<p>odd", status=b"203 Non-Authoritative Information"),
    "a status that nobody knows": answer("<p>odd", status=b"299 Fine"),
    "no reason": answer("<p>odd", status=b"200"),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + HTML + b"\r\n<p>odd",
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Type: text/html\n\n<p>odd",
    "a reason in Latin-1": answer("<p>odd", status=b"200 D\xe9j\xe0"),
    "chunks of a byte": (
        OK + HTML + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
    ),
    "gzip with a length of its own": (
        OK
        + HTML
        + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        % len(gzip.compress(b"<p>odd", mtime=0))
        + gzip.compress(b"<p>odd", mtime=0)
    ),
}


@pytest.mark.parametrize("kind", list(ODD))
def test_what_browsers_read_is_read(tmp_path: Path, kind: str) -> None:
    report, _ = beside(tmp_path, ODD[kind])
    assert (report["pages"], report["errors"]) == (3, {})


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (b"201 Created", "fetch.http_201"),
        (b"204 No Content", "fetch.http_204"),
        (b"206 Partial Content", "fetch.http_206"),
    ],
)
def test_what_is_not_the_page_itself(tmp_path: Path, status: bytes, outcome: str) -> None:
    """RFC 9110 15.3: these bring the state of an action, nothing, or a part."""
    report, _ = beside(tmp_path, answer("" if status[:3] == b"204" else "<p>odd", status=status))
    assert (report["pages"], report["errors"]) == (2, {outcome: 1})


BROKEN: list[tuple[str, Behaviour, str]] = [
    ("two lengths that differ", answer("<p>odd", b"Content-Length: 3"), "fetch.malformed"),
    ("a length that is none", OK + HTML + b"Content-Length: many\r\n\r\n<p>odd", "fetch.malformed"),
    ("a line without a colon", answer("<p>odd", b"what is this"), "fetch.malformed"),
    ("HTTP/0.9", b"<html><p>odd", "fetch.malformed"),
    ("headers without end", forever(OK, b"X-Filler: " + b"x" * 9000 + b"\r\n"), "fetch.malformed"),
    ("lines without end", forever(OK, b"a: b\r\n" * 100), "fetch.malformed"),
    ("a body without end", forever(OK + HTML + b"\r\n", b"<p>" * 9000), "fetch.too_large"),
    (
        "chunks without end",
        forever(OK + HTML + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 9000),
        "fetch.too_large",
    ),
    ("a slow head", drip(OK + HTML + b"\r\n<p>odd", 0.2), "fetch.timeout"),
    ("silence", hang, "fetch.timeout"),
    ("a cut", answer("<p>odd")[:-2], "fetch.cut"),
    ("a reset", reset(OK + HTML + b"Content-Length: 99\r\n\r\n<p>"), "fetch.cut"),
    ("nothing", b"", "fetch.closed"),
]


@pytest.mark.parametrize(
    ("odd", "outcome"), [pytest.param(odd, outcome, id=kind) for kind, odd, outcome in BROKEN]
)
def test_what_cannot_be_read_is_that_pages_outcome(
    tmp_path: Path, odd: Behaviour, outcome: str
) -> None:
    report, asked = beside(tmp_path, odd, timeout=2.0, page_bytes=100_000)
    assert (report["pages"], report["errors"]) == (2, {outcome: 1})
    assert asked["/plain"] == 1


def test_a_page_that_breaks_its_reader_is_one_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def links_of_page(html: bytes, *rest: Any) -> Links:
        if b"odd" in html and b"href" not in html:
            raise KeyError("xlink:href")
        return crawler_links(html, *rest)

    crawler_links = crawler.links_of_page
    monkeypatch.setattr(crawler, "links_of_page", links_of_page)
    report, _ = beside(tmp_path, answer("<p>odd"))
    assert (report["pages"], report["errors"]) == (2, {"page.failed": 1})
    assert report["first_error"].endswith("/odd: KeyError: 'xlink:href'")


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), TimeoutError("the store is too slow")],
    ids=["full", "slow"],
)
def test_what_the_system_says_stops_a_crawl_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def write(self: object, exchange: Any) -> None:
        if exchange.url.endswith("/odd"):
            raise error
        known(self, exchange)  # type: ignore[arg-type]

    known = crawler.CrawlArchive.__init__.__globals__["PageWriter"].write
    monkeypatch.setattr("pipelines.web.warc_writer.PageWriter.write", write)
    with pytest.raises(type(error), match=error.strerror or "the store is too slow"):
        beside(tmp_path, answer("<p>odd"))
    monkeypatch.undo()
    report, _ = beside(tmp_path / "again", answer("<p>odd"))
    assert report["pages"] == 3


def test_an_image_that_breaks_its_decoder_is_one_outcome() -> None:
    def decode(data: bytes) -> Any:
        if len(data) == 3:
            raise ZeroDivisionError("of a stranger's making")
        raise OSError(28, "No space left on device")

    with served({"/a.jpg": Reply(body=b"abc"), "/b.jpg": Reply(body=b"abcd")}) as web:
        downloader = Downloader(Politeness(allow_private_addresses=True))
        try:
            ((result, _),) = downloader.fetch(
                [f"{web.url}/a.jpg"], decode=decode, keep=as_it_is
            ).values()
            assert (result.outcome, result.detail) == (
                "fetch.failed",
                "ZeroDivisionError: of a stranger's making",
            )
            with pytest.raises(OSError, match="No space left on device"):
                downloader.fetch([f"{web.url}/b.jpg"], decode=decode, keep=as_it_is)
        finally:
            downloader.close()


PHOTO = jpeg(30, 20)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (b"/caf\xc3\xa9.jpg", "/caf%C3%A9.jpg"),
        (b"/caf\xe9.jpg", "/caf%E9.jpg"),
        (b"/\xa4\xbd.jpg", "/%A4%BD.jpg"),
        (b"/a b.jpg", "/a%20b.jpg"),
    ],
)
def test_places_are_escaped_byte_by_byte(tmp_path: Path, place: bytes, path: str) -> None:
    """As browsers do; and a crawl that goes on reads the same place out of its archive."""
    hop = b"HTTP/1.1 302 Found\r\nLocation: " + place + b"\r\n" + SHORT
    found = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PHOTO) + PHOTO
    with raw({"/hop": hop, path: found}) as server:
        assert set(ask([f"http://127.0.0.1:{server.port}/hop"]).values()) == {"fetched"}
    report, asked = beside(tmp_path, b"HTTP/1.1 301 Moved\r\nLocation: " + place + b"\r\n" + SHORT)
    assert (report["pages"], report["redirects"], report["errors"]) == (2, 1, {"fetch.http_404": 1})
    assert asked[path] == 1
    (archive,) = tmp_path.glob("part-*")
    assert b"Location: " + place in gzip.decompress(archive.read_bytes())


@pytest.mark.parametrize(
    "place",
    [
        "data:image/png;base64,iVBORw0KGgo=",
        "DATA:,x",
        "about:blank",
        "blob:x",
        "mailto:a@b.example",
    ],
)
def test_redirects_to_what_no_host_has(place: str) -> None:
    with raw({"/a.jpg": f"HTTP/1.1 302 Found\r\nLocation: {place}\r\n".encode() + SHORT}) as server:
        assert set(ask([f"http://127.0.0.1:{server.port}/a.jpg"]).values()) == {"address.scheme"}


def test_addresses_that_are_not_ascii_are_asked_for_one_by_one() -> None:
    paths = {
        "/gr\xfcn.jpg": "/gr%C3%BCn.jpg",
        "/\u202ex.jpg": "/%E2%80%AEx.jpg",
        "/a.jpg?q=\xe9": "/a.jpg?q=%C3%A9",
    }
    found = Reply(body=PHOTO, type="image/jpeg")
    with served({**dict.fromkeys(paths.values(), found), "/plain.jpg": found}) as web:
        urls = [f"{web.url}{path}" for path in (*paths, "/plain.jpg", "/\ud800.jpg")]
        outcomes = {
            url: result.outcome
            for url, (result, _) in download(urls, Politeness(allow_private_addresses=True)).items()
        }
    assert [outcomes[url] for url in urls[:4]] == ["fetched"] * 4
    # half a character has no bytes
    assert outcomes[urls[4]] in ("address.malformed", "fetch.http_404")


def test_redirects_without_end(tmp_path: Path) -> None:
    """On one host, between two, and round again with a cookie that says how often: none holds up
    the crawl.
    """
    with served({}) as other:
        onward: dict[str, Page] = {
            f"/{number}": Reply(status=302, headers=(("Location", f"/{number + 1}"),))
            for number in range(50)
        }
        with served(onward) as web:
            between = {
                f"/b{number}": Reply(
                    status=307, headers=(("Location", f"{web.url}/a{number + 1}"),)
                )
                for number in range(50)
            }
            other.pages.update(between)
            web.pages.update(
                {
                    f"/a{number}": Reply(
                        status=302, headers=(("Location", f"{other.url}/b{number}"),)
                    )
                    for number in range(50)
                }
            )
            cookie = (("Location", "/round"), ("Set-Cookie", "seen=1"))
            web.pages["/round"] = Reply(status=302, headers=cookie)
            web.pages["/there"] = Reply(status=302, headers=(("Location", "/back"),))
            web.pages["/back"] = Reply(status=302, headers=(("Location", "/there"),))
            web.pages["/"] = linking("/0", "/a0", "/round", "/there", "/plain")
            web.pages["/plain"] = "<p>plain"
            report = run(tmp_path, f"{web.url}/", allowed_hosts=(web.url[7:], other.url[7:]))
            asked = [path for path in web.asked + other.asked if path not in WELL_KNOWN]
    assert (report["pages"], report["errors"]) == (2, {"fetch.redirects": 4})
    assert len(asked) == 2 + 6 + 6 + 1 + 2
    assert max(Counter(asked).values()) == 1


def test_a_calendar_without_end(tmp_path: Path) -> None:
    """Every page links to ten that nobody asked for before; depth, pages and the deadline bound it,
    and what is left is counted.
    """

    class Calendar(dict[str, Page]):
        def get(self, path: str, default: Any = None) -> Any:
            return (
                default
                if path in WELL_KNOWN
                else linking(*(f"{path.rstrip('/')}/{number}" for number in range(10)))
            )

    with served({}) as web:
        web.pages = Calendar()
        report = run(tmp_path / "depth", f"{web.url}/", max_depth=1)
        assert (report["pages"], report["left"]) == (11, {"max_depth": 100})
        report = run(tmp_path / "pages", f"{web.url}/", max_pages=50)
        assert (report["pages"], report["left"]) == (50, {"max_pages": 451})
        begin = time.monotonic()
        report = run(tmp_path / "time", f"{web.url}/", seconds=1.0)
        assert report["errors"]["fetch.deadline"] > 0
        assert time.monotonic() - begin < 20


def test_a_hundred_thousand_links(tmp_path: Path) -> None:
    many = linking(*(f"/{number}" for number in range(100_000)))
    with served({"/": many, "/1": many}) as web:
        begin = time.process_time()
        report = run(tmp_path, f"{web.url}/", max_depth=0)
        assert time.process_time() - begin < 20
    assert report["left"] == {"max_depth": 10_000, "max_links": 90_000}
    long = visit_of_page(
        Links(pages=tuple(f"http://a.example/{'x' * 8000}{number}" for number in range(1000))), []
    )
    assert (len(long.links), long.left) == (130, {"max_links": 870})


def test_addresses_that_a_crawl_knows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Crawl(seeds=("https://a.example/",), contact="me@a.example")
    bounded = Frontier(config=config, hosts=set(config.hosts()), room=10 * (20 + frontier.OVERHEAD))
    urls = [f"https://a.example/{number:02d}" for number in range(30)]
    assert bounded.fresh(urls) == urls[:10]
    assert bounded.fresh([*urls[:5], "https://a.example/new"]) == []
    assert bounded.left == {"max_addresses": 21}


def test_redirects_are_counted() -> None:
    config = Crawl(seeds=("https://a.example/",), contact="me@a.example")
    counted = Frontier(config=config, hosts=set(config.hosts()))
    assert counted.note("a", Visit(hop="b")).hop == "b"
    assert counted.note("b", Visit(hop="a")).outcome == "fetch.redirects"
    assert (counted.redirects, dict(counted.outcomes)) == (1, {"fetch.redirects": 1})


def test_sitemaps_that_lead_round_and_on(tmp_path: Path) -> None:
    def index(*places: str) -> Reply:
        listed = "".join(f"<sitemap><loc>{place}</loc></sitemap>" for place in places)
        return Reply(body=f"<sitemapindex>{listed}</sitemapindex>".encode(), type="text/xml")

    chain = {f"/{number}.xml": index(f"/{number + 1}.xml", "/sitemap.xml") for number in range(20)}
    with served({"/": "<p>", "/sitemap.xml": index("/sitemap.xml", "/0.xml"), **chain}) as web:
        assert run(tmp_path, f"{web.url}/", sitemaps=True)["pages"] == 1
        assert [path for path in web.asked if path.endswith(".xml")] == [
            "/sitemap.xml",
            "/0.xml",
            "/1.xml",
        ]


def test_sitemaps_that_live_elsewhere_by_now(tmp_path: Path) -> None:
    """Sites of WordPress send /sitemap.xml on; what leads out of the site, or round, and what is
    named and not there, is counted.
    """

    def sent(place: str) -> Reply:
        return Reply(status=301, headers=(("Location", place),))

    named = "".join(
        f"Sitemap: {place}\n"
        for place in ("/index.xml", "/round.xml", "/out.xml", "/gone.xml", "/refused.xml")
    )
    pages: dict[str, Page] = {
        "/": "<p>",
        "/listed": "<p>listed",
        "/robots.txt": Reply(
            body=f"User-agent: *\nDisallow: /refused\n{named}".encode(), type="text/plain"
        ),
        "/sitemap.xml": sent("/index.xml"),
        "/index.xml": sent("/wp-sitemap.xml"),
        "/wp-sitemap.xml": Reply(
            body=b"<urlset><url><loc>/listed</loc></url></urlset>", type="text/xml"
        ),
        "/round.xml": sent("/round.xml"),
        "/out.xml": sent("http://127.0.0.2/map.xml"),
    }
    with served(pages) as web:
        report = run(tmp_path, f"{web.url}/", sitemaps=True)
        assert web.asked.count("/wp-sitemap.xml") == 1
    assert report["pages"] == 2
    assert report["left"] == {"sitemap_unreadable": 4}


def test_a_slow_robots_txt_holds_up_no_other_host(monkeypatch: pytest.MonkeyPatch) -> None:
    rules_of = guest_client.rules_of
    read: list[float] = []

    def slow(found: Any, now: float) -> Any:
        if b"# slow" in found[1]:
            time.sleep(1.5)
            read.append(time.monotonic())
        return rules_of(found, now)

    monkeypatch.setattr(guest_client, "rules_of", slow)
    heavy = Reply(body=b"User-agent: *\nDisallow: /b\n# slow", type="text/plain")
    image = Reply(body=PHOTO, type="image/jpeg")
    at: list[float] = []

    def decode(data: bytes) -> Any:
        at.append(time.monotonic())
        raise ValueError("seen")

    with served({"/robots.txt": heavy, "/a.jpg": image}) as one, served({"/a.jpg": image}) as other:
        downloader = Downloader(Politeness(allow_private_addresses=True))
        try:
            downloader.fetch(
                [f"{one.url}/a.jpg", f"{other.url}/a.jpg"], decode=decode, keep=as_it_is
            )
        finally:
            downloader.close()
    assert at[0] < read[0] < at[1]


def test_many_small_pieces_cost_no_more_than_a_large_one() -> None:
    body = Body()
    for number in range(100_000):
        body.write(bytes([number % 256]))
    assert (len(body._pieces), len(body._pieces[-1])) == (PIECES + 1, 100_000 - PIECES)
    assert body.take() == bytes(number % 256 for number in range(100_000))


def test_robots_that_lead_round(tmp_path: Path) -> None:
    """RFC 9309 2.3.1.2: after so many hops it counts as unavailable, and all is allowed."""
    hops: Callable[[str], Reply] = lambda place: Reply(status=302, headers=(("Location", place),))  # noqa: E731
    with served({"/robots.txt": hops("/r"), "/r": hops("/robots.txt"), "/": "<p>"}) as web:
        assert run(tmp_path, f"{web.url}/")["pages"] == 1
        assert Counter(web.asked)["/robots.txt"] == 3


def test_the_server_may_close_without_a_word() -> None:
    def closing(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + PHOTO)

    with raw({"/a.jpg": closing}) as server:
        assert set(ask([f"http://127.0.0.1:{server.port}/a.jpg"]).values()) == {"fetched"}
