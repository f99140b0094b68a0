import math

import numpy as np
import pytest

from channel.core.special_functions import (
    bessel_j0,
    exponential_integral,
    gaussian_tail,
    gaussian_tail_inverse,
    hypergeometric,
    marcum_q1,
    scaled_exponential_integral,
)


def test_the_gaussian_tail_is_half_an_erfc_and_its_inverse_undoes_it():
    x = np.linspace(-5.0, 8.0, 40)
    assert gaussian_tail(x) == pytest.approx([0.5 * math.erfc(one / math.sqrt(2)) for one in x], rel=1e-12)
    assert gaussian_tail_inverse(gaussian_tail(x)) == pytest.approx(x, abs=1e-6)


def test_bessel_j0_has_its_zeros_where_tables_put_them():
    assert bessel_j0(np.array([2.404825557695773, 5.520078110286311])) == pytest.approx(0.0, abs=1e-14)


# Abramowitz & Stegun, table 5.1
def test_the_exponential_integral_is_that_of_the_tables():
    assert exponential_integral(np.array([0.1, 1.0])) == pytest.approx([1.8229239585, 0.2193839344], rel=1e-9)


def test_the_scaled_exponential_integral_agrees_and_does_not_overflow():
    x = np.array([1e-3, 0.1, 1.0, 20.0, 300.0])
    assert scaled_exponential_integral(x) == pytest.approx(np.exp(x) * exponential_integral(x), rel=1e-9)
    assert scaled_exponential_integral(1e6) == pytest.approx(1e-6, rel=1e-5)


def test_marcum_q1_without_an_offset_is_a_rayleigh_tail():
    b = np.linspace(0.0, 4.0, 9)
    assert marcum_q1(0.0, b) == pytest.approx(np.exp(-(b**2) / 2), rel=1e-12)
    assert marcum_q1(2.0, 0.0) == 1.0


def test_the_hypergeometric_function_gives_the_logarithm():
    assert hypergeometric(1.0, 1.0, 2.0, -3.0) == pytest.approx(math.log(4.0) / 3.0, rel=1e-12)
