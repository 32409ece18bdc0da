"""What readers make of an image's metadata: some raise on them, some turn the picture by them,
where others pass them over.

An image is stored with its metadata only where Pillow, which most readers of Python sit on, opens
it with them, reads its EXIF, and turns nothing: browsers turn by EXIF alone, Pillow by XMP too and
by EXIF in hexadecimal texts of PNG.
"""

import io

from PIL import Image

from pipelines.images.directories import ORIENTATION, Directories

EXIF_BYTES = 1 << 20  # of EXIF data; a JPEG holds 64 KB
INNER = (0x8769, 0x8825)  # directories within the first: EXIF and GPS
COPIED = 1 << 24  # bytes of all values together that a reader copies

Raised = tuple[type[BaseException], ...]


def exif_fault(exif: bytes) -> str | None:
    """Why nobody should read such EXIF data at all."""
    if len(exif) > EXIF_BYTES:
        return f"EXIF of more than {EXIF_BYTES} bytes"
    try:
        copied = Directories(exif.removeprefix(b"Exif\0\0")).copied()
    except ValueError:
        return "EXIF that is no TIFF"
    return "EXIF whose directories point at more than they hold" if copied > COPIED else None


def trouble(probe: bytes, raised: Raised) -> str | None:
    """What a reader of these bytes stumbles on, in words; None if there is nothing. `raised` is
    what broken images raise.
    """
    caught: Raised = (*raised, MemoryError, Image.DecompressionBombError)
    try:
        with Image.open(io.BytesIO(probe)) as image:
            if image.format == "PNG":
                image.load()  # what stands behind the pixels
            exif = image.getexif()
            for directory in (exif, *(exif.get_ifd(tag) for tag in INNER)):
                for tag in list(directory):
                    directory.get(tag)
            turned = exif.get(ORIENTATION, 1)
    except caught as error:
        return f"{type(error).__name__}: {error}"[:200]
    return f"some readers turn it by {turned}" if turned in range(2, 9) else None
