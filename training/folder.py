"""The folder of a training run: one run at a time, its plan, its metrics, whole files."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PLAN = "plan.json"
RESULT = "result.json"
METRICS = "metrics.jsonl"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside it, bring it to the disk, then give it its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """As indented JSON, whole or not at all."""
    text = json.dumps(value, indent=2) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """A table; ValueError with the path and a remedy when it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, or train elsewhere") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it holds no table; remove it, or train elsewhere")
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


def claim(out: Path, identity: Mapping[str, Any]) -> None:
    """Write the plan, or see that the one that is there is the same.

    `identity` has the plan's `digest` and the `releases` with their digests, and says more for
    people.
    """
    path = out / PLAN
    if not path.is_file():
        write_json(path, identity)
        return
    there = read_json(path)
    for key, what in (("digest", "another plan"), ("releases", "the same plan on other releases")):
        if there.get(key) != identity[key]:
            raise ValueError(
                f"{out} holds a run of {what} ({there.get('name')}): choose another folder, "
                "or delete this one to train again"
            )


class Metrics:
    """metrics.jsonl: a line a step, and TensorBoard's own files where it is installed.

    Lines of steps after the checkpoint, which will be taken again, are cut away at the beginning,
    and so is a line that a kill left unfinished.
    """

    def __init__(self, out: Path, done: int) -> None:
        self.path = out / METRICS
        self._cut(done)
        self._file = self.path.open("a", encoding="utf-8", buffering=1)
        self._board = _tensorboard(out / "tensorboard", done)

    def _cut(self, done: int) -> None:
        if not self.path.is_file():
            return
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        kept = "".join(line for line in lines if _step_of(line) <= done)
        write_whole(self.path, lambda temporary: temporary.write_text(kept, encoding="utf-8"))

    def write(self, step: int, stage: str, numbers: Mapping[str, float]) -> None:
        """One line, on the disk's way at once."""
        line = {"step": step, "stage": stage, **numbers}
        self._file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Everything written."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        return float("inf")


def _tensorboard(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=done + 1)
