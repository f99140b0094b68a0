"""The optional dependency of coding: numba."""

from importlib.util import find_spec

from channel.core.errors import ChannelError


class MissingNumba(ChannelError):
    """numba is not installed; the message says what needs it and has the install command."""

    def __init__(self, purpose: str) -> None:
        super().__init__(f"{purpose} needs numba; install with: pip install 'splitfl[radio]'")


def require_numba(purpose: str) -> None:
    """Raises MissingNumba unless numba is installed."""
    if not find_spec("numba"):
        raise MissingNumba(purpose)
