"""Whose key goes where: a client's to the gateway, a replica's to the replica, none to a log."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import httpx
import pytest
from conftest import Setup
from gateway_client import KEY, ask, clients, stream, until

from arbiter.errors import GatewayError
from arbiter.gateway.admin import Admin
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.gateway.process import Run

pytestmark = pytest.mark.anyio

REPLICA_KEY = "key-of-the-replica"


def current(setup: Setup) -> Run:
    return Run(sorted(setup.state.glob("run-*"))[-1])


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"authorization": "Bearer sk-wrong"},
        {"authorization": KEY},
        {"authorization": f"Bearer {KEY} "[:-2]},
        {"authorization": f"Bearer {KEY}x"},
        {"x-api-key": KEY},
    ],
)
async def test_without_a_good_key_nothing_is_let_through(
    setup: Setup, gateway: EnvoyGateway, shown: dict[str, str]
) -> None:
    one = setup.upstream("a", REPLICA_KEY)
    gateway.serve("svc", setup.backends("a"))
    async with clients(None) as client:
        for path in ("/svc/v1/models", "/v1/models", "/svc/v1/chat/completions", "/nothing"):
            answer = await client.post(setup.url + path, headers=shown)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
        told = (await client.get(f"{one.url}/ctl")).json()
    assert set(told["paths"]) <= {"/health", "/ctl"}


async def test_two_keys_in_one_request_are_none(setup: Setup, gateway: EnvoyGateway) -> None:
    setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    twice = [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer other")]
    async with clients(None) as client:
        assert (await client.get(f"{setup.url}/svc/v1/models", headers=twice)).status_code == 401


async def test_the_gateways_own_health_needs_no_key(setup: Setup, gateway: EnvoyGateway) -> None:
    async with clients(None) as client:
        assert (await client.get(f"{setup.url}/health")).status_code == 200


async def test_each_replica_gets_its_own_key_and_no_clients(
    setup: Setup, gateway: EnvoyGateway
) -> None:
    setup.upstream("keyed", REPLICA_KEY)
    setup.upstream("other", "another-key")
    setup.upstream("open")
    gateway.serve("svc", setup.backends("keyed", "other", "open"))
    async with clients() as client:
        for _ in range(60):
            answer = await ask(client, gateway.endpoint("svc"))
            assert answer.status_code == 200
            assert REPLICA_KEY not in str(answer.headers) + answer.text
        for one in setup.upstreams.values():
            shown = (await client.get(f"{one.url}/ctl")).json()["last"]["headers"]
            assert not {name for name in shown if name.startswith("x-envoy")}
            assert "x-forwarded-for" not in shown, "who asks is the gateway's business"
        seen = {
            name: set(
                (await client.get(f"{one.url}/ctl", headers={"authorization": ""})).json()["keys"]
            )
            for name, one in setup.upstreams.items()
        }
    assert seen == {
        "keyed": {f"Bearer {REPLICA_KEY}"},
        "other": {"Bearer another-key"},
        "open": {""},
    }


async def test_a_retry_carries_the_second_replicas_key(setup: Setup, gateway: EnvoyGateway) -> None:
    setup.upstream("keyed", REPLICA_KEY)
    gateway.serve("svc", setup.backends("keyed"))
    async with clients() as client:
        sent = asyncio.create_task(ask(client, gateway.endpoint("svc"), first=1))
        await until(lambda: gateway.active("svc", "keyed") == 1)
        setup.upstream("open")
        await asyncio.to_thread(gateway.serve, "svc", setup.backends("keyed", "open"))
        setup.upstreams["keyed"].kill()
        assert (await sent).json()["worker"] == "open"
        told = (await client.get(f"{setup.upstreams['open'].url}/ctl")).json()
    assert set(told["keys"]) == {""}


async def test_keys_change_without_a_dropped_stream(setup: Setup, gateway: EnvoyGateway) -> None:
    setup.upstream("a", REPLICA_KEY)
    gateway.serve("svc", setup.backends("a"))
    base = gateway.endpoint("svc")
    async with clients() as old, clients("sk-the-next-key") as new:
        live = [asyncio.create_task(stream(old, base, tokens=100, gap=0.02)) for _ in range(16)]
        await until(lambda: gateway.active("svc", "a") == 16)
        assert (await ask(new, base)).status_code == 401
        setup.keys[:] = [KEY, "sk-the-next-key"]
        await asyncio.to_thread(gateway.start)
        assert (await ask(old, base)).status_code == (await ask(new, base)).status_code == 200
        setup.keys[:] = ["sk-the-next-key"]
        await asyncio.to_thread(gateway.start)
        assert (await ask(old, base)).status_code == 401
        assert (await ask(new, base)).status_code == 200
        assert all(one.whole for one in await asyncio.gather(*live))


async def test_no_key_is_shown(setup: Setup, gateway: EnvoyGateway) -> None:
    setup.upstream("a", REPLICA_KEY)
    gateway.serve("svc", setup.backends("a"))
    async with clients() as client:
        await ask(client, gateway.endpoint("svc"))
    run = current(setup)
    # A file that Envoy cannot read is what it would quote in its log.
    routes = setup.state / "conf" / "routes.json"
    whole = routes.read_text()
    assert KEY in whole
    for broken in (whole[:-9], whole.replace('"routes"', '"rootes"')):
        draft = routes.with_name("draft")
        draft.write_text(broken)
        draft.replace(routes)
        await until(lambda: gateway.health().rejected > 0)
    with pytest.raises(GatewayError) as caught:
        gateway.serve("bad", [setup.upstreams["a"].backend()] * 2)
    shown = [
        *(path.read_text() for path in run.path.glob("*") if path.is_file()),
        str(run.admin.stats("")),
        str(gateway.health()),
        str(gateway.counts()),
        str(caught.value),
        repr(setup.backends("a")),
        " ".join(Path(f"/proc/{run.folder.server()}/cmdline").read_text().split("\0")),
        Path(f"/proc/{run.folder.server()}/environ").read_text(),
    ]
    for text in shown:
        assert KEY not in text
        assert REPLICA_KEY not in text


def test_what_holds_keys_is_for_this_user_alone(setup: Setup) -> None:
    before = os.umask(0)
    try:
        gateway = setup.gateway()
        gateway.start()
        one = setup.upstream("a", REPLICA_KEY)
        gateway.serve("svc", [one.backend()])
    finally:
        os.umask(before)
    assert stat.S_IMODE(setup.state.stat().st_mode) == 0o700
    for path in [*setup.state.glob("*"), *(setup.state / "conf").iterdir()]:
        allowed = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == allowed, path
    admin = current(setup).path / "admin.sock"
    assert stat.S_IMODE(admin.stat().st_mode) == 0o600
    assert Admin(admin.parent).ready()
    assert _listening(current(setup)) == {setup.port}, "the administration has no port"


def _listening(run: Run) -> set[int]:
    """Ports on which the process listens, from /proc."""
    inodes = set()
    for entry in Path(f"/proc/{run.folder.server()}/fd").iterdir():
        target = os.readlink(entry)
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                ports.add(int(columns[1].rpartition(":")[2], 16))
    return ports


async def test_a_replica_with_tls_must_prove_its_name(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt-get install openssl")
    for name, subject in (("good", "localhost"), ("bad", "elsewhere.example")):
        _certificate(tmp_path, name, subject)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "both.pem"))
    both = "".join((tmp_path / f"{name}.pem").read_text() for name in ("good", "bad"))
    (tmp_path / "both.pem").write_text(both)
    for name in ("good", "bad"):
        pair = (str(tmp_path / f"{name}.pem"), str(tmp_path / f"{name}.key"))
        setup.upstream(name, REPLICA_KEY, "--tls", *pair)
    gateway = setup.gateway()
    gateway.start()
    gateway.serve("svc", setup.backends("good"))
    gateway.serve("impostor", setup.backends("bad"))
    async with clients() as client:
        assert (await ask(client, gateway.endpoint("svc"))).json()["worker"] == "good"
        assert (await ask(client, gateway.endpoint("impostor"))).status_code == 503
    told = httpx.get(f"{setup.upstreams['bad'].url}/ctl", verify=False, trust_env=False).json()
    assert told["keys"] == {}, "the key was not shown to it"


async def test_clients_may_be_spoken_to_with_tls(setup: Setup, tmp_path: Path) -> None:
    """And a renewed certificate is shown without a dropped stream."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt-get install openssl")
    _certificate(tmp_path, "gw", "localhost")
    pair = (tmp_path / "gw.pem", tmp_path / "gw.key")
    gateway = EnvoyGateway(setup.state, lambda: setup.keys, port=setup.port, tls=pair)
    gateway.start()
    setup.upstream("a")
    gateway.serve("svc", setup.backends("a"))
    assert gateway.endpoint("svc") == f"https://127.0.0.1:{setup.port}/svc/v1"
    base = gateway.endpoint("svc").replace("127.0.0.1", "localhost")
    headers = {"authorization": f"Bearer {KEY}"}
    old = ssl.create_default_context(cafile=str(pair[0]))
    async with httpx.AsyncClient(verify=old, headers=headers, trust_env=False) as client:
        live = asyncio.create_task(stream(client, base, tokens=100, gap=0.02))
        await until(lambda: gateway.active("svc", "a") == 1)
        _certificate(tmp_path, "gw", "localhost")
        await asyncio.to_thread(gateway.start)
        assert gateway.health().retiring == 1
        new = ssl.create_default_context(cafile=str(pair[0]))
        for _ in range(25):
            try:
                async with httpx.AsyncClient(
                    verify=new, headers=headers, trust_env=False
                ) as another:
                    assert (await ask(another, base)).status_code == 200
            except (
                httpx.ConnectError
            ):  # it was dealt to the old one, whose certificate is not known
                await asyncio.sleep(0.1)
        assert (await live).whole


def _certificate(folder: Path, name: str, subject: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={subject}"]
    command += ["-addext", f"subjectAltName=DNS:{subject}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
