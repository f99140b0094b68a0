"""Applies erasure policies: from a delivery to the message that its receiver uses.

Ids, labels, masks, scalars and adapters are always recovered; only rows of tokens may be
erased. The server does this for both ends, since it emulates the channel: a client
receives the reply with its erasures, and the gradient with respect to the received rows is
converted to the gradient with respect to the sent rows.
"""

# B batch, N rows: real tokens of a batch, D hidden

from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from channel.core.link import DIRECTIONS, packets_of, units_arrived
from channel.core.rng import stream
from channel.core.units import db_to_ratio
from splitfl.config import AnalogConfig, ErasureConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import LOST, Activation, Adapter, Gradient, Message, Output, Reply
from splitfl.core.state import State, part, under
from splitfl.server.virtual_clock import Crossing, Load
from splitfl.wire import Envelope
from splitfl.wire.analog import over_the_air, symbols_of
from splitfl.wire.erasure import (
    Pooled,
    ReceivedActivation,
    gradient_of_sent,
    real_tokens,
    rows,
    scale_of,
    tensor_of,
    with_rows,
    without_samples,
    without_tokens,
    zeroed,
)
from splitfl.wire.rows import row_bytes
from splitfl.wire.stale_cache import StaleCache

Rows = Activation | Output | Gradient
_SCALE_BYTES = 4  # of an analog row: its rms, in float32


@dataclass(frozen=True, kw_only=True, eq=False)
class _ReceivedRows:
    """Rows as received, the factor of each, and which samples are complete."""

    rows_ND: Tensor
    factor_N: Tensor
    whole_B: Tensor


@dataclass(kw_only=True, eq=False)
class _LastExchange:
    """A client's last activation as sent and received, and the row factors of the output that answered it."""

    sent: Activation
    received: ReceivedActivation
    output_factor_N: Tensor | None = None


class ErasurePolicies:
    """One policy for each kind of message with rows, and the state that replies depend on.

    Not used if all kinds are reliable (`is_reliable`): a message then arrives completely or not at all.

    `snr_db` is each client's mean SNR by direction, for analog rows. With `is_received` a receiver tells
    which rows arrived; a reply has no gradients of rows that did not, but a mask of the others.
    """

    def __init__(
        self,
        seed: int,
        erasure: ErasureConfig,
        analog: AnalogConfig,
        pooled: Pooled,
        mtu_bytes: int,
        snr_db: dict[tuple[int, str], float],
        *,
        is_received: bool = False,
    ) -> None:
        self._seed = seed
        self._analog = analog
        self._pooled = pooled
        self._mtu_bytes = mtu_bytes
        self._snr_db = snr_db
        self._is_received = is_received
        self._policies = {kind.capitalize(): policy for kind, policy in erasure.by_kind().items()}
        self._stale_caches: dict[tuple[str, str], StaleCache] = {}
        self._rounds = erasure.stale_rounds
        self._exchanges: dict[int, _LastExchange] = {}
        is_digital = not analog.kinds and not analog.sum_adapters
        self.is_reliable = is_digital and set(self._policies.values()) == {"reliable"}

    def state(self) -> State:
        """The caches of older rows that replace lost ones; see Stateful."""
        tensors: dict[str, Tensor] = {}
        for (kind, direction), cache in self._stale_caches.items():
            tensors |= under(f"{kind}.{direction}", cache.state())
        return tensors

    def restore(self, state: State) -> None:
        """See Stateful; clears the last exchanges."""
        self._exchanges.clear()
        self._stale_caches.clear()
        for kind, direction in product(self._policies, DIRECTIONS):
            if tensors := part(state, f"{kind}.{direction}"):
                self._stale_caches[kind, direction] = StaleCache(self._rounds)
                self._stale_caches[kind, direction].restore(tensors)

    def load(self, message: Message, frame_bytes: int, codec: str, *, is_up: bool) -> Load:
        """The link load of this message, whose rows are encoded by `codec` in its frame."""
        if isinstance(message, Adapter) and is_up and self._analog.sum_adapters:
            numbers = sum(tensor.numel() for tensor in message.tensors.values())
            return Load(
                payload_bytes=frame_bytes - sum(tensor.nbytes for tensor in message.tensors.values()),
                symbols=-(-numbers // 2),
                symbol_hz=self._analog.symbol_hz,
            )
        tensor = tensor_of(message) if isinstance(message, Rows) else None
        if tensor is None:
            return Load(payload_bytes=frame_bytes)
        rows_ND, kind = rows(tensor), type(message).__name__
        is_analog = kind.lower() in self._analog.kinds
        if self._policies[kind] == "reliable" and not is_analog:
            return Load(payload_bytes=frame_bytes)
        unit_bytes = row_bytes(rows_ND.shape[-1], rows_ND.dtype, codec)
        if unit_bytes is None:  # settings exclude it: the client has others
            raise WireError(
                f"rows of codec {codec!r} have no fixed number of bytes and can only be sent reliably"
            )
        other_bytes = frame_bytes - len(rows_ND) * unit_bytes
        if is_analog:
            return Load(
                payload_bytes=other_bytes + _SCALE_BYTES * len(rows_ND),
                symbols=symbols_of(rows_ND),
                symbol_hz=self._analog.symbol_hz,
            )
        return Load(
            payload_bytes=frame_bytes,
            recovery="none",
            reliable_bytes=other_bytes,
            unit_bytes=unit_bytes,
        )

    def reply_load(self, envelope: Envelope, reply: Message, frame_bytes: int, codec: str) -> Load:
        """The link load of a reply, as `load`."""
        load = self.load(reply, frame_bytes, codec, is_up=False)
        exchange = self._exchanges.get(envelope.client)
        if self._is_received and exchange and isinstance(reply, Gradient) and load.recovery == "none":
            return load.only((exchange.received.factor_N != 0).numpy())
        return load

    def received(self, up: Crossing) -> Message | None:
        """What the server receives of a client's message; None where nothing is usable."""
        match up.message:
            case Activation(hidden=Tensor()) as message:
                return self._activation(message, up)
            case Gradient() as message:
                return self._gradient(message, up)
        return up.message if up.outcome.is_complete else None

    def reply_to_sent(self, envelope: Envelope, reply: Message) -> Message:
        """Converts the reply to the received message to a reply to the sent one."""
        exchange = self._exchanges.get(envelope.client)
        if exchange is None or not isinstance(reply, Gradient):
            return reply
        return gradient_of_sent(exchange.received, exchange.sent, reply)

    def reply_received(self, down: Crossing) -> Reply:
        """What the client receives of a reply; LOST where nothing is usable."""
        match down.message:
            case Gradient() as reply:
                return self._gradient(reply, down) or LOST
            case Output() as reply:
                return self._output(reply, down) or LOST
        return down.message if down.outcome.is_complete else LOST

    def _activation(self, message: Activation, up: Crossing) -> Activation | None:
        envelope = up.envelope
        self._exchanges.pop(envelope.client, None)
        received = self._received_activation(message, up)
        if received is None:
            return None
        self._exchanges[envelope.client] = _LastExchange(sent=message, received=received)
        return received.message

    def _received_activation(self, message: Activation, up: Crossing) -> ReceivedActivation | None:
        assert message.hidden is not None
        if self._policies["Activation"] == "mask" and not up.outcome.is_complete:
            arrived_N = self._arrived(up)
            return without_tokens(message, arrived_N, self._pooled) if arrived_N is not None else None
        counts_B = real_tokens(message).sum(1) if message.hidden.ndim <= _TOKENS else None
        part = self._part(message, counts_B, up)
        if part is None or (message.labels is None and not part.whole_B.all()):
            return None  # without labels here only the client could drop a sample
        return without_samples(with_rows(message, part.rows_ND, part.factor_N), part.whole_B)

    def _output(self, reply: Output, down: Crossing) -> Output | None:
        part = self._part(reply, self._counts(down.envelope), down)
        if part is None or not part.whole_B.all():
            return None
        exchange = self._exchanges.get(down.envelope.client)
        if exchange is not None:
            exchange.output_factor_N = part.factor_N
        return replace(reply, hidden=part.rows_ND.reshape(reply.hidden.shape))

    def _gradient(self, message: Gradient, crossing: Crossing) -> Gradient | None:
        counts_B = self._counts(crossing.envelope)
        part = self._part(message, counts_B, crossing)
        if part is None or not part.whole_B.any():
            return None
        grad_ND = part.rows_ND
        if counts_B is not None and not part.whole_B.all():
            grad_ND = zeroed(grad_ND, part.whole_B.repeat_interleave(counts_B))
        exchange = self._exchanges.get(crossing.envelope.client)
        if crossing.transfer.direction == "up" and exchange and exchange.output_factor_N is not None:
            grad_ND = grad_ND * exchange.output_factor_N.to(grad_ND.dtype)[:, None]
        return replace(message, grad=grad_ND.reshape(message.grad.shape))

    def _part(self, message: Rows, counts_B: Tensor | None, crossing: Crossing) -> _ReceivedRows | None:
        """The received rows; None if all are lost, or the reliable part of the message."""
        tensor, kind = tensor_of(message), type(message).__name__
        assert tensor is not None
        sent_ND, whole_B = rows(tensor), torch.ones(len(message.ids_B), dtype=torch.bool)
        all_N = torch.ones(len(sent_ND), dtype=torch.float64)
        if kind.lower() in self._analog.kinds and crossing.outcome.is_complete:
            received_ND, factor = self._analog_rows(crossing, sent_ND)
            return _ReceivedRows(rows_ND=received_ND, factor_N=all_N * factor, whole_B=whole_B)
        arrived_N, policy = self._arrived(crossing), self._policies[kind]
        if policy == "stale" and counts_B is not None and arrived_N is not None:
            return self._with_stale_rows(message, sent_ND, counts_B, crossing)
        if crossing.outcome.is_complete:
            return _ReceivedRows(rows_ND=sent_ND, factor_N=all_N, whole_B=whole_B)
        if arrived_N is None or policy in ("reliable", "skip"):
            return None
        among_N = arrived_N if crossing.load.sent_N is None else arrived_N[crossing.load.sent_N]
        if not among_N.any():
            return None
        scale = scale_of(among_N) if policy == "rescale" else 1.0
        return _ReceivedRows(
            rows_ND=zeroed(sent_ND, arrived_N) * scale, factor_N=all_N * arrived_N * scale, whole_B=whole_B
        )

    def _with_stale_rows(
        self, message: Rows, sent_ND: Tensor, counts_B: Tensor, crossing: Crossing
    ) -> _ReceivedRows:
        arrived_N = self._arrived(crossing)
        assert arrived_N is not None
        direction = (type(message).__name__, crossing.transfer.direction)
        cache = self._stale_caches.setdefault(direction, StaleCache(self._rounds))
        filled_ND, counts = sent_ND.clone(), counts_B.tolist()
        samples = zip(
            message.ids_B.tolist(),
            torch.split(filled_ND, counts),
            torch.split(arrived_N, counts),
            strict=True,
        )
        whole = [
            cache.recall(crossing.envelope.client, sample, crossing.envelope.round, rows_nD, arrived_n)
            for sample, rows_nD, arrived_n in samples
        ]
        return _ReceivedRows(
            rows_ND=filled_ND,
            factor_N=arrived_N.to(torch.float64),
            whole_B=torch.tensor(whole, dtype=torch.bool),
        )

    def _arrived(self, crossing: Crossing) -> Tensor | None:
        """(N,) bool, which rows arrived; None if the reliable part of the message did not."""
        transfer, arrived, rows_N = crossing.transfer, crossing.outcome.arrived, crossing.outcome.rows
        if transfer.recovery == "acknowledged":
            return None
        if rows_N is not None:
            return torch.from_numpy(rows_N)
        if not arrived[: packets_of(transfer, self._mtu_bytes).reliable].all():
            return None
        return torch.from_numpy(units_arrived(arrived, transfer, self._mtu_bytes))

    def _analog_rows(self, crossing: Crossing, sent_ND: Tensor) -> tuple[Tensor, float]:
        transfer, settings = crossing.transfer, self._analog
        names = (transfer.direction, transfer.client, transfer.sequence)
        return over_the_air(
            sent_ND,
            stream(self._seed, "analog", *names),
            snr=float(db_to_ratio(self._snr_db[transfer.client, transfer.direction])),
            equaliser=settings.equaliser,
            fading=settings.fading,
        )

    def _counts(self, envelope: Envelope) -> Tensor | None:
        """(B,) the rows of each sample in the client's last activation."""
        exchange = self._exchanges.get(envelope.client)
        return real_tokens(exchange.sent).sum(1) if exchange is not None else None


_TOKENS = 3  # axes of a hidden state (B, T, D); feature maps have more
