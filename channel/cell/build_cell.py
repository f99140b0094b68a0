"""Builds a cell from a scenario; all of its random quantities are drawn here, from named streams."""

import math
from dataclasses import dataclass, replace

import numpy as np

from channel.cell.cell import Cell
from channel.cell.link_adaptation import OuterLoop
from channel.cell.parameters import CellParameters
from channel.cell.prescribed_loss import prescribed_losses
from channel.cell.scheduler import Duplex, scheduler_named
from channel.cell.traffic import Demand
from channel.core.arrays import Array, Real
from channel.core.errors import BadParameter
from channel.core.markov import TwoState
from channel.core.rng import stream
from channel.core.units import db_to_ratio, dbm_to_w
from channel.phy.block_error import BlockErrorLaw
from channel.phy.harq import Harq
from channel.phy.mcs import mcs_table
from channel.phy.receivers import implementation_loss_db
from channel.phy.transport_block import Allocation
from channel.propagation.fading_grid import SLOTS, SlotGrid
from channel.propagation.interference import BurstyInterferer, Interferer, Jammer
from channel.propagation.mobility import Straight, doppler_hz
from channel.propagation.noise import noise_w
from channel.propagation.path_loss import ENVIRONMENTS, log_distance_db
from channel.propagation.placement import hexagonal_sites, uniform_in_disc
from channel.propagation.recorded_taps import NodeTaps
from channel.propagation.shadowing import ShadowField
from channel.propagation.sinr import InterfererGroup, LargeScaleLoss, PathLoss, Response, SinrModel
from channel.propagation.tdl import TappedDelayLine
from channel.scenario.load import Scenario

_REFERENCE_M = 1.0
"""Log-distance loss is constant within its reference distance of 1 m."""

_UPDATE_M = 0.25
"""The distance after which path loss and shadowing are updated: short against the decorrelation distance of
10 m or more (TR 38.901 table 7.5-6), and ten times cheaper at walking speed."""

_UNLIMITED_BLOCKS = 2**62

_MAX_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class LogDistanceLoss:
    """Log-distance loss from `loss_db` at 1 m; constant for exponent 0. Always line of sight."""

    loss_db: float
    exponent: float

    @property
    def is_same_everywhere(self) -> bool:
        return self.exponent == 0.0

    def path_loss_db(self, distance_2d_m: Real, frequency_hz: Real, is_los: object) -> Array:
        """The loss in decibels, independent of carrier and line of sight."""
        beyond = np.maximum(np.asarray(distance_2d_m, dtype=np.float64), _REFERENCE_M)
        return log_distance_db(beyond, exponent=self.exponent, reference_db=self.loss_db)

    def los_probability(self, distance_2d_m: Real) -> Array:
        return np.ones(np.shape(distance_2d_m))


def cell_of(scenario: Scenario) -> Cell:
    """The cell of a scenario. Raises BadParameter for values outside their ranges."""
    taps = scenario.taps.node_taps() if scenario.taps.is_given else None
    large_scale_loss = _large_scale_loss(scenario)
    mobility = _mobility(scenario, large_scale_loss)
    return Cell(
        seed=scenario.seed,
        parameters=parameters_of(scenario),
        sinr_models={
            direction: _sinr_model(scenario, large_scale_loss, mobility, direction, taps)
            for direction in ("up", "down")
        },
        demands={
            "up": _demand(scenario, scenario.traffic.up_bytes),
            "down": _demand(scenario, scenario.traffic.down_bytes),
        },
        device=scenario.device,
    )


def parameters_of(scenario: Scenario) -> CellParameters:
    """The cell parameters of a scenario."""
    link, carrier = scenario.link, scenario.carrier
    table = mcs_table(link.table)
    loss_db = implementation_loss_db(link.receiver) + link.implementation_loss_db
    return CellParameters(
        table=table,
        law=BlockErrorLaw.of(table, implementation_loss_db=loss_db),
        harq=Harq(combining=link.harq, max_tries=link.max_tries, round_trip_s=link.round_trip_s),
        outer=OuterLoop(target=link.target, step_db=link.step_db),
        scheduler=scheduler_named(link.scheduler),
        duplex=Duplex(pattern=link.tdd, grant_delay_s=link.grant_delay_s),
        allocation=Allocation(),
        slot_s=carrier.slot_s,
        blocks_per_group=carrier.blocks_per_group,
        groups=carrier.groups,
        grant_slots=link.grant_slots,
        report_delay_s=link.report_delay_s,
        window_s=link.window_s,
    )


def _large_scale_loss(scenario: Scenario) -> LargeScaleLoss:
    place, seed = scenario.place, scenario.seed
    row = ENVIRONMENTS.get(place.environment)
    losses: PathLoss = row or LogDistanceLoss(
        loss_db=place.loss_db, exponent=place.exponent if place.environment == "log-distance" else 0.0
    )
    sight, shadow, shadow_db = None, None, (0.0, 0.0)
    if row is not None:
        # Clause 7.6.3.3: line of sight has a correlation distance of 50 m outdoors, 10 m indoors.
        apart_m = 50.0 if row.has_breakpoint else 10.0
        sight = ShadowField.draw_smooth(stream(seed, "sight"), decorrelation_m=apart_m)
    if row is not None and place.shadowing:
        near, far = (
            ShadowField.draw(stream(seed, "shadow", name), decorrelation_m=apart_m)
            for name, apart_m in zip(("los", "nlos"), row.decorrelation_m, strict=True)
        )
        shadow, shadow_db = (near, far), row.shadow_db
    return LargeScaleLoss(
        losses=losses,
        carrier_hz=scenario.carrier.frequency_hz,
        gain_db=scenario.carrier.antenna_gain_db,
        sight=sight,
        shadow=shadow,
        shadow_db=shadow_db,
    )


def _mobility(scenario: Scenario, large_scale_loss: LargeScaleLoss) -> Straight:
    place = scenario.place
    rngs = [stream(scenario.seed, "user", user) for user in range(place.users)]
    start_U2 = (
        np.asarray(place.positions_m[: place.users], dtype=np.float64)
        if place.positions_m
        else _served(scenario, large_scale_loss, rngs)
    )
    turn = np.asarray([2.0 * math.pi * rng.random() for rng in rngs])
    velocity = place.speed_m_s * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    return Straight(start_N2=start_U2, velocity_N2=velocity)


def _served(scenario: Scenario, large_scale_loss: LargeScaleLoss, rngs: list[np.random.Generator]) -> Array:
    """Positions (U, 2), each redrawn until no neighbour is received better, which would serve the user."""
    place, around = scenario.place, scenario.neighbours
    sites = hexagonal_sites(around.rings, spacing_m=around.spacing_m)[1:]
    start_U2, open_U = np.empty((place.users, 2)), np.arange(place.users)
    for _ in range(_MAX_DRAWS):
        for user in open_U:
            (start_U2[user],) = uniform_in_disc(rngs[user], 1, radius_m=place.radius_m, inner_m=place.inner_m)
        if not (sites.size and around.handover):
            return start_U2
        own_U = large_scale_loss.gain(start_U2[open_U])
        open_U = open_U[own_U < large_scale_loss.far_gain(start_U2[open_U], sites).max(axis=1)]
        if not open_U.size:
            return start_U2
    raise BadParameter(
        f"place must have positions where no neighbour is received better, got none in {_MAX_DRAWS} draws"
    )


def _sinr_model(
    scenario: Scenario,
    large_scale_loss: LargeScaleLoss,
    mobility: Straight,
    direction: str,
    taps: NodeTaps | None,
) -> SinrModel:
    given = prescribed_losses(scenario, direction, taps)
    carrier, is_up = scenario.carrier, direction == "up"
    figure_db = carrier.base_noise_figure_db if is_up else carrier.user_noise_figure_db
    rise = float(db_to_ratio(scenario.neighbours.uplink_rise_db)) if is_up else 1.0
    noise = rise * float(noise_w(carrier.group_hz, noise_figure_db=figure_db))
    return SinrModel(
        large_scale_loss=large_scale_loss if given is None else replace(large_scale_loss, losses=given),
        mobility=mobility,
        fading=_fading(scenario, direction, taps),
        slot_s=carrier.slot_s,
        groups=carrier.groups,
        max_w=scenario.device.transmit_w if is_up else float(dbm_to_w(carrier.base_dbm)),
        target_snr=float(db_to_ratio(carrier.uplink_target_snr_db)) if is_up else None,
        noise_w=noise,
        interferers=_interferers(scenario, is_up),
        receiver_is_base=is_up,
        update_blocks=_update_blocks(scenario),
    )


def _update_blocks(scenario: Scenario) -> int:
    """The number of blocks in which a user moves at most `_UPDATE_M`; at least 1."""
    block_m = scenario.place.speed_m_s * SLOTS * scenario.carrier.slot_s
    return max(int(_UPDATE_M / block_m), 1) if block_m else _UNLIMITED_BLOCKS


def _fading(scenario: Scenario, direction: str, taps: NodeTaps | None) -> Response | None:
    """The fading of a direction: independent per direction in FDD, reciprocal in TDD."""
    table, carrier = scenario.fading, scenario.carrier
    frequency_hz: Array = carrier.group_hz * (
        np.arange(carrier.groups, dtype=np.float64) - (carrier.groups - 1) / 2
    )
    if taps is not None:
        return taps.replay(
            direction, scenario.place.users, slot_s=carrier.slot_s, frequency_hz_F=frequency_hz
        )
    if table.profile == "none":
        return None
    name = "both" if scenario.link.tdd else direction
    shift_hz = float(doppler_hz(scenario.place.speed_m_s, carrier.frequency_hz))
    lines = [
        TappedDelayLine.draw(
            stream(scenario.seed, "fading", name, user),
            profile=table.profile,
            delay_spread_s=table.delay_spread_s,
            doppler_hz=shift_hz,
            num_waves=table.waves,
        )
        for user in range(scenario.place.users)
    ]
    return SlotGrid(line=TappedDelayLine.stack(lines), slot_s=carrier.slot_s, frequency_hz_F=frequency_hz)


def _interferers(scenario: Scenario, is_up: bool) -> tuple[InterfererGroup, ...]:
    around, jammer = scenario.neighbours, scenario.jammer
    found = []
    if not is_up:
        power_w = float(dbm_to_w(scenario.carrier.base_dbm)) * around.load
        steady = Jammer(on_w=power_w, period_s=1.0, duty=1.0)
        sites = hexagonal_sites(around.rings, spacing_m=around.spacing_m)[1:]
        found = [InterfererGroup(place_S2=sites, source=steady, is_base=True)] if sites.size else []
    if jammer.kind:
        source: Interferer
        on_w = float(dbm_to_w(jammer.power_dbm))
        if jammer.kind == "pulse":
            source = Jammer(on_w=on_w, period_s=jammer.period_s, duty=jammer.duty)
        else:
            mean_on_s = jammer.duty * jammer.period_s
            activity = TwoState(
                seed=scenario.seed,
                name=("jammer",),
                mean_on_s=mean_on_s,
                mean_off_s=jammer.period_s - mean_on_s,
            )
            source = BurstyInterferer(on_w=on_w, activity=activity)
        found.append(InterfererGroup(place_S2=np.asarray([jammer.position_m]), source=source, is_base=False))
    return tuple(found)


def _demand(scenario: Scenario, payload_bytes: float) -> Demand:
    amount = math.inf if payload_bytes == -1.0 else payload_bytes
    return Demand.transfers(amount, scenario.place.users, scenario.traffic.start_s)
