"""Image libraries that would print what they make of each broken file: each has its outcome, and a
terminal is no place for them.
"""

import ctypes
import logging
from pathlib import Path

import PIL


def hush() -> None:
    """Silence Pillow's log, and the libtiff that its wheels bring, which writes to the standard
    error by itself.
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    for library in Path(PIL.__file__).parent.parent.glob("pillow.libs/libtiff*.so*"):
        tiff = ctypes.CDLL(str(library))  # the one that Pillow has loaded or will load
        tiff.TIFFSetErrorHandler(None)
        tiff.TIFFSetWarningHandler(None)
