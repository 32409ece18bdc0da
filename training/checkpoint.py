"""Checkpoints: whole or absent, written while training goes on, read at another number of ranks."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.utils._pytree import tree_map

from training.folder import read_json, write_json

# of a process alone there is nothing to be told about
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable")

NAME = re.compile(r"step-(\d{9})")
META = "progress.json"
GOES_ON = "and training goes on from the checkpoint before"


@dataclass
class Checkpoints:
    """The folder of a run's checkpoints, of which the newest whole one counts.

    A checkpoint is a folder of its own: tensors first (torch.distributed.checkpoint, each rank its
    shards), then `progress.json`, then the folder gets its name. What a kill or a full disk
    left without its name is no checkpoint.
    """

    folder: Path
    keep: int = 2
    group: dist.ProcessGroup | None = None  # of its own, since it speaks while training does
    identity: dict[str, Any] = field(default_factory=dict)  # of the run: digests of what it read
    earlier: Sequence[str] = ()  # digests of its plan before it was amended
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(max_workers=1))
    _pending: Future[None] | None = None

    def newest(self) -> Path | None:
        """The last whole checkpoint."""
        if not self.folder.is_dir():
            return None
        whole = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        return max(whole, key=lambda path: path.name, default=None)

    def save(self, step: int, tensors: dict[str, Any], progress: dict[str, Any]) -> None:
        """Begin to write; training goes on as soon as tensors are copied.

        OSError, with the folder's name, when the one before could not be written.
        """
        self.wait()
        copied = _copied(tensors)
        self._pending = self._pool.submit(self._write, step, copied, progress)

    def wait(self) -> None:
        """Until what was begun is on the disk."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, step: int, tensors: dict[str, Any], progress: dict[str, Any]) -> None:
        name = f"step-{step:09d}"
        part = self.folder / f".{name}.part"
        first = self.group is None or dist.get_rank(self.group) == 0
        try:
            if first:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
            self._meet()
            save(
                tensors,
                checkpoint_id=str(part),
                process_group=self.group,
                no_dist=self.group is None,
            )
            if first:
                write_json(part / META, {**self.identity, **progress})
                _sync(part)
                shutil.rmtree(self.folder / name, ignore_errors=True)
                part.rename(self.folder / name)
                self._forget_old()
            self._meet()
        except (OSError, CheckpointException) as error:
            shutil.rmtree(part, ignore_errors=True)
            why = _of_the_disk(error)
            raise OSError(f"{self.folder}: a checkpoint could not be written: {why}") from error

    def _meet(self) -> None:
        if self.group is not None:
            dist.barrier(self.group)

    def _forget_old(self) -> None:
        whole = sorted(path for path in self.folder.iterdir() if NAME.fullmatch(path.name))
        for path in whole[: -self.keep]:
            shutil.rmtree(path)

    def peek(self) -> dict[str, Any] | None:
        """The progress of the newest checkpoint; None without one.

        ValueError when it is damaged, or of a run that is not this one.
        """
        newest = self.newest()
        if newest is None:
            return None
        progress = read_json(newest / META, f"remove {newest}, {GOES_ON}")
        known = {key: [value] for key, value in self.identity.items()}
        known.get("digest", []).extend(self.earlier)
        odd = [key for key, values in known.items() if progress.get(key) not in values]
        if odd:
            raise ValueError(
                f"{newest} is of another run, as its {odd[0]} says: choose another folder, or "
                f"remove {self.folder} to train again"
            )
        return progress

    def load(self, tensors: dict[str, Any]) -> None:
        """Fill `tensors` in place from the newest checkpoint.

        ValueError when it does not belong to tensors of these names and shapes, or is damaged.
        """
        newest = self.newest()
        assert newest is not None, "there is a checkpoint to load"
        try:
            load(
                tensors,
                checkpoint_id=str(newest),
                process_group=self.group,
                no_dist=self.group is None,
            )
        except (OSError, ValueError, KeyError, RuntimeError, CheckpointException) as error:
            raise ValueError(
                f"{newest} is damaged or of another model ({error}): remove it, {GOES_ON}"
            ) from error


def _of_the_disk(error: OSError | CheckpointException) -> OSError:
    """What a disk said, which torch wraps with the rank that it said it to; others are raised."""
    if isinstance(error, OSError):
        return error
    failed = [one for one, _ in error.failures.values()]
    of_the_disk = [one for one in failed if isinstance(one, OSError)]
    if not of_the_disk or len(of_the_disk) < len(failed):
        raise error
    return of_the_disk[0]


def _copied(tensors: dict[str, Any]) -> dict[str, Any]:
    """The same with tensors of their own, so that training may go on."""

    def copy(value: Any) -> Any:
        return value.detach().clone() if isinstance(value, Tensor) else value

    return dict(tree_map(copy, tensors))


def _sync(folder: Path) -> None:
    """Bring the files of a folder, and its names, to the disk."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
