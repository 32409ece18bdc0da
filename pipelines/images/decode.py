"""From fetched bytes to a stored picture: checked by its header, decoded whole, upright and in
8-bit sRGB.

The bytes are kept as they came wherever any reader would see the same picture; else they are
encoded anew, once.
"""

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image, ImageFile, UnidentifiedImageError

from pipelines.images.avif import avif_header, brands, is_avif
from pipelines.images.colour import in_srgb, opaque
from pipelines.images.directories import orientation_of
from pipelines.images.encode import SIDES, Encoding, Fit
from pipelines.images.headers import (
    Damaged,
    Header,
    bmp_header,
    gif_header,
    ico_header,
    png_header,
    tiff_header,
    webp_header,
)
from pipelines.images.jpeg import jpeg_header, tells_early
from pipelines.images.metadata import trouble
from pipelines.images.quiet import hush

hush()

# Pillow's own limit against decompression bombs: 256 MiB of RGB at 3 bytes a pixel
MAX_PIXELS = 89_478_485
# stored as they are if nothing else speaks against it
KEPT_MODES = {"JPEG": ("RGB", "L"), "PNG": ("RGB", "L", "P", "1"), "WEBP": ("RGB",)}
# where the mark of a format stands, and what it is
READERS: tuple[tuple[int, tuple[bytes, ...], Callable[[bytes], Header]], ...] = (
    (0, (b"\xff\xd8\xff",), jpeg_header),
    (0, (b"\x89PNG\r\n\x1a\n",), png_header),
    (8, (b"WEBP",), webp_header),
    (0, (b"GIF87a", b"GIF89a"), gif_header),
    (0, (b"BM",), bmp_header),
    (0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), tiff_header),
    (0, (b"\0\0\1\0",), ico_header),
)
# pictures and pages that are told apart and not decoded: where the mark stands, the mark, the name
NAMED = (
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"8BPS", "Photoshop"),
)
# how brands begin
HEIF = ((b"hei", "HEIC"), (b"hev", "HEIC"), (b"mif", "HEIF"), (b"msf", "HEIF"), (b"miaf", "HEIF"))
TURNS = {  # what shows a picture of an EXIF orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
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
    NotImplementedError,
    RuntimeError,
    AssertionError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)  # what Pillow's plugins raise on damaged files
AS_IT_COMES = Encoding()
# of what kills its decoder, or takes more time or memory than any picture needs
CRASHED = "decode.crashed"

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
    reencoded: bool = False
    animated: bool = False  # the first of several frames is what counts
    note: str | None = None  # what of the original is not in the stored picture


@dataclass(frozen=True, kw_only=True, slots=True)
class Undecodable:
    """Why bytes are no picture: `decode.<reason>` and the error in words."""

    outcome: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    image: bytes
    size: tuple[int, int]
    reencoded: bool
    notes: tuple[str | None, ...] = ()
    asked: bool = False  # for the bytes whatever they are


def decode(
    data: bytes, *, max_pixels: int = MAX_PIXELS, encoding: Encoding | None = None
) -> Decoded | Undecodable:
    """Check an encoded image and bring it into the form to be stored; never raises on bad bytes,
    and any number of threads may call it.

    Decoders run in this very process, and may crash it: strangers' bytes are for
    `pipelines.images.isolated`.
    """
    try:
        header = read_header(data)
        if header is None:
            return _no_image(data)
        _limit(header.width, header.height, max_pixels)
        return _decoded(data, *_stored(data, header, encoding or AS_IT_COMES, max_pixels))
    except Damaged as error:
        return Undecodable(outcome=error.outcome, detail=str(error))
    except Image.DecompressionBombError as error:
        return Undecodable(outcome="decode.too_many_pixels", detail=str(error))
    except UnidentifiedImageError:
        return Undecodable(
            outcome="decode.corrupt", detail="begins like an image, yet its header cannot be read"
        )
    except MemoryError:
        return Undecodable(outcome=CRASHED, detail="needs more memory than it may take")
    except BROKEN as error:
        return _broken(error)


def decode_by_header(data: bytes, encoding: Encoding) -> Decoded | Undecodable | None:
    """The same where no decoder is needed, as of an ordinary JPEG that is whole and stored as it
    came; None: a decoder is to say.

    What a picture says of itself, such as its profile, is a matter of decoders too.
    """
    anew = encoding.size is not None or not encoding.keeps("JPEG")
    if anew or not data.startswith(b"\xff\xd8\xff") or tells_early(data):
        return None
    try:
        header = jpeg_header(data)
    except Damaged as error:
        return Undecodable(outcome=error.outcome, detail=str(error))
    if not header.whole or header.probe or header.width * header.height > MAX_PIXELS:
        return None
    kept = _kept(data, header, encoding)
    return _decoded(data, header, kept) if kept is not None else None


def read_header(data: bytes) -> Header | None:
    """What the bytes say of their picture; None if they are none of a known format, Damaged if they
    only begin like one.
    """
    for place, marks, read in READERS:
        if data.startswith(marks, place):
            return read(data)
    return avif_header(data) if is_avif(data) else None


def _limit(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise Damaged(
            "decode.too_many_pixels", f"{width} x {height} pixels, at most {max_pixels} are decoded"
        )


def _decoded(data: bytes, header: Header, stored: _Stored) -> Decoded:
    several = (
        "the first of several frames"
        if header.animated
        else "the first of several pictures"
        if header.pages
        else None
    )
    notes = [
        note for note in (header.note, *stored.notes, several if stored.reencoded else None) if note
    ]
    return Decoded(
        image_id=hashlib.sha256(data).hexdigest(),
        image=stored.image,
        width=stored.size[0],
        height=stored.size[1],
        original_width=header.width,
        original_height=header.height,
        original_bytes=len(data),
        format=header.kind,
        reencoded=stored.reencoded,
        animated=header.animated,
        note="; ".join(notes) or None,
    )


def _no_image(data: bytes) -> Undecodable:
    """Bytes of no format that is decoded: another kind of picture by its name, else something else,
    such as a page of HTML.
    """
    names = [name for place, mark, name in NAMED if data.startswith(mark, place)]
    names += [name for brand in brands(data) for start, name in HEIF if brand.startswith(start)]
    if names:
        return Undecodable(outcome="decode.unsupported", detail=f"{names[0]}, which is not decoded")
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        kind = "an SVG drawing, "
    elif start.startswith((b"<!doctype html", b"<html")):
        kind = "a page of HTML, "
    else:
        kind = "a PDF, " if start.startswith(b"%pdf") else ""
    return Undecodable(
        outcome="decode.not_an_image",
        detail=f"{kind}begins with {data[:16]!r}" if data else "no bytes at all",
    )


def _broken(error: BaseException) -> Undecodable:
    words = str(error).lower()
    truncated = any(
        word in words for word in ("truncated", "unexpected end", "not enough data", "premature")
    )
    return Undecodable(
        outcome="decode.truncated" if truncated else "decode.corrupt",
        detail=f"{type(error).__name__}: {error}"[:300],
    )


def _stored(
    data: bytes, header: Header, encoding: Encoding, max_pixels: int
) -> tuple[Header, _Stored]:
    """All that the header says once the decoder has seen it, and the picture as it is to be stored;
    it is known to be whole.
    """
    kept = _kept(data, header, encoding)
    if header.whole and kept is not None:
        return header, _readable(kept, header)
    with Image.open(io.BytesIO(header.body), formats=(header.kind,)) as image:
        header = _completed(header, image)
        _limit(*image.size, max_pixels)
        kept = _kept(data, header, encoding, image.mode)
        if kept is not None:
            # all of the stream is read, but an eighth of the pixels made: enough to find a
            # truncation
            if header.kind == "JPEG":
                image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            return header, _readable(kept, header)
        return header, _anew(image, header, encoding, max_pixels)


def _kept(
    data: bytes, header: Header, encoding: Encoding, mode: str | None = None
) -> _Stored | None:
    """The bytes as they came, if they may be stored so; `mode` is what the decoder makes of them,
    if it has seen them.
    """
    if encoding.keep_original:
        return _Stored(image=data, size=(header.width, header.height), reencoded=False, asked=True)
    if not header.plain or header.orientation != 1 or not encoding.keeps(header.kind):
        return None
    if encoding.fit(header.width, header.height) is not None or (
        mode is not None and mode not in KEPT_MODES.get(header.kind, ())
    ):
        return None
    alike, note = in_srgb(header.channels, header.profile)
    return (
        _Stored(image=data, size=(header.width, header.height), reencoded=False, notes=(note,))
        if alike
        else None
    )


def _readable(kept: _Stored, header: Header) -> _Stored:
    """The bytes as they came, or without their metadata where readers would stumble on these, or
    turn the picture by them.
    """
    if kept.asked or not header.probe:
        return kept
    said = [note for note in (header.note, *kept.notes) if note]  # a profile of no use
    fault = header.fault or trouble(header.probe, BROKEN) if not said else None
    if not said and fault is None:
        return kept
    return replace(
        kept,
        image=header.body,
        reencoded=True,
        notes=(*kept.notes, f"metadata left out: {fault}" if fault else None),
    )


def _completed(header: Header, image: Image.Image) -> Header:
    """What the decoder alone knows: the size, the profile, and in AVIF the turning and whether it
    moves.
    """
    width, height = image.size
    if header.kind == "TIFF" and header.orientation >= 5:  # Pillow turns a TIFF itself
        width, height = height, width
    said = replace(header, width=width, height=height)
    if header.kind in ("JPEG", "PNG", "WEBP"):
        return said
    profile = image.info.get("icc_profile") or None
    if header.kind != "AVIF":
        return replace(said, profile=profile)
    turning = orientation_of(image.info.get("exif", b""))
    return replace(
        said,
        profile=profile,
        orientation=turning,
        animated=bool(getattr(image, "is_animated", False)),
    )


def _anew(image: Image.Image, header: Header, encoding: Encoding, max_pixels: int) -> _Stored:
    """The picture decoded no larger than needed, made upright and opaque, fitted and encoded."""
    turned = header.orientation >= 5
    upright = (header.height, header.width) if turned else (header.width, header.height)
    fit = encoding.fit(*upright)
    target = upright if fit is None else fit.canvas or fit.size
    _limit(*target, max_pixels)
    hold(target, encoding, header.kind)
    if fit is not None and header.kind == "JPEG":
        image.draft(None, enough(fit, header))
    image.load()
    shown, note = opaque(image, header, header.profile)
    if header.orientation in TURNS and header.kind != "TIFF":
        shown = shown.transpose(TURNS[header.orientation])
    if fit is not None:
        shown = encoding.fitted(shown, fit, upright)
    return _Stored(
        image=encoding.encode(shown, header.kind), size=shown.size, reencoded=True, notes=(note,)
    )


def hold(size: tuple[int, int], encoding: Encoding, kind: str) -> None:
    """Damaged if the format that a picture of some kind is stored in holds none of that size."""
    name = encoding.becomes(kind)
    if max(size) > SIDES[name]:
        raise Damaged(
            "decode.too_many_pixels",
            f"{size[0]} x {size[1]} pixels, where {name} holds at most {SIDES[name]} a side",
        )


def enough(fit: Fit, header: Header) -> tuple[int, int]:
    """Pixels of the picture as coded from which a fit loses nothing."""
    left, upper, right, lower = fit.box
    scale = max(fit.size[0] / (right - left), fit.size[1] / (lower - upper))
    return max(1, round(header.width * scale)), max(1, round(header.height * scale))
