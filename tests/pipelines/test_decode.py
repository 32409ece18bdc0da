"""Bytes to stored pictures: what is kept as it came, what is encoded anew, and what is no
picture.
"""

import hashlib
import io
import threading
from typing import Any

import pytest
from PIL import Image, ImageCms

from pipelines.images.decode import Decoded, Undecodable, decode
from tests.pipelines.pictures import (
    DISPLAY_P3,
    SRGB,
    chunk,
    cmyk_profile,
    encoded,
    exif,
    gradient,
    grey_profile,
    png,
    png16,
    rgb_profile,
)
from tests.pipelines.web import jpeg


def picture(data: bytes) -> Decoded:
    found = decode(data)
    assert isinstance(found, Decoded), found
    return found


def shown(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture(data).image))


def outcome(data: bytes, **options: Any) -> str:
    found = decode(data, **options)
    assert isinstance(found, Undecodable), found
    return found.outcome


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (jpeg(), "JPEG"),
        (encoded(gradient("L"), "JPEG"), "JPEG"),
        (encoded(gradient(), "JPEG", progressive=True), "JPEG"),
        (encoded(gradient(), "PNG"), "PNG"),
        (encoded(gradient("L"), "PNG"), "PNG"),
        (encoded(gradient("P"), "PNG"), "PNG"),
        (encoded(gradient("1"), "PNG"), "PNG"),
        (encoded(gradient(), "WEBP"), "WEBP"),
    ],
)
def test_what_every_reader_shows_alike_is_kept(data: bytes, kind: str) -> None:
    found = picture(data)
    assert found.image == data
    assert (found.format, found.original_bytes, found.image_id) == (
        kind,
        len(data),
        hashlib.sha256(data).hexdigest(),
    )
    assert (found.width, found.height) == (found.original_width, found.original_height) == (40, 30)


@pytest.mark.parametrize(
    ("data", "kind", "stored"),
    [
        (encoded(gradient("CMYK"), "JPEG"), "JPEG", ("JPEG", "RGB")),
        (encoded(gradient("RGBA"), "PNG"), "PNG", ("PNG", "RGB")),
        (encoded(gradient("LA"), "PNG"), "PNG", ("PNG", "RGB")),
        (encoded(Image.new("RGBA", (40, 30), (9, 9, 9, 99)), "WEBP"), "WEBP", ("JPEG", "RGB")),
        (encoded(gradient("P"), "GIF"), "GIF", ("PNG", "RGB")),
        (encoded(gradient(), "BMP"), "BMP", ("PNG", "RGB")),
        (encoded(gradient(), "TIFF"), "TIFF", ("JPEG", "RGB")),
        (
            encoded(gradient("P"), "GIF", save_all=True, append_images=[gradient("P").rotate(180)]),
            "GIF",
            ("PNG", "RGB"),
        ),
        (
            encoded(gradient(), "PNG", save_all=True, append_images=[gradient().rotate(180)]),
            "PNG",
            ("PNG", "RGB"),
        ),
    ],
)
def test_what_readers_show_differently_is_encoded_anew(
    data: bytes, kind: str, stored: tuple[str, str]
) -> None:
    found = picture(data)
    image = shown(data)
    assert (found.format, image.format, image.mode.replace("L", "RGB")) == (kind, *stored)
    assert found.image_id == hashlib.sha256(data).hexdigest()
    assert image.size == (found.width, found.height) == (40, 30)
    assert getattr(image, "n_frames", 1) == 1


def close(found: Any, expected: tuple[int, ...], by: int = 3) -> bool:
    values = found if isinstance(found, tuple) else (found,) * 3
    return all(abs(value - wanted) <= by for value, wanted in zip(values, expected, strict=True))


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    assert shown(encoded(clear, "PNG")).getpixel((4, 4)) == (255, 255, 255)
    assert close(shown(encoded(half, "PNG")).getpixel((4, 4)), (255, 127, 127))
    keyed = encoded(Image.new("P", (8, 8), 0), "PNG", transparency=0)
    assert shown(keyed).getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("color_type", "samples", "expected"),
    [
        (0, (30000,), (117, 117, 117)),
        (2, (30000, 0, 65535), (117, 0, 255)),
        (6, (0, 30000, 0, 65535), (0, 117, 0)),
    ],
)
def test_sixteen_bits_become_eight(
    color_type: int, samples: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    data = png16(color_type, samples)
    image = shown(data)
    assert picture(data).image != data
    assert image.mode in ("L", "RGB")
    assert close(image.getpixel((4, 4)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = Image.new("RGB", (40, 20), "blue")
    upright.paste("red", (0, 0, 10, 10))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that a viewer's turn undoes
    turned = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(turned, "JPEG", quality=95, exif=exif)
    found, image = picture(data), shown(data)
    assert (found.width, found.height) == image.size == (40, 20)
    assert (found.original_width, found.original_height) == turned.size
    assert close(image.getpixel((2, 2)), (254, 0, 0), by=12)
    assert close(image.getpixel((37, 17)), (0, 0, 254), by=12)
    assert (found.image == data) is (orientation == 1)
    assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "decode.not_an_image"),
        (b"<html>", "decode.not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "decode.not_an_image"),
        (b"\xff\xd8\xff", "decode.corrupt"),
        (b"\x89PNG\r\n\x1a\nrubbish", "decode.corrupt"),
        (b"GIF89a", "decode.corrupt"),
        (jpeg(200, 200)[:600], "decode.truncated"),
        (jpeg(200, 200)[:-200], "decode.truncated"),
        (encoded(gradient(size=(200, 200)), "PNG")[:-200], "decode.truncated"),
        (encoded(gradient(), "GIF")[:-100], "decode.truncated"),
    ],
)
def test_what_is_no_picture(data: bytes, expected: str) -> None:
    assert outcome(data) == expected


def test_pixels_are_counted_before_they_are_made() -> None:
    assert outcome(jpeg(100, 100), max_pixels=9_999) == "decode.too_many_pixels"
    assert picture(jpeg(100, 100)).width == 100
    assert outcome(png(60_000, 60_000, 8, 2, b"")) == "decode.too_many_pixels"
    assert outcome(png(10_000, 10_000, 8, 2, b"")) == "decode.too_many_pixels"
    assert outcome(png(2**31 - 1, 2**31 - 1, 8, 2, b"")) == "decode.too_many_pixels"


# two across, three down
UPRIGHT = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255), (128, 128, 128)]
# what is stored so that a viewer who turns it by its orientation shows UPRIGHT: pixels across,
# indices of UPRIGHT row by row
CODED = {
    1: (2, (0, 1, 2, 3, 4, 5)),
    2: (2, (1, 0, 3, 2, 5, 4)),
    3: (2, (5, 4, 3, 2, 1, 0)),
    4: (2, (4, 5, 2, 3, 0, 1)),
    5: (3, (0, 2, 4, 1, 3, 5)),
    6: (3, (1, 3, 5, 0, 2, 4)),
    7: (3, (5, 3, 1, 4, 2, 0)),
    8: (3, (4, 2, 0, 5, 3, 1)),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "AVIF"])
def test_every_orientation_to_the_pixel(kind: str, orientation: int, order: str) -> None:
    across, indices = CODED[orientation]
    coded = Image.new("RGB", (across, 6 // across))
    coded.putdata([UPRIGHT[index] for index in indices])
    options: dict[str, Any] = {
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    }.get(kind, {})
    if kind == "TIFF":
        options = {"tiffinfo": {0x0112: orientation}}
    else:
        options["exif"] = b"Exif\0\0" + exif(orientation, order)
    data = encoded(coded, kind, **options)
    found = picture(data)
    assert (found.width, found.height, found.original_width) == (2, 3, across)
    if kind == "PNG":
        assert list(shown(data).convert("RGB").get_flattened_data()) == UPRIGHT
    else:  # stored as JPEG
        red, grey = shown(data).getpixel((0, 0)), shown(data).getpixel((1, 2))
        assert close(red, (255, 0, 0), by=60)
        assert close(grey, (128, 128, 128), by=60)
    assert found.reencoded is not (found.image == data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png16(0, (0x7FFF,)), 127),
        (png16(0, (0x8080,)), 128),
        (png16(0, (0xFFFF,)), 255),
        (png16(0, (0x7FFF,), 8, chunk(b"tRNS", b"\x7f\xff")), 255),  # that grey is clear
        (png16(0, (0x7FFF,), 8, chunk(b"tRNS", b"\x7f\xfe")), 127),  # another is
        (png16(2, (0x7FFF, 0, 0xFFFF)), (127, 0, 255)),
        (
            png16(2, (0x7FFF, 0, 0xFFFF), 8, chunk(b"tRNS", b"\x7f\xff\0\0\xff\xff")),
            (255, 255, 255),
        ),
        (png16(4, (0, 0x8000)), (127, 127, 127)),  # half black on white
        (png16(6, (0xFFFF, 0, 0, 0x8000)), (255, 127, 127)),
        (png(2, 1, 1, 0, b"\0\x40"), 0),
        (png(2, 1, 4, 0, b"\0\x80"), 136),
        (png(2, 1, 8, 4, b"\0\0\0\0\0"), 255),
        (
            png(
                1, 1, 8, 3, b"\0\1", chunk(b"PLTE", b"\0\0\0\xff\0\0"), chunk(b"tRNS", b"\xff\x80")
            ),
            (255, 127, 127),
        ),
        (encoded(Image.new("I;16", (4, 4), 0x7FFF), "TIFF"), 127),
        (encoded(Image.new("F", (4, 4), 0.5), "TIFF"), 128),
        (encoded(Image.new("F", (4, 4), 77.0), "TIFF"), 77),
        (encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "TIFF"), (255, 255, 255)),
        (encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 255)), "TIFF"), (0, 0, 0)),
        (encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=100), (0, 255, 255)),
        (encoded(Image.new("CMYK", (16, 16), (0, 255, 0, 0)), "JPEG", quality=100), (255, 0, 255)),
        (encoded(Image.new("CMYK", (16, 16), (0, 0, 255, 0)), "JPEG", quality=100), (255, 255, 0)),
        (encoded(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF"), (255, 255, 255)),
    ],
)
def test_exact_pixels(data: bytes, expected: Any) -> None:
    pixel = shown(data).convert("RGB").getpixel((0, 0))
    assert close(
        pixel,
        expected if isinstance(expected, tuple) else (expected,) * 3,
        by=0 if b"PNG" in data[:8] else 1,
    ), pixel


def test_a_gif_frame_smaller_than_its_canvas_lies_on_white() -> None:
    small = encoded(Image.new("P", (2, 2), 0), "GIF", palette=bytes((255, 0, 0)) + bytes(765))
    place = small.index(b",")
    data = small[:6] + b"\4\0\4\0" + small[10:place] + b",\1\0\1\0" + small[place + 5 :]
    white, red = (255, 255, 255), (255, 0, 0)
    assert [shown(data).convert("RGB").getpixel((step, step)) for step in range(4)] == [
        white,
        red,
        red,
        white,
    ]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_colours_of_display_p3_become_those_of_srgb(kind: str) -> None:
    source = Image.new("RGB", (16, 16), (200, 100, 50))
    data = encoded(
        source,
        kind,
        icc_profile=rgb_profile(DISPLAY_P3),
        **({"quality": 100} if kind != "PNG" else {}),
    )
    wide, srgb = (
        ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(DISPLAY_P3))),
        ImageCms.createProfile("sRGB"),
    )
    expected = ImageCms.profileToProfile(source, wide, srgb, outputMode="RGB")
    assert expected is not None
    assert close(expected.getpixel((8, 8)), (215, 93, 31), by=1)
    assert close(shown(data).getpixel((8, 8)), (215, 93, 31), by=4)
    assert picture(data).reencoded
    assert "icc_profile" not in shown(data).info


def test_red_of_display_p3_is_red() -> None:
    data = encoded(
        Image.new("RGB", (8, 8), (255, 0, 0)), "PNG", icc_profile=rgb_profile(DISPLAY_P3)
    )
    assert shown(data).getpixel((4, 4)) == (255, 0, 0)  # beyond sRGB: its nearest
    dull = encoded(
        Image.new("RGB", (8, 8), (180, 60, 60)), "PNG", icc_profile=rgb_profile(DISPLAY_P3)
    )
    # by the matrices of CSS Color 4
    assert close(shown(dull).getpixel((4, 4)), (195, 47, 54), by=1)


def test_a_profile_of_srgb_changes_nothing() -> None:
    for icc in (
        rgb_profile(SRGB),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    ):
        for kind, mode in (("JPEG", "RGB"), ("PNG", "RGB"), ("WEBP", "RGB"), ("JPEG", "L")):
            data = encoded(gradient(mode), kind, icc_profile=icc)
            assert (picture(data).image == data, picture(data).note) == (True, None)


def test_grey_and_printing_profiles() -> None:
    grey = encoded(Image.new("L", (8, 8), 128), "PNG", icc_profile=grey_profile(1.0))
    assert shown(grey).mode == "L"
    assert close(shown(grey).getpixel((4, 4)), (188, 188, 188), by=1)
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    expected = ImageCms.profileToProfile(
        inks, io.BytesIO(cmyk_profile()), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert expected is not None
    value = expected.getpixel((4, 4))
    assert isinstance(value, tuple)
    assert close(value, (198, 198, 198), by=2)  # lightness 80
    assert close(
        shown(encoded(inks, "JPEG", icc_profile=cmyk_profile(), quality=100)).getpixel((4, 4)),
        value,
        by=2,
    )
    assert close(
        shown(encoded(inks, "TIFF", icc_profile=cmyk_profile())).getpixel((4, 4)), value, by=2
    )


@pytest.mark.parametrize(
    ("icc", "words"),
    [
        (b"rubbish", "colour profile ignored: "),
        (cmyk_profile(), "colour profile ignored: it is one of CMYK, the picture is RGB"),
    ],
)
def test_a_profile_of_no_use_is_left_out_and_said_so(icc: bytes, words: str) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encoded(gradient(), kind, icc_profile=icc)
        found = picture(data)
        assert (found.note or "").startswith(words)
        assert found.reencoded
        assert "icc_profile" not in shown(data).info
        # nothing else is gone
        assert (
            shown(data).convert("RGB").tobytes()
            == Image.open(io.BytesIO(data)).convert("RGB").tobytes()
        )


def test_animation_is_said() -> None:
    frames = [gradient().rotate(180), gradient().rotate(90)]
    for kind in ("GIF", "PNG", "WEBP", "AVIF"):
        found = picture(encoded(gradient(), kind, save_all=True, append_images=frames))
        assert (found.animated, found.note, found.reencoded) == (
            True,
            "the first of several frames",
            True,
        ), kind
    pages = picture(encoded(gradient(), "TIFF", save_all=True, append_images=frames))
    assert (pages.animated, pages.note) == (False, "the first of several pictures")
    assert not picture(encoded(gradient("P"), "GIF")).animated


def test_the_first_frame_is_what_is_stored() -> None:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for kind in ("GIF", "PNG", "WEBP", "AVIF"):
        assert close(
            shown(encoded(red, kind, save_all=True, append_images=[blue])).getpixel((4, 4)),
            (254, 0, 0),
            by=4,
        ), kind


@pytest.mark.parametrize(
    ("data", "expected", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "decode.unsupported", "HEIC, which is not decoded"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "decode.unsupported", "JPEG 2000, which is not decoded"),
        (b"%PDF-1.7", "decode.not_an_image", "a PDF, begins with b'%PDF-1.7'"),
        (
            b"<?xml version='1.0'?><svg/>",
            "decode.not_an_image",
            'an SVG drawing, begins with b"<?xml version=\'1"',
        ),
        (
            b"\n<!DOCTYPE HTML>",
            "decode.not_an_image",
            "a page of HTML, begins with b'\\n<!DOCTYPE HTML>'",
        ),
        (b"P6 1 1 255 abc", "decode.not_an_image", "begins with b'P6 1 1 255 abc'"),
    ],
)
def test_other_things_are_named(data: bytes, expected: str, words: str) -> None:
    assert decode(data) == Undecodable(outcome=expected, detail=words)


def test_threads_find_the_same() -> None:
    wide = encoded(gradient(), "JPEG", icc_profile=rgb_profile(DISPLAY_P3))
    data = [wide, encoded(gradient("RGBA"), "PNG"), jpeg(), encoded(gradient(), "WEBP")]
    expected = [decode(one) for one in data]
    wrong: list[object] = []

    def work() -> None:
        for _ in range(20):
            wrong.extend(
                found
                for one, wanted in zip(data, expected, strict=True)
                if (found := decode(one)) != wanted
            )

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
