"""Collections that are killed again and again end as one that ran undisturbed, and no host is asked
twice for what was committed.

Slow, minutes: each of its kills costs a start of the command, whose imports take seconds.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
# images that a worker may ask for again after a kill: the part it was in, and slow ones left behind
UNCOMMITTED = 512
PATH_BYTES = 14  # of a line of the log
OF_A_PAGE = 10


def png(number: int) -> bytes:
    """A picture of 40 by 30 points in a colour of its own."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )

    header = (40).to_bytes(4, "big") + (30).to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    rows = (b"\0" + (number * 5).to_bytes(3, "big") * 40) * 30
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 1))
        + chunk(b"IEND", b"")
    )


def image_reply(number: int) -> tuple[int, str, bytes]:
    """Most are pictures; each thirtieth is missing, and others are cut, not pictures, or the same
    as another one.
    """
    match number % 30:
        case 0:
            return 404, "text/plain", b"nothing here"
        case 7:
            return 200, "image/png", png(number)[:60]
        case 11:
            return 200, "text/html", b"<p>Please log in.</p>"
        case 13:
            return 200, "image/png", png(13)
    return 200, "image/png", png(number)


def page(number: int, pages: int) -> str:
    """A page of some images that links to the next ones of a tree."""
    images = range(number * OF_A_PAGE, (number + 1) * OF_A_PAGE)
    shown = "".join(
        f'<p><img src="/i/{image:05d}.png" alt="Picture number {image} of the gallery"></p>'
        for image in images
    )
    links = "".join(
        f'<a href="/p/{child:05d}">more</a>'
        for child in range(3 * number + 1, 3 * number + 4)
        if child < pages
    )
    return f"<html><head><title>Gallery {number}</title></head><body>{shown}{links}</body></html>"


def serve(log: str, pages: int) -> None:
    """A server of its own process, which writes down each path before it answers, in lines of one
    length.
    """
    asked = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            os.write(asked, f"{self.path[: PATH_BYTES - 1]:<{PATH_BYTES - 1}}\n".encode())
            found = re.fullmatch(r"/(i|p)/(\d{5})(?:\.png)?", self.path)
            status, kind, body = 404, "text/plain", b"nothing here"
            if found is not None and found[1] == "i":
                status, kind, body = image_reply(int(found[2]))
            elif found is not None and int(found[2]) < pages:
                status, kind, body = (
                    200,
                    "text/html; charset=utf-8",
                    page(int(found[2]), pages).encode(),
                )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A killed client has gone."""

    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


@dataclass(frozen=True, kw_only=True)
class Site:
    url: str
    log: Path

    def requests(self) -> int:
        return self.log.stat().st_size // PATH_BYTES if self.log.exists() else 0

    def asked(self, start: int = 0, end: int | None = None) -> list[str]:
        """The paths asked for, those of images and pages, in order."""
        lines = self.log.read_text().split() if self.log.exists() else []
        return [path for path in lines[start:end] if path.startswith(("/i/", "/p/"))]


@contextmanager
def site(folder: Path, pages: int = 0) -> Iterator[Site]:
    folder.mkdir()
    code = f"from tests.pipelines.test_killed import serve; serve({str(folder / 'log')!r}, {pages})"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield Site(url=f"http://127.0.0.1:{int(server.stdout.readline())}", log=folder / "log")
        finally:
            server.kill()


@dataclass(frozen=True, kw_only=True)
class Command:
    """`winnow collect` of one source into one root."""

    root: Path
    options: tuple[str, ...]

    def start(self) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            "-m",
            "flows.cli",
            "collect",
            "--root",
            str(self.root),
            "--id",
            "c",
            "--allow-private-addresses",
        ]
        return subprocess.Popen(
            [*command, *self.options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> None:
        child = self.start()
        said, _ = child.communicate(timeout=300)
        assert child.returncode == 0, said

    @property
    def collection(self) -> Path:
        return self.root / "collections" / "c"

    def committed(self) -> set[str]:
        """The addresses of images whose part has its receipt, or all of them when the manifest
        stands.
        """
        fetches = self.collection / "fetches"
        receipts = [
            json.loads(path.read_text()) for path in (fetches / "receipts").glob("part-*.json")
        ]
        if (fetches / "manifest.json").exists():
            receipts.append(json.loads((fetches / "manifest.json").read_text()))
        names = {
            file["name"]
            for receipt in receipts
            for file in receipt["files"]
            if file["name"].endswith(".parquet")
        }
        return {
            url
            for name in names
            for url in pq.read_table(fetches / name, columns=["image_url"])["image_url"].to_pylist()
        }


def descendants(pid: int) -> list[int]:
    """A process and all that it has started, also those in sessions of their own."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found


def kill(child: "subprocess.Popen[str]") -> None:
    for pid in descendants(child.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    child.communicate()


def files_of(collection: Path, kind: str, suffix: str) -> list[Path]:
    manifest = json.loads(
        (collection / ("fetches" if kind == "images" else kind) / "manifest.json").read_text()
    )
    names = [file["name"] for file in manifest["files"]]
    return [
        collection / kind / name
        for name in names
        if name.startswith("part-") and name.endswith(suffix)
    ]


def outcomes(collection: Path) -> dict[str, tuple[str, str | None]]:
    rows = pa.concat_tables(
        [pq.read_table(path) for path in files_of(collection, "fetches", ".parquet")]
    )
    found = {
        row["image_url"]: (row["outcome"], row["image_id"])
        for row in rows.select(["image_url", "outcome", "image_id"]).to_pylist()
    }
    assert len(found) == rows.num_rows
    return found


def images(collection: Path) -> list[tuple[str, bytes]]:
    tables = [
        pa.ipc.open_file(path).read_all() for path in files_of(collection, "images", ".arrow")
    ]
    return sorted(
        (row["image_id"], row["image"])
        for table in tables
        for row in table.select(["image_id", "image"]).to_pylist()
    )


def candidates(collection: Path) -> list[tuple[object, ...]]:
    """What a candidate is, times and what follows from them (ids, places in archives) aside."""
    columns = ["page_url", "image_url", "text", "text_source", "place", "permission"]
    tables = [
        pq.read_table(path, columns=columns)
        for path in files_of(collection, "candidates", ".parquet")
    ]
    return sorted((tuple(row.values()) for table in tables for row in table.to_pylist()), key=repr)


def counts(collection: Path) -> dict[str, int]:
    found = json.loads((collection / "manifest.json").read_text())["counts"]
    assert isinstance(found, dict)
    return found


def killed_at(command: Command, moment: Callable[["subprocess.Popen[str]"], bool]) -> bool:
    """Start the command and kill it when its moment has come; False if it ended before."""
    child = command.start()
    while not moment(child):
        if child.poll() is not None:
            assert child.returncode == 0, child.communicate()[0]
            return False
        time.sleep(0.002)
    kill(child)
    return True


def until_requests(
    site: Site, count: int, pause: float
) -> Callable[["subprocess.Popen[str]"], bool]:
    """The moment that many requests have come in all, and some milliseconds more."""

    def reached(child: "subprocess.Popen[str]") -> bool:
        if site.requests() < count:
            return False
        time.sleep(pause)
        return True

    return reached


def starting(site: Site, seconds: float) -> Callable[["subprocess.Popen[str]"], bool]:
    """A moment after so many seconds, or, where the machine is quicker than it was, when the first
    requests come.
    """
    begun, asked = time.monotonic(), site.requests()
    return lambda child: time.monotonic() - begun >= seconds or site.requests() > asked + 2


def harass(
    command: Command,
    site: Site,
    *,
    kills: int,
    early: int,
    start: float,
    whole: int,
    workers: int,
    seed: int,
) -> None:
    """Kill the command at random moments, `early` of them while it starts, and check after each
    what is asked for again.
    """
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(kills), early))
    before: set[str] = set()
    for number in range(kills):
        begin = site.requests()
        committed = {url.removeprefix(site.url) for url in command.committed()}
        if number in moments:
            moment = starting(site, chance.uniform(0.0, start))
        else:  # of what is still to be asked for, a share that leaves something for each kill to come  # noqa: E501
            left = whole - len(committed)
            moment = until_requests(
                site,
                begin + chance.randint(1, max(1, 2 * left // (kills - number + 1))),
                chance.uniform(0.0, 0.05),
            )
        went_on = killed_at(command, moment)
        asked = {path for path in site.asked(begin) if path.startswith("/i/")}
        assert not asked & committed, "what was committed was asked for again"
        assert len(asked & before) <= UNCOMMITTED * workers
        before |= asked
        assert went_on or number > kills // 2, f"only {number} of {kills} moments came"
        if not went_on:
            return


def check(command: Command, alone: Command) -> None:
    assert counts(command.collection) == counts(alone.collection)
    assert candidates(command.collection) == candidates(alone.collection)
    assert outcomes(command.collection) == outcomes(alone.collection)
    assert images(command.collection) == images(alone.collection)
    left = [
        path.name
        for path in command.root.rglob("*")
        if path.name.startswith(".tmp-") or path.name in ("lease.json", "receipts")
    ]
    assert left == []


def pairs_file(folder: Path, url: str, count: int) -> Path:
    path = folder / "pairs.parquet"
    urls = [f"{url}/i/{number:05d}.png" for number in range(count)]
    pq.write_table(
        pa.table(
            {
                "url": urls,
                "text": [f"Picture number {number} of the gallery" for number in range(count)],
            }
        ),
        path,
    )
    return path


@pytest.mark.parametrize(("workers", "count", "kills"), [(1, 3000, 20), (2, 1000, 4)])
def test_a_list_of_images_survives_kills_at_random_moments(
    tmp_path: Path, workers: int, count: int, kills: int
) -> None:
    with site(tmp_path / "site") as quiet:
        options = (
            "--pairs",
            str(pairs_file(tmp_path, quiet.url, count)),
            "--workers",
            str(workers),
        )
        alone = Command(root=tmp_path / "alone", options=options)
        begun = time.monotonic()
        child = alone.start()
        while quiet.requests() == 0 and child.poll() is None:
            time.sleep(0.01)
        start = time.monotonic() - begun
        said, _ = child.communicate(timeout=300)
        assert child.returncode == 0, said
        undisturbed = quiet.requests()
        assert Counter(quiet.asked()) == Counter(
            {f"/i/{number:05d}.png": 1 for number in range(count)}
        )
        command = Command(root=tmp_path / "killed", options=options)
        os.truncate(quiet.log, 0)
        harass(
            command,
            quiet,
            kills=kills,
            early=kills // 4,
            start=start,
            whole=count,
            workers=workers,
            seed=7,
        )
        command.finish()
        assert set(quiet.asked()) == {f"/i/{number:05d}.png" for number in range(count)}
        assert quiet.requests() <= undisturbed + (kills + 1) * UNCOMMITTED * workers
    check(command, alone)
    broken = Counter(outcome for outcome, _ in outcomes(alone.collection).values())
    assert broken["fetched"] == sum(number % 30 not in (0, 7, 11) for number in range(count))


def test_a_crawl_survives_kills_at_random_moments(tmp_path: Path) -> None:
    pages = 60
    with site(tmp_path / "site", pages) as quiet:
        options = ("--seed", f"{quiet.url}/p/00000")
        alone = Command(root=tmp_path / "alone", options=options)
        alone.finish()
        os.truncate(quiet.log, 0)
        command = Command(root=tmp_path / "killed", options=options)
        harass(
            command,
            quiet,
            kills=5,
            early=1,
            start=4.0,
            whole=pages * (OF_A_PAGE + 1),
            workers=1,
            seed=3,
        )
        command.finish()
        asked = Counter(path for path in quiet.asked() if path.startswith("/p/"))
    assert asked.keys() == {f"/p/{number:05d}" for number in range(pages)}
    check(command, alone)


def test_shares_bring_a_collection_together(tmp_path: Path) -> None:
    pages = 20
    with site(tmp_path / "site", pages) as quiet:
        options = ("--seed", f"{quiet.url}/p/00000")
        alone = Command(root=tmp_path / "alone", options=options)
        alone.finish()
        os.truncate(quiet.log, 0)
        shares = [
            Command(root=tmp_path / "shares", options=(*options, "--share", f"{index}/3"))
            for index in (3, 1, 2)
        ]
        for child in [share.start() for share in shares]:
            said, _ = child.communicate(timeout=300)
            assert child.returncode == 0, said
        assert set(Counter(quiet.asked()).values()) == {1}
    check(shares[0], alone)
    assert not list((tmp_path / "shares").rglob("*lease*"))
