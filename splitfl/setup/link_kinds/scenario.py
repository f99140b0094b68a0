"""An emulated cell whose users are the clients: the link of `link.scenario`."""

import dataclasses
from typing import Final

from channel.core.errors import BadParameter
from channel.scenario.load import Scenario
from channel.scenario.load import load as load_scenario
from splitfl.config import LinkConfig, RunConfig
from splitfl.core.errors import ConfigError
from splitfl.setup.link_kinds.kind import LinkKind


def _scenario(config: RunConfig) -> Scenario:
    """The scenario with the run's seed; raises ConfigError if it is unknown or has too few users."""
    name, clients = config.link.scenario, config.federation.clients
    try:
        found = load_scenario(name)
    except BadParameter as error:
        raise ConfigError(f"link.scenario: {error}") from None
    if clients > found.place.users:
        raise ConfigError(
            f"link.scenario {name!r} has {found.place.users} users, fewer than the {clients} clients of "
            "federation.clients"
        )
    return dataclasses.replace(found, seed=config.train.seed)


def _describe(link: LinkConfig) -> str:
    return f"one cell that all clients share, scenario {link.scenario}"


SCENARIO: Final = LinkKind(
    about="an emulated cell that all clients share (link.scenario)",
    scenario=_scenario,
    describe=_describe,
)
