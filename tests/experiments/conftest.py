"""A made-up run folder: the events of a small split run on the virtual clock, with its real schema."""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitfl.setup.experiment_file import as_dict, parse

MakeRun = Callable[..., Path]

CONFIG = """
[link]
up = {rate_bps = 10e6, delay_s = 0.01, loss_rate = 0.02}
down = {rate_bps = 20e6, delay_s = 0.01, loss_rate = 0.01}
"""


class MadeUpRun:
    """Writes events as a run of sfl-v2 would: clients side by side, one server that serves in turn."""

    def __init__(self, seed: int) -> None:
        self.events: list[dict[str, Any]] = []
        self.chance = np.random.default_rng(seed)
        self.server_free_s = 0.0

    def transfer(self, number: int, client: int, way: str, kind: str, size: int, start_s: float) -> float:
        """A message over a link of 10 (up) and 20 (down) Mbit/s; returns when it is there."""
        packets = max(-(-size // 1500), 1)
        repeats = int(self.chance.binomial(packets, 0.02 if way == "up" else 0.01))
        airtime_s = (size + repeats * 1500) * 8 / (10e6 if way == "up" else 20e6)
        finish_s = start_s + airtime_s + 0.01 + 0.008 * (repeats > 0)
        self.events.append({
            "event": "transfer", "round": number, "client": client, "direction": way, "kind": kind,
            "payload_bytes": size, "packets": packets, "retransmissions": repeats, "airtime_s": airtime_s,
            "energy_j": 0.2 * airtime_s, "start_s": start_s, "finish_s": finish_s, "lost": False,
        })  # fmt: skip
        return finish_s

    def compute(self, number: int, client: int, side: str, seconds: float, start_s: float) -> float:
        """Work on one side; returns when it is done."""
        flops = seconds * (5e10 if side == "client" else 5e11)
        self.events.append({
            "event": "compute", "round": number, "side": side, "client": client, "flops": flops,
            "start_s": start_s, "finish_s": start_s + seconds,
        })  # fmt: skip
        return start_s + seconds

    def round(self, number: int, clients: int, steps: int, start_s: float) -> float:
        """A whole round; returns its end on the virtual clock."""
        losses = []
        now_s = {
            client: self.transfer(number, client, "down", "Adapter", 60_000, start_s)
            for client in range(clients)
        }
        for step in range(steps):
            for client in sorted(now_s, key=lambda name: now_s[name]):
                done_s = self.compute(number, client, "client", 0.10 + 0.03 * client, now_s[client])
                there_s = self.transfer(number, client, "up", "Activation", 196_000 + 31 * client, done_s)
                self.server_free_s = self.compute(
                    number, client, "server", 0.09, max(there_s, self.server_free_s)
                )
                back_s = self.transfer(number, client, "down", "Gradient", 196_000, self.server_free_s)
                now_s[client] = self.compute(number, client, "client", 0.12, back_s)
                loss = 0.9 + 1.5 / (1 + number + step / steps) + 0.15 * client + self.chance.normal(0, 0.08)
                losses.append(loss)
                self.events.append({
                    "event": "step", "round": number, "step": step, "client": client, "loss": loss,
                    "samples": 16,
                })  # fmt: skip
        ends_s = [self.transfer(number, client, "up", "Adapter", 60_000, now_s[client]) for client in now_s]
        self.events.append({
            "event": "round", "round": number, "train_loss": float(np.mean(losses)), "finish_s": max(ends_s),
            "wall_s": 4.2, "eval_loss": 1.1 + 1.2 / (1 + number), "accuracy": 0.74 - 0.5 / (1.5 + number),
        })  # fmt: skip
        return max(ends_s)


def _summary(events: list[dict[str, Any]], clients: int, rounds: int) -> dict[str, Any]:
    moved = [event for event in events if event["event"] == "transfer"]
    computed = [event for event in events if event["event"] == "compute"]
    last = [event for event in events if event["event"] == "round"][-1]
    return {
        "method": "sfl-v2", "model": "minilm", "task": "stdlib-topics", "transport": "rpc",
        "rounds": rounds, "clients": clients,
        "final": {key: last[key] for key in ("train_loss", "eval_loss", "accuracy") if key in last},
        "bytes_up": sum(row["payload_bytes"] for row in moved if row["direction"] == "up"),
        "bytes_down": sum(row["payload_bytes"] for row in moved if row["direction"] == "down"),
        "packets": sum(row["packets"] for row in moved),
        "retransmissions": sum(row["retransmissions"] for row in moved),
        "airtime_s": sum(row["airtime_s"] for row in moved),
        "virtual_s": last["finish_s"], "wall_s": 4.2 * rounds,
        "client_flops": sum(row["flops"] for row in computed if row["side"] == "client"),
        "server_flops": sum(row["flops"] for row in computed if row["side"] == "server"),
        "client_peak_bytes": 61_300_000, "server_peak_bytes": 214_000_000, "status": "done",
    }  # fmt: skip


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a made-up run folder and returns its path."""
    numbers = count()

    def make(name: str = "", *, clients: int = 3, rounds: int = 6, steps: int = 10, seed: int = 0) -> Path:
        made, now_s = MadeUpRun(seed), 0.0
        for number in range(rounds):
            now_s = made.round(number, clients, steps, now_s)
        folder = tmp_path / (name or f"demo-{next(numbers)}")
        folder.mkdir(parents=True)
        settings = [f"federation.{key}={value}" for key, value in (("clients", clients), ("rounds", rounds))]
        write_json(folder / "config.json", as_dict(parse(CONFIG, settings)))
        write_json(folder / "environment.json", {
            "started": "2026-01-05T10:20:30+00:00", "command": "splitfl run demo --set train.seed=0",
            "git_commit": "0123456789abcdef0123456789abcdef01234567", "platform": "Linux x86_64, Python 3.11",
            "versions": {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
        })  # fmt: skip
        lines = [json.dumps(event) for event in made.events]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_json(folder / "summary.json", _summary(made.events, clients, rounds))
        return folder

    return make


def write_json(path: Path, table: dict[str, Any]) -> None:
    """A JSON file as a run writes it."""
    path.write_text(json.dumps(table, indent=2), encoding="utf-8")
