"""Asking Azure's Resource Graph, which tells those with an account about spot machines.

Any service principal that may read one subscription can ask. Its id and secret buy a token (OAuth
2, client credentials), and KQL queries are asked with it, page by page by `$skipToken`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from arbiter.clock import Clock
from arbiter.errors import BadAnswer
from arbiter.provider import Page, ProviderSettings
from arbiter_providers._account import key
from arbiter_providers._http import Http
from arbiter_providers._rows import open_page
from arbiter_providers.azure_sizes import SIZES

LOGIN, MANAGEMENT = "https://login.microsoftonline.com", "https://management.azure.com"
PATH = "/providers/Microsoft.ResourceGraph/resources?api-version=2024-04-01"
VARIABLES = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
"""As Microsoft's own libraries call them."""

MOST_PAGES = 100


class _Token(msgspec.Struct):
    access_token: str


class _Answer(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]
    skipToken: str | None = msgspec.field(default=None, name="$skipToken")


_read_token = msgspec.json.Decoder(_Token).decode
_read_answer = msgspec.json.Decoder(_Answer).decode


def has_account() -> bool:
    """Whether all three variables are set."""
    return not missing()


def missing() -> list[str]:
    """Those of the three variables that are not set."""
    return [name for name in VARIABLES if not os.environ.get(name, "").strip()]


def ask(feed: str, query: str, settings: ProviderSettings, clock: Clock | None) -> Iterator[Page]:
    """The pages of one query; the last carries a `$skipToken` only where it was cut short.

    `settings.endpoint` takes the place of both addresses, unless `options.login_endpoint` and
    `options.management_endpoint` name them.

    Raises:
        MissingCredentials: a variable is not set.
        BadCredentials: what is set was refused, at whatever page.
        ProviderError: there was no answer.
    """
    headers = authorization(settings, clock)
    address = management(settings) + PATH
    options: dict[str, Any] = {
        "resultFormat": "objectArray",
        "authorizationScopeFilter": "AtScopeAboveAndBelow",
    }
    seen: set[str] = set()
    with Http("azure", settings, headers=headers, credentials=VARIABLES[2], clock=clock) as http:
        for _ in range(MOST_PAGES):
            body = http.post(address, json={"query": query, "options": options})
            token = rows(body)[1]
            yield Page(feed, "", body)
            if not token or token in seen:
                return
            seen.add(token)
            options["$skipToken"] = token


def rows(body: Any) -> tuple[list[msgspec.Raw], str | None]:
    """The rows of a page, and the token of the next.

    Raises:
        BadAnswer: not an answer of the Resource Graph.
    """
    answer = open_page("azure: an answer of the Resource Graph", body, _read_answer)
    return answer.data, answer.skipToken or None


def query(table: str, regions: Sequence[str], *, also: str, wanted: str) -> str:
    """A query for all GPU sizes in some regions.

    Args:
        table: the kind of row ("skuspotevictionrate/location").
        also: another condition in KQL, or "".
        wanted: the columns beside skuName and location.
    """
    sizes = ", ".join(f"'{size.lower()}'" for size in sorted(SIZES))
    places = ", ".join(f"'{region}'" for region in regions if region.isalnum())
    lines = [
        "SpotResources",
        f"where type =~ 'microsoft.compute/{table}'",
        f"where sku.name in~ ({sizes})",
        f"where location in~ ({places})",
        *([f"where {also}"] if also else []),
        f"project skuName = tostring(sku.name), location, {wanted}",
        "order by location asc, skuName asc",  # pages need an order
    ]
    return "\n| ".join(lines)


def authorization(settings: ProviderSettings, clock: Clock | None) -> dict[str, str]:
    """The header that says who asks.

    Raises:
        ProviderError: a variable is not set, what is set was refused, or there was no answer.
    """
    return {"Authorization": f"Bearer {_token(settings, clock)}"}


def management(settings: ProviderSettings) -> str:
    """The address of Azure's management API, without a slash at its end."""
    return _address(settings, "management_endpoint", MANAGEMENT)


def _token(settings: ProviderSettings, clock: Clock | None) -> str:
    tenant, client, secret = (key("azure", name) for name in VARIABLES)
    form = {
        "grant_type": "client_credentials",
        "client_id": client,
        "client_secret": secret,
        "scope": f"{MANAGEMENT}/.default",
    }
    login = _address(settings, "login_endpoint", LOGIN)
    address = f"{login}/{quote(tenant, safe='')}/oauth2/v2.0/token"
    with Http("azure", settings, credentials=VARIABLES[2], clock=clock) as http:
        token = open_page("azure: the token", http.post(address, form=form), _read_token)
    if not (token.access_token.isascii() and token.access_token.isprintable()):
        raise BadAnswer("azure: the token is not one")
    return token.access_token


def _address(settings: ProviderSettings, option: str, public: str) -> str:
    stated = settings.options.get(option) or settings.endpoint or public
    return str(stated).rstrip("/").removesuffix("/api/retail/prices")
