"""Crawls of a small web on the loopback address: what is read, what is left, and how a killed crawl
goes on.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipelines.permission.outcomes import WELL_KNOWN
from pipelines.sources.archives.responses import responses
from pipelines.store import Folder
from pipelines.web.crawl import Crawl, crawl
from pipelines.web.hosts import Host
from pipelines.web.politeness import Politeness
from tests.pipelines.test_opener import served_securely
from tests.pipelines.web import Page, Reply, Web, jpeg, served

ROOT = Path(__file__).resolve().parents[2]


def page(*links: str, head: str = "") -> str:
    return f"<html><head>{head}</head><body>{''.join(f'<a href={link}>x</a>' for link in links)}</body></html>"  # noqa: E501


def stored(folder: Path) -> list[str]:
    """Paths of the stored pages, in the order of the archive."""
    found = []
    for path in sorted(folder.glob("*.warc.gz")):
        for response in responses(str(path), Counter(), wanted=lambda status, media: status == 200):
            found.append("/" + response.url.split("/", 3)[3])
    return [path for path in found if path not in WELL_KNOWN]


def run(folder: Path, url: str, **options: Any) -> dict[str, Any]:
    return crawl(Crawl(seeds=(url,), allow_private_addresses=True, **options), Folder(str(folder)))


SITE: dict[str, Page] = {
    "/robots.txt": Reply(body=b"User-agent: *\nDisallow: /private/\n", type="text/plain"),
    "/": page(
        "/a",
        "/b#part",
        "/private/c",
        "/gone",
        "/moved",
        "/pdf",
        "/x.zip",
        "http://elsewhere.example/",
        "mailto:me",
        "/broken",
        "/large",
        "/slow",
    ),
    "/a": page("/a", "/deep/1"),
    "/b": page("/hidden", head='<meta name=robots content="noindex, nofollow">'),
    "/private/c": page(),
    "/moved": Reply(status=302, headers=(("Location", "/target"),)),
    "/target": page(),
    "/pdf": Reply(body=b"%PDF", type="application/pdf"),
    "/broken": Reply(status=500),
    "/large": b"<p>" * 10_000,
    "/slow": Reply(body=b"<p>" * 100, drip=1, pause=0.1),
    "/deep/1": Reply(body=page("/deep/2").encode(), type=""),
    "/deep/2": page("/deep/3"),
    "/deep/3": page(),
}


def test_what_a_crawl_reads_and_leaves(tmp_path: Path) -> None:
    seen: list[int] = []
    with served(SITE) as web:
        config = Crawl(
            seeds=(f"{web.url}/",),
            allow_private_addresses=True,
            max_depth=3,
            page_bytes=20_000,
            timeout=4.0,
        )
        report = crawl(config, Folder(str(tmp_path)), progress=seen.append)
        asked = Counter(web.asked)
    assert sorted(stored(tmp_path)) == ["/", "/a", "/b", "/deep/1", "/deep/2", "/target"]
    assert report["pages"] == 6
    assert report["refused"] == {"permission.robots": 1}
    assert report["errors"] == {
        "fetch.http_404": 1,
        "fetch.http_5xx": 1,
        "fetch.timeout": 1,
        "fetch.too_large": 1,
        "page.not_html": 1,
    }
    assert seen == [1, 2, 3, 4, 5, 6]
    assert asked["/robots.txt"] == 1
    assert asked["/broken"] == 3  # twice more, where that may help
    assert (report["redirects"], report["left"]) == (
        1,
        {"max_depth": 1, "nofollow": 1, "not_a_page": 1, "other_site": 1},
    )
    assert not {"/private/c", "/hidden", "/x.zip", "/deep/3"} & set(asked)
    assert web.agents == {"winnow/0.1 (image and text collector; no contact given)"}
    assert json.loads((tmp_path / "crawl.json").read_text())["complete"] is True


def test_a_finished_crawl_is_not_run_again(tmp_path: Path) -> None:
    with served({"/": page()}) as web:
        first = run(tmp_path, f"{web.url}/")
    assert run(tmp_path, f"{web.url}/") == first
    with pytest.raises(ValueError, match="another crawl"):
        run(tmp_path, f"{web.url}/other")


def test_the_number_of_pages_is_a_bound(tmp_path: Path) -> None:
    with served(
        {
            "/": page(*(f"/{number}" for number in range(50))),
            **{f"/{number}": page() for number in range(20, 50)},
        }
    ) as web:
        report = run(tmp_path, f"{web.url}/", max_pages=5)
    assert sorted(stored(tmp_path)) == ["/", "/20", "/21", "/22", "/23"]
    assert report["pages"] == 5


@pytest.mark.parametrize(
    ("robots", "outcome"),
    [
        (Reply(status=500), "permission.robots"),
        (Reply(status=302, headers=(("Location", "/real-robots"),)), "permission.robots"),
    ],
)
def test_a_forbidden_site_is_left_alone(tmp_path: Path, robots: Reply, outcome: str) -> None:
    real = Reply(body=b"User-agent: *\nDisallow: /")
    with served({"/robots.txt": robots, "/real-robots": real, "/": page()}) as web:
        with pytest.raises(
            ValueError, match=r"no page could be read from http.*permission\.robots \(1\)"
        ):
            run(tmp_path, f"{web.url}/")
        assert "/" not in web.asked


@pytest.mark.parametrize(("hops", "pages"), [(5, 0), (6, 1)])
def test_robots_behind_redirects(tmp_path: Path, hops: int, pages: int) -> None:
    """RFC 9309 2.3.1.2: five redirects are followed, behind more of them robots.txt counts as
    unavailable.
    """
    chain: dict[str, Page] = {
        f"/{hop}": Reply(status=301, headers=(("Location", f"/{hop + 1}"),))
        for hop in range(1, hops)
    }
    chain |= {
        "/robots.txt": Reply(status=301, headers=(("Location", "/1"),)),
        f"/{hops}": Reply(body=b"User-agent: *\nDisallow: /"),
    }
    with served({**chain, "/": page()}) as web:
        if pages:
            assert run(tmp_path, f"{web.url}/")["pages"] == pages
        else:
            with pytest.raises(ValueError, match=r"permission\.robots \(1\)"):
                run(tmp_path, f"{web.url}/")


def test_missing_robots_allow(tmp_path: Path) -> None:
    with served({"/robots.txt": Reply(status=403), "/": page()}) as web:
        assert run(tmp_path, f"{web.url}/")["pages"] == 1


def test_seeds_that_give_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no page could be read from http://127\.0\.0\.1:9/: fetch\.refused \(1\)"
    ):
        run(tmp_path / "closed", "http://127.0.0.1:9/")
    with (
        served({"/": Reply(body=b"text", type="text/plain")}) as web,
        pytest.raises(ValueError, match=r"page\.not_html \(1\)"),
    ):
        run(tmp_path / "text", f"{web.url}/")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"seeds": ()}, "at least one seed"),
        ({"seeds": ("example.org",)}, "write it as https://host/path"),
        ({"seeds": ("ftp://example.org/",)}, "no web address"),
        ({"seeds": ("http://[x/",)}, "no address"),
        ({"seeds": ("http://127.0.0.1/",)}, "--allow-private-addresses"),
        ({"seeds": ("http://localhost:8000/",)}, "--allow-private-addresses"),
        ({"seeds": ("http://10.1.2.3/",)}, "--allow-private-addresses"),
        ({"seeds": ("https://example.org/",)}, "give a contact"),
        (
            {"seeds": ("https://example.org/",), "contact": "me@example.org", "max_pages": 0},
            "max_pages",
        ),
    ],
)
def test_configurations_that_cannot_be(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Crawl(**config)


def test_private_addresses_are_refused_behind_a_name(tmp_path: Path) -> None:
    with served({"/": page()}) as web:
        name = web.url.replace("127.0.0.1", "localhost.localdomain")
        config = Crawl(seeds=(f"{name}/",), contact="me@example.org")
        with pytest.raises(ValueError, match=r"address\.private|fetch\.dns"):
            crawl(config, Folder(str(tmp_path)))
        assert web.asked == []


def test_pages_that_refuse_use_are_stored_with_their_headers(tmp_path: Path) -> None:
    with served(
        {
            "/": Reply(
                body=b"<p>", headers=(("X-Robots-Tag", "noai"), ("X-Robots-Tag", "otherbot: none"))
            )
        }
    ) as web:
        run(tmp_path, f"{web.url}/")
    (response,) = responses(
        str(tmp_path / "part-00000.warc.gz"), Counter(), wanted=lambda status, media: True
    )
    assert [value for name, value in response.headers if name.lower() == "x-robots-tag"] == [
        "noai",
        "otherbot: none",
    ]


def test_certificates_are_checked(tmp_path: Path) -> None:
    with served_securely(tmp_path) as url, pytest.raises(ValueError, match=r"fetch\.tls \(1\)"):
        run(tmp_path / "pages", url)


def test_a_public_host_is_asked_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of the test's own, which sleeping moves on."""
    clock = [100.0]
    begun: list[float] = []

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    async def turns() -> None:
        host = Host("public.example", Politeness())
        for _ in range(4):
            await host.turn(1.0, 0.0)
            begun.append(clock[0])

    monkeypatch.setattr("pipelines.web.hosts.asyncio.sleep", sleep)
    monkeypatch.setattr("pipelines.web.hosts.time.monotonic", lambda: clock[0])
    asyncio.run(turns())
    assert begun == [100.0, 101.0, 102.0, 103.0]


def test_a_killed_crawl_goes_on(tmp_path: Path) -> None:
    """At one moment among the pages and at one among the images: what is stored is not asked for
    again, and all comes in the end.
    """
    slow = {
        f"/{number}": Reply(body=page(f"/{number}/below").encode(), drip=10, pause=0.01)
        for number in range(30)
    }
    below: dict[str, Page] = {
        f"/{number}/below": f"<img src=/{number}.jpg><img src=/{number}.png>"
        for number in range(30)
    }
    photos = {
        f"/{number}.jpg": Reply(
            body=jpeg(width=60 + number), type="image/jpeg", drip=200, pause=0.01
        )
        for number in range(30)
    }
    with served({"/": page(*slow), **slow, **below, **photos}) as web:
        whole = run(tmp_path / "whole", f"{web.url}/", images=True)
        assert whole["images"] == {"fetch.http_404": 30, "fetched": 30}
        for moment in (20, 80):
            _kill_and_go_on(tmp_path, web, moment)
        held, before = set(stored(tmp_path / "killed")), len(web.asked)
        assert 20 < len(held) < 61 + 30
        report = run(tmp_path / "killed", f"{web.url}/", images=True)
        assert not set(web.asked[before:]) & held
    assert {**report, "config": None} == {**whole, "config": None}
    assert sorted(stored(tmp_path / "killed")) == sorted(stored(tmp_path / "whole"))
    assert len(stored(tmp_path / "whole")) == 61 + 30


def _kill_and_go_on(folder: Path, web: Web, moment: int) -> None:
    """Kill a crawl when it has asked for so many addresses in all its tries, and leave half a
    record.
    """
    config = f"Crawl(seeds=('{web.url}/',), allow_private_addresses=True, images=True)"
    imports = "from pipelines.web.crawl import Crawl, crawl; from pipelines.store import Folder"
    program = f"{imports}; crawl({config}, Folder({str(folder / 'killed')!r}))"
    held = set(stored(folder / "killed"))
    before = len(web.asked)
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    while len(held | set(web.asked[before:])) < moment:
        assert child.poll() is None, "the crawl ended before it could be killed"
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not set(web.asked[before:]) & held
    with open(folder / "killed" / "part-00000.warc.gz", "ab") as file:
        file.write(b"\x1f\x8b\x08\x00half a record")
