"""Images resized and encoded as img2dataset does it, from pixels that our decoder made.

The sizes are those of its resizer to the pixel, rounding included, and so are the interpolations
(OpenCV's) and the encoder. What our decoder does beforehand differs, for the better: pictures are
upright, in sRGB and in 8 bits scaled, and a truncated one is none.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.images.decode import MAX_PIXELS
from pipelines.images.encode import NAMES, Encoding, Fit
from pipelines.images.encode import Format as EncodeFormat
from pipelines.images.headers import Damaged

if TYPE_CHECKING:  # it brings pydantic, which decoding children need not import
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
Boxes = tuple[tuple[float, float, float, float], ...]  # left, top, right, bottom, each 0 to 1
Pixels = npt.NDArray[np.uint8]
cv2.setNumThreads(1)


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
    def of(cls, config: "Img2datasetConfig") -> "Resizing":
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
        """How a picture is resized, and cut or padded to a canvas; Damaged if it is not wanted at
        all.
        """
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
        return Image.fromarray(self.pixels_fitted(np.asarray(image), fit, upright))

    def pixels_fitted(self, pixels: Pixels, fit: Fit, upright: tuple[int, int]) -> Pixels:
        """Pixels resized, in whatever order their colours are; there may be fewer than
        `upright`.
        """
        if pixels.shape[1::-1] != fit.size:
            grows = fit.size[0] * fit.size[1] >= upright[0] * upright[1]
            pixels = cv2.resize(  # type: ignore[assignment]
                pixels,
                fit.size,
                interpolation=INTERPOLATIONS[self.upscale if grows else self.downscale],
            )
        if self.boxes:
            pixels = _blurred(pixels, self.boxes)
        return pixels if fit.canvas is None else _laid_on(pixels, fit.canvas)

    def encode(self, image: Image.Image, kind: str) -> bytes:
        pixels = np.asarray(image)
        if pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        return self.encoded(pixels)

    def encoded(self, pixels: Pixels) -> bytes:
        """Grey levels, or blue, green and red, as bytes."""
        done, data = cv2.imencode(f".{self.format}", pixels, [QUALITY[self.format], self.quality])
        if not done:
            height, width = pixels.shape[:2]
            raise ValueError(f"OpenCV could not encode {width} x {height} pixels as {self.format}")
        return data.tobytes()


def _laid_on(pixels: Pixels, canvas: tuple[int, int]) -> Pixels:
    """Cut from the middle where a side is too long, and white around where it is too short."""
    width, height = canvas
    top, left = (max(0, pixels.shape[axis] - canvas[1 - axis]) // 2 for axis in (0, 1))
    pixels = pixels[top : top + height, left : left + width]
    above, before = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    white = (255, 255, 255)
    return cv2.copyMakeBorder(  # type: ignore[return-value]
        pixels,
        above,
        height - pixels.shape[0] - above,
        before,
        width - pixels.shape[1] - before,
        cv2.BORDER_CONSTANT,
        value=white,
    )


def _blurred(pixels: Pixels, boxes: Boxes) -> Pixels:
    from pipelines.img2dataset.peer import peer_module

    return peer_module("blurrer").BoundingBoxBlurrer()(pixels, boxes)  # type: ignore[no-any-return]
