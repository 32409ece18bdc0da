"""From fetched bytes to a stored picture: checked by its header, decoded whole, upright and in 8-bit colour.

The bytes are kept as they came wherever any reader would see the same picture; else they are encoded anew.
"""

import hashlib
import io
import struct
import warnings
import zlib
from dataclasses import dataclass

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

MAX_PIXELS = 89_478_485  # Pillow's own limit against decompression bombs: 256 MiB of RGB at 3 bytes a pixel
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO")
KEPT_MODES = {"JPEG": ("RGB", "L"), "PNG": ("RGB", "L", "P", "1"), "WEBP": ("RGB",)}  # stored as they are if nothing else speaks against it
LOSSLESS = frozenset({"PNG", "GIF", "BMP", "ICO"})  # of which an encoding anew must not lose more than is lost already
QUALITY = 95  # img2dataset's default for JPEG
ORIENTATION = 0x0112  # EXIF tag
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*")
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    AttributeError,
    MemoryError,
    NotImplementedError,
    struct.error,
    zlib.error,
)  # fmt: skip - what Pillow's plugins raise on damaged files

assert not ImageFile.LOAD_TRUNCATED_IMAGES  # a truncated image must raise
# of damaged files, and of pictures between one and two times the limit: the outcome says it
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A picture as it is stored; `image_id` is the sha256 of the bytes as fetched."""

    image_id: str
    image: bytes
    width: int
    height: int
    original_width: int
    original_height: int
    original_bytes: int
    format: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Undecodable:
    """Why bytes are no picture: `decode.<reason>` and the error in words."""

    outcome: str
    detail: str


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Decoded | Undecodable:
    """Check and decode an encoded image; never raises on bad bytes."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                return Undecodable(outcome="decode.too_many_pixels", detail=f"{width} x {height} pixels, at most {max_pixels} are decoded")
            kind = "JPEG" if image.format == "MPO" else str(image.format)  # an MPO is a JPEG with more pictures behind the first
            stored = _stored(image, data, kind)
    except Image.DecompressionBombError as error:
        return Undecodable(outcome="decode.too_many_pixels", detail=str(error))
    except UnidentifiedImageError:
        return _unidentified(data)
    except BROKEN as error:
        return _broken(error)
    if stored is None:
        return _decoded(data, data, (width, height), (width, height), kind)
    return _decoded(data, *stored, (width, height), kind)


def _decoded(data: bytes, stored: bytes, size: tuple[int, int], original: tuple[int, int], kind: str) -> Decoded:
    return Decoded(
        image_id=hashlib.sha256(data).hexdigest(),
        image=stored,
        width=size[0],
        height=size[1],
        original_width=original[0],
        original_height=original[1],
        original_bytes=len(data),
        format=kind,
    )


def _unidentified(data: bytes) -> Undecodable:
    """Bytes that no plugin takes: a broken image if they begin like one, else something else, such as a page of HTML."""
    image_like = data.startswith(MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or data[4:12] == b"ftypavif"
    if image_like:
        return Undecodable(outcome="decode.corrupt", detail="begins like an image, yet its header cannot be read")
    return Undecodable(outcome="decode.not_an_image", detail=f"begins with {data[:16]!r}" if data else "no bytes at all")


def _broken(error: BaseException) -> Undecodable:
    words = str(error).lower()
    truncated = any(word in words for word in ("truncated", "unexpected end", "not enough data", "premature"))
    return Undecodable(outcome="decode.truncated" if truncated else "decode.corrupt", detail=f"{type(error).__name__}: {error}"[:300])


def _stored(image: Image.Image, data: bytes, kind: str) -> tuple[bytes, tuple[int, int]] | None:
    """The picture encoded anew with its size, or None where the original bytes do; decodes it whole either way."""
    orientation = image.getexif().get(ORIENTATION, 1) if "exif" in image.info or kind == "TIFF" else 1
    if _keepable(image, data, kind) and orientation not in range(2, 9):
        if kind == "JPEG":  # all of the stream is read, but an eighth of the pixels made: enough to find a truncation
            image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()
        return None
    upright = ImageOps.exif_transpose(image) if orientation in range(2, 9) else image
    plain = _eight_bit_rgb(upright)
    buffer = io.BytesIO()
    if kind in LOSSLESS:
        plain.save(buffer, "PNG", compress_level=6)
    else:
        plain.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue(), plain.size


def _keepable(image: Image.Image, data: bytes, kind: str) -> bool:
    """Whether any decoder shows these bytes as one opaque 8-bit picture."""
    animated = kind != "JPEG" and getattr(image, "is_animated", False)
    if image.mode not in KEPT_MODES.get(kind, ()) or "transparency" in image.info or animated:
        return False
    return kind != "PNG" or data[24] <= 8  # the bit depth in the header of a PNG; Pillow shows 16-bit RGB as 8-bit


def _eight_bit_rgb(image: Image.Image) -> Image.Image:
    """First frame, transparency on white, 16-bit grey scaled to 8 bits."""
    image.load()
    if image.mode.startswith("I;16") or image.mode == "I":
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if image.mode == "F":
        return image.point(lambda value: value * 255.0).convert("L") if _unit_range(image) else image.convert("L")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def _unit_range(image: Image.Image) -> bool:
    extrema = image.getextrema()
    return isinstance(extrema[1], float) and extrema[1] <= 1.0
