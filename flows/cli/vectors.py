"""The command that writes vectors of images and texts."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.cli.options import Json, Root, folder_of, print_json
from pipelines.terminal import say


def embed(
    model: Annotated[
        Path, Parameter(help="Exported model folder, of a model that compares images with texts.")
    ],
    *,
    root: Root = "data",
    captions: Annotated[
        Path | None,
        Parameter(help='Lines of {"image": path beside the file, "captions": [text, …]}.'),
    ] = None,
    release: Annotated[
        str | None, Parameter(help="A release of the root, instead of --captions.")
    ] = None,
    split: Annotated[
        Literal["all", "train", "heldout"], Parameter(help="Which of its samples.")
    ] = "all",
    out: Annotated[
        Path,
        Parameter(
            help=(
                "The Parquet file to write: columns image, caption (null for the image itself),"
                " vector."
            )
        ),
    ],
    json: Json = False,
) -> None:
    """Write the vectors of images and of their captions as Parquet, for search: their products are
    cosines.

    Example: winnow embed runs/clip/model --captions captions.jsonl --out vectors.parquet
    """
    from flows.evaluation_data import DECODERS, asked_about
    from training.evaluate.embed import embed as run

    found = run(
        model, asked_about(folder_of(root), captions, release, split), out, workers=DECODERS
    )
    if json:
        print_json(found)
        return
    left = f"; {found['unreadable']:,} images could not be decoded" if found["unreadable"] else ""
    say(
        f"{out}: vectors of {found['images']:,} images and {found['captions']:,} captions,"
        f" {found['dim']} numbers each{left}"
    )
