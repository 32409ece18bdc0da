"""Addresses that are not ASCII, or hardly addresses: each ends as its own outcome, and none ends
another.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.collect.run import CollectConfig, collect
from pipelines.engine.shuffle import hosts
from pipelines.store import Folder
from pipelines.tables import read_table
from pipelines.web.fetch import download
from pipelines.web.politeness import Politeness
from tests.pipelines.web import Reply, jpeg, served

LOCAL = Politeness(allow_private_addresses=True, seconds=5.0)
PHOTO = Reply(body=jpeg(64, 48), type="image/jpeg")

# what is written in place of the server's own address, what follows, where it is asked for, and how
# it ends
ODD = [
    ("", "/img/grün.jpg", "/img/gr%C3%BCn.jpg", "fetched"),
    ("", "/img/gr%C3%BCn-2.jpg", "/img/gr%C3%BCn-2.jpg", "fetched"),
    ("", "/日本/写真.jpg", "/%E6%97%A5%E6%9C%AC/%E5%86%99%E7%9C%9F.jpg", "fetched"),
    ("", "/a.jpg?q=é&r=1", "/a.jpg?q=%C3%A9&r=1", "fetched"),
    ("", "/\u202egpj.exe", "/%E2%80%AEgpj.exe", "fetched"),
    ("", "/cafe\u0301.jpg", "/cafe%CC%81.jpg", "fetched"),
    ("", "/b.jpg#é", "/b.jpg", "fetched"),
    ("\uff11\uff12\uff17.0.0.1", "/c.jpg", "/c.jpg", "fetched"),
    ("2130706433", "/d.jpg", "/d.jpg", "fetched"),
    ("0x7f.1", "/e.jpg", "/e.jpg", "fetched"),
    ("ü:ü@127.0.0.1", "/f.jpg", "/f.jpg", "fetched"),
    ("bücher.invalid", "/g.jpg", "", "fetch.dns"),
    ("xn--zzzzzz-.invalid", "/h.jpg", "", "fetch.dns"),
    ("a..b", "/i.jpg", "", "address.malformed"),
    ("ä" * 64 + ".example", "/j.jpg", "", "address.malformed"),
    ("[::1", "/k.jpg", "", "address.malformed"),
    ("\u2100.example", "/l.jpg", "", "address.malformed"),
    ("", "/two words.jpg", "/two%20words.jpg", "fetched"),
]


def written(server: str) -> list[tuple[str, str, str]]:
    """(address, path asked for, outcome) of each odd address on a server."""
    port = server.rsplit(":", 1)[1]
    return [
        (f"http://{host or '127.0.0.1'}:{port}{rest}", path, outcome)
        for host, rest, path, outcome in ODD
    ]


def test_each_address_ends_as_its_own_outcome() -> None:
    with served({path: PHOTO for _, _, path, _ in ODD if path}) as web:
        addresses = written(web.url)
        found = download([url for url, _, _ in addresses], LOCAL)
        asked = set(web.asked)
    assert {url: found[url][0].outcome for url, _, _ in addresses} == {
        url: outcome for url, _, outcome in addresses
    }
    assert {path for _, path, _ in addresses if path} <= asked


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_list_of_them_is_collected_whole(tmp_path: Path, kind: str) -> None:
    pages = {path: PHOTO for _, _, path, _ in ODD if path} | {
        f"/good/{number}.jpg": PHOTO for number in range(10)
    }
    with served(pages) as web:
        addresses = [(url, outcome) for url, _, outcome in written(web.url)]
        addresses += [(f"{web.url}/good/{number}.jpg", "fetched") for number in range(10)]
        urls = [url for url, _ in addresses]
        path = tmp_path / f"list.{kind}"
        if kind == "parquet":
            pq.write_table(pa.table({"url": urls, "text": urls}), path)
        elif kind == "csv":
            path.write_text("url,text\n" + "".join(f"{url},t\n" for url in urls))
        else:
            path.write_text("".join(json.dumps({"url": url, "text": "t"}) + "\n" for url in urls))
        made = collect(
            Folder(str(tmp_path / "root")),
            CollectConfig(pairs=str(path), allow_private_addresses=True),
            id="odd",
        )

    assert made.failed == 0
    fetches = [
        read_table(made.folder / "fetches", name)
        for name in (made.folder / "fetches").names()
        if name.endswith(".parquet")
    ]
    rows = pa.concat_tables(fetches).to_pylist()
    unasked = sum(outcome == "address.malformed" for _, outcome in addresses)
    assert (made.counts["candidates"], made.counts["stopped.address.malformed"]) == (
        len(addresses),
        unasked,
    )
    assert made.counts["addresses"] == len(addresses) - unasked
    askable = {
        url.replace(" ", "%20"): outcome
        for url, outcome in addresses
        if outcome != "address.malformed"
    }
    # as the list spelled them, but for blanks
    assert {row["image_url"]: row["outcome"] for row in rows} == askable
    finals = [row["final_url"] for row in rows if row["final_url"]]
    assert all(url.isascii() for url in finals)


def test_one_host_is_one_in_whichever_letters() -> None:
    urls = [
        "http://bücher.example/a",
        "http://XN--BCHER-KVA.example/b",
        "https://B\xdcCHER.example:8080/c",
        "http://\uff41.example/d",
    ]
    found = hosts(pa.chunked_array([urls])).to_pylist()
    assert found == [
        "xn--bcher-kva.example",
        "xn--bcher-kva.example",
        "xn--bcher-kva.example:8080",
        "a.example",
    ]
    assert hosts(pa.chunked_array([["x", None, "given://ä/b/c"]])).to_pylist() == ["", "", "ä/b"]
    assert hosts(pa.chunked_array([], pa.string())).to_pylist() == []
