"""Bodies in content codings, whole, cut, broken and nested; and what Content-Type says of them."""

import gzip
import random
import zlib

import brotli
import pytest
from backports import zstd

from pipelines.sources.archives.content_codings import unchunked
from pipelines.sources.archives.responses import decoded, is_html, media_type

LIMIT = 1 << 20
TEXT = b"".join(b"<p>paragraph %d of a page" % number for number in range(3000))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "br": brotli.compress(TEXT),
    "zstd": zstd.compress(TEXT),
}


def undone(body: bytes, *codings: str) -> bytes:
    return decoded(body, tuple(("Content-Encoding", coding) for coding in codings), LIMIT)


@pytest.mark.parametrize("coding", PACKED)
def test_whole_bodies(coding: str) -> None:
    assert undone(PACKED[coding], coding) == TEXT
    assert undone(PACKED[coding], coding.upper()) == TEXT
    assert undone(PACKED[coding], f"identity, {coding}") == TEXT
    assert undone(PACKED[coding], "identity", coding) == TEXT
    assert undone(b"", coding) == b""


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (PACKED["gzip"][:-8] + b"\0\0\0\0" + PACKED["gzip"][-4:], "gzip"),  # wrong checksum
        (PACKED["gzip"][:-4] + b"\1\2\3\4", "gzip"),  # wrong length
        (PACKED["gzip"][:-8], "gzip"),  # no tail
        (PACKED["gzip"] + b"garbage", "gzip"),
        (PACKED["gzip"] + b"\0" * 100, "gzip"),
        (PACKED["deflate"][:-4] + b"\1\2\3\4", "deflate"),
        (PACKED["deflate"][:-4], "deflate"),
        (PACKED["deflate"] + b"garbage", "deflate"),
        (raw_deflate(TEXT), "deflate"),
        (raw_deflate(TEXT) + b"garbage", "deflate"),
        (PACKED["br"] + b"garbage", "br"),
        (PACKED["zstd"] + b"garbage", "zstd"),
    ],
)
def test_what_was_inflated_counts_whatever_the_tail(body: bytes, coding: str) -> None:
    assert undone(body, coding) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "raw"])
def test_a_cut_body_gives_what_came_before_the_cut(coding: str) -> None:
    text = random.Random(2).randbytes(400_000).hex().encode()
    packed = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "br": brotli.compress,
        "zstd": zstd.compress,
        "raw": raw_deflate,
    }[coding]
    body = packed(text)
    found = undone(body[: len(body) // 2], "deflate" if coding == "raw" else coding)
    assert text.startswith(found)
    assert len(found) > len(text) // 3


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw"])
def test_a_broken_body_gives_what_came_before_the_fault(coding: str) -> None:
    text = random.Random(3).randbytes(100_000).hex().encode()
    body = bytearray(
        {"gzip": gzip.compress, "deflate": zlib.compress, "raw": raw_deflate}[coding](text)
    )
    body[len(body) // 2 :] = b"\xff" * 2000
    found = undone(bytes(body), "deflate" if coding == "raw" else coding)
    common = (
        next(
            place for place, pair in enumerate(zip(found, text, strict=False)) if pair[0] != pair[1]
        )
        if found[:1]
        else 0
    )
    assert len(text) * 0.45 < max(common, len(found) - 300) <= len(found)


@pytest.mark.parametrize(
    ("body", "codings"),
    [
        # members one behind the other
        (gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:]), ["gzip"]),
        (gzip.compress(b"") + gzip.compress(TEXT), ["gzip"]),
        (zstd.compress(TEXT[:1000]) + zstd.compress(TEXT[1000:]), ["zstd"]),
        (gzip.compress(gzip.compress(TEXT)), ["gzip", "gzip"]),  # lines of one list
        (gzip.compress(gzip.compress(TEXT)), ["gzip, gzip"]),
        (brotli.compress(zlib.compress(TEXT)), ["deflate", "br"]),
        (gzip.compress(TEXT), ["gzip", "gzip"]),  # said twice, done once
        (TEXT, ["gzip"]),
        (TEXT, ["deflate"]),
        (TEXT, ["br"]),
        (TEXT, ["zstd"]),
        (TEXT, ["exi"]),
        (TEXT, [""]),
        (TEXT, [",,"]),
        (gzip.compress(TEXT), ["none, gzip"]),
    ],
)
def test_lists_of_codings(body: bytes, codings: list[str]) -> None:
    assert undone(body, *codings) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_bombs_give_what_is_asked_for(coding: str) -> None:
    pack = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "br": brotli.compress,
        "zstd": zstd.compress,
    }[coding]
    bomb = pack(b"\0" * 20_000_000)
    assert undone(bomb, coding) == b"\0" * LIMIT
    assert undone(pack(bomb), coding, coding) == b"\0" * LIMIT
    assert len(decoded(bomb[:-1] + b"x", (("Content-Encoding", coding),), LIMIT)) == LIMIT


def test_no_more_than_five_codings_are_undone() -> None:
    body = b"end"
    for _ in range(7):
        body = gzip.compress(body)
    left = undone(body, *["gzip"] * 7)
    assert gzip.decompress(gzip.decompress(left)) == b"end"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", b"hello world"),
        (b"5\nhello\n0\n\n", b"hello"),
        (b" 5 \r\nhello\r\n0\r\n", b"hello"),
        (b"5\r\nhello\r\n6\r\n wo", b"hello wo"),  # cut
        (b"5\r\nhello\r\nzz\r\nrest", b"hello"),
        (b"5\r\nhello5\r\nworld0\r\n", b"helloworld"),  # no line ends behind chunks
        (b"-5\r\nhello", b"-5\r\nhello"),
        (b"0x5\r\nhello", b"0x5\r\nhello"),
        (b"1_0\r\nhello", b"1_0\r\nhello"),
        (b"f" * 40 + b"\r\nhello", b"f" * 40 + b"\r\nhello"),
        (b"fffffffffffffff\r\nhello", b"hello"),
        (b"<html>not chunked", b"<html>not chunked"),
        (b"0\r\n\r\n", b""),
        (b"", b""),
    ],
)
def test_chunks(body: bytes, expected: bytes) -> None:
    assert unchunked(body) == expected


def test_chunks_around_codings() -> None:
    packed = gzip.compress(TEXT)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)
    assert (
        decoded(body, (("Transfer-Encoding", "chunked"), ("Content-Encoding", "gzip")), LIMIT)
        == TEXT
    )
    assert decoded(body, (("transfer-encoding", "gzip, chunked"),), LIMIT) == TEXT
    assert (
        decoded(b"1\r\nx\r\n" * 100_000, (("Transfer-Encoding", "chunked"),), LIMIT)
        == b"x" * 100_000
    )


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("text/html", "text/html"),
        ("Text/HTML; charset=utf-8", "text/html"),
        ("text/html charset=utf-8", "text/html"),
        ("text/html, text/html; charset=utf-8", "text/html"),
        ("text/html,text/html", "text/html"),
        (" text/html ;q=1", "text/html"),
        ('text/html;x=", text/plain"', "text/html"),
        ("text/plain, text/html", "text/html"),  # the last that can be used
        ("text/html, nonsense", "text/html"),
        ("text/html, */*", "text/html"),
        ("application/xhtml+xml;profile=x", "application/xhtml+xml"),
        ("unknown/unknown", ""),
        ("application/unknown", ""),
        ("*/*", ""),
        ("html", ""),
        ("charset=utf-8", ""),
        ("text/", ""),
        ("/html", ""),
        ("te xt/html", ""),
        ("text/html(x)", ""),
        ("", ""),
        (None, ""),
        ('"' * 100_000, ""),
        (", " * 100_000, ""),
        ("a" * 200_000, ""),
    ],
)
def test_media_types(said: str | None, kind: str) -> None:
    assert media_type(said) == kind


@pytest.mark.parametrize(
    ("kind", "body", "page"),
    [
        ("text/html", b"anything", True),
        ("", b"\xef\xbb\xbf\n <!doctype html>", True),
        ("", b"plain words", False),
        ("text/plain", b"<html>", False),
    ],
)
def test_what_is_a_page(kind: str, body: bytes, page: bool) -> None:
    assert is_html(kind, body) is page
