"""Lengths of time as they are typed."""

from __future__ import annotations

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> float:
    """Seconds of "6m", "90s", "1.5h", or of a bare number of seconds.

    Raises:
        ArbiterError: it is none, or longer than a day.
    """
    from arbiter.errors import ArbiterError

    number, unit = (text[:-1], UNITS[text[-1:]]) if text[-1:] in UNITS else (text, 1)
    try:
        found = float(number) * unit
    except ValueError:
        found = -1.0
    if not 0 <= found <= UNITS["d"]:
        raise ArbiterError(f"{text!r} is no span of at most a day", "write it as 90s, 6m or 1h")
    return found
