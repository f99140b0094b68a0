import pytest

from channel.conformance import CHECKS, verdict


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.row} {check.what}")
def test_theory_and_practice_agree(check):
    found = verdict(check)
    assert found.is_good, f"expected {found.expected}, measured {found.measured}, within {found.tolerance}"
