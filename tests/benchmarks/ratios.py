"""Timing of several ways to do one thing, in turns, so that what else the machine does falls on all of them alike."""

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one way: median over the rounds. `cpu` is of this process, its threads and its finished children."""

    cpu: float
    wall: float


def _cpu() -> float:
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _timed(run: Callable[[], object]) -> Timing:
    cpu, wall = _cpu(), time.perf_counter()
    run()
    return Timing(cpu=_cpu() - cpu, wall=time.perf_counter() - wall)


def compare(ways: Mapping[str, Callable[[], object]], *, rounds: int = 5, warm: bool = True) -> dict[str, Timing]:
    """Each way once to warm up, then all in turn for some rounds; medians, and a table of them on standard output."""
    if warm:
        for run in ways.values():
            run()
    found: dict[str, list[Timing]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            found[name].append(_timed(run))
    medians = {
        name: Timing(cpu=statistics.median(one.cpu for one in timings), wall=statistics.median(one.wall for one in timings))
        for name, timings in found.items()
    }
    width = max(len(name) for name in ways)
    print()
    for name, timing in medians.items():
        spread = [one.wall for one in found[name]]
        print(f"{name:<{width}}  cpu {timing.cpu:8.3f} s  wall {timing.wall:8.3f} s  ({min(spread):.3f} to {max(spread):.3f})")
    return medians
