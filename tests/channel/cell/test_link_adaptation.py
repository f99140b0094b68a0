import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.cell.link_adaptation import OuterLoop, Reporter, SchemeLookup, fastest_scheme
from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.core.units import db_to_ratio
from channel.phy.block_error import BlockErrorLaw
from channel.phy.mcs import cqi_table, mcs_table

TABLE = mcs_table("64qam")
LAW = BlockErrorLaw.of(TABLE)
THRESHOLD_DB = LAW.threshold_db(target=0.1, bits=1000.0)


@given(snr_db=st.floats(-30, 40))
def test_the_fastest_scheme_keeps_the_target_and_the_next_one_would_not(snr_db):
    scheme = int(fastest_scheme(THRESHOLD_DB, snr_db))
    if scheme >= 0:
        assert LAW.code_block(scheme, snr_db, 1000.0) <= 0.1 + 1e-12
    if scheme < 28:
        assert LAW.code_block(scheme + 1, snr_db, 1000.0) > 0.1 - 1e-12


def test_thresholds_that_fall_let_the_faster_scheme_win():
    thresholds_db = np.array([0.0, 5.0, 4.0, 9.0])
    assert fastest_scheme(thresholds_db, np.array([-1.0, 0.0, 4.5, 8.9, 9.0])).tolist() == [-1, 0, 2, 2, 3]


@pytest.mark.parametrize("name", ["64qam", "256qam"])
def test_a_cqi_is_answered_by_the_fastest_scheme_that_is_not_faster(name):
    cqis, schemes = cqi_table(name), mcs_table(name)
    reporter = Reporter.of(cqis, schemes)
    snr_db = np.linspace(-15.0, 35.0, 501)
    cqi = reporter.cqi(snr_db)
    scheme = reporter.scheme(cqi)
    assert set(cqi.tolist()) == set(range(16))
    assert (np.diff(scheme) >= 0).all()
    assert ((scheme == -1) == (cqi == 0)).all()
    reached = cqi >= 2
    promised = cqis.efficiency_I[cqi[reached] - 1]
    assert (schemes.efficiency_I[scheme[reached]] <= promised).all()
    assert schemes.efficiency_I[scheme[-1]] == cqis.efficiency_I[-1]
    law = BlockErrorLaw.of(schemes)
    assert (law.code_block(scheme[reached], snr_db[reached], 1000.0) <= 0.1 + 1e-9).all()


# Conformance row 17: reports 2 dB too good, +-1 dB of noise, 1e5 blocks
@pytest.mark.parametrize("target", [0.1, 0.3])
def test_the_outer_loop_holds_its_target_however_wrong_the_reports_are(target):
    users, rounds, warm_up = 50, 2400, 400
    loop = OuterLoop(target=target, step_db=0.05)
    rng = stream(0, "olla")
    snr_db = np.linspace(0.0, 15.0, users)
    noise_db, uniform = rng.uniform(-1.0, 1.0, (rounds, users)), rng.random((rounds, users))
    margin_db, failures = np.zeros(users), 0
    for now in range(rounds):
        reported_db = snr_db + 2.0 + noise_db[now]
        scheme = np.maximum(fastest_scheme(THRESHOLD_DB, reported_db - margin_db), 0)
        is_acknowledged = uniform[now] >= LAW.code_block(scheme, snr_db, 1000.0)
        margin_db = loop.updated_db(margin_db, is_acknowledged)
        failures += int((~is_acknowledged).sum()) if now >= warm_up else 0
    assert failures / (users * (rounds - warm_up)) == pytest.approx(target, abs=0.005)


def test_the_margin_rises_on_failure_and_stays_within_its_limit():
    loop = OuterLoop(target=0.1, step_db=0.1, max_db=2.0)
    moved = loop.updated_db(np.array([0.0, 0.0, 1.9, -1.95]), np.array([True, False, False, True]))
    assert moved == pytest.approx([-0.1, 0.9, 2.0, -2.0])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"target": 0.0}, "target must lie in"),
        ({"step_db": 0.0}, "step_db must be above 0, got 0.0"),
        ({"max_db": -1.0}, "max_db must be above 0, got -1.0"),
    ],
)
def test_a_loop_that_makes_no_sense_is_refused_by_name(setting, message):
    with pytest.raises(BadParameter, match=message):
        OuterLoop(**setting)


@pytest.mark.parametrize("name", ["64qam", "256qam"])
def test_the_efficiency_of_an_sinr_is_that_of_the_fastest_scheme_within_0_02_db(name):
    table = mcs_table(name)
    threshold_db = BlockErrorLaw.of(table).threshold_db(target=0.1, bits=1000.0)
    reach = SchemeLookup.of(threshold_db, table.efficiency_I)
    level_db = stream(0, "reach").random(100_000) * 60.0 - 20.0
    level_db = np.concatenate([level_db, threshold_db, [-3000.0, -100.0, 100.0]])
    ratio = db_to_ratio(level_db)
    assert np.array_equal(
        reach.scheme(db_to_ratio(level_db[:1000])),
        np.maximum(fastest_scheme(threshold_db, level_db[:1000]), 0),
    )
    efficiency = np.append(table.efficiency_I, 0.0)
    exact = efficiency[fastest_scheme(threshold_db, level_db)]
    early = efficiency[fastest_scheme(threshold_db, level_db + 0.01697)]
    found = reach.efficiency(ratio)
    assert np.all((found == exact) | (found == early))
    assert (found != exact).mean() < 0.02
    assert reach.efficiency(np.zeros(1)) == 0.0


def test_schemes_that_lie_close_together_are_reached_together():
    reach = SchemeLookup.of(np.asarray([0.0, 0.001, 0.001, 0.002, 5.0, 4.0]), np.arange(1.0, 7.0))
    assert reach.efficiency(db_to_ratio(np.asarray([-0.01, 0.0025, 3.99, 4.0, 9.0]))).tolist() == [
        0,
        4,
        4,
        6,
        6,
    ]
