"""Addresses as the URL standard reads them: its own test vectors, and rows of ours for each
kind.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.engine.runner import run_stage
from pipelines.html.relative_urls import Base, absolute
from pipelines.permission.outcomes import address_outcome
from pipelines.permission.takedown_list import TakedownList
from pipelines.sources.lists.pairs import Pairs
from pipelines.store import Folder
from pipelines.tables import read_table
from pipelines.urls import (
    ascii_address,
    ascii_host,
    joined,
    octets_escaped,
    without_blanks,
)

VECTORS = (
    Path(__file__).parents[3] / "shared" / "data" / "ground_truth" / "ada-wpt-url" / "tests" / "wpt"
)
BASE = "https://ex.org/dir/page.html?q"

JOINED = [
    # slashes that lack, abound or lean the other way
    ("///cdn.example/b.jpg", "https://cdn.example/b.jpg"),
    ("//////cdn.example//b.jpg", "https://cdn.example//b.jpg"),
    ("\\\\cdn.example\\b.jpg", "https://cdn.example/b.jpg"),
    ("/\\cdn.example/b.jpg", "https://cdn.example/b.jpg"),
    ("img\\b.jpg", "https://ex.org/dir/img/b.jpg"),
    ("/img\\b.jpg?c\\d", "https://ex.org/img/b.jpg?c\\d"),
    ("https:b.jpg", "https://ex.org/dir/b.jpg"),
    ("https:/img/b.jpg", "https://ex.org/img/b.jpg"),
    ("https:///img/b.jpg", "https://img/b.jpg"),
    (
        "http:/img/b.jpg",
        "http://img/b.jpg",
    ),  # another scheme than that of the page: what follows is a host
    ("HTTP:\\\\cdn.example\\b.jpg", "http://cdn.example/b.jpg"),
    # hosts by UTS 46, not transitional
    ("https://fußball.example/b.jpg", "https://xn--fuball-cta.example/b.jpg"),
    ("//ΛΌΓΟΣ.example/b.jpg", "https://xn--oxapnq6b.example/b.jpg"),
    ("//ca\u00adfé.example/b.jpg", "https://xn--caf-dma.example/b.jpg"),
    ("//CDN。example/b.jpg", "https://cdn.example/b.jpg"),
    ("//c%44n.example/b.jpg", "https://cdn.example/b.jpg"),
    ("//cdn.example:443/b.jpg", "https://cdn.example/b.jpg"),
    ("//cdn.example:80/b.jpg", "https://cdn.example:80/b.jpg"),
    ("//0x7f.1/b.jpg", "https://127.0.0.1/b.jpg"),
    # dots, also escaped
    ("../b.jpg", "https://ex.org/b.jpg"),
    ("/a/%2e%2E/b.jpg", "https://ex.org/b.jpg"),
    ("%2e%2e/b.jpg", "https://ex.org/b.jpg"),
    ("//cdn.example/../../b.jpg", "https://cdn.example/b.jpg"),
    ("/a/.b.jpg", "https://ex.org/a/.b.jpg"),
    # what is removed and what is escaped
    (" b\t.j\r\npg ", "https://ex.org/dir/b.jpg"),
    ("b c.jpg?d e#f", "https://ex.org/dir/b%20c.jpg?d%20e"),
    ("b'c.jpg?d'e", "https://ex.org/dir/b'c.jpg?d%27e"),
    ("b|c[d]{e}.jpg?f|g[h]", "https://ex.org/dir/b|c[d]%7Be%7D.jpg?f|g[h]"),
    ("é.jpg?é", "https://ex.org/dir/%C3%A9.jpg?%C3%A9"),
    ("%zz%.jpg", "https://ex.org/dir/%zz%.jpg"),
    ("b\ud800.jpg", "https://ex.org/dir/b%EF%BF%BD.jpg"),
    ("?é", "https://ex.org/dir/page.html?%C3%A9"),
    # no image at all, or nothing that can be asked for
    ("", ""),
    (" \t", ""),
    ("#top", ""),
    ("data:image/gif;base64,R0=", "data:image/gif;base64,R0="),
    ("http://[cdn.example/b.jpg", "http://[cdn.example/b.jpg"),
    ("http://cdn.example:port/b.jpg", "http://cdn.example:port/b.jpg"),
    ("http://b .example/b.jpg", ""),
]


@pytest.mark.parametrize(("address", "expected"), JOINED)
def test_an_address_of_a_page(address: str, expected: str) -> None:
    assert absolute(BASE, address) == expected


def test_the_slashes_of_the_scheme_of_the_page() -> None:
    assert absolute("http://a.example/p/q", "http:/x/") == "http://a.example/x/"
    assert absolute("http://a.example/p/q", "http:x/") == "http://a.example/p/x/"
    assert absolute("http://a.example/p/q", "http:\\x/") == "http://a.example/x/"


def test_a_page_without_a_proper_address() -> None:
    bases = ("", "no address", "http://[", "urn:uuid:1")
    assert [absolute(base, "//b.example/c.jpg") for base in bases] == [""] * 4
    assert [absolute(base, "http://b.example/c.jpg") for base in bases] == [
        "http://b.example/c.jpg"
    ] * 4


@pytest.mark.parametrize(
    ("charset", "query", "expected"),
    [
        ("windows-1252", "é€", "%E9%80"),
        ("windows-1252", "aé жb", "a%E9%20%26%231078%3Bb"),
        ("windows-1251", "ж", "%E6"),
        ("shift_jis", "表", "%95\\"),
        ("gbk", "中", "%D6%D0"),
        ("utf-16le", "é", "%C3%A9"),
        ("iso-8859-8-i", "א", "%E0"),
    ],
)
def test_a_query_is_written_in_the_encoding_of_the_page(
    charset: str, query: str, expected: str
) -> None:
    assert (
        Base("https://a.example/", charset).join(f"/é?{query}")
        == f"https://a.example/%C3%A9?{expected}"
    )


ASKED = [
    ("https://a.example/b.jpg?c=d&e", "https://a.example/b.jpg?c=d&e"),
    ("http://a.example", "http://a.example/"),
    ("http://a.example?b", "http://a.example/?b"),
    ("HTTP://A.example:80/B", "http://a.example/B"),
    (
        "https://bücher.example/straße?q=weiß#x",
        "https://xn--bcher-kva.example/stra%C3%9Fe?q=wei%C3%9F",
    ),
    ("https://文字.example/图 片.jpg", "https://xn--p8sx0v.example/%E5%9B%BE%20%E7%89%87.jpg"),
    (" http:\\\\a.example\\b\n", "http://a.example/b"),
    ("http://a.example/\udce9", "http://a.example/%EF%BF%BD"),
    ("http://[2001:DB8::1]:8080/b", "http://[2001:db8::1]:8080/b"),
    ("http://a.example/b/../c", "http://a.example/c"),
    ("http://a_b.example/c", "http://a_b.example/c"),
    ("http://a.example./c", "http://a.example./c"),
    ("http://a..example/c", None),
    (f"http://{'a' * 64}.example/c", None),
    (f"http://{'a.' * 127}example/c", None),
    ("http://a%00b.example/c", None),
    ("http://a b.example/c", None),
    ("http://256.1.1.1/c", None),
    ("http://a.example:99999/c", None),
    ("http://\ud800.example/c", None),
    ("//a.example/c", None),
    ("a.example/c", None),
    ("ftp://a.example/c", None),
    ("javascript:alert(1)", None),
    ("", None),
]


@pytest.mark.parametrize(("address", "expected"), ASKED)
def test_the_address_that_is_asked_for(address: str, expected: str | None) -> None:
    asked = ascii_address(address)
    assert asked == expected
    if asked is not None:
        assert asked.isascii()
        assert asked.isprintable()
        assert ascii_address(asked) == asked


def test_blanks_are_escaped_as_browsers_do(tmp_path: Path) -> None:
    lines = [
        "url,text",
        "http://h.example/a b.jpg,one",
        " http://h.example/a%20b.jpg ,two",
        "http://h.example/a\tb.jpg?c d,three",
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    stage = Pairs(out=Folder(str(tmp_path / "out")), path=str(tmp_path / "list.csv"))
    run_stage(stage)
    urls = read_table(stage.out, "part-00000.parquet")["image_url"].to_pylist()
    assert urls == [
        "http://h.example/a%20b.jpg",
        "http://h.example/a%20b.jpg",
        "http://h.example/ab.jpg?c%20d",
    ]
    assert without_blanks(" http://h.example/[a|b].jpg ") == "http://h.example/[a|b].jpg"
    assert without_blanks("http://h h.example/a b.jpg") == "http://h h.example/a b.jpg"


def test_an_address_that_no_name_server_knows_is_malformed() -> None:
    assert address_outcome("http://a..example/c.jpg") == "address.malformed"
    assert address_outcome(f"http://{'a' * 64}.example/c.jpg") == "address.malformed"
    assert address_outcome("http://192.168.0.257/c.jpg") == "address.malformed"
    assert address_outcome("http://a.example/é.jpg") is None


def test_octets_of_a_header_are_given_back_as_they_came() -> None:
    utf8, latin = ("/käse".encode(name).decode("latin-1") for name in ("utf-8", "latin-1"))
    assert absolute(BASE, octets_escaped(utf8)) == "https://ex.org/k%C3%A4se"
    assert absolute(BASE, octets_escaped(latin)) == "https://ex.org/k%E4se"
    host = "//käse.example/".encode().decode("latin-1")
    assert absolute(BASE, octets_escaped(host)) == "https://xn--kse-qla.example/"


def test_what_was_taken_down_is_found_under_the_host_that_is_asked() -> None:
    listed = TakedownList.of(domains=["fußball.example"], urls=["http://ΛΌΓΟΣ.example/a"])
    found = ["https://xn--fuball-cta.example/b.jpg", "https://xn--oxapnq6b.example/a"]
    assert [listed.url(url) for url in found] == [True, True]
    assert not listed.url("https://fussball.example/b.jpg")
    assert ascii_host("\ud800.Example") == "\ud800.example"


def test_what_was_taken_down_is_found_however_its_query_is_escaped() -> None:
    spellings = ["http://a.example/b?c='d'|[e]", "http://a.example/b?c=%27d%27%7C%5be%5D"]
    written = TakedownList.from_json(
        {"urls": ["//a.example/b?c=%27d'|%5Be]"], "domains": [], "sha256": []}
    )
    for listed in (*(TakedownList.of(urls=[url]) for url in spellings), written):
        assert [listed.url(absolute("http://x.example/", url)) for url in spellings] == [True, True]
        assert not listed.url("http://a.example/b?c=d")


# the short way for plain addresses says what the standard says

PLAIN = "a B / // http: https: . .. %2e % ? # : @ ' x.example 1 127.0.0.1 xn-- - _ !$&()*+,;=~"
PIECES = st.sampled_from([*PLAIN.split(), "\\", "é", "ß", "[", "|", ":80", ":443", " ", "\t"])


@settings(max_examples=2000, deadline=None)
@given(
    st.sampled_from(["http://a.example/b/c", "https://A.example:8443", "http://u@h/x;y/../z?q=/r"]),
    st.lists(PIECES, max_size=8).map("".join),
)
def test_the_short_way_is_the_long_way(base: str, address: str) -> None:
    found, whole = Base(base).join(address), joined(base, address)
    if address.partition("#")[0].strip() and whole is not None:
        assert found == whole
    else:
        assert found in ("", address.partition("#")[0].strip())
    if whole is not None and (asked := ascii_address(address)) is not None:
        assert asked == joined("", address)


def vectors(*names: str) -> Iterator[dict[str, Any]]:
    for name in names:
        yield from (
            row for row in json.loads((VECTORS / name).read_text("utf-8")) if isinstance(row, dict)
        )


@pytest.mark.real
@pytest.mark.skipif(not VECTORS.exists(), reason="the shared test data are not here")
def test_the_vectors_of_the_standard() -> None:
    """Those with a base of http and those without base; what fails is malformed or nothing."""
    count = 0
    for row in vectors(
        "urltestdata.json", "urltestdata-javascript-only.json", "ada_extra_urltestdata.json"
    ):
        base, address = row.get("base") or "", row["input"]
        if not base.startswith(("http://", "https://")):
            continue
        count += 1
        found = absolute(base, address)
        if row.get("failure"):
            assert (
                not found
                or address_outcome(found) == "address.malformed"
                or base.startswith("http://[")
            ), row
        elif found or address.partition("#")[0].strip():
            assert found.partition("#")[0] == row["href"].partition("#")[0], row
    assert count > 200


@pytest.mark.real
@pytest.mark.skipif(not VECTORS.exists(), reason="the shared test data are not here")
def test_the_hosts_of_uts_46() -> None:
    count = 0
    for row in vectors("toascii.json", "IdnaTestV2.json"):
        expected = row["output"]
        found = joined("", f"https://{row['input']}/x") if row["input"] else None
        assert found == (f"https://{expected}/x" if expected else None), row
        count += 1
    assert count > 2000
