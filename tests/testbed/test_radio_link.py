"""TCP over the waveform between namespaces of this machine."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba", reason="numba is not installed")
pytest.importorskip("zmq", reason="pyzmq is not installed")

from channel.scenario.load import changed, load
from testbed.namespaces import Namespace
from testbed.radio.modem import ModemSettings
from testbed.radio.radio_link import RadioLink, RadioLinkSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="TUN needs root and /dev/net/tun"
    ),
]
RATE_HZ = 5e5
SEND = """
import socket, sys
with socket.create_connection(({address!r}, 5000), 60) as one:
    one.sendall(bytes({count}))
"""
TAKE = """
import socket
server = socket.create_server(({address!r}, 5000))
print("listening", flush=True)
one, _ = server.accept()
count = 0
while piece := one.recv(65536):
    count += len(piece)
print(count)
"""


def python(namespace: Namespace, code: str, **settings: Any) -> Any:
    return namespace.popen([sys.executable, "-c", code], **settings)


def test_tcp_gets_three_quarters_of_what_the_waveform_carries_where_packets_have_errors() -> None:
    tables = {
        "place": {"users": 1, "loss_db": 142.2},
        "carrier": {"base_dbm": 40.0, "uplink_target_snr_db": 80.0},
        "device": {"transmit_dbm": 40.0},
    }
    modem, count = ModemSettings(mcs=16), 600_000
    scenario = changed(load("ideal"), tables)
    settings = RadioLinkSettings(rate_hz=RATE_HZ, modem=modem)
    with RadioLink(scenario, settings) as link:
        client = link.addresses[1]
        taking = python(link.clients[0], TAKE.format(address=client), stdout=subprocess.PIPE)
        assert taking.stdout.readline() == b"listening\n"
        python(link.server, SEND.format(address=client, count=count)).wait(200.0)
        assert int(taking.communicate(timeout=60.0)[0]) == count
        measured = link.finish()
    far = measured["nodes"][1]["nodes"]["0"]
    error_rate = far["bad"] / far["packets"]
    assert 0.02 < error_rate < 0.3
    assert measured["nodes"][0]["nodes"]["1"]["arq"]["given_up"] == 0
    rows = sorted(row["goodput_bps"] for row in measured["rows"] if row["at"] == 1)
    median = rows[len(rows) // 2]
    print(f"{error_rate=} {settings.phy_bps=} {median=} {len(rows)=}", measured["air"])
    assert median >= 0.75 * settings.phy_bps * (1.0 - error_rate)
