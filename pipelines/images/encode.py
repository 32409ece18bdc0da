"""How pictures are stored: as they came, or resized and encoded anew. The modes of resizing carry
img2dataset's names and mean the same.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from PIL import Image

Resize = Literal["none", "border", "keep_ratio", "keep_ratio_largest", "center_crop"]
Format = Literal["jpg", "png", "webp"]
NAMES: dict[Format, str] = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}  # Pillow's
# of a PNG the compression, which changes no pixel
QUALITIES = {"jpg": (1, 100), "png": (0, 9), "webp": (1, 100)}
DEFAULTS = {"jpg": 95, "png": 6, "webp": 95}  # img2dataset's default for JPEG
# of which an encoding anew must not lose more than is lost already
LOSSLESS = frozenset({"PNG", "GIF", "BMP", "ICO"})
FINE = 90  # JPEG quality from which colours are kept at full resolution
# pixels, what libjpeg, PNG and WebP hold
SIDES: dict[Format, int] = {"jpg": 65_500, "png": 2**31 - 1, "webp": 16_383}

assert set(NAMES) == set(get_args(Format))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A resizing: what is taken of the picture, what it becomes, and the canvas it is laid on."""

    # left, upper, right, lower, in pixels of the upright picture
    box: tuple[float, float, float, float]
    size: tuple[int, int]
    canvas: tuple[int, int] | None = None  # white, with the picture in the middle


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What is stored of a picture. By default its bytes as they came wherever every reader shows
    them alike, else one encoding anew.

    resize: `none`; `keep_ratio`: the shorter side becomes `size`; `keep_ratio_largest`: the longer
        side does; `center_crop`: as keep_ratio, and a square is cut from the middle; `border`: as
        keep_ratio_largest, and white makes it a square
    only_if_bigger: leave a picture as it is where the side that `resize` looks at is no longer
        than `size`
    format: of every stored picture; None: as they came, and what is encoded anew is PNG if its
        source was lossless, else JPEG
    quality: 1 to 100 for jpg and webp (95), compression 0 to 9 for png (6); only for what is
        encoded anew
    keep_original: the fetched bytes are stored whatever they are, once they are known to decode
    """

    resize: Resize = "none"
    size: int | None = None
    only_if_bigger: bool = False
    format: Format | None = None
    quality: int | None = None
    keep_original: bool = False

    def __post_init__(self) -> None:
        if self.resize not in get_args(Resize):
            raise ValueError(
                f"resize is {self.resize!r}: it must be one of {', '.join(get_args(Resize))}"
            )
        if self.format is not None and self.format not in NAMES:
            raise ValueError(
                f"format is {self.format!r}: it must be one of {', '.join(NAMES)}, or left out"
            )
        if (self.resize == "none") != (self.size is None):
            raise ValueError(
                f"resize is {self.resize} and size is {self.size}: give both, or neither"
            )
        if self.size is not None and not 1 <= self.size <= SIDES["webp"]:
            raise ValueError(f"size is {self.size}: it must be 1 to {SIDES['webp']} pixels")
        if self.only_if_bigger and self.resize == "none":
            raise ValueError(
                "only_if_bigger says when to resize: give resize and size too, or leave it out"
            )
        self._check_quality()
        if self.keep_original and (
            self.size is not None or self.format is not None or self.quality is not None
        ):
            raise ValueError(
                "keep_original stores the bytes as they came: leave out resize, size, format and"
                " quality, or keep_original"
            )

    def _check_quality(self) -> None:
        lowest, highest = QUALITIES[self.format or "jpg"]
        if self.quality is not None and not lowest <= self.quality <= highest:
            raise ValueError(
                f"quality is {self.quality}: for {self.format or 'jpg'} it must be {lowest} to"
                f" {highest}"
            )

    def fit(self, width: int, height: int) -> Fit | None:
        """How an upright picture of that size is resized; None if it stays as it is."""
        if self.size is None:
            return None
        shorter = self.resize in ("keep_ratio", "center_crop")
        side = min(width, height) if shorter else max(width, height)
        if self.only_if_bigger and side <= self.size:
            return None
        scaled = max(1, round(width * self.size / side)), max(1, round(height * self.size / side))
        square = (self.size, self.size)
        if self.resize == "center_crop":
            left, upper = (width - side) / 2, (height - side) / 2
            fit = Fit(box=(left, upper, left + side, upper + side), size=square)
        else:
            fit = Fit(
                box=(0, 0, width, height),
                size=scaled,
                canvas=square if self.resize == "border" else None,
            )
        return None if (fit.canvas or fit.size) == (width, height) else fit

    def keeps(self, kind: str) -> bool:
        """Whether bytes in that format (JPEG, PNG, WEBP) may stay as they are."""
        return self.format is None or NAMES[self.format] == kind

    def becomes(self, kind: str) -> Format:
        """The format that a picture of that format is stored in when it is encoded anew."""
        return self.format or ("png" if kind in LOSSLESS else "jpg")

    def fitted(self, image: "Image.Image", fit: Fit, upright: tuple[int, int]) -> "Image.Image":
        """A picture resized; it may have been decoded smaller than the `upright` size that the fit
        was made for.
        """
        return fitted(image, fit, upright)

    def encode(self, image: "Image.Image", kind: str) -> bytes:
        """A picture in mode RGB or L as bytes; `kind` is the format it came in."""
        name = self.becomes(kind)
        quality = (
            self.quality
            if self.quality is not None and name == (self.format or "jpg")
            else DEFAULTS[name]
        )
        image.info = {}  # profile, transparency and comments belong to the bytes it came in
        buffer = io.BytesIO()
        if name == "png":
            image.save(buffer, "PNG", compress_level=quality)
        elif name == "webp":
            image.save(buffer, "WEBP", quality=quality, method=4)
        else:
            image.save(buffer, "JPEG", quality=quality, subsampling=0 if quality >= FINE else 2)
        return buffer.getvalue()


def fitted(image: "Image.Image", fit: Fit, upright: tuple[int, int]) -> "Image.Image":
    """A picture resized; it may have been decoded smaller than the `upright` size that the fit was
    made for.
    """
    from PIL import Image

    across, down = image.width / upright[0], image.height / upright[1]
    left, upper, right, lower = fit.box
    box = (
        left * across,
        upper * down,
        min(right * across, image.width),
        min(lower * down, image.height),
    )
    grows = fit.size[0] > right - left
    small = image.resize(
        fit.size,
        Image.Resampling.LANCZOS if grows else Image.Resampling.BICUBIC,
        box=box,
        reducing_gap=3.0,
    )
    if fit.canvas is None:
        return small
    canvas = Image.new(small.mode, fit.canvas, "white")
    canvas.paste(small, ((fit.canvas[0] - small.width) // 2, (fit.canvas[1] - small.height) // 2))
    return canvas
