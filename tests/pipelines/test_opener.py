"""What an answer means for the guest, and TLS: when another try may help, how long to wait, whom to
trust.
"""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipelines.images.decode import Undecodable
from pipelines.sources.body import MEMORY_BYTES, Body
from pipelines.sources.fetch_result import FetchError, Reply
from pipelines.web.downloader import Downloader
from pipelines.web.fetch import as_it_is
from pipelines.web.politeness import Politeness, patience, retry_after

LOCAL = Politeness(allow_private_addresses=True, seconds=5.0)


def reply(status: int, *headers: tuple[str, str]) -> Reply:
    return Reply(status, headers, Body())


@pytest.mark.parametrize(
    ("answer", "waits"),
    [
        (reply(200), [None, None, None]),
        (reply(404), [None, None, None]),
        (reply(403), [None, None, None]),
        (reply(501), [None, None, None]),
        (reply(500), [0.5, 2.0, None]),
        (reply(503), [0.5, 2.0, None]),
        (reply(429, ("Retry-After", "7")), [7.0, 7.0, None]),
        (reply(429, ("retry-after", " 0 ")), [0.0, 0.0, None]),
        (reply(503, ("Retry-After", "31")), [None, None, None]),
        (reply(503, ("Retry-After", "soon")), [0.5, 2.0, None]),
        (FetchError("fetch.closed", "x"), [0.5, 2.0, None]),
        (FetchError("fetch.cut", "x"), [0.5, 2.0, None]),
        (FetchError("fetch.timeout", "x"), [None, None, None]),
        (FetchError("fetch.tls", "x"), [None, None, None]),
        (FetchError("fetch.refused", "x"), [None, None, None]),
        (FetchError("permission.noai", "x"), [None, None, None]),
    ],
)
def test_another_try_only_where_it_may_help(
    answer: Reply | FetchError, waits: list[float | None]
) -> None:
    assert [patience(answer, tries) for tries in (1, 2, 3)] == waits


def test_retry_after_may_be_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert retry_after(reply(503, ("Retry-After", later))) == pytest.approx(20, abs=2)
    assert retry_after(reply(503, ("Retry-After", "Fri, 02 Jan 1998 03:04:05 GMT"))) == 0.0
    assert retry_after(reply(503)) is None


def test_a_long_body_lies_in_a_file() -> None:
    body = Body()
    pieces = [bytes([number]) * 100_000 for number in range(25)]
    for piece in pieces:
        body.write(piece)
    assert (body.size, body.size > MEMORY_BYTES, body._pieces) == (2_500_000, True, [])
    assert body.take() == b"".join(pieces)
    assert (body.size, body.take()) == (0, b"")


def certificate(folder: Path, *, host: str = "127.0.0.1", days: int = 1) -> tuple[Path, Path]:
    """A certificate for an IP address that signs itself, good for so many days before and after
    now, and its key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    end = datetime.now(UTC) + timedelta(days)
    built = x509.CertificateBuilder(
        name, name, key.public_key(), 1, min(end, datetime.now(UTC)) - timedelta(5), end
    )
    built = built.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False
    )
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    (folder / "cert.pem").write_bytes(
        built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    return folder / "cert.pem", folder / "key.pem"


class _Photo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/a.jpg" else 404)
        self.end_headers()
        self.wfile.write(b"four")

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust us is no news."""


@contextmanager
def served_securely(folder: Path, **options: object) -> Iterator[str]:
    """The address of a photo on a server whose certificate, in `folder`, nobody trusts."""
    cert, key = certificate(folder, **options)  # type: ignore[arg-type]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = _Server(("127.0.0.1", 0), _Photo)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}/a.jpg"
    finally:
        server.shutdown()
        server.server_close()


def outcome(url: str) -> str:
    """What becomes of an address; the four bytes of the photo are no picture."""
    downloader = Downloader(LOCAL)
    try:
        ((attempt, _),) = downloader.fetch(
            [url],
            decode=lambda data: Undecodable(outcome=f"{len(data)} bytes", detail=""),
            keep=as_it_is,
        ).values()
        return attempt.outcome
    finally:
        downloader.close()


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "4 bytes"), ({"host": "127.0.0.2"}, "fetch.tls"), ({"days": -1}, "fetch.tls")],
    ids=["right", "other host", "expired"],
)
def test_certificates_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], expected: str
) -> None:
    with served_securely(tmp_path, **options) as url:
        assert outcome(url) == "fetch.tls"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert outcome(url) == expected
