"""Checks before torch and the data are loaded: hosts, ports, secret files, links, trackers.

A wrong setting is reported within a second. All are checked again where they are used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from experiments import presets
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.setup.links import check_link
from splitfl.tracking.registry import check_installed
from splitfl.transport.base.interfaces import public_address
from splitfl.transport.base.spec import Joining
from splitfl.transport.registry import between_processes, refuse_options, transport


def check_run(preset: str, overrides: Iterable[str]) -> None:
    """Raises ConfigError for a server that cannot run on this machine, and for an invalid link."""
    _check(presets.without_learning(preset, overrides))


def check_serving(preset: str, overrides: Iterable[str]) -> None:
    """Checks as `check_run`, for a server whose clients are on other machines."""
    chosen = list(overrides)
    _check(served(presets.without_learning(preset, chosen), chosen))


def check_planning(preset: str, overrides: Iterable[str]) -> None:
    """Raises ConfigError for an invalid link."""
    check_link(presets.without_learning(preset, overrides))


def check_air(preset: str, overrides: Iterable[str]) -> None:
    """Raises ConfigError for an invalid link, and for a tracker whose package is not installed."""
    config = presets.without_learning(preset, overrides)
    check_link(config)
    check_installed(config.tracking)


def check_joining(name: str, joining: Joining, options: Mapping[str, str | None]) -> None:
    """Raises ConfigError for an unknown transport, an option that it does not have, an invalid address,
    an unknown host and unusable files."""
    spec = transport(name, "--transport")
    refuse_options(name, options)
    spec.check_join(joining)


def served(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """The settings of a server for remote clients, with this machine's public address as host.

    A host in the overrides, or a broker's, is kept. Raises ConfigError if clients cannot join."""
    name = config.transport.name
    if (spec := transport(name)).in_process:
        able = ", ".join(between_processes())
        raise ConfigError(f"transport.name must be one of {able} for clients to join, got {name!r}")
    if any(one.startswith("transport.host") for one in overrides) or not spec.own_host:
        return config
    return replace(config, transport=replace(config.transport, host=public_address()))


def _check(config: RunConfig) -> None:
    transport(config.transport.name).check_server(config.transport)
    check_installed(config.tracking)
    check_link(config)
