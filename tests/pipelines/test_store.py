"""The store: whole files or none, exclusive creation, leases that the dead lose."""

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.lease import LeaseHeld, lease
from pipelines.store import FULL, Folder
from pipelines.tables import read_table, write_arrow, write_parquet
from tests.pipelines.objects import bucket


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    if request.param == "s3":
        with bucket(tmp_path) as url:
            yield Folder(f"{url}/root")
    else:
        yield (
            Folder(str(tmp_path / "root"))
            if request.param == "local"
            else Folder(f"memory://{tmp_path.name}-{time.time_ns()}")
        )


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


# fsspec's memory is for one thread
@pytest.mark.parametrize("folder", ["local", "s3"], indirect=True)
def test_of_many_creators_one_is_first(folder: Folder) -> None:
    created: list[int] = []

    def create(number: int) -> None:
        with contextlib.suppress(FileExistsError):
            folder.create("one", str(number).encode())
            created.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(number).encode() for number in created] == [folder.read("one")]


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


def test_a_full_disk_is_an_error_with_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        Folder(str(tmp_path)).write_bytes("a", b"x")
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full_keeps_what_was_there(small_disk: Path) -> None:
    folder = Folder(str(small_disk))
    folder.write_bytes("first", b"x" * 100_000)
    with pytest.raises(OSError, match="No space") as caught:
        folder.write_bytes("second", os.urandom(300_000))
    assert caught.value.errno in FULL
    with pytest.raises(OSError, match="No space"):
        write_parquet(folder, "third.parquet", pa.table({"noise": [os.urandom(300_000)]}))
    assert os.listdir(small_disk) == ["first"]
    folder.write_bytes("second", b"y" * 100_000)
    assert folder.names() == ["first", "second"]


def test_a_disk_that_may_only_be_read_is_an_error_with_its_place(small_disk: Path) -> None:
    folder = Folder(str(small_disk))
    folder.write_bytes("first", b"x")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for write in (
        lambda: folder.write_bytes("second", b"y"),
        lambda: folder.create("third", b"z"),
        lambda: _hold(folder),
    ):
        with pytest.raises(OSError, match=f"Read-only file system: '{small_disk}") as caught:
            write()
        assert caught.value.errno in FULL
    assert folder.read("first") == b"x"


def _hold(folder: Folder) -> None:
    with lease(folder):
        pass


def test_a_writer_killed_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    code = f"""
import time
from pipelines.store import Folder
with Folder({str(tmp_path)!r}).write("big") as file:
    file.write(b"x" * 1_000_000)
    print("writing", flush=True)
    time.sleep(60)
"""
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    writer.kill()
    writer.wait()
    folder = Folder(str(tmp_path))
    assert folder.names() == []
    assert not folder.exists("big")
    assert len(os.listdir(tmp_path)) == 1
    folder.sweep()
    assert os.listdir(tmp_path) == []


def test_a_cut_json_file_says_which_and_what_to_do(folder: Folder) -> None:
    folder.write_bytes("manifest.json", b'{"stage": "fet')
    with pytest.raises(
        ValueError,
        match=r"manifest\.json is damaged \(.*\): remove it and run the same command again",
    ):
        folder.read_json("manifest.json")


def test_a_lease_keeps_a_second_writer_out(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    with lease(folder), pytest.raises(LeaseHeld, match=f"process {os.getpid()}"), lease(folder):
        pass
    assert folder.names() == []


def test_a_killed_writer_loses_its_lease_at_once(tmp_path: Path) -> None:
    code = f"""
import time
from pipelines.store import Folder
from pipelines.lease import lease
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


def test_a_cut_lease_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_bytes(b'{"owner": "5f')
    with lease(Folder(str(tmp_path))):
        assert json.loads((tmp_path / "lease.json").read_bytes())["pid"] == os.getpid()
    assert os.listdir(tmp_path) == []


def test_a_killed_writer_whom_nobody_waited_for_is_dead(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with lease(folder):
        mine = folder.read_json("lease.json")
    started = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    folder.write_json("lease.json", mine | {"pid": child.pid, "started": started})
    with pytest.raises(LeaseHeld, match=f"process {child.pid}"), lease(folder):
        pass
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    with lease(folder):
        pass
    child.wait()


def test_of_many_that_find_a_dead_holder_one_at_a_time_gets_the_lease(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    inside = 0
    most = 0

    def hold() -> None:
        nonlocal inside, most
        with lease(folder, wait=30):
            inside += 1
            most = max(most, inside)
            time.sleep(0.002)
            inside -= 1

    for _ in range(20):
        folder.write_json(
            "lease.json",
            {"owner": "x", "host": "elsewhere", "pid": 1, "started": "", "renewed": 0.0},
        )
        threads = [threading.Thread(target=hold) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == 1
    assert os.listdir(tmp_path) == []


def test_whoever_waits_for_a_lease_gets_it_when_it_is_free(folder: Folder) -> None:
    with lease(folder):
        waiting = threading.Thread(target=lambda: _hold_a_while(folder))
        waiting.start()
        time.sleep(0.2)
        assert not folder.exists("got it")
    waiting.join(10)
    assert folder.exists("got it")
    assert folder.names() == ["got it"]


def _hold_a_while(folder: Folder) -> None:
    with lease(folder, wait=10):
        folder.write_bytes("got it", b"")
