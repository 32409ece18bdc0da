"""Mapping lanes of parts with Beam: in this process, over worker processes of this machine, or on the cluster of another runner."""

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.stage import Engine, Part, Stage, run_lane
from pipelines.workers import run_lanes

LOCAL = "FnApiRunner"
Lane = tuple[Part, ...]


def map_lanes(stage: Stage, engine: Engine, lanes: Sequence[Lane]) -> None:
    """One Beam job over some lanes; raises what stopped it."""
    workers = min(engine.workers, len(lanes)) if engine.runner == LOCAL else 1
    # DirectRunner would try to download a binary; named here, the runner is always the one that ships with Beam
    runner: Any = FnApiRunner() if engine.runner == LOCAL else engine.runner
    with beam.Pipeline(runner=runner, options=PipelineOptions(list(engine.options))) as pipeline:
        work = _Spread(stage, engine.workers) if workers > 1 else _Work(stage)
        _ = pipeline | "lanes" >> beam.Create(list(lanes)) | "spread" >> beam.Reshuffle() | stage.name >> beam.ParDo(work)


class _Work(beam.DoFn):  # type: ignore[misc]
    """Runs the parts of a lane in order, each to its receipt."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def process(self, lane: Lane) -> None:
        run_lane(self._stage, lane)


class _Spread(beam.DoFn):  # type: ignore[misc]
    """Gathers the lanes of a bundle and runs them over warm processes: Beam's own take 4 to 5 s to start, for each stage anew."""

    def __init__(self, stage: Stage, workers: int) -> None:
        self._stage = stage
        self._workers = workers
        self._lanes: list[Lane] = []

    def start_bundle(self) -> None:
        self._lanes = []

    def process(self, lane: Lane) -> None:
        self._lanes.append(lane)

    def finish_bundle(self) -> None:
        try:
            run_lanes(self._stage, self._lanes, self._workers)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("stopped") from stop  # without a word, Beam takes it for an error of its own
