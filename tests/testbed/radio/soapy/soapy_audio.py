"""A real SoapySDR driver without radio hardware: SoapyAudio hears a null sink of PulseAudio.

`python -m tests.testbed.radio.soapy.soapy_audio SECONDS` plays numbered packets that long and prints which
arrived.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from channel.waveform.header import Header
from channel.waveform.modulator import Modulator
from splitfl.core.errors import ConfigError
from testbed.radio.modem import ModemSettings, PacketModem
from testbed.radio.soapy.module import import_soapy
from testbed.radio.soapy.settings import SoapySettings
from testbed.radio.soapy.soapy_radio import SoapyRadio
from tests.testbed.waiting import until

RATE_HZ = 48_000
FOLDER = "/usr/lib/python3/dist-packages"
MCS, PAYLOAD = 9, bytes(range(100))
GAP = 1200
PROGRAMS = ("pulseaudio", "pacat", "pactl")


def why_not() -> str:
    """Why it cannot be done here; empty if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is not installed (Debian: pulseaudio, pulseaudio-utils)"
    try:
        soapy = import_soapy(FOLDER)
    except ConfigError as error:
        return str(error)
    modules = " ".join(soapy.listModules())
    return "" if "audio" in modules else "SoapyAudio is not installed (Debian: soapysdr-module-audio)"


@contextmanager
def null_sink(folder: Path) -> Iterator[None]:
    """A sound server of its own with a sink `air`; the environment of this process leads to it."""
    argv = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--log-target=stderr"]
    sink = f"module-null-sink sink_name=air rate={RATE_HZ} channels=2 format=float32le"
    before = {name: os.environ.get(name) for name in ("XDG_RUNTIME_DIR", "HOME")}
    os.environ.update(XDG_RUNTIME_DIR=str(folder), HOME=str(folder))
    with (folder / "pulseaudio.log").open("wb") as log:
        server = subprocess.Popen([*argv, "-L", sink, "-L", "module-native-protocol-unix"], stderr=log)
    try:
        until(is_running, 20.0)
        yield
    finally:
        server.terminate()
        server.wait(10.0)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def is_running() -> bool:
    return subprocess.run(["pactl", "info"], capture_output=True, check=False).returncode == 0


@dataclass
class Playing:
    """Numbered packets with gaps, played by pacat until it is stopped; `sent` is how many so far."""

    sent: int = 0
    is_over: bool = False

    def run(self, player: "subprocess.Popen[bytes]") -> None:
        modulator, silence = Modulator(), np.zeros(GAP, dtype=np.complex64)
        assert player.stdin is not None
        with suppress(BrokenPipeError):
            while not self.is_over:
                burst = modulator.packet(Header(sequence=self.sent % 65536), PAYLOAD, mcs=MCS)
                player.stdin.write(np.concatenate([0.25 * burst, silence]).astype("<c8").tobytes())
                self.sent += 1


@contextmanager
def playing() -> Iterator[Playing]:
    """Plays packets into the sink."""
    argv = ["pacat", "--device=air", "--raw", "--format=float32le", f"--rate={RATE_HZ}", "--channels=2"]
    player = subprocess.Popen([*argv, "--latency-msec=2000"], stdin=subprocess.PIPE)
    shown = Playing()
    thread = threading.Thread(target=shown.run, args=(player,))
    thread.start()
    try:
        yield shown
    finally:
        shown.is_over = True
        player.terminate()
        player.wait(10.0)
        thread.join(10.0)
        assert player.stdin is not None
        with suppress(BrokenPipeError):
            player.stdin.close()


def settings(**changes: Any) -> SoapySettings:
    """SoapyAudio of the default source, which is the sink's monitor."""
    table = {"device": "driver=audio", "rate_hz": float(RATE_HZ), "frequency_hz": 0.0, "gain_db": 0.0}
    own = {"stream_arguments": "chan=stereo_iq", "soapy_path": FOLDER}
    return SoapySettings(**{**table, **own, **changes})


@dataclass
class Figure:
    """What was heard of packets between the first and the last one: those whole, and those lost.

    `unexplained` are lost without an overflow between the packets before and after them.
    """

    seconds: float = 0.0
    whole: int = 0
    lost: int = 0
    unexplained: int = 0
    overflows: int = 0
    lost_samples: int = 0


def listened(seconds: float) -> Figure:
    """Hears the packets that are played for so long."""
    radio, found = SoapyRadio(settings()), Figure()
    modem = PacketModem(radio, ModemSettings(longest=len(PAYLOAD), block_s=0.05))
    modem.check()
    last, overflows = None, 0
    while modem.now_s < seconds:
        for packet in modem.receive():
            if packet.payload != PAYLOAD:
                continue
            missing = 0 if last is None else (packet.header.sequence - last - 1) % 65536
            found.whole, found.lost = found.whole + 1, found.lost + missing
            found.unexplained += missing if radio.counters.overflows == overflows else 0
            last, overflows = packet.header.sequence, radio.counters.overflows
    found.seconds, found.overflows = modem.now_s, radio.counters.overflows
    found.lost_samples = radio.counters.lost_samples
    radio.close()
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, null_sink(Path(folder)), playing():
        print(listened(float(sys.argv[1])))


if __name__ == "__main__":
    main()
