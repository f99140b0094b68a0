import pytest

from channel.core.errors import BadParameter
from channel.phy.device import Device


def test_energy_is_radiation_over_efficiency_and_circuits():
    device = Device(amplifier_efficiency=0.5, send_circuit_w=0.3, receive_circuit_w=0.4, idle_w=0.1)
    assert device.energy_j(radiated_j=1.0, send_s=2.0, receive_s=3.0, duration_s=10.0) == pytest.approx(4.8)
    assert Device(transmit_dbm=30.0).transmit_w == pytest.approx(1.0)


def test_bad_input_is_refused():
    with pytest.raises(BadParameter, match=r"device.amplifier_efficiency must lie in \[1e-06, 1\], got 0"):
        Device(amplifier_efficiency=0.0)
    with pytest.raises(BadParameter, match=r"device.idle_w must lie in \[0, 100\] W, got -1"):
        Device(idle_w=-1.0)
