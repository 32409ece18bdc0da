"""The arguments of img2dataset 1.47, checked first; those that mean nothing here are refused by
name.

Names, defaults and meanings are those of its function `download` (img2dataset/main.py of 1.47.0).
The last six are ours.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.images.encode import SIDES
from pipelines.permission.directives import DIRECTIVES
from pipelines.web.guest_options import (
    AllowPrivateProxy,
    CaFile,
    Contact,
    MaxBytes,
    known_contact,
)

Interpolation = Literal[
    "nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4"
]
InputFormat = Literal[
    "txt",
    "txt.gz",
    "csv",
    "csv.gz",
    "tsv",
    "tsv.gz",
    "json",
    "json.gz",
    "jsonl",
    "jsonl.gz",
    "parquet",
]
Hash = Literal["md5", "sha256", "sha512"]
ALWAYS_OBEYED = (
    "noai",
    "noimageai",
    "noindex",
    "noimageindex",
)  # its default, a part of what we obey in any case
RESERVED = frozenset(
    (
        "key",
        "caption",
        "url",
        "width",
        "height",
        "original_width",
        "original_height",
        "status",
        "error_message",
        "exif",
    )
) | {
    "md5",
    "sha256",
    "sha512",
}  # columns that it writes itself
HOW = frozenset(
    (
        "url_list",
        "output_folder",
        "processes_count",
        "thread_count",
        "timeout",
        "retries",
        "max_shard_retry",
        "incremental_mode",
    )
) | {
    "allow_private_addresses",
    "contact",
    "images_per_second",
}  # what shapes the way there and not the dataset


class Img2datasetConfig(BaseModel):
    """What is downloaded, how its images are resized and encoded, and how it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    url_list: str = Field(description="A list of addresses, or a folder of lists.")
    image_size: int = Field(
        default=256,
        ge=1,
        le=SIDES["webp"],
        description="Pixels of the side that resize_mode looks at.",
    )
    output_folder: str = Field(
        default="images",
        min_length=1,
        description="Where the dataset is written: a folder or any fsspec URL.",
    )
    processes_count: int = Field(
        default=1, ge=1, description="Processes that download, each some hosts."
    )
    resize_mode: Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"] = Field(
        default="border", description="How images are resized."
    )
    resize_only_if_bigger: bool = Field(
        default=False, description="Leave smaller images as large as they are."
    )
    upscale_interpolation: Interpolation = Field(default="lanczos", description="How images grow.")
    downscale_interpolation: Interpolation = Field(default="area", description="How images shrink.")
    encode_quality: int = Field(
        default=95,
        ge=0,
        description="0 to 100 for jpg and webp (above 100: lossless), compression 0 to 9 for png.",
    )
    encode_format: Literal["jpg", "png", "webp"] = Field(
        default="jpg", description="Format of the images that are written."
    )
    skip_reencode: bool = Field(
        default=False,
        description="Keep the bytes of images that are not resized and have the format already.",
    )
    output_format: Literal["files", "webdataset", "parquet", "dummy"] = Field(
        default="files", description="How the dataset is written."
    )
    input_format: InputFormat = Field(default="txt", description="Format of the lists.")
    url_col: str = Field(default="url", description="Column of the addresses.")
    caption_col: str | None = Field(default=None, description="Column of the captions.")
    bbox_col: str | None = Field(
        default=None,
        description="Column of boxes [left, top, right, bottom], each 0 to 1, that are blurred.",
    )
    thread_count: int = Field(
        default=256, ge=1, description="Connections of each process at once, to all hosts together."
    )
    number_sample_per_shard: int = Field(
        default=10_000, ge=1, description="Rows of the list in a shard."
    )
    extract_exif: bool = Field(default=True, description="Write the EXIF data as JSON.")
    save_additional_columns: tuple[str, ...] | None = Field(
        default=None, description="Columns of the list to keep."
    )
    timeout: float = Field(
        default=10,
        gt=0,
        description="Seconds for an image, waiting for its host's turn not counted.",
    )
    enable_wandb: bool = Field(default=False, description="Refused: nothing is sent anywhere.")
    wandb_project: str | None = Field(default=None, description="Refused, as enable_wandb is.")
    oom_shard_count: int = Field(default=5, ge=1, le=18, description="Digits of a shard's number.")
    compute_hash: Hash | None = Field(
        default="sha256", description="Hash of the bytes as they came, written beside each image."
    )
    verify_hash: tuple[str, Hash] | None = Field(
        default=None, description="Column of the hashes that images must have, and their kind."
    )
    distributor: str = Field(
        default="multiprocessing", description="Only multiprocessing; others are refused."
    )
    subjob_size: int | None = Field(
        default=None, description="Refused: of other distributors alone."
    )
    retries: int = Field(
        default=0,
        ge=0,
        description="Times that a shard's passing failures are asked again before it is written.",
    )
    disable_all_reencoding: bool = Field(
        default=False, description="Write the bytes as they came, whatever they are."
    )
    min_image_size: int = Field(default=0, ge=0, description="Least pixels of the shorter side.")
    max_image_area: float = Field(default=float("inf"), gt=0, description="Most pixels.")
    max_aspect_ratio: float = Field(
        default=float("inf"), ge=1, description="Most that the longer side is of the shorter."
    )
    incremental_mode: Literal["incremental", "overwrite", "extend"] = Field(
        default="incremental",
        description="Go on with what is there, remove it first, or add shards behind it.",
    )
    max_shard_retry: int = Field(
        default=1, ge=0, description="Times that a shard which could not be written is tried again."
    )
    user_agent_token: str | None = Field(
        default=None, description="Refused: we go by our own name."
    )
    disallowed_header_directives: tuple[str, ...] | None = Field(
        default=None,
        description="X-Robots-Tag directives to obey beside those that are obeyed in any case.",
    )
    allow_private_addresses: bool = Field(
        default=False, description="Let loopback and private hosts in."
    )
    contact: Contact = Field(default_factory=known_contact)
    images_per_second: float = Field(
        default=10.0, gt=0, description="Images a second of one public host."
    )
    allow_private_proxy: AllowPrivateProxy = False
    ca_file: CaFile = None
    max_bytes: MaxBytes = None

    @field_validator("distributor")
    @classmethod
    def _one_machine(cls, value: str) -> str:
        if value != "multiprocessing":
            raise ValueError(
                f"{value} is not run here: leave it out; `winnow collect --pairs` scales out "
                "(docs/scale-out.md)"
            )
        return value

    @field_validator("output_format", mode="before")
    @classmethod
    def _writable(cls, value: Any) -> Any:
        if value == "tfrecord":
            raise ValueError(
                "tfrecord needs TensorFlow, which Winnow does without: write webdataset, and"
                " convert it where TensorFlow is"
            )
        return value

    @field_validator("save_additional_columns")
    @classmethod
    def _not_reserved(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        taken = sorted(RESERVED & set(value or ()))
        if taken or len(set(value or ())) < len(value or ()):
            raise ValueError(
                f"columns called {', '.join(taken)} are written in any case: leave them out"
                if taken
                else "a column is named twice"
            )
        return value

    @field_validator("user_agent_token")
    @classmethod
    def _own_name(cls, value: str | None) -> str | None:
        if value is not None:
            raise ValueError(
                "Winnow goes by its own name, `winnow`, which sites can address: say whom to write "
                "to with --contact instead"
            )
        return value

    @field_validator("enable_wandb", "wandb_project", "subjob_size")
    @classmethod
    def _without_meaning(cls, value: Any, info: Any) -> Any:
        if value and info.field_name == "subjob_size":
            raise ValueError("it is for other distributors alone: leave it out")
        if value:
            raise ValueError(
                "nothing is sent to Weights & Biases from here: leave it out, the counts are in the"
                " stats files"
            )
        return value

    @field_validator("disallowed_header_directives")
    @classmethod
    def _permission(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return value
        asked = {directive.strip().lower() for directive in value}
        if missing := [name for name in ALWAYS_OBEYED if name not in asked]:
            raise ValueError(
                f"Winnow is a guest and obeys {', '.join(missing)} in any case: leave it out"
            )
        if unknown := sorted(asked - set(DIRECTIVES)):
            raise ValueError(
                f"{', '.join(unknown)} cannot be obeyed; what is obeyed are {', '.join(DIRECTIVES)}"
            )
        return value

    @model_validator(mode="after")
    def _agree(self) -> "Img2datasetConfig":
        limit = {"jpg": 100, "png": 9, "webp": 1_000}[self.encode_format]
        if self.encode_quality > limit:
            raise ValueError(
                f"encode_quality is {self.encode_quality}: "
                f"for {self.encode_format} it must be 0 to {limit}"
            )
        if self.verify_hash is not None and self.verify_hash[1] != self.compute_hash:
            raise ValueError(
                f"verify_hash is of {self.verify_hash[1]} and compute_hash {self.compute_hash}: "
                "they must be the same"
            )
        if self.input_format.startswith("txt") and list(self.columns) != ["url"]:
            raise ValueError(
                f"input_format is {self.input_format}, which holds addresses alone: "
                "name another, or name no columns"
            )
        if self.bbox_col is not None and self.disable_all_reencoding:
            raise ValueError(
                "bbox_col blurs and disable_all_reencoding changes nothing: leave out one of them"
            )
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Columns of the list that are kept, by the name that they get, in its order."""
        kept = [
            *(self.save_additional_columns or ()),
            *([self.bbox_col] if self.bbox_col is not None else ()),
        ]
        found = dict(zip(kept, kept, strict=True))
        if self.caption_col is not None:
            found["caption"] = self.caption_col
        if self.verify_hash is not None:
            found[self.verify_hash[1]] = self.verify_hash[0]
        return {**found, "url": self.url_col}

    def shaping(self) -> dict[str, Any]:
        """What a dataset's shards have in common, as JSON."""
        return {
            name: value for name, value in self.model_dump(mode="json").items() if name not in HOW
        }
