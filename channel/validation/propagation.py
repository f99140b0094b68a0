"""Rows 10, 11 and 13 to 16: interference, effective SINR, path loss, shadowing, capacity."""

import math

import numpy as np

from channel.phy.capacity import capacity, rayleigh_capacity
from channel.phy.effective_sinr import eesm_db
from channel.propagation.interference import poisson_coverage, rayleigh_coverage
from channel.propagation.path_loss import ENVIRONMENTS, free_space_db
from channel.propagation.placement import poisson_in_disc
from channel.propagation.shadowing import ShadowField
from channel.validation.check import Check, rng_of, within_percent

_CARRIER_HZ = 3.5e9
_DISTANCE_M = np.asarray([50.0, 100.0, 200.0, 500.0])
_LOSS_DB = {
    ("urban-macro", True): (77.21, 83.14, 89.57, 98.27),
    ("urban-macro", False): (92.51, 103.04, 114.46, 129.92),
    ("urban-micro", True): (79.09, 85.31, 91.61, 107.11),
    ("urban-micro", False): (94.18, 104.64, 115.23, 129.26),
}
"""TR 38.901 table 7.4.1-1, evaluated independently of this package."""
_SIGHT = {"urban-macro": (0.6494, 0.3477, 0.1280), "urban-micro": (0.5196, 0.2310, 0.0935)}
_OFFICE_DB = {True: 65.79, False: 80.68}


def _largest_loss_error(name: str) -> float:
    row = ENVIRONMENTS[name]
    return max(
        float(np.abs(row.path_loss_db(_DISTANCE_M, _CARRIER_HZ, is_los) - _LOSS_DB[name, is_los]).max())
        for is_los in (True, False)
    )


def _largest_office_error() -> float:
    # A 3D distance of 20 m between a ceiling at 3 m and a handset at 1 m.
    along_m = math.sqrt(20.0**2 - 2.0**2)
    row = ENVIRONMENTS["indoor-mixed-office"]
    return max(
        abs(float(row.path_loss_db(along_m, _CARRIER_HZ, is_los)) - loss_db)
        for is_los, loss_db in _OFFICE_DB.items()
    )


def _largest_free_space_error() -> float:
    known = ((1.0, 2.4e9, 40.05), (100.0, 1e9, 72.45), (100.0, 3.5e9, 83.33))
    return max(abs(float(free_space_db(distance_m, hz)) - loss_db) for distance_m, hz, loss_db in known)


def _largest_sight_error() -> float:
    return max(
        float(np.abs(ENVIRONMENTS[name].los_probability(_DISTANCE_M[:3]) - chances).max())
        for name, chances in _SIGHT.items()
    )


def _sir_outage() -> float:
    signal, other = rng_of("sir").exponential(size=(2, 1_000_000))
    return float((signal < 0.1 * other).mean())


def _poisson() -> float:
    """Coverage of a user at the origin: Rayleigh fading, path loss exponent 4, nearest station serves."""
    rng, covered = rng_of("poisson"), 0
    for _ in range(12_000):
        place = poisson_in_disc(rng, per_m2=1.0, radius_m=8.0)
        distance_m = np.hypot(place[:, 0], place[:, 1])
        received = rng.exponential(size=distance_m.size) * distance_m**-4.0
        served = float(received[distance_m.argmin()])
        covered += served > float(received.sum()) - served
    return covered / 12_000


def _effective() -> float:
    return float(eesm_db(np.asarray([0.0, 10.0]), 4.27))


def _effective_closed() -> float:
    return 10.0 * math.log10(-4.27 * math.log((math.exp(-1.0 / 4.27) + math.exp(-10.0 / 4.27)) / 2.0))


def _shadow_correlation() -> float:
    products = []
    for number in range(300):
        field = ShadowField.draw(rng_of("shadow", number), decorrelation_m=37.0, num_waves=64)
        track = np.stack([np.arange(0.0, 2000.0, 37.0), np.zeros(55)], axis=-1)
        value = field.at(track)
        products.append(float((value[1:] * value[:-1]).mean()))
    return float(np.mean(products))


def _ergodic() -> float:
    return float(capacity(10.0 * rng_of("ergodic").exponential(size=2_000_000)).mean())


CHECKS: tuple[Check, ...] = (
    within_percent(
        "10",
        "SIR outage at 0 dB, mean ratio 10 dB",
        1.0 - float(rayleigh_coverage(1.0, math.inf, 10.0)),
        1.0,
        _sir_outage,
    ),
    Check(
        row="11",
        what="coverage among Poisson cells, 0 dB, exponent 4",
        expected=float(poisson_coverage(1.0)),
        tolerance=0.02,
        measure=_poisson,
    ),
    Check(
        row="13",
        what="EESM of 0 and 10 dB, beta 4.27, in dB",
        expected=_effective_closed(),
        tolerance=1e-6,
        measure=_effective,
    ),
    *(
        Check(row="14", what=f"largest error of {what}, dB", expected=0.0, tolerance=0.01, measure=measure)
        for what, measure in (
            ("3 free-space losses", _largest_free_space_error),
            ("8 UMa losses, 50 to 500 m", lambda: _largest_loss_error("urban-macro")),
            ("8 UMi losses, 50 to 500 m", lambda: _largest_loss_error("urban-micro")),
            ("2 InH losses, 20 m", _largest_office_error),
        )
    ),
    Check(
        row="14",
        what="largest error of 6 chances of sight",
        expected=0.0,
        tolerance=1e-4,
        measure=_largest_sight_error,
    ),
    Check(
        row="15",
        what="shadow correlation at 37 m",
        expected=math.exp(-1.0),
        tolerance=0.03,
        measure=_shadow_correlation,
    ),
    within_percent("16", "capacity, 10 dB", math.log2(11.0), 0.5, lambda: float(capacity(10.0))),
    within_percent(
        "16", "ergodic capacity in Rayleigh fading, 10 dB", float(rayleigh_capacity(10.0)), 0.5, _ergodic
    ),
)
