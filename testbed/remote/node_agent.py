"""The agent of `splitfl testbed` on a node. Only this file is sent there: standard library only.

It reads one request per line and writes one answer per line, both JSON; answers are prefixed by MARK, since a
login shell may print other text. A node's folder, relative to the home folder, holds:

state.json              the version that is deployed, and the node; no other folder is ever removed
versions/VERSION/       the packages (site/), settings, model, data and secrets of a deployment
wheelhouse/             wheels of other packages
run/                    NAME.json and NAME.log of each program, and what the programs write
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from queue import Queue
from typing import Any

MARK = "splitfl-agent: "
MODULES = ("torch", "transformers", "peft", "splitfl")
GRACE_S, START_S = 8.0, 20.0
LATEST_BYTES = 4096


def clock() -> dict[str, Any]:
    """The Unix time of this machine."""
    return {"now_s": time.time()}


def look(folder: str) -> dict[str, Any]:
    """What is deployed, every program with its state, and the server's newest run."""
    root = at(folder)
    programs = {path.stem: program(path) for path in sorted((root / "run").glob("*.json"))}
    return {"state": read(root / "state.json"), "programs": programs, "run": newest_run(root)}


def prepare(folder: str, version: str, node: str) -> dict[str, Any]:
    """Makes the folder and the version's; an error if it is not this node's own, or a program runs."""
    root = at(folder)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (root / "state.json").exists():
        if not is_unused(root):
            return {"error": f"{root} exists and is not splitfl's: choose another `folder`, or remove it"}
        part = root / f"state.json.{node}"
        write(part, {"version": None, "node": node})
        with suppress(FileExistsError):
            os.link(part, root / "state.json")  # another node's, if both see the same disk
        part.unlink()
    if (owner := (read(root / "state.json") or {}).get("node", node)) != node:
        return {"error": f"{root} is that of {owner}, on the same disk: set nodes.{node}.folder to another"}
    if running := [name for name, one in look(folder)["programs"].items() if one["state"] == "running"]:
        return {"error": f"a run is in progress ({', '.join(running)}): wait, or `splitfl testbed down`"}
    (root / "run").mkdir(exist_ok=True)
    (root / "versions" / version).mkdir(parents=True, exist_ok=True)
    return {}


def packages() -> dict[str, Any]:
    """An error if this interpreter lacks a package that splitfl's wheel does not have."""
    return lacks([name for name in MODULES if name != "splitfl" and find_spec(name) is None])


def install(folder: str, version: str, wheel: str, wheelhouse: bool) -> dict[str, Any]:
    """Installs the wheel, and from a wheelhouse all packages that it needs, into the version's site/."""
    root, home = at(folder), at(folder) / "versions" / version
    part, site = home / "site.part", home / "site"
    if not site.exists():
        shutil.rmtree(part, ignore_errors=True)
        if wheelhouse:
            words = ["--no-index", "--find-links", root / "wheelhouse", "--target", part, home / wheel]
            command = [sys.executable, "-m", "pip", "install", "--quiet", *map(str, words)]
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode:
                return {"error": (done.stderr.strip().splitlines() or ["pip failed"])[-1]}
        else:
            zipfile.ZipFile(home / wheel).extractall(part)
        part.rename(site)
    return versions(site)


def activate(folder: str, version: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Makes a version the deployed one, removes the others and what they have run."""
    root, state = at(folder), read(at(folder) / "state.json") or {}
    if state.get("version") not in (None, version):
        reset(folder)
    write(root / "state.json", {"version": version, "node": state.get("node"), **facts})
    for path in (root / "versions").iterdir():
        if path.name != version:
            shutil.rmtree(path)
    return {}


def reset(folder: str) -> dict[str, Any]:
    """Ends all programs and removes what they have written."""
    if not (at(folder) / "state.json").exists():
        return {}
    if "error" not in (stopped := stop(folder, [])):
        shutil.rmtree(at(folder) / "run", ignore_errors=True)
        (at(folder) / "run").mkdir()
    return stopped


def bind(address: str, peer: str) -> dict[str, Any]:
    """The address to listen on: this one; for a mapped port or 127.0.1.1 that of the route to a peer."""
    with suppress(OSError), socket.socket() as probe:
        probe.bind((address, 0))
        if not (found := probe.getsockname()[0]).startswith("127.") or found == address:
            return {"address": found}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))
        return {"address": probe.getsockname()[0]}


def start(folder: str, version: str, name: str, argv: list[str], env: dict[str, str]) -> dict[str, Any]:
    """Starts a program of the version unless it runs; `{root}` in its arguments is the node's folder."""
    root = at(folder)
    record = root / "run" / f"{name}.json"
    if record.exists() and program(record)["state"] == "running":
        return {}
    before = (read(record) or {}).get("started_s")
    command = [sys.executable, "-P", "-m", "testbed.remote.supervise", str(root / "run"), name]
    subprocess.run(
        [*command, sys.executable, "-P", *(word.replace("{root}", str(root)) for word in argv)],
        cwd=root / "run",
        env={**os.environ, **env, "PYTHONPATH": f"{root}/versions/{version}/site", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=START_S,
        check=True,
    )
    deadline_s = time.monotonic() + START_S
    while (read(record) or {}).get("started_s") == before:
        if time.monotonic() > deadline_s:
            return {"error": f"{name} did not start within {START_S:g} s"}
        time.sleep(0.02)
    return {}


def stop(folder: str, only: list[str]) -> dict[str, Any]:
    """Ends programs, all of them for an empty list; those that ignore SIGTERM are killed."""
    paths = [path for path in (at(folder) / "run").glob("*.json") if not only or path.stem in only]
    running = {path: program(path)["pid"] for path in paths if program(path)["state"] == "running"}
    for number, grace_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        for path, pid in running.items():
            if program(path)["state"] == "running":
                with suppress(ProcessLookupError):
                    (os.killpg if number == signal.SIGKILL else os.kill)(pid, number)
        deadline_s = time.monotonic() + grace_s
        while any(program(path)["state"] == "running" for path in running) and time.monotonic() < deadline_s:
            time.sleep(0.05)
    left = ", ".join(path.stem for path in running if program(path)["state"] == "running")
    return {"error": f"{left} survived SIGKILL"} if left else {}


def remove(folder: str, others: list[str]) -> dict[str, Any]:
    """Ends all programs and removes the folder, unless it is another node's or not splitfl's."""
    root, state = at(folder), at(folder) / "state.json"
    if (read(state) or {}).get("node") in others or not (state.exists() or is_unused(root)):
        return {"removed": False}
    if "error" in (stopped := stop(folder, [])):
        return stopped
    for path in root.iterdir():
        if path.name != "state.json":  # which goes last, so that this can be repeated
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(root)
    return {"removed": True}


def is_unused(root: Path) -> bool:
    """Whether there is a folder with nothing but what an interrupted `prepare` or `remove` leaves."""
    return root.is_dir() and all(path.name.startswith("state.json") for path in root.iterdir())


def program(path: Path) -> dict[str, Any]:
    """A program's record with its state (running, done, failed or lost) and its last line."""
    record = read(path) or {}
    ended = "failed" if record.get("code") else "done"
    state = ended if "code" in record else ("running" if is_alive(record) else "lost")
    return {**record, "state": state, "last": last_line(path.with_suffix(".log"))}


def is_alive(record: dict[str, Any]) -> bool:
    """Whether the same process runs since the same boot of this machine."""
    try:
        fields = Path(f"/proc/{record['pid']}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, KeyError):
        return False
    return fields[0] not in "ZX" and fields[19] == record["ticks"] and boot == record["boot"]


def last_line(log: Path) -> str:
    """The last line of a log with a text in it, without its time."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LATEST_BYTES))
        for line in reversed(file.read().decode(errors="replace").splitlines()):
            if text := line.partition(" ")[2].strip():
                return text
    return ""


def newest_run(root: Path) -> dict[str, Any] | None:
    """The newest run of the server: its folder, its status, its last round, and whether it listens."""
    folder = max((path.parent for path in (root / "run" / "runs").glob("*/config.json")), default=None)
    if folder is None:
        return None
    status = str((read(folder / "summary.json") or {}).get("status", "unfinished"))
    rounds, listens = 0, (folder / "server.json").exists()
    with suppress(OSError):
        lines = (folder / "metrics.jsonl").read_text(errors="replace").replace('": "', '":"').splitlines()
        rounds = sum('"event":"round"' in line for line in lines)
    return {"folder": folder.name, "status": status, "rounds": rounds, "listens": listens}


def versions(site: Path) -> dict[str, Any]:
    """The versions of what runs would import, from an interpreter of their own; an error without one."""
    code = (
        "import json, platform, importlib.metadata as m\n"
        "def of(name):\n"
        "    try: return m.version(name)\n"
        "    except m.PackageNotFoundError: return None\n"
        f"print(json.dumps({{'python': platform.python_version(), **{{n: of(n) for n in {MODULES}}}}}))"
    )
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=env
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return lacks([name for name in MODULES if found[name] is None]) or {"versions": found}


def lacks(missing: list[str]) -> dict[str, Any]:
    """The error of an interpreter without these packages; empty if there are none."""
    if not missing:
        return {}
    return {"error": f"{sys.executable} lacks {', '.join(missing)}: give a `wheelhouse`, or another `python`"}


def at(folder: str) -> Path:
    """The folder on this machine."""
    return Path.home() / folder


def read(path: Path) -> Any:
    """A JSON file's content; None for one that is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def write(path: Path, table: dict[str, Any]) -> None:
    """Writes JSON so that a reader sees the whole or what was there before."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(table, indent=1))
    part.replace(path)


ACTIONS: tuple[Callable[..., dict[str, Any]], ...] = (
    *(clock, look, packages, prepare, install, activate, reset, bind, start, stop, remove),
)


def read_requests(requests: Queue[str]) -> None:
    """Passes lines on; at the end of standard input kills this process and what it runs, as pip."""
    for line in sys.stdin:
        requests.put(line)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Answers requests until the end of standard input, even if an action has not ended by then."""
    with suppress(PermissionError):  # it leads its session, and so a group of its own
        os.setpgid(0, 0)
    requests: Queue[str] = Queue()
    threading.Thread(target=read_requests, args=(requests,), daemon=True).start()
    while request := json.loads(requests.get()):
        name = request.pop("do")
        try:
            answer = next(action for action in ACTIONS if action.__name__ == name)(**request)
        except (OSError, ValueError, zipfile.BadZipFile, subprocess.SubprocessError) as error:
            answer = {"error": str(error) or type(error).__name__}
        print(MARK + json.dumps(answer), flush=True)


if __name__ in ("__main__", "agent"):
    main()
