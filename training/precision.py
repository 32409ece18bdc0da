"""What models run on, what numbers they are computed in, and how fast those are multiplied."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Literal

import torch

from training.threads import threads

Precision = Literal["auto", "float32", "bfloat16"]
FASTER = 1.25  # what bfloat16 must bring: it costs casts, and the last digits
SIDE = 768  # of the matrices that are multiplied: as wide as a base model
DEVICE_SIDE = 8192  # a large device is not busy with less
ENOUGH = 0.05  # seconds of measuring


def best_device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(wanted: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Of forward passes: bfloat16 where a plan says so, or the hardware is fast at it."""
    if computed_in(wanted, device) == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def computed_in(wanted: Precision, device: torch.device) -> torch.dtype:
    """The type of most products; "auto" asks the hardware."""
    match wanted:
        case "float32":
            return torch.float32
        case "bfloat16":
            return torch.bfloat16
        case "auto":
            return torch.bfloat16 if fast_bfloat16(device) else torch.float32


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 clearly faster than float32, by a measurement.

    Processors without instructions for it are forty times slower with it than without, some with
    them gain nothing; names of instructions do not tell, and are not there on every system.
    """
    return matmul_rate(device, torch.bfloat16) > FASTER * matmul_rate(device, torch.float32)


def matmul_rate(device: torch.device, kind: torch.dtype) -> float:
    """Floating-point operations a second of a product of matrices, measured once in a process.

    On a processor: what one thread does in a second of its own time, times torch's threads; so it
    does not depend on what else the machine does.
    """
    if device.type == "cpu":
        return torch.get_num_threads() * _rate_of_thread(kind)
    return _rate_of_device(device, kind)


@lru_cache
def _rate_of_thread(kind: torch.dtype) -> float:
    with threads(1):
        left = torch.randn(SIDE, SIDE).to(kind)
        return _best(lambda: left @ left, time.thread_time, SIDE)


@lru_cache
def _rate_of_device(device: torch.device, kind: torch.dtype) -> float:
    left = torch.randn(DEVICE_SIDE, DEVICE_SIDE, device=device).to(kind)

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return _best(lambda: left @ left, clock, DEVICE_SIDE)


def _best(multiply: Callable[[], object], clock: Callable[[], float], side: int) -> float:
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < ENOUGH:  # the first one prepares the kernel
        began = clock()
        multiply()
        seconds.append(clock() - began)
    return float(2 * side**3 / min(seconds))
