"""Creates a small CA, certificates and tokens for a testbed.

A folder holds for the server `server.crt`, `server.key` and `server.tokens` (hashes only),
for client N `client-N.crt`, `client-N.key` and `client-N.token`, and for both `ca.crt`.
`ca.key` can sign further certificates and should be on neither.
"""

import ipaddress
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from splitfl.core.errors import ConfigError
from splitfl.transport.security.credentials import token_hash

_TOKEN_BYTES: Final = 32
_EARLIER: Final = timedelta(hours=1)  # for clocks that are slightly behind
_END: Final = datetime(9999, 12, 31, tzinfo=UTC)  # RFC 5280, section 4.1.2.5: no year has five digits
_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_MOST_CLIENTS: Final = 10_000
_MOST_CHARACTERS: Final = 253  # of a name in DNS, RFC 1035


def make_certificates(
    folder: Path, clients: int, hosts: Sequence[str], days: int, now: datetime | None = None
) -> list[Path]:
    """Writes all files for `clients` clients of a server with these names or addresses.

    Raises ConfigError if the folder has a CA already, and for an invalid number of clients, hosts or days.
    """
    begin = now or datetime.now(UTC)
    last = (_END - begin).days
    if not 1 <= clients <= _MOST_CLIENTS:
        raise ConfigError(f"clients must lie in 1..{_MOST_CLIENTS}, got {clients}")
    if not hosts:
        raise ConfigError("a server needs a host name or address, got none")
    if not 1 <= days <= last:
        raise ConfigError(
            f"days must lie in 1..{last}, for no certificate outlasts the year {_END.year}, got {days}"
        )
    names = [_host(host) for host in hosts]
    if (folder / "ca.key").exists():
        raise ConfigError(f"{folder} has a CA already; take a new folder, or remove that one")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _Authority(folder, begin, timedelta(days=days)).issue(clients, names)
    except OSError as error:
        raise ConfigError(f"cannot write certificates in {folder}: {error.strerror}") from None


@dataclass
class _Authority:
    """A certificate authority with a new key."""

    folder: Path
    now: datetime
    validity: timedelta

    def issue(self, clients: int, hosts: Sequence[x509.GeneralName]) -> list[Path]:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(f"splitfl testbed CA {secrets.token_hex(4)}")
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        ca = (
            self._builder(self.name, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        written = [self._write("ca.crt", ca.public_bytes(serialization.Encoding.PEM))]
        written += [self._write("ca.key", _pem(self.key))]
        written += self._pair("server", ExtendedKeyUsageOID.SERVER_AUTH, hosts)
        lines = []
        for client in range(clients):
            token = secrets.token_urlsafe(_TOKEN_BYTES)
            lines.append(f"{client} {token_hash(token)}\n")
            written += self._pair(f"client-{client}", ExtendedKeyUsageOID.CLIENT_AUTH, ())
            written += [self._write(f"client-{client}.token", f"{token}\n".encode())]
        return [*written, self._write("server.tokens", "".join(lines).encode())]

    def _pair(
        self, who: str, purpose: x509.ObjectIdentifier, hosts: Sequence[x509.GeneralName]
    ) -> list[Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(who), key)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return [
            self._write(f"{who}.crt", certificate.public_bytes(serialization.Encoding.PEM)),
            self._write(f"{who}.key", _pem(key)),
        ]

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - _EARLIER)
            .not_valid_after(self.now + self.validity)
        )

    def _write(self, name: str, held: bytes) -> Path:
        path = self.folder / name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(held)
        return path


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    """The server's name or address in a certificate. Raises ConfigError for a port, or an invalid name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    bare, colon, port = host.rpartition(":")
    bare = bare.removeprefix("[").removesuffix("]")
    if colon and port.isdigit() and bare:
        raise ConfigError(f"a host is certified without its port: give --host {bare}, got {host!r}")
    if host.startswith("[") and host.endswith("]"):
        raise ConfigError(f"a host is certified without brackets: give --host {host[1:-1]}, got {host!r}")
    if len(host) > _MOST_CHARACTERS or not _NAME.fullmatch(host) or host.replace(".", "").isdigit():
        raise ConfigError(f"{host!r} is neither an address nor a name that can be certified")
    return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
