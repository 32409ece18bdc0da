"""Decoded pixels to one opaque picture in 8-bit sRGB: profiles through LittleCMS, 16 bits scaled to
8, transparency laid on white.
"""

import hashlib
import io
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from pipelines.images.headers import Header

TRANSFORMS = 64  # kept ready: a handful of profiles makes up nearly all pictures of the web
# levels of 255 by which no colour may move under a profile that is called sRGB; rounding alone
# moves them by one
ALIKE = 2
# colour space of a profile: the mode it describes
MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
BAND = 1 << 20  # pixels scaled at once
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")
Transform = ImageCms.ImageCmsTransform | str | None


class Profiles:
    """Transforms of profiles to sRGB, made once each; for several threads at once."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[bytes, str], Transform] = OrderedDict()
        self._lock = threading.Lock()
        self._srgb = ImageCms.createProfile("sRGB")

    def transform(self, profile: bytes, mode: str) -> Transform:
        """What takes pixels of `mode` (RGB, L, CMYK) to sRGB; None if they are sRGB already; a
        sentence if the profile is no use.
        """
        key = (hashlib.sha256(profile).digest(), mode)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = self._make(profile, mode)
        with self._lock:
            self._made[key] = made
            while len(self._made) > TRANSFORMS:
                self._made.popitem(last=False)
        return made

    def _make(self, profile: bytes, mode: str) -> Transform:
        try:
            opened = ImageCms.getOpenProfile(io.BytesIO(profile))
            space = opened.profile.xcolor_space.strip()
            described = MODES.get(space)
            if described is None or (described != mode and (described, mode) != ("RGB", "L")):
                return (
                    f"colour profile ignored: it is one of {space or 'no colours'}, the picture is"
                    f" {mode}"
                )
            made = ImageCms.buildTransform(opened, self._srgb, described, "RGB")
            return None if described != "CMYK" and _moves(made, described) <= ALIKE else made
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            return f"colour profile ignored: {error}"[:200]


def _moves(transform: ImageCms.ImageCmsTransform, mode: str) -> int:
    """The farthest that a transform moves a channel of any colour of a grid, in levels of 255."""
    if mode == "L":
        before = np.arange(256, dtype=np.uint8)[None, :]
        after = np.asarray(_applied(Image.fromarray(before), transform))
        return int(np.abs(after.astype(np.int16) - before[:, :, None]).max())
    steps = np.linspace(0, 255, 18).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
    after = np.asarray(_applied(Image.fromarray(grid), transform))
    return int(np.abs(after.astype(np.int16) - grid).max())


PROFILES = Profiles()


def in_srgb(channels: int, profile: bytes | None) -> tuple[bool, str | None]:
    """Whether pixels of one or three channels show the same colours without their profile, and what
    is to be said where it is no use.
    """
    transform = PROFILES.transform(profile, "L" if channels == 1 else "RGB") if profile else None
    return not isinstance(transform, ImageCms.ImageCmsTransform), (
        transform if isinstance(transform, str) else None
    )


def opaque(
    image: Image.Image, header: Header, profile: bytes | None
) -> tuple[Image.Image, str | None]:
    """A loaded picture in mode RGB or L, as a viewer shows it on white, and what is to be said of
    its profile.
    """
    flat, alpha = _eight_bits(image, header)
    flat, note = _to_srgb(flat, profile)
    if alpha is not None:
        below = Image.new(flat.mode, flat.size, "white")
        below.paste(flat, mask=alpha)
        flat = below
    if header.frame is not None:
        left, upper, right, lower = header.frame
        below = Image.new("RGB", flat.size, "white")
        below.paste(flat.crop(header.frame), (left, upper, right, lower))
        flat = below
    return flat, note


def _to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """A picture in RGB, L, CMYK or LAB to RGB or L."""
    if image.mode == "LAB":
        return _applied(image, _lab_to_srgb()), None
    transform = PROFILES.transform(profile, image.mode) if profile else None
    if isinstance(transform, ImageCms.ImageCmsTransform):
        grey = image.mode == "L"
        source = image.convert("RGB") if grey and transform.input_mode == "RGB" else image
        shown = _applied(source, transform)
        return (shown.getchannel("G") if grey and _is_grey(shown) else shown), None
    return image.convert("RGB") if image.mode == "CMYK" else image, transform


def _applied(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    shown = ImageCms.applyTransform(image, transform)
    assert shown is not None  # it is None where the picture itself is changed
    return shown


def _is_grey(image: Image.Image) -> bool:
    red, green, blue = image.split()
    return red.tobytes() == green.tobytes() == blue.tobytes()


def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )


def _eight_bits(image: Image.Image, header: Header) -> tuple[Image.Image, Image.Image | None]:
    """Colours in RGB, L, CMYK or LAB, and the opacity if any pixel may be clear."""
    if image.mode in DEEP:
        return _deep_grey(image, header)
    if image.mode == "F":
        return _levels(np.asarray(image)), None
    key = image.info.get("transparency")
    if header.bits == 16 and key is not None:  # Pillow gives the key in 16 bits beside pixels in 8
        image.info["transparency"] = (
            tuple(value >> 8 for value in key) if isinstance(key, tuple) else key >> 8
        )
    if image.has_transparency_data:
        clear = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return clear.convert("RGB"), clear.getchannel("A")
    return (
        (image, None)
        if image.mode in ("RGB", "L", "CMYK", "LAB")
        else (image.convert("L" if image.mode == "1" else "RGB"), None)
    )


def _deep_grey(image: Image.Image, header: Header) -> tuple[Image.Image, Image.Image | None]:
    """Grey of more than 8 bits, rounded to 8; one level of it may stand for clear."""
    values = np.asarray(image)
    deepest = (1 << (header.bits if 8 < header.bits < 16 else 16)) - 1
    if image.mode == "I" and values.max(initial=0) > deepest:
        deepest = (1 << 31) - 1
    grey = _rounded(values, 255 / deepest)
    key = image.info.get("transparency")
    clear = (
        Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
        if isinstance(key, int)
        else None
    )
    return Image.fromarray(grey), clear


def _levels(values: npt.NDArray[Any]) -> Image.Image:
    """Fractions of one if all are, else levels of 255; what is no number is black."""
    finite = np.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0)
    scale = 255.0 if finite.max(initial=0.0) <= 1.0 else 1.0
    return Image.fromarray(_rounded(finite, scale))


def _rounded(values: npt.NDArray[Any], scale: float) -> npt.NDArray[np.uint8]:
    """Values times a scale, rounded, some rows at a time: what lies between takes eight times the
    memory of the picture.
    """
    found = np.empty(values.shape, np.uint8)
    rows = max(1, BAND // max(1, values.shape[1]))
    for start in range(0, len(values), rows):
        found[start : start + rows] = np.clip(np.rint(values[start : start + rows] * scale), 0, 255)
    return found
