"""Who asks GCP: an API key for the price list, and credentials for everything of a project.

An API key opens the price list alone. Credentials (an access token, or what google-auth finds as
Application Default Credentials) open it too, and with a project the lists of machine types and
the advice on spot machines: `roles/compute.viewer` is enough.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from arbiter.errors import BadCredentials, MissingCredentials, ProviderError, Unreachable
from arbiter.provider import ProviderSettings
from arbiter_providers._account import key, key_variable

KEY, TOKEN = "GCP_API_KEY", "GOOGLE_OAUTH_ACCESS_TOKEN"
"""The variables that hold an API key and an access token, unless the options name others."""

SCOPE = "https://www.googleapis.com/auth/cloud-platform"

PRODUCT_NAME = Path("/sys/class/dmi/id/product_name")
"""Says "Google Compute Engine" on a machine of GCP, which then has a metadata server to ask."""


@dataclass(frozen=True, slots=True)
class Login:
    """What is sent with a request to say who asks.

    Attributes:
        what: where it comes from, for errors.
    """

    what: str
    headers: Mapping[str, str] = field(repr=False)


class Account:
    """The user's key, credentials and project. Credentials are loaded once and refreshed."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._credentials: Any = None
        self._project: str | None = None

    def api_key(self) -> Login | None:
        """The API key, as a header: in the query of a URL it would end up in logs.

        Raises:
            BadCredentials: it holds what no request can carry.
        """
        variable = key_variable(self._settings, KEY)
        if not os.environ.get(variable):
            return None
        return Login(variable, {"X-Goog-Api-Key": key("gcp", variable)})

    def credentials(self) -> Login | None:
        """An access token, or None where there are no credentials.

        Raises:
            MissingCredentials: there are some, and the library that reads them is not installed.
            BadCredentials: they cannot be read, or are refused.
            Unreachable: the server that gives tokens did not answer.
        """
        variable = key_variable(self._settings, TOKEN, "access_token_env")
        if os.environ.get(variable):
            return Login(variable, {"Authorization": f"Bearer {key('gcp', variable)}"})
        what = _where()
        if what is None:
            return None
        try:
            exceptions = _google_auth("exceptions")
        except ImportError:
            hint = "uv pip install google-auth"
            raise MissingCredentials(f"gcp: google-auth is not here to read {what}", hint) from None
        try:
            return Login(what, self._token())
        except exceptions.TransportError as error:
            raise Unreachable("gcp: the server that gives access tokens is silent") from error
        except exceptions.GoogleAuthError as error:
            # The error's own text may repeat what was sent.
            why = type(error).__name__
            hint = "gcloud auth application-default login"
            raise BadCredentials(f"gcp: {what} cannot be used ({why})", hint) from error

    @property
    def project(self) -> str | None:
        """The project that is asked about: by the options, the environment, the credentials."""
        named = self._settings.options.get("project") or os.environ.get("GOOGLE_CLOUD_PROJECT")
        return str(named) if named else self._project

    def _token(self) -> dict[str, str]:
        """The headers of credentials that are valid now."""
        request = _Transport(self._settings.timeout_s)
        if self._credentials is None:
            # Its advice to the user is about libraries that are not in use here.
            logging.getLogger("google.auth").addHandler(logging.NullHandler())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._credentials, self._project = _google_auth().default(
                    scopes=[SCOPE], request=request
                )
        if not self._credentials.valid:
            self._credentials.refresh(request)
        headers: dict[str, str] = {}
        self._credentials.apply(headers)
        return headers


def logins(account: Account) -> tuple[Login | None, Login | None, list[str]]:
    """The API key and the credentials that there are, and why the latter are not usable.

    Raises:
        ProviderError: there are credentials, nothing else, and they are not usable.
    """
    opened = account.api_key()
    try:
        return opened, account.credentials(), []
    except ProviderError as error:
        if opened is None:
            raise
        return opened, None, [f"machine types and signals: {error.message}"]


def _google_auth(*parts: str) -> Any:
    """The library, or a module of it. It is not one that arbiter depends on.

    Raises:
        ImportError: it is not installed.
    """
    return import_module(".".join(("google.auth", *parts)))


def _where() -> str | None:
    """Where Application Default Credentials would come from. No network is asked."""
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return "GOOGLE_APPLICATION_CREDENTIALS"
    if _gcloud_file().is_file():
        return "the credentials of gcloud"
    try:
        if PRODUCT_NAME.read_text(encoding="ascii").startswith("Google"):
            return "the machine's service account"
    except (OSError, UnicodeDecodeError):
        return None
    return None


def _gcloud_file() -> Path:
    """Where `gcloud auth application-default login` leaves its credentials."""
    folder = os.environ.get("CLOUDSDK_CONFIG")
    if folder is None and sys.platform == "win32":
        folder = os.path.join(os.environ.get("APPDATA", ""), "gcloud")
    home = Path(folder) if folder else Path("~/.config/gcloud").expanduser()
    return home / "application_default_credentials.json"


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    headers: Mapping[str, str]
    data: bytes


class _Transport:
    """How google-auth asks for tokens: by the client that the rest of the project uses."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> _Response:
        import httpx

        limit = min(timeout or self._timeout_s, self._timeout_s)
        try:
            answer = httpx.request(method, url, content=body, headers=headers, timeout=limit)
        except httpx.HTTPError as error:
            silent = _google_auth("exceptions").TransportError
            raise silent(type(error).__name__) from error
        return _Response(answer.status_code, answer.headers, answer.content)
