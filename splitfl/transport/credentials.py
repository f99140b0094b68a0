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

from splitfl.errors import ConfigError

log = logging.getLogger(__name__)

_MAX_BYTES: Final = 1 << 20


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
            raise ConfigError("transport.tls_cert and transport.tls_key are given together or not at all")

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
        for number, line in enumerate(read_secret(path).decode(errors="replace").splitlines(), 1):
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
    token = read_secret(path).decode(errors="replace").strip()
    if not 16 <= len(token) <= 512 or not token.isprintable():
        raise ConfigError(f"{path} must hold a token of 16 to 512 characters on one line")
    return token


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


def read_certificate(path: str) -> bytes:
    """A certificate that is valid today; ConfigError for one that is not, which a peer would refuse
    without saying why."""
    held = read_secret(path)
    try:
        first = x509.load_pem_x509_certificate(held)
    except ValueError as error:
        raise ConfigError(f"{path} is no certificate: {error}") from None
    begin, end = first.not_valid_before_utc, first.not_valid_after_utc
    now = datetime.now(UTC)
    if not begin <= now <= end:
        raise ConfigError(
            f"the certificate {path} is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, not today, "
            f"which is {now:%Y-%m-%d} by this machine's clock"
        )
    return held
