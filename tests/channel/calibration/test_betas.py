import pytest

from channel.calibration.betas import fitted_beta
from channel.phy.block_error import law_document
from tests.quick import quick

ROWS = law_document()["rows"]


@pytest.mark.parametrize("place", quick([1, 11, 20, 33], 11))
def test_the_committed_betas_are_the_fitted_ones(place):
    row = ROWS[place]
    assert fitted_beta(row["modulation_order"], row["s50_db"]) == pytest.approx(row["eesm_beta"], abs=0.006)


# Betas that 5G-LENA fitted to link simulations, by modulation order and code rate x 1024
@pytest.mark.parametrize(
    ("scheme", "published"), [((2, 120), 1.6), ((4, 378), 4.27), ((6, 466), 10.97), ((6, 948), 34.28)]
)
def test_the_betas_are_near_those_that_others_found(scheme, published):
    found = next(row for row in ROWS if (row["modulation_order"], row["code_rate_1024"]) == scheme)
    assert found["eesm_beta"] == pytest.approx(published, rel=0.26)
