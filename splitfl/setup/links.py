"""From the settings of a link to the link: each client's own, or the cell that all of them share."""

import dataclasses
from pathlib import Path

from channel.cell.build_cell import cell_of
from channel.cell.engine import Engine
from channel.core.errors import BadParameter
from channel.core.link import DIRECTIONS, Link
from channel.links.fixed import Direction, FixedLink
from channel.links.loss import GilbertElliott
from channel.links.trace import TraceLink, read_recording
from channel.scenario.load import Scenario
from channel.scenario.load import load as load_scenario
from splitfl.config import DirectionConfig, RunConfig
from splitfl.core.errors import ConfigError


def check_link(config: RunConfig) -> None:
    """ConfigError for a link that cannot be, before anything is loaded or sent."""
    if config.link.scenario:
        cell(config)
    else:
        own_link(config)
    snr_db(config)


def own_link(config: RunConfig) -> Link:
    """The emulated link that every client has to itself; ConfigError for a trace that cannot be replayed."""
    link, seed = config.link, config.train.seed
    if not link.trace:
        return FixedLink(
            seed=seed,
            up=_way(link.up),
            down=_way(link.down),
            mtu_bytes=link.mtu_bytes,
            max_tries=link.max_tries,
            retry_s=link.retry_s,
        )
    try:
        return TraceLink(
            seed=seed,
            up=read_recording(Path(link.trace)),
            down=read_recording(Path(link.trace_down or link.trace)),
            mtu_bytes=link.mtu_bytes,
            max_tries=link.max_tries,
            retry_s=link.retry_s,
        )
    except (OSError, UnicodeDecodeError, BadParameter) as error:
        raise ConfigError(f"link.trace cannot be replayed: {error}") from None


def cell(config: RunConfig) -> Engine:
    """The cell that all clients share, with the run's seed; client k is user k, others are silent.

    Raises ConfigError for what makes no cell, and for a client that can never be reached.
    """
    try:
        engine = Engine(cell_of(scenario(config)), mtu_bytes=config.link.mtu_bytes)
        engine.demand_reach(range(config.federation.clients))
        return engine
    except BadParameter as error:
        raise ConfigError(f"link.scenario {config.link.scenario!r} makes no cell: {error}") from None


def scenario(config: RunConfig) -> Scenario:
    """The link's scenario with the run's seed; ConfigError where it is none, or too small."""
    name, clients = config.link.scenario, config.federation.clients
    try:
        found = load_scenario(name)
    except BadParameter as error:
        raise ConfigError(f"link.scenario: {error}") from None
    if clients > found.place.users:
        raise ConfigError(
            f"link.scenario {name!r} has {found.place.users} users and cannot hold the {clients} clients of "
            "federation.clients"
        )
    return dataclasses.replace(found, seed=config.train.seed)


def snr_db(config: RunConfig) -> dict[tuple[int, str], float]:
    """Each client's mean signal-to-noise ratio in either direction, for numbers that are sent as they are."""
    clients = range(config.federation.clients)
    if not (config.analog.kinds and config.analog.from_cell):
        return {(client, way): config.analog.snr_db for client in clients for way in DIRECTIONS}
    if not config.link.scenario:
        raise ConfigError("analog.from_cell takes the noise from link.scenario, which is empty")
    airs = cell_of(scenario(config)).airs
    return {(k, way): float(airs[way].mean_sinr_db(0)[k]) for k in clients for way in DIRECTIONS}


def _way(way: DirectionConfig) -> Direction:
    if way.loss == "independent":
        return Direction(rate_bps=way.rate_bps, delay_s=way.delay_s, loss_rate=way.loss_rate)
    try:
        bursts = GilbertElliott(
            leave_good=way.leave_good,
            leave_bad=way.leave_bad,
            arrive_good=way.arrive_good,
            arrive_bad=way.arrive_bad,
        )
        return Direction(rate_bps=way.rate_bps, delay_s=way.delay_s, loss=bursts)
    except BadParameter as error:
        raise ConfigError(f"link loss: {error}") from None
