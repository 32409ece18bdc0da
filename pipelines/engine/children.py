"""Child processes in which strangers' bytes are decoded: what kills one of them costs one item, not
the process that asked.

Children are forked by a template: a fresh interpreter with one thread, which inherits neither locks
nor sockets of the process that asks, and has imported once what all children need. So a child costs
some milliseconds and megabytes. A crash is noticed by the child's socket, which closes with it.
When the process that asked is gone, the template's socket closes too, and the template takes the
children with it.
"""

import atexit
import contextlib
import functools
import importlib
import itertools
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

BATCH = 16  # items that go to a child at once: a wake-up costs as much as decoding a thumbnail
BATCH_BYTES = 1 << 21  # and no more than that of them
# in the environment of a worker: how many share the cores of this machine
WORKERS = "WINNOW_WORKERS"
ORDER_BYTES = 1 << 16  # of an order to the template, some names
TIMES_UP = {
    signal.SIGPROF: "more than {0.cpu_seconds:g} s of CPU time",
    signal.SIGALRM: "more than {0.seconds:g} s",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one item may take. The largest pictures that are decoded (89 million pixels) need half
    of each at most.
    """

    cpu_seconds: float = 60.0
    seconds: float = 300.0  # on the clock, for what waits instead of working
    memory: int = 2 << 30  # bytes of private data of a child, its interpreter's included


LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Died:
    """An item that killed the child it was in, and how."""

    how: str


class Children:
    """Children of this process, at most `count` at once: started when needed, kept for the next
    items; for any number of threads.
    """

    def __init__(self, count: int, limits: Limits = LIMITS) -> None:
        self.count = count
        self._limits = limits
        self._slots = threading.BoundedSemaphore(count)
        self._guard = threading.Lock()
        self._idle: list[_Child] = []
        self._template: _Template | None = None

    def call(self, function: Callable[[T], R], items: Sequence[T]) -> list[R | Died]:
        """What a picklable function gives for each item. Where a child dies, each item of its batch
        is tried in a child of its own.
        """
        return self._call(function, items, fresh=False)

    def map(
        self, function: Callable[[T], R], items: Iterable[T], batch: int = BATCH
    ) -> Iterator[R | Died]:
        """The same for a stream of items, in their order; as many batches are under way as there
        are children, and one more.
        """
        answers = in_order(
            functools.partial(self.call, function), _batches(items, batch), self.count
        )
        return itertools.chain.from_iterable(answers)

    def start(self, function: Callable[..., Any]) -> None:
        """Start a child for what will be asked of it, so that the first items need not wait."""
        with self._slots:
            child = self._taken(function)
            with self._guard:
                self._idle.append(child)

    def close(self) -> None:
        """End the children and their template."""
        with self._guard:
            template, self._template = self._template, None
            idle, self._idle = self._idle, []
        for child in idle:
            child.channel.close()
        if template is not None:
            template.close()

    def _call(
        self, function: Callable[[T], R], items: Sequence[T], *, fresh: bool
    ) -> list[R | Died]:
        with self._slots:
            child = self._started(function) if fresh else self._taken(function)
            fresh = fresh or child.function is None
            try:
                answers = child.ask(function, items)
            except BaseException:
                child.end()
                raise
            if answers is not None:
                with self._guard:
                    self._idle.append(child)
                return answers
            how = child.end()
        if len(items) == 1 and (fresh or how.startswith("more than")):
            return [Died(how=how)]
        return [answer for item in items for answer in self._call(function, [item], fresh=True)]

    def _taken(self, function: Callable[..., Any]) -> "_Child":
        with self._guard:
            if self._idle:
                return self._idle.pop()
        return self._started(function)

    def _started(self, function: Callable[..., Any]) -> "_Child":
        with self._guard:
            for _ in range(2):
                if self._template is None:
                    self._template = _Template(self._limits)
                with contextlib.suppress(OSError, EOFError):
                    return self._template.fork(_module(function))
                self._template.close()  # it was killed
                self._template = None
        raise RuntimeError(
            "the process that starts decoders dies: is there memory left on this machine?"
        )


@dataclass(slots=True)
class _Child:
    """One child, as the process that asks it sees it."""

    pid: int
    channel: Connection
    template: "_Template"
    function: Callable[..., Any] | None = None  # the last that it was asked for

    def ask(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any] | None:
        """Its answers; None if it died of an item. Raises what the function raised."""
        order = (None if function is self.function else pickle.dumps(function), items)
        try:
            self.channel.send_bytes(pickle.dumps(order, pickle.HIGHEST_PROTOCOL))
            answers = pickle.loads(self.channel.recv_bytes())
        except (OSError, EOFError):
            return None
        self.function = function
        if isinstance(answers, BaseException):
            raise answers
        return list(answers)

    def end(self) -> str:
        """Kill it, and say how it ended if it was dead already."""
        self.channel.close()
        return self.template.reap(self.pid)


class _Template:
    """The process that forks children. Only the process that asked kills them, so their numbers
    stay theirs.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._guard = threading.Lock()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"from pipelines.engine.children import main; main({theirs.fileno()})",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the caller
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "OPENBLAS_NUM_THREADS": "1",  # a template has one thread
                    "OMP_NUM_THREADS": "1",
                },
            )

    def fork(self, module: str) -> _Child:
        """A child that has imported a module. Raises EOFError or OSError if the template is
        dead.
        """
        ours, theirs = socket.socketpair()
        with self._guard, theirs:
            socket.send_fds(
                self._control, [pickle.dumps((module, self._limits))], [theirs.fileno()]
            )
            pid = int(self._answer())
        return _Child(pid=pid, channel=Connection(ours.detach()), template=self)

    def reap(self, pid: int) -> str:
        """How a child ended; it is killed if it has not."""
        with self._guard:
            try:
                self._control.sendall(pickle.dumps(pid))
                status = os.waitstatus_to_exitcode(int(self._answer()))
            except (OSError, EOFError):
                return "killed"
        if status >= 0:
            return f"it ended with status {status}"
        number = signal.Signals(-status)
        return (
            TIMES_UP[number].format(self._limits)
            if number in TIMES_UP
            else f"killed by {number.name}"
        )

    def close(self) -> None:
        self._control.close()
        self._process.wait()

    def _answer(self) -> bytes:
        answer = self._control.recv(64)
        if not answer:
            raise EOFError("the template is dead")
        return answer


def in_order(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """What a function gives for each item of a stream, called in some threads; few items more than
    those are taken ahead.
    """
    under_way: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="children") as pool:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _batches(items: Iterable[T], most: int) -> Iterator[list[T]]:
    batch: list[T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item) if isinstance(item, bytes) else 0
        if len(batch) >= most or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _module(function: Callable[..., Any]) -> str:
    """Where a function, what `partial` makes of one, or a method is from."""
    inner = function.func if isinstance(function, functools.partial) else function
    owner = getattr(inner, "__self__", None)
    return str(inner.__module__ if owner is None else type(owner).__module__)


@functools.cache
def _children(process: int) -> Children:
    made = Children(
        max(1, len(os.sched_getaffinity(0)) // int(os.environ.get(WORKERS, "1"))), LIMITS
    )
    atexit.register(made.close)
    return made


def children() -> Children:
    """The children of this process: one a core, or its share of them if this is one of several
    workers.
    """
    return _children(os.getpid())


def main(descriptor: int) -> None:
    """The template: forks a child for each socket that comes with an order, and says how one ended
    when asked.
    """
    living: set[int] = set()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # whoever asked is dead
        _obey(socket.socket(fileno=descriptor), living)
    for child in living:
        os.kill(child, signal.SIGKILL)


def _obey(control: socket.socket, living: set[int]) -> None:
    """Fork and reap children until nobody asks any more; `living` are those that were not
    reaped.
    """
    while True:
        order, sockets, _, _ = socket.recv_fds(control, ORDER_BYTES, 1)
        if not order:
            break
        asked = pickle.loads(order)
        if isinstance(asked, int):
            living.discard(asked)
            os.kill(asked, signal.SIGKILL)
            answer = os.waitpid(asked, 0)[1]
        else:
            module, limits = asked
            with contextlib.suppress(ImportError):  # which the child then says
                importlib.import_module(module)
            answer = os.fork()
            if not answer:
                control.close()
                _serve(Connection(sockets[0]), limits)
            os.close(sockets[0])
            living.add(answer)
        control.sendall(str(answer).encode())


def _serve(channel: Connection, limits: Limits) -> None:
    """A child: answers until the process that asks closes the socket."""
    _confine(limits)
    held = _Held()
    with contextlib.suppress(EOFError, OSError):
        while True:
            channel.send_bytes(held.answer(channel.recv_bytes(), limits))
    os._exit(0)


def _confine(limits: Limits) -> None:
    """No core file, no word on the terminal, bounded memory, and the first to go when the machine
    has none left.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
    # Linux alone has it
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


class _Held:
    """The function of the last order, kept for the next."""

    function: Callable[[Any], Any] | None = None

    def answer(self, order: bytes, limits: Limits) -> bytes:
        """What it gives for each item, or what it raised."""
        try:
            name, items = pickle.loads(order)
            if name is not None:
                self.function = pickle.loads(name)
            assert self.function is not None, "the first order brings a function"
            return pickle.dumps(
                [_timed(self.function, item, limits) for item in items], pickle.HIGHEST_PROTOCOL
            )
        except MemoryError:
            os._exit(1)  # for all items together: each is tried by itself
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            return pickle.dumps(
                error if _travels(error) else RuntimeError(f"{type(error).__name__}: {error}")
            )


def _timed(function: Callable[[Any], Any], item: Any, limits: Limits) -> Any:
    """What a function gives; the system's timers end the child when it is late, in the midst of a
    decoder too.
    """
    _set_timers(limits.cpu_seconds, limits.seconds)
    try:
        return function(item)
    except MemoryError:
        return Died(how=f"more than {limits.memory >> 20} MiB of memory")
    finally:
        _set_timers(0, 0)


def _set_timers(cpu_seconds: float, seconds: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _travels(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except (pickle.PicklingError, TypeError, AttributeError):
        return False
    return True
