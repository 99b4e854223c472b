"""Every error a user can meet.

ArbiterError                one clear line: what is wrong, where, what to type next; exit 1
├── SettingsError           arbiter.toml, ARBITER_* or a policy file is malformed
├── ProfileError            a model profile is unknown or malformed
├── UnknownName             a service, decision, provider or level that does not exist
├── StoreError              the database cannot be opened, is newer than this arbiter, or is full
├── TemplateRefused         a value that no template may carry
├── GatewayError            the gateway cannot be started, reached or told; it goes on as it was
├── ProviderError           a price source failed; the others go on
│   ├── MissingCredentials      nothing is configured for it
│   ├── BadCredentials          what is configured was refused
│   ├── RateLimited             it asked us to wait (retry_after seconds, or None)
│   ├── Unreachable             no answer, a timeout, or a 5xx after the retries
│   └── BadAnswer               an answer that is not what its API promises
└── LaunchError             a launch failed; its kind steers what happens next
    ├── NoCapacity              the place has none: remember it and try the next
    ├── QuotaExceeded           the account may not: remember it for long
    └── LaunchRejected          the request itself is wrong: do not repeat it
"""

from __future__ import annotations


class ArbiterError(Exception):
    """A failure with one line for the user and, optionally, the next thing to type.

    Args:
        message: what is wrong and where, without a trailing full stop.
        hint: what to do next, or None when there is nothing to add.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class SettingsError(ArbiterError):
    """Settings or a policy file are malformed; the message lists every problem found."""


class ProfileError(ArbiterError):
    """A model profile is unknown or malformed; the message lists every problem found."""


class UnknownName(ArbiterError):
    """A name that the user typed and that nothing answers to."""


class StoreError(ArbiterError):
    """The database cannot be used as it is."""


class TemplateRefused(ArbiterError):
    """A value that would change the meaning of a rendered template."""


class GatewayError(ArbiterError):
    """The gateway cannot be started, reached or told; what it did before, it goes on doing."""


class ProviderError(ArbiterError):
    """One price source failed. Never an error for the other sources."""


class MissingCredentials(ProviderError):
    """The provider needs credentials and none are set."""


class BadCredentials(ProviderError):
    """The provider refused the credentials that are set."""


class RateLimited(ProviderError):
    """The provider asked for a pause.

    Args:
        retry_after: seconds it asked for, or None when it did not say.
    """

    def __init__(
        self, message: str, hint: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class Unreachable(ProviderError):
    """The provider did not answer within the deadline and the retries."""


class BadAnswer(ProviderError):
    """The provider's answer is not what its API promises."""


class LaunchError(ArbiterError):
    """A launch failed; nothing of it may be left behind."""


class NoCapacity(LaunchError):
    """The place has no capacity of this type now."""


class QuotaExceeded(LaunchError):
    """The account's quota does not allow this type there."""


class LaunchRejected(LaunchError):
    """The request cannot succeed as it is, anywhere it is repeated."""
