"""Crawls that bring more than pages: sitemaps, images, well-known files, and what did not change
since the crawl before.
"""

import gzip
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType

from pipelines.sources.archives.earlier_crawls import (
    Stored,
    beside,
    by_address,
    relative,
    unchanged,
    updated,
)
from pipelines.sources.archives.responses import Response, responses
from pipelines.sources.archives.warc import Record
from pipelines.store import Folder
from pipelines.web.crawl import Crawl, crawl
from pipelines.web.frontier import Frontier
from pipelines.web.links import images_on_page
from pipelines.web.sitemaps import read_sitemap
from tests.pipelines.web import Page, Reply, jpeg, served

PLAIN = "text/plain"


def run(folder: Path, url: str, **options: Any) -> dict[str, Any]:
    return crawl(Crawl(seeds=(url,), allow_private_addresses=True, **options), Folder(str(folder)))


def page(*links: str, images: tuple[str, ...] = (), head: str = "") -> str:
    body = "".join(f"<a href={link}>x</a>" for link in links) + "".join(
        f"<img src={image}>" for image in images
    )
    return f"<html><head>{head}</head><body>{body}</body></html>"


def records(folder: Path) -> list[tuple[str, str]]:
    """(type, path) of the records of a crawl in their order."""
    found = []
    for path in sorted(folder.glob("part-*")):
        for record in ArchiveIterator(io.BytesIO(path.read_bytes()), parse_http=False):
            address = record.headers.get("WARC-Target-URI") or "http://x//"
            found.append((str(record.record_type), "/" + address.split("/", 3)[3]))
    return found


def stored(folder: Path) -> list[str]:
    return [path for kind, path in records(folder) if kind == "response"]


SITEMAPS: dict[str, Page] = {
    "/": page("/linked"),
    "/linked": page(),
    "/one": page("/below"),
    "/two": page(),
    "/three": page(),
    "/below": page(),
    "/more.xml.gz": Reply(
        body=gzip.compress(
            b"<urlset"
            b' xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc>/three</loc></url></urlset>'
        ),
        type="application/gzip",
    ),
}


def test_pages_that_sitemaps_list_are_seeds(tmp_path: Path) -> None:
    with served(SITEMAPS) as web:
        web.pages["/robots.txt"] = Reply(
            body=f"Sitemap: {web.url}/index.xml\nSitemap: http://elsewhere.example/s.xml".encode(),
            type=PLAIN,
        )
        index = f"<sitemapindex><sitemap><loc>{web.url}/list.xml</loc></sitemap><sitemap><loc>{web.url}/more.xml.gz</loc></sitemap>"  # noqa: E501
        index += f"<sitemap><loc>{web.url}/index.xml</loc></sitemap>"
        # its end is missing
        web.pages["/index.xml"] = Reply(body=index.encode(), type="application/xml")
        listed = (
            f"<urlset><url><loc>{web.url}/one</loc></url><url><loc> {web.url}/two"
            " </loc></url><url><loc>http://b.example/</loc></url>"
        )
        web.pages["/list.xml"] = Reply(body=f"{listed}</urlset>".encode(), type="text/xml")
        report = run(tmp_path, f"{web.url}/", sitemaps=True, max_depth=1)
        asked = Counter(web.asked)
    assert report["pages"] == 6
    assert report["left"] == {"other_site": 1}
    assert {path for path in asked if path in SITEMAPS} == set(SITEMAPS)
    assert max(asked.values()) == 1
    assert report["errors"] == {}


def test_a_sitemap_is_no_way_around_robots(tmp_path: Path) -> None:
    robots = Reply(body=b"User-agent: *\nDisallow: /list.xml\nSitemap: /list.xml", type=PLAIN)
    with served(
        {
            **SITEMAPS,
            "/robots.txt": robots,
            "/list.xml": Reply(body=b"<urlset><url><loc>/one</loc></url></urlset>"),
        }
    ) as web:
        run(tmp_path, f"{web.url}/", sitemaps=True)
        assert "/list.xml" not in web.asked
        assert "/sitemap.xml" in web.asked


@pytest.mark.parametrize(
    ("body", "pages", "sitemaps"),
    [
        (
            b"<urlset><url><loc>/a</loc></url><url><loc>/a</loc></url></urlset>",
            ("http://a.example/a",),
            (),
        ),
        (
            (
                b"\xef\xbb\xbf<?xml"
                b" version='1.0'?><urlset><url><loc>http://b.example/?a=1&amp;b</loc></url>"
            ),
            ("http://b.example/?a=1&b",),
            (),
        ),
        (
            b"<sitemapindex><sitemap><loc>/s.xml</loc></sitemap></sitemapindex>",
            (),
            ("http://a.example/s.xml",),
        ),
        (
            b"http://a.example/1\n\nftp://a.example/2\n  http://a.example/3 \n",
            ("http://a.example/1", "http://a.example/3"),
            (),
        ),
        (b"<html><body><p>not found", (), ()),
        (
            b"<urlset><url><loc>javascript:x()</loc></url><url><loc></loc></url><url/></urlset>",
            (),
            (),
        ),
        (b"<", (), ()),
        (b"", (), ()),
        (b"\x1f\x8b broken", (), ()),
        (
            (
                b"<!DOCTYPE u [<!ENTITY x SYSTEM"
                b' "file:///etc/passwd">]><urlset><url><loc>/&x;</loc></url></urlset>'
            ),
            (),
            (),
        ),
    ],
)
def test_what_a_sitemap_lists(
    body: bytes, pages: tuple[str, ...], sitemaps: tuple[str, ...]
) -> None:
    found = read_sitemap(body, "http://a.example/sitemap.xml")
    assert (found.pages, found.sitemaps) == (pages, sitemaps)


def test_bombs_in_sitemaps() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = (
        "<!DOCTYPE u [<!ENTITY l0"
        f' "ha">{laughs}]><urlset><url><loc>http://a.example/&l11;</loc></url></urlset>'
    )
    assert len("".join(read_sitemap(bomb.encode(), "http://a.example/").pages)) < 1000
    zipped = gzip.compress(
        b"<urlset>" + b"<url><loc>/a</loc></url>" * 100_000 + b" " * 200_000_000, 1
    )
    assert read_sitemap(zipped, "http://a.example/").pages == ("http://a.example/a",)


@pytest.mark.parametrize(
    ("hosts", "url", "inside"),
    [
        (("a.example",), "https://a.example/", True),
        (("a.example",), "https://A.example:8443/", True),
        (("a.example:8443",), "https://a.example/", False),
        (("a.example",), "https://b.a.example/", False),
        (("*.a.example",), "https://b.a.example/", True),
        (("*.a.example",), "https://c.b.a.example:81/", True),
        (("*.a.example",), "https://a.example/", True),
        (("*.a.example",), "https://bada.example/", False),
        (("*.a.example",), "https://a.example.evil.example/", False),
        (("*.a.example",), "https://user@b.a.example/", True),
    ],
)
def test_allowed_sites(hosts: tuple[str, ...], url: str, inside: bool) -> None:
    config = Crawl(seeds=("https://a.example/",), allowed_hosts=hosts, contact="me@a.example")
    assert Frontier(config=config, hosts=set(config.hosts())).inside(url) is inside


def test_a_site_that_is_none() -> None:
    with pytest.raises(
        ValueError, match=r"'https://a\.example/' is no host: write it as example\.org"
    ):
        Crawl(
            seeds=("https://a.example/",),
            allowed_hosts=("https://a.example/",),
            contact="me@a.example",
        )


def test_pages_of_one_host_are_bounded(tmp_path: Path) -> None:
    with (
        served({f"/{number}": page() for number in range(5, 9)}) as web,
        served({"/x": page()}) as other,
    ):
        web.pages["/"] = page(f"{other.url}/x", *(f"/{number}" for number in range(9)))
        hosts = (web.url[7:], other.url[7:])
        report = run(tmp_path, f"{web.url}/", max_pages_per_host=3, allowed_hosts=hosts)
    # the root, two of those that are there, and the page of the other host
    assert report["pages"] == 4
    assert report["errors"] == {"fetch.http_404": 5}
    assert report["left"] == {"max_pages_per_host": 2}
    assert sorted(stored(tmp_path)) == ["/", "/5", "/6", "/x"]


def test_a_crawl_ends_by_its_deadline(tmp_path: Path) -> None:
    slow = {f"/{number}": Reply(body=b"<p>" * 1000, drip=1, pause=0.5) for number in range(3)}
    with served({"/": page(*slow), **slow}) as web:
        report = run(tmp_path, f"{web.url}/", seconds=2.0, timeout=60.0)
    assert report["pages"] == 1
    assert report["errors"] == {"fetch.deadline": 3}
    assert json.loads((tmp_path / "crawl.json").read_text())["complete"] is True


IMAGES: dict[str, Page] = {
    "/": page(
        "/b",
        images=(
            "/red.jpg",
            "/moved.jpg",
            "/gone.jpg",
            "/private/x.jpg",
            "/noai.jpg",
            "/blank.gif",
            "/page.jpg",
        ),
    ),
    "/b": page(
        images=(
            "/red.jpg",
            "/green.jpg",
            "data:image/gif;base64,R0lGODlhAQABAAAAACw=",
            "given://flickr/1",
        )
    ),
    "/noai": page(images=("/unused.jpg",), head="<meta name=robots content=noai>"),
    "/robots.txt": Reply(body=b"User-agent: *\nDisallow: /private/", type=PLAIN),
    "/red.jpg": Reply(body=jpeg(color="red"), type="image/jpeg"),
    "/green.jpg": Reply(body=jpeg(color="green"), type="image/jpeg", headers=(("ETag", '"g"'),)),
    "/moved.jpg": Reply(status=302, headers=(("Location", "/red2.jpg"),)),
    "/red2.jpg": Reply(body=jpeg(color="red"), type="image/jpeg"),
    "/noai.jpg": Reply(body=jpeg(), type="image/jpeg", headers=(("X-Robots-Tag", "noai"),)),
    "/page.jpg": page(),
}


def test_images_of_pages_come_too(tmp_path: Path) -> None:
    with (
        served(IMAGES) as web,
        served({"/other.jpg": Reply(body=jpeg(color="blue"), type="image/jpeg")}) as other,
    ):
        web.pages["/b"] = page(images=("/red.jpg", "/green.jpg", f"{other.url}/other.jpg"))
        report = run(tmp_path, f"{web.url}/", images=True)
        assert Counter(web.asked)["/red.jpg"] == 1
        assert "/private/x.jpg" not in web.asked
        assert "/robots.txt" in other.asked  # the other host is asked for permission too
    assert report["pages"] == 2
    expected = {
        "fetched": 4,
        "fetch.http_404": 1,
        "image.not_image": 1,
        "permission.noai": 1,
        "permission.robots": 1,
    }
    assert report["images"] == expected
    assert sorted(stored(tmp_path)) == [
        "/",
        "/b",
        "/green.jpg",
        "/moved.jpg",
        "/other.jpg",
        "/red.jpg",
        "/red2.jpg",
        "/robots.txt",
    ]
    held = {
        response.url.rsplit("/", 1)[1]: response.body
        for response in responses(
            str(tmp_path / "part-00000.warc.gz"),
            Counter(),
            wanted=lambda status, media: media == "image/jpeg",
        )
    }
    assert held["green.jpg"] == jpeg(color="green")


def test_images_of_a_page_that_can_be_asked_for() -> None:
    html = page(
        images=(
            "/a.jpg",
            "/a.jpg",
            "/blank.gif",
            "data:image/gif;base64,R0lGODlhAQABAAAAACw=",
            "given://x/1",
            "ftp://a/b.jpg",
        )
    ).encode()
    assert images_on_page(html, "http://a.example/", target_width=512) == ["http://a.example/a.jpg"]


def test_what_sites_say_is_stored(tmp_path: Path) -> None:
    tdm = Reply(body=b'[{"location": "/no/", "tdm-reservation": 1}]', type="application/json")
    site: dict[str, Page] = {
        "/": page("/no/a", "/yes"),
        "/yes": page(),
        "/.well-known/tdmrep.json": tdm,
        "/ai.txt": page(),
    }
    with served(site) as web:
        report = run(tmp_path, f"{web.url}/")
        asked = Counter(web.asked)
    assert report["refused"] == {"permission.tdm": 1}
    assert asked == {
        "/robots.txt": 1,
        "/.well-known/tdmrep.json": 1,
        "/ai.txt": 1,
        "/": 1,
        "/yes": 1,
    }
    found = records(tmp_path)
    assert ("response", "/.well-known/tdmrep.json") in found
    # pages in their place are noted alone
    assert [path for kind, path in found if kind == "metadata"] == ["/robots.txt", "/ai.txt"]


def test_the_archives_are_sound(tmp_path: Path) -> None:
    """By the checker of warcio, and by hand: a gzip member for each record, WARC 1.1, requests
    beside their responses.
    """
    with served(IMAGES) as web:
        run(tmp_path / "first", f"{web.url}/", images=True)
        run(tmp_path / "again", f"{web.url}/", images=True, previous=str(tmp_path / "first"))
    for path in (
        tmp_path / "first" / "part-00000.warc.gz",
        tmp_path / "again" / "part-00000.warc.gz",
    ):
        command = [sys.executable, "-m", "warcio.cli", "check", "-v", str(path)]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        ids: dict[str, str] = {}
        count = 0
        for record in ArchiveIterator(io.BytesIO(path.read_bytes()), parse_http=False):
            count += 1
            ids[(record.record_id or "").strip("<>")] = record.headers.get("WARC-Target-URI") or ""
            if record.record_type == WarcRecordType.request:
                assert (
                    ids[(record.headers["WARC-Concurrent-To"] or "").strip("<>")]
                    == record.headers["WARC-Target-URI"]
                )
            if record.record_type == WarcRecordType.response:
                assert record.headers["WARC-Payload-Digest"]
                assert record.headers["WARC-IP-Address"] == "127.0.0.1"
        data = path.read_bytes()
        assert data.count(b"\x1f\x8b\x08\x00") == count
        assert gzip.decompress(data).count(b"WARC/1.1\r\n") == count


def test_what_did_not_change_is_recorded_as_that(tmp_path: Path) -> None:
    tagged = Reply(body=page("/dated", images=("/a.jpg",)).encode(), headers=(("ETag", '"v1"'),))
    dated = Reply(
        body=page("/plain").encode(), headers=(("Last-Modified", "Sat, 01 Aug 2026 00:00:00 GMT"),)
    )
    changed = Reply(body=page().encode(), headers=(("ETag", '"p1"'),))
    image = Reply(body=jpeg(), type="image/jpeg", headers=(("ETag", '"i1"'),))
    pages: dict[str, Page] = {"/": tagged, "/dated": dated, "/plain": changed, "/a.jpg": image}
    with served(pages) as web:
        first = run(tmp_path / "first", f"{web.url}/", images=True)
        assert (first["pages"], first["not_modified"]) == (3, 0)
        web.pages["/plain"] = Reply(body=page("/new").encode(), headers=(("ETag", '"p2"'),))
        web.pages["/new"] = page()
        again = run(
            tmp_path / "again", f"{web.url}/", images=True, previous=str(tmp_path / "first")
        )
        web.pages["/"] = Reply(
            body=tagged.body, headers=(("ETag", '"v1"'), ("X-Robots-Tag", "noai"))
        )
        third = run(
            tmp_path / "third", f"{web.url}/", images=True, previous=str(tmp_path / "again")
        )
    assert (again["pages"], again["not_modified"], again["images"]) == (4, 2, {"fetched": 1})
    assert [path for kind, path in records(tmp_path / "again") if kind == "revisit"] == [
        "/",
        "/a.jpg",
        "/dated",
    ]
    assert sorted(path for path in stored(tmp_path / "again")) == ["/new", "/plain"]
    counts: Counter[str] = Counter()
    found = {
        stored.url.removeprefix(web.url): (stored, response)
        for stored, response in not_modified(only(tmp_path / "again"), counts)
    }
    assert counts == {"pages.not_modified": 3}
    where, response = found["/"]
    assert (response.body, response.status, response.media_type) == (tagged.body, 200, "text/html")
    assert where.path == only(tmp_path / "first")
    assert found["/a.jpg"][1].body == image.body
    assert (third["pages"], third["not_modified"]) == (4, 3)
    third = not_modified(only(tmp_path / "third"), Counter())
    chained = {stored.url.removeprefix(web.url): (stored, response) for stored, response in third}
    assert chained["/"][0].path == only(tmp_path / "first")  # not by way of the second
    assert chained["/"][1].header("x-robots-tag") == "noai"  # what is said today counts
    assert chained["/plain"][0].path == only(tmp_path / "again")


def only(folder: Path) -> str:
    (path,) = folder.glob("part-*")
    return str(path)


def not_modified(path: str, counts: Counter[str]) -> list[tuple[Stored, Response]]:
    """What did not change since the crawl before, of all that an archive refers to."""
    revisits: list[Record] = []
    for _ in responses(path, Counter(), wanted=lambda status, media: False, revisits=revisits):
        pass
    return list(unchanged(path, revisits, counts))


def test_an_earlier_archive_that_is_gone_is_counted(tmp_path: Path) -> None:
    with served({"/": Reply(body=b"<p>", headers=(("ETag", '"1"'),))}) as web:
        run(tmp_path / "first", f"{web.url}/")
        run(tmp_path / "again", f"{web.url}/", previous=str(tmp_path / "first"))
        Path(only(tmp_path / "first")).unlink()
        counts: Counter[str] = Counter()
        assert not_modified(only(tmp_path / "again"), counts) == []
        assert counts == {"archive.earlier_missing": 1}
        with pytest.raises(ValueError, match="there are no pages of an earlier crawl"):
            run(tmp_path / "third", f"{web.url}/", previous=str(tmp_path / "first"))


def test_a_page_of_endless_headers_costs_no_other(tmp_path: Path) -> None:
    """The reader of archives gives up at 256 KiB of headers, as browsers do; Scrapy and most
    servers do not.
    """
    heavy = Reply(body=b"<p>", headers=tuple((f"X-{number}", "v" * 4000) for number in range(70)))
    with served({"/": page("/heavy", "/light"), "/heavy": heavy, "/light": page()}) as web:
        run(tmp_path / "first", f"{web.url}/")
    counts: Counter[str] = Counter()
    assert not_modified(only(tmp_path / "first"), counts) == []
    found = responses(
        only(tmp_path / "first"), counts, wanted=lambda status, media: media == "text/html"
    )
    assert [response.url.removeprefix(web.url) for response in found] == ["/", "/light"]
    assert counts["archive.no_http"] == 1


def test_headers_of_an_answer_without_body() -> None:
    stored = (
        ("Content-Type", "text/html"),
        ("ETag", "1"),
        ("X-Robots-Tag", "all"),
        ("Content-Usage", "train-ai=y"),
    )
    newer = (
        ("content-type", "text/plain"),
        ("etag", "2"),
        ("content-usage", "train-ai=n"),
        ("Content-Length", "0"),
    )
    assert updated(stored, newer) == (*stored[0:3:2], *newer[1:3])


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("/data/c/1/pages/part-0.warc.gz", "/data/c/2/pages", "../../1/pages/part-0.warc.gz"),
        (
            "s3://bucket/c/1/pages/part-0.warc.gz",
            "s3://bucket/c/2/pages",
            "../../1/pages/part-0.warc.gz",
        ),
        (
            "/data/c/1/pages/part-0.warc.gz",
            "s3://bucket/c/2/pages",
            "/data/c/1/pages/part-0.warc.gz",
        ),
        ("gs://bucket/1/part-0.warc.gz", "s3://bucket/2", "gs://bucket/1/part-0.warc.gz"),
    ],
)
def test_names_of_earlier_archives(path: str, folder: str, name: str) -> None:
    assert relative(path, folder) == name
    assert beside(f"{folder}/part-7.warc.gz", name) == path


def test_a_resumed_recrawl_knows_what_it_recorded(tmp_path: Path) -> None:
    with served(
        {"/": Reply(body=page("/b").encode(), headers=(("ETag", '"1"'),)), "/b": page()}
    ) as web:
        run(tmp_path / "first", f"{web.url}/")
        whole = run(tmp_path / "again", f"{web.url}/", previous=str(tmp_path / "first"))
        order = json.loads((tmp_path / "again" / "crawl.json").read_text())["config"]
        (tmp_path / "again" / "crawl.json").write_text(
            json.dumps({"config": order, "complete": False})
        )
        web.asked.clear()
        assert run(tmp_path / "again", f"{web.url}/", previous=str(tmp_path / "first")) == whole
        assert web.asked == []
    assert set(by_address([only(tmp_path / "again")])) == {f"{web.url}/", f"{web.url}/b"}
