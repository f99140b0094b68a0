"""What proves who is who: certificates and tokens, known here by the files that hold them.

Secrets are read when they are needed and stay in memory; settings, logs and run folders
hold paths. The server's file of tokens has a line `CLIENT SHA256` for each, not the tokens.
"""

import hashlib
import hmac
import logging
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from splitfl.core.errors import ConfigError

log = logging.getLogger(__name__)

_MAX_BYTES: Final = 1 << 20


_PAIR: Final = "transport.tls_cert and transport.tls_key are given together or not at all"


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """`tls_cert` with `tls_key` prove who the server is; `tls_ca` signed the certificates of the other end.

    That is the broker where there is one; else clients are asked for certificates.
    """

    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""

    def __post_init__(self) -> None:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ConfigError(_PAIR)

    def credentials(self, token_file: str = "") -> "Credentials":
        """These files as credentials, with that of the tokens."""
        return Credentials(cert=self.tls_cert, key=self.tls_key, ca=self.tls_ca, token_file=token_file)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The files of one end; an empty path is a thing that it does not have.

    On the server `ca` asks every client for a certificate, on a client it is whom to
    believe about the server (without one: whom this machine's own store believes).
    """

    cert: str = ""
    key: str = ""
    ca: str = ""
    token_file: str = ""

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise ConfigError(_PAIR)

    def check(self) -> None:
        """Raises ConfigError that names the file which cannot be used for TLS, and why."""
        if self.ca:
            read_authorities(self.ca)
        if self.cert:
            read_pair(self.cert, self.key)

    def or_in_folder(self, folder: Path, who: str) -> "Credentials":
        """These, or where there are none those of `who` in the folder; ConfigError for both."""
        if self != Credentials():
            raise ConfigError("--secrets stands for all of a client's files: name no others beside it")
        return self.in_folder(folder, who)

    @classmethod
    def in_folder(cls, folder: Path, who: str) -> "Credentials":
        """What `splitfl certs` has put there for `server` or `client-N`."""
        return cls(
            cert=str(folder / f"{who}.crt"),
            key=str(folder / f"{who}.key"),
            ca=str(folder / "ca.crt"),
            token_file=str(folder / ("server.tokens" if who == "server" else f"{who}.token")),
        )


class Tokens:
    """The tokens that a server takes, by their hashes."""

    def __init__(self, hashes: Mapping[int, str]) -> None:
        self._hashes = dict(hashes)

    @classmethod
    def read(cls, path: str) -> "Tokens":
        """From a server's file; ConfigError for one that is none."""
        hashes = {}
        for number, line in enumerate(read_text(path).splitlines(), 1):
            words = line.split()
            if len(words) != 2 or not words[0].isdigit() or len(words[1]) != 64:
                raise ConfigError(f"{path}:{number} must be a client's number and the SHA-256 of its token")
            hashes[int(words[0])] = words[1].lower()
        return cls(hashes)

    def check(self, client: int, token: str | None) -> None:
        """Raises ConfigError unless this is the client's token; takes as long for a wrong one."""
        if token is None:
            raise ConfigError(f"client {client} came without a token; give it one by --token-file")
        known = self._hashes.get(client, "")
        if not hmac.compare_digest(token_hash(token), known or "0" * 64) or not known:
            raise ConfigError(f"client {client} came with a wrong token")


def token_hash(token: str) -> str:
    """What a server keeps of a token. Tokens are random, so that no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_token(path: str) -> str:
    """A client's token."""
    token = read_text(path)
    if not 16 <= len(token) <= 512 or not token.isprintable():
        raise ConfigError(f"{path} must hold a token of 16 to 512 characters on one line")
    return token


def read_text(path: str) -> str:
    """A secret that is text, without the blanks around it; ConfigError for what is not UTF-8."""
    try:
        return read_secret(path).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} must be text in UTF-8, got the byte 0x{error.object[error.start]:02x} at {error.start}; "
            f"`iconv -f LATIN1 -t UTF-8` makes UTF-8 of Latin-1"
        ) from None


def read_secret(path: str) -> bytes:
    """What is in this file, which others should not be able to read; ConfigError where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            if stat.S_IMODE(Path(path).stat().st_mode) & 0o077 and not path.endswith(".crt"):
                log.warning("%s can be read by others on this machine; chmod 600 %s", path, path)
            held = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(held) > _MAX_BYTES:
        raise ConfigError(f"{path} has more than {_MAX_BYTES} bytes, so it is none of ours")
    return held


def read_pair(certificate: str, key: str) -> tuple[bytes, bytes]:
    """A private key and its certificate, valid today, in this order; ConfigError names the file at fault.

    A peer would refuse either without saying why, and a library might ask the terminal for a password.
    """
    certified, held = read_certificate(certificate), read_secret(key)
    try:
        own = load_pem_private_key(held, password=None)
    except TypeError:
        raise ConfigError(
            f"the key {key} is encrypted, and nobody is there to type its password: "
            f"`openssl pkey -in {key} -out NEW` writes one that is not"
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{key} is no private key in PEM: {str(error).splitlines()[0]}") from None
    theirs = x509.load_pem_x509_certificate(certified).public_key()
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*form) != theirs.public_bytes(*form):
        raise ConfigError(f"the key {key} does not belong to the certificate {certificate}")
    return held, certified


def read_certificate(path: str) -> bytes:
    """A certificate that is valid today; ConfigError for one that is not, which a peer would refuse
    without saying why."""
    held = read_secret(path)
    _refuse_out_of_date(path, _certificates(path, held)[:1])
    return held


def read_authorities(path: str) -> bytes:
    """Certificates of whom to believe, of which one at least is valid today; ConfigError for others."""
    held = read_secret(path)
    _refuse_out_of_date(path, _certificates(path, held))
    return held


def _certificates(path: str, held: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(held)
    except ValueError as error:
        raise ConfigError(f"{path} is no certificate: {error}") from None


def _refuse_out_of_date(path: str, found: list[x509.Certificate]) -> None:
    now = datetime.now(UTC)
    if any(one.not_valid_before_utc <= now <= one.not_valid_after_utc for one in found):
        return
    begin, end = found[0].not_valid_before_utc, found[0].not_valid_after_utc
    raise ConfigError(
        f"the certificate {path} is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, not today, "
        f"which is {now:%Y-%m-%d} by this machine's clock"
    )
