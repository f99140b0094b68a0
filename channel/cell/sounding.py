"""Channel sounding of a scenario: taps between nodes over time, within Colosseum's limits.

Axes: N nodes, the base station first; U users; T times; L taps of the model; C <= 4 taps after reduction.
"""

import math
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from channel.cell.build_cell import cell_of
from channel.core.arrays import Array, Complex, above, whole
from channel.core.errors import BadParameter
from channel.core.link import DIRECTIONS
from channel.propagation.fading_grid import SlotGrid
from channel.propagation.path_loss import ENVIRONMENTS
from channel.propagation.recorded_taps import NodeTaps
from channel.propagation.sinr import SinrModel
from channel.scenario.colosseum import (
    GRID_S,
    MAX_DELAY_S,
    MAX_TAPS,
    MIN_GAIN_DB,
    STEP_S,
    ChannelMatrix,
    require_node_count,
)
from channel.scenario.load import Scenario

_MAX_LINKS = 4e6
"""About 400 MB of gains and delays."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sounding:
    """A channel matrix, and its deviations from the scenario due to Colosseum's dynamic range of 43 dB.

    All gains are raised by `raised_db`, such that the strongest tap is at 0 dB. Taps still below -43 dB are
    0 in the matrix; `silent_NN` (N, N) is the share of time in which a link of the scenario has no tap left,
    nan for pairs without a link. A replay with `place.loss_db` = `raised_db` has the scenario's levels.
    """

    matrix: ChannelMatrix
    raised_db: float
    silent_NN: Array


def sounded(scenario: Scenario, *, duration_s: float | None = None, step_ms: int = 1) -> Sounding:
    """The scenario's links between users and base station in both directions, without links among users.

    With [links] and [taps] all of their pairs are included. A channel matrix contains no interference.
    The taps of a delay profile are merged into four groups of neighbours with the least power-weighted delay
    variance, each at its mean delay on the grid of 10 ns; gains of a group are added at every time. The
    response at the carrier is unchanged; off the carrier it differs, with nearly the same delay spread.

    Raises BadParameter for a delay above 5.11 us, more than 52 nodes, and a matrix that is too large.
    """
    whole("step_ms", step_ms, 1)
    require_node_count(scenario.place.users + 1)
    asked_s = scenario.duration_s if duration_s is None else duration_s
    _require_size(scenario.place.users + 1, float(above("duration_s", asked_s, 0.0)) / (step_ms * STEP_S))
    if scenario.taps.is_given:
        found = scenario.taps.node_taps()
    elif scenario.links.loss_db:
        found = _static(scenario, asked_s, step_ms)
    else:
        found = _drawn(scenario, asked_s, step_ms)
    return _fitted(scenario, found)


def _require_size(nodes: int, times: float) -> None:
    if nodes**2 * times > _MAX_LINKS:
        raise BadParameter(
            f"nodes^2 x times must be at most {_MAX_LINKS:g}, got {nodes}^2 x {times:g}: "
            "take fewer users, longer steps or a shorter duration"
        )


def _times(duration_s: float, step_ms: int) -> Array:
    """Times in seconds from 0 in steps, and a last one at a whole second."""
    end_ms = 1000 * max(math.ceil(duration_s - 1e-9), 1)
    return np.append(np.arange(0, end_ms, step_ms), end_ms) * STEP_S


def _drawn(scenario: Scenario, duration_s: float, step_ms: int) -> NodeTaps:
    time_s_T, nodes = _times(duration_s, step_ms), scenario.place.users + 1
    sinr_models = cell_of(scenario).sinr_models
    delay_s = np.zeros((nodes, nodes, time_s_T.size, MAX_TAPS))
    gain = np.zeros(delay_s.shape, dtype=np.complex128)
    for direction in DIRECTIONS:
        delay_C, gain_UTC = _user_taps(sinr_models[direction], time_s_T)
        antennas = (slice(1, None), 0) if direction == "up" else (0, slice(1, None))
        delay_s[antennas][..., : delay_C.size], gain[antennas][..., : delay_C.size] = delay_C, gain_UTC
    gain[:, :, -1] = gain[:, :, -2]
    return NodeTaps(time_s_T=time_s_T, delay_s_NNTL=delay_s, gain_NNTL=gain)


def _user_taps(air: SinrModel, time_s_T: Array) -> tuple[Array, Complex]:
    """The delays (C,) in seconds and the gains (U, T, C) of one direction."""
    slow_UT = np.sqrt(
        np.stack([air.large_scale_loss.gain(place_U2) for place_U2 in air.mobility.at(time_s_T)], axis=-1)
    )
    if air.fading is None:
        return np.zeros(1), slow_UT[..., None].astype(np.complex128)
    assert isinstance(air.fading, SlotGrid)
    line = air.fading.line
    groups = grouped(line.delay_s_L, line.power_L)
    delay_C = np.asarray([np.average(line.delay_s_L[one], weights=line.power_L[one]) for one in groups])
    taps_ULT = line.taps(time_s_T)
    fast_UTC = np.stack([taps_ULT[:, one].sum(axis=1) for one in groups], axis=-1)
    return np.round(delay_C / GRID_S) * GRID_S, slow_UT[..., None] * fast_UTC


def grouped(delay_s_L: Array, power_L: Array, *, most: int = MAX_TAPS) -> list[list[int]]:
    """At most `most` groups of neighbouring taps with the least sum of power x (delay - mean)^2."""
    order = np.argsort(delay_s_L, kind="stable")
    point = np.round(delay_s_L[order] / GRID_S)
    edges = np.flatnonzero(np.diff(point)) + 1
    apart = [part.tolist() for part in np.split(order, edges)]
    if len(apart) <= most:
        return apart
    cuts = combinations(range(1, len(apart)), most - 1)
    return min((_joined(apart, cut) for cut in cuts), key=lambda groups: _spread(groups, delay_s_L, power_L))


def _joined(apart: list[list[int]], cut: tuple[int, ...]) -> list[list[int]]:
    bounds = (0, *cut, len(apart))
    return [[tap for part in apart[begin:end] for tap in part] for begin, end in pairwise(bounds)]


def _spread(groups: list[list[int]], delay_s_L: Array, power_L: Array) -> float:
    total = 0.0
    for one in groups:
        delay, power = delay_s_L[one], power_L[one]
        total += float(power @ delay**2 - (power @ delay) ** 2 / power.sum())
    return total


def _static(scenario: Scenario, duration_s: float, step_ms: int) -> NodeTaps:
    """All pairs of [links]; those with the base station have the scenario's fading, others are constant."""
    users = scenario.place.users
    drawn = _drawn(scenario, duration_s, step_ms)
    gain = drawn.gain_NNTL.copy()
    loss_db = scenario.place.loss_db + np.asarray(scenario.links.loss_db)[1 : users + 1, 1 : users + 1]
    between = np.where(np.eye(users, dtype=np.bool_), 0.0, 10.0 ** (-loss_db / 20.0))
    gain[1:, 1:, :, 0] = between[:, :, None]
    return NodeTaps(time_s_T=drawn.time_s_T, delay_s_NNTL=drawn.delay_s_NNTL, gain_NNTL=gain)


def _fitted(scenario: Scenario, found: NodeTaps) -> Sounding:
    """The taps scaled to a maximum of 0 dB, with taps below the range set to 0."""
    strength = np.abs(found.gain_NNTL)
    if strength.shape[0] < 2 or not strength.any():
        raise BadParameter("a scenario needs a nonzero gain to be exported, got none")
    late_s = float(np.where(strength > 0.0, found.delay_s_NNTL, 0.0).max())
    if late_s > MAX_DELAY_S:
        raise BadParameter(f"tap delays must be at most 5.11 us to be exported, got {late_s * 1e6:g} us")
    # Slightly below 0 dB, so that rounding does not exceed it.
    gain = found.gain_NNTL * ((1.0 - 1e-12) / strength.max())
    is_kept = np.abs(gain) >= 10.0 ** (MIN_GAIN_DB / 20.0)
    was_there, is_there = (one[:, :, :-1].any(axis=-1) for one in (strength > 0.0, is_kept))
    share = np.diff(found.time_s_T) / found.time_s_T[-1]
    exists = was_there.any(axis=-1)
    kept = NodeTaps(
        time_s_T=found.time_s_T,
        delay_s_NNTL=np.where(is_kept, found.delay_s_NNTL, 0.0),
        gain_NNTL=np.where(is_kept, gain, 0.0),
    )
    matrix = ChannelMatrix(taps=kept, coordinates_m=_coordinates(scenario, kept))
    beside_db = scenario.place.loss_db if scenario.taps.is_given else 0.0
    return Sounding(
        matrix=matrix,
        raised_db=beside_db - 20.0 * math.log10(strength.max()),
        silent_NN=np.where(exists, (was_there & ~is_there) @ share, np.nan),
    )


def _coordinates(scenario: Scenario, taps: NodeTaps) -> Array | None:
    """Node coordinates in metres (N, 3, T), with the base station at the origin; None without positions."""
    if scenario.taps.is_given or scenario.links.loss_db:
        return None
    place_TU2 = cell_of(scenario).sinr_models["up"].mobility.at(taps.time_s_T)
    row = ENVIRONMENTS.get(scenario.place.environment)
    places = np.zeros((taps.nodes, 3, taps.time_s_T.size))
    places[1:, :2] = np.moveaxis(place_TU2, 0, -1)
    places[0, 2], places[1:, 2] = (row.base_height_m, row.user_height_m) if row else (0.0, 0.0)
    return places
