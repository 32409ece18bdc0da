"""Archives, whole, damaged and foreign, made here and (marked real) found in the wild."""

import gzip
import io
import os
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from fastwarc.warc import ArchiveIterator

from pipelines.sources.archives.extract import Extract
from pipelines.sources.archives.responses import decoded, response_at, responses
from pipelines.store import Folder
from pipelines.web.warc_writer import Exchange, PageWriter, mend, part_names, whole_length

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "warc"


def record(
    url: str, body: bytes, headers: str = "Content-Type: text/html\r\n", kind: str = "response"
) -> bytes:
    http = f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode() + body
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date:"
        " 2026-01-02T03:04:05Z\r\n"
    )
    return (
        f"{head}Content-Type: application/http;msgtype={kind}\r\nContent-Length:"
        f" {len(http)}\r\n\r\n".encode()
        + http
        + b"\r\n\r\n"
    )


def read(
    path: Path, counts: Counter[str] | None = None, limit: int = 1 << 20
) -> list[tuple[str, bytes]]:
    counts = Counter() if counts is None else counts
    return [
        (response.url, response.body)
        for response in responses(str(path), counts, wanted=lambda status, media: True, limit=limit)
    ]


def trouble(counts: Counter[str]) -> dict[str, int]:
    """What is counted of an archive's own faults."""
    return {name: count for name, count in counts.items() if name.startswith("archive.")}


def test_responses_of_plain_and_compressed_archives(tmp_path: Path) -> None:
    records = [record("http://a.example/1", b"one"), record("http://a.example/2", b"two")]
    (tmp_path / "a.warc").write_bytes(b"".join(records))
    (tmp_path / "a.warc.gz").write_bytes(b"".join(gzip.compress(data) for data in records))
    expected = [("http://a.example/1", b"one"), ("http://a.example/2", b"two")]
    assert read(tmp_path / "a.warc") == expected
    assert read(tmp_path / "a.warc.gz") == expected
    offset = len(gzip.compress(records[0]))
    found = response_at(str(tmp_path / "a.warc.gz"), offset, limit=100)
    assert found is not None
    assert (found.url, found.body, found.captured_at, found.status) == (
        "http://a.example/2",
        b"two",
        "2026-01-02T03:04:05Z",
        200,
    )


def test_a_cut_archive_gives_what_was_whole(tmp_path: Path) -> None:
    records = [
        gzip.compress(record(f"http://a.example/{number}", bytes(range(256)) * 40))
        for number in range(3)
    ]
    (tmp_path / "cut.warc.gz").write_bytes(b"".join(records)[:-20])
    counts: Counter[str] = Counter()
    found = read(tmp_path / "cut.warc.gz", counts)
    assert [url for url, _ in found][:2] == ["http://a.example/0", "http://a.example/1"]
    assert counts["archive.truncated"] == 1


PAGES = [
    record(f"http://a.example/{number}", random.Random(number).randbytes(3000))
    for number in range(6)
]


def damaged(where: int) -> bytes:
    """The third of six members with one byte changed."""
    members = [gzip.compress(page) for page in PAGES]
    third = bytearray(members[2])
    third[where] ^= 0xFF
    return b"".join([*members[:2], bytes(third), *members[3:]])


@pytest.mark.parametrize("where", [0, 1, 2, 12, 300, 1500, -6, -1])
def test_behind_a_damaged_member_reading_goes_on(tmp_path: Path, where: int) -> None:
    (tmp_path / "bad.warc.gz").write_bytes(damaged(where))
    counts: Counter[str] = Counter()
    assert [url[-1] for url, _ in read(tmp_path / "bad.warc.gz", counts)] == [
        "0",
        "1",
        "3",
        "4",
        "5",
    ]
    assert trouble(counts) == {"archive.corrupt_member": 1}


@pytest.mark.parametrize(
    ("between", "found"),
    [
        (b"\0" * 512, "012345"),
        (b"\x1f\x8bnot gzip at all" * 30, "012345"),
        (gzip.compress(b"no record") + b"junk", "012345"),
        (gzip.compress(PAGES[0])[:500] + b"\0" * 70_000, "012345"),
    ],
)
def test_behind_foreign_bytes_reading_goes_on(tmp_path: Path, between: bytes, found: str) -> None:
    members = [gzip.compress(page) for page in PAGES]
    (tmp_path / "bad.warc.gz").write_bytes(b"".join([*members[:3], between, *members[3:]]))
    counts: Counter[str] = Counter()
    assert "".join(url[-1] for url, _ in read(tmp_path / "bad.warc.gz", counts)) == found
    assert counts["archive.corrupt_member"] >= 1
    assert counts["archive.truncated"] == 0


def test_a_large_member_damaged_in_its_body_is_left_out_alone(tmp_path: Path) -> None:
    large = bytearray(
        gzip.compress(record("http://a.example/large", random.Random(1).randbytes(900_000)))
    )
    large[500_000] ^= 0xFF
    members = [gzip.compress(page) for page in PAGES]
    (tmp_path / "bad.warc.gz").write_bytes(b"".join([*members[:2], bytes(large), *members[2:]]))
    counts: Counter[str] = Counter()
    assert [url[-1] for url, _ in read(tmp_path / "bad.warc.gz", counts)] == list("012345")
    assert trouble(counts) == {"archive.corrupt_member": 1}


def ranges(path: Path, cuts: list[int], limit: int = 1 << 20) -> list[tuple[int, str]]:
    """(offset, address) of the records of all ranges between cuts, one range after another."""
    found = []
    for start, end in pairwise([0, *cuts, None]):
        assert start is not None
        every = responses(
            str(path),
            Counter(),
            wanted=lambda status, media: True,
            limit=limit,
            start=start,
            end=end,
        )
        found += [(response.offset, response.url) for response in every]
    return found


def packed(seed: int, records: int = 400) -> bytes:
    """Members of all sizes, some of which hold an archive themselves that deflate stores as it
    is.
    """
    draw = random.Random(seed)
    inner = b"".join(
        gzip.compress(record(f"http://inner.example/{number}", draw.randbytes(200)))
        for number in range(90)
    )
    bodies = (
        lambda: draw.randbytes(draw.randint(0, 3000)),
        lambda: b"text " * draw.randint(0, 9000),
        lambda: inner * draw.randint(1, 5),
    )
    kinds = draw.choices((0, 1, 2), (5, 5, 1), k=records)
    made = [
        (kind, record(f"http://a.example/{number}", bodies[kind]()))
        for number, kind in enumerate(kinds)
    ]
    return b"".join(gzip.compress(one, 0 if kind == 2 else 6) for kind, one in made)


def test_ranges_cut_anywhere_give_each_record_once(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(packed(1))
    whole = ranges(path, [])
    assert len(whole) == 400
    # of which 400 are members of this archive
    assert path.read_bytes().count(b"\x1f\x8b\x08") > 2000
    draw = random.Random(2)
    size = path.stat().st_size
    for _ in range(40):
        assert (
            ranges(path, sorted(draw.randint(1, size + 10) for _ in range(draw.randint(1, 5))))
            == whole
        )


def test_ranges_of_a_damaged_archive_give_each_record_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.warc.gz"
    draw = random.Random(3)
    data = bytearray(packed(4))
    for place in draw.sample(range(len(data)), 5):
        data[place] ^= 0xFF
    path.write_bytes(bytes(data[:-100]))
    whole = ranges(path, [])
    assert 300 < len(whole) < 400
    for _ in range(20):
        assert ranges(path, sorted(draw.randint(1, len(data)) for _ in range(3))) == whole


def test_one_member_of_many_records_is_read_by_its_first_range(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(b"".join(PAGES)))
    assert [url[-1] for _, url in ranges(tmp_path / "a.warc.gz", [5000, 9000])] == list("012345")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_zstd_archive_with_a_dictionary(tmp_path: Path, compressed: bool) -> None:
    plain = [
        record(f"http://a.example/{number}", f"page {number} of one kind".encode() * 3)
        for number in range(300)
    ]
    dictionary = zstandard.train_dictionary(2000, plain)
    stored = (
        zstandard.ZstdCompressor().compress(dictionary.as_bytes())
        if compressed
        else dictionary.as_bytes()
    )
    frames = [zstandard.ZstdCompressor(dict_data=dictionary).compress(one) for one in plain[:3]]
    head = b"\x5d\x2a\x4d\x18" + len(stored).to_bytes(4, "little") + stored
    path = tmp_path / "a.warc.zst"
    path.write_bytes(head + b"".join(frames))
    every = list(responses(str(path), Counter(), wanted=lambda status, media: True, limit=1000))
    assert [(response.url[-1], response.body[:6]) for response in every] == [
        ("0", b"page 0"),
        ("1", b"page 1"),
        ("2", b"page 2"),
    ]
    assert [response.offset for response in every] == [
        len(head),
        len(head) + len(frames[0]),
        len(head) + len(frames[0]) + len(frames[1]),
    ]
    found = response_at(str(path), every[2].offset, limit=100)
    assert found is not None
    assert found.url == "http://a.example/2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, not a WARC file"),
        (
            b"\x00\x01\x02random",
            "is no WARC file: it begins with b'\\x00\\x01\\x02random' instead of b'WARC/'",
        ),
        (gzip.compress(b"hello"), "is no WARC file: it begins with b'hello'"),
        (b"filedesc://x.arc 0.0.0.0 2008\n", "is an ARC file"),
        (b"<html>", "is no WARC file"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.warc.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.warc\.gz") as raised:
        read(path)
    assert message in str(raised.value)


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no archive at .*gone\.warc"):
        read(tmp_path / "gone.warc")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.warc.gz")
    (tmp_path / "b.warc.gz").symlink_to("/dev/zero")
    stage = Extract(out=Folder(str(tmp_path / "out")), archives=(str(tmp_path / "*.warc.gz"),))
    assert stage.identity()
    for part in stage.parts():
        with pytest.raises(ValueError, match=r"there is no archive at .*\.warc\.gz"):
            stage.process(part)


def test_bodies_are_bounded(tmp_path: Path) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    packed = record(
        "http://a.example/bomb", bomb, "Content-Type: text/html\r\nContent-Encoding: gzip\r\n"
    )
    (tmp_path / "big.warc").write_bytes(record("http://a.example/big", b"y" * 2000) + packed)
    found = list(
        responses(
            str(tmp_path / "big.warc"), Counter(), wanted=lambda status, media: True, limit=1000
        )
    )
    assert [(len(response.body), response.cut) for response in found] == [
        (1000, True),
        (1000, True),
    ]


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (
            b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
            (("Transfer-Encoding", "chunked"),),
            b"hello world",
        ),
        (
            b"<html>not chunked after all",
            (("Transfer-Encoding", "chunked"),),
            b"<html>not chunked after all",
        ),
        (gzip.compress(b"hello"), (("Content-Encoding", "gzip"),), b"hello"),
        (b"hello", (("Content-Encoding", "gzip"),), b"hello"),
        (gzip.compress(b"hello" * 1000)[:-6], (("content-encoding", "GZIP"),), b"hello" * 1000),
        (
            b"x\x9c\xcbH\xcd\xc9\xc9\x07\x00\x06,\x02\x15",
            (("Content-Encoding", "deflate"),),
            b"hello",
        ),
        (b"\xcbH\xcd\xc9\xc9\x07\x00", (("Content-Encoding", "deflate"),), b"hello"),
        (b"\x0b\x02\x80hello\x03", (("Content-Encoding", "br"),), b"hello"),
        (b"hello", (("Content-Encoding", "identity"),), b"hello"),
    ],
)
def test_encodings(body: bytes, headers: tuple[tuple[str, str], ...], expected: bytes) -> None:
    assert decoded(body, headers, 1 << 20) == expected


def test_a_crawl_is_written_as_warc(tmp_path: Path) -> None:
    writer = PageWriter(tmp_path, rotate_bytes=1)
    for number in range(2):
        url = f"http://a.example/{number}?q=1"
        headers, request = [("Content-Type", "text/html")], [("Host", "a.example")]
        writer.write(
            Exchange(
                url=url,
                status="200 OK",
                headers=headers,
                body=b"x",
                request=request,
                address="1.2.3.4",
            )
        )
    writer.close()
    assert part_names(tmp_path) == [
        "part-00000.warc.gz",
        "part-00001.warc.gz",
        "part-00002.warc.gz",
    ]
    data = (tmp_path / "part-00001.warc.gz").read_bytes()
    kinds = [
        (str(record.record_type), record.headers.get("WARC-Target-URI"))
        for record in ArchiveIterator(io.BytesIO(data))
    ]
    assert kinds == [
        ("warcinfo", None),
        ("response", "http://a.example/0?q=1"),
        ("request", "http://a.example/0?q=1"),
    ]
    assert gzip.decompress(data).startswith(b"WARC/1.1\r\n")


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_an_unfinished_record_is_cut_off(tmp_path: Path, cut: int) -> None:
    members = gzip.compress(b"a" * 1000) + gzip.compress(bytes(range(200)))
    path = tmp_path / "part-00000.warc.gz"
    path.write_bytes(members + gzip.compress(bytes(range(250)) * 4)[:-cut])
    assert whole_length(path) == len(members)
    assert mend(tmp_path) > 0
    assert path.read_bytes() == members
    assert mend(tmp_path) == 0


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("webrecorder+warcio/test/data/example.warc.gz", 1, {}),
        ("webrecorder+warcio/test/data/example-trunc.warc", 1, {}),
        ("webrecorder+warcio/test/data/example-iana.org-chunked.warc", 1, {}),
        ("webrecorder+warcio/test/data/example-resource.warc.gz", 1, {}),
        (
            "chatnoir-eu+chatnoir-resiliparse/tests/data/clipped.warc.gz",
            1,
            {"archive.truncated": 1},
        ),
        ("chatnoir-eu+chatnoir-resiliparse/tests/data/warcfile.warc.lz4", 16, {}),
        ("oduwsdl+ipwb/samples/warcs/5mementos.warc", 7, {"archive.wrong_length": 3}),
        (
            "oduwsdl+ipwb/samples/warcs/IAH-20080430204825-00000-blackbook.warc.gz",
            261,
            {"archive.no_http": 38},
        ),
        ("commoncrawl+whirlwind-python/whirlwind.warc.gz", 1, {}),
        ("N0taN3rd+node-warc/test/files/books.toscrape.warc", 30, {"archive.wrong_length": 60}),
    ],
)
def test_real_archives(name: str, found: int, expected: dict[str, int]) -> None:
    if not DATA.exists():
        pytest.skip("the shared test data are not here")
    counts: Counter[str] = Counter()
    assert len(read(DATA / name, counts)) == found
    assert trouble(counts) == expected


@pytest.mark.real
def test_no_real_archive_is_too_bad() -> None:
    if not DATA.exists():
        pytest.skip("the shared test data are not here")
    read_at_all, refused = 0, []
    for path in sorted(
        path
        for path in DATA.rglob("*")
        if path.is_file() and (".warc" in path.name or ".arc" in path.name)
    ):
        try:
            read(path)
            read_at_all += 1
        except ValueError as error:
            refused.append(path.name in str(error))
    assert (read_at_all, refused) == (142, [True] * 15)
