import numpy as np
import pytest

from channel.calibration import kernels
from channel.coding.qam import pam_levels
from channel.core.rng import stream
from channel.waveform.mapping import least_amplitude, mapped, max_log_ratios


@pytest.mark.parametrize("order", [2, 4, 6])
def test_bits_are_mapped_as_in_the_simulation_of_the_block_error_law(order):
    bits = stream(0, "mapping", order).integers(0, 2, 60 * order, dtype=np.uint8)
    clean = kernels.heard.py_func(bits, order, pam_levels(order), 0.0, np.zeros(120))
    assert mapped(bits, order).view(np.float32) == pytest.approx(clean, abs=1e-6)


@pytest.mark.parametrize("order", [2, 4, 6])
def test_max_log_ratios_are_the_differences_of_the_nearest_squared_distances(order):
    rng = stream(0, "max-log", order)
    half, levels = order // 2, pam_levels(order)
    point_S = (rng.standard_normal((2, 500)) * 1.2).astype(np.float32).T.copy().view(np.complex64).ravel()
    weight_S = rng.uniform(0.5, 20.0, 500).astype(np.float32)
    sign_E = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), 500 * order)
    found = max_log_ratios(point_S, weight_S, sign_E, order, least_amplitude(order))
    label = np.arange(levels.size)
    distance_SAL = (point_S.view(np.float32).reshape(500, 2, 1) - levels) ** 2
    for bit in range(half):
        is_one = (label >> (half - 1 - bit) & 1).astype(bool)
        gap_SA = distance_SAL[..., is_one].min(axis=-1) - distance_SAL[..., ~is_one].min(axis=-1)
        expected = gap_SA * weight_S[:, None] * sign_E.reshape(500, order)[:, 2 * bit : 2 * bit + 2]
        assert found.reshape(500, order)[:, 2 * bit : 2 * bit + 2] == pytest.approx(expected, abs=1e-3)
