"""`splitfl channel air` as a person uses it."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from channel.iq.air_report import AirReport
from channel.iq.pace import Slips
from experiments.channel.air import verdict
from experiments.cli.main import main
from testbed.radio.zmq_radio import ZmqRadio, settings_of
from tests.channel.iq.free_ports import free_ports
from tests.testbed.waiting import until


def invoke(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["channel", "air", *words])
    return result.exit_code, result.output


def test_two_radios_meet_on_the_air_and_a_table_says_what_went_through() -> None:
    pytest.importorskip("zmq", reason="pyzmq is not installed")
    port, heard = free_ports(4), {}

    def take_part(node: int) -> None:
        radio = ZmqRadio(settings_of(node, port=port, rate_hz=1e6))
        radio.send(np.full(2000, 0.5, dtype=np.complex64), at=4000)
        heard[node] = radio.receive(10_000)[0]
        radio.close()

    threads = [threading.Thread(target=take_part, args=(node,)) for node in (0, 1)]
    for thread in threads:
        thread.start()
    code, text = invoke(
        *("ideal", "--users", "1", "--rate", "1e6", "--port", str(port), "--pace", "free"),
        *("--seconds", "0.01", "--print", "gnuradio", "--timeout", "5"),
    )
    for thread in threads:
        thread.join(10.0)
    assert code == 0, text
    assert f'zeromq.rep_sink(gr.sizeof_gr_complex, 1, "tcp://*:{port + 2}", 100, False)' in text
    assert "2 nodes at 1e+06 samples/s: ready" in text
    assert "10,000 samples, 0.0 s of the channel" in text
    level = np.abs(heard[1])
    assert level[4200:5800].min() > 20.0 * level[:3900].max()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("urban-micro", "--nodes", "4"),
            "--nodes must be 11 for 10 users of urban-micro, got 4, or --users 3 for the first ones",
        ),
        (("ideal", "--nodes", "9"), "--nodes must be 5 for 4 users of ideal, got 9"),
        (("ideal", "--users", "9"), "--users must be at most the 4 of ideal, got 9"),
        (("vehicular", "--users", "1", "--guard", "3"), "the guard must have at least 8 samples for a path"),
        (("ideal", "--front-end", "7.cfo_hz=1"), "--front-end must be NODE.KEY=VALUE with a node of 0 to 4"),
        (("ideal", "--front-end", "1.cfo=1"), "and a key of cfo_hz, sample_rate_ppm, linewidth_hz,"),
        (("ideal", "--front-end", "1.cfo_hz=x"), "--front-end must have a number there, got '1.cfo_hz=x'"),
        (("ideal", "--front-end", "*.adc_bits=99"), "adc_bits must be 0 (none) or a whole number in [1, 24]"),
        (("ideal", "--node-host", "1"), "--node-host must be NODE=ADDRESS, got '1'"),
        (("ideal", "--port", "65535"), "port must be at most 65526, got 65535"),
        (("ideal", "--rate", "-1"), "rate_hz must be above 0, got -1"),
        (("ideal", "--timeout", "0"), "timeout_s must be above 0, got 0"),
    ],
)
def test_bad_input_is_one_clear_line(words: tuple[str, ...], message: str) -> None:
    pytest.importorskip("zmq", reason="pyzmq is not installed")
    code, text = invoke(*words)
    assert code == 2
    assert message in text


def test_without_pyzmq_one_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq", None)
    code, text = invoke("ideal")
    assert code == 2
    assert text == "Error: ZMQ radios need the library pyzmq: pip install 'splitfl[radio]'\n"


def test_the_last_line_says_where_the_air_was_not_in_real_time() -> None:
    def said(slipped_s: float) -> str:
        slips = Slips(slipped_s=slipped_s, late_blocks=2, worst_late_s=0.03)
        return verdict(AirReport(rate_hz=1e6, samples=1_000_000, wall_s=1.0 + slipped_s, slips=slips))

    assert said(0.04).startswith(
        "1,000,000 samples, 1.0 s of the channel, 0.96 Msps, slipped 0.04 s in 2 late"
    )
    assert said(0.1).startswith("NOT in real time: 1,000,000 samples, 1.0 s of the channel, 0.91 Msps")
    assert said(0.1).endswith("slipped 0.10 s in 2 late blocks, 0.030 s at most.")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_air_with_its_table(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path, sent: signal.Signals
) -> None:
    pytest.importorskip("zmq", reason="pyzmq is not installed")
    output = tmp_path / "air"
    words = ("channel", "air", "ideal", "--users", "1", "--port", str(free_ports(4)))
    air = start(sys.executable, "-m", "experiments", *words, output=output)
    until(lambda: "ready, Ctrl-C ends" in output.read_text())
    air.send_signal(sent)
    assert air.wait(timeout=30.0) == 0
    text = output.read_text()
    assert "times lost" in text
    assert text.endswith("0 samples, 0.0 s of the channel, 0.00 Msps, slipped 0.00 s.\n")


@pytest.mark.slow
def test_the_air_imports_no_torch() -> None:
    code = (
        "import sys\nfrom experiments.channel import air\n"
        "air.chosen_scenario('ideal', nodes=None, users=None, seed=None)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
