"""What every request and every answer goes through: the Host check and the headers.

A page elsewhere can have its own name point at 127.0.0.1 and then read whatever listens there, in
its visitor's browser (DNS rebinding). Such a request carries the foreign name as its Host. An
address is never such a name, so addresses always pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = (
    # Only our own files; nothing inline, so that no provider's text can become a script.
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
SIMULATED = (b"x-arbiter-simulated", b"true")


class Guard:
    """ASGI middleware.

    Args:
        names: host names that may stand in the Host header, beside localhost and every address.
        simulated: mark every answer.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = (), *, simulated: bool = False) -> None:
        self._app = app
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}
        self._headers = [*HEADERS, SIMULATED] if simulated else list(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421 to a foreign Host, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"host"), "")
        marked = self._marking(send)
        if self._is_ours(host):
            await self._app(scope, receive, marked)
        else:
            await _refuse(marked)

    def _is_ours(self, host: str) -> bool:
        name = host_name(host)
        return name in self._names or _is_address(name)

    def _marking(self, send: Send) -> Send:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        return marked


def host_name(host: str) -> str:
    """The name in a Host header, lower case, without its port or the brackets of an address."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(send: Send) -> None:
    body = b'{"error":"this host name is not one of arbiter\'s; see: arbiter daemon --allow-host"}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": body})
