"""A plan on a real Prefect server: its schedules fire, and a release that is published starts its
training.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.deployments.project_file import read_configuration
from flows.deployments.serve import serve
from pipelines.collect.run import CollectConfig, collect
from pipelines.store import Folder

PICTURES = 20
# of the first scheduled run: serving begins after some ten; where it takes longer, the next minute
# has one too
SECONDS_AHEAD = 20
PLAN = """\
root = "data"
[[collect]]
name = "pictures"
pairs = "pairs.jsonl"
allow_private_addresses = true
[[curate]]
release = "first"
recipe = "everything"
collections = ["pictures"]
[[pretrain]]
name = "small"
recipe = "vilt"
size = "tiny"
releases = { train = "first" }
smoke = true
"""


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Twenty pictures of one colour each, served on the loopback address."""
    folder = tmp_path / "site"
    folder.mkdir()
    for number in range(PICTURES):
        Image.new("RGB", (64, 64), (12 * number, 255 - 12 * number, 128)).save(
            folder / f"{number}.png"
        )
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    ).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def plan(tmp_path: Path, site: str) -> Path:
    rows = [
        {"url": f"{site}/{number}.png", "text": f"picture number {number}"}
        for number in range(PICTURES)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "winnow.toml").write_text(PLAN)
    return tmp_path / "winnow.toml"


@contextmanager
def running(log: Path, *command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its children, all ended at the end."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    off = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_ENABLED": "false",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            env={**plain, **off, **environment},
            cwd=log.parent,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Prefect servers of this module keep their database; migrating a new one costs ten
    seconds.
    """
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[str]:
    """The address of the API of a Prefect server that is starting."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    with running(tmp_path / "server.log", *command, PREFECT_HOME=str(home)):
        yield f"http://127.0.0.1:{port}/api"


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """The answer of the API; None while it has none."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except (ConnectionError, urllib.error.URLError, TimeoutError):
        return None


def wait(seconds: float, look: Callable[[], Any], log: Path) -> Any:
    """What `look` finds, as soon as it finds something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.3)
    raise AssertionError(f"nothing after {seconds} s; {log.name} says:\n{log.read_text()[-3000:]}")


@pytest.mark.timeout(600)
def test_a_schedule_fires_and_its_release_starts_the_training(
    tmp_path: Path, server: str, plan: Path
) -> None:
    """Nobody starts a run by hand: the scheduler of the server makes one, `winnow serve` runs it,
    and its event triggers the other.
    """
    config = CollectConfig(pairs=str(tmp_path / "pairs.jsonl"), allow_private_addresses=True)
    collect(Folder(str(tmp_path / "data")), config, id="pictures")
    wait(240, lambda: ask(f"{server}/health"), tmp_path / "server.log")
    soon = datetime.now(UTC) + timedelta(seconds=SECONDS_AHEAD)
    plan.write_text(
        PLAN.replace(
            'release = "first"', f'release = "first"\nschedule = "* * * * * {soon.second}"'
        )
    )
    log = tmp_path / "serve.log"
    command = [sys.executable, "-m", "flows.cli", "serve", str(plan)]
    own = {
        "PREFECT_API_URL": server,
        "PREFECT_HOME": str(tmp_path / "client"),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    with running(log, *command, **own):
        curate = wait(240, lambda: ask(f"{server}/deployments/name/curate/first"), log)
        pretrain = wait(10, lambda: ask(f"{server}/deployments/name/pretrain/small"), log)
        scheduled = wait(240, partial(finished, server, curate["id"]), log)
        run = wait(240, partial(finished, server, pretrain["id"]), log)
    assert scheduled["state_type"] == run["state_type"] == "COMPLETED", log.read_text()
    assert scheduled["auto_scheduled"]
    at = datetime.fromisoformat(scheduled["expected_start_time"])
    assert at.second == soon.second
    release = f"first-{at:%Y%m%dT%H%M%SZ}"
    manifest = json.loads((tmp_path / f"data/releases/{release}/manifest.json").read_text())
    assert manifest["samples"] == PICTURES
    assert run["parameters"]["digest"] == manifest["digest"]
    trained = tmp_path / "data/models/small" / release
    assert list(json.loads((trained / "plan.json").read_text())["releases"]) == ["train"]
    assert (trained / "model").is_dir()
    shown = {one["key"]: one for one in ask(f"{server}/artifacts/filter", {})}
    assert json.loads(shown[f"funnel-{release}".lower()]["data"]) == [
        {"outcome": "kept", "candidates": PICTURES, "share": "100.0%"}
    ]
    assert shown["progress-decide"]["data"] == 100.0


def finished(server: str, deployment: str) -> Any:
    """The first run of a deployment that has come to its end."""
    query = {
        "deployments": {"id": {"any_": [deployment]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}},
        "sort": "EXPECTED_START_TIME_ASC",
    }
    return next(iter(ask(f"{server}/flow_runs/filter", query) or []), None)


def test_without_a_server_serving_says_how_to_start_one(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(
        ValueError,
        match=(
            r"none is configured: start one with `prefect server start`, then run"
            r" `PREFECT_API_URL=http"
        ),
    ):
        serve(read_configuration(plan))


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:4200/api", "garbage", "http://[/api", "http:///api", "http://127.0.0.1:4200x/api"],
)
def test_an_address_that_is_none(plan: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(
        ValueError,
        match=(
            r"^PREFECT_API_URL is '.*', and an address of a server's API is wanted, such as"
            r" http://127"
        ),
    ):
        serve(read_configuration(plan))


def test_a_server_that_does_not_answer_is_named(tmp_path: Path, plan: Path) -> None:
    log = tmp_path / "serve.log"
    url = "http://127.0.0.1:9/api"  # the discard port, which nobody listens on
    with running(
        log,
        sys.executable,
        "-m",
        "flows.cli",
        "serve",
        str(plan),
        PREFECT_API_URL=url,
        PREFECT_HOME=str(tmp_path),
    ) as process:
        assert process.wait(timeout=60) == 1
    said = log.read_text().splitlines()[-1]
    assert said.startswith(f"winnow: the Prefect server at {url} does not answer (")
    assert said.endswith("): start it with `prefect server start`")


def test_an_error_of_a_flow_is_one_line_whatever_the_profile_says(
    tmp_path: Path, home: Path, plan: Path
) -> None:
    """On the temporary server, with a profile of the user that points elsewhere."""
    shutil.copytree(home, tmp_path / "data/.prefect")
    (tmp_path / "pairs.jsonl").unlink()
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect/profiles.toml").write_text(
        'active = "x"\n[profiles.x]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
    )
    log = tmp_path / "run.log"
    with running(
        log, sys.executable, "-m", "flows.cli", "run", str(plan), HOME=str(tmp_path)
    ) as process:
        assert process.wait(timeout=120) == 1
    said = [
        line
        for line in log.read_text().splitlines()
        if not line.startswith("WARNING:root:apitools")
    ]
    assert len(said) == 1
    assert said[0].startswith(f"winnow: there is no list of pairs at {tmp_path}/pairs.jsonl")
