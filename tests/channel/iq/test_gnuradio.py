"""GNU Radio's own ZMQ blocks as nodes of the air, each in a process of the system's Python."""

import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from channel.iq.from_scenario import iq_channel_of
from channel.iq.ports import Air, PortSettings
from channel.scenario.load import changed, load
from tests.channel.iq.free_ports import free_ports
from tests.testbed.waiting import until

PYTHON = "/usr/bin/python3"
COUNT = 200_000


def gnuradio_is_there() -> bool:
    if not Path(PYTHON).exists():
        return False
    asked = subprocess.run([PYTHON, "-c", "from gnuradio import zeromq"], capture_output=True, check=False)
    return asked.returncode == 0


@pytest.mark.slow
def test_two_programs_of_gnu_radio_hear_each_others_tones(start, tmp_path):
    pytest.importorskip("zmq", reason="pyzmq is not installed")
    if not gnuradio_is_there():
        pytest.skip("GNU Radio is not installed for the system's Python (Debian: gnuradio)")
    scenario = changed(load("ideal"), {"place": {"users": 1}})
    channel = iq_channel_of(scenario, rate_hz=1e6)
    settings = PortSettings(port=free_ports(4), is_real_time=False, timeout_s=20.0)
    files, cycles, stopped = [tmp_path / "0", tmp_path / "1"], [0.05, -0.1], threading.Event()
    lines: list[str] = []
    with Air(channel, settings, tell=lines.append) as air:
        serving = threading.Thread(target=air.run, kwargs={"stop": stopped.is_set})
        serving.start()
        for node, file in enumerate(files):
            start(
                *(PYTHON, Path(__file__).with_name("gnuradio_peer.py")),
                *(settings.sends_at(node), settings.hears_at(node), cycles[node], COUNT, file),
                PYTHONPATH="",
                HOME=str(tmp_path),
            )
        until(lambda: min(file.stat().st_size if file.exists() else 0 for file in files) > 7 * COUNT, 60.0)
        stopped.set()
        serving.join(30.0)
    assert not lines
    for file, tone in zip(files, reversed(cycles), strict=True):
        heard = np.fromfile(file, dtype="<c8")[50_000:150_000]
        spectrum = np.abs(np.fft.fft(heard)) ** 2
        assert np.fft.fftfreq(heard.size)[spectrum.argmax()] == pytest.approx(tone, abs=1e-5)
        # Uplink power control gives 20 dB at full scale, 14 dB for half: no sample is missing or doubled.
        assert spectrum.max() / spectrum.sum() > 0.955
