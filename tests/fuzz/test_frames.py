"""A part of the million malformed frames; `python -m tests.fuzz.frames` feeds all of them."""

import pytest

from tests.fuzz.feeding import Broken
from tests.fuzz.frames import fuzz


@pytest.mark.slow
def test_no_malformed_frame_does_more_than_to_be_refused() -> None:
    found = fuzz(60_000, seed=1)
    assert found.inputs == found.taken + found.refused == 60_000
    assert found.refused > 30_000


def test_a_fault_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fall_over(raw: bytes) -> None:
        if raw[:1] == b"\0":
            raise KeyError("unexpected")

    monkeypatch.setattr("tests.fuzz.frames.decode", fall_over)
    with pytest.raises(Broken, match=r"KeyError: 'unexpected' for 00"):
        fuzz(20_000, seed=0)
