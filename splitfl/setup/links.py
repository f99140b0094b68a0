"""Builds the link of the settings: one per client, or a cell that all share."""

from channel.cell.build_cell import cell_of
from channel.cell.engine import Engine
from channel.core.errors import BadParameter
from channel.core.link import DIRECTIONS, Link
from channel.scenario.load import Scenario
from splitfl.config import AnalogConfig, LinkConfig, RunConfig, key_values
from splitfl.core.errors import ConfigError
from splitfl.setup.link_kinds import LINKS, LinkKind
from splitfl.transport.registry import transport


def kind_of(link: LinkConfig) -> LinkKind:
    """The kind of link of these settings.

    Raises ConfigError for a plug-in that cannot be loaded or is a cell: settings that a cell excludes are
    checked by link.scenario, which accepts any scenario file.
    """
    kind = LINKS[link.name]
    if link.kind and kind.make is None:
        raise ConfigError(
            f"link.kind {link.kind!r} must make a link for each client, but makes a cell: set "
            "link.scenario to its scenario file"
        )
    return kind


def check_link(config: RunConfig) -> None:
    """Raises ConfigError for invalid link settings, before models are loaded."""
    if is_carried(config):
        _refuse_emulation(config)
    if cell(config) is None:
        own_link(config)
    snr_db(config)


def is_carried(config: RunConfig) -> bool:
    """Whether the transport carries frames itself, so that no link is emulated."""
    return transport(config.transport.name).describe_link is not None


def _refuse_emulation(config: RunConfig) -> None:
    name = config.transport.name
    for table, own, default in (
        ("link", config.link, LinkConfig()),
        ("analog", config.analog, AnalogConfig()),
    ):
        plain = key_values(default)
        changed = [key for key, got in key_values(own).items() if got != plain.get(key)]
        if changed:
            raise ConfigError(
                f"{table}.{changed[0]} is read by emulated links, not by the transport {name!r}"
            )


def link_or_scenario(config: RunConfig) -> Link | Scenario:
    """The link of each client, or the scenario of the cell that all share."""
    kind = kind_of(config.link)
    make = kind.make or kind.scenario
    assert make is not None
    return make(config)


def describe_link(link: LinkConfig) -> str:
    """The link and its packets, as a phrase for a report."""
    tries = f", each sent at most {link.max_tries} times" if link.max_tries else ""
    return f"{kind_of(link).describe(link)}; packets of {link.mtu_bytes} bytes{tries}"


def own_link(config: RunConfig) -> Link:
    """The emulated link of each client; raises ConfigError for a trace that cannot be replayed."""
    make = kind_of(config.link).make
    assert make is not None, "only for links without a shared cell"
    return make(config)


def cell(config: RunConfig) -> Engine | None:
    """The cell that all clients share, with the run's seed; client k is user k, others are silent.

    None if each client has its own link. Raises ConfigError for an invalid scenario, and for a client out
    of coverage.
    """
    scenario = kind_of(config.link).scenario
    if scenario is None:
        return None
    try:
        engine = Engine(cell_of(scenario(config)), mtu_bytes=config.link.mtu_bytes)
        engine.require_coverage(range(config.federation.clients))
        return engine
    except BadParameter as error:
        raise ConfigError(
            f"link.scenario {config.link.scenario!r} is invalid for this run: {error}"
        ) from None


def snr_db(config: RunConfig) -> dict[tuple[int, str], float]:
    """Each client's mean SNR in dB by direction, for analog symbols."""
    clients = range(config.federation.clients)
    if not (config.analog.kinds and config.analog.from_cell):
        return {(client, direction): config.analog.snr_db for client in clients for direction in DIRECTIONS}
    scenario = kind_of(config.link).scenario
    if scenario is None:
        raise ConfigError("analog.from_cell needs link.scenario, which is empty")
    sinr_models = cell_of(scenario(config)).sinr_models
    means = {direction: sinr_models[direction].mean_sinr_db(0) for direction in DIRECTIONS}
    return {(k, direction): float(means[direction][k]) for k in clients for direction in DIRECTIONS}
