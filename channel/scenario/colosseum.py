"""Colosseum's channel matrix, and the limits of its channel emulator (MCHEM).

After Colosseum's public user documentation: "New Scenario File Format Requirements", file_format.rst of
colosseum-wiot/user-documentation at commit 70c3db1. It gives 4 taps a link, gains of 0 to -43 dB each, delays
of 0 to 5.11 us, steps of 1 ms and 52 nodes. The delay grid of 10 ns is not documented: it follows from 512
taps that end at 5.11 us. A limit on the sum of a link's taps is not documented either.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from channel.core.arrays import Array
from channel.core.errors import BadParameter
from channel.propagation.recorded_taps import NodeTaps

MAX_TAPS = 4
MAX_NODES = 52
MIN_GAIN_DB = -43.0
GRID_S = 10e-9
MAX_DELAY_S = 5.11e-6
STEP_S = 1e-3
OWN_DELAY_S = 1e-9
"""The tolerance of the delay grid: Colosseum's own default delay is off the grid by this much."""
_EXACT_DB = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelMatrix:
    """Taps between nodes within Colosseum's limits, and the nodes' `coordinates_m` (N, 3, T) or None.

    `origin` is (longitude, latitude) in degrees or None. Raises BadParameter if a limit is exceeded.
    """

    taps: NodeTaps
    coordinates_m: Array | None = None
    origin: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require_limits(self.taps)
        wanted = (self.taps.nodes, 3, self.taps.time_s_T.size)
        if self.coordinates_m is not None and np.shape(self.coordinates_m) != wanted:
            raise BadParameter(f"coordinates must be {wanted}, got {np.shape(self.coordinates_m)}")


def require_limits(taps: NodeTaps) -> None:
    """Raises BadParameter for the first limit that is exceeded, with its link."""
    require_node_count(taps.nodes)
    _require_times(taps.time_s_T)
    strength = np.abs(taps.gain_NNTL)
    is_there = strength > 0.0
    many = is_there.sum(axis=-1)
    if many.max() > MAX_TAPS:
        where = _where(many > MAX_TAPS)
        raise BadParameter(
            f"a link must have at most {MAX_TAPS} taps that are not 0, got {many.max()}{where}"
        )
    gain_db = 20.0 * np.log10(np.where(is_there, strength, 1.0))
    wrong = (gain_db > _EXACT_DB) | (gain_db < MIN_GAIN_DB - _EXACT_DB)
    if wrong.any():
        got = gain_db[wrong][0]
        raise BadParameter(f"tap gains must lie in [{MIN_GAIN_DB:g}, 0] dB, got {got:g} dB{_where(wrong)}")
    _require_delays(np.where(is_there, taps.delay_s_NNTL, 0.0))


def require_node_count(nodes: int) -> None:
    """Raises BadParameter for more nodes than a Colosseum scenario can have."""
    if nodes > MAX_NODES:
        raise BadParameter(f"nodes must be at most {MAX_NODES}, got {nodes}")


def _require_times(time_s_T: Array) -> None:
    time_ms = time_s_T / STEP_S
    if np.any(np.abs(time_ms - np.round(time_ms)) > 1e-6):
        raise BadParameter("times must be whole milliseconds, the channel's coherence time; got others")
    if round(time_ms[-1]) % 1000:
        raise BadParameter(f"the last time must be a multiple of 1000 ms, got {time_ms[-1]:g} ms")


def _require_delays(delay_s: Array) -> None:
    late = delay_s > MAX_DELAY_S + OWN_DELAY_S
    if late.any():
        got = delay_s[late][0] * 1e6
        raise BadParameter(f"tap delays must lie in [0, 5.11] us, got {got:g} us{_where(late)}")
    off = np.abs(delay_s - np.round(delay_s / GRID_S) * GRID_S) > OWN_DELAY_S * 1.001
    if off.any():
        got = delay_s[off][0] * 1e9
        raise BadParameter(f"tap delays must be multiples of 10 ns, got {got:g} ns{_where(off)}")


def _where(wrong: Any) -> str:
    sender, receiver, row = np.argwhere(wrong)[0][:3]
    return f" from node {sender + 1} to node {receiver + 1} in row {row + 1} of time"
