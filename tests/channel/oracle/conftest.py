"""Sionna as a second opinion: `sionna-no-rt`, from the extra `oracle`. Without it these tests are skipped."""

import pytest


@pytest.fixture(scope="package")
def torch():
    """Torch with Sionna, imported when the first test asks: that takes seconds."""
    pytest.importorskip("sionna", reason="sionna-no-rt is not installed: pip install 'splitfl[oracle]'")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch
