"""The files that Envoy watches: name -> text. Pure.

A version stands in every file: Envoy tells it back once it has taken the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from arbiter.gateway.addresses import Addresses, Services
from arbiter.gateway.boot import CLUSTERS_FILE, ROUTES_FILE, Json
from arbiter.gateway.clusters import assignment, clusters, endpoints_file
from arbiter.gateway.routes import routes


def render(
    folder: str, services: Services, keys: Sequence[str], addresses: Addresses, trusted: str
) -> dict[str, str]:
    """Every file, name -> text, in the order in which they are to be written.

    Args:
        folder: absolute, where the files will be.
        keys: of clients; with none, every request is refused.
        trusted: file with the authorities that certificates of https backends are checked with.

    Raises:
        GatewayError: a backend's URL cannot be used, or two backends share an address.
    """
    files = {
        endpoints_file(service): document([assignment(service, backends, addresses)])
        for service, backends in sorted(services.items())
    }
    every = [
        cluster
        for service, backends in sorted(services.items())
        for cluster in clusters(folder, service, backends, trusted)
    ]
    files[CLUSTERS_FILE] = document(every)
    files[ROUTES_FILE] = document([routes(services, keys)])
    return files


def document(resources: Sequence[Json]) -> str:
    """The text of a file; its version is a digest of what it says."""
    body = json.dumps(resources, sort_keys=True, separators=(",", ":"))
    version = hashlib.sha256(body.encode()).hexdigest()[:16]
    return f'{{"version_info":"{version}","resources":{body}}}\n'


def version_of(text: str) -> str:
    """The version that stands in a file's text."""
    found: str = json.loads(text)["version_info"]
    return found
