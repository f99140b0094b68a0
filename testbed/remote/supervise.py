"""Runs one program on a node in the background: `python -m testbed.remote.supervise FOLDER NAME PROGRAM...`.

Each line of its output goes to FOLDER/NAME.log after the node's Unix time; FOLDER/NAME.json says when it
started and, once it has ended, its exit code, with the network's counters at both times. Uses only the
standard library.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_GRACE_S = 5
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Starts the program in the background, in a session of its own, and ends with it."""
    if os.fork():
        return
    os.setsid()
    folder, name, *argv = sys.argv[1:]
    path = Path(folder) / f"{name}.json"
    record: dict[str, Any] = {
        "pid": os.getpid(),
        "ticks": Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19],
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "started_s": time.time(),
        "starts": _starts(path) + 1,
        "network": network(),
    }
    write(path, record)
    with (Path(folder) / f"{name}.log").open("ab", buffering=0) as log:
        code = _run(argv, log.write)
    write(path, {**record, "ended_s": time.time(), "code": code, "network_at_end": network()})


def network() -> dict[str, Any]:
    """What each network interface has carried since it is up, and TCP's segments, of this namespace."""
    counters: dict[str, Any] = {}
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        name, _, numbers = line.partition(":")
        received, sent = numbers.split()[:4], numbers.split()[8:12]
        kinds = ("bytes", "packets", "errors", "dropped")
        counters[name.strip()] = {
            **{f"received_{kind}": int(number) for kind, number in zip(kinds, received, strict=True)},
            **{f"sent_{kind}": int(number) for kind, number in zip(kinds, sent, strict=True)},
        }
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
    names, values = (words[1:] for words in lines if words[0] == "Tcp:")
    tcp = dict(zip(names, values, strict=True))
    retransmitted = {"sent": int(tcp["OutSegs"]), "retransmitted": int(tcp["RetransSegs"])}
    return {"interfaces": counters, "tcp_segments": retransmitted}


def write(path: Path, table: dict[str, Any]) -> None:
    """Writes JSON so that a reader sees the whole or what was there before."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(table, indent=1))
    part.replace(path)


def _run(argv: list[str], write_line: Any) -> int:
    try:
        program = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,
        )
    except OSError as error:
        write_line(f"{time.time():.6f} {argv[0]}: {error.strerror}\n".encode())
        return 127

    def stop(number: int, frame: object) -> None:
        program.terminate()
        signal.alarm(_GRACE_S)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, lambda number, frame: program.kill())
    assert program.stdout is not None
    for line in program.stdout:
        write_line(f"{time.time():.6f} ".encode() + line)
    return program.wait()


def _starts(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["starts"])
    except (OSError, ValueError, KeyError):
        return 0


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
