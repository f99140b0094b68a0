"""Feeds damaged settings and checkpoints, made from good ones, to whatever reads files.

    python -m tests.fuzz.files --count 100000

Each must be read or refused with one of our errors, in less than a second of CPU time, and memory must
not grow; a checkpoint that is read must be the one that was kept. Ends with exit code 1 and the bytes
in hexadecimal where one is not.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import safetensors.torch
import torch

from channel.core.errors import ChannelError
from channel.scenario import load as scenario
from experiments import presets
from splitfl.core import checkpoint
from splitfl.core.errors import SplitflError
from splitfl.setup import experiment_file
from testbed.colosseum.batch_file import read_batch
from testbed.colosseum.radio_conf import load_radio_conf
from testbed.colosseum.rules import Rules
from testbed.inventory import load as inventory
from testbed.lab import plan
from tests.fuzz import feeding
from tests.fuzz.feeding import Broken, Food, Found

_REFUSES_BY: Final = (SplitflError, ChannelError)
_WORDS: Final = (
    *(b"[", b"]", b"[[", b"]]", b"{", b"}", b"=", b'"', b"'", b'"""', b",", b".", b"#", b"\n", b"\r", b"\0"),
    *(b"[" * 3000, b"a = " + b"[" * 1200, b"a = " + b"{a=" * 900, b"9" * 5000, b"\xff\xfe", b"\\ud800"),
    *(b"[allow]\n", b"[[nodes]]\n", b"[links]\n", b"a.b.c = 1\n", b"F32", b"__metadata__", b"sha256"),
)
_VALUES: Final = (
    *(b"true", b"-1", b"0", b"1", b"9223372036854775808", b"0.5", b"-0.0", b"nan", b"inf", b"-inf", b"1e308"),
    *(b'""', b'"x"', b'"\\u0000"', b"'../..'", b"[]", b"[[]]", b'[1, "a"]', b"[nan]", b"[{}]", b"{}"),
    *(b"{a = {}}", b"1979-05-27", b"07:32:00", b'["gpu"]', b"[0]", b"[1.5, 2]", b'"' + b"a" * 9000 + b'"'),
)
_INVENTORY: Final = b"""server = "gpu"
port = 50051
broker = {address = "192.0.2.1", port = 1883}
[nodes.gpu]
ssh = "me@gpu"
[nodes.srn-1]
address = "192.0.2.7"
python = "python3"
rf_node = 2
role = "client"
[hooks]
start_channel = "true"
timeout_s = 60
[reservation]
minutes = 60
"""
_BATCH: Final = b"""{"BatchName": "one", "Duration": 300, "RFScenario": 1009, "TrafficScenario": "10090",
 "Loopinfo": {"Enabled": "True", "NumOfLoops": 2},
 "NodeData": [{"RFNode_ID": 1, "ImageName": "scope", "ModemConfig": "one.conf", "isGateway": true,
  "TrafficNode_ID": 1, "node_type": "competitor"}]}
"""
_RADIO_CONF: Final = b"""# a comment
node = one
role = server
address = 172.16.0.1
run = splitfl serve "$SPLITFL_EXPERIMENT" --host 172.16.0.1
loops = 2
experiment = {"federation": {"clients": 1}}
"""


def fuzz(count: int, seed: int) -> Found:
    """Feeds so many; raises Broken for the first that does what none may do."""
    with tempfile.TemporaryDirectory(prefix="splitfl-fuzz-") as folder:
        return feeding.fuzz(foods(Path(folder)), count, seed)


def foods(folder: Path) -> list[Food]:
    """Presets, scenarios and plans that come with splitfl, an inventory, a batch job, two checkpoints."""
    file = folder / "one.toml"
    readers: list[tuple[Path, Callable[[Path], object]]] = [
        *((path, experiment_file.load) for path in sorted(presets.FOLDER.glob("**/*.toml"))),
        *((path, lambda file: scenario.load(str(file))) for path in sorted(_SCENARIOS.glob("*.toml"))),
        *((path, lambda file: plan.find(str(file))) for path in sorted(plan.FOLDER.glob("*.toml"))),
    ]
    texts = [(path.read_bytes(), _from_file(read, file)) for path, read in readers]
    texts.append((_INVENTORY, _from_file(inventory.load, file)))
    texts.append((_BATCH, _from_file(lambda file: read_batch(file, Rules()), file)))
    texts.append((_RADIO_CONF, _from_file(load_radio_conf, file)))
    kept = [_checkpoint(folder / "kept"), _foreign()]
    return [
        *(
            Food(good=good, read=read, refuses_by=_REFUSES_BY, words=_WORDS, values=_VALUES)
            for good, read in texts
        ),
        *(
            Food(good=good, read=_restored(kept[0], folder / "one"), refuses_by=_REFUSES_BY, words=_WORDS)
            for good in kept
        ),
    ]


_SCENARIOS: Final = Path(scenario.__file__).parent / "scenarios"


def _from_file(read: Callable[[Path], object], path: Path) -> Callable[[bytes], object]:
    def from_file(raw: bytes) -> object:
        path.write_bytes(raw)
        return read(path)

    return from_file


def _checkpoint(path: Path) -> bytes:
    """A state of several kinds of tensors, as a run keeps it."""
    tensors = {
        "server.a.b": torch.arange(6.0).reshape(2, 3),
        "station.next": torch.tensor((1, 7)),
        "moments": torch.ones(4, dtype=torch.bfloat16),
        "random": torch.arange(8, dtype=torch.uint8),
        "nothing": torch.zeros(0),
    }
    checkpoint.save(path, tensors, {"round": "3", "run": "0" * 64})
    return path.read_bytes()


def _foreign() -> bytes:
    """What another program keeps, without a word of ours."""
    return safetensors.torch.save({"weight": torch.ones(3, 3)}, {"format": "pt"})


def _restored(good: bytes, path: Path) -> Callable[[bytes], object]:
    """Reads a checkpoint, and is broken where it believes in one that was not kept."""
    path.write_bytes(good)
    kept, notes = checkpoint.restore(path)

    def restored(raw: bytes) -> object:
        path.write_bytes(raw)
        tensors, told = checkpoint.restore(path)
        is_same = told == notes and tensors.keys() == kept.keys()
        if not is_same or not all(torch.equal(tensors[name], value) for name, value in kept.items()):
            raise Broken(f"a checkpoint that nobody kept was believed: {raw.hex()}")
        return tensors

    return restored


if __name__ == "__main__":
    feeding.command("Feed damaged settings and checkpoints to whatever reads files.", fuzz, 100_000)
