"""Builds the server loop of a run: its clock, its erasure policies, and its link or cell."""

import torch
from torch import Tensor

from channel.core.link import Link
from channel.links.fixed import Direction
from splitfl.accounting.ledger import Ledger
from splitfl.core.events import Events
from splitfl.core.messages import Activation
from splitfl.federation.staleness import at_own_pace
from splitfl.methods.parts.method import ServerMethod
from splitfl.methods.registry import in_flight, served_together
from splitfl.models.checkpoint.source import resolve
from splitfl.models.families import FAMILIES, LANGUAGE_MODELS, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION
from splitfl.models.load import read_config
from splitfl.server.async_server import AsyncServer
from splitfl.server.cell_server import CellServer
from splitfl.server.erasure_policies import ErasurePolicies
from splitfl.server.exchange import Exchange
from splitfl.server.protocols import RoundPlanner, Watcher
from splitfl.server.server_loop import ServerLoop
from splitfl.server.service_order import ServiceOrder
from splitfl.server.sync_server import SyncServer
from splitfl.server.virtual_clock import EmulatedLink, VirtualClock
from splitfl.setup.experiment import Experiment
from splitfl.setup.links import cell, own_link, snr_db
from splitfl.transport.base.carrier import Carrier
from splitfl.wire.codec_meter import CodecMeter
from splitfl.wire.erasure import Pooled

POWER_W = Direction.power_w
"""Transmit power of uncoded symbols, in W."""


def server_loop_of(
    experiment: Experiment,
    server: ServerMethod,
    ledger: Ledger,
    events: Events,
    watcher: Watcher,
    link: Link | None = None,
    controller: RoundPlanner | None = None,
    carrier: Carrier | None = None,
    meter: CodecMeter | None = None,
) -> ServerLoop:
    """The server loop of this experiment, over `link` or `carrier` if given, else the link of the settings.

    `controller` plans the clients' rounds in a run with `auto.every`; `meter` measures the codecs of replies.
    """
    config = experiment.config
    slots, batch, clients = in_flight(config), served_together(config), config.federation.clients
    each_flops = config.federation.client_flops
    clock = VirtualClock(config.client.flops, config.server.flops, slots, ledger, events, each_flops)
    erasure = ErasurePolicies(
        config.train.seed,
        config.erasure,
        config.analog,
        pooled(experiment),
        config.link.mtu_bytes,
        snr_db(config),
        is_received=carrier is not None,
    )
    assert (controller is not None) == bool(config.auto.every), (
        "a run has a controller if and only if auto.every is set"
    )
    exchange = Exchange(
        server,
        clock,
        erasure,
        events,
        watcher,
        config.codec,
        controller,
        power_w=POWER_W,
        max_loss=config.train.max_loss,
        meter=meter,
    )
    if carrier is None and link is None and (shared := cell(config)):
        return CellServer(exchange, shared, config.train.seed, clients, batch)
    carrier = carrier or EmulatedLink(link or own_link(config))
    if at_own_pace(config.federation):
        return AsyncServer(exchange, carrier, config, clock.ready_s)
    return SyncServer(
        exchange,
        carrier,
        ServiceOrder(config.train.seed, clients, slots, batch),
        clients=clients,
        rounds=config.federation.rounds,
        min_clients=config.fault_tolerance.min_clients,
        deadline_s=config.federation.deadline_s,
    )


def pooled(experiment: Experiment) -> Pooled:
    """The token from which the loss is computed, by the kind of task and the model's family."""
    kind, model = experiment.task.kind, experiment.config.model
    settings = read_config(resolve(model.name), kind, model.attention, pad_token_id=0)
    family = FAMILIES[settings.model_type]

    def first(message: Activation) -> Tensor | None:
        return torch.zeros(len(message.ids_B), dtype=torch.int64)

    def last(message: Activation) -> Tensor | None:
        return message.context["last"]

    def everywhere(message: Activation) -> Tensor | None:
        return None

    if kind in (*LANGUAGE_MODELS, TOKEN_CLASSIFICATION) or family.hands_pictures:
        return everywhere
    return last if kind == SEQUENCE_CLASSIFICATION and family.pools_last else first
