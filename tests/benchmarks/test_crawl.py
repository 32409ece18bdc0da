"""Pages a second of a crawl, beside another commit in the same run where one is given.

    BENCH_OLD=/path/of/a/worktree python -m pytest -s tests/benchmarks/test_crawl.py

Without BENCH_OLD the figure is printed and not judged. The server is a process of its own.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    code = "import asyncio; from tests.benchmarks.test_crawl import serve; asyncio.run(serve())"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/p/0"
        finally:
            server.kill()


def crawled(tree: Path, url: str, folder: Path) -> dict[str, float]:
    """Pages a second from the first to the last, and CPU milliseconds a page, imports and all."""
    (folder.parent / "crawled.py").write_text(CRAWL)
    command = [sys.executable, str(folder.parent / "crawled.py"), url, str(folder)]
    done = subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["pages"] == PAGES
    return {"rate": (PAGES - 1) / told["seconds"], "cpu": 1000 * told["cpu"] / PAGES}


@pytest.mark.timeout(3000)
def test_pages_a_second(url: str, tmp_path: Path) -> None:
    trees = {"this": ROOT} | ({"old": Path(os.environ["BENCH_OLD"])} if "BENCH_OLD" in os.environ else {})
    found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for number in range(ROUNDS):
        for name, tree in trees.items():
            found[name].append(crawled(tree, url, tmp_path / f"{name}-{number}"))
    medians = {name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()}
    for name, run in medians.items():
        print(f"\n{name:<6}{run['rate']:8.0f} pages/s{run['cpu']:8.2f} CPU ms a page")
    if "old" in medians:
        assert medians["this"]["rate"] >= medians["old"]["rate"]
