"""A decoder that dies on purpose, in every process that starts within the block, and pictures of
which it dies.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.engine import children, local
from tests.pipelines.pictures import chunk
from tests.pipelines.web import jpeg

DECODER = """
import io, os, time
from PIL import Image
real = Image.open
def opened(file, *args, **options):
    data = file.getvalue() if isinstance(file, io.BytesIO) else b""
    if b"(abort)" in data:
        os.abort()
    if b"(spin)" in data:
        while True:
            pass
    if b"(sleep)" in data:
        time.sleep(3600)
    if b"(eat)" in data:
        bytearray(3 << 30)
    return real(file, *args, **options)
Image.open = opened
"""


@contextmanager
def deadly_decoder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limits: children.Limits | None = None
) -> Iterator[None]:
    """Processes that were there before, and know nothing of it, make way for new ones; so do these
    at the end.
    """
    place = folder / "deadly"
    place.mkdir()
    (place / "sitecustomize.py").write_text(DECODER)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.setattr(children, "LIMITS", limits or children.LIMITS)
    fresh()
    try:
        yield
    finally:
        monkeypatch.undo()
        fresh()


def fresh() -> None:
    """No child and no worker of this process."""
    local._end_idle()
    children.children().close()
    children._children.cache_clear()


def deadly_png(how: str) -> bytes:
    """A picture that a decoder must look at; its pixels lie in it as they are."""
    row = b"\0" + f"({how})".encode().ljust(30, b".")
    header = struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row * 10, 0))
        + chunk(b"IEND", b"")
    )


def deadly_jpeg(how: str) -> bytes:
    """A picture that is known to be whole without a decoder: it kills who looks at it later."""
    text = f"({how})".encode()
    data = jpeg(60, 40, "teal")
    return data[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + data[2:]
