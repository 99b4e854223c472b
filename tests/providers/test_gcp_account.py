"""GCP: which key and which credentials are used, and that they are never shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from loopback import Answer, LoopbackServer, Request, as_json
from stand_in_gcp import StandInGcp, no_account

from arbiter.errors import BadCredentials, MissingCredentials, Unreachable
from arbiter.provider import ProviderSettings
from arbiter.testing import NOWHERE
from arbiter_providers.gcp import Gcp
from arbiter_providers.gcp_account import Account, Login

SECRET = "ya29.not-a-real-token"

GOOGLE_AUTH = '''
"""As google-auth behaves, as far as it is used: it asks a server for tokens by the transport."""
import json
from google.auth import exceptions


class Credentials:
    def __init__(self, info):
        self.info, self.token = info, None

    @property
    def valid(self):
        return self.token is not None

    def refresh(self, request):
        answer = request(self.info["token_uri"], method="POST", body=b"grant", headers={"a": "b"})
        if answer.status != 200:
            raise exceptions.RefreshError("refused: " + self.info["private_key"])
        self.token = json.loads(answer.data)["access_token"]

    def apply(self, headers):
        headers["authorization"] = "Bearer " + self.token


def default(scopes, request):
    import os
    import pathlib
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    folder = pathlib.Path(os.environ["CLOUDSDK_CONFIG"])
    path = pathlib.Path(named) if named else folder / "application_default_credentials.json"
    try:
        info = json.loads(path.read_text())
    except (OSError, ValueError):
        raise exceptions.DefaultCredentialsError("cannot read " + str(path))
    return Credentials(info), info.get("project_id")
'''
EXCEPTIONS = """
class GoogleAuthError(Exception): pass
class TransportError(GoogleAuthError): pass
class RefreshError(GoogleAuthError): pass
class DefaultCredentialsError(GoogleAuthError): pass
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    no_account(monkeypatch, tmp_path)
    return tmp_path


def forget_google_auth(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("google.auth")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def google_auth(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The library, in so far as it is used: arbiter does not depend on it."""
    package = folder / "site" / "google" / "auth"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(GOOGLE_AUTH)
    (package / "exceptions.py").write_text(EXCEPTIONS)
    forget_google_auth(monkeypatch)
    google = __import__("types").ModuleType("google")
    google.__path__ = [str(folder / "site" / "google")]
    monkeypatch.setitem(sys.modules, "google", google)


@pytest.fixture
def no_google_auth(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_google_auth(monkeypatch)
    monkeypatch.setitem(sys.modules, "google.auth", None)


def leave_credentials(folder: Path, token_uri: str, name: str = "") -> Path:
    path = folder / (name or "application_default_credentials.json")
    path.write_text(
        f'{{"token_uri": "{token_uri}", "project_id": "p-1", "private_key": "{SECRET}"}}'
    )
    return path


def account(**options: object) -> Account:
    return Account(ProviderSettings(options=options, timeout_s=5.0))


def test_a_machine_that_knows_nothing_of_gcp_has_no_login() -> None:
    assert account().api_key() is None
    assert account().credentials() is None
    assert account().project is None


def test_a_login_does_not_show_what_it_sends() -> None:
    assert SECRET not in repr(Login("GCP_API_KEY", {"X-Goog-Api-Key": SECRET}))


def test_a_key_that_no_request_can_carry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCP_API_KEY", "two\nlines")
    with pytest.raises(BadCredentials, match="GCP_API_KEY") as caught:
        account().api_key()
    assert "lines" not in str(caught.value)


def test_an_access_token_needs_no_library(
    monkeypatch: pytest.MonkeyPatch, no_google_auth: None
) -> None:
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", SECRET)
    login = account().credentials()
    assert login is not None
    assert login.headers == {"Authorization": f"Bearer {SECRET}"}
    monkeypatch.setenv("OURS", "another")
    login = account(access_token_env="OURS").credentials()
    assert login is not None
    assert login.headers == {"Authorization": "Bearer another"}


def test_the_project_is_named_by_options_then_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "by-environment")
    assert account().project == "by-environment"
    assert account(project="by-options").project == "by-options"


def test_credentials_of_gcloud_are_exchanged_once_for_a_token(
    server: LoopbackServer, folder: Path, google_auth: None
) -> None:
    server.answer = lambda _: as_json({"access_token": SECRET})
    leave_credentials(folder, f"{server.url}/token")
    mine = account()
    for _ in range(2):
        login = mine.credentials()
        assert login is not None
        assert login.headers == {"authorization": f"Bearer {SECRET}"}
        assert login.what == "the credentials of gcloud"
    assert mine.project == "p-1"
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/token", "grant")


def test_a_named_file_comes_before_that_of_gcloud(
    server: LoopbackServer, folder: Path, google_auth: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = lambda _: as_json({"access_token": SECRET})
    leave_credentials(folder, f"{server.url}/of-gcloud")
    named = leave_credentials(folder, f"{server.url}/named", "key.json")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(named))
    assert account().credentials() is not None
    assert [request.path for request in server.requests] == ["/named"]


def test_credentials_without_the_library_say_how_to_install_it(
    folder: Path, no_google_auth: None
) -> None:
    leave_credentials(folder, NOWHERE)
    with pytest.raises(MissingCredentials, match="uv pip install google-auth"):
        account().credentials()


def test_credentials_that_are_refused_are_not_shown(
    server: LoopbackServer, folder: Path, google_auth: None
) -> None:
    server.answer = lambda _: Answer(b'{"error": "invalid_grant"}', 400)
    leave_credentials(folder, f"{server.url}/token")
    with pytest.raises(BadCredentials, match=r"gcloud cannot be used \(RefreshError\)") as caught:
        account().credentials()
    assert SECRET not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(folder: Path, google_auth: None) -> None:
    (folder / "application_default_credentials.json").write_text("not JSON")
    with pytest.raises(BadCredentials, match="DefaultCredentialsError"):
        account().credentials()


def test_a_silent_server_of_tokens_is_unreachable(folder: Path, google_auth: None) -> None:
    leave_credentials(folder, NOWHERE)
    with pytest.raises(Unreachable, match="gives access tokens is silent"):
        account().credentials()


def test_a_machine_of_gcp_is_told_by_its_maker(
    folder: Path, no_google_auth: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = folder / "product_name"
    monkeypatch.setattr("arbiter_providers.gcp_account.PRODUCT_NAME", product)
    product.write_text("HVM domU")
    assert account().credentials() is None
    product.write_text("Google Compute Engine\n")
    with pytest.raises(MissingCredentials, match="the machine's service account"):
        account().credentials()


def test_a_key_works_though_the_credentials_do_not(
    server: LoopbackServer, folder: Path, no_google_auth: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gcp = StandInGcp(server)
    leave_credentials(folder, NOWHERE)
    monkeypatch.setenv("GCP_API_KEY", "key")
    settings = ProviderSettings(endpoint=gcp.server.url)
    fetched = Gcp(settings).fetch(lambda _: None)
    assert len(fetched.pages) == 2
    assert len(fetched.degraded) == 1
    assert fetched.degraded[0].startswith("machine types and signals: gcp: google-auth is not")
    monkeypatch.delenv("GCP_API_KEY")
    with pytest.raises(MissingCredentials):
        Gcp(settings).fetch(lambda _: None)


def test_a_refused_key_leaves_the_server_in_peace(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Request) -> Answer:
        return Answer(status=401)

    server.answer = refuse
    monkeypatch.setenv("GCP_API_KEY", "key")
    with pytest.raises(BadCredentials, match="check GCP_API_KEY"):
        Gcp(ProviderSettings(endpoint=server.url)).fetch(lambda _: None)
    assert len(server.requests) == 1
