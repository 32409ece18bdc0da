"""From stored bytes to pixels: the one step of measuring that strangers' bytes can crash. It may
run in another process.
"""

import re
import struct
import zlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# frames of JPEG that libjpeg-turbo 3 decodes and scales
DECODED = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a segment
MARKER = re.compile(rb"\xff([^\x00\xff])")  # as libjpeg looks for the next one
# What Pillow's plugins raise on damaged files; that of AVIF raises RuntimeError.
BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def opened(image: bytes) -> Image.Image:
    """The picture, not decoded yet. OSError for a JPEG of another frame type: Pillow 12.3 corrupts
    memory if it scales a lossless one.
    """
    frame = frame_of(image)
    if frame and frame not in DECODED:
        raise OSError(f"a JPEG of frame type SOF{frame - 0xC0}, which is not decoded")
    return Image.open(BytesIO(image))


def frame_of(image: bytes) -> int:
    """The code of the first frame header of a JPEG; 0 if it has none, or is none."""
    at = 2 if image.startswith(b"\xff\xd8") else len(image)
    while found := MARKER.search(image, at):
        code, at = found[1][0], found.end()
        if code in FRAMES:
            return code
        if code not in ALONE:
            at += int.from_bytes(image[at : at + 2], "big")
    return 0


def rgb(image: bytes | None) -> NDArray[np.uint8] | None:
    """[height, width, 3] the picture in full; None where there is none, or it cannot be decoded."""
    if image is None:
        return None
    try:
        with opened(image) as picture:
            picture.load()
            return np.asarray(picture.convert("RGB"))
    except BROKEN:
        return None
