import json

import numpy as np
import pytest

from testbed.radio.radio_link import last_rows
from testbed.radio.waterfall import BINS, Waterfall, spectrum


def test_a_waterfall_merges_rows_instead_of_growing():
    waterfall = Waterfall(1, row_s=1.0, rows=4)
    for second in range(6):
        waterfall.add(float(second), np.asarray([10.0 ** (second // 2)]))
    assert waterfall.plain() == {"row_s": 2.0, "power_db": [[0], [10], [20]]}
    waterfall.add(1000.0, np.asarray([0.0]))
    assert waterfall.row_s == 256.0
    assert waterfall.plain()["power_db"] == [[16], None, None, [-120]]


def test_a_waterfall_without_measurements_has_no_rows():
    assert Waterfall(3).plain() == {"row_s": 0.05, "power_db": []}


def test_a_spectrum_shows_a_tone_at_its_frequency_with_its_power():
    tone = 0.1 * np.exp(2j * np.pi * 0.25 * np.arange(2500)).astype(np.complex64)
    power = spectrum(tone)
    assert int(power.argmax()) == BINS // 2 + BINS // 4
    assert power.sum() == pytest.approx(0.01, rel=1e-3)
    assert spectrum(np.ones(BINS, dtype=np.complex64)).sum() == pytest.approx(1.0, rel=1e-3)


def test_the_last_rows_of_a_record_are_read_without_the_rest(tmp_path):
    path = tmp_path / "bridge-0.jsonl"
    assert last_rows(path, 2) == []
    rows = [{"time_s": float(second), "node": 1} for second in range(1000)]
    written = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(written + '{"time_s": 1000.0, "no')
    found = last_rows(path, 2)
    assert found == rows[-len(found) :]
    assert 2 <= len(found) < 40
    path.write_text(written + '{"final": {}}\n')
    assert last_rows(path, 2)[-1] == rows[-1]
