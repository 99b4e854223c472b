"""AWS's zone names are asked for once; a failure is not asked for again at every tick."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from arbiter.errors import ArbiterError, LaunchRejected
from arbiter.executors.aws_zones import AGAIN_S, AwsZones, zone_id, zone_name


class Account:
    """An account that answers, or not, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 0.0
        self.error: ArbiterError | None = None

    def zones(self) -> AwsZones:
        return AwsZones(self._ask, lambda: self.now)

    def _ask(self, region: str) -> Mapping[str, str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {"euw1-az3": f"{region}a"}


@pytest.fixture
def account() -> Account:
    return Account()


def test_names_are_asked_for_once_in_each_region(account: Account) -> None:
    zones = account.zones()
    for _ in range(3):
        assert zone_name(zones, "eu-west-1", "euw1-az3") == "eu-west-1a"
        assert zone_id(zones, "eu-west-1", "eu-west-1a") == "euw1-az3"
    assert zone_name(zones, "eu-north-1", "euw1-az3") == "eu-north-1a"
    assert account.asked == 2


@pytest.mark.parametrize(
    "error",
    [ArbiterError("AWS cannot be asked"), LaunchRejected("AWS does not tell", "check the rights")],
)
def test_a_failure_is_remembered_and_told_alike(account: Account, error: ArbiterError) -> None:
    account.error = error
    zones = account.zones()
    for _ in range(30):
        with pytest.raises(type(error)) as told:
            zones.of("eu-west-1")
        assert str(told.value) == str(error)
        assert zone_id(zones, "eu-west-1", "eu-west-1a") is None
        account.now += AGAIN_S / 100
    assert account.asked == 1
    with pytest.raises(type(error)):
        zones.of("eu-north-1")
    assert account.asked == 2, "another region is another question"


def test_after_a_while_it_is_asked_again(account: Account) -> None:
    account.error = ArbiterError("AWS cannot be asked")
    zones = account.zones()
    with pytest.raises(ArbiterError):
        zones.of("eu-west-1")
    account.error, account.now = None, AGAIN_S
    assert zones.of("eu-west-1") == {"euw1-az3": "eu-west-1a"}
    account.error = ArbiterError("AWS cannot be asked")
    assert zones.of("eu-west-1") == {"euw1-az3": "eu-west-1a"}
