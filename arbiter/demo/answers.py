"""What a demo server answers: OpenAI's shapes, marked as simulated. Pure.

No model runs. Every body carries `system_fingerprint: arbiter-simulated`, every answer the header
`x-arbiter-simulated: true`, and the text itself says that it is simulated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

FINGERPRINT = "arbiter-simulated"
HEADER = ("x-arbiter-simulated", "true")

SENTENCE = (
    "This is a simulated answer from the arbiter demo: no model ran, no GPU was rented, "
    "and the words are always the same."
)
TOKENS = tuple(re.findall(r"\S+ ?", SENTENCE))


class Malformed(Exception):
    """A request that vLLM would refuse, with the HTTP status and the error's type."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = error(status, kind, message, param)


def error(status: int, kind: str, message: str, param: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


@dataclass(frozen=True, slots=True)
class Request:
    """A completion that was asked for.

    Attributes:
        chat: asked at /v1/chat/completions, not at /v1/completions.
        prompt_tokens: words of the prompt; a word counts as a token here.
        max_tokens: most tokens of the answer, or None.
        ignore_eos: write on until max_tokens, as vLLM's option of that name.
        stream: answer as server-sent events.
        include_usage: end the stream with a chunk that holds the usage.
    """

    chat: bool
    model: str
    prompt_tokens: int
    max_tokens: int | None
    ignore_eos: bool
    stream: bool
    include_usage: bool

    @classmethod
    def read(cls, body: Any, model: str, *, chat: bool) -> Request:
        """The request of a decoded JSON body.

        Args:
            model: the only model that is served.

        Raises:
            Malformed: 404 for another model, 400 for anything else that is wrong.
        """
        if not isinstance(body, dict):
            raise Malformed(400, "BadRequestError", "the body is not a JSON object")
        asked = body.get("model", model)
        if asked != model:
            message = f"The model `{asked}` does not exist."
            raise Malformed(404, "NotFoundError", message, "model")
        options = body.get("stream_options") or {}
        return cls(
            chat=chat,
            model=model,
            prompt_tokens=_prompt_tokens(body, chat=chat),
            max_tokens=_max_tokens(body),
            ignore_eos=body.get("ignore_eos") is True,
            stream=body.get("stream") is True,
            include_usage=isinstance(options, Mapping) and options.get("include_usage") is True,
        )

    def tokens(self) -> Iterator[str]:
        """The answer, token by token."""
        if self.max_tokens is None:
            return iter(TOKENS)
        if self.ignore_eos:
            return islice(cycle((*TOKENS[:-1], TOKENS[-1] + " ")), self.max_tokens)
        return iter(TOKENS[: self.max_tokens])

    @property
    def finish_reason(self) -> str:
        """Why the answer ends where `tokens` ends."""
        if self.max_tokens is None:
            return "stop"
        cut = self.ignore_eos or self.max_tokens < len(TOKENS)
        return "length" if cut else "stop"


def whole(
    request: Request, answer_id: str, created: int, tokens: list[str], finish_reason: str
) -> dict[str, Any]:
    """The answer in one piece."""
    text = "".join(tokens)
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish_reason, "logprobs": None}
    if request.chat:
        choice["message"] = {"role": "assistant", "content": text}
    else:
        choice["text"] = text
    kind = "chat.completion" if request.chat else "text_completion"
    return _envelope(request, answer_id, created, kind, [choice]) | {
        "usage": usage(request, len(tokens))
    }


def chunk(
    request: Request,
    answer_id: str,
    created: int,
    text: str | None,
    finish_reason: str | None = None,
    role: str | None = None,
) -> dict[str, Any]:
    """One event of a stream."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish_reason, "logprobs": None}
    if request.chat:
        delta = {"role": role, "content": text}
        choice["delta"] = {key: value for key, value in delta.items() if value is not None}
    else:
        choice["text"] = text or ""
    kind = "chat.completion.chunk" if request.chat else "text_completion"
    return _envelope(request, answer_id, created, kind, [choice])


def usage_chunk(request: Request, answer_id: str, created: int, generated: int) -> dict[str, Any]:
    """The last event of a stream that was asked to include its usage."""
    kind = "chat.completion.chunk" if request.chat else "text_completion"
    return _envelope(request, answer_id, created, kind, []) | {"usage": usage(request, generated)}


def usage(request: Request, generated: int) -> dict[str, int]:
    """Tokens read and written."""
    return {
        "prompt_tokens": request.prompt_tokens,
        "completion_tokens": generated,
        "total_tokens": request.prompt_tokens + generated,
    }


def models(model: str, created: int) -> dict[str, Any]:
    """The list of models: the one that is served."""
    entry = {
        "id": model,
        "object": "model",
        "created": created,
        "owned_by": FINGERPRINT,
        "root": model,
        "parent": None,
    }
    return {"object": "list", "data": [entry]}


def _envelope(
    request: Request, answer_id: str, created: int, kind: str, choices: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "id": answer_id,
        "object": kind,
        "created": created,
        "model": request.model,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
    }


def _prompt_tokens(body: Mapping[str, Any], *, chat: bool) -> int:
    if not chat:
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise Malformed(400, "BadRequestError", "prompt must be a string", "prompt")
        return max(1, len(prompt.split()))
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        message = "messages must be a list with at least one message"
        raise Malformed(400, "BadRequestError", message, "messages")
    words = 0
    for message in messages:
        if not isinstance(message, Mapping) or "role" not in message:
            raise Malformed(400, "BadRequestError", "a message needs a role", "messages")
        words += len(str(message.get("content") or "").split())
    return max(1, words)


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    asked = body.get("max_completion_tokens", body.get("max_tokens"))
    if asked is None:
        return None
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 1:
        message = f"max_tokens must be at least 1, got {asked!r}."
        raise Malformed(400, "BadRequestError", message, "max_tokens")
    return asked
