"""Fetching from a small web on the loopback address: every address ends as one row with one
outcome.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.permission.outcomes import WELL_KNOWN
from pipelines.permission.takedown_list import TakedownList
from pipelines.schema import FETCHES, IMAGES
from pipelines.store import Folder
from pipelines.tables import read_table, write_parquet
from pipelines.web import downloader
from pipelines.web.fetch import Fetch, download, taking_turns
from pipelines.web.politeness import Politeness
from tests.pipelines.test_archives import record
from tests.pipelines.web import Page, Reply, jpeg, served

PHOTO = jpeg(64, 48)
LOCAL = Politeness(allow_private_addresses=True, seconds=3.0, image_bytes=100_000)


def image(**options: Any) -> Reply:
    return Reply(**{"body": PHOTO, "type": "image/jpeg", **options})


def outcomes(
    pages: Mapping[str, Page], guest: Politeness = LOCAL, robots: Page | None = None
) -> dict[str, str]:
    """The outcome of each path of a web."""
    with served({**pages, **({"/robots.txt": robots} if robots is not None else {})}) as web:
        found = download([f"{web.url}{path}" for path in pages], guest)
        return {url.removeprefix(web.url): attempt.outcome for url, (attempt, _) in found.items()}


def test_outcomes_of_answers() -> None:
    wanted = {
        "/ok.jpg": (image(), "fetched"),
        "/gone.jpg": (Reply(status=404), "fetch.http_404"),
        "/away.jpg": (Reply(status=410), "fetch.http_410"),
        "/forbidden.jpg": (Reply(status=403), "fetch.http_403"),
        "/error.jpg": (Reply(status=500), "fetch.http_5xx"),
        "/drip.jpg": (image(drip=1, pause=0.05), "fetch.timeout"),
        "/endless.jpg": (
            image(body=b"\xff\xd8\xff" + b"x" * 20_000, endless=True),
            "fetch.too_large",
        ),
        "/large.jpg": (image(body=b"x" * 200_000), "fetch.too_large"),
        "/short.jpg": (image(announced=len(PHOTO) + 500), "fetch.cut"),
        "/truncated.jpg": (image(body=jpeg(400, 400, quality=95)[:1500]), "decode.truncated"),
        "/page.jpg": (image(body=b"<html>Not found</html>"), "decode.not_an_image"),
        "/empty.jpg": (image(body=b""), "decode.not_an_image"),
        "/lying.png": (image(type="text/html"), "fetched"),
        "/untyped": (image(type=""), "fetched"),
        "/noai.jpg": (image(headers=(("X-Robots-Tag", "noai"),)), "permission.noai"),
        "/noimageai.jpg": (
            image(headers=(("X-Robots-Tag", "otherbot: none"), ("X-Robots-Tag", "noimageai"))),
            "permission.noimageai",
        ),
        "/noindex.jpg": (
            image(headers=(("X-Robots-Tag", "noindex, max-image-preview:large"),)),
            "permission.noindex",
        ),
        "/theirs.jpg": (image(headers=(("X-Robots-Tag", "otherbot: noai"),)), "fetched"),
        "/reserved.jpg": (image(headers=(("TDM-Reservation", "1"),)), "permission.tdm"),
        "/hop.jpg": (Reply(status=302, headers=(("Location", "/ok.jpg"),)), "fetched"),
        "/loop.jpg": (Reply(status=302, headers=(("Location", "/loop.jpg"),)), "fetch.redirects"),
        "/into-file.jpg": (
            Reply(status=302, headers=(("Location", "file:///etc/passwd"),)),
            "address.scheme",
        ),
        "/private/a.jpg": (image(), "permission.robots_image"),
    }
    found = outcomes(
        {path: reply for path, (reply, _) in wanted.items()},
        robots="User-agent: *\nDisallow: /private/\n",
    )
    assert found == {path: outcome for path, (_, outcome) in wanted.items()}


def test_outcomes_of_connections() -> None:
    found = download(["http://127.0.0.1:9/a.jpg", "http://no-such-host.invalid/a.jpg"], LOCAL)
    assert [attempt.outcome for attempt, _ in found.values()] == ["fetch.refused", "fetch.dns"]


def test_private_addresses_are_refused_also_behind_redirects() -> None:
    with served({"/a.jpg": image()}) as web:
        urls = [
            f"{web.url}/a.jpg",
            web.url.replace("127.0.0.1", "localhost") + "/a.jpg",
            "http://[::1]/a.jpg",
            "http://169.254.169.254/a.jpg",
        ]
        found = download(urls, Politeness())
        assert [attempt.outcome for attempt, _ in found.values()] == ["address.private"] * 4
        assert web.asked == []


def test_blanks_of_an_address_are_escaped() -> None:
    with served({"/a%20b%01.jpg": image()}) as web:
        found = download([f"{web.url}/a b\x01.jpg"], LOCAL)
    assert [(url[len(web.url) :], attempt.outcome) for url, (attempt, _) in found.items()] == [
        ("/a b\x01.jpg", "fetched")
    ]


def test_a_transient_error_is_tried_once_more() -> None:
    answers = iter(
        [Reply(status=503), image(), Reply(status=429, headers=(("Retry-After", "0"),)), image()]
    )
    turns: dict[str, list[Reply]] = {
        "/a.jpg": [next(answers), next(answers)],
        "/b.jpg": [next(answers), next(answers)],
    }
    assert outcomes({path: lambda path=path: turns[path].pop(0) for path in turns}) == {
        "/a.jpg": "fetched",
        "/b.jpg": "fetched",
    }


def test_what_is_known_of_a_fetch() -> None:
    headers = (("ETag", '"x"'), ("Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT"))
    with served(
        {
            "/a.jpg": Reply(status=301, headers=(("Location", "/b.jpg"),)),
            "/b.jpg": image(headers=headers),
        }
    ) as web:
        ((attempt, picture),) = download([f"{web.url}/a.jpg"], LOCAL).values()
        assert (attempt.status, attempt.final_url, attempt.content_type) == (
            200,
            f"{web.url}/b.jpg",
            "image/jpeg",
        )
        assert (attempt.etag, attempt.last_modified) == ('"x"', "Fri, 02 Jan 2026 03:04:05 GMT")
        assert web.agents == {"winnow/0.1 (image and text collector; no contact given)"}
    assert picture is not None
    assert (picture.image, picture.image_id) == (PHOTO, hashlib.sha256(PHOTO).hexdigest())


def test_robots_are_read_once_and_errors_refuse() -> None:
    with served(
        {f"/{number}.jpg": image() for number in range(40)} | {"/robots.txt": Reply(status=500)}
    ) as web:
        found = download([f"{web.url}/{number}.jpg" for number in range(40)], LOCAL)
        assert {attempt.outcome for attempt, _ in found.values()} == {"permission.robots_image"}
        assert web.asked == ["/robots.txt"]


def test_what_an_origin_says_of_itself_is_asked_once() -> None:
    with served({f"/{number}.jpg": image() for number in range(9)}) as web:
        for _ in range(2):
            download([f"{web.url}/{number}.jpg" for number in range(9)], LOCAL)
        assert {path: web.asked.count(path) for path in WELL_KNOWN} == dict.fromkeys(WELL_KNOWN, 1)
        assert web.asked[0] == "/robots.txt"


def test_a_private_host_is_paced_only_if_it_asks() -> None:
    pages = {f"/{number}.jpg": image() for number in range(5)}
    begin = time.monotonic()
    assert set(outcomes(pages, robots="User-agent: *\nCrawl-delay: 0.1").values()) == {"fetched"}
    assert time.monotonic() - begin > 0.4


def test_hosts_take_turns() -> None:
    assert taking_turns(pa.chunked_array([["a", "a", "a", "b", "c"]])).tolist() == [0, 3, 4, 1, 2]
    assert taking_turns(pa.chunked_array([["b", "a", "b"]])).tolist() == [0, 1, 2]
    assert taking_turns(pa.chunked_array([[]], pa.string())).tolist() == []


def stage(tmp_path: Path, urls: list[str], **options: Any) -> Fetch:
    folder = Folder(str(tmp_path))
    write_parquet(
        folder / "urls",
        "bucket-00000.parquet",
        pa.table({"image_url": pa.array(urls, pa.string())}),
    )
    return Fetch(
        out=folder / "fetches",
        images=folder / "images",
        urls=folder / "urls",
        allow_private_addresses=True,
        **options,
    )


def test_a_part_is_written_images_and_rows(tmp_path: Path) -> None:
    with served(
        {"/a.jpg": image(), "/same.jpg": image(), "/b.jpg": image(body=jpeg(20, 10, "blue"))}
    ) as web:
        urls = [f"{web.url}{path}" for path in ("/a.jpg", "/b.jpg", "/gone.jpg", "/same.jpg")]
        # in the order in which hosts take turns
        urls = [urls[0], "data:image/png;base64,AA", urls[1], "", *urls[2:]]
        fetch = stage(tmp_path, urls)
        (part,) = fetch.parts()
        output = fetch.process(part)
    assert (part.name, part.lane) == ("part-00000-00000", "00000")
    assert [file.name for file in output.files] == [
        "part-00000-00000.arrow",
        "part-00000-00000.parquet",
    ]
    assert output.counts == {
        "fetched": 3,
        "fetch.http_404": 1,
        "address.placeholder": 1,
        "address.malformed": 1,
        "images": 2,
    }
    rows = read_table(fetch.out, "part-00000-00000.parquet")
    images = read_table(fetch.images, "part-00000-00000.arrow")
    assert rows.schema.equals(FETCHES)
    assert images.schema.equals(IMAGES)
    assert rows["image_url"].to_pylist() == urls
    assert images["image_url"].to_pylist() == [urls[0], urls[2]]
    first, second = images["image_id"].to_pylist()
    assert rows["image_id"].to_pylist() == [first, None, second, None, None, first]
    assert (images["width"].to_pylist(), images["format"].to_pylist()) == (
        [64, 20],
        ["JPEG", "JPEG"],
    )
    assert images["original_bytes"].to_pylist()[0] == len(PHOTO)


def test_addresses_are_cut_into_chunks_of_one_lane(tmp_path: Path) -> None:
    fetch = stage(tmp_path, [f"http://h/{number}" for number in range(600)])
    assert [(part.name, part.inputs[1], part.lane) for part in fetch.parts()] == [
        ("part-00000-00000", "0", "00000"),
        ("part-00000-00001", "1", "00000"),
        ("part-00000-00002", "2", "00000"),
    ]


def test_slow_addresses_are_left_behind_and_taken_up_by_the_last_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloader, "PART_SECONDS", 0.2)
    slow = {f"/slow{number}.jpg": image(drip=len(PHOTO) // 3, pause=0.8) for number in range(12)}
    with served(
        {**slow, **{f"/{number}.jpg": image(body=jpeg(8, 8 + number)) for number in range(520)}}
    ) as web:
        fetch = stage(tmp_path, [f"{web.url}{path}" for path in (*slow, *web.pages)][12:])
        parts = fetch.parts()
        counts = [fetch.process(part).counts for part in parts]
        assert len(parts) == 3
        assert sum(count["images"] for count in counts) == 521
        # all slow ones are in the first part, which did not wait for them
        assert counts[0].get("fetched", 0) <= 256 - 12
        assert len(web.asked) == len(set(web.asked)) == 532 + len(WELL_KNOWN)
    rows = pa.concat_tables(read_table(fetch.out, f"{part.name}.parquet") for part in parts)
    assert sorted(rows["image_url"].to_pylist()) == sorted(
        f"{web.url}{path}" for path in (*slow, *list(web.pages)[12:])
    )
    assert set(rows["outcome"].to_pylist()) == {"fetched"}


def test_a_part_that_is_tried_again_alone_waits_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloader, "PART_SECONDS", 0.05)
    with served(
        {f"/{number}.jpg": image(drip=len(PHOTO), pause=0.3) for number in range(300)}
    ) as web:
        fetch = stage(tmp_path, [f"{web.url}{path}" for path in web.pages])
        first, last = fetch.parts()
        # the first part failed: its addresses are its own
        assert fetch.process(last).counts["fetched"] == 44
        assert fetch.process(first).counts["fetched"] == 256


def test_what_was_taken_down_is_not_asked_for_and_not_stored(tmp_path: Path) -> None:
    away = Reply(status=302, headers=(("Location", "/taken.jpg"),))
    with served(
        {
            "/taken.jpg": image(),
            "/hop.jpg": away,
            "/same.jpg": image(),
            "/b.jpg": image(body=jpeg(9, 9)),
        }
    ) as web:
        urls = [f"{web.url}{path}" for path in ("/b.jpg", "/hop.jpg", "/same.jpg", "/taken.jpg")]
        forgotten = TakedownList.of(urls=[urls[3]], sha256=[hashlib.sha256(PHOTO).hexdigest()])
        fetch = replace(stage(tmp_path, urls), forgotten=forgotten)
        assert fetch.process(fetch.parts()[0]).counts == {
            "fetched": 1,
            "permission.forgotten": 3,
            "images": 1,
        }
        assert "/taken.jpg" not in web.asked


def test_what_an_earlier_collection_holds_is_passed_through(tmp_path: Path) -> None:
    with served({"/a.jpg": image(), "/b.jpg": image()}) as web:
        fetch = stage(tmp_path, [f"{web.url}/a.jpg", f"{web.url}/b.jpg"])
        rows = read_table(fetch.urls, "bucket-00000.parquet")
        known = {
            "image_id": "e" * 64,
            "held_in": "first",
            "etag": None,
            "last_modified": "x",
            "fetched_at": "2026-01-02T03:04:05Z",
        }
        for name, value in known.items():
            rows = rows.append_column(name, pa.array([value, None], pa.string()))
        write_parquet(fetch.urls, "bucket-00000.parquet", rows)
        output = fetch.process(fetch.parts()[0])
        assert "/a.jpg" not in web.asked
    assert output.counts == {"fetched": 2, "images": 1}
    held, _ = sorted(
        read_table(fetch.out, "part-00000-00000.parquet").to_pylist(),
        key=lambda row: row["image_url"],
    )
    assert {name: value for name, value in held.items() if value is not None} == {
        **{name: value for name, value in known.items() if value is not None},
        "image_url": f"{web.url}/a.jpg",
        "outcome": "fetched",
    }


def test_a_run_ends_by_its_deadline(tmp_path: Path) -> None:
    pages: dict[str, Page] = {
        f"/slow{number}.jpg": image(drip=1, pause=0.05) for number in range(3)
    }
    with served({"/quick.jpg": image(), **pages}) as web:
        fetch = stage(
            tmp_path, [f"{web.url}{path}" for path in ("/quick.jpg", *pages)], deadline_seconds=0.6
        )
        begin = time.monotonic()
        first = fetch.process(fetch.parts()[0])
        again = fetch.process(fetch.parts()[0])
        assert time.monotonic() - begin < 6.0  # a drip of each would take longer
    assert first.counts == {"fetched": 1, "fetch.deadline": 3, "images": 1}
    assert again.counts == {"fetch.deadline": 4, "images": 0}


def test_images_of_the_archive_are_not_asked_for(tmp_path: Path) -> None:
    from pipelines.sources.archives.extract import Extract

    refusing = "Content-Type: image/jpeg\r\nX-Robots-Tag: noai\r\n"
    archive = record("http://a.example/a.jpg", PHOTO, "Content-Type: image/jpeg\r\n") + record(
        "http://a.example/no.jpg", PHOTO, refusing
    )
    (tmp_path / "x.warc").write_bytes(archive)
    extract = Extract(
        out=Folder(str(tmp_path / "candidates")), archives=(str(tmp_path / "x.warc"),)
    )
    extract.process(extract.parts()[0])
    urls = [f"http://a.example/{name}.jpg" for name in ("a", "no", "other")]
    fetch = stage(tmp_path, urls, held=extract.out, web=False)
    output = fetch.process(fetch.parts()[0])
    assert output.counts == {"fetched": 1, "permission.noai": 1, "fetch.not_asked": 1, "images": 1}
    row = read_table(fetch.out, "part-00000-00000.parquet").to_pylist()[0]
    assert (row["fetched_at"], row["image_id"]) == (
        "2026-01-02T03:04:05Z",
        hashlib.sha256(PHOTO).hexdigest(),
    )


@pytest.mark.parametrize("count", [256])
def test_it_is_quick(count: int) -> None:
    """A floor far below what it does (900 images a second of a core), to notice a context or an
    import for each image.
    """
    with served({f"/{number}.jpg": image() for number in range(count)}) as web:
        urls = [f"{web.url}/{number}.jpg" for number in range(count)]
        begin = time.process_time()
        found = download(urls, LOCAL)
        spent = time.process_time() - begin
    assert {attempt.outcome for attempt, _ in found.values()} == {"fetched"}
    assert spent < count * 0.010  # seconds of CPU, the server of this process included
