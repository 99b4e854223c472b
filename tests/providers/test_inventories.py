"""What each cloud is asked for its machines, and to end one; by stand-ins on loopback."""

from __future__ import annotations

import json

import pytest
from loopback import Answer, LoopbackServer, Request, as_json
from stand_in_aws import StandInAws, refusal

from arbiter import registry
from arbiter.errors import BadAnswer, BadCredentials, MissingCredentials, ProviderError
from arbiter.inventory import Inventory, Machine
from arbiter.money import Price
from arbiter.provider import ProviderSettings

OWNER = "0a1b2c3d"
CLUSTER = f"arb-{OWNER}-chat-1"
NAME = f"{CLUSTER}-ab12cd34-head"
KEYS = {
    "lambda": {"LAMBDA_API_KEY": "k"},
    "runpod": {"RUNPOD_API_KEY": "k"},
    "verda": {"VERDA_CLIENT_ID": "c", "VERDA_CLIENT_SECRET": "s"},
    "gcp": {"GOOGLE_OAUTH_ACCESS_TOKEN": "t", "GOOGLE_CLOUD_PROJECT": "mine"},
    "azure": {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"},
}
AZURE_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/n"
LISTS: dict[str, object] = {
    "lambda": {
        "data": [
            {
                "id": "l1",
                "name": NAME,
                "status": "active",
                "region": {"name": "europe-central-1"},
                "instance_type": {"name": "gpu_1x_a10", "price_cents_per_hour": 75},
            },
            {"id": "l2", "name": NAME, "status": "terminating", "region": {"name": "us-east-1"}},
            {"id": "l3", "name": "mine", "status": "active", "region": {"name": "us-east-1"}},
        ]
    },
    "runpod": [
        {
            "id": "p1",
            "name": NAME,
            "desiredStatus": "EXITED",
            "machine": {"dataCenterId": "EU-NL-1"},
            "costPerHr": "10.24",
        },
        {"id": "p2", "name": NAME, "desiredStatus": "TERMINATED"},
        {"id": "p3", "name": None, "desiredStatus": "RUNNING"},
    ],
    "verda": [
        {"id": "v1", "hostname": NAME, "status": "offline", "location": "FIN-02"},
        {"id": "v2", "hostname": "other", "status": "running", "location": "FIN-02"},
    ],
    "gcp": {
        "kind": "compute#instanceAggregatedList",
        "items": {
            "zones/europe-west4-a": {
                "instances": [
                    {
                        "name": "n",
                        "zone": "https://www.googleapis.com/compute/v1/projects/mine/zones/europe-west4-a",
                        "status": "RUNNING",
                        "labels": {"arbiter-owner": OWNER, "arbiter-cluster": CLUSTER},
                    }
                ]
            },
            "zones/us-east1-b": {"warning": {"code": "NO_RESULTS_ON_PAGE"}},
        },
    },
    "azure": {
        "data": [
            {
                "id": AZURE_ID,
                "name": "n",
                "location": "westeurope",
                "zone": "1",
                "owner": OWNER,
                "cluster": CLUSTER,
            }
        ]
    },
}
FOUND = {
    "lambda": Machine("lambda", "l1", "europe-central-1", NAME, price=Price.of("0.75")),
    "runpod": Machine("runpod", "p1", "EU-NL-1", NAME, price=Price.of("10.24")),
    "verda": Machine("verda", "v1", "FIN-02", NAME),
    "gcp": Machine("gcp", "n", "europe-west4", "n", "europe-west4-a", OWNER, CLUSTER),
    "azure": Machine("azure", AZURE_ID, "westeurope", "n", "1", OWNER, CLUSTER),
}
ENDS = {
    "lambda": ("POST", "/api/v1/instance-operations/terminate", {"instance_ids": ["l1"]}),
    "runpod": ("DELETE", "/v1/pods/p1", None),
    "verda": ("PUT", "/v1/instances", {"id": "v1", "action": "delete"}),
    "gcp": ("DELETE", "/compute/v1/projects/mine/zones/europe-west4-a/instances/n", None),
    "azure": ("DELETE", AZURE_ID, None),
}


def inventory(name: str, server: LoopbackServer) -> Inventory:
    settings = ProviderSettings(
        endpoint=server.url, max_attempts=1, options={"rest_endpoint": server.url}
    )
    found = registry.load_inventory(name, settings)
    assert found is not None
    return found


def answers(name: str, *, ending: int = 200):  # type: ignore[no-untyped-def]
    """What the cloud says: a token, its list, and to an ending that status."""

    def answer(request: Request) -> Answer:
        if "oauth2" in request.path:
            return as_json({"access_token": "t", "token_type": "Bearer", "expires_in": 3600})
        method, path, _ = ENDS[name]
        if (request.method, request.path) == (method, path):
            return Answer(b"{}", ending)
        return as_json(LISTS[name])

    return answer


@pytest.fixture(params=sorted(KEYS))
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    for variable, value in KEYS[name].items():
        monkeypatch.setenv(variable, value)
    return name


def test_our_machines_are_listed_and_no_others(cloud: str, server: LoopbackServer) -> None:
    server.answer = answers(cloud)
    assert list(inventory(cloud, server).machines(OWNER, ())) == [FOUND[cloud]]


def test_a_machine_is_ended_by_its_id(cloud: str, server: LoopbackServer) -> None:
    server.answer = answers(cloud)
    inventory(cloud, server).end(FOUND[cloud])
    method, path, body = ENDS[cloud]
    asked = server.requests[-1]
    assert (asked.method, asked.path) == (method, path)
    assert (json.loads(asked.body) if asked.body else None) == body


def test_one_that_is_gone_already_is_success(cloud: str, server: LoopbackServer) -> None:
    server.answer = answers(cloud, ending=404)
    inventory(cloud, server).end(FOUND[cloud])


def test_what_is_refused_is_an_error_and_not_an_empty_list(
    cloud: str, server: LoopbackServer
) -> None:
    server.answer = lambda request: (
        as_json({"access_token": "t"}) if "oauth2" in request.path else Answer(b"no", 403)
    )
    with pytest.raises(BadCredentials):
        inventory(cloud, server).machines(OWNER, ())
    with pytest.raises(ProviderError):
        inventory(cloud, server).end(FOUND[cloud])


@pytest.mark.parametrize("body", [b"<html>", b'{"data": 1}', b"null"])
def test_rubbish_is_an_error_and_not_an_empty_list(
    cloud: str, server: LoopbackServer, body: bytes
) -> None:
    server.answer = lambda request: (
        as_json({"access_token": "t"}) if "oauth2" in request.path else Answer(body)
    )
    with pytest.raises(BadAnswer):
        inventory(cloud, server).machines(OWNER, ())


@pytest.mark.parametrize("name", ["lambda", "runpod", "verda", "azure"])
def test_without_credentials_it_says_which_are_missing(
    name: str, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in KEYS[name]:
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(MissingCredentials, match=next(iter(KEYS[name]))):
        inventory(name, server).machines(OWNER, ())


def test_a_provider_whose_machines_cannot_be_listed_has_none() -> None:
    assert registry.load_inventory("seeweb", ProviderSettings()) is None


# --- AWS ------------------------------------------------------------------------------------


@pytest.fixture
def aws(server: LoopbackServer, aws_account: None) -> tuple[Inventory, StandInAws]:
    return inventory("aws", server), StandInAws(server)


def reservation(instance: str, **tags: str) -> dict[str, object]:
    tagged = [{"key": key, "value": value} for key, value in tags.items()]
    return {
        "instancesSet": [
            {
                "instanceId": instance,
                "placement": {"availabilityZone": "eu-north-1a"},
                "tagSet": tagged,
            }
        ]
    }


def test_aws_is_asked_by_tag_in_every_region_where_we_launched(
    aws: tuple[Inventory, StandInAws],
) -> None:
    inventory, stand_in = aws
    tags = {"arbiter-owner": OWNER, "arbiter-cluster": CLUSTER, "Name": NAME}
    stand_in.reply("DescribeInstances", [reservation("i-1", **tags)], "eu-north-1")
    stand_in.reply("DescribeInstances", [], "eu-west-1")
    found = inventory.machines(OWNER, {"eu-north-1", "eu-west-1"})
    assert found == [Machine("aws", "i-1", "eu-north-1", NAME, "eu-north-1a", OWNER, CLUSTER)]
    (_, form), (_, second) = stand_in.asked("DescribeInstances")
    assert form["Filter.1.Name"] == "tag:arbiter-owner"
    assert form["Filter.1.Value.1"] == OWNER
    assert second == form


def test_aws_ends_a_machine_and_one_that_is_gone(aws: tuple[Inventory, StandInAws]) -> None:
    inventory, stand_in = aws
    stand_in.reply("TerminateInstances", [{"instanceId": "i-1"}])
    inventory.end(Machine("aws", "i-1", "eu-north-1"))
    ((region, form),) = stand_in.asked("TerminateInstances")
    assert (region, form["InstanceId.1"]) == ("eu-north-1", "i-1")
    stand_in.reply("TerminateInstances", refusal("InvalidInstanceID.NotFound", 400))
    inventory.end(Machine("aws", "i-1", "eu-north-1"))
    stand_in.reply("TerminateInstances", refusal("UnauthorizedOperation"))
    with pytest.raises(BadCredentials):
        inventory.end(Machine("aws", "i-1", "eu-north-1"))


def test_aws_in_one_region_silent_is_an_error(aws: tuple[Inventory, StandInAws]) -> None:
    inventory, stand_in = aws
    stand_in.reply("DescribeInstances", [], "eu-north-1")
    stand_in.reply("DescribeInstances", refusal("UnauthorizedOperation"), "eu-west-1")
    with pytest.raises(BadCredentials):
        inventory.machines(OWNER, {"eu-north-1", "eu-west-1"})


def test_aws_without_credentials(server: LoopbackServer, no_aws_account: None) -> None:
    with pytest.raises(MissingCredentials):
        inventory("aws", server).machines(OWNER, {"eu-north-1"})
