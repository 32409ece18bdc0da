"""Pages and images a second of the guest client, beside another commit in the same run where one is given.

    BENCH_OLD=/path/of/a/worktree python -m pytest -s tests/benchmarks/test_client.py

Without BENCH_OLD the figures are printed and not judged. The server is a process of its own; what else the machine does falls on both
in turns.
"""

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGES = 1500
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
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
"""
FETCH = """
import json, sys, time
from pipelines.images.decode import Undecodable
from pipelines.web.downloader import Downloader
try:
    from pipelines.web.politeness import Politeness
except ImportError:  # at commits before the client was one
    from pipelines.web.opener import Guest as Politeness
if __name__ == "__main__":
    downloader, seen = Downloader(Politeness(allow_private_addresses=True)), Undecodable(outcome="seen", detail="")
    urls = [f"{sys.argv[1]}/i/{number}.jpg" for number in range(int(sys.argv[3]))]
    cpu, begun, found = time.process_time(), time.monotonic(), []
    for start in range(0, len(urls), 256):
        found += downloader.fetch(urls[start : start + 256], decode=lambda data: seen, keep=lambda picture: picture).values()
    told = {"pages": sum(result.outcome == "seen" for result, _ in found), "seconds": time.monotonic() - begun}
    print(json.dumps({**told, "cpu": time.process_time() - cpu}))
    downloader.close()
"""
IMAGES = 3000


def jpeg(number: int) -> bytes:
    """A photo-like JPEG of 224 x 224 pixels and some 25 kB, as in test_fetch."""
    rough = np.random.default_rng(number).integers(0, 255, (28, 28, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rough).resize((224, 224), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def page(number: int) -> bytes:
    """Some 20 kB of text with images, links to pages that are new and to others of the site."""
    new = range(LINKS * number + 1, LINKS * (number + 1) + 1)
    known = ((number * 7 + step * 13) % PAGES for step in range(40))
    links = "".join(f'<li><a href="/p/{to}">page {to}</a></li>' for to in (*new, *known) if to < PAGES)
    images = "".join(f'<p><img src="/i/{number}-{image}.jpg" alt="Picture {image}">' for image in range(10))
    text = "".join(f"<p>The words of paragraph {place} of page {number} are many. " * 3 for place in range(100))
    return f"<html><head><title>{number}</title></head><body><ul>{links}</ul>{images}{text}</body></html>".encode()


async def serve() -> None:
    """Answers with keep-alive until it is killed; the port is printed."""
    answers: dict[bytes, bytes] = {}
    for number in range(PAGES):
        body = page(number)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % len(body)
        answers[b"/p/%d" % number] = head + body
    for number in range(IMAGES):
        body = jpeg(number % 100) + number.to_bytes(4, "big")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body)
        answers[b"/i/%d.jpg" % number] = head + body
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                writer.write(answers.get(head.split(b" ", 2)[1], missing))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    code = "import asyncio; from tests.benchmarks.test_client import serve; asyncio.run(serve())"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


def timed(program: str, tree: Path, folder: Path, *arguments: str) -> dict[str, float]:
    """Pages or images a second, and CPU milliseconds for each."""
    (folder.parent / "timed.py").write_text(program)
    command = [sys.executable, str(folder.parent / "timed.py"), *arguments]
    done = subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["pages"] in (PAGES, IMAGES)
    return {"rate": (told["pages"] - 1) / told["seconds"], "cpu": 1000 * told["cpu"] / told["pages"]}


def compared(program: str, folder: Path, *arguments: str) -> None:
    """This tree and the old one in turns: the best of each, in CPU no dearer than it was, within what a run differs from the next.

    Images are not decoded, which would be most of it.
    """
    trees = {"this": ROOT} | ({"old": Path(os.environ["BENCH_OLD"])} if "BENCH_OLD" in os.environ else {})
    found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for number in range(ROUNDS):
        for name, tree in trees.items():
            out = folder / f"{name}-{number}"
            found[name].append(timed(program, tree, out, arguments[0], str(out), *arguments[1:]))
    best = {name: {"rate": max(run["rate"] for run in runs), "cpu": min(run["cpu"] for run in runs)} for name, runs in found.items()}
    for name, run in best.items():
        print(f"\n{name:<6}{run['rate']:8.0f} a second{run['cpu']:8.2f} CPU ms each")
    if "old" in best:
        assert best["this"]["cpu"] <= 1.2 * best["old"]["cpu"]


@pytest.mark.timeout(3000)
def test_pages_a_second(url: str, tmp_path: Path) -> None:
    compared(CRAWL, tmp_path, f"{url}/p/0")


@pytest.mark.timeout(3000)
def test_images_a_second(url: str, tmp_path: Path) -> None:
    compared(FETCH, tmp_path, url, str(IMAGES))
