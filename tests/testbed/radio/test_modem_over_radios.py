"""Packets of the modem through radios and the scenario's channel: levels, offsets and positions agree."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed: pip install 'splitfl[radio]'")

from channel.iq.from_scenario import iq_channel_of
from channel.iq.front_end import FrontEnd
from channel.scenario.load import changed, load
from channel.waveform.header import Header
from channel.waveform.modulator import Modulator
from channel.waveform.receiver import Receiver
from testbed.radio.loopback import LoopbackAir

RATE_HZ = 1e6
GAP = 500


@pytest.mark.slow
@pytest.mark.parametrize(
    "front_end",
    [
        FrontEnd(),
        FrontEnd(cfo_hz=900.0, linewidth_hz=2.0, iq_gain_db=0.2, iq_phase_deg=1.0, adc_bits=12),
        FrontEnd(cfo_hz=-500.0, sample_rate_ppm=10.0),
    ],
    ids=["ideal", "impaired", "clock"],
)
def test_packets_cross_a_scenario_with_its_snr_and_the_offset_of_the_front_end(front_end):
    scenario = changed(load("ideal"), {"place": {"users": 1}})
    channel = iq_channel_of(scenario, rate_hz=RATE_HZ, front_ends=[FrontEnd(), front_end])
    base, user = LoopbackAir(channel).radios
    modulator, receiver = Modulator(), Receiver()
    payloads = [np.random.default_rng(number).bytes(300) for number in range(6)]
    begins, at = [], GAP
    for number, payload in enumerate(payloads):
        burst_B = modulator.packet(Header(sequence=number), payload, mcs=13)
        begins.append(user.send(burst_B, at=at))
        at += burst_B.size + GAP
    packets = receiver.push(base.receive(at)[0])
    assert [packet.payload for packet in packets] == payloads
    for packet, begin in zip(packets, begins, strict=True):
        assert abs(packet.position - begin - channel.latency) <= 3 + abs(begin * 1e-5)
        assert packet.offset * RATE_HZ == pytest.approx(front_end.cfo_hz, abs=60.0)
    if front_end == FrontEnd():  # uplink power control aims at 20 dB in the whole band
        in_band_db = 10.0 * np.log10(64 / 52)
        snr_db = np.mean([packet.snr_db for packet in packets])
        assert snr_db == pytest.approx(scenario.carrier.uplink_target_snr_db + in_band_db, abs=0.7)
