"""Files of a pretrained model: in a folder, or by a name of the hub."""

from __future__ import annotations

from pathlib import Path

from transformers.utils.hub import cached_file

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the second where there is no first
BESIDE = ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


def find_file(source: str | Path, name: str) -> Path | None:
    """A file of the folder, or of a repository of the hub; None when it has none.

    ValueError when there is neither such a folder nor such a repository.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    if folder.exists():
        raise ValueError(f"{source} is a file: give the folder that it lies in")
    if folder.is_absolute() or str(source).startswith("."):
        raise ValueError(f"there is no folder {source}")
    try:
        found = cached_file(str(source), name, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"there is no folder {source}, and the hub says: {reason}") from error
    return None if found is None else Path(found)


def local_folder(source: str) -> str:
    """The folder with a model's configuration and weights, fetched from the hub if need be.

    ValueError when there is none, or when it lacks one of them.
    """
    config = find_file(source, "config.json")
    if config is None and not Path(source).is_dir():
        raise ValueError(
            f"there is no folder {source}, and the hub has no such model or cannot be reached"
        )
    if config is None:
        raise ValueError(f"{source} has no config.json, as folders of timm and transformers have")
    if not Path(source).is_dir():
        for name in BESIDE:
            find_file(source, name)
    if not any(find_file(source, name) for name in WEIGHTS) and not _in_pieces(config.parent):
        raise ValueError(f"{source} has no weights: neither {' nor '.join(WEIGHTS)}")
    return str(config.parent)


def _in_pieces(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))
