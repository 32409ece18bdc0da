"""What numbers forward passes are computed in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from training.plan import TrainingPlan


def precision(plan: TrainingPlan, device: torch.device) -> AbstractContextManager[object]:
    """Of forward passes: bfloat16 where the plan says so, or the hardware is fast at it."""
    wanted = plan.precision
    if wanted == "auto":
        wanted = "bfloat16" if fast_bfloat16(device) else "float32"
    if wanted == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 faster than float32.

    Processors without instructions for it are forty times slower with it than without.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        return False
    text = flags.read_text(encoding="ascii", errors="replace")
    return "amx_bf16" in text or "avx512_bf16" in text
