import binascii
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.fidelity.multipath import THREE_TAPS
from channel.waveform import header as header_file
from channel.waveform.header import Header
from channel.waveform.modulator import Modulator
from channel.waveform.numerology import FFT_SIZES, SMALLEST, Numerology
from channel.waveform.receiver import Receiver
from tests.channel.waveform.air import heard, skewed

MODULATOR = Modulator()
HEADER = Header(kind=3, source=1, target=2, flags=5, sequence=65_535, next_expected=7, bitmap=0xDEADBEEF)

NOTCH = THREE_TAPS.impulse


def received(samples, numerology=SMALLEST):
    receiver = Receiver(numerology)
    return receiver.push(samples), receiver.counters


@pytest.mark.parametrize(("mcs", "snr_db"), [(9, 6.0), (16, 12.0), (25, 21.0)])
def test_packets_arrive_through_three_taps_and_a_carrier_offset(mcs, snr_db):
    payloads = [stream(0, "payload", mcs, number).bytes(600) for number in range(10)]
    samples = np.concatenate([MODULATOR.packet(HEADER, payload, mcs=mcs) for payload in payloads])
    air = heard(samples, snr_db=snr_db + 3.0, name=f"mcs {mcs}", offset=3e-3, taps=NOTCH)
    found, counters = received(air)
    assert [packet.payload for packet in found] == payloads
    assert {packet.header for packet in found} == {HEADER}
    assert (counters.packets, counters.bad_payloads, counters.bad_headers) == (10, 0, 0)


@pytest.mark.parametrize("fft_size", FFT_SIZES)
def test_a_packet_says_where_it_began_how_strong_it_was_and_how_far_off(fft_size):
    numerology = Numerology(fft_size=fft_size)
    samples = Modulator(numerology).packet(HEADER, b"x" * 500, mcs=12)
    air = heard(samples, snr_db=15.0, name="where", numerology=numerology, offset=0.3 / fft_size, before=1234)
    (packet,), _ = received(air, numerology)
    assert packet.payload == b"x" * 500
    assert (packet.position, packet.samples, packet.mcs) == (1234, samples.size, 12)
    assert packet.snr_db == pytest.approx(15.0, abs=0.7)
    assert packet.offset * fft_size == pytest.approx(0.3, abs=1e-3)
    assert np.abs(packet.response_K) == pytest.approx(1.0, abs=0.15)
    assert np.abs(packet.points).mean() == pytest.approx(0.95, abs=0.05)


@pytest.mark.parametrize("spacings", [-0.9, -0.5, 0.5, 0.9])
def test_carrier_offsets_within_a_subcarrier_spacing_are_removed(spacings):
    samples = MODULATOR.packet(HEADER, b"o" * 200, mcs=20)
    (packet,), _ = received(heard(samples, snr_db=16.0, name="offset", offset=spacings / 64))
    assert packet.payload == b"o" * 200
    assert packet.offset * 64 == pytest.approx(spacings, abs=2e-3)


@pytest.mark.parametrize("scale", [1e-6, 3e4])
def test_packets_arrive_at_any_level(scale):
    air = heard(MODULATOR.packet(HEADER, b"l" * 100, mcs=9), snr_db=8.0, name="level")
    (packet,), _ = received((scale * air).astype(np.complex64))
    assert packet.payload == b"l" * 100
    assert np.abs(packet.response_K).mean() == pytest.approx(scale, rel=0.2)


def test_silence_in_the_middle_of_a_packet_is_no_payload():
    samples = MODULATOR.packet(HEADER, bytes(400), mcs=9)
    samples[1000:] = 0.0
    (packet,), counters = received(np.concatenate([samples, np.zeros(500)]))
    assert packet.payload is None
    assert counters.bad_payloads == 1


@given(cuts=st.lists(st.integers(0, 12_000), max_size=12))
@settings(max_examples=20, deadline=None)
def test_the_same_samples_give_the_same_packets_however_they_are_cut(cuts):
    whole, pieces = Receiver(), Receiver()
    places = sorted({0, *(min(cut, AIR.size) for cut in cuts), AIR.size})
    found = [packet for begin, end in pairwise(places) for packet in pieces.push(AIR[begin:end])]
    expected = whole.push(AIR)
    assert [packet.payload for packet in expected] == [b"a" * 40, None, b"c" * 300]
    assert pieces.counters == whole.counters
    for one, other in zip(found, expected, strict=True):
        assert (one.payload, one.header, one.position) == (other.payload, other.header, other.position)
        assert (one.snr_db, one.offset) == (other.snr_db, other.offset)
        assert np.array_equal(one.points, other.points)


def cut_air():
    """Three packets, the second of which is damaged, with a pause after the first."""
    parts = [
        MODULATOR.packet(HEADER, letter * count, mcs=10)
        for letter, count in ((b"a", 40), (b"b", 200), (b"c", 300))
    ]
    parts[1][1500:] = parts[1][1500:].conj()
    parts.insert(1, np.zeros(700, dtype=np.complex64))
    return heard(np.concatenate(parts), snr_db=12.0, name="cut")


AIR = cut_air()


PIECES = st.tuples(
    st.sampled_from(["packet", "noise", "silence", "tone"]), st.integers(0, 3000), st.integers(1, 3000)
)


@given(pieces=st.lists(PIECES, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_no_samples_are_an_exception_and_every_detection_is_accounted_for(pieces):
    rng = stream(0, "pieces")
    sources = {
        "packet": MODULATOR.packet(HEADER, b"d" * 150, mcs=8),
        "noise": rng.standard_normal(6000).view(np.complex128),
        "silence": np.zeros(6000),
        "tone": np.exp(0.2j * np.arange(6000)),
    }
    receiver = Receiver()
    for kind, begin, count in pieces:
        receiver.push(sources[kind][begin : begin + count].astype(np.complex64))
    counters = receiver.counters
    ended = counters.false_alarms + counters.bad_headers + counters.unsupported + counters.packets
    assert ended <= counters.detections <= ended + 1


def test_single_samples_are_enough():
    receiver = Receiver()
    found = [packet for sample in AIR[:2500, None] for packet in receiver.push(sample)]
    assert [packet.payload for packet in found] == [b"a" * 40]


def test_a_header_goes_alone():
    samples = MODULATOR.packet(HEADER, mcs=6)
    (packet,), _ = received(heard(samples, snr_db=3.0, name="alone"))
    assert (packet.header, packet.payload, packet.units_UN) == (HEADER, b"", None)
    assert samples.size == MODULATOR.length(header_file.PayloadFormat(6, 0, 0)) < 1000


@pytest.mark.parametrize("difference", [40e-6, -40e-6])
def test_a_difference_of_sample_clocks_is_found_and_followed(difference):
    samples = skewed(MODULATOR.packet(HEADER, b"w" * 1400, mcs=20), difference)
    (packet,), _ = received(heard(samples, snr_db=15.0, name="skewed"))
    assert packet.payload == b"w" * 1400
    assert packet.clock_difference == pytest.approx(difference, abs=8e-6)


def test_headers_alone_arrive_behind_a_notch_where_no_payload_does():
    alone = [MODULATOR.packet(Header(sequence=number), mcs=9) for number in range(40)]
    with_payload = [MODULATOR.packet(Header(sequence=number), b"p" * 700, mcs=9) for number in range(5)]
    air = heard(np.concatenate([*alone, *with_payload]), snr_db=2.0, name="notch", taps=NOTCH)
    found, counters = received(air)
    assert [packet.header.sequence for packet in found] == [*range(40), *range(5)]
    assert counters.bad_payloads == 5


# The packet level's answer to the notch: 0.95 dB more by effective SINR at MCS 16
def test_units_shorter_than_two_symbols_are_lost_as_often_behind_a_notch_as_in_white_noise():
    units_UN = stream(0, "short units").integers(0, 256, (600, 40), dtype=np.uint8)
    samples, lost = MODULATOR.unit_packet(HEADER, units_UN, mcs=16), []
    for snr_db, taps in ((8.4, (1.0,)), (9.35, NOTCH)):
        (packet,), _ = received(heard(samples, snr_db=snr_db, name="short", taps=taps))
        lost.append(float(np.mean(~packet.is_whole_U)))
    assert 0.05 < lost[0] < 0.3
    assert lost[1] == pytest.approx(lost[0], abs=0.07)


def test_units_are_lost_one_by_one():
    units_UN = stream(0, "units").integers(0, 256, (16, 392), dtype=np.uint8)
    samples = MODULATOR.unit_packet(HEADER, units_UN, mcs=16)
    (packet,), counters = received(heard(samples, snr_db=8.5, name="units"))
    assert packet.payload is None
    lost = int(np.sum(~packet.is_whole_U))
    assert 0 < lost < 16
    assert counters.lost_units == lost
    assert np.array_equal(packet.units_UN, np.where(packet.is_whole_U[:, None], units_UN, 0))


def test_units_longer_than_a_code_block_are_several():
    units_UN = stream(0, "long units").integers(0, 256, (3, 3001), dtype=np.uint8)
    (packet,), _ = received(heard(MODULATOR.unit_packet(HEADER, units_UN, mcs=20), snr_db=25.0, name="long"))
    assert packet.is_whole_U.all()
    assert np.array_equal(packet.units_UN, units_UN)


def test_packets_follow_each_other_without_a_gap():
    payloads = [bytes([number]) * (100 + number) for number in range(8)]
    samples = np.concatenate([MODULATOR.packet(HEADER, payload, mcs=18) for payload in payloads])
    found, _ = received(heard(samples, snr_db=20.0, name="dense"))
    assert [packet.payload for packet in found] == payloads


def test_noise_alone_gives_no_packet():
    noise = heard(np.zeros(300_000), snr_db=0.0, name="noise")
    found, counters = received(noise)
    assert (found, counters.packets, counters.bad_headers) == ([], 0, 0)
    assert counters.detections <= 1


def test_silence_a_tone_and_an_interrupted_packet_give_no_packet():
    cut = MODULATOR.packet(HEADER, b"y" * 100, mcs=9)[:300]
    tone = np.exp(0.3j * np.arange(5000))
    found, counters = received(np.concatenate([np.zeros(2000), tone, np.zeros(500), cut, np.zeros(3000)]))
    assert found == []
    assert counters.packets == 0
    assert counters.detections == counters.false_alarms + counters.bad_headers


def broken(block, at, value):
    return block[:at] + bytes([value]) + block[at + 1 :]


@pytest.mark.parametrize(
    ("change", "is_sealed", "counter"),
    [
        (lambda block: broken(block, 9, block[9] ^ 1), False, "bad_headers"),
        (lambda block: broken(block, 0, 0x40 | 9), True, "unsupported"),  # version 2
        (lambda block: broken(block, 0, 0x20 | 31), True, "unsupported"),  # MCS 31
        (lambda block: broken(block, 0, 0x20 | 0), True, "unsupported"),  # MCS 0 is not offered
        (lambda block: broken(block, 1, 0xFF), True, "unsupported"),  # too many units
    ],
)
def test_packets_with_a_bad_or_unknown_header_are_dropped_and_counted(
    monkeypatch, change, is_sealed, counter
):
    def pack(form, header):
        block = change(header_file.pack(form, header))[:16]
        right = binascii.crc_hqx(block, 0xFFFF)
        return block + (right if is_sealed else right ^ 1).to_bytes(2, "big")

    monkeypatch.setattr("channel.waveform.modulator.pack", pack)
    bad = MODULATOR.packet(HEADER, b"z" * 100, mcs=9)
    monkeypatch.undo()
    good = MODULATOR.packet(HEADER, b"good", mcs=9)
    found, counters = received(heard(np.concatenate([bad, good]), snr_db=20.0, name="bad"))
    assert [packet.payload for packet in found] == [b"good"]
    assert getattr(counters, counter) >= 1
    assert counters.packets == 1


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(4), r"samples must be complex \(n,\), got float64 \(4,\)"),
        (np.zeros((2, 2), dtype=np.complex64), r"got complex64 \(2, 2\)"),
        (np.array([0.0, np.nan], dtype=np.complex64), "must be finite"),
    ],
)
def test_what_are_no_samples_is_refused(samples, message):
    with pytest.raises(BadParameter, match=message):
        Receiver().push(samples)
