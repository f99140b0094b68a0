from pathlib import Path

import pytest

from channel.fidelity.rate_matching import rate_row


@pytest.mark.slow
def test_mcs_28_is_better_than_the_law_because_it_is_sent_at_a_lower_rate():
    row = rate_row(28, chunks=1)
    assert row.sent_rate < row.table_rate - 0.01
    assert row.table_db == pytest.approx(row.law_db, abs=0.12)
    assert row.sent_db < row.law_db - 0.35
    assert 0.1 < row.modem_db - row.sent_db < 0.45


def test_the_documentation_has_the_rates_as_sent():
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "waveform.md").read_text(encoding="utf-8")
    assert "| 27 | 0.8887 | 0.8704 |" in page
    assert "| 28 | 0.9258 | 0.9109 |" in page
