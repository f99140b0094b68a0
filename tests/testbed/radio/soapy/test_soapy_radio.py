"""Radio hardware: a fake SoapySDR for what cannot be caused at will, and a real driver on a null sink."""

import re
import sys

import numpy as np
import pytest

from channel.core.clock import SimulatedClock
from splitfl.core.errors import ConfigError
from testbed.errors import LateBurst, RadioFailed, RadioTimeout, SamplesLost
from testbed.radio.bridge_settings import from_table
from testbed.radio.radio import Tuning
from testbed.radio.sample_loss import LossLimit, SampleNumbers, slower
from testbed.radio.soapy.module import import_soapy
from testbed.radio.soapy.settings import SoapySettings
from testbed.radio.soapy.soapy_radio import SoapyRadio
from tests.testbed.radio.soapy.fake_soapy import ORIGIN_NS, RATE_HZ, fake

GIVEN = {"device": "driver=fake", "rate_hz": RATE_HZ, "frequency_hz": 2.45e9, "gain_db": 30.0}
SENDS = {"transmit_frequency_hz": 2.46e9, "transmit_gain_db": 10.0}


def opened(module, *, said=None, clock=None, **changes):
    settings = SoapySettings(**{**GIVEN, **changes})
    return SoapyRadio(settings, said, soapy=module, clock=clock)


def sending(module, **changes):
    return opened(module, said=[].append, backoff_db=0.0, **SENDS, **changes)


def numbers(samples_B):
    return samples_B.real.astype(int).tolist()


def test_settings_are_read_back_and_streams_closed():
    module = fake()
    radio = opened(module, antenna="RX2", stream_arguments="chan=stereo_iq")
    assert radio.tuning == Tuning(rate_hz=RATE_HZ, frequency_hz=2.45e9, gain_db=30.0, antenna="RX2")
    assert module.device.calls == ["driver=fake", (1, "CF32", [0], {"chan": "stereo_iq"})]
    radio.close()
    assert module.device.open_streams == 0


@pytest.mark.parametrize(
    ("device", "settings", "message"),
    [
        ({"rate_hz": 1.02e6}, {}, "rate_hz 1e+06 is none that this radio has: it took 1.02e+06"),
        ({"offset_hz": 2e3}, {}, "frequency_hz 2.45e+09 is none that this radio has: it took 2450002000"),
        ({}, {"gain_db": 90.0}, "the gain to receive with must lie in [0, 76] dB, got 90"),
        ({}, {"antenna": "A"}, "unknown antenna 'A'; have RX, RX2"),
        ({}, {"channel": 1}, "channel 1: the device has 1 to receive with"),
        ({"formats": ("CS8",)}, {}, "the device has no samples of format CF32, only CS8"),
        (
            {"activation": -5},
            {},
            "cannot receive samples: its driver does not support that (code -5)",
        ),
        ({"error": "no match"}, {}, "device 'driver=fake': no match"),
        ({}, {"device": "uhd"}, "device must name a driver, as in \"driver=uhd\", got 'uhd'"),
        ({}, {"stream_arguments": "iq"}, "stream_arguments must be like chan=stereo_iq, got 'iq'"),
    ],
)
def test_what_a_device_does_not_have_or_keep_is_refused(device, settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        opened(fake(**device), **settings)


def test_short_reads_and_timeouts_are_waited_through():
    radio = opened(fake(reads=[10, -1, 0, 7, -1, 50]))
    samples_B, at = radio.receive(60)
    assert (numbers(samples_B), at) == (list(range(60)), 0)
    assert radio.receive(5)[1] == 60


@pytest.mark.parametrize("has_code", [True, False])
def test_an_overflow_ends_a_reception_and_the_numbers_jump_by_what_was_lost(has_code):
    reads = [10, ("skip", 100), *([-4] if has_code else []), 30]
    radio = opened(fake(reads=reads))
    samples_B, at = radio.receive(40)
    assert (samples_B.size, at) == (10, 0)
    assert radio.counters.lost_samples == 0
    samples_B, at = radio.receive(20)
    assert (numbers(samples_B), at) == (list(range(110, 130)), 110)
    assert radio.receive(20)[1] == 130
    assert (radio.counters.overflows, radio.counters.lost_samples) == (int(has_code), 100)


def test_without_a_clock_of_the_device_a_loss_is_estimated_from_the_wall_clock():
    clock = SimulatedClock()
    radio = opened(fake(has_time=False, reads=[1000, -4, 1000]), clock=clock)
    clock.advance_to(1000 / RATE_HZ)
    assert radio.receive(1000)[1] == 0
    clock.advance_to(9000 / RATE_HZ)
    assert radio.receive(1000)[1] == 8000
    assert (radio.counters.overflows, radio.counters.lost_samples) == (1, 7000)


def test_an_overflow_before_the_first_sample_loses_nothing():
    radio = opened(fake(has_time=False, reads=[-4, 100]), clock=SimulatedClock())
    assert radio.receive(100)[1] == 0
    assert (radio.counters.overflows, radio.counters.lost_samples) == (1, 0)


def test_a_rate_that_was_rounded_when_it_was_read_back_never_adds_up_to_a_loss():
    real_hz, block = RATE_HZ * (1.0 + 1e-6), 10_000
    numbers = SampleNumbers(RATE_HZ, SimulatedClock())
    for index in range(1000):
        time_ns = ORIGIN_NS + round(index * block * 1e9 / real_hz)
        assert numbers.first(index * block, block, time_ns, is_after_loss=False) == index * block
    later_ns = ORIGIN_NS + round((1000 * block + 500) * 1e9 / real_hz)
    assert numbers.first(1000 * block, block, later_ns, is_after_loss=True) == 1000 * block + 500


def test_more_than_one_percent_of_lost_time_ends_with_a_rate_to_try():
    radio = opened(fake(reads=[1000, ("skip", 90_000), -4, 1000, ("skip", 20_000), -4, 1000]))
    assert radio.receive(1000)[1] == 0
    assert radio.receive(1000)[1] == 91_000
    with pytest.raises(SamplesLost, match=r"lost 9\d\.\d % of the samples of 0.1 s at .* try rate_hz = \d+"):
        radio.receive(1000)
    assert slower(10e6, 0.3) == 5e6
    assert slower(10e6, 0.5) == pytest.approx(10e6 / 3)


def test_losses_long_ago_are_forgiven():
    limit = LossLimit("driver=fake", RATE_HZ)
    limit.lost(60_000, 1_000_000)
    limit.lost(60_000, 11_000_001)
    with pytest.raises(SamplesLost, match=r"lost 1\.2 % of the samples of 10\.0 s at rate_hz = 1e.06"):
        limit.lost(60_000, 20_000_000)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (-5, ConfigError, "driver=fake: its driver does not support that (code -5)"),
        (-2, RadioFailed, "driver=fake: its stream failed (code -2)"),
        (-3, RadioFailed, "driver=fake: data were corrupted on their way (code -3)"),
        (-9, RadioFailed, "driver=fake: its driver reports an error (code -9)"),
    ],
)
def test_other_codes_end_a_reception(code, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        opened(fake(reads=[code])).receive(10)


def test_a_device_that_gives_nothing_times_out():
    with pytest.raises(RadioTimeout, match=r"driver=fake gave no samples for 0.01 s"):
        opened(fake(is_idle=True), timeout_s=0.01).receive(10)


def test_sending_is_asked_for_and_said_before_anything_is_sent():
    with pytest.raises(ConfigError, match="this radio may only receive: --transmit lets it send"):
        opened(fake()).send(np.ones(4, dtype=np.complex64))
    with pytest.raises(ConfigError, match="transmit_frequency_hz is missing: it has no default"):
        opened(fake(), said=print)
    with pytest.raises(ConfigError, match="transmit_gain_db is missing: it has no default"):
        opened(fake(), said=print, transmit_frequency_hz=1e9)
    said = []
    opened(fake(), said=said.append, **SENDS)
    assert said == [
        "sends at 2460 MHz, 1 MHz wide, with a gain of 10 dB at antenna TX: "
        "whether you have a licence for that is your affair"
    ]


def test_a_burst_is_written_in_pieces_that_end_it_once_and_go_on_after_short_writes():
    module = fake(writes=[600, -1, 0, 1000])
    radio, burst = sending(module), np.linspace(0.0, 0.5, 2100).astype(np.complex64)
    assert radio.send(burst) == 0
    written = module.device.written
    assert np.array_equal(np.concatenate([part for part, _, _ in written]), burst)
    assert [(part.size, flags) for part, flags, _ in written] == [(600, 0), (1000, 0), (500, 2)]
    assert radio.send(burst) == 2100


def test_a_burst_at_a_time_has_the_time_of_the_device_and_keeps_what_was_heard_meanwhile():
    module = fake()
    radio = sending(module)
    assert radio.send(np.ones(1500, dtype=np.complex64) / 4.0, at=50_000) == 50_000
    assert [(flags, time) for _, flags, time in module.device.written] == [
        (4, ORIGIN_NS + 50_000_000),
        (2, ORIGIN_NS + 50_000_000),
    ]
    samples_B, at = radio.receive(3000)
    assert (numbers(samples_B), at) == (list(range(3000)), 0)
    with pytest.raises(LateBurst, match="a burst for sample 51499 came at sample 51500"):
        radio.send(np.ones(4, dtype=np.complex64), at=51_499)
    with pytest.raises(ConfigError, match=r"driver=fake has no clock: bursts at a time \(slots\) need one"):
        sending(fake(has_time=False)).send(np.ones(4, dtype=np.complex64), at=100)


def test_late_bursts_and_underflows_are_counted_where_they_happen_or_are_reported():
    radio = sending(fake(writes=[-7, 4, -6], reports=[-7, -6, -7]))
    burst = np.ones(4, dtype=np.complex64) / 2.0
    radio.send(burst)
    assert (radio.counters.underflows, radio.counters.late_bursts) == (3, 1)
    with pytest.raises(LateBurst, match="driver=fake got a burst after its time"):
        radio.send(burst)
    assert radio.counters.late_bursts == 2


@pytest.mark.parametrize(("code", "kind"), [(-5, ConfigError), (-2, RadioFailed)])
def test_other_codes_end_a_transmission(code, kind):
    with pytest.raises(kind, match=rf"\(code {code}\)"):
        sending(fake(writes=[code])).send(np.ones(4, dtype=np.complex64) / 2.0)


def test_a_device_that_takes_nothing_times_out():
    radio = sending(fake(is_idle=True), timeout_s=0.01)
    with pytest.raises(RadioTimeout, match="driver=fake took 0 of 4 samples in time"):
        radio.send(np.ones(4, dtype=np.complex64) / 2.0)


def test_bindings_that_are_missing_or_of_another_python_are_said_in_words(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SoapySDR", None)
    with pytest.raises(ConfigError, match="this Python does not find SoapySDR: install python3-soapysdr"):
        import_soapy()
    with pytest.raises(ConfigError, match=r"soapy_path .* has no SoapySDR.py"):
        import_soapy(str(tmp_path))
    (tmp_path / "SoapySDR.py").write_text("import _SoapySDR\n")
    (tmp_path / "_SoapySDR.cpython-38-x86_64-linux-gnu.so").touch()
    monkeypatch.delitem(sys.modules, "SoapySDR")
    with pytest.raises(ConfigError, match=r"built for Python 3\.8, but this is Python 3\.\d+: run splitfl"):
        import_soapy(str(tmp_path))
    assert str(tmp_path) not in sys.path


def test_a_bridge_goes_on_the_air_only_when_asked_to():
    bridge = {"node": 0, "addresses": ["10.78.0.1/24", "10.78.0.2/24"]}
    hardware = from_table({"bridge": bridge, "radio": {"kind": "soapy", **GIVEN, **SENDS}})
    with pytest.raises(ConfigError, match="sends over the air with this radio: add --transmit if it may"):
        hardware.open_radio(None)
    emulated = {"sends_at": "tcp://127.0.0.1:1", "hears_at": "tcp://127.0.0.1:2", "rate_hz": 1e6}
    with pytest.raises(ConfigError, match="--transmit is for radios that send over the air"):
        from_table({"bridge": bridge, "radio": emulated}).open_radio(print)


@pytest.mark.parametrize("key", ["frequency_hz", "gain_db", "rate_hz", "device"])
def test_a_radio_has_no_default_device_frequency_gain_or_rate(key):
    radio = {"kind": "soapy", **{name: value for name, value in GIVEN.items() if name != key}}
    bridge = {"node": 0, "addresses": ["10.78.0.1/24", "10.78.0.2/24"]}
    with pytest.raises(ConfigError, match=rf"radio\.{key} is missing"):
        from_table({"bridge": bridge, "radio": radio})


@pytest.mark.slow
def test_packets_reach_a_real_driver_from_a_null_sink(tmp_path):
    pytest.importorskip("numba", reason="numba is not installed: pip install 'splitfl[radio]'")
    audio = pytest.importorskip("tests.testbed.radio.soapy.soapy_audio")
    if reason := audio.why_not():
        pytest.skip(reason)
    with audio.null_sink(tmp_path), audio.playing():
        found = audio.listened(8.0)
    assert found.whole >= 50
    assert found.lost <= 0.01 * found.whole or found.overflows
    assert found.unexplained == 0


@pytest.mark.slow
def test_the_null_driver_without_streams_is_refused():
    audio = pytest.importorskip("tests.testbed.radio.soapy.soapy_audio")
    if reason := audio.why_not():
        pytest.skip(reason)
    with pytest.raises(ConfigError, match=r"channel 0: the device has 0 to receive with|does not support"):
        SoapyRadio(audio.settings(device="driver=null"))
