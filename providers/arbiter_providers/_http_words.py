"""What URLs, headers and errors of HTTP say, and how much of it may be shown. Pure."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, from its seconds or its HTTP date.

    None where there is no header, or none that can be read.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None


def shown(url: str) -> str:
    """A URL as it may be shown: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a malformed URL"
    start = f"{parts.scheme}://" if parts.scheme else ""
    return f"{start}{parts.hostname or ''}{port}{parts.path}"


def host_of(url: str) -> str:
    """The host of a URL, with its port; the text itself where it is none."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return url


def brief(error: Exception) -> str:
    """What an error says, in a line that fits into a message."""
    text = str(error).splitlines()
    return text[0][:120] if text and text[0] else type(error).__name__
