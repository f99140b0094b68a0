import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from channel.coding import kernels
from channel.coding.base_graph import base_graph_number, lifted
from channel.coding.code import Code
from channel.coding.extra import MissingNumba
from channel.coding.qam import pam_levels
from channel.core.errors import BadParameter


def dense(graph):
    """Every check as a row of zeros and ones."""
    rows = graph.row_start.size - 1
    matrix = np.zeros((rows, graph.lifting, graph.columns, graph.lifting), dtype=np.int64)
    turn = np.arange(graph.lifting)
    for row in range(rows):
        for edge in range(graph.row_start[row], graph.row_start[row + 1]):
            matrix[row, turn, graph.column[edge], (turn + graph.shift[edge]) % graph.lifting] = 1
    return matrix.reshape(rows * graph.lifting, -1)


def solved(matrix, right):
    """The one x with matrix x = right, modulo 2, by elimination."""
    table = np.concatenate([matrix, right[:, None]], axis=1) % 2
    for column in range(matrix.shape[1]):
        pivot = column + int(np.argmax(table[column:, column]))
        assert table[pivot, column] == 1
        table[[column, pivot]] = table[[pivot, column]]
        others = table[:, column].astype(bool)
        others[column] = False
        table[others] ^= table[column]
    return table[:, -1]


# TS 38.212 tables 5.3.2-2 and -3: 46 x 68 with 316 edges, 42 x 52 with 197
@pytest.mark.parametrize(("number", "rows", "columns", "edges"), [(1, 46, 68, 316), (2, 42, 52, 197)])
def test_the_base_graphs_have_the_sizes_of_the_standard(number, rows, columns, edges):
    graph = lifted(number, 500)
    assert (graph.row_start.size - 1, graph.columns, graph.column.size) == (rows, columns, edges)
    assert np.array_equal(np.unique(graph.column), np.arange(columns))


@pytest.mark.parametrize(
    ("bits", "rate", "number", "lifting"),
    [(250, 0.9, 2, 32), (1000, 0.3, 2, 104), (1000, 0.75, 1, 48), (4000, 0.66, 1, 192), (3840, 0.2, 2, 384)],
)
def test_graph_and_lifting_are_those_of_the_standard(bits, rate, number, lifting):
    assert base_graph_number(bits, rate) == number
    assert lifted(number, bits).lifting == lifting


# One length from each set of liftings of table 5.3.2-1 but the largest: each has shifts of its own.
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("lifting", [2, 3, 5, 7, 9, 11, 13, 15])
def test_a_codeword_meets_every_check_and_is_the_only_one(number, lifting):
    bits = lifting * (22 if number == 1 else 6)
    graph = lifted(number, bits)
    assert graph.lifting == lifting
    information = np.random.default_rng(0).integers(0, 2, graph.information_columns * lifting)
    information[bits:] = 0
    word = np.zeros((graph.columns, lifting), dtype=np.uint8)
    word.ravel()[: information.size] = information
    kernels.encode.py_func(graph, word)  # as it stands: compiling takes longer
    checks = dense(graph)
    assert not (checks @ word.ravel() % 2).any()
    parity = solved(checks[:, information.size :], checks[:, : information.size] @ information % 2)
    assert np.array_equal(word.ravel()[information.size :], parity)


def test_two_columns_and_filler_bits_are_punctured():
    code = Code.of(modulation_order=4, code_rate=0.5, bits=1000)
    lifting = code.graph.lifting
    sent = np.sort(code.sent_E)
    assert sent.size == 2000
    assert np.array_equal(np.unique(sent), sent)
    # 2 x 104 to 999 of the information, then parity from the tenth column on.
    assert np.array_equal(sent, [*range(2 * lifting, 1000), *range(10 * lifting, 10 * lifting + 2000 - 792)])
    # The interleaver puts the first E / 4 bits in the first place of each symbol.
    assert code.sent_E[::4].tolist() == [*range(2 * lifting, 2 * lifting + 500)]


def test_a_low_rate_code_repeats_bits():
    code = Code.of(modulation_order=2, code_rate=0.1, bits=1000)
    circle = 50 * code.graph.lifting - 40
    assert code.sent_E.size == 10_000
    assert np.bincount(np.bincount(code.sent_E))[1:].tolist() == [2 * circle - 10_000, 10_000 - circle]


def test_only_checks_of_bits_that_are_sent_remain():
    fast, slow = (Code.of(modulation_order=2, code_rate=rate, bits=1000).graph for rate in (0.6, 0.1))
    assert fast.columns < slow.columns == 52
    assert fast.row_start.size - 1 == fast.columns - fast.information_columns


@pytest.mark.parametrize("order", [2, 4, 6, 8])
def test_neighbouring_amplitudes_differ_in_one_bit_and_the_mean_power_is_half(order):
    levels = pam_levels(order)
    assert np.mean(levels**2) == pytest.approx(0.5)
    labels = np.argsort(levels)
    assert np.diff(np.sort(levels)) == pytest.approx(np.diff(np.sort(levels))[0])
    assert [int(one ^ other).bit_count() for one, other in pairwise(labels)] == ([1] * (levels.size - 1))
    assert levels[0] > 0 > levels[-1]  # a first bit of 0 is on the right


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: lifted(2, 3841), "base graph 2 must have 1 to 3840 bits, got 3841"),
        (lambda: Code.of(modulation_order=3, code_rate=0.5, bits=100), "one of 2, 4, 6, 8, got 3"),
        (lambda: Code.of(modulation_order=2, code_rate=0.96, bits=100), "at most 0.95, got 0.96"),
        (lambda: Code.of(modulation_order=2, code_rate=0.0, bits=100), "code_rate must be above 0"),
        (lambda: Code.of(modulation_order=2, code_rate=0.5, bits=0), "bits must be a whole number"),
    ],
)
def test_a_code_that_is_none_is_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()


def test_without_numba_the_error_names_the_package(monkeypatch):
    from channel.calibration.simulation import BlerCurve, chunk_failures

    curve = BlerCurve(2, 120.0, 1000)
    code = curve.code()
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingNumba, match=r"needs numba; install with: pip install 'splitfl\[radio\]'"):
        chunk_failures(curve, code, 0.0, seed=0, chunk=0)


# 250 blocks each, as simulated when the code lay in channel.calibration and read Sionna's tables
@pytest.mark.slow
@pytest.mark.parametrize(
    ("curve", "snr_db", "failed"),
    [((2, 308.0, 1000), -1.6, 80), ((4, 658.0, 1000), 8.4, 82), ((2, 308.0, 250), -1.4, 61)],
)
def test_the_simulation_has_the_same_failures_as_ever(curve, snr_db, failed):
    from channel.calibration.simulation import BlerCurve, chunk_failures

    simulated = BlerCurve(*curve)
    assert chunk_failures(simulated, simulated.code(), snr_db, seed=0, chunk=0) == failed


def test_without_numba_the_import_of_the_modem_names_the_package():
    script = "import sys; sys.modules['numba'] = None; import channel.waveform.receiver"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    assert "MissingNumba: coding of packets needs numba; install with: pip install" in found.stderr
