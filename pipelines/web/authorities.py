"""Whom to trust over TLS: the certificates of the system, and those of one's own."""

import errno
import os
import ssl
import tempfile
from pathlib import Path
from typing import Any

import pycurl


class Authorities:
    """Certificates as options of curl; those of `ca_file` are trusted beside the system's.

    SSL_CERT_FILE and SSL_CERT_DIR stand in the place of the system's, as OpenSSL has it. curl's
    wheel brings an OpenSSL of its own, which knows the places of the machine that built it.
    ValueError if there are none, or if `ca_file` holds none.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        known = ssl.get_default_verify_paths()
        cafile: str | None = known.cafile
        capath: str | None = known.capath
        if cafile is not None and "SSL_CERT_DIR" not in os.environ:
            capath = None
        self._joined = None
        if ca_file is not None:
            self._joined = _joined(ca_file, cafile)
            cafile = self._joined.name
        self.options: dict[int, Any] = {}
        if cafile is not None:
            self.options[pycurl.CAINFO] = cafile
        if capath is not None:
            self.options[pycurl.CAPATH] = capath
        if not self.options:
            raise ValueError(
                "no list of certificate authorities is on this machine: "
                "install ca-certificates or set SSL_CERT_FILE"
            )

    def close(self) -> None:
        """Take the joined file away; nothing may connect any more."""
        if self._joined is not None:
            self._joined.close()


def check_ca_file(path: str) -> None:
    """ValueError unless a file holds certificates in PEM."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
            raise OSError(errno.EINVAL, "it is no ordinary file")
        ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(
            f"{path} holds no certificates ({error.strerror or error}): "
            "a CA file has the certificates of authorities in PEM, one after another"
        ) from error


def _joined(ca_file: str, cafile: str | None) -> "tempfile._TemporaryFileWrapper[bytes]":
    """A file of both: curl keeps what it read of a file between connections, not what is in
    memory.
    """
    check_ca_file(ca_file)
    joined = tempfile.NamedTemporaryFile(prefix="winnow-ca-", suffix=".pem")  # noqa: SIM115
    for path in (cafile, ca_file):
        if path is not None:
            joined.write(Path(path).read_bytes() + b"\n")
    joined.flush()
    return joined
