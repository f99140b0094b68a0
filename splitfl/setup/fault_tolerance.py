"""Fault tolerance settings that the link, the transport or the number of clients excludes."""

from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.setup.links import is_carried


def shared_medium(config: RunConfig) -> str:
    """What needs all clients all the time, up to that verb; empty where each has its own link."""
    if config.link.scenario:
        return "link.scenario, whose cell needs"
    return f"the transport {config.transport.name!r}, whose air needs" if is_carried(config) else ""


def check_fault_tolerance(config: RunConfig) -> None:
    """Raises ConfigError for fault tolerance settings that the link or the number of clients excludes."""
    on_loss = config.fault_tolerance.on_loss
    if medium := shared_medium(config):
        if on_loss == "continue":
            raise ConfigError(
                f"fault_tolerance.on_loss must be 'abort' or 'rollback' with {medium} all clients, "
                f"got {on_loss!r}"
            )
        for limit in ("step_s", "round_s", "quorum"):
            if value := getattr(config.fault_tolerance, limit):
                raise ConfigError(
                    f"fault_tolerance.{limit} must be 0 with {medium} all clients, got {value:g}"
                )
    for name in ("min_clients", "quorum"):
        number = getattr(config.fault_tolerance, name)
        if number > (clients := config.federation.clients):
            raise ConfigError(
                f"fault_tolerance.{name} must be at most federation.clients, {clients}, got {number}"
            )
