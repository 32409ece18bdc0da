"""Whatever a decoder raises of a broken picture is one kind of error."""

import contextlib
import io

import pytest
from PIL import Image, ImageFile

from tests.training.worlds import picture
from training.data.decode import open_image
from training.data.images import ImageSpec


@pytest.mark.parametrize(
    "wrong",
    [
        RuntimeError("frame 0"),
        NotImplementedError("of AVIF"),
        KeyError("a colour"),
        ZeroDivisionError("of nothing"),
        Image.DecompressionBombError("large"),
    ],
)
def test_whatever_a_decoder_raises(monkeypatch: pytest.MonkeyPatch, wrong: Exception) -> None:
    def load(*_: object) -> None:
        raise wrong

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(OSError, match=f"^{type(wrong).__name__}: "):
        open_image(picture("red", "square", 0))


@pytest.mark.parametrize("at", range(40, 400, 24))
def test_damaged_avif(at: int) -> None:
    whole = io.BytesIO()
    Image.effect_noise((40, 40), 90).save(whole, "AVIF")
    damaged = bytearray(whole.getvalue())
    damaged[at : at + 4] = bytes(255 - one for one in damaged[at : at + 4])
    for data in (bytes(damaged), whole.getvalue()[:at]):
        with contextlib.suppress(OSError):
            assert ImageSpec(size=8).pixels(data).shape == (8, 8, 3)
