"""Settings of erasure policies and of analog transmission."""

from dataclasses import dataclass

from splitfl.config.checks import above, at_least, one_of
from splitfl.config.codec import KINDS
from splitfl.core.errors import ConfigError

POLICIES = ("reliable", "mask", "zero", "rescale", "stale", "skip")
"""The erasure policies; see `ErasureConfig`."""


@dataclass(frozen=True, kw_only=True)
class ErasureConfig:
    """The erasure policy for lost packets of activations, outputs and gradients, by kind.

    `reliable`: retransmitted until delivered, so that loss is delay. The others are sent once, in packets of
    whole tokens. `mask`: a lost token is excluded from attention and loss; its gradient is zero.
    `zero`: a lost token is replaced by zeros. `rescale`: by zeros, and the others are divided by the delivery
    rate of the message, which preserves the mean. `stale`: by its last received value, at most `stale_rounds`
    rounds old; a sample with a token never received is dropped. `skip`: the whole message is dropped.
    """

    activation: str = "reliable"
    output: str = "reliable"
    gradient: str = "reliable"
    stale_rounds: int = 1

    def __post_init__(self) -> None:
        for kind, policy in self.by_kind().items():
            one_of(f"erasure.{kind}", policy, POLICIES)
        at_least("erasure.stale_rounds", self.stale_rounds, 0)

    def by_kind(self) -> dict[str, str]:
        """The policy of each kind of message with rows."""
        return {kind: getattr(self, kind) for kind in KINDS}

    def describe(self) -> str:
        """A sentence on erasure policies for a report; "" if all kinds are reliable."""
        kinds = self.by_kind()
        erased = [f"{policy} for the {kind}" for kind, policy in kinds.items() if policy != "reliable"]
        if not erased:
            return ""
        most = f" (at most {self.stale_rounds} rounds old)" if "stale" in kinds.values() else ""
        return f"Lost tokens were not retransmitted, but erased: {', '.join(erased)}{most}."


@dataclass(frozen=True, kw_only=True)
class AnalogConfig:
    """Messages whose tokens are sent as uncoded analog symbols: y = h x + n.

    `kinds` are these messages; the receiver estimates x by the `equaliser`. `snr_db` is the mean
    signal-to-noise ratio of a symbol; `from_cell` uses each client's mean SNR in the link's scenario
    instead. Two values form a complex symbol; `symbol_hz` symbols are sent per second, after the
    message's other bytes. `fading` draws one h for each message.

    `sum_adapters` sends all clients' adapters simultaneously for over-the-air aggregation: a client whose
    channel power is below `truncation` of the mean does not send in that round, and `phase_error_rad` is
    the standard deviation of each client's residual phase.
    """

    kinds: tuple[str, ...] = ()
    sum_adapters: bool = False
    truncation: float = 0.1
    phase_error_rad: float = 0.0
    snr_db: float = 10.0
    from_cell: bool = False
    equaliser: str = "lmmse"
    fading: str = "none"
    symbol_hz: float = 1e6

    def __post_init__(self) -> None:
        for kind in self.kinds:
            one_of("analog.kinds", kind, KINDS)
        if not -100.0 <= self.snr_db <= 100.0:
            raise ConfigError(f"analog.snr_db must lie in [-100, 100], got {self.snr_db}")
        one_of("analog.equaliser", self.equaliser, ("lmmse", "zero-forcing"))
        one_of("analog.fading", self.fading, ("none", "rayleigh"))
        above("analog.symbol_hz", self.symbol_hz, 0.0)
        above("analog.truncation", self.truncation, 0.0)
        at_least("analog.phase_error_rad", self.phase_error_rad, 0.0)

    def describe(self) -> str:
        """A sentence on analog transmission for a report; "" without any."""
        summed = ["the sum of the clients' adapters"] if self.sum_adapters else []
        sent = ", ".join([*(f"{kind} tokens" for kind in self.kinds), *summed])
        if not sent:
            return ""
        snr = "the cell's mean SNR" if self.from_cell else f"a mean SNR of {self.snr_db:g} dB"
        fading = f" and {self.fading} fading" if self.fading != "none" else ""
        return f"Sent as analog symbols, at {snr}{fading}: {sent}."
