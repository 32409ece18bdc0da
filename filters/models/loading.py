"""Models that the user gives: where their files lie, what identifies them, where they run, and
batches of one size.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from filters.base import Each, here
from filters.given_models import Given
from filters.image.pixels import rgb

if TYPE_CHECKING:
    import torch

FLOATS = NDArray[np.float32]
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".npz")
SHORTEST, LONGEST = 16, 512  # tokens of a text
BESIDE = (".json", ".txt", ".model")  # settings, vocabularies, tokenizers


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where models run, and how many rows at a time: both are part of what a score depends on, to
    the last bit.
    """

    device: str  # cpu, cuda, cuda:1
    batch: int

    @classmethod
    def of(cls, given: Given) -> "Place":
        """Where `device` says; `auto` is the first CUDA device if there is one. ValueError where
        CUDA is asked for and absent.
        """
        import torch

        found = torch.cuda.is_available()
        if given.device == "auto":
            return cls(device="cuda" if found else "cpu", batch=given.batch)
        if not given.device.startswith(("cpu", "cuda")):
            raise ValueError(f"--device {given.device} is not known: auto, cpu or cuda")
        if given.device.startswith("cuda") and not found:
            raise ValueError(
                "--device cuda: this machine shows no CUDA device; use --device auto or cpu"
            )
        return cls(device=given.device, batch=given.batch)

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def config(self) -> dict[str, Any]:
        """What of this place shows in the scores."""
        return {"arithmetic": "bfloat16" if self.cuda else "float32", "batch": self.batch}

    def run(self, function: "Callable[..., torch.Tensor]", *rows: "torch.Tensor") -> FLOATS:
        """What `function` gives for at most `batch` rows of each tensor [n, …], filled up to
        `batch` with copies of the first: [n, …].
        """
        import torch

        count = len(rows[0])
        assert 0 < count <= self.batch, f"{count} rows for a batch of {self.batch}"
        filled = [
            torch.cat([tensor, tensor[:1].expand(self.batch - count, *tensor.shape[1:])]).to(
                self.device
            )
            for tensor in rows
        ]
        with (
            torch.inference_mode(),
            torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.cuda),
        ):
            return np.asarray(function(*filled)[:count].float().cpu().numpy(), dtype=np.float32)


def each_image(
    images: pa.Array,
    prepare: "Callable[[Image.Image], torch.Tensor]",
    function: "Callable[[torch.Tensor], torch.Tensor]",
    place: Place,
    each: Each = here,
) -> tuple[NDArray[np.int64], FLOATS]:
    """The rows whose image can be decoded [n], and what `function` gives for their prepared
    pictures [n, …], in batches of one size.
    """
    import torch

    where: list[int] = []
    values: list[FLOATS] = []
    threads = min(16, cpu_count() or 1) if place.cuda else 1
    with ThreadPoolExecutor(threads) as pool:
        for rows in _chunks(np.flatnonzero(images.is_valid()).tolist(), place.batch):
            tensors: list[torch.Tensor | None] = []
            for few in _chunks(rows, 2 * threads):  # no more whole pictures lie in memory
                pixels = each(rgb, (images[row].as_py() for row in few))
                tensors += pool.map(lambda one: _prepared(one, prepare), pixels)
            fit = [
                (row, tensor)
                for row, tensor in zip(rows, tensors, strict=True)
                if tensor is not None
            ]
            if fit:
                where += [row for row, _ in fit]
                values.append(place.run(function, torch.stack([tensor for _, tensor in fit])))
    return np.array(where, dtype=np.int64), (
        np.concatenate(values) if values else np.zeros((0, 0), np.float32)
    )


def _prepared(
    pixels: NDArray[np.uint8] | None, prepare: "Callable[[Image.Image], torch.Tensor]"
) -> "torch.Tensor | None":
    """None too for what a model does not take, such as a picture of one pixel."""
    if pixels is None:
        return None
    try:
        return prepare(Image.fromarray(pixels))
    except ValueError:
        return None


def each_text(
    coded: Sequence[Sequence[int]],
    pad: int,
    longest: int,
    function: "Callable[..., torch.Tensor]",
    place: Place,
) -> Iterator[tuple[Sequence[int], FLOATS]]:
    """Some rows of tokenized texts, and what `function` (of token ids and attention mask) gives for
    them [n, …], in batches of one size.

    A text is filled up to the next power of two of tokens, at most `longest`, so that what it gives
    depends on no other text.
    """
    import torch

    lengths = np.array(
        [min(longest, max(SHORTEST, 1 << (len(ids) - 1).bit_length())) for ids in coded],
        dtype=np.int64,
    )
    for length in np.unique(lengths):
        for rows in _chunks(np.flatnonzero(lengths == length).tolist(), place.batch):
            ids = torch.full((len(rows), int(length)), pad)
            mask = torch.zeros_like(ids)
            for line, row in enumerate(rows):
                ids[line, : len(coded[row])] = torch.tensor(coded[row])
                mask[line, : len(coded[row])] = 1
            yield rows, place.run(function, ids, mask)


def longest_text(model: Any, tokenizer: Any) -> int:
    """How many tokens of a text a model reads."""
    # some models count places from 2
    places = getattr(model.config, "max_position_embeddings", LONGEST + 2) - 2
    return int(min(LONGEST, places, tokenizer.model_max_length))


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def spread(
    where: NDArray[np.int64], values: NDArray[Any], rows: int, kind: pa.DataType
) -> pa.Array:
    """A column of so many rows with these values at these rows and null elsewhere."""
    taken = np.full(rows, -1, dtype=np.int64)
    taken[where] = np.arange(len(where))
    return pa.array(values).cast(kind).take(pa.array(taken, mask=taken < 0))


def folder_of(name: str, option: str) -> Path:
    """The folder of a model: a local one, or the snapshot of a hub name in the local cache,
    downloaded where it is not there yet.

    Weights other than safetensors are taken only where there are none of those; they are read as
    weights only.
    """
    if (folder := Path(name)).is_dir():
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ValueError(f"--{option} {name}: there is no such folder")
    import huggingface_hub as hub

    try:
        found = Path(
            hub.snapshot_download(
                name, allow_patterns=[f"*{ending}" for ending in (".safetensors", *BESIDE)]
            )
        )
        if not list(found.glob("*.safetensors")):
            found = Path(
                hub.snapshot_download(
                    name, allow_patterns=[f"*{ending}" for ending in (".bin", *BESIDE)]
                )
            )
    except (
        hub.errors.HfHubHTTPError,
        hub.errors.LocalEntryNotFoundError,
        hub.errors.HFValidationError,
        OSError,
    ) as error:
        raise ValueError(
            f"--{option} {name}: no such folder, and the hub did not give it ({error})"
        ) from error
    return found


def digest_of_folder(folder: Path, option: str) -> str:
    """What identifies a model in a folder: its weights, settings and vocabularies. ValueError where
    there are no weights.
    """
    files = sorted(
        path for path in folder.iterdir() if path.suffix in (*WEIGHTS, *BESIDE) and path.is_file()
    )
    if not any(path.suffix in WEIGHTS for path in files):
        raise ValueError(
            f"--{option} {folder}: no weights there"
            f" ({', '.join(f'*{ending}' for ending in WEIGHTS)})"
        )
    return digest_of("", *((path.name, path) for path in files))


def digest_of(settings: str, *files: tuple[str, Path]) -> str:
    """32 hexadecimal digits for settings and the bytes of named files."""
    joined = "\n".join([settings, *(f"{name} {digest_of_file(path)}" for name, path in files)])
    return hashlib.sha256(joined.encode()).hexdigest()[:32]


def digest_of_file(path: Path) -> str:
    """sha256 of a file; read once for as long as it stays as it is."""
    seen = path.resolve().stat()
    return _digest_of_file(path.resolve(), seen.st_size, seen.st_mtime_ns)


@functools.cache
def _digest_of_file(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
