"""The folder of a training run: one run at a time, its plan, its metrics, whole files."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.config import differences

PLAN = "plan.json"
RESULT = "result.json"
METRICS = "metrics.jsonl"
AMENDABLE = re.compile(r"stages\.\d+\.(optimizer|schedule|weights)\b")  # while a run is under way


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error of the disk says what could not be written."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from error


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside it, bring it to the disk, then give it its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _naming(path):
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """As indented JSON, whole or not at all."""
    text = json.dumps(value, indent=2) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path, remedy: str = "remove it, or train elsewhere") -> dict[str, Any]:
    """A table; ValueError with the path and a remedy when it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it holds no table; {remedy}")
    return value


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Nobody else trains in this folder; ValueError when somebody does. The dead hold nothing."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{out}: another run trains here; wait for it, or choose another --out"
            ) from error
        yield


@contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold what one process has at a time, after waiting for it; the dead hold nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def claim(out: Path, identity: Mapping[str, Any], *, amend: bool = False) -> None:
    """Write the plan, or see that the one that is there is the same.

    `identity` has the plan's `digest` and the `releases` with their digests, and says more for
    people: its `name` and the whole `plan`. With `amend` the plan may have other rates, schedules
    and weights of losses: what they were is kept under `amended`, the newest last.
    """
    path = out / PLAN
    there = read_json(path) if path.is_file() else {}
    amended = there.get("amended", [])
    for key, what in (("digest", "another plan"), ("releases", "the same plan on other releases")):
        if not there or there.get(key) == identity[key]:
            continue
        changes = differences(there.get("plan"), identity["plan"])
        amendable = key == "digest" and all(AMENDABLE.match(change) for change in changes)
        if not (amend and amendable):
            hint = ", or go on with it so (--amend)" if amendable else ""
            why = f"{there.get('name')}{_why(there, identity)}"
            raise ValueError(
                f"{out} holds a run of {what} ({why}): choose another folder, or delete this one "
                f"to train again{hint}"
            )
        amended = [*amended, {"digest": there["digest"], "changes": changes}]

    settled = {**identity, "amended": amended} if amended else identity
    if there != settled:
        write_json(path, settled)


def earlier_digests(out: Path) -> list[str]:
    """Digests of the plans that a run had before it was amended."""
    return [before["digest"] for before in read_json(out / PLAN).get("amended", [])]


def _why(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first things in which two runs differ."""
    changes = differences(there.get("plan"), here["plan"])
    changes += differences(there.get("releases"), here["releases"], "releases")
    text = "".join(f"; {change}" for change in changes[:3])
    if len(changes) > 3:
        text += f"; and {len(changes) - 3} more"
    return text


class Metrics:
    """metrics.jsonl: a line a step, and TensorBoard's own files.

    Lines of steps after the checkpoint, which will be taken again, are cut away at the beginning,
    and so is a line that a kill left unfinished.
    """

    def __init__(self, out: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = out / METRICS
        self._events = out / "tensorboard"
        self._cut(done)
        with _naming(self._events):
            self._board = SummaryWriter(str(self._events), purge_step=done + 1)

    def _cut(self, done: int) -> None:
        if not self.path.is_file():
            return
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        kept = "".join(line for line in lines if _step_of(line) <= done)
        write_whole(self.path, lambda temporary: temporary.write_text(kept, encoding="utf-8"))

    def write(self, step: int, stage: str, numbers: Mapping[str, float]) -> None:
        """One line, on the disk's way at once. OSError, with the path, when it is full."""
        line = json.dumps({"step": step, "stage": stage, **numbers}) + "\n"
        with _naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        with _naming(self._events):
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Everything written."""
        with _naming(self._events):
            self._board.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        return float("inf")
