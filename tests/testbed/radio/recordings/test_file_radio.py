"""Recordings in SigMF: validated by the format's own library, and replayed to the same packets."""

import json
import re
from contextlib import suppress

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed: pip install 'splitfl[radio]'")
sigmf = pytest.importorskip("sigmf", reason="sigmf is not installed: pip install 'splitfl[radio]'")

from channel.core.errors import BadParameter  # noqa: E402
from channel.iq.sample_format import format_of  # noqa: E402
from channel.waveform.header import Header  # noqa: E402
from channel.waveform.modulator import Modulator  # noqa: E402
from channel.waveform.receiver import Receiver  # noqa: E402
from splitfl.core.errors import ConfigError  # noqa: E402
from testbed.errors import RecordingEnded  # noqa: E402
from testbed.radio.modem import ModemSettings, PacketModem  # noqa: E402
from testbed.radio.radio import Tuning  # noqa: E402
from testbed.radio.recordings.file_radio import FileRadio, FileSettings  # noqa: E402
from testbed.radio.recordings.recording import Recorder, packet_fields  # noqa: E402

RATE_HZ = 1e6
PAYLOADS = [bytes([number]) * 40 for number in range(3)]


def packet(number):
    return Modulator().packet(Header(sequence=number, source=1), PAYLOADS[number], mcs=9)


def sent_to(path, **settings):
    """What three packets sent to a radio are on file."""
    radio = FileRadio(FileSettings(writes=str(path), rate_hz=RATE_HZ, **settings))
    for number in range(3):
        radio.send(packet(number), at=500 + 4000 * number)
    radio.receive(6000)
    radio.close()
    return sigmf.fromfile(f"{path}.sigmf-meta")


def heard_from(path, block=1000):
    radio, found, starts = FileRadio(FileSettings(reads=str(path))), [], []
    receiver, now = Receiver(), 0
    for _ in range(radio._recording.count // block + 2):
        try:
            samples_B, at = radio.receive(block)
        except RecordingEnded:
            break
        found += receiver.push(np.zeros(at - now, dtype=np.complex64)) + receiver.push(samples_B)
        starts.append(at)
        now = at + samples_B.size
    with pytest.raises(RecordingEnded, match=r"ends after [0-9,]+ samples"):
        radio.receive(block)
    return radio, found, starts


@pytest.mark.parametrize(("form", "datatype"), [("fc32", "cf32_le"), ("sc16", "ci16_le")])
def test_bursts_become_a_valid_recording_that_replays_to_the_same_packets(tmp_path, form, datatype):
    found = sent_to(tmp_path / "sent", sample_format=form, backoff_db=12.0, frequency_hz=2.45e9)
    found.validate()
    about = found.get_global_info()
    assert (about["core:datatype"], about["core:sample_rate"]) == (datatype, RATE_HZ)
    assert found.get_captures()[0]["core:frequency"] == 2.45e9
    marks = [(one["core:sample_start"], one["core:sample_count"]) for one in found.get_annotations()]
    assert marks == [(500 + 4000 * number, packet(number).size) for number in range(3)]
    radio, packets, _ = heard_from(tmp_path / "sent.sigmf-meta")
    assert radio.tuning == Tuning(rate_hz=RATE_HZ, frequency_hz=2.45e9)
    assert [one.payload for one in packets] == PAYLOADS
    assert [one.position for one in packets] == [start for start, _ in marks]


def test_packets_are_annotations_of_a_declared_namespace_and_lost_samples_stay_lost(tmp_path):
    recorder = Recorder(tmp_path / "heard", Tuning(rate_hz=RATE_HZ), format_of("fc32"))
    stream_B = np.concatenate([np.zeros(100, dtype=np.complex64), packet(0), packet(1), packet(2)])
    size = packet(0).size
    recorder.append(stream_B[: 100 + size], at=7000)
    recorder.append(stream_B[100 + 2 * size :], at=7100 + 2 * size)
    (first,) = Receiver().push(stream_B[: 100 + size])
    recorder.annotate(7100, size, packet_fields(first, RATE_HZ))
    recorder.annotate(7100 + size, size, {"core:label": "not on file"})
    recorder.close()
    found = sigmf.fromfile(f"{tmp_path / 'heard'}.sigmf-meta")
    found.validate()
    assert found.get_global_info()["core:extensions"] == [
        {"name": "splitfl", "version": "1.0.0", "optional": True}
    ]
    (mark,) = found.get_annotations()
    assert mark["core:label"] == "node 1 to 0"
    assert (mark["core:sample_start"], mark["core:sample_count"]) == (100, size)
    radio, packets, starts = heard_from(tmp_path / "heard", block=100 + size)
    assert starts == [0, 100 + 2 * size]
    assert (radio.counters.overflows, radio.counters.lost_samples) == (1, size)
    assert packet_fields(packets[0], RATE_HZ).items() <= mark.items()


def test_lost_samples_are_silence_to_the_receiver(tmp_path):
    recorder = Recorder(tmp_path / "gap", Tuning(rate_hz=RATE_HZ), format_of("fc32"))
    recorder.append(np.concatenate([np.zeros(64, dtype=np.complex64), packet(0)]), at=0)
    begin = 50_000
    recorder.append(np.concatenate([packet(1), np.zeros(64, dtype=np.complex64)]), at=begin)
    recorder.close()
    modem = PacketModem(FileRadio(FileSettings(reads=str(tmp_path / "gap"))), ModemSettings())
    found = []
    with suppress(RecordingEnded):
        while True:
            found += modem.receive()
    assert [one.payload for one in found] == PAYLOADS[:2]
    assert found[1].position == begin
    assert modem.radio_counters.lost_samples == begin - 64 - packet(0).size


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "a radio of files needs a recording that it reads or writes"),
        ({"writes": "a"}, "rate_hz is missing: there is no recording to take it from"),
        ({"reads": "nowhere"}, "cannot read the recording nowhere"),
        ({"writes": "nowhere/at/all", "rate_hz": 1e6}, "cannot write the recording nowhere/at/all"),
        ({"writes": "a", "rate_hz": 1e6, "sample_format": "x"}, "sample_format must be one of fc32, sc16"),
    ],
)
def test_unusable_settings_are_refused(settings, message):
    with pytest.raises((ConfigError, BadParameter), match=re.escape(message)):
        FileRadio(FileSettings(**settings))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"core:datatype": "cf32_be"}, "samples of core:datatype cf32_be; have cf32_le, ci16_le"),
        ({"core:datatype": "iq"}, "is no recording in SigMF"),
        ({"core:sha512": "0" * 128}, "is no recording in SigMF"),
        ({"core:sample_rate": None}, "has no core:sample_rate"),
        ({"core:num_channels": 2}, "has 2 channels; only one can be played"),
    ],
)
def test_a_recording_of_another_kind_is_refused(tmp_path, change, message):
    sent_to(tmp_path / "sent")
    meta = tmp_path / "sent.sigmf-meta"
    table = json.loads(meta.read_text())
    table["global"] = {
        key: value for key, value in {**table["global"], **change}.items() if value is not None
    }
    table["annotations"] = []
    meta.write_text(json.dumps(table))
    with pytest.raises(ConfigError, match=re.escape(message)):
        FileRadio(FileSettings(reads=str(meta)))


def test_a_rate_other_than_that_of_the_recording_and_sending_without_a_file_are_refused(tmp_path):
    sent_to(tmp_path / "sent")
    with pytest.raises(ConfigError, match=r"rate_hz 2e.06 is none that this radio has: it took 1e.06"):
        FileRadio(FileSettings(reads=str(tmp_path / "sent"), rate_hz=2e6))
    radio = FileRadio(FileSettings(reads=str(tmp_path / "sent"), rate_hz=RATE_HZ))
    with pytest.raises(ConfigError, match="the settings have no recording that is written"):
        radio.send(packet(0))
