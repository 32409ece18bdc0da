"""The modules of img2dataset that are used here, without the package around them.

`import img2dataset` brings Weights & Biases, albumentations and, by webdataset, torch: nine seconds
of CPU in each process, of which its writers need less than one.
"""

import functools
import importlib.util
import os
import sys
from typing import Any


@functools.cache
def peer_module(name: str) -> Any:
    """A module of img2dataset by its file."""
    package = importlib.util.find_spec("img2dataset")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = os.path.join(package.submodule_search_locations[0], f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"{__name__}.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    hidden = "torch" not in sys.modules
    if hidden:
        # webdataset does without torch where there is none
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        spec.loader.exec_module(module)
    finally:
        if hidden:
            del sys.modules["torch"]
    return module
