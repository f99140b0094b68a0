import pytest


@pytest.fixture(scope="package")
def kernels():
    """The compiled arithmetic, where numba and Sionna's tables are installed."""
    from channel.calibration.oracle import MissingOracle, require_oracle

    try:
        require_oracle()
    except MissingOracle as reason:
        pytest.skip(str(reason))
    from channel.calibration import kernels

    return kernels
