"""A stage maps parts to parts on Beam: resumed at what is unfinished, committed part by part, its manifest written last."""

import contextlib
import dataclasses
import json
import logging
import re
import threading
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.store import FULL, Folder, Written, digest, lease

ATTEMPTS = 2  # of one part before it is set aside
SUBMISSIONS = 3  # of a job whose engine failed, each with the parts still pending
RECEIPTS = "receipts"
IDENTITY = "stage.json"
MANIFEST = "manifest.json"
WATCH_SECONDS = 0.5
_stopping = threading.Event()

log = logging.getLogger("winnow.stage")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A unit of work: what goes in, and the lane (parts of one lane run one after another in one worker)."""

    name: str
    inputs: tuple[str, ...] = ()
    lane: str = ""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a part became: its files, and counts that add up over parts."""

    files: tuple[Written, ...]
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What makes a folder complete. `digest` names the result: identity of the stage and what failed."""

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    failed: Mapping[str, str]
    digest: str

    @classmethod
    def read(cls, folder: Folder, name: str = MANIFEST) -> "Manifest | None":
        return cls(**folder.read_json(name)) if folder.exists(name) else None

    def names(self, suffix: str = "", prefix: str = "") -> list[str]:
        """Names of its files, in order of parts."""
        return [name for name in (str(file["name"]) for file in self.files) if name.startswith(prefix) and name.endswith(suffix)]


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """A function of its inputs. Subclasses are frozen and picklable; they see parts, never Beam."""

    name: ClassVar[str]
    version: ClassVar[int]
    manifest: ClassVar[str] = MANIFEST
    out: Folder

    def config(self) -> dict[str, Any]:
        """What the digest covers beside the inputs; plain JSON values."""
        return {}

    @abstractmethod
    def inputs(self) -> dict[str, str]:
        """Digest of each input's manifest (or of the file itself)."""

    @abstractmethod
    def parts(self) -> list[Part]:
        """All parts, whether done or not, in a stable order with unique names."""

    @abstractmethod
    def process(self, part: Part) -> Output:
        """Turn one part into files of `out`; may be called again for the same part, and by two workers at once."""

    def identity(self) -> str:
        """The digest of name, version, configuration and inputs."""
        return digest({"stage": self.name, "version": self.version, "config": self.config(), "inputs": self.inputs()})


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Which Beam runner maps the parts; one process by default, several with `workers`."""

    runner: str = "FnApiRunner"
    options: tuple[str, ...] = ()
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a stage is: parts done of all, and counts so far."""

    stage: str
    done: int
    parts: int
    counts: Mapping[str, int] = field(default_factory=dict)


def silent(progress: Progress) -> None:
    """The progress that nobody watches."""


class StageFailed(RuntimeError):
    """The engine failed again and again, or storage refused a write; what was committed stands."""


def run_stage(stage: Stage, engine: Engine | None = None, progress: Callable[[Progress], None] = silent) -> Manifest:
    """Bring a stage to its manifest: at once if it stands, else from the parts that are still pending.

    Raises StageFailed when storage refuses writes or the engine fails three times. A part that raises twice is set aside: its
    error stands in the manifest under `failed`, and a later run tries it again.
    """
    done = Manifest.read(stage.out, stage.manifest)
    if done is not None and done.digest == stage.identity():
        return done
    with lease(stage.out):
        return _run(stage, engine or Engine(), progress)


def _run(stage: Stage, engine: Engine, progress: Callable[[Progress], None]) -> Manifest:
    receipts = stage.out / RECEIPTS
    _adopt(stage, receipts)
    parts = stage.parts()
    assert len({part.name for part in parts}) == len(parts), f"parts of {stage.name} share a name"
    with _watched(stage, receipts, len(parts), progress):
        for attempt in range(SUBMISSIONS):
            settled = set(receipts.names())
            pending = [part for part in parts if not settled & {f"{part.name}.json", f"{part.name}.failed"}]
            if not pending:
                break
            _submit(stage, engine, pending, last=attempt == SUBMISSIONS - 1)
    manifest = _manifest(stage, parts, receipts)
    stage.out.write_json(stage.manifest, dataclasses.asdict(manifest))
    if not manifest.failed:
        receipts.remove()
    return manifest


def _adopt(stage: Stage, receipts: Folder) -> None:
    """Keep what an earlier run of this very stage committed, and forget the receipts of any other."""
    stage.out.sweep()
    receipts.sweep()
    identity = stage.identity()
    if not receipts.exists(IDENTITY) or receipts.read_json(IDENTITY) != identity:
        receipts.remove()
        stage.out.remove(stage.manifest)
        receipts.write_json(IDENTITY, identity)
    for name in receipts.names():
        if name.endswith(".failed"):  # set aside last time: its turn again
            receipts.remove(name)


def _submit(stage: Stage, engine: Engine, pending: Sequence[Part], *, last: bool) -> None:
    """One Beam job over the pending parts; when it fails, the caller submits what is then still pending."""
    lanes: dict[str, list[Part]] = {}
    for part in pending:
        lanes.setdefault(part.lane or part.name, []).append(part)
    _stopping.clear()
    try:
        with beam.Pipeline(runner=_runner(engine), options=_options(engine)) as pipeline:
            _ = (
                pipeline
                | "lanes" >> beam.Create([tuple(lane) for lane in lanes.values()])
                | "spread" >> beam.Reshuffle()
                | stage.name >> beam.ParDo(_Work(stage))
            )
    except KeyboardInterrupt:
        _stopping.set()
        raise
    except Exception as error:
        message = str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)
        number = re.search(r"\[Errno (\d+)\]", message)
        if last or (number and int(number.group(1)) in FULL):
            raise StageFailed(
                f"stage {stage.name} stopped: {message}. What was finished is kept in {stage.out.path()}; "
                f"mend the cause and run the same command again"
            ) from error
        log.warning("stage %s: the job failed and is submitted again with what is pending: %s", stage.name, message)


def _runner(engine: Engine) -> Any:
    # DirectRunner would try to download a binary; named here, the runner is always the one that ships with Beam
    return FnApiRunner() if engine.runner == "FnApiRunner" and engine.workers == 1 else engine.runner


def _options(engine: Engine) -> PipelineOptions:
    flags = list(engine.options)
    if engine.workers > 1:
        flags += ["--direct_running_mode=multi_processing", f"--direct_num_workers={engine.workers}"]
    return PipelineOptions(flags)


class _Work(beam.DoFn):  # type: ignore[misc]
    """Runs the parts of a lane in order, each to its receipt."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def process(self, lane: tuple[Part, ...]) -> None:
        receipts = self._stage.out / RECEIPTS
        for part in lane:
            if _stopping.is_set():
                return
            if not receipts.exists(f"{part.name}.json"):
                _settle(self._stage, part, receipts)


def _settle(stage: Stage, part: Part, receipts: Folder) -> None:
    """Process a part to its receipt, or set it aside with its error after some attempts."""
    for attempt in range(ATTEMPTS):
        try:
            output = stage.process(part)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("stopped") from stop  # without a word, Beam takes it for an error of its own
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            if attempt == ATTEMPTS - 1:
                log.error("stage %s: part %s is set aside: %s", stage.name, part.name, error)
                receipts.write_json(f"{part.name}.failed", "".join(traceback.format_exception(error)))
        else:
            files = [dataclasses.asdict(file) for file in output.files]
            receipts.write_json(f"{part.name}.json", {"files": files, "counts": dict(output.counts)})
            return


def _manifest(stage: Stage, parts: Sequence[Part], receipts: Folder) -> Manifest:
    counts: Counter[str] = Counter()
    files: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for part in parts:
        if receipts.exists(f"{part.name}.failed"):
            failed[part.name] = str(receipts.read_json(f"{part.name}.failed"))
            continue
        receipt = receipts.read_json(f"{part.name}.json")
        files += [{**file, "part": part.name} for file in receipt["files"]]
        counts.update(receipt["counts"])
    identity = stage.identity()
    return Manifest(
        stage=stage.name,
        version=stage.version,
        config=stage.config(),
        inputs=stage.inputs(),
        files=files,
        counts=dict(sorted(counts.items())),
        failed=failed,
        digest=identity if not failed else digest({"identity": identity, "failed": sorted(failed)}),
    )


@contextlib.contextmanager
def _watched(stage: Stage, receipts: Folder, parts: int, progress: Callable[[Progress], None]) -> Iterator[None]:
    """Report progress from the receipts, which every engine leaves alike."""
    if progress is silent:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(stage.name, receipts, parts, progress, stop), daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)


def _watch(name: str, receipts: Folder, parts: int, progress: Callable[[Progress], None], stop: threading.Event) -> None:
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    while True:
        last = stop.wait(WATCH_SECONDS)
        with contextlib.suppress(OSError):
            new = [entry for entry in receipts.names() if entry not in seen and entry != IDENTITY]
            for entry in new:
                if entry.endswith(".json"):
                    counts.update(json.loads(receipts.read(entry))["counts"])
            seen.update(new)
            if new or last:
                progress(Progress(stage=name, done=len(seen), parts=parts, counts=dict(counts)))
        if last:
            return
