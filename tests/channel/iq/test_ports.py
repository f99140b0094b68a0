"""The air as a server: programs that speak the convention of srsRAN and GNU Radio, and those that do not."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

zmq = pytest.importorskip("zmq", reason="pyzmq is not installed")

from channel.core.errors import BadParameter  # noqa: E402
from channel.iq.from_scenario import iq_channel_of  # noqa: E402
from channel.iq.ports import Air, PortSettings, device_arguments, gnuradio_blocks  # noqa: E402
from channel.scenario.load import changed, load  # noqa: E402
from tests.channel.iq.free_ports import free_ports  # noqa: E402

RATE_HZ = 1e6
TIMEOUT_S = 0.3


def scenario(users=1):
    return changed(load("ideal"), {"place": {"users": users}})


def channel(users=1):
    return iq_channel_of(scenario(users), rate_hz=RATE_HZ)


class Serving:
    """An air in a thread."""

    def __init__(self, users=1, **settings):
        self.settings = PortSettings(
            port=free_ports(2 * users + 2), **{"timeout_s": TIMEOUT_S, "is_real_time": False, **settings}
        )
        self.lines: list[str] = []
        self._users, self._stop, self._opened = users, threading.Event(), threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert self._opened.wait(10.0)
        return self

    def __exit__(self, *_):
        self.report = self.end()

    def _serve(self):
        with Air(channel(self._users), self.settings, tell=self.lines.append) as air:
            self._opened.set()
            self.found = air.run(stop=self._stop.is_set)

    def end(self):
        self._stop.set()
        self._thread.join(10.0)
        assert not self._thread.is_alive()
        return self.found


class Peer:
    """A program of one thread: samples out when asked, samples in; a request of 1 or 4 bytes."""

    def __init__(self, settings, node, *, sends=True):
        self.context = zmq.Context()
        self.sender, self.receiver = self.context.socket(zmq.REP), self.context.socket(zmq.REQ)
        for socket in (self.sender, self.receiver):
            socket.RCVTIMEO = socket.SNDTIMEO = 5000
        if sends:
            self.sender.bind(settings.sends_at(node))
        self.receiver.connect(settings.hears_at(node))

    def send(self, samples):
        assert self.sender.recv() == b"\xff"
        self.sender.send(np.asarray(samples, dtype="<c8").tobytes())

    def ask(self, most=None):
        self.receiver.send(b"\xff" if most is None else int(most).to_bytes(4, "little"))

    def take(self):
        return np.frombuffer(self.receiver.recv(), dtype="<c8")

    def receive(self, count):
        parts, missing = [], count
        while missing > 0:
            self.ask(missing)
            parts.append(self.take())
            missing -= parts[-1].size
        return np.concatenate(parts)

    def close(self):
        self.context.destroy(linger=0)


@contextmanager
def peers(settings, *nodes, **options) -> Iterator[list[Peer]]:
    made = [Peer(settings, node, **options) for node in nodes]
    try:
        yield made
    finally:
        for one in made:
            one.close()


def background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def noise(count, seed):
    parts = np.random.default_rng(seed).standard_normal(2 * count) / 4.0
    return parts.astype(np.float32).view(np.complex64)


@pytest.mark.parametrize("pieces", [(1000, 1000, 1000), (4088, 8191, 300), (960, 960, 960)])
def test_what_programs_hear_is_the_channels_own_output_whatever_pieces_they_send(pieces):
    sent_NB = np.stack([noise(sum(pieces), 0), noise(sum(pieces), 1)])
    with Serving() as air, peers(air.settings, 0, 1) as (base, user):
        begin = 0
        for count in pieces:  # as srsRAN does: what is sent first goes out, then as much is received
            for peer, sent in zip((base, user), sent_NB, strict=True):
                peer.send(sent[begin : begin + count])
            heard = [peer.receive(count) for peer in (base, user)]
            assert all(one.size == count for one in heard)
            begin += count
    assert air.report.samples == sum(pieces)
    assert [port.received for port in air.report.ports] == [sum(pieces)] * 2
    wanted = channel().step(sent_NB)
    assert heard[0] == pytest.approx(wanted[0, -pieces[-1] :], abs=1e-5)
    assert not air.lines


def test_a_request_of_four_bytes_gets_at_most_so_many_samples():
    with Serving() as air, peers(air.settings, 0, 1) as (base, user):
        for peer in (base, user):
            peer.send(noise(3000, 0))
        base.ask(700)
        assert base.take().size == 700
        base.ask(5000)
        assert 0 < base.take().size <= 2300


def test_a_node_that_dies_is_silence_named_once_and_taken_back():
    with Serving() as air, peers(air.settings, 0) as (base,):
        with peers(air.settings, 1) as (user,):
            base.send(noise(1000, 0))
            user.send(noise(1000, 1))
            base.receive(1000)
        for _ in range(3):  # the user is gone: after the timeout the base station goes on alone
            base.send(noise(1000, 0))
            base.receive(1000)
        assert [line for line in air.lines if "node 1" in line] == [
            "node 1 has sent nothing for 0.3 s: zeros in its place"
        ]
        with peers(air.settings, 1) as (user,):
            user.send(noise(4000, 1))
            for _ in range(2):
                base.send(noise(1000, 0))
                base.receive(1000)
        assert "node 1 sends again" in air.lines
    assert air.report.ports[1].losses >= 1
    assert air.report.ports[1].zeros >= 3000


def test_time_stands_still_while_nobody_is_there_and_is_no_slip():
    with Serving(is_real_time=True) as air, peers(air.settings, 0, 1) as both:
        for peer in both:
            peer.send(noise(2000, 0))
        for peer in both:
            peer.receive(2000)
    assert air.report.samples == 2000


@pytest.mark.slow
def test_a_node_that_only_sends_blocks_nobody():
    with Serving() as air, peers(air.settings, 0, 1) as (base, user):
        sending = background(lambda: [user.send(noise(50_000, 1)) for _ in range(4)])
        for _ in range(40):
            base.send(noise(5000, 0))
            base.receive(5000)
        sending.join(10.0)
    assert air.report.samples >= 200_000
    assert air.report.ports[1].received == 0


@pytest.mark.slow
def test_a_node_that_stops_taking_what_it_hears_is_named_and_its_samples_dropped():
    with Serving() as air, peers(air.settings, 0, 1) as (base, user):
        for peer in (base, user):
            peer.send(noise(1000, 0))
        user.receive(1000)
        sending = background(lambda: [user.send(noise(50_000, 1)) for _ in range(4)])
        for _ in range(40):
            base.send(noise(5000, 0))
            base.receive(5000)
        sending.join(10.0)
    assert "node 1 does not take what it hears: dropped until it asks again" in air.lines
    assert air.report.ports[1].dropped >= 100_000


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"123", "node 0: a message of 3 bytes, not of complex64 samples"),
        (
            np.full(2000, 3e4, dtype="<c8").tobytes(),
            "node 0: samples of magnitude 3e+04: is this sc16? have fc32",
        ),
        (
            np.full(2000, np.nan, dtype="<c8").tobytes(),
            "node 0: samples that are not finite: zeros in their place",
        ),
    ],
)
def test_messages_that_are_no_samples_are_named(payload, said):
    with Serving() as air, peers(air.settings, 0, 1) as (base, user):
        assert base.sender.recv() == b"\xff"
        base.sender.send(payload)
        base.send(noise(2000, 0))
        user.send(noise(2000, 1))
        assert np.isfinite(user.receive(1000)).all()
    assert air.lines == [said]


def test_real_time_is_no_faster_than_the_rate_and_free_is():
    with Serving(is_real_time=True) as air, peers(air.settings, 0, 1) as both:
        for _ in range(4):
            for peer in both:
                peer.send(noise(25_000, 0))
            for peer in both:
                peer.receive(25_000)
    assert air.report.wall_s >= 0.095
    assert air.report.is_in_real_time or air.report.slips.slipped_s > 0.0


def test_a_port_in_use_is_refused():
    with (
        Serving() as air,
        pytest.raises(BadParameter, match=r"cannot listen on \S+ for node 0: Address in use|already"),
    ):
        Air(channel(), air.settings, tell=print).__enter__()


def test_ports_beyond_the_last_are_refused():
    with pytest.raises(BadParameter, match="port must be at most 65532, got 65533"):
        Air(channel(), PortSettings(port=65533), tell=print)
    with pytest.raises(BadParameter, match=r"port must lie in \[1, 65535\], got 0"):
        PortSettings(port=0)


def test_arguments_for_other_programs_name_both_ports_of_a_node():
    settings = PortSettings(port=2000)
    assert device_arguments(settings, 1, 1.92e6) == (
        "tx_port=tcp://*:2002,rx_port=tcp://127.0.0.1:2003,id=node1,base_srate=1920000"
    )
    text = gnuradio_blocks(settings, 0)
    assert '"tcp://*:2000"' in text
    assert '"tcp://127.0.0.1:2001"' in text
