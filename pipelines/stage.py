"""A stage maps parts to parts on Beam: resumed at what is unfinished, committed part by part, its
manifest written last.
"""

import contextlib
import dataclasses
import logging
import re
import threading
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar

from pipelines.accounts import Account, check
from pipelines.engine.meanwhile import meanwhile
from pipelines.shares import (
    WAIT_SECONDS,
    Share,
    live_shares,
    right_to_write,
    share_of_lanes,
    wait_for,
)
from pipelines.store import FULL, Folder, Written, digest, lease
from pipelines.takedown.forgotten import NOTHING, Forgotten

ATTEMPTS = 2  # of one part before it is set aside
SUBMISSIONS = 3  # of a job whose engine failed, each with the parts still pending
LOCK_SECONDS = 120.0  # for another share to begin or to complete a stage
RECEIPTS = "receipts"
IDENTITY = "stage.json"
MANIFEST = "manifest.json"
WATCH_SECONDS = 0.5
_stopping = threading.Event()

log = logging.getLogger("winnow.stage")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A unit of work: what goes in, and the lane (parts of one lane run one after another in one
    worker).
    """

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
    """What makes a folder complete. `digest` names the result: identity of the stage and what
    failed.
    """

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
        return [
            name
            for name in (str(file["name"]) for file in self.files)
            if name.startswith(prefix) and name.endswith(suffix)
        ]


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """A function of its inputs. Subclasses are frozen and picklable; they see parts, never Beam."""

    name: ClassVar[str]
    version: ClassVar[int]
    manifest: ClassVar[str] = MANIFEST
    # which of its counts add up to which, or to one of an earlier stage
    accounts: ClassVar[tuple[Account, ...]] = ()
    out: Folder
    # what was taken down by now; not of its identity, since a take-down erases what is written
    # already
    forgotten: Forgotten = NOTHING

    def config(self) -> dict[str, Any]:
        """What the digest covers beside the inputs; plain JSON values."""
        return {}

    def folders(self) -> tuple[Folder, ...]:
        """Where its files go."""
        return (self.out,)

    @abstractmethod
    def inputs(self) -> dict[str, str]:
        """Digest of each input's manifest (or of the file itself)."""

    @abstractmethod
    def parts(self) -> list[Part]:
        """All parts, whether done or not, in a stable order with unique names."""

    @abstractmethod
    def process(self, part: Part) -> Output:
        """Turn one part into files of `out`; may be called again for the same part, and by two
        workers at once.
        """

    def identity(self) -> str:
        """The digest of name, version, configuration and inputs."""
        return digest(
            {
                "stage": self.name,
                "version": self.version,
                "config": self.config(),
                "inputs": self.inputs(),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Which Beam runner maps the parts; one process by default, several on this machine with
    `workers`.

    With a `share`, this command does its share of each stage's parts and waits for the others
    before the next stage: as long as they work, and `wait_seconds` more. A job of another runner is
    given up when nothing was heard of its workers for as long.
    """

    runner: str = "FnApiRunner"
    options: tuple[str, ...] = ()
    workers: int = 1
    share: Share | None = None
    wait_seconds: float = WAIT_SECONDS

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(
                f"{self.workers} workers do no work: give one at least, or leave the option out"
            )


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a stage is: parts done of all, and counts so far, or what else there is to say in
    words.
    """

    stage: str
    done: int
    parts: int
    counts: Mapping[str, int] = field(default_factory=dict)
    words: str = ""


def silent(progress: Progress) -> None:
    """The progress that nobody watches."""


class StageFailed(RuntimeError):
    """The engine failed again and again, or storage refused a write; what was committed stands."""


def run_stage(
    stage: Stage, engine: Engine | None = None, progress: Callable[[Progress], None] = silent
) -> Manifest:
    """Bring a stage to its manifest: at once if it stands, else from the parts that are still
    pending.

    Raises StageFailed when storage refuses writes or the engine fails three times, LeaseHeld when
    somebody else writes, ShareUnfinished when shares are missing that nobody runs. A part that
    raises twice is set aside: its error stands in the manifest under `failed`, and a later run
    tries it again.
    """
    run = _Run(stage=stage, engine=engine or Engine(), identity=stage.identity())
    if (done := run.standing()) is not None:
        return done
    with right_to_write(stage.out, run.engine.share, about=run.identity):
        if (done := run.begin()) is None:
            with _watched(run, progress):
                done = wait_for(
                    run.advance,
                    missing=run.missing,
                    living=run.living,
                    wait_seconds=run.engine.wait_seconds,
                    what=f"stage {stage.name}",
                )
        progress(
            Progress(
                stage=stage.name, done=len(run.parts), parts=len(run.parts), counts=done.counts
            )
        )
    return done


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One command's run of a stage: all of it, or a share."""

    stage: Stage
    engine: Engine
    identity: str

    @property
    def receipts(self) -> Folder:
        return self.stage.out / RECEIPTS

    @cached_property
    def parts(self) -> list[Part]:
        parts = self.stage.parts()
        assert len({part.name for part in parts}) == len(parts), (
            f"parts of {self.stage.name} share a name"
        )
        return parts

    @cached_property
    def owners(self) -> dict[str, Share]:
        """The share of each part; empty without shares."""
        if self.engine.share is None:
            return {}
        of = self.engine.share.of
        chosen = share_of_lanes(Counter(_lane(part) for part in self.parts), of)
        return {part.name: Share(index=chosen[_lane(part)], of=of) for part in self.parts}

    @property
    def mine(self) -> list[Part]:
        return [
            part
            for part in self.parts
            if self.engine.share is None or self.owners[part.name] == self.engine.share
        ]

    def standing(self) -> Manifest | None:
        """The manifest if it stands and nothing of it is to be tried again by this command."""
        manifest = Manifest.read(self.stage.out, self.stage.manifest)
        if manifest is None:
            return None
        if manifest.digest == self.identity:
            self.receipts.remove()  # a kill after the manifest leaves them
            return manifest
        same = manifest.digest == _incomplete(self.identity, manifest.failed)
        return (
            manifest
            if same and self.engine.share is not None and not self._failed_of(manifest)
            else None
        )

    def _failed_of(self, manifest: Manifest) -> list[str]:
        return [part.name for part in self.mine if part.name in manifest.failed]

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """What shares do one at a time: to begin, and to complete."""
        if self.engine.share is None:
            yield
        else:
            with lease(self.stage.out / "leases", "all.json", wait=LOCK_SECONDS):
                yield

    def begin(self) -> Manifest | None:
        """Keep what an earlier run of this very stage committed and forget any other; the manifest
        if it stands meanwhile.
        """
        with self.lock():
            if (done := self.standing()) is not None:
                return done
            self.sweep(alone=self.engine.share is None)
            if (
                not self.receipts.exists(IDENTITY)
                or self.receipts.read_json(IDENTITY) != self.identity
            ):
                self.receipts.remove()
                self.stage.out.remove(self.stage.manifest)
                self.receipts.write_json(IDENTITY, self.identity)
        mine = {part.name for part in self.mine}
        for name in self.receipts.names():
            # set aside last time: its turn again
            if name.endswith(".failed") and name.removesuffix(".failed") in mine:
                self.receipts.remove(name)
        return None

    def sweep(self, *, alone: bool) -> None:
        """Remove what killed writers left half written, once nobody else can be writing."""
        if alone:
            for folder in (*self.stage.folders(), self.receipts):
                folder.sweep()

    def pending(self, parts: Sequence[Part]) -> list[Part]:
        settled = set(self.receipts.names())
        return [
            part for part in parts if not settled & {f"{part.name}.json", f"{part.name}.failed"}
        ]

    def missing(self) -> list[Share]:
        return [self.owners[part.name] for part in self.pending(self.parts)] if self.owners else []

    def living(self) -> Collection[Share]:
        return live_shares(self.stage.out)

    def advance(self) -> Manifest | None:
        """Do what is pending of this command's own; complete the manifest if all is settled, or
        find that another share has.
        """
        for attempt in range(SUBMISSIONS):
            pending = self.pending(self.mine)
            # looked for last: receipts go once it stands
            if self.owners and (done := self.standing()) is not None:
                return done
            if not pending:
                break
            _submit(self.stage, self.engine, pending, last=attempt == SUBMISSIONS - 1)
        if self.owners and self.pending(self.parts):
            return None
        with self.lock():
            return (self.standing() if self.owners else None) or self.complete()

    def complete(self) -> Manifest | None:
        """Write the manifest from the receipts; None if some of these were damaged, whose parts are
        then pending again.
        """
        read: dict[str, Any] = {}
        for part in self.parts:
            name = f"{part.name}.json"
            name = name if self.receipts.exists(name) else f"{part.name}.failed"
            try:
                read[part.name] = self.receipts.read_json(name)
            except ValueError as error:
                log.warning(
                    "stage %s: part %s is done again: %s", self.stage.name, part.name, error
                )
                self.receipts.remove(name)
        if len(read) < len(self.parts):
            return None
        manifest = _manifest(self.stage, self.identity, read)
        self.sweep(alone=True)
        self.stage.out.write_json(self.stage.manifest, dataclasses.asdict(manifest))
        if not manifest.failed:
            self.receipts.remove()
        return manifest


def _lane(part: Part) -> str:
    return part.lane or part.name


def _incomplete(identity: str, failed: Collection[str]) -> str:
    return digest({"identity": identity, "failed": sorted(failed)})


def _submit(stage: Stage, engine: Engine, pending: Sequence[Part], *, last: bool) -> None:
    """One Beam job over the pending parts; when it fails, the caller submits what is then still
    pending.
    """
    # Beam takes seconds to import, and what is finished needs none
    from pipelines.engine.beam import map_lanes

    lanes: dict[str, list[Part]] = {}
    for part in pending:
        lanes.setdefault(_lane(part), []).append(part)
    _stopping.clear()
    try:
        map_lanes(stage, engine, [tuple(lane) for lane in lanes.values()])
    except KeyboardInterrupt:
        _stopping.set()
        raise
    except Exception as error:
        message = str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)
        # Beam's words for which step of its own it was
        message = re.sub(r" \[while running '.*'\]$", "", message)
        number = re.search(r"\[Errno (\d+)\]", message)
        if last or (number and int(number.group(1)) in FULL):
            raise StageFailed(
                f"stage {stage.name} stopped: {message}. What was finished is kept in"
                f" {stage.out.path()}; mend the cause and run the same command again"
            ) from error
        log.warning(
            "stage %s: the job failed and is submitted again with what is pending: %s",
            stage.name,
            message,
        )


def run_lane(stage: Stage, lane: Sequence[Part]) -> None:
    """Run the parts of a lane in order, each to its receipt; what an engine calls, perhaps
    twice.
    """
    receipts = stage.out / RECEIPTS
    for part in lane:
        if _stopping.is_set():
            return
        if not receipts.exists(f"{part.name}.json"):
            _settle(stage, part, receipts)


def _settle(stage: Stage, part: Part, receipts: Folder) -> None:
    """Process a part to its receipt, or set it aside with its error after some attempts."""
    for attempt in range(ATTEMPTS):
        try:
            output = stage.process(part)
            check(stage.accounts, output.counts, f"stage {stage.name}, part {part.name}")
        except KeyboardInterrupt as stop:
            # without a word, Beam takes it for an error of its own
            raise KeyboardInterrupt("stopped") from stop
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            if attempt == ATTEMPTS - 1:
                log.error("stage %s: part %s is set aside: %s", stage.name, part.name, error)
                receipts.write_json(
                    f"{part.name}.failed", "".join(traceback.format_exception(error))
                )
        else:
            files = [dataclasses.asdict(file) for file in output.files]
            receipts.write_json(
                f"{part.name}.json", {"files": files, "counts": dict(output.counts)}
            )
            return


def _manifest(stage: Stage, identity: str, receipts: Mapping[str, Any]) -> Manifest:
    """From the receipt of each part in order, a text where the part was set aside."""
    counts: Counter[str] = Counter()
    files: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for name, receipt in receipts.items():
        if isinstance(receipt, str):
            failed[name] = receipt
            continue
        files += [{**file, "part": name} for file in receipt["files"]]
        counts.update(receipt["counts"])
    return Manifest(
        stage=stage.name,
        version=stage.version,
        config=stage.config(),
        inputs=stage.inputs(),
        files=files,
        counts=dict(sorted(counts.items())),
        failed=failed,
        digest=_incomplete(identity, failed) if failed else identity,
    )


@contextlib.contextmanager
def _watched(run: _Run, progress: Callable[[Progress], None]) -> Iterator[None]:
    """Report progress from the receipts, which every engine and every share leaves alike."""
    if progress is silent:
        yield
        return
    with meanwhile(partial(_watch, run, progress), "progress"):
        yield


def _watch(run: _Run, progress: Callable[[Progress], None], stop: threading.Event) -> None:
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    while not stop.wait(WATCH_SECONDS):
        with contextlib.suppress(OSError, ValueError):
            new = [
                entry for entry in run.receipts.names() if entry not in seen and entry != IDENTITY
            ]
            for entry in new:
                if entry.endswith(".json"):
                    counts.update(run.receipts.read_json(entry)["counts"])
            seen.update(new)
            if new:
                progress(
                    Progress(
                        stage=run.stage.name,
                        done=len(seen),
                        parts=len(run.parts),
                        counts=dict(counts),
                    )
                )
