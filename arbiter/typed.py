"""JSON and plain data into typed values, from any thread.

msgspec describes a class when it is first read into, and shows the description to other threads
before its fields are in it: two threads that read into one new class at once end the process
(0.22, "Segmentation fault"). Here a class is described by one thread, and used after that.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")
_lock = Lock()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode(body: bytes | str | msgspec.Raw, shape: type[_T]) -> _T:
    """A text of JSON as this type.

    Raises:
        msgspec.DecodeError: it is no JSON.
        msgspec.ValidationError: it is none of this type.
    """
    read: _T = _decoder(shape).decode(body)
    return read


def convert(data: object, shape: type[_T]) -> _T:
    """Plain data, as a parser of JSON or YAML gives it, as this type.

    Raises:
        msgspec.ValidationError: it is none of this type.
    """
    _decoder(shape)
    return msgspec.convert(data, shape)


def _decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    found = _decoders.get(shape)
    if found is None:
        with _lock:
            found = _decoders.get(shape)
            if found is None:
                found = _decoders[shape] = msgspec.json.Decoder(shape)
    return found
