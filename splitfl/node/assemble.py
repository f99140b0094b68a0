"""The station of a run: its clocks, what losses mean to it, and the link or the cell of its clients."""

import torch
from torch import Tensor

from channel.fixed import Way
from channel.link import Link
from splitfl.federation.staleness import at_own_pace
from splitfl.ledger import Ledger
from splitfl.messages import Activation
from splitfl.methods.registry import in_flight
from splitfl.methods.seam import ServerMethod
from splitfl.metrics import Events
from splitfl.node.air import Air
from splitfl.node.build import Site
from splitfl.node.cell_station import CellStation
from splitfl.node.desk import Desk, Watcher
from splitfl.node.gate import Gate
from splitfl.node.links import cell, own_link, snr_db
from splitfl.node.losses import Losses
from splitfl.node.options import Table
from splitfl.node.pace import PaceStation
from splitfl.node.planner import Planner
from splitfl.node.station import LinkStation, Station
from splitfl.partition.families import CAUSAL_LM, FAMILIES, SEQUENCE_CLASSIFICATION
from splitfl.partition.load import read_config
from splitfl.partition.source import resolve
from splitfl.wire.erasure import Pooled

POWER_W = Way.power_w
"""Radiated while numbers are sent as they are."""


def station_of(
    site: Site,
    server: ServerMethod,
    ledger: Ledger,
    events: Events,
    watcher: Watcher,
    link: Link | None = None,
    table: Table = (),
) -> Station:
    """The server's side of a run of these settings, over `link` where one is given instead of theirs.

    `table` is what a run that is planned from round to round can choose from.
    """
    config = site.config
    slots, clients = in_flight(config), config.federation.clients
    each_flops = config.federation.client_flops
    air = Air(config.client.flops, config.server.flops, slots, ledger, events, each_flops)
    losses = Losses(
        config.train.seed, config.loss, config.analog, pooled(site), config.link.mtu_bytes, snr_db(config)
    )
    planner = Planner(config, ledger, events, table) if config.auto.every else None
    desk = Desk(server, air, losses, events, watcher, config.codec, planner)
    if config.link.scenario and link is None:
        return CellStation(desk, cell(config), config.train.seed, clients, POWER_W)
    if at_own_pace(config.federation):
        return PaceStation(desk, link or own_link(config), POWER_W, config, air.ready_s)
    gate = Gate(config.train.seed, clients, slots)
    least, rounds = config.survival.min_clients, config.federation.rounds
    return LinkStation(
        desk,
        link or own_link(config),
        gate,
        POWER_W,
        clients=clients,
        rounds=rounds,
        least=least,
        deadline_s=config.federation.deadline_s,
    )


def pooled(site: Site) -> Pooled:
    """Where the loss is read from, by the kind of task and the model's family."""
    kind, model = site.task.kind, site.config.model
    settings = read_config(resolve(model.name), kind, model.attention, pad_token_id=0)
    family = FAMILIES[settings.model_type]

    def first(message: Activation) -> Tensor | None:
        return torch.zeros(len(message.ids_B), dtype=torch.int64)

    def last(message: Activation) -> Tensor | None:
        return message.context["last"]

    def everywhere(message: Activation) -> Tensor | None:
        return None

    if kind == CAUSAL_LM or family.hands_pictures:
        return everywhere
    return last if kind == SEQUENCE_CLASSIFICATION and family.pools_last else first
