import pickle

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from channel.core.errors import BadParameter
from channel.propagation.recorded_taps import NodeTaps
from channel.scenario import colosseum_file
from channel.scenario.colosseum import ChannelMatrix
from channel.scenario.link_tables import taps_of_file


def taps_of(nodes=3, time_ms=(0.0, 1.0, 1000.0), taps=4, **changed):
    rng = np.random.default_rng(1)
    shape = (nodes, nodes, len(time_ms), taps)
    gain = rng.uniform(0.01, 0.9, shape) * np.exp(2j * np.pi * rng.random(shape))
    given = {"gain_NNTL": gain, "delay_s_NNTL": rng.integers(0, 512, shape) * 1e-8, **changed}
    return NodeTaps(time_s_T=np.asarray(time_ms) * 1e-3, **given)


def spread(gain, delay_s=0.0, time_ms=(0.0, 1000.0), nodes=2):
    """Every link the same taps."""
    gain = np.atleast_1d(np.asarray(gain, dtype=complex))
    shape = (nodes, nodes, len(time_ms), gain.size)
    return taps_of(
        nodes,
        time_ms,
        gain_NNTL=np.broadcast_to(gain, shape),
        delay_s_NNTL=np.broadcast_to(np.asarray(delay_s, dtype=float), shape),
    )


def test_a_matrix_survives_its_file(tmp_path):
    taps = taps_of()
    matrix = ChannelMatrix(taps=taps, coordinates_m=np.arange(27.0).reshape(3, 3, 3), origin=(12.5, 41.9))
    colosseum_file.write(tmp_path / "m.mat", matrix)
    found = colosseum_file.read(tmp_path / "m.mat")
    assert np.array_equal(found.taps.gain_NNTL, taps.gain_NNTL)
    assert np.array_equal(found.taps.delay_s_NNTL, taps.delay_s_NNTL)
    assert np.array_equal(found.taps.time_s_T, taps.time_s_T)
    assert np.array_equal(found.coordinates_m, matrix.coordinates_m)
    assert found.origin == matrix.origin


def test_the_file_has_the_documented_names_sizes_and_units(tmp_path):
    taps = taps_of(taps=2)
    colosseum_file.write(tmp_path / "m.mat", ChannelMatrix(taps=taps))
    found = loadmat(tmp_path / "m.mat")
    assert found["chMatrix"].shape == (3, 3, 3)
    assert found["time"].tolist() == [[0.0, 1.0, 1000.0]]
    cell = found["chMatrix"][0, 2, 1][0, 0]
    assert cell["delay"].shape == cell["iq"].shape == (1, 4)
    assert cell["iq"][0].tolist() == [*taps.gain_NNTL[0, 2, 1].tolist(), 0.0, 0.0]
    assert cell["delay"][0].tolist() == [*taps.delay_s_NNTL[0, 2, 1].tolist(), 0.0, 0.0]


def test_the_static_form_is_one_tap_a_link(tmp_path):
    colosseum_file.write_static(tmp_path / "m.mat", np.asarray([[0.0, 5.0], [30.0, 0.0]]))
    assert loadmat(tmp_path / "m.mat")["chMatrix"].tolist() == [[0.0, -5.0], [-30.0, 0.0]]
    taps = colosseum_file.read(tmp_path / "m.mat").taps
    assert 10 * np.log10(taps.power_NN[0, 1]) == pytest.approx(-5.0)
    assert 10 * np.log10(taps.power_NN[1, 0]) == pytest.approx(-30.0)


@pytest.mark.parametrize(
    "cell",
    [
        {"delay": [[1e-9, 2e-8, 0, 0]], "iq": [[0.5j, 0.1, 0, 0]]},
        {"tap": {"delay": [[0.0, 2e-8]], "iq": [[0.5j, 0.1]]}},
        np.asarray([[1e-9, 2e-8, 0, 0], [0.5j, 0.1, 0, 0]]),
        np.asarray([[0.0, 0.5j], [2e-8, 0.1], [0, 0], [0, 0]]),
    ],
    ids=["struct", "tap in a struct", "2 x 4", "4 x 2"],
)
def test_every_reading_of_the_documentation_is_read(cell, tmp_path):
    cells = np.empty((2, 2, 2), dtype=object)
    for place in np.ndindex(2, 2, 2):
        cells[place] = cell
    savemat(tmp_path / "m.mat", {"chMatrix": cells})
    taps = colosseum_file.read(tmp_path / "m.mat").taps
    assert taps.time_s_T.tolist() == [0.0, 1.0]
    assert taps.gain_NNTL[1, 0, 0].tolist() == [0.5j, 0.1, 0.0, 0.0]
    assert taps.delay_s_NNTL[1, 0, 0].tolist() == [0.0, 2e-8, 0.0, 0.0]


def test_a_struct_array_is_read_as_cells_are(tmp_path):
    matrix = np.zeros((2, 2, 1), dtype=[("delay", "O"), ("iq", "O")])
    for place in np.ndindex(2, 2, 1):
        matrix[place] = (np.asarray([[2e-8]]), np.asarray([[0.5j]]))
    savemat(tmp_path / "m.MAT", {"chMatrix": matrix}, appendmat=False)
    taps = taps_of_file(tmp_path / "m.MAT")
    assert taps.gain_NNTL[0, 1, 0].tolist() == [0.5j, 0.0, 0.0, 0.0]
    assert taps.delay_s_NNTL[0, 1, 0].tolist() == [2e-8, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("begins", [b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512), b""])
def test_a_file_of_version_7_3_is_refused_with_the_save_command(begins, tmp_path):
    (tmp_path / "m.mat").write_bytes(begins + b"\x89HDF\r\n\x1a\n" + bytes(600))
    with pytest.raises(BadParameter, match=r"got one of version 7.3: save it with save\(..., '-v7'\)"):
        colosseum_file.read(tmp_path / "m.mat")


def test_the_older_names_are_read(tmp_path):
    cells = np.empty((2, 2), dtype=object)
    for place in np.ndindex(2, 2):
        cells[place] = {"delay": [[0.0]], "iq": [[0.25]]}
    savemat(tmp_path / "m.mat", {"clusteredTapMatrix": cells})
    assert np.all(colosseum_file.read(tmp_path / "m.mat").taps.gain_NNTL[..., 0] == 0.25)


def test_times_are_extended_to_a_whole_second(tmp_path):
    cells = np.empty((2, 2, 2), dtype=object)
    for place in np.ndindex(2, 2, 2):
        cells[place] = {"delay": [[0.0]], "iq": [[0.5 + place[2] / 4]]}
    savemat(
        tmp_path / "m.mat", {"chMatrix": cells, "time": [[0.0, 400.0]], "coordinates": np.ones((2, 3, 2))}
    )
    found = colosseum_file.read(tmp_path / "m.mat")
    assert found.taps.time_s_T.tolist() == [0.0, 0.4, 1.0]
    assert found.taps.gain_NNTL[0, 1, :, 0].tolist() == [0.5, 0.75, 0.75]


# Conformance row 27: a violation of each limit is refused
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spread(0.5, nodes=53), "nodes must be at most 52, got 53"),
        (
            lambda: spread([0.1] * 5),
            "a link must have at most 4 taps that are not 0, got 5 from node 1 to node 1",
        ),
        (lambda: spread(1.01), r"tap gains must lie in \[-43, 0\] dB, got 0.0864"),
        (lambda: spread(0.007), r"tap gains must lie in \[-43, 0\] dB, got -43.0"),
        (lambda: spread(0.5, 5.12e-6), r"tap delays must lie in \[0, 5.11\] us, got 5.12 us from node 1"),
        (lambda: spread(0.5, 1.5e-8), "tap delays must be multiples of 10 ns, got 15 ns"),
        (lambda: spread(0.5, time_ms=(0, 0.5, 1000.0)), "times must be whole milliseconds"),
        (
            lambda: spread(0.5, time_ms=(0, 1500.0)),
            "the last time must be a multiple of 1000 ms, got 1500 ms",
        ),
    ],
)
def test_a_limit_that_is_not_kept_is_refused(make, message):
    with pytest.raises(BadParameter, match=message):
        ChannelMatrix(taps=make())


def test_values_at_a_limit_are_accepted():
    ChannelMatrix(taps=spread([10 ** (-43 / 20), 1.0], [5.11e-6, 0.0], nodes=4))
    ChannelMatrix(taps=spread([1.0, 0, 0, 0, 0, 0.5]))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"other": 1.0}, "m.mat must hold chMatrix, got other"),
        ({"chMatrix": {"a": 1.0}}, "a struct array of delay and iq, got an array with a: make cells of it"),
        ({"chMatrix": np.ones((2, 2))}, r"tap gains must lie in \[-43, 0\] dB, got 1 dB"),
        ({"chMatrix": np.zeros((2, 3))}, r"gains in decibels must be a square, got shape \(2, 3\)"),
        (
            {"chMatrix": np.asarray([[{"delay": 0.0}] * 2] * 2, dtype=object)},
            "must have delay and iq, got delay",
        ),
        ({"chMatrix": np.asarray([["a", 1]] * 2, dtype=object)}, "chMatrix must have delay and iq"),
        (
            {"chMatrix": np.asarray([[{"delay": [0.0] * 5, "iq": [1.0] * 5}] * 2] * 2, dtype=object)},
            "at most 4 taps, got 5 delays and 5 iq",
        ),
    ],
)
def test_contents_other_than_a_channel_matrix_are_refused(contents, message, tmp_path):
    savemat(tmp_path / "m.mat", contents)
    with pytest.raises(BadParameter, match=message):
        colosseum_file.read(tmp_path / "m.mat")


@pytest.mark.parametrize(
    "content", [b"", b"no matrix", pickle.dumps([1, 2, 3]), b"\x89HDF\r\n\x1a\n" + bytes(600)]
)
def test_other_files_than_mat_files_are_refused(content, tmp_path):
    (tmp_path / "m.mat").write_bytes(content)
    with pytest.raises(BadParameter, match=r"m.mat must be a MATLAB file of format 5"):
        colosseum_file.read(tmp_path / "m.mat")
