import pickle
import random

import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.input_files import arrays_of
from channel.links.trace import read_recording
from channel.propagation import recorded_taps as taps
from channel.scenario import colosseum_file
from channel.scenario import load as scenario
from channel.scenario.colosseum import ChannelMatrix
from tests.channel.scenario.test_colosseum import taps_of

TABLE = b"time_s,rate_bps,delay_s,loss_rate\n0,10000,0,0\n"


def originals(folder):
    colosseum_file.write(folder / "x.mat", ChannelMatrix(taps=taps_of()))
    taps.write_npz(folder / "x.npz", taps_of())
    return {
        "x.mat": (colosseum_file.read, (folder / "x.mat").read_bytes()),
        "x.npz": (taps.read_npz, (folder / "x.npz").read_bytes()),
        "x.csv": (read_recording, TABLE),
        "x.up": (read_recording, b"1\n2\n30\n"),
        "x.toml": (lambda path: scenario.load(str(path)), b"[place]\nusers = 3\n"),
    }


@pytest.mark.parametrize("name", ["x.mat", "x.npz", "x.csv", "x.up", "x.toml"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(name, tmp_path):
    read, whole = originals(tmp_path)[name]
    uniform, refused = random.Random(0), 0
    for _ in range(60):
        damaged = bytearray(whole[: uniform.randrange(len(whole))] if uniform.random() < 0.3 else whole)
        for _ in range(2 if damaged else 0):
            damaged[uniform.randrange(len(damaged))] = uniform.randrange(256)
        (tmp_path / name).write_bytes(damaged)
        try:
            read(tmp_path / name)
        except BadParameter:
            refused += 1
    assert refused > 15


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", time_s=np.asarray([{}], dtype=object))
    with pytest.raises(BadParameter, match=r"x.npz must be a .npz file of arrays: Object arrays cannot be"):
        arrays_of(tmp_path / "x.npz", {"time_s": "f"})
    (tmp_path / "x.npz").write_bytes(pickle.dumps([1.0]))
    with pytest.raises(BadParameter, match=r"x.npz must be a .npz file of arrays"):
        arrays_of(tmp_path / "x.npz", {"time_s": "f"})


def test_words_single_arrays_and_missing_names_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", time_s=np.asarray(["a"]))
    with pytest.raises(BadParameter, match=r"time_s of x.npz must be numbers, got <U1"):
        arrays_of(tmp_path / "x.npz", {"time_s": "f"})
    with pytest.raises(BadParameter, match=r"x.npz must hold time_s, gain; missing: gain"):
        arrays_of(tmp_path / "x.npz", {"time_s": "f", "gain": "c"})
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(BadParameter, match=r"x.npy must be a .npz file, got a single array"):
        arrays_of(tmp_path / "x.npy", {"time_s": "f"})
