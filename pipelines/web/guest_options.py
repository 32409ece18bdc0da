"""Options of the one client that commands share, with one name, check and description each."""

from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    TypeAdapter,
    ValidationError,
)

_BYTES = TypeAdapter(ByteSize)


def _certificates(path: str | None) -> str | None:
    """A file of certificates; ValueError if it holds none."""
    from pipelines.web.authorities import check_ca_file  # brings curl, which not every command asks

    if path is not None:
        check_ca_file(path)
    return path


def _size(value: object) -> object:
    """A number of bytes, or one with a unit; kept as it was written."""
    if value is None:
        return None
    try:
        _BYTES.validate_python(value)
    except ValidationError as error:
        words = f"{value!r} is no size: write it in bytes or as 500MB, 20GB, 1TiB"
        raise ValueError(words) from error
    return str(value)


def bytes_at_most(size: str | None) -> int | None:
    """The bytes of a size that was checked."""
    return None if size is None else int(_BYTES.validate_python(size))


AllowPrivateProxy = Annotated[
    bool,
    Field(description="Let the proxy of HTTPS_PROXY, HTTP_PROXY or ALL_PROXY be a private host."),
]
CaFile = Annotated[
    str | None,
    AfterValidator(_certificates),
    Field(description="Certificates (PEM) of authorities that are trusted beside the system's."),
]
MaxBytes = Annotated[
    str | None,
    BeforeValidator(_size),
    Field(
        description=(
            "Most bytes of pages and images together, e.g. 20GB; the rest is counted as "
            "fetch.budget."
        )
    ),
]
