"""Running a stage: resumed at what is unfinished, committed part by part, its manifest written
last.
"""

import contextlib
import dataclasses
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from pipelines.background import meanwhile
from pipelines.engine.lane import stopping
from pipelines.engine.shares import Share, live_shares, right_to_write, share_of_lanes, wait_for
from pipelines.engine.stage import (
    IDENTITY,
    LOCAL,
    RECEIPTS,
    Engine,
    Lane,
    Manifest,
    Part,
    Progress,
    Stage,
    StageFailed,
    silent,
)
from pipelines.lease import lease
from pipelines.store import FULL, Folder, digest

SUBMISSIONS = 3  # of a job whose engine failed, each with the parts still pending
LOCK_SECONDS = 120.0  # for another share to begin or to complete a stage
WATCH_SECONDS = 0.5

log = logging.getLogger("winnow.stage")


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
                stage=stage.doing, done=len(run.parts), parts=len(run.parts), counts=done.counts
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


def _executor(engine: Engine) -> Callable[[Stage, Engine, Sequence[Lane]], None]:
    """What maps lanes to receipts; it raises what stopped it. Beam takes seconds to import."""
    if engine.runner == LOCAL:
        from pipelines.engine.local import map_lanes
    else:
        from pipelines.engine.beam import map_lanes
    return map_lanes


def _submit(stage: Stage, engine: Engine, pending: Sequence[Part], *, last: bool) -> None:
    """Map the pending parts, lane by lane; when the engine fails, the caller submits what is then
    still pending.
    """
    lanes: dict[str, list[Part]] = {}
    for part in pending:
        lanes.setdefault(_lane(part), []).append(part)
    stopping.clear()
    try:
        _executor(engine)(stage, engine, [tuple(lane) for lane in lanes.values()])
    except KeyboardInterrupt:
        stopping.set()
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
                        stage=run.stage.doing,
                        done=len(seen),
                        parts=len(run.parts),
                        counts=dict(counts),
                    )
                )
