"""The optional dependency of coding: numba."""

from importlib.util import find_spec

from channel.core.errors import ChannelError


class MissingNumba(ChannelError):
    """numba is not installed; the message has the install command."""


def require_numba(purpose: str) -> None:
    """Raises MissingNumba, with the install command, unless numba is installed."""
    if not find_spec("numba"):
        raise MissingNumba(f"{purpose} needs numba; install with: pip install 'splitfl[radio]'")
