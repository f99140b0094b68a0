import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.phy.block_error import BlockErrorLaw
from channel.phy.capacity import bit_information
from channel.phy.harq import COMBINING, Harq, arq_mean_tries, arq_residual
from channel.phy.mcs import mcs_table

LAW = BlockErrorLaw.of(mcs_table("64qam"))
ARQ = Harq(combining="arq", max_tries=4)
CHASE = Harq(combining="chase", max_tries=4)
INCREMENTAL = Harq(combining="incremental", max_tries=4)


# Conformance row 18: p = 0.3 and M = 4 leave 0.0081 and need 1.417 tries
def test_arq_residual_loss_and_transmissions_follow_the_closed_forms():
    assert arq_residual(0.3, 4) == pytest.approx(0.0081)
    assert arq_mean_tries(0.3, 4) == pytest.approx(1.417)
    assert arq_mean_tries(np.array([0.0, 1.0]), 4).tolist() == [1.0, 4.0]
    uniform = stream(0, "arq").random((1_000_000, 4))
    tries, is_decoded_at_all = ARQ.tries(np.full((1, 4), 0.3), uniform)
    assert 1.0 - is_decoded_at_all.mean() == pytest.approx(0.0081, rel=0.05)
    assert tries.mean() == pytest.approx(1.417, rel=0.005)


def test_chase_combining_adds_snrs():
    combined_db = CHASE.combined_db(np.array([0.0, 0.0, 10 * np.log10(2.0), 6.0]), 2)
    assert combined_db[:3] == pytest.approx([0.0, 3.0103, 6.0206], abs=1e-4)


def test_incremental_redundancy_adds_information():
    levels_db = np.array([-6.0, -4.0, -5.0, -6.0])
    combined_db = INCREMENTAL.combined_db(levels_db, 4)
    total = np.cumsum(bit_information(4, levels_db))
    assert bit_information(4, combined_db) == pytest.approx(total, rel=1e-9)


@given(
    levels_db=arrays(np.float64, 4, elements=st.floats(-20, 15)),
    modulation_order=st.sampled_from((2, 4, 6, 8)),
)
def test_no_try_ever_hurts_and_more_redundancy_beats_repetition(levels_db, modulation_order):
    alone = ARQ.combined_db(levels_db, modulation_order)
    chase = CHASE.combined_db(levels_db, modulation_order)
    new = INCREMENTAL.combined_db(levels_db, modulation_order)
    assert alone is levels_db
    assert (np.diff(chase) >= 0.0).all()
    assert (np.diff(new) >= 0.0).all()
    assert chase[0] == pytest.approx(levels_db[0])
    assert new[0] == levels_db[0]
    is_certain = bit_information(modulation_order, chase) > 0.999
    assert ((new >= chase - 0.05) | is_certain).all()


def test_users_of_different_constellations_are_combined_at_once():
    levels_db = stream(0, "tries").normal(0.0, 3.0, size=(6, 4))
    orders = np.array([2, 4, 6, 2, 4, 6])
    together = INCREMENTAL.combined_db(levels_db, orders)
    for user, order in enumerate(orders):
        assert np.array_equal(together[user], INCREMENTAL.combined_db(levels_db[user], order))


def test_a_combined_block_has_one_margin():
    snr_db = np.full((200_000, 4), float(LAW.s50_db_I[9]) - 4.0)
    error_rate = LAW.code_block(9, CHASE.combined_db(snr_db, 2), 1000.0)
    tries, is_decoded_at_all = CHASE.tries(error_rate, stream(0, "chase").random((200_000, 4)))
    for done in (1, 2, 3):
        undecoded = np.mean((tries > done) | ~is_decoded_at_all)
        assert undecoded == pytest.approx(error_rate[0, done - 1], abs=0.003)


def test_combining_needs_fewer_transmissions_than_plain_arq():
    snr_db = np.full((2000, 4), float(LAW.s50_db_I[9]) - 2.0)
    uniform = stream(0, "tries").random((2000, 4))
    delivered = {}
    for combining in COMBINING:
        harq = Harq(combining=combining, max_tries=1 if combining == "none" else 4)
        levels_db = snr_db[:, : harq.max_tries]
        error_rate = LAW.code_block(9, harq.combined_db(levels_db, 2), 1000.0)
        delivered[combining] = float(harq.tries(error_rate, uniform[:, : harq.max_tries])[1].mean())
    assert delivered["none"] <= delivered["arq"] < 0.01
    assert delivered["chase"] == delivered["incremental"] == 1.0


def test_every_try_but_the_first_waits_a_round_trip():
    assert Harq(combining="chase", round_trip_s=0.008).wait_s(np.array([1, 2, 4])) == pytest.approx(
        [0, 0.008, 0.024]
    )


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (
            lambda: Harq(combining="magic"),
            "combining must be one of none, arq, chase, incremental, got 'magic'",
        ),
        (lambda: Harq(combining="arq", max_tries=0), "max_tries must be a whole number of at least 1, got 0"),
        (lambda: Harq(combining="none", max_tries=4), "max_tries must be 1 where combining is none, got 4"),
        (lambda: Harq(combining="arq", round_trip_s=-1.0), "round_trip_s must be at least 0, got -1.0"),
        (
            lambda: ARQ.tries(np.zeros((1, 3)), np.zeros((1, 3))),
            "error_rate_M must have a last axis of 4 tries, got 3",
        ),
        (lambda: arq_residual(1.1, 4), r"error_rate must lie in \[0, 1\], got 1.1"),
        (lambda: arq_mean_tries(0.5, 0), "max_tries must be a whole number of at least 1, got 0"),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
