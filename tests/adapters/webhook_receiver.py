"""Receiver of webhooks on a loopback socket. Tests decide each byte that it sends and when it sends it."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, IPPROTO_TCP, SHUT_RDWR, SO_RCVBUF, SOL_SOCKET, TCP_MAXSEG, socket
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PACE_SECONDS = 0.05
"""Time between the bytes of a slow receiver."""

CLIENT_SECONDS_MAX = 10
"""Time after which the receiver gives up on a silent client."""


@dataclass
class Receiver:
    """Running receiver.

    Attributes:
        port: Port on 127.0.0.1.
        requests: Bytes of the requests, headers and body.
        server_names: Names that clients requested in TLS (SNI).
        connections: Number of accepted connections.
        closed: Set when a client has closed its connection.
        stopped: Set at the end of the test.
    """

    port: int
    requests: list[bytes] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)
    connections: int = 0
    closed: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)

    def url(self, host: str = "127.0.0.1", scheme: str = "http", target: str = "/hooks") -> str:
        """Return a URL of the receiver."""
        return f"{scheme}://{host}:{self.port}{target}"

    def read_request(self, connection: socket) -> None:
        """Record one request."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += _receive(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        [length] = [line.split(b": ")[1] for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
        while len(body) < int(length):
            body += _receive(connection)
        self.requests.append(head + b"\r\n\r\n" + body)

    def send_slowly(self, connection: socket, part: bytes) -> None:
        """Send the bytes one at a time."""
        for value in part:
            if self.stopped.wait(PACE_SECONDS):
                return
            connection.sendall(bytes([value]))

    def wait_for_close(self, connection: socket) -> None:
        """Read until the client closes the connection."""
        with suppress(ConnectionError):
            while connection.recv(65_536):
                pass
        self.closed.set()


def _receive(connection: socket) -> bytes:
    part = connection.recv(65_536)
    if not part:
        raise ConnectionError
    return part


type Behaviour = Callable[[Receiver, socket], None]


@contextmanager
def open_receiver(
    behaviour: Behaviour, tls: ssl.SSLContext | None = None, *, small: bool = False
) -> Iterator[Receiver]:
    """Run a receiver on a free port.

    Args:
        behaviour: Called with each connection, which is closed afterwards.
        tls: Context of the server; without it the receiver speaks plain HTTP.
        small: Receive into a small buffer, so that clients wait until the receiver reads.
    """
    with socket(AF_INET) as listener:
        if small:
            listener.setsockopt(SOL_SOCKET, SO_RCVBUF, 2048)
            listener.setsockopt(IPPROTO_TCP, TCP_MAXSEG, 536)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        receiver = Receiver(listener.getsockname()[1])
        if tls is not None:
            tls.sni_callback = lambda _connection, name, _context: receiver.server_names.append(name)
        thread = threading.Thread(target=_serve, args=(listener, receiver, behaviour, tls))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.stopped.set()
            listener.shutdown(SHUT_RDWR)
            thread.join()


def _serve(listener: socket, receiver: Receiver, behaviour: Behaviour, tls: ssl.SSLContext | None) -> None:
    """Serve one connection at a time until the listener is shut down."""
    while not receiver.stopped.is_set():
        with suppress(OSError):
            plain, _ = listener.accept()
            plain.settimeout(CLIENT_SECONDS_MAX)
            receiver.connections += 1
            with plain, tls.wrap_socket(plain, server_side=True) if tls else plain as connection:
                behaviour(receiver, connection)


def responding(response: bytes) -> Behaviour:
    """Return a receiver that reads the request and sends a response."""

    def behave(receiver: Receiver, connection: socket) -> None:
        receiver.read_request(connection)
        connection.sendall(response)

    return behave


def http(status: str = "200 OK", body: bytes = b"", **headers: str) -> bytes:
    """Return a response with a content length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# --- Certificates -----------------------------------------------------------------------------------------------------


def server_context(*hosts: str, days: int = 1) -> ssl.SSLContext:
    """Return the context of a server that has a certificate for the hosts.

    Args:
        hosts: Names and addresses.
        days: Time of the certificate's end, from now.
    """
    authority, authority_key = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.DNSName(each) if each.rpartition(".")[2].isalpha() else x509.IPAddress(ip_address(each)) for each in hosts
    ]
    certificate = (
        _builder("receiver", authority.subject, key.public_key(), days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, *private)
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(path)
    return context


def client_context() -> ssl.SSLContext:
    """Return a context that trusts only the certificates of `server_context`."""
    authority, _ = _authority()
    return ssl.create_default_context(cadata=authority.public_bytes(serialization.Encoding.PEM).decode())


@cache
def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        **dict.fromkeys(
            (
                *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
                *("key_agreement", "encipher_only", "decipher_only"),
            ),
            False,
        ),
    )
    builder = _builder("authority", name, key.public_key(), 1)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()), key


def _builder(name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    end = datetime.now(UTC) + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=7))
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
