"""What a probe says of a radio: each kind of trouble by its own sentence, with the measured number."""

import re

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("numba", reason="numba is not installed: pip install 'splitfl[radio]'")
sigmf = pytest.importorskip("sigmf", reason="sigmf is not installed: pip install 'splitfl[radio]'")

from scipy.signal import resample_poly  # noqa: E402

from channel.core.clock import SimulatedClock  # noqa: E402
from channel.iq.sample_format import format_of  # noqa: E402
from channel.waveform.header import Header  # noqa: E402
from channel.waveform.modulator import Modulator  # noqa: E402
from channel.waveform.numerology import SMALLEST, Numerology  # noqa: E402
from experiments.cli.main import main  # noqa: E402
from testbed.radio.probe.findings import findings  # noqa: E402
from testbed.radio.probe.probe import RadioProbe  # noqa: E402
from testbed.radio.probe.sample_statistics import SampleStatistics  # noqa: E402
from testbed.radio.radio import RadioCounters, Tuning  # noqa: E402
from testbed.radio.recordings.file_radio import FileRadio, FileSettings  # noqa: E402
from testbed.radio.recordings.recording import Recorder  # noqa: E402
from testbed.radio.soapy.settings import SoapySettings  # noqa: E402
from testbed.radio.soapy.soapy_radio import SoapyRadio  # noqa: E402
from tests.testbed.radio.soapy.fake_soapy import fake  # noqa: E402

RATE_HZ = 1e6
PAYLOAD = bytes(range(200))
NOISE_DB = -50.0


def stream(*, packets=4, level=0.1, size=64, payload=PAYLOAD, noise=True):
    """Packets with gaps, and noise 30 dB below them."""
    modulator, silence = Modulator(Numerology(fft_size=size)), np.zeros(2000, dtype=np.complex64)
    parts = [silence]
    for number in range(packets):
        parts += [level * modulator.packet(Header(sequence=number), payload, mcs=9), silence]
    sent_B = np.concatenate(parts).astype(np.complex64)
    return sent_B + noise_of(sent_B.size) * np.float32(level / 0.1) if noise else sent_B


def noise_of(count):
    parts = np.random.default_rng(0).standard_normal(2 * count).astype(np.float32) * 10 ** (NOISE_DB / 20)
    return (parts / np.sqrt(2.0, dtype=np.float32)).view(np.complex64)


def recorded(path, samples_B, form="fc32"):
    recorder = Recorder(path, Tuning(rate_hz=RATE_HZ), format_of(form))
    recorder.append(np.asarray(samples_B, dtype=np.complex64), at=0)
    recorder.close()
    return path.with_name(f"{path.name}.sigmf-meta")


@pytest.fixture
def said(tmp_path):
    """The report on samples, and the sentences on them that refuse and that do not."""

    def look(samples_B):
        radio = FileRadio(FileSettings(reads=str(recorded(tmp_path / "heard", samples_B))))
        report = RadioProbe(radio, SMALLEST).look(10.0)
        found = findings(report, keeps_time=False)
        return (
            report,
            [one.text for one in found if one.refuses],
            [one.text for one in found if not one.refuses],
        )

    return look


def turned(samples_B, offset_hz):
    turn = np.exp(2j * np.pi * offset_hz / RATE_HZ * np.arange(samples_B.size))
    return (samples_B * turn).astype(np.complex64)


def test_levels_offset_and_snr_of_a_good_signal_are_measured_and_nothing_is_said(said):
    offset_hz, samples_B = 2500.0, stream()
    report, refused, hints = said(turned(samples_B, offset_hz))
    assert (refused, hints) == ([], [])
    assert report.receiver.packets == 4
    assert report.carrier_offset_hz == pytest.approx(offset_hz, abs=20.0)
    assert report.snr_db.mean() == pytest.approx(-20.0 - NOISE_DB + 10 * np.log10(64 / 52), abs=1.0)
    assert report.statistics.top_db == pytest.approx(-20.0, abs=2.0)
    power_B = np.abs(samples_B) ** 2
    assert report.statistics.level_db == pytest.approx(10 * np.log10(power_B.mean()), abs=0.1)


def test_a_dc_offset_is_the_power_of_the_mean():
    statistics = SampleStatistics()
    for _ in range(3):
        statistics.add(noise_of(5000) + np.complex64(0.01j))
    assert statistics.offset_db == pytest.approx(-40.0, abs=0.1)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: 3e4 * stream(level=0.5), "samples of magnitude "),
        (
            lambda: np.frombuffer(format_of("sc16").encode(stream(level=0.5)), dtype="<c8"),
            "is this sc16, or of another byte order? have little-endian fc32",
        ),
        (
            lambda: stream().astype(">c8").view("<c8"),
            "is this sc16, or of another byte order? have little-endian fc32",
        ),
        (lambda: np.zeros(9000), "all samples are 0: nothing is connected"),
        (lambda: 1e-12 * noise_of(9000), "is this sc16, or of another byte order?"),
    ],
    ids=["sc16 without its scale", "sc16 as fc32", "byte order", "zeros", "tiny"],
)
def test_samples_of_another_format_are_refused(said, made, message):
    _, (refused,), hints = said(made())
    assert message in refused
    assert not hints


def test_samples_of_magnitude_30000_are_taken_for_16_bit_integers(said):
    _, refused, _ = said(3e4 * np.exp(1j * np.arange(9000.0)))
    assert refused == ["samples of magnitude 3e+04: is this sc16? have fc32"]


@pytest.mark.parametrize("offset_hz", [9000.0, -12_000.0])
def test_a_carrier_offset_beyond_half_a_subcarrier_is_refused_with_its_number(said, offset_hz):
    _, (refused,), _ = said(turned(stream(), offset_hz))
    found = re.match(r"a carrier offset of ([+-]\d+) Hz is more than half the .* spacing, 7812 Hz", refused)
    assert float(found[1]) == pytest.approx(offset_hz, abs=30.0)


def test_clocks_that_differ_by_more_than_40_ppm_are_refused_with_their_number(said):
    sent_B = stream(payload=bytes(1400), packets=2)
    places = np.arange(sent_B.size) * (1.0 + 80e-6)
    fine = resample_poly(sent_B, 16, 1)
    heard_B = np.interp(places * 16, np.arange(fine.size), fine.real) + 1j * np.interp(
        places * 16, np.arange(fine.size), fine.imag
    )
    report, (refused,), _ = said(heard_B)
    assert abs(report.clock_ppm) == pytest.approx(80.0, abs=15.0)
    assert re.match(r"sample clocks differ by [+-]\d+ ppm, more than 40", refused)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: stream(size=128), "no preamble with these settings; the packets fit fft_size = 128"),
        (
            lambda: resample_poly(stream(), 2, 1),
            "no preamble with these settings; the packets fit a far side with rate_hz = 500000",
        ),
        (lambda: 20.0 * noise_of(9000), "no packet and no signal above the floor: does the far side send?"),
        (
            lambda: np.concatenate([noise_of(9000), 0.1 * np.exp(1.3j * np.arange(999)), noise_of(9000)]),
            "above the floor, but no preamble: has the far side the same rate_hz, frequency_hz and fft_size?",
        ),
        (
            lambda: stream() + 30.0 * noise_of(stream().size),
            "4 preambles but no whole packet: the SNR is too",
        ),
        (lambda: 1e-3 * noise_of(20_000), "the level is only -"),
        (
            lambda: np.clip((40 * stream()).view(np.float32), -1, 1).view(np.complex64),
            "are at full scale: lower",
        ),
    ],
    ids=["fft size", "rate", "noise", "tone", "weak", "low", "clipped"],
)
def test_what_keeps_packets_from_arriving_is_named(said, made, message):
    _, refused, hints = said(made())
    assert message in "\n".join([*refused, *hints])


def test_a_device_that_loses_samples_or_does_not_keep_its_rate_is_refused():
    # Below the radio's own limit of 1 % of 10 s.
    reads = [part for _ in range(200) for part in (9_000, ("skip", 200), -4)]
    module, clock = fake(reads=reads), SimulatedClock()
    settings = SoapySettings(device="driver=fake", rate_hz=RATE_HZ, frequency_hz=1e9, gain_db=1.0)
    radio = SoapyRadio(settings, soapy=module, clock=clock)
    report = RadioProbe(radio, SMALLEST, clock=clock).look(0.05)
    refused = [one.text for one in findings(report, keeps_time=True) if one.refuses]
    assert "samples of magnitude" in refused[0]
    report.statistics.peak = 1.0
    refused = [one.text for one in findings(report, keeps_time=True) if one.refuses]
    assert re.match(r"\d\.\d % of the samples were lost in \d+ overflows at rate_hz = 1e.06: try", refused[0])


def test_a_rate_that_a_device_does_not_keep_is_refused(said):
    report, _, _ = said(stream())
    slow = type(report)(**{**vars(report), "wall_s": 2.0, "wall_samples": 1_800_000})
    (found,) = findings(slow, keeps_time=True)
    assert found.text == "the device gives 9e+05 samples a second, not rate_hz = 1e+06"
    assert found.refuses
    assert findings(slow, keeps_time=False) == []
    assert slow.radio == RadioCounters()


def test_the_command_records_what_it_hears_with_its_packets_and_hears_the_same_again(tmp_path):
    source, record = recorded(tmp_path / "sent", stream()), tmp_path / "heard"
    told = CliRunner().invoke(main, ["radio", "probe", str(source), "--record", str(record)])
    assert told.exit_code == 0, told.output
    assert re.search(r"packets +4, 0 of them with errors", told.output)
    assert re.search(r"SNR +3\d\.\d dB", told.output)
    found = sigmf.fromfile(f"{record}.sigmf-meta")
    found.validate()
    marks = found.get_annotations()
    assert [one["splitfl:sequence"] for one in marks] == [0, 1, 2, 3]
    again = CliRunner().invoke(main, ["radio", "probe", f"{record}.sigmf-meta"])
    assert again.output.splitlines()[2:] == told.output.splitlines()[2:]


@pytest.mark.slow
@pytest.mark.parametrize("made", [stream, lambda: noise_of(9000)], ids=["packets", "noise"])
def test_what_is_heard_can_be_drawn(tmp_path, made):
    source, picture = recorded(tmp_path / "sent", made()), tmp_path / "seen.png"
    told = CliRunner().invoke(main, ["radio", "probe", str(source), "--plot", str(picture)])
    assert told.exit_code == 0, told.output
    assert picture.stat().st_size > 10_000


@pytest.mark.slow
def test_a_picture_of_another_format_is_refused_before_anything_is_heard(tmp_path):
    told = CliRunner().invoke(main, ["radio", "probe", "nowhere.toml", "--plot", str(tmp_path / "a.bmp")])
    assert told.exit_code == 2
    assert "--plot must end in .png, .svg, .pdf, got 'a.bmp'" in told.output


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", None, "cannot read the settings of a radio from"),
        ("a.toml", "[bridge]\nnode = 0", "must have the table [radio]; have bridge"),
        ("a.toml", '[radio]\nkind = "soapy"', "radio.device is missing"),
        ("a.sigmf-meta", "{}", "is no recording in SigMF"),
    ],
)
def test_a_target_that_is_no_radio_is_refused(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    told = CliRunner().invoke(main, ["radio", "probe", str(tmp_path / name)])
    assert told.exit_code == 2
    assert message in told.output


def test_the_command_refuses_what_makes_a_link_impossible(tmp_path):
    source = recorded(tmp_path / "sent", np.zeros(5000))
    told = CliRunner().invoke(main, ["radio", "probe", str(source)])
    assert told.exit_code == 2
    assert "1 of these make a link impossible: all samples are 0" in told.output
