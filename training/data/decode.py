"""From a stranger's bytes to pixels; what cannot be decoded is an OSError and no worse."""

from __future__ import annotations

import io
import re
import struct

import numpy as np
from PIL import ExifTags, Image

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of JPEG (ITU-T T.81)
DECODED = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))  # neither hierarchical nor lossless
MARKER = re.compile(rb"\xff([^\x00\xff])")
MOST_PIXELS = 89_478_485  # what Pillow warns of; no release holds larger ones
# what Pillow 12.3 and its plugins raise of broken images beside OSError; of a damaged AVIF,
# RuntimeError and, which is of its kind, NotImplementedError
BROKEN = (
    RuntimeError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
    Image.DecompressionBombError,
)
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # grey levels of 16 bits
TURNS = {  # what shows an image of an EXIF orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def frame_of(encoded: bytes) -> int:
    """The code of a JPEG's first frame header, found as libjpeg finds it; 0 if there is none."""
    if not encoded.startswith(b"\xff\xd8"):
        return 0
    offset = 2
    while marker := MARKER.search(encoded, offset):
        code = marker[1][0]
        offset = marker.end()
        if code in FRAMES:
            return code
        has_segment = code != 0x01 and code not in range(0xD0, 0xD9)
        if has_segment:
            length = encoded[offset : offset + 2]
            offset += int.from_bytes(length, "big")
    return 0


def open_image(encoded: bytes, shorter: int = 0) -> Image.Image:
    """The image in RGB, decoded; its shorter side may have been reduced, not below `shorter`.

    Upright as its EXIF data say, laid on white where it is transparent, 16 bits scaled to 8: as
    releases store images, so that a file of one's own shows the same. Of several frames the first.

    A JPEG is decoded at the nearest larger half, quarter or eighth of its size (draft): sixteen
    times fewer pixels of a photo of a phone. OSError if it cannot be decoded.
    """
    frame = frame_of(encoded)
    if frame and frame not in DECODED:  # Pillow 12.3 corrupts memory where it scales a lossless one
        raise OSError(f"a JPEG of frame type SOF{frame - 0xC0}, which is not decoded")
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise OSError(f"{width} x {height} pixels are more than are decoded")
            if shorter:
                _draft(image, shorter)
            image.load()
            return _upright(_opaque(image), image)
    except BROKEN as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _draft(image: Image.Image, shorter: int) -> None:
    """Ask the decoder of JPEG for an eighth, a quarter or half, each side at least as asked."""
    width, height = image.size
    share = shorter / min(width, height)
    if share <= 0.5:
        size = round(width * share), round(height * share)
        image.draft("RGB", size)


def _opaque(image: Image.Image) -> Image.Image:
    """In RGB; itself, and no copy of it, where it is that already."""
    if image.mode in DEEP:
        grey = np.asarray(image) >> 8
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        white = Image.new("RGBA", seen.size, "white")
        return Image.alpha_composite(white, seen).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """Turned as the EXIF data of an image say; damaged ones cost nothing."""
    if not image.info.get("exif"):
        return pixels
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (*BROKEN, OSError):
        return pixels
    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else pixels.transpose(turn)
