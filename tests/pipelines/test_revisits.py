"""Records that refer to others for their bodies: pages and images come from there, wherever in the
collection that is.
"""

import gzip
from pathlib import Path

import pytest

from pipelines.collect.run import CollectConfig, collect
from pipelines.sources import paths as sources
from pipelines.sources.archives.extract import RECORDS, Extract
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.ranges import ranged
from tests.pipelines.test_archives import record
from tests.pipelines.web import jpeg

DATE, PHOTO = "2026-01-02T03:04:05Z", jpeg()
DIGEST, OTHER = "sha1:AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHH", "sha1:ZZZZBBBBCCCCDDDDEEEEFFFFGGGGHHHH"


def stored(
    url: str, body: bytes, kind: str = "text/html", digest: str = DIGEST, id: str = "<urn:uuid:1>"
) -> bytes:
    plain = record(url, body, f"Content-Type: {kind}\r\n")
    return gzip.compress(
        plain.replace(
            b"WARC-Date",
            f"WARC-Payload-Digest: {digest}\r\nWARC-Record-ID: {id}\r\nWARC-Date".encode(),
        )
    )


def revisit(
    url: str, fields: str, http: str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: revisit\r\nWARC-Target-URI: {url}\r\nWARC-Date:"
        " 2026-02-02T00:00:00Z\r\n"
    )
    head += (
        "WARC-Profile:"
        f" http://netpreserve.org/warc/1.1/revisit/identical-payload-digest\r\n{fields}"
    )
    return gzip.compress(
        f"{head}Content-Type: application/http\r\nContent-Length: {len(http)}\r\n\r\n{http}\r\n\r\n".encode()  # noqa: E501
    )


def refers(url: str = "http://a.example/1", date: str = DATE, digest: str = DIGEST) -> str:
    return (
        f"WARC-Refers-To-Target-URI: {url}\r\nWARC-Refers-To-Date: {date}\r\nWARC-Payload-Digest:"
        f" {digest}\r\n"
    )


PAGE = stored("http://a.example/1", b"<img src=/a.jpg alt=dog>")
IMAGE = stored("http://a.example/a.jpg", PHOTO, "image/jpeg", OTHER, "<urn:uuid:2>")


def extracted(
    tmp_path: Path, **archives: bytes
) -> tuple[list[tuple[str, str, str]], dict[str, int], Folder]:
    for name, data in archives.items():
        (tmp_path / f"{name}.warc.gz").write_bytes(data)
    stage = Extract(
        out=Folder(str(tmp_path / "candidates")), archives=(str(tmp_path / "*.warc.gz"),)
    )
    rows, counts = [], dict[str, int]()
    for part in stage.parts():
        output = stage.process(part)
        RECORDS.check(output.counts["records"], output.counts, part.name)
        rows += (
            read_table(stage.out, f"part-{part.name}.parquet")
            .select(["page_url", "image_url", "captured_at"])
            .to_pylist()
        )
        counts = {
            name: counts.get(name, 0) + output.counts.get(name, 0)
            for name in counts.keys() | output.counts.keys()
        }
    told = sorted(
        (row["page_url"][-1], row["image_url"].rpartition("/")[2], row["captured_at"][:7])
        for row in rows
    )
    return told, {name: count for name, count in counts.items() if count}, stage.out


@pytest.mark.parametrize(
    "fields",
    [
        refers(),
        "WARC-Refers-To: <urn:uuid:1>\r\n",
        f"WARC-Payload-Digest: {DIGEST.lower()}\r\n",
        refers(date="1999-01-01T00:00:00Z"),  # by the digest
        f"WARC-Refers-To-Date: {DATE}\r\nWARC-Refers-To-Target-URI: <http://a.example/1>\r\n",
    ],
)
@pytest.mark.parametrize("place", ["same", "behind", "sibling"])
def test_a_page_comes_from_the_record_that_is_referred_to(
    tmp_path: Path, fields: str, place: str
) -> None:
    again = revisit("http://b.example/2", fields)
    archives = {
        "same": {"a": PAGE + again},
        "behind": {"a": again + PAGE},
        "sibling": {"a": again, "b": PAGE},
    }[place]
    found, counts, _ = extracted(tmp_path, **archives)
    assert found == [("1", "a.jpg", "2026-01"), ("2", "a.jpg", "2026-02")]
    assert counts == {"records": 2, "pages": 2, "candidates": 2}


@pytest.mark.parametrize(
    "fields",
    [
        "",
        refers(digest=OTHER),
        refers("http://a.example/none", digest=OTHER),
        "WARC-Refers-To-Filename: /etc/passwd\r\n",
    ],
)
def test_what_cannot_be_resolved_is_counted(tmp_path: Path, fields: str) -> None:
    found, counts, _ = extracted(tmp_path, a=PAGE + revisit("http://a.example/1", fields))
    assert found == [("1", "a.jpg", "2026-01")]
    assert counts == {"records": 2, "pages": 1, "candidates": 1, "archive.revisit_unresolved": 1}


def test_a_revisit_of_a_revisit_is_not_followed(tmp_path: Path) -> None:
    first = revisit("http://a.example/2", "WARC-Record-ID: <urn:uuid:9>\r\n")
    second = revisit("http://a.example/3", "WARC-Refers-To: <urn:uuid:9>\r\n")
    assert extracted(tmp_path, a=first + second)[1] == {
        "records": 2,
        "archive.revisit_unresolved": 2,
    }


@pytest.mark.parametrize("siblings", [False, True])
def test_an_image_comes_from_the_record_that_is_referred_to(tmp_path: Path, siblings: bool) -> None:
    page = stored(
        "http://a.example/1", b"<img src=/a.jpg alt=dog><img src=/again.jpg alt='the dog again'>"
    )
    again = revisit(
        "http://a.example/again.jpg", refers("http://a.example/a.jpg", digest=OTHER), ""
    )
    data = (page + again, IMAGE) if siblings else (page + IMAGE + again, b"")
    for name, content in zip("ab", data, strict=True):
        if content:
            (tmp_path / f"{name}.warc.gz").write_bytes(content)
    config = CollectConfig(warc=(str(tmp_path / "*.warc.gz"),), fetch=False)
    made = collect(Folder(str(tmp_path / "root")), config, id="one")
    assert (made.counts["fetched"], made.counts["images"], made.counts["archive_images"]) == (
        2,
        1,
        2,
    )
    assert made.accounts[0]["in"] == 3


def test_what_is_said_today_of_an_image_counts(tmp_path: Path) -> None:
    http = "HTTP/1.1 200 OK\r\nX-Robots-Tag: noai\r\n\r\n"
    again = revisit("http://a.example/b.jpg", refers("http://a.example/a.jpg", digest=OTHER), http)
    _, counts, out = extracted(tmp_path, a=IMAGE + again)
    assert counts == {"records": 2, "archive_images": 1, "skipped.permission": 1}
    assert read_table(out, "archive-images-00000.parquet")["image_url"].to_pylist() == [
        "http://a.example/a.jpg"
    ]


def test_a_network_that_fails_leaves_no_revisit_unresolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.sources.retrying.PAUSE", 0.001)
    (tmp_path / "a.warc.gz").write_bytes(revisit("http://b.example/2", refers()))
    with ranged({"/b.warc.gz": PAGE}) as web:
        stage = Extract(
            out=Folder(str(tmp_path / "out")),
            archives=(str(tmp_path / "a.warc.gz"), f"{web.url}/b.warc.gz"),
        )
        (part,) = (one for one in stage.parts() if one.inputs[1].endswith("/a.warc.gz"))
        web.fail = 1000
        with pytest.raises(sources.Unreachable):
            stage.process(part)
        web.fail = 0
        assert stage.process(part).counts["pages"] == 1
