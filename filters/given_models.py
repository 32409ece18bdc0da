"""What measurements need that Winnow does not bring: models and lists, by local path or by name."""

from pydantic import BaseModel, ConfigDict, Field


class Given(BaseModel):
    """Models and lists that the user gives. A recipe that reads a measurement which needs one that
    was not given is an error.

    Models are local folders or names of a model hub, read as safetensors or weights only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    alignment: str | None = Field(
        None, description="open_clip model: MODEL:WEIGHTS, hf-hub:NAME, or a folder."
    )
    aesthetics: str | None = Field(
        None, description="Weights of a head on the embeddings of the alignment model."
    )
    image_safety: str | None = Field(
        None, description="Image classifier that tells what is unsafe: a folder or a hub name."
    )
    text_safety: str | None = Field(
        None, description="Text classifier that tells what is unsafe: a folder or a hub name."
    )
    labels: str | None = Field(
        None, description="Image classifier whose labels a text should share words with."
    )
    targets: str | None = Field(
        None, description="Clusters of embeddings with those to keep: a .safetensors file."
    )
    persons: str | None = Field(
        None,
        description="Recogniser of names of persons (token classifier): a folder or a hub name.",
    )
    scorer: str | None = Field(None, description="Image-text scorer, as `winnow scorer` writes it.")
    vocabulary: str | None = Field(
        None, description="Known words, one a line, perhaps with counts."
    )
    ngrams: str | None = Field(None, description="Frequent words and pairs of words, one a line.")
    profanity: tuple[str, ...] = Field((), description="Lists of words, one a line.")
    entries: str | None = Field(
        None, description="Entries that texts are balanced by, one a line (MetaCLIP)."
    )
    evaluation: tuple[str, ...] = Field(
        (),
        description="Evaluation sets that no image may be in: captions.jsonl, folders of images.",
    )
    device: str = Field("auto", description="Where models run: auto, cpu, cuda.")
    batch: int = Field(
        64, gt=0, description="Rows that a model takes at a time; each batch is filled up to it."
    )
