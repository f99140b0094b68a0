"""What every radio does, by a conformance test of all of them, and what only one does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from channel.iq.from_scenario import iq_channel_of
from channel.iq.ports import Air, PortSettings
from channel.iq.sample_format import format_of
from channel.scenario.load import changed, load
from splitfl.core.errors import ConfigError
from testbed.errors import LateBurst, RadioTimeout
from testbed.radio.backoff import scaled
from testbed.radio.burst_queue import BurstQueue
from testbed.radio.loopback import LoopbackAir, LoopbackSettings
from testbed.radio.radio import Radio, Tuning, require_kept
from testbed.radio.zmq_radio import ZmqRadio, ZmqSettings, settings_of
from tests.channel.iq.free_ports import free_ports

RATE_HZ = 1e6


def channel():
    scenario = changed(load("ideal"), {"place": {"users": 1}})
    return iq_channel_of(scenario, rate_hz=RATE_HZ)


@contextmanager
def loopback() -> Iterator[list[Radio]]:
    radios = LoopbackAir(channel()).radios
    yield list(radios)
    for radio in radios:
        radio.close()


@contextmanager
def over_zmq(form="fc32") -> Iterator[list[Radio]]:
    pytest.importorskip("zmq", reason="pyzmq is not installed")
    settings = PortSettings(port=free_ports(4), is_real_time=False, sample_format=form)
    stop = threading.Event()
    with Air(channel(), settings, tell=lambda _: None) as air:
        serving = threading.Thread(target=air.run, kwargs={"stop": stop.is_set})
        serving.start()
        own = [settings_of(node, port=settings.port, rate_hz=RATE_HZ) for node in (0, 1)]
        radios = [ZmqRadio(replace(one, sample_format=form)) for one in own]
        try:
            yield list(radios)
        finally:
            stop.set()
            serving.join(10.0)
            for radio in radios:
                radio.close()


RADIOS = {"loopback": loopback, "zmq": over_zmq}


@pytest.fixture(params=sorted(RADIOS))
def radios(request) -> Iterator[list[Radio]]:
    with RADIOS[request.param]() as found:
        yield found


def both(radios, count):
    """What both receive, each in a thread of its own."""
    found = [None, None]

    def receive(node):
        found[node] = radios[node].receive(count)

    threads = [threading.Thread(target=receive, args=(node,)) for node in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    return found


def test_a_burst_arrives_at_its_time_and_silence_around_it(radios):
    late = channel().latency
    assert radios[0].send(np.full(500, 0.9, dtype=np.complex64), at=2000) == 2000
    (_, (heard, first)) = both(radios, 4000)
    assert first == 0
    assert heard.dtype == np.complex64
    level = np.abs(heard)
    assert level[2000 + late + 40 : 2500 + late - 40].min() > 0.1
    assert max(level[: 2000 + late - 40].max(), level[2500 + late + 40 :].max()) < 0.01


def test_times_go_on_from_call_to_call(radios):
    assert [both(radios, count)[1][1] for count in (1000, 7, 2500)] == [0, 1000, 1007]
    begin = radios[1].send(np.ones(10, dtype=np.complex64))
    assert begin == 3507
    assert radios[1].send(np.ones(10, dtype=np.complex64)) == 3517


def test_a_late_burst_is_refused(radios):
    both(radios, 1000)
    with pytest.raises(LateBurst, match="a burst for sample 999 came at sample 1000: too late"):
        radios[0].send(np.ones(4, dtype=np.complex64), at=999)
    assert radios[0].send(np.ones(4, dtype=np.complex64), at=1000) == 1000


def test_the_rate_is_read_back(radios):
    assert radios[0].tuning == Tuning(rate_hz=RATE_HZ)


def test_both_radios_hear_the_same_over_sockets_as_in_process():
    bursts = [np.random.default_rng(node).uniform(-0.5, 0.5, 2000).astype("<f4") for node in (0, 1)]
    found = {}
    for name, opened in {**RADIOS, "sc16": partial(over_zmq, "sc16")}.items():
        with opened() as radios:
            for radio, burst in zip(radios, bursts, strict=True):
                radio.send(burst.view(np.complex64), at=300)
            found[name] = np.stack([samples for samples, _ in both(radios, 3000)])
    assert found["zmq"] == pytest.approx(found["loopback"], abs=1e-5)
    assert found["sc16"] == pytest.approx(found["loopback"], abs=1e-4)


def test_a_burst_may_be_cut_by_any_number_of_receptions():
    queue = BurstQueue()
    queue.put(np.arange(1, 8, dtype=np.complex64), at=3)
    assert np.concatenate([queue.take(count) for count in (2, 4, 1, 5)]).real.tolist() == [
        *(0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 0, 0)
    ]
    queue.put(np.ones(10, dtype=np.complex64), at=12)
    with pytest.raises(LateBurst, match="a burst for sample 15 overlaps one that ends at sample 22"):
        queue.put(np.ones(1, dtype=np.complex64), at=15)


def test_a_loopback_radio_waits_no_longer_than_its_timeout_for_one_that_does_not_receive():
    air = LoopbackAir(channel(), LoopbackSettings(memory_s=0.002, timeout_s=0.05))
    with pytest.raises(RadioTimeout, match=r"node 0 waited 0.05 s for node 1, which does not take what it"):
        air.radios[0].receive(5000)
    air.radios[1].close()
    assert air.radios[0].receive(5000)[0].size == 5000


def test_a_zmq_radio_without_a_far_side_times_out():
    pytest.importorskip("zmq", reason="pyzmq is not installed")
    port = free_ports(2)
    settings = ZmqSettings(
        sends_at=f"tcp://127.0.0.1:{port}",
        hears_at=f"tcp://127.0.0.1:{port + 1}",
        rate_hz=RATE_HZ,
        timeout_s=0.05,
    )
    radio = ZmqRadio(settings)
    with pytest.raises(RadioTimeout, match=r"gave 0 of 10 samples in 0.05 s"):
        radio.receive(10)
    with pytest.raises(ConfigError, match=rf"cannot use tcp://127.0.0.1:{port} and .*: Address already"):
        ZmqRadio(settings)
    radio.close()


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (
            Tuning(rate_hz=1.02e6, frequency_hz=2.4e9),
            r"rate_hz 1e.06 is none that this radio has: it took 1.0",
        ),
        (
            Tuning(rate_hz=1e6, frequency_hz=2.4e9 + 2e3),
            r"frequency_hz 2.4e.09 is none that this radio has: it took 24000",
        ),
        (Tuning(rate_hz=1e6), r"frequency_hz 2.4e.09 is none that this radio has: it took None"),
    ],
)
def test_a_setting_that_a_radio_does_not_keep_is_refused(kept, message):
    asked = Tuning(rate_hz=1e6, frequency_hz=2.4e9)
    with pytest.raises(ConfigError, match=message):
        require_kept(asked, kept)
    require_kept(asked, Tuning(rate_hz=1.005e6, frequency_hz=2.4e9 + 500.0))


def test_a_burst_beyond_full_scale_is_refused_or_sent_lower():
    loud = np.full(1000, 1.2 + 0.1j, dtype=np.complex64)
    with pytest.raises(ConfigError, match=r"100\.0 % of a burst's samples are .* backoff_db = 0 is too low"):
        scaled(loud, 0.0, format_of("sc16"))
    assert scaled(loud, 20.0, format_of("sc16")) == pytest.approx(loud / 10.0)
    assert scaled(loud, 0.0, format_of("fc32")) is loud
