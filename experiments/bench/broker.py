"""The transports that a benchmark compares, with an unconfigured mosquitto for those that need a broker."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from splitfl.transport.registry import TRANSPORTS, between_processes

_MOSQUITTO: Final = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


def ports(folder: Path, stack: ExitStack) -> dict[str, int]:
    """The inter-process transports available on this machine, each with the port to serve at (0: any)."""
    specs = {name: TRANSPORTS[name] for name in between_processes()}
    names = [name for name, spec in specs.items() if spec.describe_link is None and not spec.combines]
    found = {name: 0 for name in names if TRANSPORTS[name].own_host}
    if _MOSQUITTO is not None and len(found) < len(names):
        port = stack.enter_context(_broker(_MOSQUITTO, folder))
        found |= {name: port for name in names if name not in found}
    return found


@contextmanager
def _broker(program: str, folder: Path) -> Iterator[int]:
    """Runs a broker until the context ends; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = int(reserved.getsockname()[1])
    settings = folder / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(settings)], stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.kill()
        process.wait()
