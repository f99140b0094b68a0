"""The IQ channel of a scenario: the same positions, fields, fading and states as its packet-level cell.

Axes: N nodes, the base station first; U users.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from channel.core.arrays import Array, above, at_least, whole
from channel.core.errors import BadParameter
from channel.core.link import DIRECTIONS
from channel.core.units import db_to_ratio
from channel.iq.cell_levels import CellLevels
from channel.iq.channel import IqChannel
from channel.iq.delay_filters import fast_size, last_fast_size
from channel.iq.disturbance import Disturbance
from channel.iq.front_end import FrontEnd
from channel.iq.knots import Knots, PeriodicKnots, RegularKnots
from channel.iq.links import FadingLinks, JoinedLinks, RecordedLinks, require_guard
from channel.iq.overlap_save import DRIFT_STEP, Links, OverlapFrame
from channel.propagation.fading_grid import SlotGrid
from channel.propagation.mobility import doppler_hz
from channel.propagation.recorded_taps import NodeTaps
from channel.scenario.load import Scenario

GUARD = 64
"""The default for the largest delay in samples."""

_CYCLES = 0.09
"""Between knots, in cycles of the Doppler shift. Gains that are linear between knots D apart have an error of
(2 pi f_d D)^4 / 320 of their power: -35 dB."""
_BLOCK_S = 1e-3
_BLOCKS = (512, 16384)
"""The smallest and the largest block in samples, where nothing else limits it."""
_MIN_KNOT = 32


def iq_channel_of(
    scenario: Scenario,
    *,
    rate_hz: float,
    front_ends: Sequence[FrontEnd] = (),
    hold_s: float | None = None,
    leak_db: float | None = None,
    guard: int = GUARD,
) -> IqChannel:
    """The base station and all users of a scenario as nodes 0 to U, at `rate_hz` complex samples per second.

    The band of `rate_hz` takes the place of the scenario's carrier: nodes and interferers keep their power,
    noise is k T0 B F with B of `rate_hz`, and users send with the power that uplink power control gives them
    for a signal in the whole band. At a rate of groups x group_hz the mean SINR is thus that of `SinrModel`.
    Users hear each other only with [links] and [taps]. `front_ends` is empty or has one per node. Gains
    change linearly between knots; with `hold_s` each is held that long, as Colosseum does for 1 ms. With
    `leak_db` every node hears itself with this loss. `guard` is the largest delay in samples.

    Raises BadParameter for values out of range, delays beyond the guard, and fading too fast for the rate.
    """
    above("rate_hz", rate_hz, 0.0)
    whole("guard", guard, 0)
    above("hold_s", 1.0 if hold_s is None else hold_s, 0.0)
    at_least("leak_db", 0.0 if leak_db is None else leak_db, 0.0)
    front_ends = _front_ends(scenario, front_ends)
    taps, is_held = _taps(scenario), hold_s is not None
    levels = CellLevels(
        scenario=scenario, rate_hz=rate_hz, given_dbm_N=[one.full_scale_dbm for one in front_ends]
    )
    require_guard(_max_delay_s(levels, taps), rate_hz=rate_hz, guard=guard)
    longest_s = _longest_s(levels, taps) if hold_s is None else hold_s
    frame = _frame(longest_s, rate_hz, guard, [one.sample_rate_ppm for one in front_ends])
    knots = _knots(longest_s, rate_hz, frame, None if is_held else taps, is_held=is_held)
    step_s = knots.step_s if isinstance(knots, RegularKnots) else math.inf
    return IqChannel(
        rate_hz=rate_hz,
        links=_links(levels, taps, step_s, leak_db),
        knots=knots,
        frame=frame,
        disturbance=Disturbance(
            seed=scenario.seed,
            rate_hz=rate_hz,
            slot_s=scenario.carrier.slot_s,
            levels=levels,
            emitters=list(levels.emitters.values()),
        ),
        front_ends=front_ends,
        full_scale_dbm_N=levels.full_scale_dbm_N,
        is_held=is_held,
        seed=scenario.seed,
    )


def _front_ends(scenario: Scenario, given: Sequence[FrontEnd]) -> tuple[FrontEnd, ...]:
    nodes = scenario.place.users + 1
    if given and len(given) != nodes:
        raise BadParameter(f"front_ends must be one for each of {nodes} nodes, got {len(given)}")
    return tuple(given) or (FrontEnd(),) * nodes


def _taps(scenario: Scenario) -> NodeTaps | None:
    """The recorded taps between the scenario's nodes, without those of a node to itself."""
    if not scenario.taps.is_given:
        return None
    taps, nodes = scenario.taps.node_taps(), scenario.place.users + 1
    if taps.nodes < nodes:
        raise BadParameter(f"users must be at most {taps.users}, all nodes but one, got {nodes - 1}")
    gain_NNTL = taps.gain_NNTL[:nodes, :nodes] * (1.0 - np.eye(nodes))[:, :, None, None]
    return NodeTaps(
        time_s_T=taps.time_s_T, delay_s_NNTL=taps.delay_s_NNTL[:nodes, :nodes], gain_NNTL=gain_NNTL
    )


def _max_delay_s(levels: CellLevels, taps: NodeTaps | None) -> float:
    """The largest delay of a path with power."""
    if taps is not None:
        return float(np.where(taps.gain_NNTL != 0.0, taps.delay_s_NNTL, 0.0).max())
    fading = levels.models["down"].fading
    return float(fading.line.delay_s_L.max()) if isinstance(fading, SlotGrid) else 0.0


def _longest_s(levels: CellLevels, taps: NodeTaps | None) -> float:
    """The longest time between knots."""
    if taps is not None:
        return float(np.diff(taps.time_s_T).min())
    place, scenario = levels.scenario.place, levels.scenario
    if scenario.fading.profile == "none" or not place.speed_m_s:
        return levels.update_s
    shift_hz = float(doppler_hz(place.speed_m_s, scenario.carrier.frequency_hz))
    return min(_CYCLES / shift_hz, levels.update_s)


def _frame(longest_s: float, rate_hz: float, guard: int, ppm: Sequence[float]) -> OverlapFrame:
    """Blocks of about 1 ms that fit between knots, and within which sample clocks drift little."""
    apart = 1e-6 * (max(ppm) - min(ppm))
    most = min(longest_s * rate_hz, DRIFT_STEP / apart if apart else math.inf)
    if most < _MIN_KNOT:
        raise BadParameter(
            f"rate_hz must be at least {rate_hz * _MIN_KNOT / most:.3g}, so that gains change at most every "
            f"{_MIN_KNOT} samples, got {rate_hz:g}"
        )
    wanted = min(max(round(_BLOCK_S * rate_hz), _BLOCKS[0]), _BLOCKS[1])
    frame = OverlapFrame(block=int(min(wanted, most) + 1e-6), guard=guard, drifts=bool(apart))
    size = fast_size(frame.size)
    if size - frame.overlap > most + 1e-6:
        size = max(last_fast_size(frame.size), frame.overlap + _MIN_KNOT)
    return replace(frame, block=size - frame.overlap)


def _knots(
    longest_s: float, rate_hz: float, frame: OverlapFrame, taps: NodeTaps | None, *, is_held: bool
) -> Knots:
    """The times of recorded taps, or regular ones that are whole blocks apart unless the gains are held."""
    if taps is not None:
        return PeriodicKnots(time_s_T=taps.time_s_T, rate_hz=rate_hz)
    if is_held or math.isinf(longest_s):
        return RegularKnots(step_s=longest_s, rate_hz=rate_hz)
    blocks = max(int(longest_s * rate_hz + 1e-6) // frame.block, 1)
    return RegularKnots(step_s=blocks * frame.block / rate_hz, rate_hz=rate_hz)


def _links(levels: CellLevels, taps: NodeTaps | None, step_s: float, leak_db: float | None) -> Links:
    """All links, with their amplitudes in full scales."""
    parts: list[Links] = []
    if taps is not None:
        parts = [RecordedLinks(taps=taps, scale_NN=_recorded_scale_NN(levels), rate_hz=levels.rate_hz)]
    else:
        parts = [_faded(levels, direction, step_s) for direction in DIRECTIONS]
    if levels.scenario.links.loss_db:
        parts.append(_between_users(levels))
    if leak_db is not None:
        own = np.sqrt(levels.sent_w_N() * float(db_to_ratio(-leak_db)) / levels.full_scale_w_N)
        parts.append(_constant(levels, [(node, node) for node in range(own.size)], own))
    return JoinedLinks(parts=parts)


def _faded(levels: CellLevels, direction: str, step_s: float) -> Links:
    fading, users = levels.models[direction].fading, range(1, levels.scenario.place.users + 1)
    return FadingLinks(
        pairs=[(user, 0) if direction == "up" else (0, user) for user in users],
        amplitude=levels.amplitude(direction),
        line=fading.line if isinstance(fading, SlotGrid) else None,
        rate_hz=levels.rate_hz,
        step_s=step_s,
    )


def _recorded_scale_NN(levels: CellLevels) -> Array:
    """The factors of recorded gains: sent power, [place] loss and the base station's antenna."""
    scenario = levels.scenario
    extra_NN = np.full((levels.full_scale_w_N.size,) * 2, float(db_to_ratio(-scenario.place.loss_db)))
    antenna = float(db_to_ratio(scenario.carrier.antenna_gain_db))
    extra_NN[0] *= antenna
    extra_NN[1:, 0] *= antenna
    scale_NN: Array = np.sqrt(levels.sent_w_N()[:, None] * extra_NN / levels.full_scale_w_N)
    return scale_NN


def _between_users(levels: CellLevels) -> Links:
    """The constant links of [links] among users."""
    nodes, sent_w_N = levels.scenario.place.users + 1, levels.sent_w_N()
    gain_NN = db_to_ratio(-np.asarray(levels.scenario.links.loss_db) - levels.scenario.place.loss_db)
    pairs = [(i, j) for i in range(1, nodes) for j in range(1, nodes) if i != j]
    power = [sent_w_N[i] * gain_NN[i, j] / levels.full_scale_w_N[j] for i, j in pairs]
    return _constant(levels, pairs, np.sqrt(np.asarray(power, dtype=np.float64)))


def _constant(levels: CellLevels, pairs: list[tuple[int, int]], value: Array) -> Links:
    return FadingLinks(
        pairs=pairs, amplitude=lambda _: value, line=None, rate_hz=levels.rate_hz, step_s=math.inf
    )
