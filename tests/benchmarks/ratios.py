"""Timing of several ways to do one thing, in turns, so that what else the machine does falls on all
of them alike.
"""

import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one way: median over the rounds. `cpu` is of this process, its threads and the
    processes below it.
    """

    cpu: float
    wall: float


def _cpu() -> float:
    usages = (
        resource.getrusage(resource.RUSAGE_SELF),
        resource.getrusage(resource.RUSAGE_CHILDREN),
    )
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + sum(
        map(_seconds, _below(os.getpid()))
    )


def _below(pid: int) -> list[int]:
    """The living processes that a process has started, and those below them."""
    children = [
        int(word)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for word in path.read_text().split()
    ]
    return [*children, *(one for child in children for one in _below(child))]


def _seconds(pid: int) -> float:
    """Of CPU time that a process of one thread has had."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _timed(run: Callable[[], object]) -> Timing:
    cpu, wall = _cpu(), time.perf_counter()
    run()
    return Timing(cpu=_cpu() - cpu, wall=time.perf_counter() - wall)


def compare(
    ways: Mapping[str, Callable[[], object]], *, rounds: int = 5, warm: bool = True
) -> dict[str, Timing]:
    """Each way once to warm up, then all in turn for some rounds; medians, and a table of them on
    standard output.
    """
    if warm:
        for run in ways.values():
            run()
    found: dict[str, list[Timing]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            found[name].append(_timed(run))
    medians = {
        name: Timing(
            cpu=statistics.median(one.cpu for one in timings),
            wall=statistics.median(one.wall for one in timings),
        )
        for name, timings in found.items()
    }
    width = max(len(name) for name in ways)
    print()
    for name, timing in medians.items():
        spread = [one.wall for one in found[name]]
        print(
            f"{name:<{width}}  cpu {timing.cpu:8.3f} s  wall {timing.wall:8.3f} s "
            f" ({min(spread):.3f} to {max(spread):.3f})"
        )
    return medians
