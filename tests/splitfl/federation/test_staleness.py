"""Old work counts as the closed form says, and work that is not old as in a synchronous round."""

import pytest
import torch
from torch import Tensor

from splitfl.config import FederationConfig
from splitfl.core.errors import ConfigError, WireError
from splitfl.core.messages import Adapter
from splitfl.federation.averager import Averager, Start
from splitfl.federation.staleness import most_rounds, uploads_a_version
from splitfl.setup.experiment_file import parse

chance = torch.Generator().manual_seed(5)
FIRST, *WORK = (torch.randn(4, 3, generator=chance) for _ in range(4))


def averager(schedule: str, clients: int = 3, **settings: float) -> Averager:
    federation = FederationConfig(
        clients=clients,
        aggregator="mean",
        schedule=schedule,
        **settings,  # type: ignore[arg-type]
    )
    return Averager(federation, Start(tensors={"x": FIRST.clone()}))


def sent(value: Tensor, version: int, samples: int = 8) -> Adapter:
    return Adapter(version=version, tensors={"x": value}, samples=samples)


def test_a_buffer_of_work_from_the_newest_version_is_the_synchronous_mean_to_the_last_bit() -> None:
    plain, buffered = averager("synchronous"), averager("buffered")
    for version, shift in enumerate((0.0, 0.3, -1.7)):
        for one in (plain, buffered):
            for client, value in enumerate(WORK):
                one.receive(sent(value + shift, version, samples=3 + client))
            one.end_round()
        assert torch.equal(plain.tensors["x"], buffered.tensors["x"])


@pytest.mark.parametrize(("power", "weight"), [(0.5, 3.0**-0.5), (0.0, 1.0), (2.0, 1 / 9)])
def test_old_work_counts_less_by_the_power_of_its_age(power: float, weight: float) -> None:
    one = averager("buffered", staleness_power=power)
    for version, value in enumerate(WORK[:2]):
        one.receive(sent(value, version))
        one.end_round()
    late = sent(WORK[2], 0)
    assert one.staleness(late) == 2
    one.receive(late)
    one.end_round()
    expected = WORK[1].double() + weight * (WORK[2].double() - FIRST.double())
    torch.testing.assert_close(one.tensors["x"], expected.float(), rtol=0, atol=1e-6)


def test_updates_beyond_the_maximum_staleness_are_dropped_and_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, strict = averager("buffered"), averager("buffered", max_staleness=1)
    for each in (one, strict):
        for version, value in enumerate(WORK[:2]):
            each.receive(sent(value, version))
            each.end_round()
    strict.receive(sent(WORK[2], 1))
    strict.receive(sent(WORK[0], 0))
    one.receive(sent(WORK[2], 1))
    for each in (one, strict):
        each.end_round()
    assert torch.equal(one.tensors["x"], strict.tensors["x"])
    assert "2 versions old: federation.max_staleness is 1" in caplog.text


def test_a_buffer_is_the_weighted_mean_of_its_updates() -> None:
    one = averager("buffered")
    one.receive(sent(WORK[0], 0))
    one.end_round()
    one.receive(sent(WORK[1], 1, samples=6))
    one.receive(sent(WORK[2], 0, samples=2))
    one.end_round()
    aged = WORK[0].double() + 2**-0.5 * (WORK[2].double() - FIRST.double())
    expected = (6 * WORK[1].double() + 2 * aged) / 8
    torch.testing.assert_close(one.tensors["x"], expected.float(), rtol=0, atol=1e-6)


def test_anarchic_work_is_taken_over_in_part() -> None:
    one, x = averager("anarchic", mixing=0.25), FIRST.double()
    for version, value in ((0, WORK[0]), (0, WORK[1]), (2, WORK[2])):
        base = FIRST.double() if version == 0 else one.tensors["x"].double()
        age = one.staleness(sent(value, version))
        one.receive(sent(value, version))
        one.end_round()
        x = x + 0.25 * (1 + age) ** -0.5 * (value.double() - base)
        torch.testing.assert_close(one.tensors["x"], x.float(), rtol=0, atol=1e-6)


def test_versions_without_holders_are_freed_and_others_are_not() -> None:
    one = averager("buffered", clients=2)
    for version, value in enumerate(WORK):
        one.receive(sent(value, version))
        one.end_round()
        one.since(version, client=0)
    one.receive(sent(WORK[0], 0))  # the other client has not been heard of since the start
    one.end_round()
    assert one.since(3, client=0) is not None
    with pytest.raises(WireError, match=r"version of an update must lie in \[0, 4\], got 9"):
        one.staleness(sent(WORK[0], 9))


def test_a_client_has_all_rounds_at_most() -> None:
    own = FederationConfig(clients=3, rounds=4, schedule="buffered", buffer=2)
    assert (most_rounds(own), uploads_a_version(own)) == (12, 2)
    together = FederationConfig(clients=3, rounds=4)
    assert most_rounds(together) == 4


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ('schedule="bufered"', "did you mean 'buffered'"),
        ("deadline_s=-1", "deadline_s must be at least 0.0, got -1.0"),
        ("client_flops=[1e9]", "a value for each of the 3 clients, got 1"),
        ("client_flops=[1e9,0,1]", "client_flops must be above 0.0, got 0.0"),
        ('client_flops=["fast"]', r"client_flops must be a list of numbers, got \['fast'\]"),
        ("client_steps=[1,0,1]", "client_steps must be at least 1, got 0"),
    ],
)
def test_settings_of_a_schedule_are_checked(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse("", [f"federation.{override}"])
