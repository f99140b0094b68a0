"""The samples of a scenario have the levels, fading and interference of its packet-level model."""

from dataclasses import replace

import numpy as np
import pytest

from channel.cell.build_cell import cell_of
from channel.core.errors import BadParameter
from channel.core.units import ratio_to_db
from channel.iq.from_scenario import iq_channel_of
from channel.iq.front_end import FrontEnd
from channel.propagation.fading import jakes_correlation
from channel.propagation.fading_grid import SLOTS
from channel.scenario.load import changed, load
from tests.quick import quick

STILL = {"place": {"users": 2, "speed_m_s": 0.0}, "fading": {"profile": "none"}}


def carrier_hz(scenario):
    return scenario.carrier.groups * scenario.carrier.group_hz


def received_w(channel, sender, count):
    """The mean power (N,) in watts while `sender` (None: nobody) sends white noise of power 1."""
    sent_NB = np.zeros((channel.nodes, count), dtype=np.complex64)
    if sender is not None:
        sent_NB[sender] = np.exp(2j * np.pi * np.random.default_rng(0).random(count))
    heard_NB = channel.step(sent_NB)[:, 1000:]
    return (np.abs(heard_NB) ** 2).mean(axis=1) * 1e-3 * 10 ** (channel.full_scale_dbm_N / 10)


@pytest.mark.parametrize(
    "name", quick(["ideal", "urban-micro", "lab-wifi", "colosseum-path-loss"], "urban-micro")
)
def test_the_mean_sinr_is_that_of_the_packet_level(name):
    scenario = changed(load(name), STILL)
    rate_hz, count = carrier_hz(scenario), 60_000
    models = cell_of(scenario).sinr_models
    noise_w = received_w(iq_channel_of(scenario, rate_hz=rate_hz), None, count)
    down_w = received_w(iq_channel_of(scenario, rate_hz=rate_hz), 0, count) - noise_w
    down_db = ratio_to_db((down_w / noise_w)[1:])
    assert down_db == pytest.approx(models["down"].mean_sinr_db(0), abs=0.1)
    for user in (1, 2):
        up_w = received_w(iq_channel_of(scenario, rate_hz=rate_hz), user, count) - noise_w
        model = models["up"]
        most_w = model.max_w * model.large_scale_loss.gain(model.place_U2(0))[user - 1]
        limited_db = ratio_to_db(most_w / (model.noise_w * scenario.carrier.groups))
        wanted_db = min(limited_db, scenario.carrier.uplink_target_snr_db)
        assert ratio_to_db(up_w[0] / noise_w[0]) == pytest.approx(wanted_db, abs=0.1)


def test_a_narrower_band_has_less_noise():
    scenario = changed(load("ideal"), STILL)
    wide, narrow = (
        received_w(iq_channel_of(scenario, rate_hz=rate_hz), None, 50_000) for rate_hz in (2e6, 1e6)
    )
    assert wide / narrow == pytest.approx([2.0] * 3, rel=0.05)


@pytest.mark.parametrize("speed_m_s", [0.0, 30.0])
def test_the_fading_is_the_packet_levels_own_realisation(speed_m_s):
    scenario = changed(
        load("ideal"),
        {"place": {"users": 1, "speed_m_s": speed_m_s}, "fading": {"profile": "A", "delay_spread_s": 3e-7}},
    )
    rate_hz, model = 4e6, cell_of(scenario).sinr_models["down"]
    channel = iq_channel_of(scenario, rate_hz=rate_hz)
    cycles = np.asarray([-0.3, 0.11, 0.25])
    line = model.fading.line
    for cycle in cycles:
        fresh = iq_channel_of(scenario, rate_hz=rate_hz)
        sent = np.exp(2j * np.pi * cycle * np.arange(40_000)).astype(np.complex64)
        heard = fresh.step(np.stack([sent, np.zeros_like(sent)]))[1]
        at = np.arange(2_000, 40_000, 4_000)
        scale = np.sqrt(model.max_w * model.large_scale_loss.gain(model.place_U2(0))[0])
        scale /= np.sqrt(1e-3 * 10 ** (channel.full_scale_dbm_N[1] / 10))
        wanted = line.response(at / rate_hz, np.asarray([cycle * rate_hz]))[0, :, 0]
        wanted = wanted * np.exp(-2j * np.pi * cycle * channel.latency)
        got = heard[at] / sent[at] / scale
        assert np.abs(got - wanted).max() < 0.06


def test_interference_is_that_of_the_packet_level_slot_by_slot():
    scenario = changed(load("jammed"), STILL)
    rate_hz = 2e6
    channel, model = iq_channel_of(scenario, rate_hz=rate_hz), cell_of(scenario).sinr_models["down"]
    slot = round(scenario.carrier.slot_s * rate_hz)
    heard = channel.step(np.zeros((3, SLOTS * slot), dtype=np.complex64))[1]
    power_S = (np.abs(heard.reshape(SLOTS, slot)) ** 2).mean(axis=1)
    noise_w = model.noise_w * rate_hz / scenario.carrier.group_hz
    level_S = noise_w + model._interference_w(0, model.place_U2(0))[:, 0]
    full_scale_w = 1e-3 * 10 ** (channel.full_scale_dbm_N[1] / 10)
    assert power_S * full_scale_w == pytest.approx(level_S, rel=0.2)
    assert power_S.max() / power_S.min() > 100.0


def test_recorded_taps_are_replayed_with_held_gains_as_the_packet_level_holds_them():
    scenario = load("colosseum-taps")
    rate_hz, carrier = 2e6, scenario.carrier
    model = cell_of(scenario).sinr_models["down"]
    channel = iq_channel_of(scenario, rate_hz=rate_hz, hold_s=1e-3)
    sent = np.zeros((4, round(SLOTS * carrier.slot_s * rate_hz)), dtype=np.complex64)
    sent[0] = 1.0
    heard_NB = channel.step(sent)
    middle_NS = heard_NB.reshape(4, SLOTS, -1)[:, :, 200:].mean(axis=-1)  # gains are constant there
    response = model.fading.block(0)[:, :, (carrier.groups - 1) // 2]  # at the carrier
    gain_U = model.large_scale_loss.gain(model.place_U2(0))
    wanted_US = np.abs(response) ** 2 * gain_U[:, None] * model.max_w
    got_US = np.abs(middle_NS[1:]) ** 2 * 1e-3 * 10 ** (channel.full_scale_dbm_N[1:, None] / 10)
    assert got_US == pytest.approx(wanted_US, rel=0.03, abs=1e-13)


def test_a_node_hears_itself_only_if_a_leak_is_asked_for():
    scenario = changed(load("ideal"), STILL)
    quiet, leaking = (
        received_w(iq_channel_of(scenario, rate_hz=1e6, leak_db=leak_db), 1, 20_000)[1]
        for leak_db in (None, 60.0)
    )
    noise_w = received_w(iq_channel_of(scenario, rate_hz=1e6), None, 20_000)[1]
    assert quiet == pytest.approx(noise_w, rel=0.05)
    assert leaking > 100.0 * noise_w


def test_users_hear_each_other_over_links_and_not_in_a_cell():
    links = changed(load("colosseum-path-loss"), {"place": {"users": 2}})
    heard_w = received_w(iq_channel_of(links, rate_hz=1e6), 1, 20_000)
    assert heard_w[2] > 10.0 * received_w(iq_channel_of(links, rate_hz=1e6), None, 20_000)[2]
    cell = changed(load("ideal"), STILL)
    assert received_w(iq_channel_of(cell, rate_hz=1e6), 1, 20_000)[2] == pytest.approx(
        received_w(iq_channel_of(cell, rate_hz=1e6), None, 20_000)[2], rel=1e-6
    )


def test_the_strongest_signal_is_12_db_below_full_scale_unless_it_is_given():
    scenario = changed(load("ideal"), STILL)
    channel = iq_channel_of(scenario, rate_hz=1e6)
    sent = np.zeros((3, 5000), dtype=np.complex64)
    sent[0] = 1.0
    level_db = 20.0 * np.log10(np.abs(channel.step(sent)[1, 100:]).mean())
    assert -13.1 < level_db < -11.9
    front_ends = [FrontEnd(), FrontEnd(full_scale_dbm=-60.0), FrontEnd()]
    assert iq_channel_of(scenario, rate_hz=1e6, front_ends=front_ends).full_scale_dbm_N[1] == -60.0


def test_every_scenario_has_an_iq_channel_whose_output_does_not_depend_on_cuts():
    for name in ("urban-micro", "vehicular", "jammed", "colosseum-taps", "colosseum-path-loss"):
        scenario = changed(load(name), {"place": {"users": 2}})
        front_end = FrontEnd(cfo_hz=200.0, linewidth_hz=10.0, clips=True)
        whole, cut = (
            iq_channel_of(scenario, rate_hz=1.92e6, front_ends=[FrontEnd(), front_end, FrontEnd()])
            for _ in range(2)
        )
        sent = np.random.default_rng(1).uniform(-0.7, 0.7, (3, 2 * 5 * whole.block)).view(np.complex128)
        sent = np.ascontiguousarray(sent.astype(np.complex64))
        heard = whole.step(sent)
        block = whole.block
        pieces = [cut.step(part) for part in np.split(sent, [block, 4 * block], axis=1)]
        assert np.array_equal(np.concatenate(pieces, axis=1), heard)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate_hz": 0.0}, "rate_hz must be above 0, got 0"),
        ({"rate_hz": 1e6, "guard": 2}, "the guard must have at least 4 samples for a path delayed by"),
        ({"rate_hz": 1e5}, "rate_hz must be at least"),
        ({"rate_hz": 1e6, "front_ends": [FrontEnd()]}, "front_ends must be one for each of 3 nodes, got 1"),
        ({"rate_hz": 1e6, "hold_s": 0.0}, "hold_s must be above 0"),
        ({"rate_hz": 1e6, "leak_db": -1.0}, "leak_db must be at least 0"),
    ],
)
def test_what_a_channel_cannot_do_is_refused(settings, message):
    scenario = changed(load("vehicular"), {"place": {"users": 2}})
    with pytest.raises(BadParameter, match=message):
        iq_channel_of(scenario, **settings)


def test_samples_of_another_shape_or_type_are_refused():
    channel = iq_channel_of(replace(changed(load("ideal"), STILL)), rate_hz=1e6)
    for wrong in (np.zeros((2, 10), dtype=np.complex64), np.zeros((3, 10), dtype=np.complex128)):
        with pytest.raises(BadParameter, match=r"samples must be complex64 of shape \(3, count\), got"):
            channel.step(wrong)


def test_the_fading_of_many_users_has_the_correlation_of_clarkes_model():
    scenario = changed(
        load("ideal"),
        {
            "place": {"users": 60, "speed_m_s": 30.0},
            "fading": {"profile": "A", "delay_spread_s": 0.0},
            "carrier": {"base_dbm": 60.0},
        },
    )
    rate_hz, doppler_hz = 2e5, 30.0 * 3.5e9 / 299_792_458.0
    channel = iq_channel_of(scenario, rate_hz=rate_hz)
    sent_NB = np.zeros((61, 4000), dtype=np.complex64)
    sent_NB[0] = 1.0
    gain_UB = channel.step(sent_NB)[1:, 100:].astype(np.complex128)
    power = (np.abs(gain_UB) ** 2).mean()
    for cycles in (0.1, 0.2, 0.38274, 0.6):
        lag = round(cycles / doppler_hz * rate_hz)
        correlation = (gain_UB[:, lag:] * gain_UB[:, :-lag].conj()).mean() / power
        expected = jakes_correlation(doppler_hz, lag / rate_hz)
        assert correlation == pytest.approx(expected, abs=0.1)
