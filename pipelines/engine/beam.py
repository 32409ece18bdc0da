"""Mapping lanes of parts with a runner of Beam: its own in this process, or that of a cluster.

On a cluster, a job that finds no worker waits for ever (Flink shows it as running). So each worker
leaves signs of life in the folder of the stage while it has a lane, and a job from which none has
come for `Engine.wait_seconds` is cancelled and counts as failed.
"""

import contextlib
import itertools
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.background import meanwhile
from pipelines.engine.lane import run_lane
from pipelines.engine.stage import Engine, Lane, Stage
from pipelines.store import Folder

IN_PROCESS = "FnApiRunner"
SIGNS = "alive"  # the folder of signs of life, beside a stage's receipts
SIGN_SECONDS = 5.0  # between two signs of a worker
LOOK_SECONDS = 1.0  # between two looks at them
CANCEL_SECONDS = 30.0  # for an engine to take note that a job is cancelled


def map_lanes(stage: Stage, engine: Engine, lanes: Sequence[Lane]) -> None:
    """One Beam job over some lanes; raises what stopped it, TimeoutError when no worker shows signs
    of life.
    """
    near = engine.runner == IN_PROCESS
    # DirectRunner would try to download a binary; named here, the runner is always the one that
    # ships with Beam
    runner: Any = FnApiRunner() if near else engine.runner
    pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(list(engine.options)))
    _ = (
        pipeline
        | "lanes" >> beam.Create(list(lanes))
        | "spread" >> beam.Reshuffle()
        | stage.name >> beam.ParDo(_Work(stage) if near else _Far(stage))
    )
    if near:
        pipeline.run().wait_until_finish()
    else:
        _run_far(pipeline, stage.out / SIGNS, engine.wait_seconds)


class _Work(beam.DoFn):  # type: ignore[misc]
    """Runs the parts of a lane in order, each to its receipt."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def process(self, lane: Lane) -> None:
        run_lane(self._stage, lane)


class _Far(_Work):
    """The same in a process that the engine started somewhere, which shows meanwhile that it
    lives.
    """

    def process(self, lane: Lane) -> None:
        with _alive(self._stage.out / SIGNS):
            run_lane(self._stage, lane)


@contextlib.contextmanager
def _alive(signs: Folder) -> Iterator[None]:
    """Leave a sign at once and every few seconds; none is left when the block ends."""
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"

    def beat(stop: threading.Event) -> None:
        for count in itertools.count():
            with contextlib.suppress(OSError):  # a full disk is for the part to report
                signs.write_bytes(name, str(count).encode())
            if stop.wait(SIGN_SECONDS):
                return

    try:
        with meanwhile(beat, "alive", SIGN_SECONDS):
            yield
    finally:
        with contextlib.suppress(OSError):
            signs.remove(name)


def _run_far(pipeline: beam.Pipeline, signs: Folder, wait_seconds: float) -> None:
    """Run a job to its end; cancel it on Ctrl-C, and when its workers are silent."""
    signs.remove()
    submitted: Future[Any] = _in_thread(pipeline.run)
    ended = _in_thread(lambda: submitted.result().wait_until_finish())
    try:
        _watch(ended, signs, wait_seconds)
    except BaseException:
        if submitted.done() and submitted.exception() is None:
            wait_for_futures([_in_thread(submitted.result().cancel)], timeout=CANCEL_SECONDS)
        raise
    finally:
        with contextlib.suppress(OSError):
            signs.remove()
    ended.result()


def _watch(ended: "Future[Any]", signs: Folder, wait_seconds: float) -> None:
    """Return when the job has ended, well or not; TimeoutError when the signs have not changed for
    so long.
    """
    last: dict[str, bytes] = {}
    since = time.monotonic()
    while not wait_for_futures([ended], timeout=LOOK_SECONDS).done:
        if (seen := _seen(signs)) != last:
            last, since = seen, time.monotonic()
        elif time.monotonic() - since >= wait_seconds:
            raise TimeoutError(
                f"no worker of the job showed a sign of life for {wait_seconds:.0f} s: see that the"
                " engine has free slots, that worker pools run where it looks for them, with this"
                f" very environment, and that they reach {signs.path()}"
            )


def _seen(signs: Folder) -> dict[str, bytes]:
    found = {}
    for name in signs.names():
        with contextlib.suppress(FileNotFoundError):  # a lane that has just ended
            found[name] = signs.read(name)
    return found


def _in_thread(call: Any) -> "Future[Any]":
    """The result of a call, which goes on in a thread of its own that no exit waits for."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="job").start()
    return future
