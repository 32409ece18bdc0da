"""Asking through a proxy, trusting authorities of one's own, and what a run may cost in bytes."""

import io
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType

from pipelines.collect.run import CollectConfig, collect
from pipelines.images.decode import decode
from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.img2dataset.run import img2dataset
from pipelines.store import Folder
from pipelines.web.budget import Spent, spent_file
from pipelines.web.crawl import Crawl, crawl
from pipelines.web.downloader import Downloader
from pipelines.web.fetch import as_it_is
from pipelines.web.politeness import Politeness
from pipelines.web.proxies import Proxies, check_proxies
from tests.pipelines.test_opener import served_securely
from tests.pipelines.web import Page, Reply, jpeg, served

PHOTO = jpeg(64, 48)
FOUND = (
    b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(PHOTO)
    + PHOTO
)
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
BEHIND = Politeness(allow_private_proxy=True, seconds=3.0, images_per_second=1000.0)
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@dataclass
class Proxy:
    """A proxy of the test's own: it answers some addresses itself and opens tunnels to loopback."""

    answers: dict[str, bytes]
    port: int = 0
    asked: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    refuses: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def talk(self, client: socket.socket) -> None:
        with client:
            while head := self._head(client):
                method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                self.asked.append(f"{method} {target}")
                self.heads.append(head)
                if method != "CONNECT":
                    client.sendall(self.answers.get(target, MISSING))
                elif self.refuses:
                    client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                else:
                    client.sendall(
                        b"HTTP/1.1 200 Connection established\r\nX-Robots-Tag: noai\r\n\r\n"
                    )
                    return self._tunnel(client, int(target.rsplit(":", 1)[1]))

    def _head(self, client: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = client.recv(4096)
            if not piece:
                return b""
            data += piece
        return data

    def _tunnel(self, client: socket.socket, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=self._pour, args=(server, client), daemon=True)
            back.start()
            self._pour(client, server)
            back.join()

    def _pour(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(65_536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:  # one side had enough
            return


class Socks(Proxy):
    """A SOCKS proxy, version 5 (RFC 1928 and 1929) or 4a: it looks names up itself, and opens
    tunnels to loopback.
    """

    def talk(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as said:
            if said.read(1) == b"\4":
                port, _ = int.from_bytes(said.read(3)[1:], "big"), said.read(4)
                user, name = (
                    b"".join(iter(lambda: said.read(1), b"\0")).decode() for _ in range(2)
                )
                refused, opened = b"\0\x5b" + bytes(6), b"\0\x5a" + bytes(6)
            else:
                user = self._greeted(client, said)
                kind = said.read(4)[3]  # 3: a name, 1: an IPv4 address
                name = (
                    said.read(said.read(1)[0]).decode()
                    if kind == 3
                    else socket.inet_ntoa(said.read(4))
                )
                port = int.from_bytes(said.read(2), "big")
                refused, opened = b"\5\2\0\1" + bytes(6), b"\5\0\0\1" + bytes(6)
            self.asked.append(f"{user} {name}")
            client.sendall(refused if self.refuses else opened)
            if not self.refuses:
                self._tunnel(client, port)

    def _greeted(self, client: socket.socket, said: io.BufferedReader) -> str:
        """The user that was named, after the handshake."""
        methods = said.read(said.read(1)[0])
        client.sendall(b"\5\2" if 2 in methods else b"\5\0")
        if 2 not in methods:
            return ""
        said.read(1)
        user, word = (said.read(said.read(1)[0]).decode() for _ in range(2))
        client.sendall(b"\1\0")
        return f"{user}:{word}"


@contextmanager
def proxying(answers: dict[str, bytes] | None = None, kind: type[Proxy] = Proxy) -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = kind(answers or {}, listener.getsockname()[1])

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=proxy.talk, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def ask(urls: list[str], politeness: Politeness = BEHIND) -> list[tuple[str, str]]:
    """Outcome and detail of each address."""
    downloader = Downloader(politeness)
    try:
        found = downloader.fetch(urls, decode=decode, keep=as_it_is)
        return [(result.outcome, result.detail or "") for result, _ in found.values()]
    finally:
        downloader.close()


def test_names_that_only_the_proxy_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying({"http://photos.invalid/a.jpg": FOUND}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://me:secret@"))
        assert ask(["http://photos.invalid/a.jpg", "http://photos.invalid/b.jpg"]) == [
            ("fetched", ""),
            ("fetch.http_404", "HTTP 404"),
        ]
        assert proxy.asked[0] == "GET http://photos.invalid/robots.txt"
        assert all(b"Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" in head for head in proxy.heads)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_private_proxy_must_be_allowed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with proxying() as proxy:
        monkeypatch.setenv(name, proxy.url)
        ((outcome, detail),) = ask(
            ["http://photos.invalid/a.jpg"], replace(BEHIND, allow_private_proxy=False)
        )
        assert (outcome, proxy.asked) == ("address.private", [])
        assert "--allow-private-proxy" in detail
        with pytest.raises(ValueError, match=r"the proxy 127\.0\.0\.1 .* --allow-private-proxy"):
            check_proxies(allow_private=False)
        check_proxies(allow_private=True)


def test_a_collection_with_a_private_proxy_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://10.0.0.1:3128")
    with pytest.raises(ValueError, match="--allow-private-proxy"):
        collect(
            Folder(str(tmp_path)),
            CollectConfig(seeds=("https://a.example/",), contact="me@a.example"),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost", "[::1]", "10.0.0.1", "169.254.169.254"])
def test_behind_a_proxy_private_targets_stay_private(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    with proxying({f"http://{host}/a.jpg": FOUND}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert [outcome for outcome, _ in ask([f"http://{host}/a.jpg"])] == ["address.private"]
        assert proxy.asked == []


def test_a_link_local_proxy_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://169.254.169.254:80")
    assert [outcome for outcome, _ in ask(["http://photos.invalid/a.jpg"])] == ["address.private"]


def test_hosts_that_need_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with served({"/a.jpg": Reply(body=PHOTO, type="image/jpeg")}) as web, proxying() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "example.org, 127.0.0.0/8")
        assert ask([f"{web.url}/a.jpg"], replace(BEHIND, allow_private_addresses=True)) == [
            ("fetched", "")
        ]
        assert proxy.asked == []
        monkeypatch.setenv("NO_PROXY", "example.org")
        assert ask([f"{web.url}/a.jpg"], replace(BEHIND, allow_private_addresses=True)) == [
            ("fetch.http_404", "HTTP 404")
        ]
        assert f"GET {web.url}/a.jpg" in proxy.asked


@pytest.mark.parametrize(
    ("url", "direct"),
    [
        ("http://a.example/", True),
        ("http://b.a.example/", True),
        ("http://ba.example/", False),
        ("http://10.1.2.3/", True),
        ("http://11.1.2.3/", False),
        ("http://[fd00::1]/", True),
        ("http://c.example:81/", True),
        ("http://c.example/", False),
    ],
)
def test_what_no_proxy_names(monkeypatch: pytest.MonkeyPatch, url: str, direct: bool) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://p.example")
    monkeypatch.setenv("NO_PROXY", ".a.example,10.0.0.0/8, fd00::/8,c.example:81,nonsense/9")
    proxy = Proxies().of(url)
    assert (proxy is None) is direct
    assert proxy is None or (proxy.url, proxy.host, proxy.port) == (
        "socks5h://p.example:1080",
        "p.example",
        1080,
    )


@pytest.mark.parametrize(
    "value", ["http://", "ftp://p.example", "http://p.example:port", "http://[x"]
)
def test_a_proxy_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(
        ValueError,
        match=r"HTTPS_PROXY or ALL_PROXY is no address of a proxy: write it as http://host:port",
    ):
        Proxies()


def test_secure_pages_go_through_a_tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy sees the host alone; what it says of the tunnel is not the page's word."""
    trusting = replace(BEHIND, allow_private_addresses=True)
    with served_securely(tmp_path) as url, proxying() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert [outcome for outcome, _ in ask([url], trusting)] == ["fetch.tls"]
        own = replace(trusting, ca_file=str(tmp_path / "cert.pem"))
        # four bytes are none
        assert [outcome for outcome, _ in ask([url], own)] == ["decode.not_an_image"]
        place = url.split("/")[2]
        assert set(proxy.asked) == {f"CONNECT {place}"}
        proxy.refuses = True
        assert [outcome for outcome, _ in ask([url], own)] == ["fetch.proxy"]


@pytest.mark.parametrize(
    ("scheme", "user"),
    [
        ("socks", ""),
        ("socks5", ""),
        ("socks5h", "me:secret"),
        ("SOCKS5", ""),
        ("socks4", "me"),
        ("socks4a", ""),
    ],
)
def test_socks(monkeypatch: pytest.MonkeyPatch, scheme: str, user: str) -> None:
    """Names are looked up there, so that one that is unknown here is reached; what it refuses, and
    that it is not there, is its outcome.
    """
    with served({"/a.jpg": Reply(body=PHOTO)}) as web, proxying(kind=Socks) as proxy:
        port = web.url.rsplit(":", 1)[1]
        urls = [f"http://photos.invalid:{port}/{name}.jpg" for name in ("a", "b")]
        monkeypatch.setenv(
            "ALL_PROXY",
            proxy.url.replace("http://", f"{scheme}://{user}@" if user else f"{scheme}://"),
        )
        assert ask(urls) == [("fetched", ""), ("fetch.http_404", "HTTP 404")]
        assert set(proxy.asked) == {f"{user} photos.invalid"}
        assert ask([f"http://127.0.0.1:{port}/a.jpg"])[0][0] == "address.private"
        proxy.refuses = True
        assert [outcome for outcome, _ in ask(urls)] == ["fetch.proxy"] * 2
    assert [outcome for outcome, _ in ask(urls)] == ["fetch.proxy"] * 2


def test_secure_pages_through_socks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = replace(BEHIND, allow_private_addresses=True, ca_file=str(tmp_path / "cert.pem"))
    with served_securely(tmp_path) as url, proxying(kind=Socks) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http", "socks5"))
        assert [outcome for outcome, _ in ask([url], own)] == ["decode.not_an_image"]
        assert set(proxy.asked) == {" 127.0.0.1"}


def test_a_private_socks_proxy_must_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying(kind=Socks) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("http", "socks5"))
        with pytest.raises(
            ValueError, match=r"the proxy 127\.0\.0\.1 of the environment has a private address"
        ):
            check_proxies(allow_private=False)
        public = replace(BEHIND, allow_private_proxy=False)
        assert [outcome for outcome, _ in ask(["http://photos.invalid/a.jpg"], public)] == [
            "address.private"
        ]
        assert proxy.asked == []


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying() as proxy:
        url = proxy.url
    monkeypatch.setenv("ALL_PROXY", url)
    assert [
        outcome
        for outcome, _ in ask(["http://photos.invalid/a.jpg", "https://photos.invalid/a.jpg"])
    ] == ["fetch.proxy"] * 2
    monkeypatch.setenv("ALL_PROXY", "http://proxy.invalid:3128")
    assert [outcome for outcome, _ in ask(["http://photos.invalid/a.jpg"])] == ["fetch.proxy"]


def test_a_crawl_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"<p>a page"
    page = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
    with proxying({"http://pages.invalid/": page}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        config = Crawl(
            seeds=("http://pages.invalid/",), contact="me@a.example", allow_private_proxy=True
        )
        assert crawl(config, Folder(str(tmp_path)))["pages"] == 1
    (archive,) = tmp_path.glob("part-*")
    records = list(
        ArchiveIterator(io.BytesIO(archive.read_bytes()), record_types=WarcRecordType.response)
    )
    assert records
    # that of the proxy says nothing
    assert all(record.headers.get("WARC-IP-Address") is None for record in records)


def test_authorities_of_ones_own_stand_beside_the_systems(tmp_path: Path) -> None:
    local = Politeness(allow_private_addresses=True, seconds=5.0)
    with served_securely(tmp_path) as url:
        assert [outcome for outcome, _ in ask([url], local)] == ["fetch.tls"]
        assert [
            outcome for outcome, _ in ask([url], replace(local, ca_file=str(tmp_path / "cert.pem")))
        ] == ["decode.not_an_image"]
        with pytest.raises(ValueError, match=r"fetch\.tls \(1\)"):
            crawl(Crawl(seeds=(url,), allow_private_addresses=True), Folder(str(tmp_path / "a")))
        trusting = Crawl(
            seeds=(url,), allow_private_addresses=True, ca_file=str(tmp_path / "cert.pem")
        )
        with pytest.raises(ValueError, match=r"page\.not_html \(1\)"):
            crawl(trusting, Folder(str(tmp_path / "b")))


def test_a_file_that_holds_no_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    os.mkfifo(tmp_path / "pipe.pem")
    for name in ("ca.pem", "gone.pem", "pipe.pem"):
        with pytest.raises(ValueError, match=rf"{name} holds no certificates .* in PEM"):
            CollectConfig(pairs="list.csv", ca_file=str(tmp_path / name))


def test_bytes_are_counted_by_all_together(tmp_path: Path) -> None:
    path = str(tmp_path / "spent")
    one, other = Spent(path, 100), Spent(path, 100)
    assert [one.add(60), other.add(40), other.over, one.add(1), other.over] == [
        True,
        True,
        False,
        False,
        True,
    ]
    one.close()
    again = Spent(path, 100)  # after a kill
    assert again.over
    assert Spent(None, None).add(10**12)


def test_a_budget_of_bytes(tmp_path: Path) -> None:
    budget = Politeness(
        allow_private_addresses=True,
        connections=1,
        max_bytes=3 * len(PHOTO) + 100,
        spent_in=str(tmp_path / "spent"),
    )
    with served(
        {f"/{number}.jpg": Reply(body=PHOTO, type="image/jpeg") for number in range(9)}
    ) as web:
        urls = [f"{web.url}/{number}.jpg" for number in range(9)]
        found = ask(urls, budget)
        assert Counter(outcome for outcome, _ in found) == {"fetched": 3, "fetch.budget": 6}
        assert found[-1][1] == "the bytes of this run are spent (--max-bytes)"
        asked = len(web.asked)
        assert {outcome for outcome, _ in ask(urls, budget)} == {"fetch.budget"}
        assert len(web.asked) == asked  # by no other process either


def test_an_endless_answer_stops_at_the_budget(tmp_path: Path) -> None:
    budget = Politeness(
        allow_private_addresses=True, max_bytes=100_000, spent_in=str(tmp_path / "spent")
    )
    with served({"/a.jpg": Reply(body=b"\xff\xd8" * 10_000, endless=True)}) as web:
        assert [outcome for outcome, _ in ask([f"{web.url}/a.jpg"], budget)] == ["fetch.budget"]
    assert int.from_bytes((tmp_path / "spent").read_bytes(), "little") < 300_000


def test_a_collection_within_a_budget(tmp_path: Path) -> None:
    """Pages and images are of one budget; what it leaves is counted, and can be tried again with
    more.
    """
    shown = "".join(
        f'<p><img src="/{number}.jpg" alt="picture {number} of them">' for number in range(8)
    )
    pages: dict[str, Page] = {
        f"/{number}.jpg": Reply(body=jpeg(60, 40 + number), type="image/jpeg")
        for number in range(8)
    }
    size = len(shown) + sum(
        len(page.body) for page in list(pages.values())[:3] if isinstance(page, Reply)
    )
    with served({"/": shown, **pages}) as web:
        config = CollectConfig(
            seeds=(f"{web.url}/",),
            allow_private_addresses=True,
            max_bytes=str(size + 3 * len(b"nothing here") + 99),
        )
        root = Folder(str(tmp_path))
        counts = collect(root, config, id="a").counts
        assert counts["fetch.budget"] + counts["fetched"] == 8
        assert 1 <= counts["fetched"] <= 3
        more = CollectConfig(
            retry=("fetch.budget",), earlier=("a",), allow_private_addresses=True, max_bytes="1MB"
        )
        assert collect(root, more, id="b").counts["fetched"] == counts["fetch.budget"]


def test_what_another_collection_has_spent_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in another folder that was called alike, or one that had this place before it was
    removed.
    """
    monkeypatch.chdir(tmp_path)
    own = Path(spent_file(str(tmp_path / "data/collections/a")))
    own.write_bytes((10**12).to_bytes(8, "little"))
    with served(
        {
            "/": '<p><img src="/a.jpg" alt="a picture of one">',
            "/a.jpg": Reply(body=PHOTO, type="image/jpeg"),
        }
    ) as web:
        config = CollectConfig(
            seeds=(f"{web.url}/",), allow_private_addresses=True, max_bytes="1MB"
        )
        assert collect(Folder("data"), config, id="a").counts["fetched"] == 1
    assert not own.exists()


@pytest.mark.parametrize(
    ("value", "size"), [("100", 100), ("20GB", 20 * 10**9), ("1.5 MiB", 1_572_864), (5, 5)]
)
def test_sizes(value: object, size: int) -> None:
    assert (
        CollectConfig.model_validate({"pairs": "list.csv", "max_bytes": value}).bytes_at_most()
        == size
    )


def test_a_size_that_is_none() -> None:
    with pytest.raises(
        ValueError, match="'much' is no size: write it in bytes or as 500MB, 20GB, 1TiB"
    ):
        CollectConfig(pairs="list.csv", max_bytes="much")


def test_img2dataset_is_of_the_same_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list.txt").write_text("https://a.example/a.jpg")
    given = {"url_list": str(tmp_path / "list.txt"), "output_folder": str(tmp_path / "out")}
    with pytest.raises(ValueError, match=r"gone\.pem holds no certificates"):
        Img2datasetConfig(**given, ca_file=str(tmp_path / "gone.pem"))
    with pytest.raises(ValueError, match="'much' is no size"):
        Img2datasetConfig(**given, max_bytes="much")
    monkeypatch.setenv("HTTPS_PROXY", "http://10.0.0.1:3128")
    with pytest.raises(ValueError, match="--allow-private-proxy"):
        img2dataset(Img2datasetConfig(**given))
    assert not (tmp_path / "out").exists()


def test_img2dataset_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "http://only.there/a.jpg"
    (tmp_path / "list.txt").write_text(address)
    with proxying({"http://only.there/robots.txt": MISSING, address: FOUND}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        config = Img2datasetConfig(
            url_list=str(tmp_path / "list.txt"),
            output_folder=str(tmp_path / "out"),
            allow_private_proxy=True,
        )
        assert img2dataset(config).outcomes == {"success": 1}
        assert f"GET {address}" in proxy.asked


def test_img2dataset_trusts_authorities_of_ones_own(tmp_path: Path) -> None:
    with served_securely(tmp_path) as url:
        (tmp_path / "list.txt").write_text(url)
        given = {
            "url_list": str(tmp_path / "list.txt"),
            "allow_private_addresses": True,
            "timeout": 5,
        }
        found = {}
        for name, more in {"system": {}, "own": {"ca_file": str(tmp_path / "cert.pem")}}.items():
            done = img2dataset(
                Img2datasetConfig(**given, **more, output_folder=str(tmp_path / name))
            )
            found[name] = done.outcomes
    assert found == {"system": {"fetch.tls": 1}, "own": {"decode.not_an_image": 1}}


def test_img2dataset_within_a_budget_and_the_rest_by_the_next_run(tmp_path: Path) -> None:
    with served(
        {f"/{number}.jpg": Reply(body=PHOTO, type="image/jpeg") for number in range(9)}
    ) as web:
        (tmp_path / "list.txt").write_text(
            "\n".join(f"{web.url}/{number}.jpg" for number in range(9))
        )
        config = Img2datasetConfig(
            url_list=str(tmp_path / "list.txt"),
            output_folder=str(tmp_path / "out"),
            output_format="parquet",
            retries=2,
            allow_private_addresses=True,
            thread_count=1,
            max_bytes=str(5 * len(PHOTO) + 100),
        )
        first, then = img2dataset(config), img2dataset(config)
        assert sum(path.endswith(".jpg") for path in web.asked) <= 11
    assert first.outcomes == {"success": 5, "fetch.budget": 4}
    assert then.outcomes == {"success": 9}
