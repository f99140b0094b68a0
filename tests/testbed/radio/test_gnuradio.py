"""GNU Radio as the air between our radios, and its OFDM transmitter and receiver as radios on our air."""

import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed: pip install 'splitfl[radio]'")
pytest.importorskip("zmq", reason="pyzmq is not installed")

from channel.iq.from_scenario import iq_channel_of
from channel.iq.ports import Air, PortSettings
from channel.scenario.load import changed, load
from channel.waveform.header import Header
from channel.waveform.modulator import Modulator
from channel.waveform.receiver import Receiver
from testbed.radio.zmq_radio import ZmqRadio, ZmqSettings
from tests.channel.iq.free_ports import free_ports
from tests.channel.iq.test_gnuradio import PYTHON, gnuradio_is_there
from tests.testbed.waiting import until

HERE = Path(__file__).parent
PACKETS, OFDM_PACKETS, OFDM_BYTES = 100, 500, 96
GAP = 300
RATE_HZ = 1e6

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def gnuradio():
    if not gnuradio_is_there():
        pytest.skip("GNU Radio is not installed for the system's Python (Debian: gnuradio)")


def test_all_of_our_packets_cross_gnu_radios_channel_model(start, tmp_path):
    port = free_ports(2)
    sends_at, hears_at = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}"
    noise = 10 ** (-15 / 20)
    own = {"PYTHONPATH": "", "HOME": str(tmp_path)}
    start(PYTHON, HERE / "gnuradio_air.py", sends_at, hears_at, noise, 1e-3, **own)
    radio = ZmqRadio(ZmqSettings(sends_at=sends_at, hears_at=hears_at, rate_hz=RATE_HZ, timeout_s=60.0))
    modulator, receiver = Modulator(), Receiver()
    payloads = [np.random.default_rng(number).bytes(300) for number in range(PACKETS)]
    at, found = GAP, []
    for number, payload in enumerate(payloads):
        burst_B = modulator.packet(Header(sequence=number), payload, mcs=9)
        at = radio.send(burst_B, at=at) + burst_B.size + GAP
    for _ in range(0, at + 40_000, 10_000):
        found += receiver.push(radio.receive(10_000)[0])
    radio.close()
    assert [packet.payload for packet in found] == payloads
    assert np.mean([packet.snr_db for packet in found]) == pytest.approx(16.5, abs=1.5)


def test_gnu_radios_ofdm_crosses_our_air_at_20_db(start, tmp_path):
    scenario = changed(load("ideal"), {"place": {"users": 1}})
    settings = PortSettings(port=free_ports(4), is_real_time=False, timeout_s=30.0)
    heard, stopped, lines = tmp_path / "heard", threading.Event(), []
    own = {"PYTHONPATH": "", "HOME": str(tmp_path)}
    with Air(iq_channel_of(scenario, rate_hz=RATE_HZ), settings, tell=lines.append) as air:
        serving = threading.Thread(target=air.run, kwargs={"stop": stopped.is_set})
        serving.start()
        for node, file in ((1, []), (0, [heard])):
            ports = (settings.sends_at(node), settings.hears_at(node))
            start(PYTHON, HERE / "gnuradio_ofdm.py", *ports, OFDM_PACKETS, *file, **own)
        until(lambda: first_round(heard) is not None, 200.0)
        stopped.set()
        serving.join(30.0)
    assert not lines
    assert len(first_round(heard)) >= 0.95 * OFDM_PACKETS


def first_round(file):
    """The numbers of the packets that arrived before they began again; None until they do."""
    content = file.read_bytes() if file.exists() else b""
    whole = len(content) // OFDM_BYTES * OFDM_BYTES
    rows = np.frombuffer(content[:whole], dtype=np.uint8).reshape(-1, OFDM_BYTES)
    order = rows[:, 0].astype(int) * 256 + rows[:, 1]
    ends = np.flatnonzero(np.diff(order) < 0)
    return set(order[: ends[0] + 1].tolist()) if ends.size else None
