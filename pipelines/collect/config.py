"""What a collection is made of and how: the options of `winnow collect`, and of a [[collect]]
table.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.web.guest_options import (
    AllowPrivateProxy,
    CaFile,
    Contact,
    MaxBytes,
    bytes_at_most,
    known_contact,
)

if TYPE_CHECKING:
    from pipelines.images.encode import Encoding

SOURCES = {
    "seeds": "seeds for live pages",
    "warc": "warc for archives",
    "wat": "wat for metadata of archives",
    "index": "index for chosen records of archives",
    "html": "html for saved pages",
    "pairs": "pairs for a list",
    "imports": "import for a data set",
    "retry": "retry for what failed before",
}  # field: how an error names it
# fields that name files or folders
PATHS = ("warc", "wat", "index", "html", "pairs", "imports", "import_images", "ca_file")


class CollectConfig(BaseModel):
    """Where candidates come from (one kind of source), and how far and how politely to go for
    them.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        serialize_by_alias=True,
        defer_build=True,
    )
    seeds: tuple[str, ...] = Field(
        default=(), alias="seed", description="Pages to start a crawl from."
    )
    sites: tuple[str, ...] = Field(
        default=(),
        alias="site",
        description=(
            "Hosts that a crawl may visit, *.example.org for all below; else those of the seeds."
        ),
    )
    sitemaps: bool = Field(
        default=False, description="The pages that the sites' sitemaps list are seeds too."
    )
    crawl_images: bool = Field(
        default=False, description="Store the pages' images in the archive too, beside the pages."
    )
    warc: tuple[str, ...] = Field(
        default=(), description="Archives: files, globs, URLs, or path lists such as warc.paths.gz."
    )
    wat: tuple[str, ...] = Field(
        default=(),
        description="Metadata of archives (WAT): alt and title of image links, and no more.",
    )
    path_prefix: str = Field(
        default="",
        description="What the lines of a path list are joined to, if not what the list is of.",
    )
    index: tuple[str, ...] = Field(
        default=(),
        description=(
            "A Common Crawl index (Parquet) or CDX file: of the archives only the records that it"
            " names are read."
        ),
    )
    languages: tuple[str, ...] = Field(
        default=(),
        alias="language",
        description="Of an index: languages by three letters, e.g. eng.",
    )
    hosts: tuple[str, ...] = Field(
        default=(), alias="host", description="Of an index: hosts, with those below them."
    )
    mime: tuple[str, ...] = Field(
        default=(), description="Of an index: media types, image/* for all of a kind; else HTML."
    )
    html: str | None = Field(
        default=None,
        description=(
            "Saved pages: a folder, a file or a glob; images that lie there are not fetched."
        ),
    )
    base_url: str | None = Field(
        default=None, description="Where the folder of saved pages was downloaded from."
    )
    pairs: str | None = Field(
        default=None,
        description=(
            "A list of `url` and `text`: Parquet, CSV, TSV or JSONL; files, globs, folders."
        ),
    )
    imports: str | None = Field(
        default=None,
        alias="import",
        description=(
            "A data set that is there: webdataset tars, img2dataset output, Hugging Face, COCO"
            " captions, a captions.jsonl, a folder of images."
        ),
    )
    import_images: str | None = Field(
        default=None, description="The folder of the images that an imported captions file names."
    )
    import_name: str | None = Field(
        default=None,
        description="What an imported data set is called in the addresses of its images.",
    )
    text_column: str | None = Field(
        default=None, description="The column of the texts, where its name does not say so."
    )
    url_column: str | None = Field(
        default=None,
        description="The column of the image addresses, where its name does not say so.",
    )
    retry: tuple[str, ...] = Field(
        default=(),
        description=(
            "Outcomes to try again, e.g. fetch.timeout fetch.http_5xx, or fetch for all; --from"
            " names the collections."
        ),
    )
    earlier: tuple[str, ...] = Field(
        default=(), alias="from", description="Ids of the collections that --retry looks at."
    )
    max_pages: int = Field(default=100_000, ge=1, description="Most pages of a crawl.")
    max_pages_per_host: int | None = Field(
        default=None, ge=1, description="Most pages of one host."
    )
    max_depth: int = Field(default=20, ge=0, description="Most links from a seed to a page.")
    target_width: int = Field(
        default=512,
        ge=1,
        description="Of several sizes of an image, the smallest at least so wide (pixels).",
    )
    surrounding: bool = Field(
        default=False, description="The words around an image are a candidate text too."
    )
    contact: Contact = Field(default_factory=known_contact)
    allow_private_addresses: bool = Field(
        default=False, description="Let loopback and private hosts in."
    )
    allow_private_proxy: AllowPrivateProxy = False
    ca_file: CaFile = None
    fetch: bool = Field(default=True, description="Fetch images that the source does not hold.")
    images_per_second: float = Field(
        default=10.0, gt=0, description="Images a second of one public host."
    )
    before_fetch: str | None = Field(
        default=None,
        description=(
            "A recipe whose rules on candidates alone are applied before fetching, to spare"
            " bandwidth."
        ),
    )
    resize: Literal["none", "keep_ratio", "keep_ratio_largest", "center_crop", "border"] = Field(
        default="none",
        description=(
            "How images are resized to --size: keep_ratio makes the shorter side so long, border"
            " pads to a square."
        ),
    )
    size: int | None = Field(
        default=None, ge=1, description="Pixels of the side that --resize looks at."
    )
    only_if_bigger: bool = Field(
        default=False, description="Resize only what is larger than --size."
    )
    format: Literal["jpg", "png", "webp"] | None = Field(
        default=None,
        description=(
            "Format of every stored image; else as it came, or anew once where readers would"
            " differ."
        ),
    )
    quality: int | None = Field(
        default=None, description="1 to 100 for jpg and webp, compression 0 to 9 for png."
    )
    keep_original: bool = Field(
        default=False, description="Store the bytes as they came, whatever they are."
    )
    fresh_days: float = Field(
        default=90.0,
        ge=0,
        description=(
            "For so long an image that an earlier collection holds is referred to and not fetched"
            " again (days)."
        ),
    )
    deadline: float | None = Field(
        default=None,
        gt=0,
        description="Hours after which nothing more is asked for; the rest is counted.",
    )
    max_bytes: MaxBytes = None

    @field_validator("retry", mode="before")
    @classmethod
    def _at_commas(cls, value: object) -> object:
        """Outcomes may be written as one list with commas."""
        given = (
            [value]
            if isinstance(value, str)
            else list(value)
            if isinstance(value, Iterable)
            else value
        )
        return (
            tuple(name.strip() for one in given for name in str(one).split(",") if name.strip())
            if isinstance(given, list)
            else value
        )

    @model_validator(mode="after")
    def _sources(self) -> "CollectConfig":
        if sum(bool(getattr(self, name)) for name in SOURCES) != 1:
            ways = list(SOURCES.values())
            raise ValueError(f"give one kind of source: {', '.join(ways[:-1])}, or {ways[-1]}")
        if bool(self.retry) != bool(self.earlier):
            raise ValueError(
                "retry names outcomes and `from` the collections where they are: give both"
            )
        return self

    @model_validator(mode="after")
    def _stored(self) -> "CollectConfig":
        self.encoding()
        return self

    def bytes_at_most(self) -> int | None:
        """The budget of bytes of the whole run."""
        return bytes_at_most(self.max_bytes)

    def encoding(self) -> "Encoding":
        """How images are stored; ValueError if the options contradict each other."""
        from pipelines.images.encode import Encoding

        names = ("resize", "size", "only_if_bigger", "format", "quality", "keep_original")
        return Encoding(**{name: getattr(self, name) for name in names})
