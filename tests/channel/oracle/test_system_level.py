"""What Sionna's system level has: effective SINRs, transport block sizes, path losses, delay lines."""

import numpy as np
import pytest

from channel.core.rng import stream
from channel.phy.effective_sinr import eesm
from channel.phy.mcs import mcs_table
from channel.phy.transport_block import Allocation, code_blocks, transport_block_bits
from channel.propagation.fading import jakes_correlation
from channel.propagation.path_loss import SPEED_OF_LIGHT_M_S, environment_named
from channel.propagation.tdl import TappedDelayLine

pytestmark = pytest.mark.slow

CARRIER_HZ = 3.5e9


@pytest.mark.parametrize("mcs", [0, 4, 9, 16, 28])
def test_effective_sinrs_are_those_of_sionna(torch, mcs):
    from sionna.sys import EESM

    theirs = EESM(precision="double")
    sinr_UR = stream(0, "oracle", "eesm", mcs).exponential(8.0, size=(50, 52)) + 0.1
    # Their axes: OFDM symbols, subcarriers, users, streams.
    found = theirs(
        torch.tensor(sinr_UR.T[None, :, :, None]), torch.full((50,), mcs, dtype=torch.int32)
    ).numpy()
    beta = theirs.beta_table["index"][1][mcs]
    assert eesm(sinr_UR, beta) == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize("name", ["64qam", "256qam"])
def test_transport_blocks_have_the_sizes_of_sionna(torch, name):
    from sionna.phy.nr.utils import calculate_tb_size

    table = mcs_table(name)
    for layers, pilots, symbols in ((1, 12, 14), (2, 18, 12), (1, 6, 4)):
        allocation = Allocation(symbols=symbols, pilot_elements=pilots, layers=layers)
        for order, rate in zip(table.modulation_order_I.tolist(), table.code_rate_I.tolist(), strict=True):
            for count in (1, 7, 52, 106, 273):
                size, block, blocks, *_ = calculate_tb_size(
                    order,
                    rate,
                    num_prbs=count,
                    num_ofdm_symbols=symbols,
                    num_dmrs_per_prb=pilots,
                    num_layers=layers,
                    return_cw_length=False,
                )
                ours = transport_block_bits(
                    allocation, resource_blocks=count, modulation_order=order, code_rate=rate
                )
                assert ours == int(size)
                assert code_blocks(ours, rate) == (int(blocks), int(block))


@pytest.mark.parametrize(("name", "theirs"), [("urban-macro", "UMa"), ("urban-micro", "UMi")])
@pytest.mark.parametrize("is_los", [True, False])
def test_path_losses_are_those_of_sionna(torch, name, theirs, is_los):
    from sionna.phy.channel import tr38901

    array = tr38901.Antenna("single", "V", "omni", CARRIER_HZ)
    model = getattr(tr38901, theirs)(CARRIER_HZ, "low", array, array, "uplink", precision="double")
    environment = environment_named(name)
    distance_m = np.array([20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 3000.0])
    users = np.stack([distance_m, 0.0 * distance_m, 0.0 * distance_m + environment.user_height_m], axis=-1)
    zeros = torch.zeros((1, distance_m.size, 3), dtype=torch.float64)
    model.set_topology(
        ut_loc=torch.tensor(users[None]),
        bs_loc=torch.tensor([[[0.0, 0.0, environment.base_height_m]]], dtype=torch.float64),
        ut_orientations=zeros,
        bs_orientations=zeros[:, :1],
        ut_velocities=zeros,
        in_state=torch.zeros((1, distance_m.size), dtype=torch.bool),
        los=is_los,
    )
    found_db = model._scenario.basic_pathloss.numpy().ravel()
    # Their breakpoint has the exact speed of light, the standard's 3.0e8 m/s: 0.0057 dB beyond it.
    assert environment.path_loss_db(distance_m, CARRIER_HZ, is_los) == pytest.approx(found_db, abs=0.006)


@pytest.mark.parametrize("profile", ["A", "C", "D"])
def test_delay_lines_forget_as_those_of_sionna_do(torch, profile):
    from sionna.phy import config
    from sionna.phy.channel.tr38901 import TDL

    config.seed = 1
    doppler_hz, rate_hz, links, times = 100.0, 1000.0, 1500, 16
    speed_m_s = doppler_hz * SPEED_OF_LIGHT_M_S / CARRIER_HZ
    model = TDL(profile, 100e-9, CARRIER_HZ, min_speed=speed_m_s, max_speed=speed_m_s)
    theirs, delays_s = model(links, times, rate_hz)
    line = TappedDelayLine.stack(
        [
            TappedDelayLine.draw(
                stream(0, "oracle", profile, link),
                profile=profile,
                delay_spread_s=100e-9,
                doppler_hz=doppler_hz,
            )
            for link in range(links)
        ]
    )
    ours = line.taps(np.arange(times) / rate_hz)
    assert line.delay_s_L == pytest.approx(delays_s[0, 0, 0].numpy(), abs=1e-12)
    other = theirs[:, 0, 0, 0, 0].numpy()
    assert _power_limits(ours) == pytest.approx(_power_limits(other), abs=0.03)
    # Four deviations of a mean over so many links and taps; the line of sight turns alike in both.
    assert np.abs(_correlation(ours) - _correlation(other)).max() < 0.03
    if profile != "D":
        closed = jakes_correlation(doppler_hz, np.arange(times) / rate_hz)
        assert np.abs(_correlation(other) - closed).max() < 0.03


def _power_limits(taps_NLT):
    return (np.abs(taps_NLT) ** 2).mean(axis=(0, 2))


def _correlation(taps_NLT):
    return (taps_NLT * taps_NLT[..., :1].conj()).sum(axis=1).mean(axis=0).real
