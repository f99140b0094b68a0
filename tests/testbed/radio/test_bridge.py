"""Bridges over radios in this process; devices in place of TUN."""

import re
import struct
from collections import deque
from threading import Barrier, Thread

import pytest

from channel.iq.from_scenario import iq_channel_of
from channel.scenario.load import changed, load
from splitfl.core.errors import ConfigError
from testbed.radio.bridge import Bridge
from testbed.radio.bridge_settings import from_table
from testbed.radio.link_monitor import sentence, trouble
from testbed.radio.loopback import LoopbackAir
from testbed.radio.modem import ModemSettings, PacketModem
from testbed.radio.slots import SlotTable

RATE_HZ = 1e6


def settings(node=0, nodes=2, **changes):
    addresses = [f"10.78.0.{one + 1}/24" for one in range(nodes)]
    bridge = {"node": node, "addresses": addresses, "mcs": 9, "mtu": 600, **changes}
    radio = {"sends_at": "tcp://127.0.0.1:2000", "hears_at": "tcp://127.0.0.1:2001", "rate_hz": RATE_HZ}
    return from_table({"bridge": bridge, "radio": radio}).bridge


def ip_packet(source, target, content):
    header = struct.pack(">BBHIBBH", 0x45, 0, 20 + len(content), 0, 64, 17, 0)
    return header + bytes([10, 78, 0, source + 1]) + bytes([10, 78, 0, target + 1]) + content


class Device:
    def __init__(self):
        self.waiting, self.written = deque(), []

    def packets(self):
        while self.waiting:
            yield self.waiting.popleft()

    def write(self, packet):
        self.written.append(packet)
        return True


EDGE = {
    "place": {"loss_db": 144.7},
    "carrier": {"base_dbm": 40.0, "uplink_target_snr_db": 80.0},
    "device": {"transmit_dbm": 40.0},
}
"""Such a loss that 3 in 10 packets of MCS 9 have errors at user 1."""


def bridges(nodes=2, tables=None, **changes):
    scenario = changed(changed(load("ideal"), tables or {}), {"place": {"users": nodes - 1}})
    air = LoopbackAir(iq_channel_of(scenario, rate_hz=RATE_HZ))
    made = []
    for node, radio in enumerate(air.radios):
        own = settings(node, nodes, **changes)
        modem = PacketModem(radio, own.modem, node=node, slots=own.table())
        made.append(Bridge(own, modem, Device(), session=node + 1))
    return made


def run(made, blocks):
    together = Barrier(len(made))

    def carry(bridge):
        for _ in range(blocks):
            together.wait(20.0)
            bridge.step()

    threads = [Thread(target=carry, args=(one,)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
        assert not thread.is_alive()


def test_ip_packets_cross_the_waveform_both_ways_in_order():
    made = bridges()
    sent = [[ip_packet(node, 1 - node, bytes([index]) * 300) for index in range(12)] for node in (0, 1)]
    for bridge, packets in zip(made, sent, strict=True):
        bridge._device.waiting.extend(packets)
    run(made, 40)
    assert made[1]._device.written == sent[0]
    assert made[0]._device.written == sent[1]
    final = made[0].monitor.final()
    assert final["nodes"]["1"]["arq"]["given_up"] == 0
    assert final["nodes"]["1"]["delivered_bytes"] == 12 * 320
    assert len(final["nodes"]["1"]["last"]["response_db"]) == 52


@pytest.mark.slow
def test_users_in_turn_reach_the_base_station_without_collisions():
    made = bridges(nodes=3, slots=["110", "101"], slot_packets=2)
    sent = {node: [ip_packet(node, 0, bytes([index]) * 300) for index in range(10)] for node in (1, 2)}
    back = [ip_packet(0, 1 + index % 2, bytes([index]) * 300) for index in range(10)]
    for node, packets in sent.items():
        made[node]._device.waiting.extend(packets)
    made[0]._device.waiting.extend(back)
    run(made, 80)
    heard = made[0]._device.written
    for node in (1, 2):
        assert [packet for packet in heard if packet[15] == node + 1] == sent[node]
        assert made[node]._device.written == back[node - 1 :: 2]
        assert made[node].links[0].counters.retransmissions == 0


@pytest.mark.slow
def test_at_the_edge_of_the_cell_packets_are_lost_and_arrive_all_the_same():
    made = bridges(tables=EDGE)
    sent = [ip_packet(0, 1, bytes([index]) * 500) for index in range(40)]
    made[0]._device.waiting.extend(sent)
    run(made, 200)
    assert made[1]._device.written == sent
    assert made[1].monitor.nodes[0].bad > 0
    assert made[0].links[1].counters.retransmissions >= made[1].monitor.nodes[0].bad


def test_packets_to_other_addresses_are_dropped_and_counted():
    bridge = bridges()[0]
    for packet in (b"", bytes(20), ip_packet(0, 7, b"x"), b"\x60" + bytes(39)):
        bridge._route(packet)
    assert bridge.unroutable == 4
    assert bridge.links[1].is_idle


def test_a_row_is_a_sentence():
    bridge = bridges()[0]
    far = bridge.monitor.nodes[1]
    far.now.packets, far.now.bad, far.now.snr_db = 40, 2, [20.0, 21.0]
    far.delivered(1000)
    bridge._modem._now = 1_000_000
    assert bridge.monitor.is_due
    [row] = bridge.monitor.interval()
    assert sentence(row) == (
        "1.0 s, from node 1: SNR 20.5 dB, 8 kbit/s, 2 of 40 packets bad (5.0 %); "
        "0 retransmissions to it so far"
    )
    assert bridge.monitor.interval() == []


def test_spectrum_and_channel_of_what_was_heard_are_kept():
    made = bridges()
    made[0]._device.waiting.append(ip_packet(0, 1, b"x" * 500))
    run(made, 12)
    final = made[1].final()
    heard, channel = (one["power_db"] for one in (final["spectrum"], final["nodes"]["0"]["channel"]))
    assert max(len(row) for row in heard if row) == 64
    assert max(max(row) for row in heard) > max(row[0] for row in heard) + 15
    assert len(next(row for row in channel if row)) == 52
    assert final["nodes"]["0"]["last"] is not None


def test_what_went_wrong_with_the_radio_is_a_sentence():
    bridge = bridges()[0]
    assert trouble(bridge.final()) == ""
    counters = bridge._modem.radio_counters
    counters.overflows, counters.lost_samples, counters.late_bursts = 2, 3000, 1
    assert trouble(bridge.final()) == (
        "the radio lost 3,000 samples in 2 overflows; 0 underflows, 1 late bursts"
    )


def test_a_modem_checks_itself_before_it_is_ready():
    bridges()[0]._modem.check()


def test_slots_begin_and_end_in_time():
    table = SlotTable(rows=("10", "01"), length=1000, gap=100)
    assert table.opening(0, 0, 900) == 0
    assert table.opening(0, 1, 900) == 2000
    assert table.opening(1, 0, 900) == 1000
    assert table.opening(1, 3050, 850) == 3050
    assert table.opening(1, 3051, 850) == 5000
    assert SlotTable(rows=("11", "10"), length=1000, gap=100).opening(0, 950, 5000) == 950
    two_in_a_row = SlotTable(rows=("10", "10", "01"), length=1000, gap=100)
    assert two_in_a_row.opening(0, 850, 1050) == 850
    assert two_in_a_row.opening(0, 851, 1050) == 3000
    with pytest.raises(ConfigError, match="slots of 1000 samples are too short for a burst of 901"):
        table.opening(0, 0, 901)


def test_the_time_out_is_four_packets_two_blocks_and_a_cycle_of_slots():
    modem = ModemSettings(mcs=16, longest=1400)
    assert modem.timeout_s(5e5) == pytest.approx(4 * modem.longest_burst / 5e5 + 0.01)
    assert modem.timeout_s(5e5, cycle=5000) == pytest.approx(modem.timeout_s(5e5) + 0.01)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"bridge": {"node": 5}}, "node must lie in [0, 1], got 5"),
        ({"bridge": {"addresses": ["10.78.0.1/24"]}}, "addresses must be those of 2 to 256 nodes, got 1"),
        ({"bridge": {"addresses": ["a", "b"]}}, "an address must be like 10.78.0.1/24, got 'a'"),
        ({"bridge": {"addresses": ["10.78.0.1/24"] * 2}}, "addresses must differ"),
        ({"bridge": {"mtu": 100}}, "mtu must lie in [576, 16000], got 100"),
        ({"bridge": {"mcs": 3}}, "mcs must lie in [6, 28], got 3"),
        ({"bridge": {"fft_size": 100}}, "fft_size must be one of 64, 128, 256, got 100"),
        ({"bridge": {"slots": ["1"]}}, "each row of slots must have a digit for each of 2 nodes"),
        ({"bridge": {"slots": ["12"]}}, "slots must be rows of a 0 or 1 for each node, got 12"),
        ({"bridge": {"slots": ["10"]}}, "slots must let every node send, but node 1 never may"),
        ({"bridge": {"slot_packets": 0}}, "slot_packets must be at least 1, got 0"),
        ({"bridge": {"speed": 1}}, "unknown key 'bridge.speed'"),
        ({"radio": {"kind": "usrp"}}, "unknown radio.kind 'usrp'; have file, soapy, zmq"),
        ({"radio": {"rate_hz": 0.0}}, "[radio] rate_hz must be above 0"),
        ({"radio": {"rate_hz": "fast"}}, "radio.rate_hz must be of type float, got 'fast'"),
        ({"radios": {}}, "unknown table of a bridge's settings: 'radios'; did you mean 'radio'?"),
    ],
)
def test_invalid_settings_are_refused(tables, message):
    table = {
        "bridge": {"node": 0, "addresses": ["10.78.0.1/24", "10.78.0.2/24"]},
        "radio": {"sends_at": "tcp://*:2000", "hears_at": "tcp://127.0.0.1:2001", "rate_hz": 1e6},
    }
    for name, values in tables.items():
        table[name] = {**table.get(name, {}), **values}
    with pytest.raises(ConfigError, match=re.escape(message)):
        from_table(table)


def test_missing_settings_are_named():
    with pytest.raises(ConfigError, match=r"must have the table \[radio\]"):
        from_table({"bridge": {}})
    with pytest.raises(ConfigError, match=r"radio\.sends_at is missing"):
        from_table({"bridge": {}, "radio": {}})
