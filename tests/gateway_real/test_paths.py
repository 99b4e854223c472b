"""What is asked at which path, and what is let through."""

from __future__ import annotations

import asyncio

import pytest
from conftest import Setup
from gateway_client import KEY, ask, clients, question, upstream_state

from arbiter.gateway.base import Backend
from arbiter.gateway.envoy import EnvoyGateway

pytestmark = pytest.mark.anyio


async def test_services_have_paths_of_their_own(setup: Setup, gateway: EnvoyGateway) -> None:
    for name in ("a", "b"):
        setup.upstream(name)
        gateway.serve(name, setup.backends(name))
    async with clients() as client:
        for name in ("a", "b"):
            answer = await client.post(f"{setup.url}/{name}/v1/embeddings?x=1", content=b"{}")
            assert answer.json() == {"worker": name, "path": "/v1/embeddings?x=1", "length": 2}
        for path in ("/c/v1/models", "/a/metrics", "/a/v1x/models", "/a", "/", "/a/v2/models"):
            assert (await client.get(setup.url + path)).status_code == 404, path
        gateway.forget("b")
        assert (await client.get(f"{setup.url}/b/v1/models")).status_code == 404
        assert (await client.get(f"{setup.url}/a/v1/models")).status_code == 200


@pytest.mark.parametrize(
    "path", ["/svc/v1/../metrics", "/svc/v1/%2e%2e/metrics", "/svc/v1//../../metrics"]
)
async def test_no_path_leads_out_of_v1(setup: Setup, gateway: EnvoyGateway, path: str) -> None:
    one = setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    reader, writer = await asyncio.open_connection("127.0.0.1", setup.port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n".encode())
    status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert b" 404 " in status
    assert set(upstream_state(one.port)["paths"]) <= {"/health", "/ctl"}


async def test_the_only_service_is_also_at_plain_v1(setup: Setup, gateway: EnvoyGateway) -> None:
    setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    async with clients() as client:
        answer = await client.get(f"{setup.url}/v1/models")
        assert answer.json()["data"][0]["id"] == "tiny"
        assert (await ask(client, f"{setup.url}/v1")).json()["worker"] == "a"


async def test_of_several_services_the_body_names_the_model(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    for name, model in (("a", "llama"), ("b", "qwen"), ("c", "twice"), ("d", "twice")):
        one = setup.upstream(name)
        gateway.serve(name, [Backend(name, one.url, None, model)])
    async with clients() as client:
        url = f"{setup.url}/v1/chat/completions"
        for name, model in (("a", "llama"), ("b", "qwen")):
            answer = await client.post(url, json={"model": model, "pad": "x" * 3_000_000})
            assert answer.json()["worker"] == name
        for model in ("twice", "unknown"):
            answer = await client.post(url, json={"model": model})
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "model_not_found"
        assert (await client.post(url, content=b"rubbish")).status_code == 404
        listed = (await client.get(f"{setup.url}/v1/models")).json()["data"]
    assert [one["id"] for one in listed] == ["llama", "qwen"]


async def test_a_body_beyond_all_bounds_is_refused_in_the_clients_words(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    """Only where the body must be read for its model; elsewhere it is sent on, once."""
    for name in ("a", "b"):
        one = setup.upstream(name)
        gateway.serve(name, [Backend(name, one.url, None, name)])
    body = b'{"model": "a", "pad": "' + b"x" * (65 << 20) + b'"}'
    headers = {"content-type": "application/json"}
    async with clients() as client:
        path = "/v1/chat/completions"
        answer = await client.post(setup.url + path, content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_long")
        answer = await client.post(f"{setup.url}/a{path}", content=body, headers=headers)
        assert (answer.status_code, answer.json()["length"]) == (200, len(body))


async def test_a_client_cannot_change_the_rules(setup: Setup, gateway: EnvoyGateway) -> None:
    """Envoy reads limits from headers of clients that it trusts. It trusts none."""
    setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    headers = {"x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-max-retries": "0"}
    async with clients() as client:
        answer = await client.post(
            f"{gateway.endpoint('svc')}/chat/completions", json=question(first=0.3), headers=headers
        )
    assert answer.status_code == 200
