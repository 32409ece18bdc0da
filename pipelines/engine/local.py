"""Worker processes of this machine: started once a command, warm for every stage, gone with the
process that started them.

A worker is `python -m pipelines.engine.local`: pickled orders on its standard input, which stays
open (when it closes, the caller is dead and the worker ends in the middle of its part), and for
each a pickled answer: None or the exception.
"""

import atexit
import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from pipelines.engine.children import WORKERS
from pipelines.engine.lane import run_lane
from pipelines.engine.stage import Engine, Lane, Part, Stage
from pipelines.terminal import guard_terminal

IDLE_SECONDS = 30.0  # kept for the next stage; a training that follows wants their memory

_guard = threading.Lock()
_idle: list["_Worker"] = []


class _Worker:
    """A process that runs lanes, one at a time."""

    def __init__(self, among: int) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "pipelines.engine.local"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the caller, who closes the lifeline
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                WORKERS: str(among),
            },
        )
        self._stage: bytes | None = None  # that it holds
        self.idle_since = 0.0

    def run(self, stage: bytes, lane: Sequence[Part]) -> None:
        """Run a lane there; raises what it raised, and RuntimeError if the process dies."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            pickle.dump((None if stage == self._stage else stage, tuple(lane)), self._child.stdin)
            self._child.stdin.flush()
            self._stage = stage
            error = pickle.load(self._child.stdout)
        except (OSError, EOFError) as gone:
            names = f"{lane[0].name} to {lane[-1].name}"
            raise RuntimeError(
                f"a worker process died with status {self._child.wait()} while it ran {names}"
            ) from gone
        if error is not None:
            raise error

    def end(self) -> None:
        """Whole files or none: no part needs its end."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()


@contextlib.contextmanager
def _borrowed(count: int) -> Iterator[list[_Worker]]:
    """So many workers, those of the stage before if they are still there; an error ends them."""
    with _guard:
        found = [_idle.pop() for _ in range(min(count, len(_idle)))]
    found += [_Worker(count) for _ in range(count - len(found))]
    try:
        yield found
    except BaseException:
        for worker in found:
            worker.end()
        raise
    with _guard:
        for worker in found:
            worker.idle_since = time.monotonic()
        _idle.extend(found)
    timer = threading.Timer(IDLE_SECONDS, _end_idle, (IDLE_SECONDS,))
    timer.daemon = True
    timer.start()


@atexit.register
def _end_idle(seconds: float = 0.0) -> None:
    with _guard:
        old = [worker for worker in _idle if time.monotonic() - worker.idle_since >= seconds]
        _idle[:] = [worker for worker in _idle if worker not in old]
    for worker in old:
        worker.end()


def map_lanes(stage: Stage, engine: Engine, lanes: Sequence[Lane]) -> None:
    """Run lanes on this machine: in this process, or over the workers asked for."""
    if min(engine.workers, len(lanes)) > 1:
        run_lanes(stage, lanes, engine.workers)
        return
    for lane in lanes:
        run_lane(stage, lane)


def run_lanes(stage: Stage, lanes: Sequence[Sequence[Part]], workers: int) -> None:
    """Run lanes, the longest first, each in whichever process is free; raises the first error of
    any, which ends the others' work.
    """
    order = pickle.dumps(stage)
    waiting: queue.SimpleQueue[Sequence[Part]] = queue.SimpleQueue()
    for lane in sorted(lanes, key=len, reverse=True):
        waiting.put(lane)

    def serve(worker: _Worker) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                worker.run(order, waiting.get_nowait())

    count = min(workers, len(lanes))
    with (
        ThreadPoolExecutor(count, thread_name_prefix="worker") as threads,
        _borrowed(count) as found,
    ):
        done, _ = wait(
            [threads.submit(serve, worker) for worker in found], return_when=FIRST_EXCEPTION
        )
        for future in done:
            future.result()


def main() -> None:
    """The worker: listens for lanes, and runs them in a thread, until its input closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a part prints is no answer
    held = _Held()
    guard_terminal()

    def tell(done: Future[None]) -> None:
        try:
            answers.write(_spelled(done.exception()))
            answers.flush()
        except BrokenPipeError:  # the caller died while the part was worked on
            os._exit(1)

    thread = ThreadPoolExecutor(1)
    with contextlib.suppress(EOFError):
        while True:
            thread.submit(held.run, *pickle.load(sys.stdin.buffer)).add_done_callback(tell)
    os._exit(1)  # the caller is dead: not another byte


class _Held:
    """The stage of the last order, kept with the models that its filters have loaded."""

    stage: Stage | None = None

    def run(self, order: bytes | None, lane: Sequence[Part]) -> None:
        if order is not None:
            self.stage = None  # never two stages' models at once
            self.stage = pickle.loads(order)
        assert self.stage is not None, "the first order brings a stage"
        run_lane(self.stage, lane)


def _spelled(answer: BaseException | None) -> bytes:
    """An answer as bytes; an exception that cannot travel goes as its words."""
    try:
        pickle.loads(spelled := pickle.dumps(answer))
    except (pickle.PicklingError, TypeError, AttributeError):
        return pickle.dumps(RuntimeError(f"{type(answer).__name__}: {answer}"))
    return spelled


if __name__ == "__main__":
    main()
