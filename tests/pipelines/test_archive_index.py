"""Records chosen by an index, of which only the bytes are read."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.collect.run import CollectConfig, collect
from pipelines.engine.runner import run_stage
from pipelines.sources.archives.extract_chosen import ExtractChosen, same_address, stretches
from pipelines.sources.archives.indexes import CHOSEN, Choose
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.ranges import RangeWeb, ranged
from tests.pipelines.test_archives import record
from tests.pipelines.web import jpeg


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.sources.retrying.PAUSE", 0.01)


HOSTS = ["a.example", "www.a.example", "b.example", "a.example.b.example"] * 5
PAGES = [
    (f"https://{host}/{number}", b"<img src=/a.jpg alt=%d>" % number + b"x" * 3000)
    for number, host in enumerate(HOSTS)
]
LANGUAGES = ["eng", "deu,eng", "zho", "", "deu"]
MEMBERS = [gzip.compress(record(url, body), mtime=0) for url, body in PAGES]
OFFSETS = [sum(map(len, MEMBERS[:number])) for number in range(len(MEMBERS))]
ARCHIVE = b"".join(MEMBERS)
NAME = "crawl-data/CC/1.warc.gz"


def columnar(path: Path, **columns: list[Any]) -> None:
    """A table of the columnar index of the archive above."""
    hosts = [url.split("/")[2] for url, _ in PAGES]
    table = {
        "url_surtkey": [
            ",".join(reversed(host.removeprefix("www.").split("."))) + f")/{number}"
            for number, host in enumerate(hosts)
        ],
        "url": [url for url, _ in PAGES],
        "url_host_name": hosts,
        "fetch_status": pa.array([200] * 20, pa.int16()),
        "content_mime_detected": ["text/html"] * 20,
        "content_languages": [language or None for language in LANGUAGES * 4],
        "warc_filename": [NAME] * 20,
        "warc_record_offset": pa.array(OFFSETS, pa.int32()),
        "warc_record_length": pa.array(list(map(len, MEMBERS)), pa.int32()),
    }
    pq.write_table(pa.table(table | columns), path, row_group_size=7)


def chosen(tmp_path: Path, *index: str, **filters: Any) -> list[dict[str, Any]]:
    stage = Choose(
        out=Folder(str(tmp_path / "chosen")), index=index, **{"prefix": "memory://cc", **filters}
    )
    manifest = run_stage(stage)
    assert not manifest.failed, manifest.failed
    table = read_table(stage.out, "chosen.arrow")
    assert table.schema.equals(CHOSEN)
    assert manifest.counts.get("index.chosen", 0) == table.num_rows
    assert (
        sum(count for name, count in manifest.counts.items() if name != "index.rows")
        == manifest.counts["index.rows"]
    )
    return table.to_pylist()


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    return [int(row["url"].rsplit("/", 1)[1]) for row in rows]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [*range(20)]),
        ({"languages": ("deu",)}, [1, 4, 6, 9, 11, 14, 16, 19]),
        ({"languages": ("eng", "zho")}, [0, 1, 2, 5, 6, 7, 10, 11, 12, 15, 16, 17]),
        ({"hosts": ("a.example",)}, [0, 1, 4, 5, 8, 9, 12, 13, 16, 17]),
        (
            {"hosts": ("www.a.example", "b.example")},
            [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19],
        ),
        ({"hosts": ("b.example",), "languages": ("eng",)}, [6, 10, 11, 15]),
        ({"hosts": ("xample",)}, []),
        ({"mime": ("image/*",)}, []),
        ({"mime": ("text/*", "image/png")}, [*range(20)]),
        ({"mime": ()}, [*range(20)]),
    ],
)
def test_filters_of_a_columnar_index_and_of_cdxj_choose_the_same(
    tmp_path: Path, filters: dict[str, Any], expected: list[int]
) -> None:
    columnar(tmp_path / "part.parquet")
    rows = chosen(tmp_path, str(tmp_path / "part.parquet"), **filters)
    assert numbers(rows) == expected
    lines = []
    for number, (url, _) in enumerate(PAGES):
        fields = {
            "url": url,
            "mime": "text/html",
            "mime-detected": "text/html",
            "status": "200",
            "languages": (LANGUAGES * 4)[number],
        }
        fields |= {
            "length": str(len(MEMBERS[number])),
            "offset": str(OFFSETS[number]),
            "filename": NAME,
        }
        lines.append(f"example,a)/{number} 20260102030405 {json.dumps(fields)}\n")
    (tmp_path / "cdx-00000.gz").write_bytes(
        gzip.compress("".join(lines[:9]).encode()) + gzip.compress("".join(lines[9:]).encode())
    )
    assert chosen(tmp_path / "text", str(tmp_path / "cdx-00000.gz"), **filters) == rows


def test_a_cdx_file_of_eleven_columns(tmp_path: Path) -> None:
    head = " CDX N b a m s k r M S V g\n"
    line = (
        "example,a)/{n} 20260102030405 https://a.example/{n} {mime} {status} ABC - - {length}"
        " {offset} a.warc.gz\n"
    )
    kinds = [
        ("text/html", 200),
        ("text/html", 404),
        ("image/png", 200),
        ("application/xhtml+xml", 200),
    ]
    lines = [
        line.format(n=n, mime=mime, status=status, length=100, offset=n * 100)
        for n, (mime, status) in enumerate(kinds)
    ]
    (tmp_path / "a.cdx").write_text(head + "".join(lines) + "broken line\n")
    (tmp_path / "a.warc.gz").write_bytes(b"")
    rows = chosen(tmp_path, str(tmp_path / "a.cdx"), prefix="")
    beside = str(tmp_path / "a.warc.gz")
    assert rows == [
        {
            "archive": beside,
            "offset": number * 100,
            "length": 100,
            "url": f"https://a.example/{number}",
        }
        for number in (0, 3)
    ]


@pytest.mark.parametrize(
    ("content", "filters", "message"),
    [
        (
            b"<html>",
            {},
            (
                "is no index: it begins with '<html>' instead of ' CDX ', a CDXJ line or a Parquet"
                " table"
            ),
        ),
        (b" CDX N b a m s k r V g\n", {}, "has no length: give an index of 11 columns"),
        (
            b'a)/ 2026 {"url": "https://a/"}\n',
            {"languages": ("eng",)},
            "does not say the language of a page: choose by host and MIME type",
        ),
    ],
)
def test_what_is_no_index_is_named(
    tmp_path: Path, content: bytes, filters: dict[str, Any], message: str
) -> None:
    (tmp_path / "a.cdx").write_bytes(content)
    stage = Choose(
        out=Folder(str(tmp_path / "chosen")), index=(str(tmp_path / "a.cdx"),), **filters
    )
    with pytest.raises(ValueError, match=r"a\.cdx") as raised:
        stage.process(stage.parts()[0])
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (
            {"languages": ("eng", "en")},
            r"an index names languages by three letters \(ISO 639-3\): eng, deu, zho; not en",
        ),
        (
            {"hosts": ("https://a.example/",)},
            "give hosts by name alone, such as example.org; not https://a.example/",
        ),
    ],
)
def test_filters_that_would_choose_nothing_are_named(
    tmp_path: Path, filters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Choose(out=Folder(str(tmp_path)), index=("x",), **filters)


def test_a_table_without_the_columns_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "a.parquet")
    stage = Choose(out=Folder(str(tmp_path / "chosen")), index=(str(tmp_path),))
    with pytest.raises(
        ValueError,
        match=(
            "has no column content_mime_detected, fetch_status, warc_filename, warc_record_length"
        ),
    ):
        stage.process(stage.parts()[0])


Chosen = tuple[int, int, str]  # offset, length, address


def extracted(
    tmp_path: Path, web: RangeWeb, rows: list[Chosen], **options: Any
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Candidates and counts of records at (offset, length) of the served archive, chosen by
    CDXJ.
    """
    lines = [
        json.dumps(
            {
                "url": url,
                "mime": "text/html",
                "status": "200",
                "offset": str(offset),
                "length": str(length),
                "filename": NAME,
            }
        )
        for offset, length, url in rows
    ]
    (tmp_path / "a.cdxj").write_text("".join(f"k 2026 {line}\n" for line in lines))
    run_stage(
        Choose(
            out=Folder(str(tmp_path / "chosen")), index=(str(tmp_path / "a.cdxj"),), prefix=web.url
        )
    )
    stage = ExtractChosen(
        out=Folder(str(tmp_path / "candidates")), chosen=Folder(str(tmp_path / "chosen")), **options
    )
    manifest = run_stage(stage)
    assert not manifest.failed, manifest.failed
    return read_table(stage.out, "part-00000.parquet").to_pylist(), {
        name: count for name, count in manifest.counts.items() if count
    }


def place(number: int) -> Chosen:
    return OFFSETS[number], len(MEMBERS[number]), PAGES[number][0]


def test_only_the_bytes_of_chosen_records_travel(tmp_path: Path) -> None:
    with ranged({f"/{NAME}": ARCHIVE}) as web:
        rows, counts = extracted(
            tmp_path, web, [place(number) for number in (12, 3, 4, 17)], near=0
        )
        assert sorted(web.asked) == [
            (f"/{NAME}", OFFSETS[3], OFFSETS[5]),
            (f"/{NAME}", OFFSETS[12], OFFSETS[13]),
            (f"/{NAME}", OFFSETS[17], OFFSETS[18]),
        ]
        assert (web.heads, web.sent) == ([], sum(len(MEMBERS[number]) for number in (3, 4, 12, 17)))
        assert counts == {"candidates": 4, "pages": 4, "records": 4}
        assert [(row["text"], row["page_url"], row["archive"], row["offset"]) for row in rows] == [
            (str(number), PAGES[number][0], f"{web.url}/{NAME}", OFFSETS[number])
            for number in (3, 4, 12, 17)
        ]


def test_near_records_are_read_in_one_range(tmp_path: Path) -> None:
    with ranged({f"/{NAME}": ARCHIVE}) as web:
        extracted(tmp_path, web, [place(number) for number in (3, 5, 19)], near=len(MEMBERS[4]))
        assert sorted(web.asked) == [
            (f"/{NAME}", OFFSETS[3], OFFSETS[6]),
            (f"/{NAME}", OFFSETS[19], len(ARCHIVE)),
        ]


def test_a_failing_host_is_asked_again_and_every_wrong_range_is_counted(tmp_path: Path) -> None:
    with ranged({f"/{NAME}": ARCHIVE}) as web:
        web.fail, web.cut = 1, 2
        wrong = [
            (OFFSETS[5] + 3, 50, PAGES[5][0]),  # in the middle of a record
            (OFFSETS[7], len(MEMBERS[7]), "https://a.example/other"),
            (OFFSETS[19], len(MEMBERS[19]) + 1, PAGES[19][0]),  # behind the end of the file
            (len(ARCHIVE) + 5000, 100, PAGES[19][0]),
            place(0),
        ]
        rows, counts = extracted(tmp_path, web, wrong)
        wrong = {"archive.no_record": 1, "archive.other_record": 1, "archive.short_range": 2}
        assert counts == {**wrong, "candidates": 1, "pages": 1, "records": 5}
        assert [row["text"] for row in rows] == ["0"]


def test_an_archive_that_is_not_there_is_counted(tmp_path: Path) -> None:
    with ranged({}) as web:
        rows, counts = extracted(tmp_path, web, [place(0), place(9)])
        assert (rows, counts) == ([], {"archive.missing": 2, "records": 2})


def test_a_host_that_is_down_is_an_error_of_the_part_and_no_outcome(tmp_path: Path) -> None:
    with ranged({f"/{NAME}": ARCHIVE}) as web:
        web.fail = 1000
        with pytest.raises(AssertionError, match="run the same command again later"):
            extracted(tmp_path, web, [place(0)])


def test_chosen_images_are_held_by_their_archive(tmp_path: Path) -> None:
    photo = gzip.compress(record("https://a.example/a.jpg", jpeg(), "Content-Type: image/jpeg\r\n"))
    with ranged({f"/{NAME}": ARCHIVE + photo}) as web:
        _, counts = extracted(
            tmp_path, web, [place(0), (len(ARCHIVE), len(photo), "https://a.example/a.jpg")]
        )
        assert counts == {"archive_images": 1, "candidates": 1, "pages": 1, "records": 2}
        (held,) = read_table(
            Folder(str(tmp_path / "candidates")), "archive-images-00000.parquet"
        ).to_pylist()
        assert (held["image_url"], held["archive"], held["offset"]) == (
            "https://a.example/a.jpg",
            f"{web.url}/{NAME}",
            len(ARCHIVE),
        )


def test_records_are_put_together() -> None:
    rows = [
        {"archive": archive, "offset": offset, "length": length, "url": ""}
        for archive, offset, length in [
            ("a", 0, 10),
            ("a", 10, 5),
            ("a", 12, 30),
            ("a", 60, 5),
            ("a", 100, 9_000_000),
            ("b", 100, 1),
        ]
    ]
    found = [(one.archive, one.start, one.end, len(one.places)) for one in stretches(rows, 18)]
    assert found == [("a", 0, 65, 4), ("a", 100, 9_000_100, 1), ("b", 100, 101, 1)]


def test_addresses_spelled_otherwise() -> None:
    assert same_address("https://A.example:443/x#y", "https://a.example/x")
    assert same_address("http://a.example", "http://a.example:80/")
    assert not same_address("https://a.example/x?y", "https://a.example/x")


def test_the_order_of_an_index_changes_nothing(tmp_path: Path) -> None:
    columnar(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(pa.concat_tables([table.slice(9), table.slice(0, 12)]), tmp_path / "b.parquet")
    assert chosen(tmp_path / "x", str(tmp_path / "a.parquet")) == chosen(
        tmp_path / "y", str(tmp_path / "b.parquet")
    )


def test_a_columnar_index_at_a_host(tmp_path: Path) -> None:
    columnar(tmp_path / "part.parquet")
    data = (tmp_path / "part.parquet").read_bytes()
    with ranged({"/cc-index/part.parquet": data, f"/{NAME}": ARCHIVE}) as web:
        rows = chosen(
            tmp_path,
            f"{web.url}/cc-index/part.parquet",
            hosts=("b.example",),
            languages=("zho",),
            prefix="",
        )
        assert [(row["archive"], row["url"]) for row in rows] == [
            (f"{web.url}/{NAME}", PAGES[number][0])
            for number in (2, 7)
            if PAGES[number][0].startswith(("https://b.", "https://a.example.b."))
        ]
        assert all(
            start is not None for path, start, _ in web.asked if path == "/cc-index/part.parquet"
        )


SOUND = (
    b'org,a)/1 2026 {"url": "http://a.org/1", "mime": "text/html", "status": "200", '
    b'"offset": "0", "length": "9", "filename": "a.warc.gz"}\n'
)


@pytest.mark.parametrize(
    "line",
    [
        b"no json at all",
        b"{",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"{" + b"x" * 3_000_000,
        b'{"status": "200", "mime": "text/html", "offset": "-1", "length": "9", "filename": "a"}',
        '{"status": "200", "mime": "text/html", "offset": "²", "length": "9", "filename": "a"}'.encode(),  # noqa: E501
        (
            b'{"status": "200", "mime": "text/html", "offset": "99999999999999999999999", "length":'
            b' "9", "filename": "a"}'
        ),
        b'{"status": "200", "mime": "text/html", "offset": "1", "length": "0", "filename": "a"}',
        b'{"status": "200", "mime": "text/html", "offset": "1", "length": "9"}',
        b'{"status": "200", "mime": "text/html", "offset": [1], "length": {}, "filename": null}',
        b'{"status": 200, "mime": "text/html", "offset": '
        + b"9" * 5000
        + b', "length": 9, "filename": "a"}',
        b"\xff\xfe\x00",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_line_that_cannot_be_read_costs_itself(tmp_path: Path, line: bytes, packed: bool) -> None:
    data = SOUND + line + b"\n\n" + SOUND.replace(b"/1", b"/2")
    (tmp_path / "a.cdxj").write_bytes(gzip.compress(data) if packed else data)
    stage = Choose(out=Folder(str(tmp_path / "chosen")), index=(str(tmp_path / "a.cdxj"),))
    output = stage.process(stage.parts()[0])
    assert output.counts == {"index.rows": 3, "index.chosen": 2, "index.unreadable": 1}


def test_a_compressed_index_that_is_cut_or_damaged_gives_what_came_before(tmp_path: Path) -> None:
    lines = b"".join(SOUND.replace(b"/1", b"/%d" % number) for number in range(5000))
    (tmp_path / "a.cdxj.gz").write_bytes(gzip.compress(lines)[:-2000])
    stage = Choose(out=Folder(str(tmp_path / "chosen")), index=(str(tmp_path / "a.cdxj.gz"),))
    counts = stage.process(stage.parts()[0]).counts
    assert counts["index.damaged"] == 1
    assert 1000 < counts["index.chosen"] < 5000
    assert counts["index.rows"] == counts["index.chosen"] + counts.get("index.unreadable", 0)


def test_a_table_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"\0" * 500 + b"PAR1")
    stage = Choose(out=Folder(str(tmp_path / "chosen")), index=(str(tmp_path / "a.parquet"),))
    with pytest.raises(ValueError, match=r"a\.parquet is a damaged table"):
        stage.process(stage.parts()[0])


def test_the_index_of_a_package_chooses_records_in_it(tmp_path: Path) -> None:
    pages = [
        gzip.compress(record(f"http://a.org/{number}", b"<img src=/a.jpg alt=dog>"))
        for number in range(3)
    ]
    line = (
        '{{"url": "http://a.org/{}", "mime": "text/html", "status": 200, "offset": {}, "length":'
        ' {}, "filename": "data.warc.gz"}}\n'
    )
    places = [len(b"".join(pages[:number])) for number in range(3)]
    index = "".join(
        "org,a)/ 2026 " + line.format(number, places[number], len(pages[number]))
        for number in (0, 2)
    )
    with zipfile.ZipFile(tmp_path / "a.wacz", "w") as package:
        package.writestr("archive/data.warc.gz", b"".join(pages))
        package.writestr(
            "indexes/index.cdx.gz",
            gzip.compress(b'!meta 0 {"format": "cdxj-gzip-1.0"}\n' + index.encode()),
        )
        package.writestr("indexes/index.idx", b"!meta 0 {}\n")
    config = CollectConfig(index=(str(tmp_path / "a.wacz"),), fetch=False)
    made = collect(Folder(str(tmp_path / "root")), config, id="one")
    assert made.accounts[0] == {"of": "index.rows", "in": 2, "went": {"index.chosen": 2}}
    assert made.accounts[1] == {"of": "records", "in": 2, "went": {"pages": 2}}
