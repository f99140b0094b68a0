"""TLS contexts and client tokens of an overlay, read from files."""

import hmac
import ssl
from collections.abc import Mapping

from splitfl.core.errors import ConfigError
from splitfl.transport.security.credentials import read_authorities, read_pair, read_text, token_hash


def server_context(certificate: str, key: str, authority: str) -> ssl.SSLContext:
    """TLS 1.3 for a hub; with an authority, clients need a certificate signed by it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if not certificate:
        raise ConfigError("a hub needs a certificate: give --secrets, or --tls-cert and --tls-key")
    _load_certificate(context, certificate, key)
    if authority:
        _load_authority(context, authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(certificate: str, key: str, authority: str) -> ssl.SSLContext:
    """TLS 1.3 for a client that trusts one authority, or, without one, those of this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if authority:
        _load_authority(context, authority)
    else:
        context.load_default_certs()
    if certificate:
        _load_certificate(context, certificate, key)
    return context


class HubTokens:
    """The client tokens of a hub, from a file.

    A line `N SHA256`, as `splitfl certs` writes it, is valid for the name client-N; a line with a plain token
    is valid for any name.
    """

    def __init__(self, path: str) -> None:
        """Raises ConfigError for a file without tokens, or with other lines."""
        self._hashes: dict[str, str] = {}
        self._shared: list[str] = []
        for number, line in enumerate(read_text(path).splitlines(), 1):
            words = line.split()
            if len(words) == 2 and words[0].isdigit() and len(words[1]) == 64:
                self._hashes[f"client-{words[0]}"] = words[1].lower()
            elif len(words) == 1 and 16 <= len(words[0]) <= 512:
                self._shared.append(token_hash(words[0]))
            elif words:
                raise ConfigError(
                    f"{path}:{number} must be a client's number and the SHA-256 of its token, or a token"
                )
        if not self._hashes and not self._shared:
            raise ConfigError(f"{path} has no token")

    def admits(self, name: str, token: str) -> bool:
        """Whether this token is valid for this name; compared in constant time."""
        good = [self._hashes.get(name, ""), *self._shared]
        return any([hmac.compare_digest(token_hash(token), one) for one in good])


def common_name(certificate: Mapping[str, object] | None) -> str:
    """The common name of a certificate; empty without one."""
    subject = (certificate or {}).get("subject", ())
    assert isinstance(subject, tuple)
    return next((value for part in subject for name, value in part if name == "commonName"), "")


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    read_pair(certificate, key)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the certificate {certificate} with the key {key}: {error}") from None


def _load_authority(context: ssl.SSLContext, authority: str) -> None:
    read_authorities(authority)
    try:
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the authority {authority}: {error}") from None
