"""From the settings of a link to the link: each client's own, or the cell that all of them share."""

from channel.cell.build_cell import cell_of
from channel.cell.engine import Engine
from channel.core.errors import BadParameter
from channel.core.link import DIRECTIONS, Link
from channel.scenario.load import Scenario
from splitfl.config import LinkConfig, RunConfig
from splitfl.core.errors import ConfigError
from splitfl.setup.link_kinds import LINKS, LinkKind


def kind_of(link: LinkConfig) -> LinkKind:
    """The kind of link of these settings.

    Raises ConfigError for one of another package that cannot be loaded, or that is a cell: what a cell
    excludes is refused by the key link.scenario, which takes a file of any folder.
    """
    kind = LINKS[link.name]
    if link.kind and kind.make is None:
        raise ConfigError(
            f"link.kind {link.kind!r} must give each client a link of its own, and gives a cell: name its "
            "scenario's file in link.scenario"
        )
    return kind


def check_link(config: RunConfig) -> None:
    """ConfigError for a link that cannot be, before anything is loaded or sent."""
    if cell(config) is None:
        own_link(config)
    snr_db(config)


def air_of(config: RunConfig) -> Link | Scenario:
    """The link that every client has to itself, or the scenario of the cell that all share."""
    kind = kind_of(config.link)
    make = kind.make or kind.scenario
    assert make is not None
    return make(config)


def describe_link(link: LinkConfig) -> str:
    """The link and its packets, for a report."""
    tries = f", each sent at most {link.max_tries} times" if link.max_tries else ""
    return f"{kind_of(link).describe(link)}; packets of {link.mtu_bytes} bytes{tries}"


def own_link(config: RunConfig) -> Link:
    """The emulated link that every client has to itself; ConfigError for a trace that cannot be replayed."""
    make = kind_of(config.link).make
    assert make is not None, "asked only where clients share no cell"
    return make(config)


def cell(config: RunConfig) -> Engine | None:
    """The cell that all clients share, with the run's seed; client k is user k, others are silent.

    None where each client has a link of its own. Raises ConfigError for what makes no cell, and for a
    client that can never be reached.
    """
    scenario = kind_of(config.link).scenario
    if scenario is None:
        return None
    try:
        engine = Engine(cell_of(scenario(config)), mtu_bytes=config.link.mtu_bytes)
        engine.require_coverage(range(config.federation.clients))
        return engine
    except BadParameter as error:
        raise ConfigError(f"link.scenario {config.link.scenario!r} makes no cell: {error}") from None


def snr_db(config: RunConfig) -> dict[tuple[int, str], float]:
    """Each client's mean signal-to-noise ratio in either direction, for numbers that are sent as they are."""
    clients = range(config.federation.clients)
    if not (config.analog.kinds and config.analog.from_cell):
        return {(client, way): config.analog.snr_db for client in clients for way in DIRECTIONS}
    scenario = kind_of(config.link).scenario
    if scenario is None:
        raise ConfigError("analog.from_cell takes the noise from link.scenario, which is empty")
    sinr_models = cell_of(scenario(config)).sinr_models
    return {(k, way): float(sinr_models[way].mean_sinr_db(0)[k]) for k in clients for way in DIRECTIONS}
