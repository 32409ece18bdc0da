"""Images resized and encoded as img2dataset does it, from pixels that our decoder made.

The sizes are those of its resizer to the pixel, rounding included, and so are the interpolations
(OpenCV's) and the encoder. What our decoder does beforehand differs, for the better: pictures are
upright, in sRGB and in 8 bits scaled, and a truncated one is none.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from io import BytesIO

import cv2
import exifread
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.engine.children import Died, children
from pipelines.images.decode import CRASHED, MAX_PIXELS, Decoded, Undecodable, decode
from pipelines.images.encode import NAMES, Encoding, Fit
from pipelines.images.encode import Format as EncodeFormat
from pipelines.images.headers import Damaged
from pipelines.img2dataset.config import Img2datasetConfig

INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "bilinear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
    "lanczos4": cv2.INTER_LANCZOS4,
}
QUALITY = {
    "jpg": cv2.IMWRITE_JPEG_QUALITY,
    "png": cv2.IMWRITE_PNG_COMPRESSION,
    "webp": cv2.IMWRITE_WEBP_QUALITY,
}
EXIF_MARKS = (
    b"Exif",
    b"EXIF",
    b"eXIf",
    b"II*\0",
    b"MM\0*",
)  # without one of these there are no EXIF data
EXIF_READS = (
    20_000  # of an image; a photograph's tags take hundreds, those made to explode any number
)
EXIF_CHARACTERS = 1 << 16  # of their JSON; more is no description of a photograph
MISMATCH = "fetch.hash_mismatch"
Boxes = tuple[tuple[float, float, float, float], ...]  # left, top, right, bottom, each 0 to 1
Decode = Callable[[bytes], Decoded | Undecodable]
Pixels = npt.NDArray[np.uint8]

logging.getLogger("exifread").setLevel(
    logging.CRITICAL
)  # what it does not understand of a stranger's bytes is no news
cv2.setNumThreads(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resized(Decoded):
    """An image as it is written, with what is written of its bytes as they came."""

    exif: str | None = None
    hash: str | None = None


@dataclass(frozen=True, kw_only=True)
class Resizing(Encoding):
    """The resize modes of img2dataset; `size`, `format` and `quality` are always given."""

    mode: str
    size: int
    format: EncodeFormat
    quality: int
    upscale: str = "lanczos"
    downscale: str = "area"
    skip_reencode: bool = False
    min_side: int = 0
    max_area: float = float("inf")
    max_aspect: float = float("inf")
    boxes: Boxes = ()

    def __post_init__(self) -> None:
        """The configuration has checked what is given."""

    @classmethod
    def of(cls, config: Img2datasetConfig) -> "Resizing":
        return cls(
            mode=config.resize_mode,
            size=config.image_size,
            only_if_bigger=config.resize_only_if_bigger,
            format=config.encode_format,
            quality=config.encode_quality,
            upscale=config.upscale_interpolation,
            downscale=config.downscale_interpolation,
            skip_reencode=config.skip_reencode,
            min_side=config.min_image_size,
            max_area=config.max_image_area,
            max_aspect=config.max_aspect_ratio,
        )

    def fit(self, width: int, height: int) -> Fit | None:
        """How a picture is resized, and cut or padded to a canvas; Damaged if it is not wanted at all."""
        self._check(width, height)
        shorter = self.mode in ("keep_ratio", "center_crop")
        side = min(width, height) if shorter else max(width, height)
        box = (0.0, 0.0, float(width), float(height))
        if self.mode == "no" or (self.only_if_bigger and side <= self.size):
            return Fit(box=box, size=(width, height)) if self.boxes else None

        scale = self.size / side  # in this order, as albumentations computes it
        scaled = max(1, round(width * scale)), max(1, round(height * scale))
        if scaled[0] * scaled[1] > MAX_PIXELS:
            raise Damaged(
                "decode.too_many_pixels",
                f"{width} x {height} would become {scaled[0]} x {scaled[1]} pixels",
            )
        return Fit(
            box=box,
            size=scaled,
            canvas=(self.size, self.size) if self.mode in ("border", "center_crop") else None,
        )

    def _check(self, width: int, height: int) -> None:
        shorter, longer = sorted((width, height))
        if shorter < self.min_side:
            raise Damaged(
                "image.too_small",
                f"{width} x {height}, where the shorter side must have {self.min_side} pixels",
            )
        if width * height > self.max_area:
            raise Damaged(
                "image.too_large",
                f"{width} x {height}, where at most {self.max_area:.0f} pixels are wanted",
            )
        if longer / max(1, shorter) > self.max_aspect:
            raise Damaged(
                "image.aspect",
                f"{width} x {height}, where one side may be at most {self.max_aspect} of the other",
            )

    def keeps(self, kind: str) -> bool:
        return self.skip_reencode and not self.boxes and NAMES[self.format] == kind

    def fitted(self, image: Image.Image, fit: Fit, upright: tuple[int, int]) -> Image.Image:
        pixels = np.asarray(image)
        if pixels.shape[1::-1] != fit.size:
            grows = fit.size[0] * fit.size[1] >= upright[0] * upright[1]
            pixels = cv2.resize(
                pixels,
                fit.size,
                interpolation=INTERPOLATIONS[self.upscale if grows else self.downscale],
            )
        if self.boxes:
            pixels = _blurred(pixels, self.boxes)
        return Image.fromarray(pixels if fit.canvas is None else _laid_on(pixels, fit.canvas))

    def encode(self, image: Image.Image, kind: str) -> bytes:
        pixels = np.asarray(image)
        if pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(f".{self.format}", pixels, [QUALITY[self.format], self.quality])
        if not done:
            raise ValueError(
                f"OpenCV could not encode {image.width} x {image.height} pixels as {self.format}"
            )
        return bytes(data)


def _laid_on(pixels: Pixels, canvas: tuple[int, int]) -> Pixels:
    """Cut from the middle where a side is too long, and white around where it is too short."""
    for axis, side in ((0, canvas[1]), (1, canvas[0])):
        start = max(0, pixels.shape[axis] - side) // 2
        pixels = (
            pixels.take(range(start, start + side), axis) if pixels.shape[axis] > side else pixels
        )
    height, width = pixels.shape[:2]
    top, left = (canvas[1] - height) // 2, (canvas[0] - width) // 2
    white = (255, 255, 255)
    return cv2.copyMakeBorder(  # type: ignore[return-value]
        pixels,
        top,
        canvas[1] - height - top,
        left,
        canvas[0] - width - left,
        cv2.BORDER_CONSTANT,
        value=white,
    )


def _blurred(pixels: Pixels, boxes: Boxes) -> Pixels:
    from pipelines.img2dataset.peer import peer_module

    return peer_module("blurrer").BoundingBoxBlurrer()(pixels, boxes)  # type: ignore[no-any-return]


def resized(
    data: bytes, *, resizing: Encoding, exif: bool, hash: str | None
) -> Resized | Undecodable:
    """Decode, resize and encode an image; one that stays as it came is given without its bytes.

    To be called in a child process; with the encoding `keep_original` an image has only to decode.
    """
    picture = decode(data, encoding=resizing)
    if isinstance(picture, Undecodable):
        return picture
    own = {entry.name: getattr(picture, entry.name) for entry in fields(Decoded)}
    own["image"] = picture.image if picture.reencoded else b""
    return Resized(**own, exif=exif_of(data) if exif else None, hash=hash_of(data, hash))


def isolated(data: bytes, *, there: Decode) -> Decoded | Undecodable:
    """What a function makes of an image in a child process: a decoder that crashes costs the image."""
    (found,) = children().call(there, [data])
    if isinstance(found, Died):
        return Undecodable(outcome=CRASHED, detail=f"its decoder was stopped: {found.how}")
    if isinstance(found, Decoded) and not found.image:
        return replace(found, image=data)
    return found


def as_it_came(data: bytes, *, exif: bool, hash: str | None) -> Resized:
    """Bytes that nobody looks at, not even whether they are an image."""
    return Resized(
        image_id=hashlib.sha256(data).hexdigest(),
        image=data,
        width=0,
        height=0,
        original_width=0,
        original_height=0,
        original_bytes=len(data),
        format="",
        exif=exif_of(data) if exif else None,
        hash=hash_of(data, hash),
    )


def verified(
    data: bytes, *, decode: Decode, hash: str, wanted: frozenset[str]
) -> Decoded | Undecodable:
    """Decode an image only if its bytes have one of the wanted hashes."""
    if hash_of(data, hash) not in wanted:
        return Undecodable(outcome=MISMATCH, detail=f"its {hash} is not what the list says")
    return decode(data)


def decoder_of(config: Img2datasetConfig, wanted: frozenset[str] = frozenset()) -> Decode:
    """What is done with the bytes of some addresses, whose rows want these hashes."""
    exif, hash = config.extract_exif, config.compute_hash
    if config.disable_all_reencoding:
        decode: Decode = functools.partial(as_it_came, exif=exif, hash=hash)
    else:
        # where boxes are blurred, each row has its own: its image is resized when it is written
        boxed = config.bbox_col is not None
        encoding = Encoding(keep_original=True) if boxed else Resizing.of(config)
        there = functools.partial(resized, resizing=encoding, exif=exif, hash=hash)
        decode = functools.partial(isolated, there=there)
    if config.verify_hash is None:
        return decode
    return functools.partial(verified, decode=decode, hash=config.verify_hash[1], wanted=wanted)


def hash_of(data: bytes, kind: str | None) -> str | None:
    return hashlib.new(kind, data).hexdigest() if kind is not None else None


class _Reads(BytesIO):
    """Bytes that may be read so many times."""

    left = EXIF_READS

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"more than {EXIF_READS} reads for the EXIF data of one image")
        return super().read(size)


def exif_of(data: bytes) -> str | None:
    """EXIF data as img2dataset writes them: a JSON object of texts, null if they cannot be read."""
    marks = EXIF_MARKS[:1] if data.startswith(b"\xff\xd8") else EXIF_MARKS
    if not any(mark in data for mark in marks):
        return "{}"
    try:
        tags = exifread.process_file(_Reads(data), details=False)
        words = json.dumps(
            {name: str(value).strip() for name, value in tags.items() if value is not None}
        )
    except Exception:  # noqa: BLE001 - bytes that make a parser raise cost their description alone
        return None
    return words if len(words) <= EXIF_CHARACTERS else None
