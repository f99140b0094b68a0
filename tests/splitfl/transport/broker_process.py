"""A real MQTT broker for tests, on a loopback port; skipped plainly where there is none to start."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest


class BrokerProcess:
    """mosquitto with the lines given; may be stopped and started again on its port."""

    def __init__(self, folder: Path, *lines: str) -> None:
        if shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") is None:
            pytest.skip("mosquitto, a broker of MQTT, is not installed on this machine")
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            self.port: int = reserved.getsockname()[1]
        self._settings = folder / "mosquitto.conf"
        anyone = [] if any("allow_anonymous" in line for line in lines) else ["allow_anonymous true"]
        user = ["user root"]  # or it would drop its rights and could not read the test's files
        text = [f"listener {self.port} 127.0.0.1", *anyone, *user, *lines]
        self._settings.write_text("\n".join(text) + "\n")
        self._log = folder / "mosquitto.log"
        self.start()

    def start(self) -> None:
        """Returns when it listens."""
        path = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        assert path is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([path, "-c", str(self._settings)], stdout=log, stderr=log)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                time.sleep(0.05)
        raise AssertionError("mosquitto did not begin to listen")

    def stop(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait(timeout=10)
