"""How fast a run is: samples a second, waiting, arithmetic beside the hardware's, time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from training.precision import computed_in, matmul_rate
from training.run import Run

KEPT = 0.9  # of the usual time of a step, at each new one


class Operations(TorchDispatchMode):
    """Counts the floating-point operations of products, convolutions and attention inside.

    torch's own FlopCounterMode follows modules with hooks that modules without gradients break.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += int(count(*args, **(kwargs or {}), out_val=out))
        return out


class Meter:
    """Measures steps. The arithmetic of a stage's first step is counted and stands for the others.

    What is recomputed (chunks, activations) counts as often as it is computed.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._peak = matmul_rate(run.device, computed_in(run.plan.precision, run.device))
        self._operations: dict[int, float] = {}  # of one rank's step, by stage
        self._began = 0.0
        self._usual = 0.0  # seconds of a step of this stage
        self._stage = -1

    def begin(self) -> None:
        """A step begins: it waits for its data."""
        self._began = time.perf_counter()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Around the arithmetic of a step."""
        stage = self._run.stage
        if stage in self._operations:
            yield
            return
        with torch.compiler.set_stance("force_eager"), Operations() as counter:
            yield
        self._operations[stage] = float(counter.total)

    def numbers(self, samples: int, waited: float) -> dict[str, float]:
        """What is known after a step of so many samples, all ranks together."""
        seconds = time.perf_counter() - self._began
        self._learn(seconds)
        rate = self._operations[self._run.stage] / seconds
        return {
            "samples_per_s": samples / seconds,
            "waited": waited / seconds,
            "peak_share": rate / self._peak,
            "seconds_left": self._left(),
        }

    def _learn(self, seconds: float) -> None:
        if self._stage != self._run.stage:  # the first step of a stage is slower than the others
            self._stage, self._usual = self._run.stage, seconds
            return
        self._usual += (1 - KEPT) * (seconds - self._usual)

    def _left(self) -> float:
        return self._usual * (self._run.plan.steps - self._run.done)
