"""The opener's connections: to permitted addresses only, over one TLS context, and kept open."""

import ssl
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipelines import opener as module
from pipelines.opener import Guest, Opener, Refused
from tests.pipelines.web import Reply, jpeg, served

LOCAL = Guest(allow_private_addresses=True, seconds=5.0)


def outcome(opener: Opener, url: str) -> str:
    try:
        return f"{len(opener.open(urllib.request.Request(url)).read())} bytes"
    except Refused as refused:
        return refused.outcome


def test_a_name_that_turns_private_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: what was checked is what is connected to, so a later answer of the name server does not matter."""
    with served({"/a.jpg": Reply(body=jpeg(), type="image/jpeg")}) as web:
        port = int(web.url.rsplit(":", 1)[1])
        answers = iter([[(2, "8.8.8.8"), (2, "127.0.0.1")]])
        monkeypatch.setattr(module, "resolve", lambda host, port: next(answers))
        assert outcome(Opener(Guest()), f"http://photos.example:{port}/a.jpg") == "address.private"
        assert web.asked == []


def test_redirects_inward_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A public host may not send us to a private one: here the public one is the loopback by another name."""
    with served({"/a.jpg": Reply(status=302, headers=(("Location", "http://inside.example/secret.jpg"),))}) as web:
        port = int(web.url.rsplit(":", 1)[1])
        addresses = {"public.example": (2, "127.0.0.1"), "inside.example": (2, "10.0.0.1")}
        monkeypatch.setattr(module, "resolve", lambda host, port: [addresses[host]])
        monkeypatch.setattr("pipelines.addresses.is_public", lambda address: address == "127.0.0.1")
        assert outcome(Opener(Guest(images_per_second=1000)), f"http://public.example:{port}/a.jpg") == "address.private"
        assert web.asked == ["/robots.txt", "/a.jpg"]


def test_public_hosts_are_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    with served({f"/{number}.jpg": Reply(body=b"x") for number in range(4)}) as web:
        port = int(web.url.rsplit(":", 1)[1])
        monkeypatch.setattr(module, "resolve", lambda host, port: [(2, "127.0.0.1")])
        monkeypatch.setattr("pipelines.addresses.is_public", lambda address: True)
        slept: list[float] = []
        monkeypatch.setattr(module.time, "sleep", slept.append)
        opener = Opener(Guest())
        assert [outcome(opener, f"http://a.example:{port}/{number}.jpg") for number in range(4)] == ["1 bytes"] * 4
    assert [round(seconds, 1) for seconds in slept if seconds] == [0.1, 0.2, 0.3]


def test_connections_are_kept_and_replaced() -> None:
    opener = Opener(LOCAL)
    with served({"/a.jpg": Reply(body=b"abc")}) as web:
        assert [outcome(opener, f"{web.url}/a.jpg") for _ in range(3)] == ["3 bytes"] * 3
        assert [len(idle) for idle in opener._idle.values()] == [1]
        for connections in opener._idle.values():
            assert connections[0].sock is not None
            connections[0].sock.close()
        assert outcome(opener, f"{web.url}/a.jpg") == "3 bytes"
    opener.close()
    assert opener._idle == {}


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    built = built.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    (folder / "cert.pem").write_bytes(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return folder / "cert.pem", folder / "key.pem"


class _Photo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/a.jpg" else 404)
        self.end_headers()
        self.wfile.write(b"four")

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def served_securely(folder: Path) -> Iterator[str]:
    """The address of a photo on a server whose certificate, in `folder`, nobody trusts."""
    cert, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Photo)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}/a.jpg"
    finally:
        server.shutdown()
        server.server_close()


def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served_securely(tmp_path) as url:
        assert outcome(Opener(LOCAL), url) == "fetch.tls"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert outcome(Opener(LOCAL), url) == "4 bytes"
