"""`arbiter` as typed, in processes of its own, against price APIs on loopback."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from loopback import RECORDINGS, Answer, LoopbackServer, Request, as_json
from stand_in_aws import StandInAws, refusal

from arbiter.testing import NOWHERE

SINCE = "2020-01-01T00:00:00Z"
SANE = ("westeurope", "swedencentral", "francecentral", "northeurope", "uksouth", "norwayeast")
OUTSIDE = {"uksouth": "GB", "switzerlandnorth": "CH", "norwayeast": "NO", "eu-west-2": "GB"}

Arbiter = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def arbiter(
    tmp_path: Path, server: LoopbackServer, aws_account: None, monkeypatch: pytest.MonkeyPatch
) -> Arbiter:
    """Runs `arbiter` in a folder of its own; both clouds are the loopback server."""
    for name in ("AZURE", "AWS"):
        monkeypatch.setenv(f"ARBITER_PROVIDERS__{name}__ENDPOINT", server.url)
        monkeypatch.setenv(f"ARBITER_PROVIDERS__{name}__MAX_ATTEMPTS", "1")
    monkeypatch.setenv("ARBITER_PROVIDERS__AZURE__REGIONS", ",".join([*SANE, "spaincentral"]))
    monkeypatch.setenv("ARBITER_PROVIDERS__AWS__REGIONS", "eu-central-1,eu-west-2")
    monkeypatch.setenv("ARBITER_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "arbiter", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def row(region: str, price: Any = 7.0, **changes: Any) -> dict[str, Any]:
    """A row of Azure's price list: one H100 NVL, on demand."""
    sku = "Standard_NC40ads_H100_v5"
    known = {
        "currencyCode": "USD", "tierMinimumUnits": 0.0, "retailPrice": price, "unitPrice": price,
        "armRegionName": region, "effectiveStartDate": SINCE, "meterName": "NC40adsH100v5",
        "productName": "Virtual Machines NCadsH100v5 Series", "skuName": "NC40adsH100v5",
        "serviceName": "Virtual Machines", "unitOfMeasure": "1 Hour", "type": "Consumption",
        "isPrimaryMeterRegion": True, "armSkuName": sku,
    }  # fmt: skip
    return {**known, **changes}


def azure(rows: list[dict[str, Any]]) -> Callable[[Request], Answer]:
    """Azure's price API, which answers by the region in the filter."""

    def answer(request: Request) -> Answer:
        asked = request.query.get("$filter", "")
        found = [one for one in rows if f"'{one['armRegionName']}'" in asked]
        return as_json({"Items": found, "NextPageLink": None, "Count": len(found)})

    return answer


def aws(server: LoopbackServer, *regions: str) -> Callable[[Request], Answer]:
    """EC2 and its price list, with a machine of eight A100 in each of these regions."""
    stand_in = StandInAws(server)
    types = json.loads((RECORDINGS / "aws" / "instance-types.json").read_bytes())
    stand_in.reply("DescribeInstanceTypes", types["InstanceTypes"])
    for region in regions:
        spot = {
            "AvailabilityZone": f"{region}a",
            "AvailabilityZoneId": f"{region}-az1",
            "InstanceType": "p4de.24xlarge",
            "ProductDescription": "Linux/UNIX",
            "SpotPrice": "9.100000",
            "Timestamp": datetime.now(UTC).isoformat(),
        }
        stand_in.reply("DescribeSpotPriceHistory", [spot], region)
    return server.answer


def both(server: LoopbackServer, rows: list[dict[str, Any]], *regions: str) -> None:
    """One server for both clouds."""
    clouds = {True: azure(rows), False: aws(server, *regions)}
    server.answer = lambda request: clouds[request.path.startswith("/api/retail")](request)


def polled(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Provider -> its row of `arbiter poll --json`."""
    return {one["provider"]: one for one in json.loads(done.stdout)}


def one_line(done: subprocess.CompletedProcess[str], *said: str) -> None:
    """The command failed with one line that says all of this."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for text in said:
        assert text in done.stderr


def test_names_that_sound_european_are_refused_by_their_country(
    arbiter: Arbiter, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE", "AWS"):
        monkeypatch.delenv(f"ARBITER_PROVIDERS__{name}__REGIONS")
    regions = ["westeurope", "uksouth", "switzerlandnorth", "norwayeast"]
    both(server, [row(region) for region in regions], "eu-west-2", "eu-central-1")
    done = arbiter("poll", "azure", "aws")
    assert (done.returncode, done.stderr) == (0, "")
    done = arbiter("offers", "llama70b-awq", "--sovereignty", "eu", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["degraded"] == []
    listed = {one["region"] for one in answer["offers"]}
    # SkyPilot can launch on both clouds, so nothing else stands between these two and the list.
    assert {"westeurope", "eu-central-1"} <= listed
    assert not listed & set(OUTSIDE)
    for region, country in OUTSIDE.items():
        refused = [one for one in answer["refused"] if one["region"] == region]
        assert refused
        for one in refused:
            assert one["rule"] == "country_outside_eu"
            assert f"in {country}, outside the EU" in one["reason"]


def test_poll_gives_a_row_per_provider(arbiter: Arbiter, server: LoopbackServer) -> None:
    both(server, [row("westeurope")], "eu-central-1")
    done = arbiter("poll", "azure", "aws")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["PROVIDER", "aws", "azure"]
    assert done.returncode == 0
    rows = polled(arbiter("poll", "azure", "aws", "--json"))
    assert {name: (one["state"], one["changes"]) for name, one in rows.items()} == {
        "aws": ("ok", 0),
        "azure": ("ok", 0),
    }


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(b"slow down", 429, {"Retry-After": "1"}), "429"),
        (Answer(b"no", 503), "503"),
        (Answer(json.dumps({"Items": [row("westeurope")]}).encode()[:200]), "JSON"),
        (Answer(b"<html>login</html>"), "JSON"),
    ],
)
def test_a_provider_that_fails_says_why_and_harms_no_other(
    arbiter: Arbiter, server: LoopbackServer, answer: Answer, reason: str
) -> None:
    good = aws(server, "eu-central-1")
    server.answer = lambda request: (
        answer if request.path.startswith("/api/retail") else good(request)
    )
    done = arbiter("poll", "azure", "aws", "--json")
    assert done.returncode == 0
    rows = polled(done)
    assert rows["azure"]["state"] == "failed"
    assert reason in rows["azure"]["reasons"][0]
    assert "\n" not in rows["azure"]["reasons"][0]
    assert (rows["aws"]["state"], rows["aws"]["offers"]) == ("ok", 1)
    answered = json.loads(arbiter("offers", "llama70b-awq", "--json").stdout)
    assert [one["provider"] for one in answered["degraded"]] == ["azure"]
    assert {one["provider"] for one in answered["offers"]} == {"aws"}


def test_a_failed_poll_leaves_the_prices_of_before(
    arbiter: Arbiter, server: LoopbackServer
) -> None:
    server.answer = azure([row("westeurope")])
    assert arbiter("poll", "azure").returncode == 0
    server.answer = lambda _: Answer(b"no", 503)
    assert arbiter("poll", "azure").returncode == 1
    answer = json.loads(arbiter("offers", "--json").stdout)
    assert [one["region"] for one in answer["offers"]] == ["westeurope"]
    assert [one["provider"] for one in answer["degraded"]] == ["azure"]


def test_a_dead_endpoint_is_a_reason_and_exit_1(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBITER_PROVIDERS__AZURE__ENDPOINT", NOWHERE)
    done = arbiter("poll", "azure")
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "127.0.0.1:9" in done.stdout
    assert "Traceback" not in done.stderr


def test_refused_credentials_are_a_reason_without_the_secret(
    arbiter: Arbiter, server: LoopbackServer
) -> None:
    stand_in = StandInAws(server)
    for action in ("DescribeInstanceTypes", "DescribeSpotPriceHistory", "GetProducts"):
        stand_in.reply(action, refusal("AuthFailure", 401))
    done = arbiter("poll", "aws")
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "not-a-real-secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_credentials_aws_is_asked_in_public(
    arbiter: Arbiter, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    server.answer = lambda _: Answer(b"gone", 404)
    done = arbiter("poll", "aws")
    assert done.returncode == 1
    assert "/spot.json answered 404" in done.stdout
    assert "Traceback" not in done.stderr


def test_absurd_prices_are_reported_and_never_stored(
    arbiter: Arbiter, server: LoopbackServer
) -> None:
    skus = ("Standard_NC40ads_H100_v5", "Standard_NC80adis_H100_v5", "Standard_NC24ads_A100_v4")
    absurd: list[Any] = [0, -3.5, float("nan"), 70_000.0]  # the last 10,000 times the others
    rows = [row(region) for region in SANE]
    rows += [
        row("spaincentral", price, armSkuName=sku, type="Consumption")
        for price, sku in zip(absurd, (*skus, skus[0]), strict=True)
    ]
    server.answer = azure(rows)
    done = arbiter("poll", "azure")
    assert done.returncode == 0
    for reason in (
        "price is 0",
        "price is negative",
        "price is not a number",
        "far from its peers",
    ):
        assert f"1 x {reason}" in done.stderr
    answer = json.loads(arbiter("offers", "--sovereignty", "any", "--json").stdout)
    regions = {offer["region"] for offer in answer["offers"] + answer["refused"]}
    assert regions == set(SANE)


def test_an_unknown_provider_polls_nothing(arbiter: Arbiter, tmp_path: Path) -> None:
    one_line(arbiter("poll", "azur"), "no provider is called 'azur'", "did you mean azure?")
    assert not (tmp_path / "data" / "arbiter.db").exists()


def test_nothing_stored_yet_names_the_next_step(arbiter: Arbiter) -> None:
    one_line(arbiter("offers", "llama8b"), "no prices are stored yet", "run: arbiter poll")


def test_an_unknown_model_names_the_nearest(arbiter: Arbiter) -> None:
    one_line(arbiter("offers", "lama70b-awq"), "there is no profile 'lama70b-awq'", "llama70b-awq")


def test_an_unknown_level_names_the_levels(arbiter: Arbiter) -> None:
    one_line(
        arbiter("offers", "llama8b", "--sovereignty", "europe"),
        "there is no sovereignty level 'europe'",
        "eu-certified",
    )


def test_an_unknown_gpu_names_the_nearest(arbiter: Arbiter, server: LoopbackServer) -> None:
    server.answer = azure([row("westeurope")])
    arbiter("poll", "azure")
    one_line(arbiter("offers", "--gpu", "H1O0"), "no GPU is called 'H1O0'", "H100")


def test_a_malformed_profile_lists_every_problem_with_its_line(
    arbiter: Arbiter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBITER_PROFILES_DIR", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("name: mine\nlayers: 3\ndescription: [1]\n")
    done = arbiter("offers", "mine")
    assert done.returncode == 1
    assert "mine.yaml:2: layers: is not known" in done.stderr
    assert "mine.yaml:3: description" in done.stderr
    assert "Traceback" not in done.stderr


def test_malformed_settings_list_every_problem_with_its_line(
    arbiter: Arbiter, tmp_path: Path
) -> None:
    (tmp_path / "arbiter.toml").write_text(
        'executor = "cloud"\n[policy]\nspt = true\n[daemon]\nport = "x"\n'
    )
    done = arbiter("offers")
    assert done.returncode == 1
    assert "arbiter.toml:3" in done.stderr
    assert "spt" in done.stderr
    assert "arbiter.toml:5" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_that_are_not_toml_are_one_line(arbiter: Arbiter, tmp_path: Path) -> None:
    (tmp_path / "arbiter.toml").write_text("executor = \n")
    one_line(arbiter("offers"), "arbiter.toml:1", "is not TOML")


def test_a_database_of_a_newer_arbiter_is_left_alone(
    arbiter: Arbiter, server: LoopbackServer, tmp_path: Path
) -> None:
    server.answer = azure([row("westeurope")])
    arbiter("poll", "azure")
    connection = sqlite3.connect(tmp_path / "data" / "arbiter.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    for command in (["offers"], ["poll", "azure"], ["status"], ["plan", "llama8b"]):
        one_line(arbiter(*command), "schema 9999", "newer", "ARBITER_DATABASE_URL")


def test_a_file_that_is_no_database_is_one_line(arbiter: Arbiter, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "arbiter.db").write_text("my diary, not a database\n" * 100)
    one_line(arbiter("offers"), "arbiter.db")
    one_line(arbiter("poll", "azure"), "is not a database")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; run as another user")
def test_a_folder_that_cannot_be_written_is_one_line(arbiter: Arbiter, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    one_line(arbiter("poll", "azure"), "cannot be written", "permissions")


def test_a_folder_that_cannot_be_made_is_one_line(arbiter: Arbiter, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file stands where the folder should be")
    one_line(arbiter("poll", "azure"), "cannot make the folder")
