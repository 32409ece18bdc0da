"""A hostile web on the loopback address: every run ends in time, every address has its outcome, and
nothing private is connected to.
"""

import gzip
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipelines.images.decode import decode
from pipelines.permission.networks import Address
from pipelines.web import hosts
from pipelines.web.downloader import Downloader
from pipelines.web.fetch import as_it_is
from pipelines.web.politeness import Politeness
from tests.pipelines.web import Reply, jpeg, served

PHOTO = jpeg(64, 48)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"
FOUND = HEAD + b"Content-Length: %d\r\n\r\n" % len(PHOTO) + PHOTO
LOCAL = Politeness(allow_private_addresses=True, seconds=1.0, image_bytes=200_000)
PUBLIC = Politeness(seconds=2.0, images_per_second=1000.0)
Behaviour = bytes | Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow soon, so that these tests are fast."""
    monkeypatch.setattr("pipelines.web.politeness.RETRY_SECONDS", 0.05)


@dataclass
class Raw:
    """A server that says exactly these bytes; `seen` counts its connections, `asked` lists the
    paths.
    """

    port: int
    seen: int = 0
    asked: list[str] = field(default_factory=list)


@contextmanager
def raw(answers: Mapping[str, Behaviour], host: str = "127.0.0.1") -> Iterator[Raw]:
    """One answer a connection, by path; 404 elsewhere."""
    with socket.create_server((host, 0), backlog=64) as listener:
        server = Raw(listener.getsockname()[1])

        def talk(client: socket.socket) -> None:
            with client:
                try:
                    asked = client.recv(65_536).split(b" ")
                    path = asked[1].decode() if len(asked) > 1 else ""
                    server.asked.append(path)
                    answer = answers.get(
                        path,
                        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    )
                    if callable(answer):
                        answer(client)
                    else:
                        client.sendall(answer)
                except OSError:  # the client had enough
                    pass

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                server.seen += 1
                threading.Thread(target=talk, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def ask(
    urls: list[str], guest: Politeness = LOCAL, *, deadline: float | None = None, **options: Any
) -> dict[str, str]:
    """The outcome of each address, asked by a downloader that nobody else uses."""
    downloader = Downloader(guest, **options)
    try:
        found = downloader.fetch(
            urls,
            decode=decode,
            keep=as_it_is,
            deadline=None if deadline is None else time.time() + deadline,
        )
        return {url: attempt.outcome for url, (attempt, _) in found.items()}
    finally:
        downloader.close()


def one(answer: Behaviour, guest: Politeness = LOCAL) -> str:
    with raw({"/a.jpg": answer}) as server:
        (outcome,) = ask([f"http://127.0.0.1:{server.port}/a.jpg"], guest).values()
        return outcome


def drip(data: bytes, pause: float = 0.05) -> Callable[[socket.socket], None]:
    def send(client: socket.socket) -> None:
        for start in range(len(data)):
            client.sendall(data[start : start + 1])
            time.sleep(pause)

    return send


def forever(begin: bytes, again: bytes) -> Callable[[socket.socket], None]:
    def send(client: socket.socket) -> None:
        client.sendall(begin)
        while True:
            client.sendall(again)

    return send


def reset(data: bytes) -> Callable[[socket.socket], None]:
    def send(client: socket.socket) -> None:
        client.sendall(data)
        time.sleep(0.1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    return send


def hang(client: socket.socket) -> None:
    time.sleep(3)


BOMB = gzip.compress(b"\xff\xd8\xff" + bytes(50_000_000))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(FOUND, "fetched", id="a plain answer"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\n" + FOUND, "fetched", id="an interim answer before"
        ),
        pytest.param(HEAD + b"Connection: close\r\n\r\n" + PHOTO, "fetched", id="no length at all"),
        pytest.param(
            HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(PHOTO),
            "fetched",
            id="gzip that was not asked for",
        ),
        pytest.param(
            HEAD + b"Content-Encoding: gzip\r\n\r\n" + PHOTO, "fetched", id="gzip that is none"
        ),
        pytest.param(drip(FOUND), "fetch.timeout", id="slow loris, head and all"),
        pytest.param(drip(HEAD, 0.001), "fetch.cut", id="hangs up within the head"),
        pytest.param(hang, "fetch.timeout", id="never says a word"),
        pytest.param(forever(HEAD + b"\r\n", b"x" * 65_536), "fetch.too_large", id="endless body"),
        pytest.param(
            forever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nxxxx\r\n" * 999),
            "fetch.too_large",
            id="endless chunks",
        ),
        pytest.param(
            forever(b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"x" * 9000 + b"\r\n"),
            "fetch.malformed",
            id="endless head",
        ),
        pytest.param(
            forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            "fetch.malformed",
            id="interim answers without end",
        ),
        pytest.param(
            HEAD + b"X-Bomb: " + b"x" * 500_000 + b"\r\n\r\n",
            "fetch.malformed",
            id="one header of half a megabyte",
        ),
        pytest.param(
            HEAD + b"Content-Encoding: gzip\r\n\r\n" + BOMB, "fetch.too_large", id="gzip bomb"
        ),
        pytest.param(
            HEAD + b"Content-Length: 99999999999\r\n\r\n",
            "fetch.too_large",
            id="announces too much",
        ),
        pytest.param(
            HEAD + b"Content-Length: -5\r\n\r\n" + PHOTO,
            "fetch.malformed",
            id="announces less than nothing",
        ),
        pytest.param(
            HEAD + b"Content-Length: 9999\r\n\r\n" + PHOTO,
            "fetch.cut",
            id="announces more than it sends",
        ),
        pytest.param(
            HEAD + b"Content-Length: %d\r\n\r\n" % (len(PHOTO) - 99) + PHOTO,
            "decode.truncated",
            id="announces less",
        ),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            "fetch.malformed",
            id="chunks that are none",
        ),
        pytest.param(reset(FOUND[:-200]), "fetch.cut", id="reset within the body"),
        pytest.param(b"", "fetch.closed", id="hangs up at once"),
        pytest.param(b"\x16\x03\x01 what?", "fetch.malformed", id="no HTTP at all"),
        pytest.param(b"HTTP/1.1 999999 Odd\r\n\r\n", "fetch.malformed", id="no status"),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
            "fetch.http_302",
            id="a redirect to nowhere",
        ),
        pytest.param(
            HEAD.replace(b"image/jpeg", b"text/html; charset=nonsense") + b"\r\n" + PHOTO,
            "fetched",
            id="lying type",
        ),
        pytest.param(
            HEAD + b"\r\n<script>alert(1)</script>",
            "decode.not_an_image",
            id="a page that says it is a picture",
        ),
        pytest.param(
            HEAD + b"X-Robots-Tag: noindex,\r\n noimageindex\r\n\r\n" + PHOTO,
            "permission.noindex",
            id="folded header",
        ),
        pytest.param(
            forever(HEAD + b"X-Robots-Tag: noai\r\n\r\n", b"x" * 65_536),
            "permission.noai",
            id="refused before its body",
        ),
    ],
)
def test_answers(answer: Behaviour, expected: str) -> None:
    begin = time.monotonic()
    assert one(answer) == expected
    # a second for the image, two retries where the connection failed
    assert time.monotonic() - begin < 8


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/a.jpg",
        "gopher://127.0.0.1:70/_x",
        "dict://127.0.0.1:11211/stats",
        "javascript:alert(1)",
        "unix:///run/x.sock",
        "given://x/1",
    ],
)
def test_other_schemes_are_not_followed(location: str) -> None:
    assert (
        one(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
        == "address.scheme"
    )


def test_redirects_without_end() -> None:
    pages = {
        f"/{number}": Reply(status=302, headers=(("Location", f"/{number + 1}"),))
        for number in range(100)
    }
    with served({**pages, "/loop": Reply(status=301, headers=(("Location", "/loop"),))}) as web:
        assert set(ask([f"{web.url}/0", f"{web.url}/loop"]).values()) == {"fetch.redirects"}
        assert (
            Counter(path for path in web.asked if path[1:].isdigit() or path == "/loop").total()
            == 12
        )


def test_a_line_break_in_a_location_injects_nothing() -> None:
    with raw(
        {
            "/a.jpg": (
                b"HTTP/1.1 302 Found\r\nLocation: /b.jpg%0d%0aHost:%20evil\r\nX:"
                b" y\r\nContent-Length: 0\r\n\r\n"
            )
        }
    ) as server:
        assert set(ask([f"http://127.0.0.1:{server.port}/a.jpg"]).values()) == {"fetch.http_404"}
        assert [path for path in server.asked if path.startswith("/b")] == [
            "/b.jpg%0D%0AHost:%20evil"
        ]


def test_a_line_break_of_its_own_in_a_location_is_no_answer() -> None:
    assert (
        one(b"HTTP/1.1 302 Found\r\nLocation: /b.jpg\rHost: evil\r\nContent-Length: 0\r\n\r\n")
        == "fetch.malformed"
    )


def test_a_connection_that_the_server_closes_is_replaced() -> None:
    def closing(client: socket.socket) -> None:
        client.sendall(FOUND)  # says nothing of closing, and closes

    paths = [f"/{number}.jpg" for number in range(6)]
    with raw(dict.fromkeys(paths, closing)) as server:
        downloader = Downloader(LOCAL)
        try:
            for path in paths:
                ((attempt, _),) = downloader.fetch(
                    [f"http://127.0.0.1:{server.port}{path}"], decode=decode, keep=as_it_is
                ).values()
                assert attempt.outcome == "fetched"
        finally:
            downloader.close()


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1", "0.0.0.0"]
)
def test_a_public_name_may_not_lead_inside(address: str) -> None:
    def resolver(host: str, port: int) -> list[Address]:
        return [(socket.AF_INET6 if ":" in address else socket.AF_INET, address)]

    assert set(ask(["http://photos.example/a.jpg"], PUBLIC, resolver=resolver).values()) == {
        "address.private"
    }


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "0",
    ],
)
def test_spellings_of_the_loopback_address(host: str) -> None:
    with raw({}) as canary:
        assert set(ask([f"http://{host}:{canary.port}/a.jpg"], PUBLIC).values()) <= {
            "address.private",
            "fetch.dns",
        }
        assert canary.seen == 0


def is_loopback_one(address: str) -> bool:
    """What these tests take for the public part of the network."""
    return address == "127.0.0.1"


def test_redirects_inward_are_refused() -> None:
    """127.0.0.1 plays the public web, 127.0.0.2 what is inside: by address, by name, and in other
    spellings.
    """
    with raw({}, "127.0.0.2") as canary:
        inside = [
            "http://127.0.0.2",
            "http://inside.example",
            "http://2130706434",
            "http://0x7f000002",
            "http://[::ffff:127.0.0.2]",
        ]
        pages = {
            f"/{number}.jpg": Reply(status=302, headers=(("Location", f"{to}:{canary.port}/x"),))
            for number, to in enumerate(inside)
        }
        with served(pages) as web:
            names = {
                "public.example": "127.0.0.1",
                "inside.example": "127.0.0.2",
                "2130706434": "127.0.0.2",
                "0x7f000002": "127.0.0.2",
            }

            def resolver(host: str, port: int) -> list[Address]:
                return [(socket.AF_INET, names.get(host, host))]

            port = web.url.rsplit(":", 1)[1]
            found = ask(
                [f"http://public.example:{port}{path}" for path in pages],
                PUBLIC,
                resolver=resolver,
                public=is_loopback_one,
            )
            assert set(found.values()) == {"address.private"}
            assert {path for path in web.asked if path.endswith(".jpg")} == set(pages)
        assert canary.seen == 0


def test_robots_may_not_lead_inside() -> None:
    with raw({}, "127.0.0.2") as canary:
        redirect = Reply(
            status=302, headers=(("Location", f"http://127.0.0.2:{canary.port}/robots.txt"),)
        )
        with served({"/robots.txt": redirect, "/a.jpg": Reply(body=PHOTO)}) as web:
            assert set(ask([f"{web.url}/a.jpg"], PUBLIC, public=is_loopback_one).values()) == {
                "address.private"
            }
            assert web.asked == ["/robots.txt"]
        assert canary.seen == 0


def test_a_name_that_changes_its_address() -> None:
    """DNS rebinding: a name is looked up once, all its addresses are judged, and only those are
    connected to.
    """
    with (
        raw({}, "127.0.0.2") as canary,
        served({f"/{number}.jpg": Reply(body=PHOTO) for number in range(20)}) as web,
    ):
        port = int(web.url.rsplit(":", 1)[1])
        answers = [["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1", "127.0.0.2"]]
        asked: list[str] = []

        def resolver(host: str, at: int) -> list[Address]:
            asked.append(host)
            return [(socket.AF_INET, address) for address in answers[min(len(asked), 3) - 1]]

        urls = [f"http://changing.example:{port}/{number}.jpg" for number in range(20)]
        assert set(ask(urls, PUBLIC, resolver=resolver, public=is_loopback_one).values()) == {
            "fetched"
        }
        assert asked == ["changing.example"]
        assert set(ask(urls, PUBLIC, resolver=resolver, public=is_loopback_one).values()) == {
            "address.private"
        }
        assert set(ask(urls, PUBLIC, resolver=resolver, public=is_loopback_one).values()) == {
            "address.private"
        }
        assert asked == ["changing.example"] * 3
        assert canary.seen == 0


def test_what_is_connected_to_is_what_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a libcurl that resolved a name by itself would connect to nothing else."""
    monkeypatch.setattr("pipelines.web.curl_handle._resolved", lambda request: [])
    with raw({}) as canary:
        urls = [f"http://localhost:{canary.port}/a.jpg"]
        found = ask(
            urls,
            PUBLIC,
            resolver=lambda host, port: [(socket.AF_INET, "127.0.0.9")],
            public=lambda address: True,
        )
        assert set(found.values()) == {"fetch.unreachable"}
        assert canary.seen == 0


def test_names_without_an_address() -> None:
    asked: list[str] = []

    def resolver(host: str, port: int) -> list[Address]:
        asked.append(host)
        if host == "moment.example":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if host == "never.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return []

    names = ["moment.example", "never.example", "empty.example"]
    assert set(
        ask(
            [f"http://{name}/{number}" for name in names for number in range(5)], resolver=resolver
        ).values()
    ) == {"fetch.dns"}
    assert Counter(asked) == {"moment.example": 2, "never.example": 1, "empty.example": 1}


def test_a_busy_host_is_left_alone() -> None:
    """429 with a Retry-After that is too long: what is under way hears it, the rest is not asked
    for at all.
    """
    pages = {
        f"/{number}.jpg": Reply(status=429, headers=(("Retry-After", "3600"),))
        for number in range(50)
    }
    with served(pages) as web:
        found = Counter(
            ask(
                [f"{web.url}{path}" for path in pages],
                Politeness(allow_private_addresses=True, connections=4),
            ).values()
        )
        asked = [path for path in web.asked if path.endswith(".jpg")]
    assert found == {"fetch.http_429": len(asked), "fetch.host_busy": 50 - len(asked)}
    assert len(asked) <= 8


def test_retry_after_is_waited_for_by_the_whole_host() -> None:
    turns = [Reply(status=429, headers=(("Retry-After", "1"),))]
    at: list[float] = []

    def page() -> Reply:
        at.append(time.monotonic())
        return turns.pop() if turns else Reply(body=PHOTO)

    with served({"/a.jpg": page, "/b.jpg": page}) as web:
        assert set(
            ask(
                [f"{web.url}/a.jpg", f"{web.url}/b.jpg"],
                Politeness(allow_private_addresses=True, connections=1),
            ).values()
        ) == {"fetched"}
    assert len(at) == 3
    assert at[1] - at[0] >= 0.95


def test_a_host_that_is_always_busy_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that have somebody on a list answer 429 for ever: thousands of images would be asked
    for, ten seconds apart.
    """
    monkeypatch.setattr(hosts, "IN_VAIN", 1.0)
    monkeypatch.setattr(hosts, "MAX_GAP", 0.2)
    pages = {f"/{number}.jpg": Reply(status=429) for number in range(100)}
    begin = time.monotonic()
    with served(pages) as web:
        found = Counter(
            ask(
                [f"{web.url}{path}" for path in pages],
                Politeness(allow_private_addresses=True, connections=8),
            ).values()
        )
        asked = {path for path in web.asked if path.endswith(".jpg")}
    assert found == {"fetch.http_429": len(asked), "fetch.host_busy": 100 - len(asked)}
    assert 8 <= len(asked) < 30
    assert time.monotonic() - begin < 10


def test_link_local_addresses_are_never_asked() -> None:
    found = ask(
        ["http://169.254.169.254/latest/meta-data"], Politeness(allow_private_addresses=True)
    )
    assert found == {"http://169.254.169.254/latest/meta-data": "address.private"}


def test_a_storm_of_errors_ends() -> None:
    """Every page an error: the first are tried again, then the host counts as down, and all have
    their outcome.
    """
    pages = {f"/{number}.jpg": Reply(status=500) for number in range(200)}
    begin = time.monotonic()
    with served(pages) as web:
        found = Counter(
            ask(
                [f"{web.url}{path}" for path in pages],
                Politeness(allow_private_addresses=True, connections=8),
            ).values()
        )
        asked = [path for path in web.asked if path.endswith(".jpg")]
    assert found.total() == 200
    assert set(found) == {"fetch.http_5xx", "fetch.host_down"}
    # what was answered stands, though the host is not asked again
    assert found["fetch.http_5xx"] == len(set(asked))
    assert len(asked) < 30
    assert time.monotonic() - begin < 10


def test_a_dead_host_fails_fast() -> None:
    with raw({}) as server:
        port = server.port
    found = Counter(
        ask([f"http://127.0.0.1:{port}/{number}.jpg" for number in range(500)]).values()
    )
    # its robots.txt is asked for once, and that it cannot be had stands for all
    assert found == {"fetch.refused": 500}


def robots(answer: Behaviour, guest: Politeness = LOCAL) -> str:
    with raw({"/robots.txt": answer, "/a.jpg": FOUND}) as server:
        (outcome,) = ask([f"http://127.0.0.1:{server.port}/a.jpg"], guest).values()
        return outcome


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "fetched", id="404"),
        pytest.param(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "fetched", id="403"),
        pytest.param(
            b"HTTP/1.1 500 Error\r\nContent-Length: 0\r\n\r\n", "permission.robots_image", id="500"
        ),
        pytest.param(
            b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\n\r\n", "permission.robots_image", id="429"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n\r\nUser-agent: *\nDisallow: /\n",
            "permission.robots_image",
            id="refuses",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n\r\nUser-agent: *\nDisallow: /\nUser-agent: winnow\nAllow: /\n",
            "fetched",
            id="names us",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n\r\n\x89PNG\r\n\x1a\n\x00\x00", "fetched", id="is a picture"
        ),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\n\r\n" + b"#" * 100), "fetch.timeout", id="slow"),
        pytest.param(hang, "fetch.timeout", id="silent"),
        pytest.param(
            forever(b"HTTP/1.1 200 OK\r\n\r\nUser-agent: *\nDisallow: /a\n", b"# filler\n" * 999),
            "permission.robots_image",
            id="endless",
        ),
        pytest.param(
            reset(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nUser"), "fetch.cut", id="reset"
        ),
    ],
)
def test_robots(answer: Behaviour, expected: str) -> None:
    assert robots(answer) == expected


def test_every_run_ends_by_its_deadline() -> None:
    """Hundreds of addresses that would all take their full time: what is not there by the deadline
    says so.
    """
    answers: dict[str, Behaviour] = {f"/{number}.jpg": hang for number in range(100)}
    with raw({**answers, "/quick.jpg": FOUND}) as server:
        urls = [f"http://127.0.0.1:{server.port}{path}" for path in ["/quick.jpg", *answers]]
        begin = time.monotonic()
        found = Counter(
            ask(
                urls, Politeness(allow_private_addresses=True, connections=16), deadline=0.8
            ).values()
        )
        assert time.monotonic() - begin < 8
    assert found == {"fetched": 1, "fetch.deadline": 100}


def test_slow_hosts_do_not_hold_up_the_others() -> None:
    """Twenty addresses of a host that never answers, and one of another: the other is there at
    once.
    """
    with (
        raw(dict.fromkeys((f"/{number}.jpg" for number in range(20)), hang)) as slow,
        raw({"/a.jpg": FOUND}) as quick,
    ):
        urls = [f"http://127.0.0.1:{slow.port}/{number}.jpg" for number in range(20)] + [
            f"http://127.0.0.1:{quick.port}/a.jpg"
        ]
        at: list[float] = []
        downloader = Downloader(Politeness(allow_private_addresses=True, seconds=1.0))
        begin = time.monotonic()
        try:
            found = downloader.fetch(
                urls,
                decode=lambda data: (at.append(time.monotonic() - begin), decode(data))[1],
                keep=as_it_is,
            )
        finally:
            downloader.close()
    assert Counter(attempt.outcome for attempt, _ in found.values()) == {
        "fetch.timeout": 20,
        "fetched": 1,
    }
    assert at[0] < 0.7
