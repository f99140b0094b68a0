"""`splitfl channel air` as a person uses it."""

import sys
import threading

import numpy as np
import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from testbed.radio.zmq_radio import ZmqRadio, settings_of
from tests.channel.iq.free_ports import free_ports


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
