"""Energy consumption of a radio: radiated power over efficiency, plus circuit power."""

from dataclasses import dataclass

from channel.core.arrays import Array, Real, at_least
from channel.core.units import dbm_to_w
from channel.scenario.ranges import require_ranges


@dataclass(frozen=True, kw_only=True)
class Device:
    """Power consumption of a radio in watts.

    While sending it is `send_circuit_w` plus the radiated power, at most `transmit_dbm`, divided by
    `amplifier_efficiency`; while receiving `receive_circuit_w`; otherwise `idle_w`. That is the linear model
    that Auer et al., IEEE Wireless Commun. 18(5), 2011, use for base stations. The defaults are a power
    class 3 handset (23 dBm: 3GPP TS 38.101-1, table 6.2.1-1), with round numbers for the remaining values,
    which vary between chips. Raises BadParameter for values outside their range (`ranges`).
    """

    transmit_dbm: float = 23.0
    amplifier_efficiency: float = 0.4
    send_circuit_w: float = 0.3
    receive_circuit_w: float = 0.4
    idle_w: float = 0.01

    def __post_init__(self) -> None:
        require_ranges("device", self)

    @property
    def transmit_w(self) -> float:
        """The maximum radiated power."""
        return float(dbm_to_w(self.transmit_dbm))

    def energy_j(self, *, radiated_j: Real, send_s: Real, receive_s: Real, duration_s: Real) -> Array:
        """The energy consumed in `duration_s`, with `send_s` and `receive_s` spent sending and receiving.

        While a radio sends and receives at once (FDD) both circuits consume power; `idle_w` always applies.
        """
        radiated = at_least("radiated_j", radiated_j, 0.0) / self.amplifier_efficiency
        circuits = at_least("send_s", send_s, 0.0) * self.send_circuit_w
        listening = at_least("receive_s", receive_s, 0.0) * self.receive_circuit_w
        energy: Array = (
            radiated + circuits + listening + self.idle_w * at_least("duration_s", duration_s, 0.0)
        )
        return energy
