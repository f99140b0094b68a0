"""The permitted range of every number of a scenario by key, with hints at unit mistakes.

The ranges are wide: they cover any real radio network, and refuse only obvious mistakes, such as
nanoseconds or gigahertz for a key in seconds or hertz, and sizes that no computer could simulate.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from channel.core.errors import BadParameter
from channel.core.units import w_to_dbm

Meant = Mapping[str, Callable[[float], float]]
"""Units written by mistake, likeliest first, with the conversion to the right unit."""


@dataclass(frozen=True)
class Range:
    """[least, most]; errors suggest a `meant` unit if the converted value is at least `typical`."""

    least: float
    most: float
    unit: str = ""
    meant: Meant | None = None
    typical: float = 0.0

    def demand(self, name: str, got: float) -> None:
        """Raises BadParameter, with the likely unit, for a number outside the range."""
        if self.least <= got <= self.most:
            return
        kind = "be a whole number in" if isinstance(got, int) else "lie in"
        unit = f" {self.unit}" if self.unit else ""
        raise BadParameter(
            f"{name} must {kind} [{self.least:g}, {self.most:g}]{unit}, got {got:.10g}{self._hint(got)}"
        )

    def _hint(self, got: float) -> str:
        if not (self.meant and math.isfinite(got) and got > 0.0):
            return ""
        for unit, convert in self.meant.items():
            value = convert(got)
            if max(self.least, self.typical) <= value <= self.most:
                return (
                    f"; {got:g}{'' if unit == '%' else ' '}{unit} are {value:g}{self.unit and ' '}{self.unit}"
                )
        return ""


def require_ranges(table: str, settings: Any) -> None:
    """Raises BadParameter for the first field of this table outside its range."""
    for one in fields(settings):
        known = RANGES.get(f"{table}.{one.name}" if table else one.name)
        if known is not None:
            known.demand(f"{table}.{one.name}" if table else one.name, getattr(settings, one.name))


def _times(factor: float) -> Callable[[float], float]:
    return lambda got: got * factor


_NS: Final[Meant] = {"ns": _times(1e-9), "us": _times(1e-6)}
_MS: Final[Meant] = {"ms": _times(1e-3), "us": _times(1e-6)}
_HZ: Final[Meant] = {"GHz": _times(1e9), "MHz": _times(1e6), "kHz": _times(1e3)}
_MW: Final[Meant] = {"mW": _times(1e-3)}
_DBM: Final[Meant] = {"mW": lambda got: w_to_dbm(got * 1e-3)}
_PERCENT: Final[Meant] = {"%": _times(0.01)}
_KMH: Final[Meant] = {"km/h": _times(1.0 / 3.6)}

_MIN_S: Final = 1e-6
"""Times that have to be above 0."""

RANGES: Final[Mapping[str, Range]] = {
    "duration_s": Range(_MIN_S, 86_400.0, "s", _MS),
    "place.loss_db": Range(-50.0, 400.0, "dB"),
    "place.exponent": Range(0.0, 10.0),
    "place.users": Range(1, 10_000),
    "place.radius_m": Range(0.0, 1e5, "m"),
    "place.inner_m": Range(0.0, 1e5, "m"),
    "place.speed_m_s": Range(0.0, 500.0, "m/s", _KMH),
    "carrier.frequency_hz": Range(1e6, 3e11, "Hz", _HZ, 1e8),
    "carrier.groups": Range(1, 275),  # resource blocks of one carrier: TS 38.101-1 table 5.3.2-1
    "carrier.blocks_per_group": Range(1, 275),
    "carrier.base_dbm": Range(-60.0, 80.0, "dBm", _DBM),
    "carrier.antenna_gain_db": Range(-40.0, 60.0, "dB"),
    "carrier.base_noise_figure_db": Range(0.0, 40.0, "dB"),
    "carrier.user_noise_figure_db": Range(0.0, 40.0, "dB"),
    "carrier.uplink_target_snr_db": Range(-30.0, 100.0, "dB"),
    "fading.delay_spread_s": Range(0.0, 1e-4, "s", _NS, 1e-9),
    "fading.waves": Range(1, 256),
    "link.implementation_loss_db": Range(0.0, 40.0, "dB"),
    "link.target": Range(0.001, 0.999, "", _PERCENT),
    "link.step_db": Range(1e-6, 20.0, "dB"),
    "link.max_tries": Range(1, 64),
    "link.round_trip_s": Range(0.0, 10.0, "s", _MS),
    "link.window_s": Range(_MIN_S, 1000.0, "s", _MS),
    "link.grant_delay_s": Range(0.0, 10.0, "s", _MS),
    "link.grant_slots": Range(1, 8),  # multi-slot scheduling: TS 38.214 clause 5.1.2.1
    "link.report_delay_s": Range(0.0, 10.0, "s", _MS),
    "neighbours.rings": Range(0, 10),
    "neighbours.spacing_m": Range(1.0, 1e5, "m"),
    "neighbours.load": Range(0.0, 1.0, "", _PERCENT),
    "neighbours.uplink_rise_db": Range(0.0, 100.0, "dB"),
    "jammer.power_dbm": Range(-100.0, 100.0, "dBm", _DBM),
    "jammer.period_s": Range(1e-4, 86_400.0, "s", _MS),
    "jammer.duty": Range(0.0, 1.0, "", _PERCENT),
    "traffic.up_bytes": Range(-1.0, 1e15, "bytes"),
    "traffic.down_bytes": Range(-1.0, 1e15, "bytes"),
    "traffic.start_s": Range(0.0, 86_400.0, "s", _MS),
    "device.transmit_dbm": Range(-100.0, 100.0, "dBm", _DBM),
    "device.amplifier_efficiency": Range(1e-6, 1.0, "", _PERCENT),
    "device.send_circuit_w": Range(0.0, 100.0, "W", _MW),
    "device.receive_circuit_w": Range(0.0, 100.0, "W", _MW),
    "device.idle_w": Range(0.0, 100.0, "W", _MW),
}
"""By table and key of a scenario file; the arrays of [links] and [taps] are checked in `link_tables`."""
