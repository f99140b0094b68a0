"""What two ends must have in common before they exchange frames."""

import importlib.metadata
from typing import Final

from splitfl.core.errors import ConfigError

PROTOCOL: Final = "1"


def versions() -> dict[str, str]:
    """This end's own."""
    return {"protocol": PROTOCOL, "torch": importlib.metadata.version("torch").partition("+")[0]}


def check_same(server: dict[str, str], client: dict[str, str]) -> None:
    """Raises ConfigError that names both where they differ: other versions give other bits."""
    for what, theirs in server.items():
        own = client.get(what, "none")
        if theirs != own:
            raise ConfigError(f"the server runs {what} {theirs} and this client {own}; they must be the same")
