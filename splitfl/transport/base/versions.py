"""The versions that two ends must share before they exchange frames."""

import importlib.metadata
from typing import Final

from splitfl.core.errors import ConfigError

PROTOCOL: Final = "1"


def versions() -> dict[str, str]:
    """The protocol and torch versions of this end."""
    return {"protocol": PROTOCOL, "torch": importlib.metadata.version("torch").partition("+")[0]}


def check_same(server: dict[str, str], client: dict[str, str]) -> None:
    """Raises ConfigError if versions differ, since other versions of torch give other bits."""
    for what, theirs in server.items():
        own = client.get(what, "none")
        if theirs != own:
            raise ConfigError(f"the server runs {what} {theirs} but this client {own}; they must be the same")
