"""A real object store on the loopback address, where the machine has one: versitygw serves a folder
as S3, s3fs speaks to it.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

KEYS = {"ROOT_ACCESS_KEY": "winnow", "ROOT_SECRET_KEY": "winnow-secret"}


@contextmanager
def bucket(folder: Path) -> Iterator[str]:
    """The address of an empty bucket until the block ends; skips the test where a part is
    missing.
    """
    server = shutil.which("versitygw")
    if server is None or importlib.util.find_spec("s3fs") is None:
        pytest.skip(
            "needs s3fs (an extra of fsspec) and versitygw (go install"
            " github.com/versity/versitygw/cmd/versitygw@latest)"
        )
    (folder / "objects" / "winnow").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [server, "--port", f"127.0.0.1:{port}", "posix", str(folder / "objects")]
    with subprocess.Popen(
        command, env={**os.environ, **KEYS}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        try:
            _until_open(port)
            fsspec.config.conf["s3"] = {
                "key": "winnow",
                "secret": "winnow-secret",
                "endpoint_url": f"http://127.0.0.1:{port}",
            }
            yield "s3://winnow"
        finally:
            fsspec.config.conf.pop("s3", None)
            child.kill()


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, "the object store did not start"
            time.sleep(0.05)
        else:
            return
