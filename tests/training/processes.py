"""Other processes that have imported what this one has: importing takes longer than training."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

HOW = "spawn" if torch.cuda.is_available() else "fork"  # CUDA does not live on in a fork


def run_apart(function: Callable[..., object], *arguments: object, said: Path) -> int:
    """Call a function in a process of its own, which writes what it says to a file; its status."""
    context = multiprocessing.get_context(HOW)
    process = context.Process(target=_call, args=(function, arguments, said))
    process.start()
    try:
        process.join()
    finally:
        process.kill()
        process.join()
    assert process.exitcode is not None, "it has ended"
    return process.exitcode


def _call(function: Callable[..., object], arguments: tuple[object, ...], said: Path) -> None:
    """What pytest keeps of this process's words is the parent's."""
    sys.stdout = sys.stderr = file = said.open("w", buffering=1, encoding="utf-8")
    for descriptor in (1, 2):
        os.dup2(file.fileno(), descriptor)
    function(*arguments)


def torchrun(script: Path, *arguments: str) -> None:
    """A script in two processes, as torchrun starts it; called in a process of its own."""
    from torch.distributed.run import main

    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    options = ["--standalone", "--nproc-per-node", "2", "--start-method", HOW, "--run-path"]
    main([*options, str(script), *arguments])
