"""Child processes that die of what they are given: one item is lost, and nothing else."""

import ctypes
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.engine.children import Children, Died, Limits, in_order

ROOT = Path(__file__).parents[2]


def handled(item: bytes) -> int:
    """The length of an item, unless it is one of the deadly ones."""
    match item:
        case b"abort":
            os.abort()
        case b"segfault":
            ctypes.string_at(0)
        case b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"spin":
            while True:
                pass
        case b"sleep":
            time.sleep(3600)
        case b"eat":
            return len(bytearray(3 << 30))
        case b"leave":
            os._exit(3)
        case b"raise":
            raise ValueError("not such a thing")
        case b"talk":
            print("noise", flush=True)
            os.write(2, b"noise")
    return len(item)


def corrupting(item: bytes) -> int:
    """A first item that does harm of which the next one dies, as a corrupted heap does."""
    if harmed:
        os.abort()
    harmed.append(item)
    return len(item)


harmed: list[bytes] = []


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    made = Children(2, Limits(cpu_seconds=1.0, memory=1 << 30))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("item", "how"),
    [
        (b"abort", "killed by SIGABRT"),
        (b"segfault", "killed by SIGSEGV"),
        (b"kill", "killed by SIGKILL"),
        (b"spin", "more than 1 s of CPU time"),
        (b"eat", "more than 1024 MiB of memory"),
        (b"leave", "it ended with status 3"),
    ],
)
def test_a_deadly_item_is_found_among_others(children: Children, item: bytes, how: str) -> None:
    assert children.call(handled, [b"a", item, b"abc", b"ab"]) == [1, Died(how=how), 3, 2]


def test_what_waits_for_ever_is_stopped_by_the_clock() -> None:
    patient = Children(1, Limits(seconds=2.0))
    assert patient.call(handled, [b"sleep"]) == [Died(how="more than 2 s")]
    patient.close()


def test_a_stream_keeps_its_order_around_the_dead(children: Children) -> None:
    items = [b"abort" if number % 20 == 7 else bytes(number) for number in range(100)]
    died = Died(how="killed by SIGABRT")
    assert list(children.map(handled, items)) == [
        died if item == b"abort" else len(item) for item in items
    ]
    assert list(children.map(handled, [])) == []


def test_nobody_is_blamed_for_what_an_earlier_item_has_done() -> None:
    alone = Children(1)
    assert alone.call(corrupting, [b"a"]) == [1]
    # their child was harmed before: each has had one of its own
    assert alone.call(corrupting, [b"bb", b"ccc"]) == [2, 3]
    alone.close()


def test_what_a_function_raises_is_raised(children: Children) -> None:
    with pytest.raises(ValueError, match="not such a thing"):
        children.call(handled, [b"a", b"raise"])
    assert children.call(handled, [b"a"]) == [1]


def test_children_say_nothing(capfd: pytest.CaptureFixture[str], children: Children) -> None:
    assert children.call(handled, [b"talk"]) == [4]
    assert capfd.readouterr() == ("", "")


def test_a_template_that_is_killed_is_replaced(children: Children) -> None:
    assert children.call(handled, [b"a"]) == [1]
    template = children._template
    assert template is not None
    template._process.kill()
    template._process.wait()
    assert children.call(handled, [b"abort", b"ab"]) == [Died(how="killed by SIGABRT"), 2]


@pytest.mark.parametrize("item", ["", "spin"])
def test_children_go_with_the_process_that_asked(item: str) -> None:
    """Killed without warning, at rest or in the middle of an item."""
    code = (
        "import os, threading, time; from pipelines.engine.children import Children; from"
        " tests.pipelines.test_children import handled\nchildren = Children(1);"
        " children.call(handled, [b'a'])\nprint(children._template._process.pid,"
        f" children._idle[0].pid, flush=True)\nchildren.call(handled, [{item.encode()!r}]);"
        " time.sleep(60)"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert asking.stdout is not None
    pids = [int(word) for word in asking.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.3)
    asking.kill()
    asking.wait()
    end = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def test_a_template_whose_caller_is_gone_says_nothing() -> None:
    """As after Ctrl-C, where the caller ends between asking for a child and hearing of it."""
    ours, theirs = socket.socketpair()
    child, far = socket.socketpair()
    code = f"from pipelines.engine.children import main; main({theirs.fileno()})"
    with ours, theirs, child, far:
        template = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE
        )
        socket.send_fds(ours, [pickle.dumps(("json", Limits()))], [far.fileno()])
    assert template.communicate(timeout=60) == (None, b"")
    assert template.returncode == 0


def test_a_worker_whose_caller_is_gone_says_nothing() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "pipelines.engine.local"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    assert worker.stderr is not None
    worker.stdout.close()
    pickle.dump((None, ()), worker.stdin)
    worker.stdin.flush()
    assert worker.wait(120) == 1
    assert worker.stderr.read() == b""
    worker.stdin.close()
    worker.stderr.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_threads_give_their_answers_in_order() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    found = in_order(lambda number: number * number, numbers(), 3)
    assert next(found) == 0
    assert len(taken) <= 5  # not the whole stream
    assert list(found) == [number * number for number in range(1, 20)]
