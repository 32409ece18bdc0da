"""JPEGs of ordinary make from bytes to bytes in OpenCV alone, which spares copies between
libraries.

Pillow's pixels cost a copy each on the way to numpy, into OpenCV's order of colours and back: as
much as decoding a thumbnail. Both decode with libjpeg-turbo.
"""

import hashlib

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.images.colour import in_srgb
from pipelines.images.decode import MAX_PIXELS, Decoded, enough, hold
from pipelines.images.headers import Damaged, Header
from pipelines.images.jpeg import jpeg_header
from pipelines.img2dataset.resize import Resizing

# of its size in which libjpeg can make a picture, as Pillow's `draft` takes them
FRACTIONS = (8, 4, 2)
COLOUR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
Pixels = npt.NDArray[np.uint8]


def ordinary_jpeg(data: bytes, resizing: Resizing) -> Decoded | None:
    """A JPEG resized and encoded; None where anything about it is for `decode` to judge.

    It runs in a child, as all decoders do.
    """
    if not data.startswith(b"\xff\xd8\xff") or resizing.skip_reencode:
        return None
    try:
        header = jpeg_header(data)
        if not _is_ordinary(header):
            return None
        found = _resized(header, resizing)
    except Damaged:  # `decode` says it in words
        return None
    if found is None:
        return None
    image, (width, height) = found
    return Decoded(
        image_id=hashlib.sha256(data).hexdigest(),
        image=image,
        width=width,
        height=height,
        original_width=header.width,
        original_height=header.height,
        original_bytes=len(data),
        format="JPEG",
        reencoded=True,
    )


def _is_ordinary(header: Header) -> bool:
    """Whether it is whole, and its levels are those of sRGB."""
    if not (header.whole and header.plain) or header.width * header.height > MAX_PIXELS:
        return False
    return in_srgb(header.channels, header.profile)[0]


def _resized(header: Header, resizing: Resizing) -> tuple[bytes, tuple[int, int]] | None:
    """The bytes and the size of what becomes of a picture; None if OpenCV cannot decode it."""
    turned = header.orientation >= 5
    upright = (header.height, header.width) if turned else (header.width, header.height)
    fit = resizing.fit(*upright)
    hold(upright if fit is None else fit.canvas or fit.size, resizing, header.kind)

    least = (header.width, header.height) if fit is None else enough(fit, header)
    pixels = _decoded(header, least)
    if pixels is None:
        return None
    pixels = _upright(pixels, header.orientation)
    if fit is not None:
        pixels = resizing.pixels_fitted(pixels, fit, upright)
    return resizing.encoded(pixels), (pixels.shape[1], pixels.shape[0])


def _decoded(header: Header, least: tuple[int, int]) -> Pixels | None:
    """Pixels in the order of OpenCV, of the smallest fraction that has at least so many a side."""
    scale = min(header.width // least[0], header.height // least[1])
    fraction = next((one for one in FRACTIONS if one <= scale), 1)
    flag = (GREY if header.channels == 1 else COLOUR)[fraction]
    body = np.frombuffer(header.body, np.uint8)
    return cv2.imdecode(body, flag | cv2.IMREAD_IGNORE_ORIENTATION)  # type: ignore[return-value]


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels turned as an EXIF orientation says (EXIF 2.32, 4.6.4)."""
    if orientation in (5, 7):
        pixels = cv2.transpose(pixels)  # type: ignore[assignment]
    if orientation == 2:
        pixels = cv2.flip(pixels, 1)  # type: ignore[assignment]
    elif orientation == 4:
        pixels = cv2.flip(pixels, 0)  # type: ignore[assignment]
    elif orientation in (3, 7):
        pixels = cv2.rotate(pixels, cv2.ROTATE_180)  # type: ignore[assignment]
    elif orientation == 6:
        pixels = cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)  # type: ignore[assignment]
    elif orientation == 8:
        pixels = cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)  # type: ignore[assignment]
    return pixels
