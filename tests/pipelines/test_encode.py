"""Resizing and encoding: sizes and pixels exactly, one encoding at most, mistakes in words."""

import io
from typing import Any

import pytest
from PIL import Image

from pipelines.images.decode import Decoded, Undecodable, decode
from pipelines.images.encode import Encoding
from tests.pipelines.pictures import DISPLAY_P3, encoded, exif, gradient, rgb_profile
from tests.pipelines.web import jpeg


def stored(data: bytes, **options: Any) -> tuple[Decoded, Image.Image]:
    found = decode(data, encoding=Encoding(**options))
    assert isinstance(found, Decoded), found
    image = Image.open(io.BytesIO(found.image))
    image.load()
    assert image.size == (found.width, found.height)
    return found, image


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((40, 30), {}, (40, 30)),
        ((400, 300), {"resize": "keep_ratio", "size": 100}, (133, 100)),
        ((300, 400), {"resize": "keep_ratio", "size": 100}, (100, 133)),
        ((400, 300), {"resize": "keep_ratio_largest", "size": 100}, (100, 75)),
        ((400, 300), {"resize": "center_crop", "size": 100}, (100, 100)),
        ((400, 300), {"resize": "border", "size": 100}, (100, 100)),
        ((40, 30), {"resize": "keep_ratio", "size": 100}, (133, 100)),
        ((40, 30), {"resize": "keep_ratio", "size": 100, "only_if_bigger": True}, (40, 30)),
        ((400, 90), {"resize": "keep_ratio", "size": 100, "only_if_bigger": True}, (400, 90)),
        (
            (400, 90),
            {"resize": "keep_ratio_largest", "size": 100, "only_if_bigger": True},
            (100, 22),
        ),
        ((400, 90), {"resize": "center_crop", "size": 100, "only_if_bigger": True}, (400, 90)),
        ((40, 30), {"resize": "border", "size": 100, "only_if_bigger": True}, (40, 30)),
        ((40, 30), {"resize": "border", "size": 100}, (100, 100)),
        ((1000, 1), {"resize": "keep_ratio_largest", "size": 10}, (10, 1)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_sizes(
    size: tuple[int, int], options: dict[str, Any], expected: tuple[int, int], kind: str
) -> None:
    data = encoded(gradient(size=size), kind)
    found, image = stored(data, **options)
    assert image.size == expected
    assert (found.original_width, found.original_height) == size
    assert found.reencoded is (size != expected)
    assert (found.image == data) is (size == expected)
    assert image.format == kind


def test_a_picture_that_fits_is_kept() -> None:
    square = jpeg(224, 224)
    for options in (
        {"resize": "center_crop"},
        {"resize": "border"},
        {"resize": "keep_ratio"},
        {"resize": "keep_ratio_largest"},
    ):
        assert stored(square, size=224, format="jpg", quality=80, **options)[0].image == square
    assert stored(square, format="png")[1].format == "PNG"
    assert stored(encoded(gradient(), "PNG"), format="jpg")[1].format == "JPEG"
    assert stored(encoded(gradient(), "BMP"), format="webp")[1].format == "WEBP"
    assert stored(encoded(gradient(), "WEBP"), format="webp")[0].reencoded is False


def thirds() -> Image.Image:
    """Red, green and blue, a third each from left to right."""
    image = Image.new("RGB", (300, 100), "red")
    image.paste((0, 255, 0), (100, 0, 200, 100))
    image.paste((0, 0, 255), (200, 0, 300, 100))
    return image


def test_pixels_of_crop_and_border() -> None:
    crop = stored(encoded(thirds(), "PNG"), resize="center_crop", size=50)[1]
    assert [crop.getpixel(place) for place in ((2, 2), (47, 47), (25, 25))] == [(0, 255, 0)] * 3
    border = stored(encoded(thirds(), "PNG"), resize="border", size=60)[1]
    assert [
        border.getpixel(place) for place in ((30, 0), (30, 59), (5, 30), (30, 30), (55, 30))
    ] == [
        (255, 255, 255),
        (255, 255, 255),
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
    ]


def test_turned_and_shrunk_at_once() -> None:
    turned = encoded(
        thirds().transpose(Image.Transpose.ROTATE_90),
        "JPEG",
        exif=b"Exif\0\0" + exif(6),
        quality=95,
        subsampling=0,
    )
    found, image = stored(turned, resize="keep_ratio_largest", size=30)
    assert (found.original_width, found.original_height, image.size) == (100, 300, (30, 10))
    red, green, blue = (image.getpixel((x, 5)) for x in (3, 15, 27))
    for pixel, wanted in ((red, (254, 0, 0)), (green, (0, 255, 0)), (blue, (0, 0, 254))):
        assert isinstance(pixel, tuple)
        assert all(abs(value - other) < 12 for value, other in zip(pixel, wanted, strict=True))


def test_decoding_smaller_shows_the_same() -> None:
    """A JPEG decoded at half or a quarter of its size and then fitted differs little from one
    decoded whole.
    """
    large = Image.radial_gradient("L").resize((1000, 800), Image.Resampling.BICUBIC)
    picture = Image.merge(
        "RGB",
        (
            large,
            large.rotate(90).resize((1000, 800)),
            large.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        ),
    )
    data = encoded(picture, "JPEG", quality=95)
    small = stored(data, resize="keep_ratio", size=200)[1].convert("RGB").tobytes()
    whole = Image.open(io.BytesIO(data)).resize((250, 200), Image.Resampling.LANCZOS).tobytes()
    differences = [abs(one - other) for one, other in zip(small, whole, strict=True)]
    assert sum(differences) / len(differences) < 1.0  # levels of 255


def test_quality_says_how_finely() -> None:
    data = encoded(Image.effect_noise((200, 200), 80), "BMP")
    sizes = [len(stored(data, format="jpg", quality=quality)[0].image) for quality in (20, 95, 100)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    assert len(stored(data, format="png", quality=9)[0].image) <= len(
        stored(data, format="png", quality=0)[0].image
    )


def test_the_original_is_kept_on_request() -> None:
    wide = encoded(gradient(), "PNG", icc_profile=rgb_profile(DISPLAY_P3))
    moving = encoded(gradient(), "GIF", save_all=True, append_images=[gradient().rotate(90)])
    for data in (
        wide,
        moving,
        encoded(gradient("CMYK"), "JPEG"),
        encoded(gradient(), "JPEG", exif=b"Exif\0\0" + exif(6)),
    ):
        found = stored(data, keep_original=True)[0]
        assert (found.image == data, found.reencoded) == (True, False)
    cut = decode(wide[:-200], encoding=Encoding(keep_original=True))
    assert isinstance(cut, Undecodable)
    assert cut.outcome == "decode.truncated"


def test_no_size_explodes() -> None:
    """A line of 1 x 20,000 pixels must not become 5,000 x 100,000,000."""
    line = encoded(Image.new("L", (1, 20_000)), "PNG")
    found = decode(line, encoding=Encoding(resize="keep_ratio", size=5_000))
    assert isinstance(found, Undecodable)
    assert found.outcome == "decode.too_many_pixels"
    assert stored(line, resize="center_crop", size=100)[1].size == (100, 100)
    wide = decode(line, encoding=Encoding(format="webp"))
    assert wide == Undecodable(
        outcome="decode.too_many_pixels",
        detail="1 x 20000 pixels, where webp holds at most 16383 a side",
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"resize": "center"},
            (
                "resize is 'center': it must be one of none, border, keep_ratio,"
                " keep_ratio_largest, center_crop"
            ),
        ),
        ({"resize": "border"}, "resize is border and size is None: give both, or neither"),
        ({"size": 224}, "resize is none and size is 224: give both, or neither"),
        ({"resize": "border", "size": 0}, "size is 0: it must be 1 to 16383 pixels"),
        (
            {"only_if_bigger": True},
            "only_if_bigger says when to resize: give resize and size too, or leave it out",
        ),
        ({"format": "gif"}, "format is 'gif': it must be one of jpg, png, webp, or left out"),
        ({"quality": 0}, "quality is 0: for jpg it must be 1 to 100"),
        ({"format": "png", "quality": 95}, "quality is 95: for png it must be 0 to 9"),
        (
            {"keep_original": True, "format": "jpg"},
            "keep_original stores the bytes as they came: leave out resize, size, format",
        ),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        Encoding(**options)
