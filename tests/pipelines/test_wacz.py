"""WACZ files: zips of WARC files, read in place; broken ones, bombs, and odd names."""

import gzip
import io
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import IO, Any

import pytest

from pipelines.collect.run import CollectConfig, collect
from pipelines.sources.archives import wacz
from pipelines.sources.archives.extract import RECORDS, Extract
from pipelines.sources.archives.responses import response_at
from pipelines.sources.paths import expand, information, inside, opened, read_range
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.ranges import ranged
from tests.pipelines.test_archives import record
from tests.pipelines.web import jpeg

PHOTO = jpeg()
PAGE = gzip.compress(record("http://a.example/1", b"<img src=/a.jpg alt='a dog'>"))
IMAGE = gzip.compress(record("http://a.example/a.jpg", PHOTO, "Content-Type: image/jpeg\r\n"))
OTHER = gzip.compress(record("http://a.example/2", b"<img src=/b.jpg alt='a cat'>"))


def _placed(offset: str, length: str, name: str = "data.warc.gz", url: str = "") -> bytes:
    """A line of an index."""
    entry = {"url": url, "mime": "text/html", "status": "200", "filename": name}
    return b"com,a)/ 2024 " + json.dumps({**entry, "offset": offset, "length": length}).encode()


def package(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as target:
        for name, data in files.items():
            target.writestr(name, data)
    return made.getvalue()


TWO = {
    "archive/data.warc.gz": PAGE + IMAGE,
    "archive/more.warc.gz": OTHER,
    "pages/pages.jsonl": b"{}",
    "datapackage.json": b"{}",
}


def extracted(tmp_path: Path, *patterns: object) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """(page, image) of each candidate, and the counts."""
    stage = Extract(out=Folder(str(tmp_path / "candidates")), archives=tuple(map(str, patterns)))
    rows, counts = [], dict[str, int]()
    for part in stage.parts():
        output = stage.process(part)
        RECORDS.check(output.counts["records"], output.counts, part.name)
        rows += (
            read_table(stage.out, f"part-{part.name}.parquet")
            .select(["page_url", "image_url"])
            .to_pylist()
        )
        counts = {
            name: counts.get(name, 0) + output.counts.get(name, 0)
            for name in counts.keys() | output.counts.keys()
        }
    return [(row["page_url"][-1], row["image_url"][-5]) for row in rows], {
        name: count for name, count in counts.items() if count
    }


FOUND = [("1", "a"), ("2", "b")]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_in_a_package(tmp_path: Path, method: int) -> None:
    (tmp_path / "a.wacz").write_bytes(package(TWO, method))
    found, counts = extracted(tmp_path, tmp_path / "a.wacz")
    assert found == FOUND
    assert counts == {"records": 3, "pages": 2, "archive_images": 1, "candidates": 2}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_images_come_out_of_a_package(tmp_path: Path, method: int) -> None:
    (tmp_path / "a.wacz").write_bytes(package(TWO, method))
    config = CollectConfig(warc=(str(tmp_path / "a.wacz"),), fetch=False)
    made = collect(Folder(str(tmp_path / "root")), config, id="one")
    assert (made.counts["fetched"], made.counts["fetch.not_asked"], made.counts["images"]) == (
        1,
        1,
        1,
    )
    assert made.accounts[0] == {"of": "records", "in": 3, "went": {"pages": 2, "archive_images": 1}}


def test_a_package_at_a_remote_host_is_read_in_ranges(tmp_path: Path) -> None:
    filler = {"archive/filler.bin": bytes(3_000_000)}
    with ranged({"/a.wacz": package({**filler, **TWO})}) as web:
        assert extracted(tmp_path, f"{web.url}/a.wacz")[0] == FOUND


def test_packages_in_a_package(tmp_path: Path) -> None:
    inner, profile = (
        package({"archive/data.warc.gz": PAGE}),
        json.dumps({"profile": "multi-wacz-package", "resources": []}).encode(),
    )
    outer = package(
        {
            "datapackage.json": profile,
            "inner.wacz": inner,
            "more.WACZ": package({"archive/x.warc": gzip.decompress(OTHER)}),
        }
    )
    (tmp_path / "a.wacz").write_bytes(outer)
    assert sorted(extracted(tmp_path, tmp_path / "a.wacz")[0]) == FOUND


def test_a_list_of_packages(tmp_path: Path) -> None:
    (tmp_path / "one.wacz").write_bytes(package({"archive/data.warc.gz": PAGE}))
    (tmp_path / "two.wacz").write_bytes(package({"archive/data.warc.gz": OTHER}))
    resources = [{"name": "one.wacz", "path": "one.wacz"}, {"path": "two.wacz"}, {"path": 3}, "x"]
    (tmp_path / "datapackage.json").write_text(
        json.dumps({"profile": "multi-wacz-package", "resources": resources})
    )
    assert sorted(extracted(tmp_path, tmp_path / "datapackage.json")[0]) == FOUND
    (tmp_path / "other.json").write_text('{"profile": "data-package"}')
    with pytest.raises(ValueError, match=r"other\.json is no multi-wacz-package"):
        extracted(tmp_path, tmp_path / "other.json")


def test_zips_in_zips_without_end(tmp_path: Path) -> None:
    data = package({"archive/data.warc.gz": PAGE})
    for _ in range(10):
        data = package({"a.wacz": data})
    (tmp_path / "a.wacz").write_bytes(data)
    assert extracted(tmp_path, tmp_path / "a.wacz") == (
        [],
        {"records": 1, "archive.broken_wacz": 1},
    )


def damaged(what: str) -> bytes:
    whole = package(TWO)
    if what == "cut":
        return whole[:-100]
    if what == "no zip":
        return b"<html>not found"
    if what == "empty":
        return package({})
    if what == "nothing":
        return b""
    start = whole.rindex(b"PK\x05\x06") + 16  # where the directory begins
    return whole[:start] + b"\xff\xff\xff\x7f" + whole[start + 4 :]


@pytest.mark.parametrize("what", ["cut", "no zip", "empty", "nothing", "directory"])
def test_a_broken_package_is_counted_and_the_others_are_read(tmp_path: Path, what: str) -> None:
    (tmp_path / "a.wacz").write_bytes(package(TWO))
    (tmp_path / "b.wacz").write_bytes(damaged(what))
    found, counts = extracted(tmp_path, tmp_path / "*.wacz")
    assert found == FOUND
    assert counts == {
        "records": 4,
        "pages": 2,
        "archive_images": 1,
        "candidates": 2,
        "archive.broken_wacz": 1,
    }


def test_what_cannot_be_read_in_a_package_is_counted(tmp_path: Path) -> None:
    broken = bytearray(
        package(
            {
                "archive/a.warc.gz": PAGE,
                "archive/b.warc.gz": b"no archive",
                "archive/c.warc.gz": OTHER,
            }
        )
    )
    broken[broken.index(b"PK\x01\x02") + 8] |= 1  # the first says that it is encrypted
    (tmp_path / "a.wacz").write_bytes(bytes(broken))
    found, counts = extracted(tmp_path, tmp_path / "a.wacz")
    assert found == [("2", "b")]
    assert counts["archive.unreadable"] == 2


def test_entries_that_overlap_are_refused() -> None:
    data = bytearray(package({f"archive/{number}.warc": b"x" * 100 for number in range(3)}))
    directory = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", directory + 4)
    data[second + 42 : second + 46] = data[directory + 42 : directory + 46]
    with pytest.raises(ValueError, match="overlaps another"):
        wacz.entries(io.BytesIO(bytes(data)))


def test_a_deflated_entry_that_says_it_is_huge_is_not_read() -> None:
    entry = wacz.Entry(
        name="a", header=0, packed=1000, size=1 << 40, method=wacz.DEFLATED, encrypted=False
    )
    with pytest.raises(ValueError, match="a bomb"):
        wacz.open_entry(io.BytesIO(package({"a": b"x" * 2000})), entry)
    honest = package({"a": bytes(1_000_000)}, zipfile.ZIP_DEFLATED)
    (short,) = wacz.entries(io.BytesIO(honest))
    lying = wacz.Entry(
        name="a", header=0, packed=short.packed, size=1000, method=wacz.DEFLATED, encrypted=False
    )
    assert wacz.open_entry(io.BytesIO(honest), lying).read() == bytes(1000)  # no more than it says


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/a.warc",
        "/etc/a.warc",
        "archive/ä b::c%41.warc",
        "archive/a:b@h.warc",
        "http://x.example/a.warc",
    ],
)
def test_names_are_looked_up_and_lead_nowhere(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.wacz"
    path.write_bytes(package({name: gzip.decompress(PAGE)}))
    (url,) = inside(str(path))
    assert wacz.parted(url) == (name, str(path))
    assert extracted(tmp_path, path)[0] == [("1", "a")]
    assert list(tmp_path.parent.glob("etc/*")) == []


def test_addresses_in_packages_are_read_like_others(tmp_path: Path) -> None:
    path = tmp_path / "a.wacz"
    path.write_bytes(package(TWO, zipfile.ZIP_DEFLATED))
    url = wacz.address("archive/data.warc.gz", str(path))
    assert [source.url for source in expand([str(path)])] == [
        url,
        wacz.address("archive/more.warc.gz", str(path)),
    ]
    assert information(url) == {"size": len(PAGE + IMAGE)}
    assert read_range(url, len(PAGE), len(PAGE) + 10) == IMAGE[:10]
    with opened(url) as file:
        file.seek(len(PAGE))
        assert file.read() == IMAGE
        file.seek(0)
        assert file.read(4) == PAGE[:4]
        assert file.seek(0, 2) == len(PAGE + IMAGE)
        assert file.read() == b""
    with (
        pytest.raises(ValueError, match=r"holds no 'archive/none\.warc'"),
        opened(wacz.address("archive/none.warc", str(path))),
    ):
        pass


def test_a_deflated_archive_is_inflated_once_for_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, opens = wacz.open_entry, list[str]()

    def counted(stream: IO[bytes], entry: wacz.Entry) -> IO[bytes]:
        opens.append(entry.name)
        return known(stream, entry)

    monkeypatch.setattr(wacz, "open_entry", counted)
    pages = [record(f"http://a.example/{n}", b"<img src=/%d.jpg alt=x>" % n) for n in range(60)]
    path = tmp_path / "a.wacz"
    path.write_bytes(package({"archive/a.warc": b"".join(pages)}, zipfile.ZIP_DEFLATED))
    url = wacz.address("archive/a.warc", str(path))
    places = [sum(map(len, pages[:number])) for number in range(60)]
    for number in [*range(59, -1, -1), *range(60)]:
        found = response_at(url, places[number], limit=1 << 20)
        assert found is not None
        assert found.url == f"http://a.example/{number}"
    assert opens == ["archive/a.warc"]

    path.write_bytes(package({"archive/a.warc": pages[7]}, zipfile.ZIP_DEFLATED))
    found = response_at(url, 0, limit=1 << 20)
    assert found is not None
    assert found.url == "http://a.example/7"


LIES = [
    (b"not json at all", "index.unreadable"),
    (b'com,a)/ 2024 {"url": "http://a.example/1", "offset"', "index.unreadable"),
    (b'com,a)/ 2024 ["http://a.example/1"]', "index.unreadable"),
    (b"com,a)/ 2024 " + b'{"a":' * 100_000, "index.unreadable"),
    (b"com,a)/ 2024 {" + b" " * (2 << 20) + b"}", "index.unreadable"),
    (_placed("-5", "10"), "index.unreadable"),
    (_placed("9" * 30, "10"), "index.unreadable"),
    (_placed("1e3", "10"), "index.unreadable"),
    (_placed("0", "0"), "index.unreadable"),
    (_placed("9" * 18, "10"), "archive.short_range"),
    (_placed("0", "9" * 18), "archive.large_record"),
    (_placed("100000", "70000"), "archive.short_range"),
    (_placed("3", "70"), "archive.no_record"),
    (_placed("0", "70", "none.warc.gz"), "archive.missing"),
    (_placed("0", "70", "../../../etc/passwd"), "archive.missing"),
    (_placed("0", str(len(PAGE)), url="http://b.example/"), "archive.other_record"),
]


@pytest.mark.parametrize("kind", ["stored", "deflated", "beside a file"])
def test_whatever_an_index_says_each_of_its_lines_is_counted(tmp_path: Path, kind: str) -> None:
    good = _placed("0", str(len(PAGE)), url="http://a.example/1")
    index = b"\n".join([good, *(line for line, _ in LIES)])
    if kind == "beside a file":
        (tmp_path / "data.warc.gz").write_bytes(TWO["archive/data.warc.gz"])
        (tmp_path / "none.warc.gz").write_bytes(PAGE[:70])
        (tmp_path / "a.cdxj").write_bytes(index)
    else:
        method = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
        (tmp_path / "a.wacz").write_bytes(package({**TWO, "indexes/a.cdxj": index}, method))
    given = next(iter([*tmp_path.glob("a.wacz"), *tmp_path.glob("a.cdxj")]))

    config = CollectConfig(index=(str(given),), fetch=False)
    if kind == "beside a file":
        config = config.model_copy(update={"path_prefix": str(tmp_path)})
    made = collect(Folder(str(tmp_path / "root")), config, id="one")
    rows, records = made.accounts[:2]
    expected = Counter(outcome for _, outcome in LIES)
    unreadable = expected.pop("index.unreadable")
    if kind == "beside a file":
        expected.update({"archive.no_record": 1, "archive.missing": -1})
    chosen = sum(expected.values()) + 1
    went = {"index.chosen": chosen, "index.unreadable": unreadable}
    assert rows == {"of": "index.rows", "in": chosen + unreadable, "went": went}
    assert records == {"of": "records", "in": chosen, "went": {"pages": 1, **expected}}


def test_a_large_archive_in_a_package_becomes_parts(tmp_path: Path) -> None:
    pages = b"".join(
        gzip.compress(record(f"http://a.example/{number}", b"<img src=/%d.jpg alt=x>" % number))
        for number in range(200)
    )
    (tmp_path / "a.wacz").write_bytes(package({"archive/a.warc.gz": pages}))
    options: dict[str, Any] = {
        "archives": (str(tmp_path / "a.wacz"),),
        "range_bytes": len(pages) // 3,
    }
    stage = Extract(out=Folder(str(tmp_path / "candidates")), **options)
    assert len(stage.parts()) == 3
    assert sum(stage.process(part).counts["pages"] for part in stage.parts()) == 200


def test_a_directory_is_read_once_for_all_its_archives_and_anew_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, read = wacz.entries, list[str]()

    def entries(stream: IO[bytes]) -> list[wacz.Entry]:
        read.append("a directory")
        return known(stream)

    monkeypatch.setattr(wacz, "entries", entries)
    path = tmp_path / "a.wacz"
    path.write_bytes(package({f"archive/{number}.warc.gz": PAGE for number in range(50)}))
    stage = Extract(out=Folder(str(tmp_path / "candidates")), archives=(str(path),))
    assert len(stage.parts()) == len(stage.inputs()) == 50
    assert sum(stage.process(part).counts["pages"] for part in stage.parts()) == 50
    assert len(read) == 4  # three times to list them, once to look them up

    path.write_bytes(package({f"archive/{number}.warc.gz": OTHER + OTHER for number in range(50)}))
    assert {information(source.url)["size"] for source in expand([str(path)])} == {2 * len(OTHER)}
