"""Maps transport blocks to the messages whose bits they carry, and tracks each message until it is decided.

The messages of a queue form a stream of bits. Every bit is queued, in flight, delivered or lost. Queues are
numbered direction x users + client.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from channel.cell.backlog import Backlog, Range
from channel.cell.blocks import Transmissions
from channel.cell.parameters import CellParameters
from channel.core.arrays import Array
from channel.core.link import Attempt, Delivery, Transfer, packets_of
from channel.phy.device import Device


@dataclass(kw_only=True, eq=False)
class Message:
    """An open transfer: bits [begin, end) of its queue's stream, `open_bits` of them undecided.

    Bits before `reliable_end` are retransmitted until they arrive; `edge_N` is the end of each packet in
    bits, relative to `begin`.
    """

    transfer: Transfer
    begin: float
    end: float
    reliable_end: float
    edge_N: Array
    open_bits: float
    arrived: NDArray[np.bool_]
    finish_s: float = 0.0
    retransmissions: int = 0
    airtime_s: float = 0.0
    energy_j: float = 0.0
    trace: list[Attempt] = field(default_factory=list)

    def delivery(self) -> Delivery:
        """The delivery; valid once `open_bits` is 0."""
        return Delivery(
            arrived=self.arrived,
            finish_s=self.finish_s,
            retransmissions=self.retransmissions,
            airtime_s=self.airtime_s,
            energy_j=self.energy_j,
            trace=tuple(sorted(self.trace, key=lambda attempt: attempt.end_s)),
        )


class Transfers:
    """The open messages of all queues."""

    def __init__(
        self,
        parameters: CellParameters,
        device: Device,
        backlog: Backlog,
        *,
        mtu_bytes: int,
        is_acknowledged: bool,
    ) -> None:
        self._parameters, self._device, self._backlog = parameters, device, backlog
        self._mtu_bytes, self._is_acknowledged = mtu_bytes, is_acknowledged
        self._open: dict[int, deque[Message]] = {}
        self._length: dict[int, float] = {}

    @property
    def is_empty(self) -> bool:
        """Whether every message is decided."""
        return not self._open

    def last_start_s(self, queue: int) -> float:
        """The start of the last open message of a queue; 0 without any."""
        return self._open[queue][-1].transfer.start_s if queue in self._open else 0.0

    def add(self, queue: int, transfer: Transfer) -> None:
        """Appends a message of at least one byte to a queue."""
        bits = 8.0 * transfer.payload_bytes
        begin = self._length.get(queue, 0.0)
        self._length[queue] = begin + bits
        packets = packets_of(transfer, self._mtu_bytes)
        reliable_bytes = packets.sizes_bytes[: packets.reliable].sum() if self._is_acknowledged else 0
        message = Message(
            transfer=transfer,
            begin=begin,
            end=begin + bits,
            reliable_end=begin + 8.0 * float(reliable_bytes),
            edge_N=np.cumsum(8.0 * packets.sizes_bytes, dtype=np.float64),
            open_bits=bits,
            arrived=np.ones(packets.sizes_bytes.size, dtype=np.bool_),
        )
        self._open.setdefault(queue, deque()).append(message)
        self._backlog.add(self._parameters.ready_grant(transfer.direction, transfer.start_s), queue, bits)

    def count(self, tries: Transmissions, users: int) -> list[Message]:
        """Accounts transmissions and requeues reliable bits that were lost; returns completed messages."""
        # Grant by grant, so that the rounding of sums does not depend on the batch size.
        grant_T = tries.blocks.slot_T // self._parameters.grant_slots
        tries = tries.at(np.argsort(grant_T, kind="stable"))
        blocks, slot_s = tries.blocks, self._parameters.slot_s
        is_up = blocks.queue_T < users
        energy_j = self._device.energy_j(
            radiated_j=tries.radiated_j_T * is_up,
            send_s=np.where(is_up, slot_s, 0.0),
            receive_s=np.where(is_up, 0.0, slot_s),
            duration_s=0.0,
        )
        rows = zip(
            blocks.queue_T.tolist(),
            blocks.slot_T.tolist(),
            blocks.place_T.tolist(),
            blocks.payload_T.tolist(),
            tries.decoded_T.tolist(),
            tries.is_lost_T.tolist(),
            energy_j.tolist(),
            blocks.scheme_T.tolist(),
            tries.effective_db_T.tolist(),
            strict=True,
        )
        over = []
        for queue, slot, place, bits, came, is_lost, joule, scheme, sinr_db in rows:
            ranges = self._backlog.ranges(queue, place, bits)
            again: list[Range] = []
            for message, begin, end in self._pieces(queue, ranges):
                sure = min(max(message.reliable_end, begin), end) if is_lost else begin
                share = (end - begin) / bits
                message.airtime_s += share * slot_s
                message.energy_j += share * joule
                message.retransmissions += not came and (sure > begin or not is_lost)
                if message.transfer.is_traced:
                    sent, received_bits = end - begin, (end - begin) * came
                    message.trace.append(Attempt((slot + 1) * slot_s, sent, received_bits, scheme, sinr_db))
                if sure > begin:
                    again.append((begin, sure))
                if came or (is_lost and end > sure):
                    message.open_bits -= end - sure
                    message.finish_s = max(message.finish_s, (slot + 1) * slot_s)
                if is_lost and end > sure:
                    self._lose(message, sure, end)
                if not message.open_bits:
                    over.append(message)
            self._ask_again(slot, queue, again)
        for message in over:
            self._close(message, users)
        return over

    def _ask_again(self, slot: int, queue: int, ranges: list[Range]) -> None:
        """Requeues lost bits after the feedback delay."""
        grant = slot // self._parameters.grant_slots + self._parameters.round_trip_grants
        for begin, end in ranges:
            self._backlog.add(grant, queue, end - begin, (begin, end))

    def _pieces(self, queue: int, ranges: list[Range]) -> Iterator[tuple[Message, float, float]]:
        """The messages of these stream ranges, with the part of each."""
        for begin, end in ranges:
            for message in self._open[queue]:
                if message.begin >= end:
                    break
                if message.end > begin:
                    yield message, max(begin, message.begin), min(end, message.end)

    def _lose(self, message: Message, begin: float, end: float) -> None:
        first = int(np.searchsorted(message.edge_N, begin - message.begin, side="right"))
        last = int(np.searchsorted(message.edge_N, end - message.begin, side="left"))
        message.arrived[first : last + 1] = False

    def _close(self, message: Message, users: int) -> None:
        queue = message.transfer.client + (0 if message.transfer.direction == "up" else users)
        waiting = self._open[queue]
        waiting.remove(message)
        if not waiting:
            del self._open[queue]
            self._backlog.forget(queue)
