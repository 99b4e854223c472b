"""Asking OVHcloud with a service account: which flavors a project has in which region.

The account's client id and secret buy a token for an hour (OAuth 2, client credentials); the
project is asked with it. Read-only: /cloud/project and /cloud/project/{id}/flavor.
"""

from __future__ import annotations

import os
from urllib.parse import quote

import msgspec

from arbiter.clock import Clock
from arbiter.errors import BadAnswer
from arbiter.provider import ProviderSettings
from arbiter_providers._account import key
from arbiter_providers._http import Http
from arbiter_providers._rows import open_page

LOGIN = "https://www.ovh.com"
LOGIN_PATH = "/auth/oauth2/token"
CLIENT, SECRET, PROJECT = "OVH_CLIENT_ID", "OVH_CLIENT_SECRET", "OVH_PROJECT_ID"


class _Token(msgspec.Struct):
    access_token: str


_read_token = msgspec.json.Decoder(_Token).decode
_read_projects = msgspec.json.Decoder(list[str]).decode


def has_account() -> bool:
    """Whether a service account is set."""
    return all(os.environ.get(variable, "").strip() for variable in (CLIENT, SECRET))


def flavors(settings: ProviderSettings, base: str, clock: Clock | None) -> bytes:
    """The answer to what flavors the project has, in all of its regions.

    Args:
        base: the API's address with its version; a stand-in there is the place for the token, too.

    Raises:
        MissingCredentials, BadCredentials: what is set cannot be used, or was refused.
        ProviderError: there was no answer, or not a single project.
    """
    token = _token(settings, clock)
    headers = {"Authorization": f"Bearer {token}"}
    with Http("ovh", settings, headers=headers, credentials=SECRET, clock=clock) as http:
        project = os.environ.get(PROJECT, "").strip() or _first_project(http, base)
        return http.get(f"{base}/cloud/project/{quote(project, safe='')}/flavor")


def _token(settings: ProviderSettings, clock: Clock | None) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": key("ovh", CLIENT),
        "client_secret": key("ovh", SECRET),
        "scope": "all",
    }
    address = (settings.endpoint or LOGIN).rstrip("/").removesuffix("/1.0") + LOGIN_PATH
    with Http("ovh", settings, credentials=SECRET, clock=clock) as http:
        token = open_page("ovh: the token", http.post(address, form=form), _read_token)
    if not (token.access_token.isascii() and token.access_token.isprintable()):
        raise BadAnswer("ovh: the token is not one")
    return token.access_token


def _first_project(http: Http, base: str) -> str:
    projects = open_page(
        "ovh: the list of projects", http.get(f"{base}/cloud/project"), _read_projects
    )
    if not projects:
        raise BadAnswer("ovh: the account has no project", f"export {PROJECT}=...")
    return projects[0]
