"""Options of the one client that commands share, with one name, check and description each."""

import os
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


def known_contact() -> str:
    """The contact that the environment names."""
    return os.environ.get("WINNOW_CONTACT", "")


def _in_a_header(contact: str) -> str:
    """A contact stands in the user agent, and so in one line of ASCII letters."""
    if not (contact.isascii() and contact.isprintable()):
        raise ValueError(
            f"{contact!r} is no e-mail or web address: it stands in a header, in printable ASCII"
        )
    return contact


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


Contact = Annotated[
    str,
    AfterValidator(_in_a_header),
    Field(
        description=(
            "Whom hosts may write to: an e-mail or web address; WINNOW_CONTACT says it too."
        ),
        validate_default=True,
    ),
]
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
