"""The store: whole files or none, exclusive creation, leases that the dead lose."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.store import Folder, LeaseHeld, lease, read_table, write_arrow, write_parquet


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "root")) if request.param == "local" else Folder(f"memory://{tmp_path.name}-{time.time_ns()}")


def test_a_written_file_is_listed_hashed_and_read_back(folder: Folder) -> None:
    written = (folder / "a").write_bytes("b.bin", b"winnow")
    assert (written.name, written.bytes) == ("b.bin", 6)
    assert written.sha256 == "f1c01ae726fd268ed10606d63225deced6528b0bd1d69417e21c792851d68447"
    assert (folder / "a").names() == ["b.bin"]
    assert (folder / "a").read("b.bin") == b"winnow"


def test_a_write_that_raises_leaves_nothing(folder: Folder) -> None:
    with pytest.raises(TypeError), folder.write("x.bin") as file:
        file.write("not bytes")
    assert folder.names() == []
    assert not folder.exists("x.bin")


def test_creation_is_exclusive(folder: Folder) -> None:
    folder.create("one", b"first")
    with pytest.raises(FileExistsError):
        folder.create("one", b"second")
    assert folder.read("one") == b"first"


def test_names_of_an_absent_folder_are_empty(folder: Folder) -> None:
    assert (folder / "nowhere").names() == []


def test_tables_come_back_as_they_were(folder: Folder) -> None:
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    assert write_parquet(folder, "t.parquet", table).rows == 3
    assert write_arrow(folder, "t.arrow", table, rows_per_batch=2).rows == 3
    assert read_table(folder, "t.parquet").equals(table)
    assert read_table(folder, "t.arrow", ["b"]).equals(table.select(["b"]))


def test_sweep_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1234-part").write_bytes(b"half")
    Folder(str(tmp_path)).sweep()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_an_error_with_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        Folder(str(tmp_path)).write_bytes("a", b"x")
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_a_lease_keeps_a_second_writer_out(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    with lease(folder), pytest.raises(LeaseHeld, match=f"process {os.getpid()}"), lease(folder):
        pass
    assert folder.names() == []


def test_a_killed_writer_loses_its_lease_at_once(tmp_path: Path) -> None:
    code = f"""
import time
from pipelines.store import Folder, lease
with lease(Folder({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(LeaseHeld), lease(Folder(str(tmp_path))):
        pass
    holder.kill()
    holder.wait()
    with lease(Folder(str(tmp_path))):
        assert json.loads((tmp_path / "lease.json").read_bytes())["pid"] == os.getpid()


def test_a_writer_of_another_machine_loses_its_lease_after_a_minute(tmp_path: Path) -> None:
    other = {"owner": "x", "host": "elsewhere", "pid": 1, "started": "", "renewed": time.time()}
    folder = Folder(str(tmp_path))
    folder.write_json("lease.json", other)
    with pytest.raises(LeaseHeld, match="elsewhere"), lease(folder):
        pass
    folder.write_json("lease.json", other | {"renewed": time.time() - 61})
    with lease(folder):
        pass
