"""What Sionna's link level has: the code of 5G NR from bits to bits, and block error rates from tables."""

import math

import numpy as np
import pytest

from channel.calibration.document import committed_points
from channel.calibration.fit import crossing_db
from channel.calibration.simulation import BlerCurve
from channel.coding.code import Code
from channel.coding.qam import pam_levels
from channel.core.rng import stream
from channel.phy.block_error import BlockErrorLaw
from channel.phy.mcs import mcs_table

pytestmark = pytest.mark.slow

LAW = BlockErrorLaw.of(mcs_table("64qam"))
SCHEMES = [
    (2, 308.0, 1000),
    (4, 658.0, 1000),
    (6, 772.0, 1000),
    (8, 885.0, 1000),
    (2, 308.0, 250),
    (6, 772.0, 4000),
]


@pytest.mark.parametrize(("order", "rate", "bits"), SCHEMES)
def test_every_step_from_bits_to_ratios_is_sionnas(torch, order, rate, bits):
    pytest.importorskip("numba", reason="numba is not installed: pip install 'splitfl[radio]'")
    from sionna.phy.fec.ldpc import LDPC5GEncoder
    from sionna.phy.mapping import Constellation, Demapper, Mapper

    from channel.calibration import kernels as link
    from channel.coding import kernels

    code = Code.of(modulation_order=order, code_rate=rate / 1024, bits=bits)
    rng = stream(0, "oracle", "chain", order, bits)
    information = rng.integers(0, 2, bits, dtype=np.uint8)
    word = np.zeros((code.graph.columns, code.graph.lifting), dtype=np.uint8)
    word.ravel()[:bits] = information
    kernels.encode(code.graph, word)
    sent = word.ravel()[code.sent_E]
    encoder = LDPC5GEncoder(bits, sent.size, num_bits_per_symbol=order)
    theirs = encoder(torch.tensor(information, dtype=torch.float32))
    assert np.array_equal(sent, theirs.numpy())

    levels, noise_power = pam_levels(order), 0.05
    received = link.heard(sent, order, levels, noise_power, rng.standard_normal(2 * sent.size // order))
    clean = link.heard(sent, order, levels, 0.0, np.zeros(2 * sent.size // order))
    constellation = Constellation("qam", order)
    symbols = Mapper(constellation=constellation)(theirs).numpy()
    assert np.abs(clean[::2] + 1j * clean[1::2] - symbols).max() < 1e-6
    demapper = Demapper("app", constellation=constellation, precision="double")
    heard = torch.tensor(received[::2] + 1j * received[1::2])
    # Theirs are the ratios of one to zero.
    ratios = -demapper(heard, torch.tensor(noise_power, dtype=torch.float64)).numpy()
    assert link.ratios(received, order, levels, noise_power) == pytest.approx(ratios, abs=1e-4)


# Their layered decoder takes 0.25 s a block at MCS 4 and 1,000 bits, so the short blocks stand for most.
@pytest.mark.parametrize(("mcs", "bits"), [(9, 250), (16, 250), (24, 250), (24, 1000)])
def test_sionnas_decoder_fails_as_often_as_the_committed_simulation(torch, mcs, bits):
    from sionna.phy import config
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
    from sionna.phy.fec.ldpc.decoding import cn_update_minsum
    from sionna.phy.mapping import BinarySource, Constellation, Demapper, Mapper

    config.seed = 1
    table = mcs_table("64qam")
    order, rate = int(table.modulation_order_I[mcs]), float(table.code_rate_I[mcs])
    encoder = LDPC5GEncoder(bits, order * round(bits / rate / order), num_bits_per_symbol=order)
    decoder = LDPC5GDecoder(
        encoder,
        cn_update=lambda message, mask, limit: 0.75 * cn_update_minsum(message, mask, limit),
        cn_schedule="layered",
        llr_max=None,
    )
    constellation = Constellation("qam", order)
    mapper, demapper = Mapper(constellation=constellation), Demapper("app", constellation=constellation)
    _, points = committed_points()
    snr_db = crossing_db(points[BlerCurve(order, rate * 1024.0, bits)], 0.2)
    noise_power, blocks = 10 ** (-snr_db / 10), 600
    sent = BinarySource()([blocks, bits])
    symbols = mapper(encoder(sent))
    noise = torch.randn(*symbols.shape, 2) * math.sqrt(noise_power / 2)
    ratios = demapper(symbols + torch.view_as_complex(noise), torch.tensor(noise_power))
    failed = (decoder(ratios) != sent).any(dim=-1).sum().item()
    assert failed == pytest.approx(0.2 * blocks, abs=4 * math.sqrt(0.2 * 0.8 * blocks))


# Conformance row 20. Their tables have a point every 1.8 dB, more than a whole waterfall.
def test_the_tables_of_sionna_are_as_near_as_their_grid_allows(torch):
    from sionna.sys import PHYAbstraction

    grid_db = np.arange(-4.0, 29.0, 0.1)
    ratio = torch.tensor(10 ** (grid_db / 10), dtype=torch.float32)
    tables, distances_db = PHYAbstraction(), []
    for mcs in range(3, 29):  # they have none for 0 to 2
        rates = tables.get_bler(mcs, 1, 1, 1000, ratio).numpy()
        theirs_db = grid_db[np.argmax(rates < 0.1)]
        distances_db.append(theirs_db - LAW.threshold_db(target=0.1, bits=1000.0)[mcs])
    assert np.abs(distances_db).max() < 0.8
    assert math.sqrt(np.mean(np.square(distances_db))) < 0.4
