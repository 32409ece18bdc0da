"""Pages and images a second of the guest client, beside another commit in the same run where one is
given.

    BENCH_OLD=/path/of/a/worktree python -m pytest -s tests/benchmarks/test_client.py

Without BENCH_OLD the figures are printed and not judged. The server is a process of its own; what
else the machine does falls on both in turns: whole crawls (ten parts of images for each) go round
BENCH_ROUNDS times.
"""

import asyncio
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGES = 1500
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
Cost = tuple[float, float]  # seconds of CPU and on the clock, of one page or image
LINKS = 8  # of a page to pages that are new, beside forty to others
CRAWL = """
import json, resource, sys, time
from pipelines.store import Folder
from pipelines.web.crawl import Crawl, crawl
begun = []
def seen(pages):
    begun.append(time.monotonic())
if __name__ == "__main__":
    config = Crawl(seeds=(sys.argv[1],), allow_private_addresses=True, max_depth=20)
    found = crawl(config, Folder(sys.argv[2]), progress=seen)
    own, other = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = sum(one.ru_utime + one.ru_stime for one in (own, other))
    print(json.dumps({"pages": found["pages"], "seconds": begun[-1] - begun[0], "cpu": cpu}))
"""  # noqa: E501
FETCH = """
import sys, time
from pipelines.images.decode import Undecodable
from pipelines.web.downloader import Downloader
try:
    from pipelines.web.politeness import Politeness
except ImportError:  # at commits before the client was one
    from pipelines.web.opener import Guest as Politeness
if __name__ == "__main__":
    downloader, seen = Downloader(Politeness(allow_private_addresses=True)), Undecodable(outcome="seen", detail="")
    for part in sys.stdin:
        urls = [f"{sys.argv[1]}/i/{number}.jpg?{part.strip()}" for number in range(int(sys.argv[2]))]
        cpu, begun = time.process_time(), time.monotonic()
        found = downloader.fetch(urls, decode=lambda data: seen, keep=lambda picture: picture).values()
        assert all(result.outcome == "seen" for result, _ in found)
        print(time.process_time() - cpu, time.monotonic() - begun, flush=True)
    downloader.close()
"""  # noqa: E501
IMAGES = 256  # of a part, as fetching has them
NOISE = 1.05  # what one run differs from the next on a machine that does other things too


def jpeg(number: int) -> bytes:
    """A photo-like JPEG of 224 x 224 pixels and some 25 kB, as in test_fetch."""
    rough = np.random.default_rng(number).integers(0, 255, (28, 28, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rough).resize((224, 224), Image.Resampling.BICUBIC).save(
        buffer, "JPEG", quality=95
    )
    return buffer.getvalue()


def page(number: int) -> bytes:
    """Some 20 kB of text with images, links to pages that are new and to others of the site."""
    new = range(LINKS * number + 1, LINKS * (number + 1) + 1)
    known = ((number * 7 + step * 13) % PAGES for step in range(40))
    links = "".join(
        f'<li><a href="/p/{to}">page {to}</a></li>' for to in (*new, *known) if to < PAGES
    )
    images = "".join(
        f'<p><img src="/i/{number}-{image}.jpg" alt="Picture {image}">' for image in range(10)
    )
    text = "".join(
        f"<p>The words of paragraph {place} of page {number} are many. " * 3 for place in range(100)
    )
    return f"<html><head><title>{number}</title></head><body><ul>{links}</ul>{images}{text}</body></html>".encode()  # noqa: E501


async def serve() -> None:
    """Answers with keep-alive until it is killed; the port is printed."""
    answers: dict[bytes, bytes] = {}
    for number in range(PAGES):
        body = page(number)
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length:"
            b" %d\r\n\r\n" % len(body)
        )
        answers[b"/p/%d" % number] = head + body
    for number in range(IMAGES):
        body = jpeg(number % 100) + number.to_bytes(4, "big")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(
            body
        )
        answers[b"/i/%d.jpg" % number] = head + body
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                writer.write(answers.get(head.split(b" ", 2)[1].partition(b"?")[0], missing))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    code = "import asyncio; from tests.benchmarks.test_client import serve; asyncio.run(serve())"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


def trees() -> dict[str, Path]:
    return {"this": ROOT} | (
        {"old": Path(os.environ["BENCH_OLD"])} if "BENCH_OLD" in os.environ else {}
    )


def environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree)}


def judged(found: dict[str, list[Cost]]) -> None:
    """In CPU no dearer than it was, by the median of the rounds, in each of which both had their
    turn.
    """
    for name, costs in found.items():
        cpu, wall = (statistics.median(values) for values in zip(*costs, strict=True))
        print(
            f"\n{name:<6}{1 / wall:8.0f} a second{1000 * cpu:8.3f} CPU ms each,"
            f" {1000 * min(costs)[0]:.3f} at best"
        )
    if "old" in found:
        ratio = statistics.median(
            this[0] / old[0] for this, old in zip(found["this"], found["old"], strict=True)
        )
        print(
            f"CPU of this tree to that of the old one, median of {ROUNDS} rounds or parts:"
            f" {ratio:.3f}"
        )
        assert ratio <= NOISE


def crawled(url: str, tree: Path, folder: Path) -> Cost:
    command = [sys.executable, "-c", CRAWL, url, str(folder)]
    done = subprocess.run(
        command, cwd=tree, env=environment(tree), capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["pages"] == PAGES
    return told["cpu"] / PAGES, told["seconds"] / PAGES


@contextlib.contextmanager
def fetching(url: str, tree: Path) -> Iterator[Callable[[int], Cost]]:
    """A process that fetches a part when it is told to, and says what an image cost."""
    command = [sys.executable, "-c", FETCH, url, str(IMAGES)]
    with subprocess.Popen(
        command,
        cwd=tree,
        env=environment(tree),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asks, says = process.stdin, process.stdout

        def part(number: int) -> Cost:
            print(number, file=asks, flush=True)
            cpu, wall = map(float, says.readline().split())
            return cpu / IMAGES, wall / IMAGES

        yield part
        asks.close()


@pytest.mark.timeout(3000)
def test_pages_a_second(url: str, tmp_path: Path) -> None:
    found: dict[str, list[Cost]] = {name: [] for name in trees()}
    for number in range(ROUNDS):
        for name, tree in trees().items():
            found[name].append(crawled(f"{url}/p/0", tree, tmp_path / f"{name}-{number}"))
    judged(found)


@pytest.mark.timeout(3000)
def test_images_a_second(url: str) -> None:
    """Images are not decoded, which would be most of it."""
    found: dict[str, list[Cost]] = {name: [] for name in trees()}
    with contextlib.ExitStack() as stack:
        parts = {name: stack.enter_context(fetching(url, tree)) for name, tree in trees().items()}
        for number in range(10 * ROUNDS):
            for name, part in parts.items():
                cost = part(number)
                if number:  # the first part meets the host and its well-known files
                    found[name].append(cost)
    judged(found)
