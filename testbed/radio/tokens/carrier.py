"""Carries the frames of a run in one process over the packet modem: a radio for each node of an air.

Node 0 is the server, at the base station, and node k + 1 is client k.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import ChannelError
from channel.core.link import Delivery, Transfer
from channel.fidelity.packet_level import PacketLevel
from channel.iq.from_scenario import iq_channel_of
from channel.scenario.load import Scenario, changed, load
from channel.waveform.arq import ArqCounters
from channel.waveform.received import Received
from channel.waveform.tokens import TokenLink, TokenMessage
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError, SplitflError
from splitfl.transport.radio.spec import RadioSettings
from splitfl.wire.row_split import NO_ROWS, split
from testbed.radio.link_monitor import FarNode, LinkMonitor
from testbed.radio.loopback import LoopbackAir
from testbed.radio.modem import Modem, ModemSettings, PacketModem
from testbed.radio.radio import Radio
from testbed.radio.tokens.ends import received
from testbed.radio.tokens.node import INTERVAL_S, token_link
from testbed.radio.tokens.predicted_modem import predicted_modems
from testbed.radio.tokens.records import latest_rows
from testbed.radio.tokens.sending import SendingMeter, delivery_of
from testbed.radio.zmq_radio import ZmqRadio, settings_of


def open_carrier(config: RunConfig) -> "TokenCarrier":
    """The carrier of these settings; raises ConfigError for those that scenario or modem do not support."""
    own, clients = config.transport.of(RadioSettings), config.federation.clients
    try:
        modem = ModemSettings(mcs=own.mcs, fft_size=own.fft_size, longest=own.packet_bytes)
        if own.air_port:
            return _on_radios(_at_ports(own, clients, config.transport.timeout_s), modem, own)
        scenario = _scenario(own, clients, config.train.seed)
        if own.losses == "predicted":
            level = PacketLevel(scenario, rate_hz=own.rate_hz, numerology=modem.numerology)
            return TokenCarrier(
                predicted_modems(level, modem, nodes=clients + 1, seed=config.train.seed), own
            )
        return _on_radios(LoopbackAir(iq_channel_of(scenario, rate_hz=own.rate_hz)).radios, modem, own)
    except ChannelError as error:
        raise ConfigError(f"[transport] radio: {error}") from None


def _on_radios(radios: Sequence[Radio], modem: ModemSettings, own: RadioSettings) -> "TokenCarrier":
    return TokenCarrier([PacketModem(radio, modem, node=node) for node, radio in enumerate(radios)], own)


def _scenario(own: RadioSettings, clients: int, seed: int) -> Scenario:
    """The scenario of the settings, with the run's seed and a user for each client."""
    scenario = load(own.scenario)
    if clients > scenario.place.users:
        raise ConfigError(
            f"federation.clients must be at most the {scenario.place.users} users of transport.scenario "
            f"{own.scenario!r}, got {clients}"
        )
    return replace(changed(scenario, {"place": {"users": clients}}), seed=seed)


def _at_ports(own: RadioSettings, clients: int, timeout_s: float) -> Sequence[Radio]:
    """Radios at the ports of an air of another process. Raises RadioTimeout if it does not answer."""
    radios = list[ZmqRadio]()
    try:
        for node in range(clients + 1):
            settings = settings_of(node, port=own.air_port, rate_hz=own.rate_hz)
            radios.append(ZmqRadio(replace(settings, timeout_s=timeout_s)))
    except SplitflError:
        for radio in radios:
            radio.close()
        raise
    return radios


@dataclass(frozen=True)
class _End:
    """One end of a client's link, and the modem of its node; `heard` counts the packets of the far end."""

    modem: Modem
    link: TokenLink
    heard: FarNode

    def send(self) -> None:
        self.modem.send_due(self.link.next)

    def take(self, packets: list[Received]) -> list[TokenMessage]:
        """The messages that these packets complete; those of other nodes are left aside."""
        own = (self.link.arq.target, self.link.arq.source)
        messages = list[TokenMessage]()
        for packet in packets:
            if (packet.header.source, packet.header.target) == own:
                messages += self.heard.take(packet, self.link, self.modem.now_s)
        return messages


class TokenCarrier:
    """Implements Carrier. One message at a time is on the air; samples pass only while there is one.

    Noise and fading continue from message to message, so that a resumed run meets other ones.
    """

    def __init__(self, modems: Sequence[Modem], settings: RadioSettings) -> None:
        """The modems are those of node 0, 1 and so on. Raises BadParameter for packets that do not fit."""
        self._modems, self._settings = modems, settings
        links = {client: self._pair(client) for client in range(len(modems) - 1)}
        self._monitors = [
            LinkMonitor(modem, counters, INTERVAL_S, clock=None)
            for modem, counters in zip(self._modems, _counters(links), strict=True)
        ]
        self._ends = {
            client: (self._end(server, client + 1), self._end(far, 0))
            for client, (server, far) in links.items()
        }
        self._rows: list[dict[str, Any]] = []
        # A radio at a port waits for samples that the air computes only once it has those of all others.
        self._threads = ThreadPoolExecutor(len(modems), thread_name_prefix="radio")

    def record(self) -> dict[str, Any]:
        """What each node has heard and sent, by interval and in all."""
        own = self._settings
        return {
            "scenario": f"the air at port {own.air_port}" if own.air_port else own.scenario,
            "mcs": own.mcs,
            "air": {"rate_hz": self._modems[0].rate_hz, "seconds": self._modems[0].now_s},
            "nodes": [monitor.final() for monitor in self._monitors],
            "rows": [*self._rows, *self._interval()],
        }

    def latest(self) -> list[dict[str, Any]]:
        """The last row of each link."""
        return latest_rows(self._rows)

    def close(self) -> None:
        """Closes all modems, and their radios."""
        self._threads.shutdown()
        for modem in self._modems:
            modem.close()

    def carry(
        self, transfer: Transfer, frame: bytes, sent_N: NDArray[np.bool_] | None = None
    ) -> tuple[Delivery, bytes]:
        """See Carrier. A message whose reliable part ARQ gives up is lost."""
        server, client = self._ends[transfer.client]
        sender, receiver = (client, server) if transfer.direction == "up" else (server, client)
        is_whole = transfer.recovery == "acknowledged"
        reliable, row_UN = (frame, NO_ROWS) if is_whole else split(frame, sent_N)
        meter = SendingMeter(sender.link.arq.counters, sender.modem, receiver.modem)
        sender.link.offer(reliable, row_UN)
        message, took_s = self._send(sender, receiver)
        sending = meter.sending(is_lost=message is None, took_s=took_s)
        if message is None:
            whole, rows_N = None, np.zeros(len(row_UN) if sent_N is None else sent_N.size, dtype=np.bool_)
        else:
            whole = received(message)
            rows_N = whole.arrived_N
        rate_hz = server.modem.rate_hz
        delivery = delivery_of(transfer, sending, rate_hz, None if is_whole else rows_N, sent_N)
        return delivery, b"" if whole is None else whole.frame

    def _send(self, sender: _End, receiver: _End) -> tuple[TokenMessage | None, float]:
        """Lets samples pass until the sender has nothing left; the message and when it came, in seconds.

        The message is None, and the time that of the end, if it was given up.
        """
        began_s, message, arrived_s = sender.modem.now_s, None, 0.0

        def hear(modem: Modem) -> list[Received]:
            return modem.receive() if modem in (sender.modem, receiver.modem) else modem.skip()

        while not sender.link.is_idle:
            sender.send()
            receiver.send()
            heard = dict(zip(self._modems, self._threads.map(hear, self._modems), strict=True))
            sender.take(heard[sender.modem])
            if found := receiver.take(heard[receiver.modem]):
                (message,), arrived_s = found, receiver.modem.now_s
            if self._monitors[0].is_due:
                self._rows += self._interval()
        return message, (sender.modem.now_s if message is None else arrived_s) - began_s

    def _interval(self) -> list[dict[str, Any]]:
        """A row for each link of which packets were heard in the interval that ends here."""
        return [
            {"at": node, **row} for node, monitor in enumerate(self._monitors) for row in monitor.interval()
        ]

    def _pair(self, client: int) -> tuple[TokenLink, TokenLink]:
        """The link of the server to this client, and the client's to the server."""
        node = client + 1
        server, far = (
            token_link(self._modems[source], self._settings, source=source, target=target)
            for source, target in ((0, node), (node, 0))
        )
        return server, far

    def _end(self, link: TokenLink, far: int) -> _End:
        node = link.arq.source
        return _End(self._modems[node], link, self._monitors[node].nodes[far])


def _counters(links: Mapping[int, tuple[TokenLink, TokenLink]]) -> list[dict[int, ArqCounters]]:
    """The counters of each node's links, by far node."""
    of_server = {client + 1: server.arq.counters for client, (server, _) in links.items()}
    return [of_server, *({0: far.arq.counters} for _, far in links.values())]
