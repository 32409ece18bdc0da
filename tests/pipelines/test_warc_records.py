"""Records of WARC files that are written or damaged in unusual ways: one is read or counted, and
the others are read.
"""

import gzip
import io
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
from backports import zstd

from pipelines.sources.archives import frames
from pipelines.sources.archives.responses import response_of, responses
from pipelines.sources.archives.warc import HEADER_BYTES, Record, records
from tests.pipelines.test_archives import record, trouble

LIMIT = 1 << 20


def read(data: bytes) -> list[Record]:
    return list(records(io.BytesIO(data), limit=LIMIT))


def told(data: bytes) -> list[str]:
    """The last letters of the addresses of records, or why there is none."""
    return [one.lost or one.target.rsplit("/", 1)[-1] for one in read(data)]


def notes(data: bytes) -> Counter[str]:
    return Counter(note for one in read(data) for note in one.notes)


def page(name: str, body: bytes = b"<p>one page") -> bytes:
    return record(f"http://a.example/{name}", body)


def members(*plain: bytes) -> bytes:
    return b"".join(gzip.compress(one) for one in plain)


A, B, C = page("a"), page("b"), page("c")
EMPTY = gzip.compress(b"")


@pytest.mark.parametrize(
    "data",
    [
        EMPTY + members(A, B, C),
        members(A) + EMPTY * 3 + members(B, C),
        members(A, B, C) + EMPTY,
        gzip.compress(A + B) + EMPTY + members(C),
        members((A + B)[:100], (A + B)[100:300], (A + B)[300:], C),  # as bgzip cuts, wherever it is
        zstd.compress(A) + zstd.compress(b"") + zstd.compress(B + C),
        lz4.frame.compress(A) + lz4.frame.compress(B + C),
        members(A) + B + C,
        A + members(B, C),
        A + B + C,
        b"\r\n\r\n" + A + b"\r\n" + B + C + b"\0" * 512,
        b"\xef\xbb\xbf" + A + B + C,
        members(b"\xef\xbb\xbf" + A, B, C),
        b"\xef\xbb\xbf\r\n" + A + members(B, C),
        zstd.compress(b"\xef\xbb\xbf" + A + B) + zstd.compress(C),
    ],
)
def test_frames_of_all_kinds(data: bytes) -> None:
    assert told(data) == ["a", "b", "c"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_an_archive_of_one_record_behind_a_mark_of_utf8(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "a.warc").write_bytes(pack(b"\xef\xbb\xbf" + A))
    counts: Counter[str] = Counter()
    (found,) = responses(str(tmp_path / "a.warc"), counts, wanted=lambda status, media: True)
    assert found.url == "http://a.example/a"
    assert counts == {"records": 1}
    again = response_of(io.BytesIO((tmp_path / "a.warc").read_bytes()), found.offset)
    assert again == found


def test_each_record_is_read_again_where_it_begins() -> None:
    for data in (
        A + B + C,
        members(A, B, C),
        gzip.compress(A) + EMPTY + members(B, C),
        zstd.compress(A) + zstd.compress(B),
    ):
        for one in read(data):
            found = response_of(io.BytesIO(data), one.offset)
            assert found is not None
            assert found.url == one.target
    several = gzip.compress(A + B + C)
    named = response_of(io.BytesIO(several), 0, target="http://a.example/c")
    assert named is not None
    assert named.url == "http://a.example/c"


def respelled(old: bytes, new: bytes) -> bytes:
    assert old in B
    return B.replace(old, new)


@pytest.mark.parametrize(
    "odd",
    [
        respelled(b"WARC-Type: response", b"warc-type: Response"),
        respelled(b"WARC-Target-URI", b"Warc-Target-Uri"),
        B.replace(b"Content-Length", b"content-length"),
        B.replace(b"Content-Length", b"CONTENT-LENGTH"),
        B.replace(b"application/http;msgtype=response", b"Application/HTTP; MsgType=Response"),
        B.replace(b"Content-Type: application/http;msgtype=response\r\n", b""),
        B.replace(b"HTTP/1.1 200 OK", b"http/1.1 200 ok"),
        B.replace(b"WARC/1.0\r\n", b"WARC/1.1 \r\n"),
        B.replace(b"WARC-Date", b"X-Note: a\r\n b\r\nWARC-Date"),
        B.replace(b"WARC-Date", b"no colon here\r\nWARC-Date"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_fields_in_any_case(tmp_path: Path, odd: bytes, packed: bool) -> None:
    (tmp_path / "a.warc").write_bytes(members(A, odd, C) if packed else A + odd + C)
    counts: Counter[str] = Counter()
    found = list(
        responses(
            str(tmp_path / "a.warc"), counts, wanted=lambda status, media: media == "text/html"
        )
    )
    assert [(one.url[-1], one.body) for one in found] == [(name, b"<p>one page") for name in "abc"]
    assert counts == {"records": 3}


def lengthened(by: int, said: bytes = b"") -> bytes:
    """The second page with another length than it has."""
    head, _, rest = B.partition(b"Content-Length: ")
    length, _, rest = rest.partition(b"\r\n")
    return head + b"Content-Length: " + (said or str(int(length) + by).encode()) + b"\r\n" + rest


@pytest.mark.parametrize("by", [5, 7, 40, 200, 10_000, 10**9, 10**15, -1, -5])
@pytest.mark.parametrize("form", ["members", "plain", "one member", "zstd"])
def test_a_wrong_length_costs_no_other_record(by: int, form: str) -> None:
    odd = lengthened(by)
    packed = {
        "members": members(A, odd, C),
        "plain": A + odd + C,
        "one member": gzip.compress(A + odd + C),
        "zstd": zstd.compress(A) + zstd.compress(odd) + zstd.compress(C),
    }[form]
    assert told(packed) == ["a", "b", "c"]
    assert notes(packed) == {"archive.wrong_length": 1}
    assert read(packed)[1].content.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"WARC/1.0" not in read(packed)[1].content


@pytest.mark.parametrize("by", [1, 2, 3, 4])
def test_a_length_that_takes_in_the_line_ends_is_counted(by: int) -> None:
    for packed in (members(A, lengthened(by), C), A + lengthened(by) + C):
        assert told(packed) == ["a", "b", "c"]
        assert notes(packed) == {"archive.wrong_length": 1}


@pytest.mark.parametrize("said", [b"-5", b"1e3", b"", b"9" * 30, b"0x10", "²".encode(), b"12, 12"])
def test_a_length_that_is_no_number(said: bytes) -> None:
    for packed in (members(A, lengthened(0, said or b" "), C), A + lengthened(0, said or b" ") + C):
        assert told(packed) == ["a", "b", "c"]
        assert notes(packed) == {"archive.wrong_length": 1}
        assert read(packed)[1].content.rstrip() == read(packed)[0].content


def test_of_a_field_that_stands_twice_the_first_counts() -> None:
    twice = B.replace(
        b"Content-Length: ", b"Content-Length: %d\r\nContent-Length: 9" % len(read(B)[0].content)
    )
    assert told(A + twice + C) == ["a", "b", "c"]


@pytest.mark.parametrize("form", [members, lambda *plain: b"".join(plain)])
def test_headers_longer_than_32_kib(tmp_path: Path, form: Callable[..., bytes]) -> None:
    long = B.replace(b"WARC-Date", b"WARC-JSON-Metadata: " + b"x" * 900_000 + b"\r\nWARC-Date")
    http = record(
        "http://a.example/h",
        b"<p>one page",
        "Content-Type: text/html\r\n" + f"X-Many: {'v' * 4000}\r\n" * 60,
    )
    (tmp_path / "a.warc").write_bytes(form(A, long, http, C))
    counts: Counter[str] = Counter()
    found = list(
        responses(
            str(tmp_path / "a.warc"), counts, wanted=lambda status, media: media == "text/html"
        )
    )
    assert [(one.url[-1], one.body) for one in found] == [(name, b"<p>one page") for name in "abhc"]
    assert counts == {"records": 4}


@pytest.mark.parametrize("form", [members, lambda *plain: b"".join(plain)])
def test_a_header_without_end_costs_itself(form: Callable[..., bytes]) -> None:
    endless = b"WARC/1.0\r\n" + b"X-Header: y\r\n" * (2 * HEADER_BYTES // 12) + b"\r\n"
    assert told(form(A, endless, C)) == ["a", "archive.no_header", "c"]
    assert told(form(A, b"WARC/1.0\r\nWARC-Type: response\r\n", C)) == [
        "a",
        "archive.no_header",
        "c",
    ]


def test_http_headers_beyond_what_browsers_take(tmp_path: Path) -> None:
    large = record("http://a.example/h", b"x", "X-Many: v\r\n" * 30_000)
    (tmp_path / "a.warc").write_bytes(A + large + C)
    counts: Counter[str] = Counter()
    found = list(responses(str(tmp_path / "a.warc"), counts, wanted=lambda status, media: True))
    assert [one.url[-1] for one in found] == ["a", "c"]
    assert counts == {"records": 3, "archive.no_http": 1}


@pytest.mark.parametrize("cut", range(20, 3000, 97))
def test_a_plain_file_cut_anywhere_says_so(tmp_path: Path, cut: int) -> None:
    unwanted = record("http://a.example/b.js", b"x" * 2500, "Content-Type: text/javascript\r\n")
    (tmp_path / "a.warc").write_bytes((A + unwanted + C)[:cut])
    counts: Counter[str] = Counter()
    list(
        responses(
            str(tmp_path / "a.warc"), counts, wanted=lambda status, media: media == "text/html"
        )
    )
    whole = cut in (len(A), len(A + unwanted))
    assert counts["archive.truncated"] == (0 if whole else 1)


def test_a_large_record_cut_off_in_a_plain_file(tmp_path: Path) -> None:
    large = record(
        "http://a.example/b.bin", b"x" * 3_000_000, "Content-Type: application/octet-stream\r\n"
    )
    (tmp_path / "a.warc").write_bytes((A + large)[:-1_000_000])
    counts: Counter[str] = Counter()
    found = list(
        responses(str(tmp_path / "a.warc"), counts, wanted=lambda status, media: True, limit=1000)
    )
    assert [(one.url[-1], one.cut) for one in found] == [("a", False), ("n", True)]
    assert counts == {"records": 2, "archive.truncated": 1}


@pytest.mark.parametrize(
    "garbage", [b"\0" * 700, b"not a frame", b"\x1f\x8b\x08 cut", random.Random(1).randbytes(5000)]
)
def test_garbage_behind_the_last_member_is_counted(garbage: bytes) -> None:
    found = told(members(A, B, C) + garbage)
    assert found[:3] == ["a", "b", "c"]
    assert all(
        one in ("archive.trailing_garbage", "archive.no_header", "archive.corrupt_member")
        for one in found[3:]
    )
    assert len(found) == 4


def test_what_is_damaged_at_its_beginning_is_read_behind_it() -> None:
    for pack in (gzip.compress, zstd.compress, lz4.frame.compress):
        data = pack(A) + pack(B) + pack(C)
        assert told(b"XX" + data[2:])[-1] == "c"
    assert told(b"X" + (A + B + C)[1:]) == ["archive.corrupt_member", "b", "c"]


def test_members_between_two_damaged_ones_are_read() -> None:
    dice = random.Random(5)
    packed = [
        bytearray(gzip.compress(page(str(number), dice.randbytes(900)))) for number in range(60)
    ]
    for number in (10, 20, 21, 40):
        packed[number][500] ^= 0x55
    found = told(b"".join(packed))
    expected = [
        "archive.corrupt_member" if number in (10, 20, 21, 40) else str(number)
        for number in range(60)
    ]
    assert found == expected


def test_an_archive_within_a_damaged_member_is_not_read_as_records() -> None:
    dice = random.Random(6)
    inner = members(*(page(f"inner{number}", dice.randbytes(400)) for number in range(300)))
    outer = bytearray(gzip.compress(page("outer", inner), 1))
    outer[600] ^= 0x55
    found = told(members(A) + bytes(outer) + members(B, C))
    assert [one for one in found if not one.startswith("archive.")] == ["a", "b", "c"]


def test_many_tiny_records() -> None:
    tiny = b"WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: 0\r\n\r\n\r\n\r\n"
    begun = time.process_time()
    stream = io.BytesIO(gzip.compress(tiny * 100_000, 1))
    assert sum(not one.lost for one in records(stream, limit=LIMIT)) == 100_000
    # 4 s on a busy machine; ten times as much for a million
    assert time.process_time() - begun < 60


@pytest.mark.parametrize("plain", [True, False])
def test_lengths_that_reach_to_the_end_cost_no_more_than_the_file(plain: bool) -> None:
    """Each record claims all that follows; found by its own line, it is not read further."""
    greedy = b"".join(
        page(str(number)).replace(b"Content-Length: ", b"Content-Length: 9")
        for number in range(20_000)
    )
    begun = time.process_time()
    found = list(
        records(io.BytesIO(A + greedy if plain else gzip.compress(A + greedy, 1)), limit=16 * LIMIT)
    )
    assert len(found) == 20_001
    assert time.process_time() - begun < 60  # 2 s on a busy machine


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress, lz4.frame.compress])
def test_a_bomb_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(frames, "BOMB_BYTES", 4_000_000)
    head = (
        b"WARC/1.0\r\nWARC-Type: resource\r\nContent-Type: text/html\r\nContent-Length:"
        b" 99999999999\r\n\r\n"
    )
    (tmp_path / "a.warc.gz").write_bytes(pack(A) + pack(head + b"\0" * 40_000_000) + pack(C))
    counts: Counter[str] = Counter()
    found = [
        one.url[-1]
        for one in responses(str(tmp_path / "a.warc.gz"), counts, wanted=lambda status, media: True)
    ]
    assert found == ["a", "c"]
    assert trouble(counts) == {"archive.corrupt_member": 1}
