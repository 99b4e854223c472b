"""A stand-in for the two AWS APIs that are asked: EC2 in its XML, GetProducts in its JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from loopback import Answer, LoopbackServer, Request

SETS = {
    "DescribeInstanceTypes": "instanceTypeSet",
    "DescribeSpotPriceHistory": "spotPriceHistorySet",
    "DescribeAvailabilityZones": "availabilityZoneInfo",
    "GetSpotPlacementScores": "spotPlacementScoreSet",
    "DescribeInstances": "reservationSet",
    "TerminateInstances": "instancesSet",
}
LISTS = {"Gpus": "gpus", "SupportedArchitectures": "supportedArchitectures"}

Reply = list[dict[str, Any]] | Answer | Callable[[Mapping[str, str]], Any]


class StandInAws:
    """Answers by action and region; what it was asked is in `calls`, as (action, region, form).

    A reply is the rows, or an Answer (a refusal), or a function of the request's form that gives
    the rows and the next token.
    """

    def __init__(self, server: LoopbackServer) -> None:
        self.calls: list[tuple[str, str, dict[str, str]]] = []
        self.replies: dict[tuple[str, str], Reply] = {}
        server.answer = self._answer

    def reply(self, action: str, reply: Reply, region: str = "") -> None:
        """The reply to an action, in one region or in every region without its own."""
        self.replies[action, region] = reply

    def asked(self, action: str) -> list[tuple[str, dict[str, str]]]:
        """Region and form of each call of one action."""
        return [(region, form) for name, region, form in self.calls if name == action]

    def _answer(self, request: Request) -> Answer:
        scope = request.headers.get("authorization", "").partition("Credential=")[2].split("/")
        if len(scope) < 4:
            return Answer(b"not signed", 404)
        region, target = scope[2], request.headers.get("x-amz-target", "")
        if target:
            form: dict[str, Any] = json.loads(request.body)
            action = target.partition(".")[2]
            region = next(f["Value"] for f in form["Filters"] if f["Field"] == "regionCode")
        else:
            form = {key: values[0] for key, values in parse_qs(request.body).items()}
            action = form["Action"]
        self.calls.append((action, region, form))
        unknown = [] if action != "GetSpotPlacementScores" else refusal("InvalidAction", 400)
        reply = self.replies.get((action, region), self.replies.get((action, ""), unknown))
        if callable(reply):
            reply = reply(form)
        if isinstance(reply, Answer):
            return reply
        rows, token = reply if isinstance(reply, tuple) else (reply, "")
        return _products(rows, token) if target else _xml(action, rows, token)


def refusal(code: str, status: int = 403) -> Answer:
    """EC2's way to refuse."""
    text = f"<Response><Errors><Error><Code>{code}</Code><Message>arn:aws:iam::1:user/eve</Message>"
    return Answer(f"{text}</Error></Errors><RequestID>r</RequestID></Response>".encode(), status)


def _products(rows: Sequence[str], token: str) -> Answer:
    body: dict[str, Any] = {"FormatVersion": "aws_v1", "PriceList": rows}
    if token:
        body["NextToken"] = token
    return Answer(json.dumps(body).encode(), headers={"Content-Type": "application/x-amz-json-1.1"})


def _xml(action: str, rows: Sequence[Mapping[str, Any]], token: str) -> Answer:
    items = "".join(f"<item>{_fields(row)}</item>" for row in rows)
    # EC2 sends an empty token at the end of the spot prices, and none at other ends.
    body = f"<{SETS[action]}>{items}</{SETS[action]}><nextToken>{token}</nextToken>"
    space = "http://ec2.amazonaws.com/doc/2016-11-15/"
    return Answer(f'<{action}Response xmlns="{space}">{body}</{action}Response>'.encode())


def _fields(row: Mapping[str, Any]) -> str:
    return "".join(_field(name, value) for name, value in row.items())


def _field(name: str, value: Any) -> str:
    tag = LISTS.get(name) or re.sub(r"^[A-Z]", lambda first: first[0].lower(), name)
    tag = {"totalGpuMemoryInMiB": "totalGpuMemoryInMiB", "state": "zoneState"}.get(tag, tag)
    if isinstance(value, Mapping):
        inner = _fields(value)
    elif isinstance(value, list):
        inner = "".join(
            f"<item>{_fields(v) if isinstance(v, Mapping) else escape(str(v))}</item>"
            for v in value
        )
    else:
        inner = escape(str(value))
    return f"<{tag}>{inner}</{tag}>"
