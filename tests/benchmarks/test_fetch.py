"""Fetching against img2dataset 1.47, images from nginx (one worker) on the loopback address over
http and https.

Reported: images a second, CPU time, memory. Asserted: floors of ratios of rates and of memory in
one run.

Both run as commands of their own in one environment with two worker processes; img2dataset has 32
threads in each. Steady images a second leave out start-up: from the first shard's or part's begin
to the last one's end, writing included. img2dataset opens a connection for each image, Winnow keeps
them; against a server that closes each after its answer it is measured too. By default img2dataset
encodes each image anew (border, 224), with `disable_all_reencoding` it does not look at the pixels;
Winnow always decodes, and encodes where asked.
"""

import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.web.authorities import Authorities
from tests.pipelines.test_opener import certificate

IMAGES = 8000
STOCK_IMAGES = 400  # of stock img2dataset over https, which makes some seventy a second
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
ROOT = Path(__file__).resolve().parents[2]
PEER = """
import glob, json, sys, time
from img2dataset import download
from img2dataset.downloader import Downloader
plain = Downloader.download_shard
def timed(self, row):
    begin = time.process_time()
    plain(self, row)
    with open(f"{self.output_folder}/{row[0]}.cpu", "w") as file:
        file.write(str(time.process_time() - begin))
Downloader.download_shard = timed  # in each worker too, which imports this file
if __name__ == "__main__":
    urls, out, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    download(url_list=urls, input_format="parquet", url_col="url", output_folder=out, output_format="parquet", image_size=224,
             processes_count=2, thread_count=32, retries=0, timeout=20, enable_wandb=False, **options)
    stats = [json.load(open(name)) for name in glob.glob(out + "/*_stats.json")]
    seconds = max(one["end_time"] for one in stats) - min(one["start_time"] for one in stats)
    cpu = sum(float(open(name).read()) for name in glob.glob(out + "/*.cpu"))
    print(json.dumps({"images": sum(one["successes"] for one in stats), "seconds": seconds, "cpu": cpu}))
"""  # noqa: E501
OURS = """
import glob, json, sys, time
from pipelines.images.encode import Encoding
from pipelines.web.fetch import Fetch
from pipelines.engine.runner import run_stage
from pipelines.engine.stage import Engine
from pipelines.store import Folder
class Timed(Fetch):
    def process(self, part):
        begin, cpu = time.monotonic(), time.process_time()
        output = super().process(part)
        told = {"begin": begin, "end": time.monotonic(), "cpu": time.process_time() - cpu}
        with open(f"{self.out.path()}/../{part.name}.time", "w") as file:
            json.dump(told, file)
        return output
if __name__ == "__main__":
    import ours
    folder = Folder(sys.argv[2])
    stage = ours.Timed(out=folder / "fetches", images=folder / "images", urls=Folder(sys.argv[1]), allow_private_addresses=True,
                       encoding=Encoding(**json.loads(sys.argv[3])))
    images = run_stage(stage, Engine(workers=2)).counts["fetched"]
    told = [json.load(open(name)) for name in glob.glob(sys.argv[2] + "/*.time")]
    seconds = max(one["end"] for one in told) - min(one["begin"] for one in told)
    print(json.dumps({"images": images, "seconds": seconds, "cpu": sum(one["cpu"] for one in told)}))
"""  # noqa: E501
SHARED = """
import ssl, urllib.request
urllib.request.install_opener(urllib.request.build_opener(urllib.request.HTTPSHandler(context=ssl.create_default_context())))
"""
NGINX = """
worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; daemon off; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; open_file_cache max=20000 inactive=600s;
  types {{ image/jpeg jpg; }}
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4;
  scgi_temp_path {folder}/t5; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_session_cache shared:S:10m;
  server {{ listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl; root {images}; }}
  server {{ listen 127.0.0.1:{http_closing}; listen 127.0.0.1:{https_closing} ssl; keepalive_timeout 0; root {images}; }}
}}
"""  # noqa: E501


@dataclass(frozen=True, kw_only=True)
class Run:
    """One command: images a second and CPU milliseconds an image from its first image to its last,
    seconds and megabytes of all of it.
    """

    rate: float
    cpu: float
    wall: float
    rss: float
    pss: float


@dataclass(frozen=True)
class Site:
    ports: dict[str, int]
    authorities: Path
    folder: Path

    def base(self, kind: str) -> str:
        return f"{kind.partition('_')[0]}://127.0.0.1:{self.ports[kind]}/"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """nginx with photo-like JPEGs of 224 x 224 pixels and some 25 kB, and a list of authorities:
    the system's and ours.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("needs Debian's nginx")
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    cert, _ = certificate(folder)
    system = [
        Path(name).read_text() for name in Authorities().options.values() if Path(name).is_file()
    ]
    (folder / "bundle.pem").write_text("\n".join([*system, cert.read_text()]))
    (folder / "images").mkdir()
    generator = np.random.default_rng(1)
    for number in range(IMAGES):
        rough = Image.fromarray(generator.integers(0, 255, (28, 28, 3), np.uint8)).resize(
            (224, 224), Image.Resampling.BICUBIC
        )
        buffer = io.BytesIO()
        rough.save(buffer, "JPEG", quality=95)
        (folder / "images" / f"{number:05d}.jpg").write_bytes(buffer.getvalue())
    kinds = ("http", "https", "http_closing", "https_closing")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in kinds]
    ports = {kind: entry.getsockname()[1] for kind, entry in zip(kinds, sockets, strict=True)}
    for entry in sockets:
        entry.close()
    user = "user root;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        NGINX.format(folder=folder, images=folder / "images", user=user, **ports)
    )
    server = subprocess.Popen(
        [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
    )
    try:
        _answers(ports["https_closing"])
        yield Site(ports, folder / "bundle.pem", folder)
    finally:
        server.terminate()
        server.wait()


def _answers(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail("nginx does not answer")


def _tree(pid: int) -> list[int]:
    """A process and its descendants."""
    try:
        children = [
            int(word)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return [pid, *(below for child in children for below in _tree(child))]


def _memory(pid: int) -> tuple[float, float]:
    """Megabytes of a process tree: RSS, which counts shared pages in each process, and PSS, which
    divides them.
    """
    found = {"Rss": 0, "Pss": 0}
    for one in _tree(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(":")
            if name in found:
                found[name] += int(value.split()[0])
    return found["Rss"] / 1000, found["Pss"] / 1000


def _measured(command: list[str], environment: dict[str, str]) -> Run:
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    peaks, stop = [(0.0, 0.0)], threading.Event()

    def watch() -> None:
        while not stop.wait(0.3):
            peaks.append(_memory(process.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    assert process.stdout is not None
    told = json.loads(process.stdout.read().strip().splitlines()[-1])
    status = process.wait()
    stop.set()
    thread.join()
    assert status == 0
    rss, pss = (max(peak[place] for peak in peaks) for place in (0, 1))
    wall = time.perf_counter() - begin
    return Run(
        rate=told["images"] / told["seconds"],
        cpu=1000 * told["cpu"] / told["images"],
        wall=wall,
        rss=rss,
        pss=pss,
    )


def _environment(site: Site, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "SSL_CERT_FILE": str(site.authorities),
        "NO_ALBUMENTATIONS_UPDATE": "1",
        **more,
    }


def peer(
    site: Site, kind: str, *, images: int = IMAGES, shared: bool = False, **options: Any
) -> Run:
    """img2dataset on these images; `shared` installs an opener with one TLS context in each of its
    processes.
    """
    work = site.folder / "peer"
    shutil.rmtree(work, ignore_errors=True)
    (work / "path").mkdir(parents=True)
    (work / "peer.py").write_text(PEER)
    if shared:
        (work / "path" / "sitecustomize.py").write_text(SHARED)
    pq.write_table(
        pa.table({"url": [f"{site.base(kind)}{number:05d}.jpg" for number in range(images)]}),
        work / "urls.parquet",
    )
    command = [sys.executable, str(work / "peer.py"), str(work / "urls.parquet"), str(work / "out")]
    options["number_sample_per_shard"] = min(1000, images // 2)  # work for both processes
    return _measured(
        [*command, json.dumps(options)], _environment(site, PYTHONPATH=str(work / "path"))
    )


def ours(site: Site, kind: str, **encoding: Any) -> Run:
    """The Fetch stage on these images."""
    work = site.folder / "ours"
    shutil.rmtree(work, ignore_errors=True)
    (work / "urls").mkdir(parents=True)
    (work / "ours.py").write_text(OURS)
    for bucket in range(2):
        urls = [f"{site.base(kind)}{number:05d}.jpg" for number in range(bucket, IMAGES, 2)]
        pq.write_table(
            pa.table({"image_url": urls}), work / "urls" / f"bucket-{bucket:05d}.parquet"
        )
    command = [
        sys.executable,
        str(work / "ours.py"),
        str(work / "urls"),
        str(work),
        json.dumps(encoding),
    ]
    return _measured(command, _environment(site, PYTHONPATH=f"{ROOT}:{work}"))


def compared(title: str, ways: dict[str, Any]) -> dict[str, Run]:
    """Each way in turn for some rounds; medians, and a table of them."""
    found: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            found[name].append(way())
    medians = {
        name: Run(
            **{
                key: statistics.median(getattr(run, key) for run in runs)
                for key in Run.__dataclass_fields__
            }
        )
        for name, runs in found.items()
    }
    print(f"\n{title:<52}{'img/s':>8}{'CPU ms':>8}{'wall s':>8}{'RSS MB':>8}{'PSS MB':>8}")
    for name, run in medians.items():
        print(f"{name:<52}{run.rate:8.0f}{run.cpu:8.2f}{run.wall:8.1f}{run.rss:8.0f}{run.pss:8.0f}")
    return medians


BORDER = {"resize": "border", "size": 224, "format": "jpg", "quality": 95}


@pytest.mark.timeout(3000)
def test_http(site: Site) -> None:
    found = compared(
        "http",
        {
            "img2dataset, encoded anew": lambda: peer(site, "http", resize_mode="border"),
            "img2dataset, as they come": lambda: peer(
                site, "http", resize_mode="no", disable_all_reencoding=True
            ),
            "winnow, decoded": lambda: ours(site, "http"),
            "winnow, encoded anew": lambda: ours(site, "http", **BORDER),
            "winnow, decoded, a connection an image": lambda: ours(site, "http_closing"),
        },
    )
    assert found["winnow, decoded"].rate >= 1.5 * found["img2dataset, encoded anew"].rate
    assert found["winnow, decoded"].rss <= 0.5 * found["img2dataset, encoded anew"].rss
    assert found["winnow, decoded"].pss <= 0.5 * found["img2dataset, encoded anew"].pss


@pytest.mark.timeout(3000)
def test_https_with_the_systems_authorities(site: Site) -> None:
    found = compared(
        "https",
        {
            "img2dataset, encoded anew": lambda: peer(
                site, "https", images=STOCK_IMAGES, resize_mode="border"
            ),
            "img2dataset, one TLS context, encoded anew": lambda: peer(
                site, "https", shared=True, resize_mode="border"
            ),
            "img2dataset, one TLS context, as they come": lambda: peer(
                site, "https", shared=True, resize_mode="no", disable_all_reencoding=True
            ),
            "winnow, decoded": lambda: ours(site, "https"),
            "winnow, encoded anew": lambda: ours(site, "https", **BORDER),
            "winnow, decoded, a connection an image": lambda: ours(site, "https_closing"),
        },
    )
    assert found["winnow, decoded"].rate >= 15 * found["img2dataset, encoded anew"].rate
    assert (
        found["winnow, decoded"].rate
        >= 1.5 * found["img2dataset, one TLS context, encoded anew"].rate
    )
    assert (
        found["winnow, decoded"].rss
        <= 0.5 * found["img2dataset, one TLS context, encoded anew"].rss
    )
