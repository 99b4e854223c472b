"""What AWS says of how likely spot capacity is, and how likely it is lost. Beside the prices.

The spot advisor is a public file: for each region and type a band of how many machines were taken
back within the last 30 days. The spot placement score is for those who have an account: from 1 to
10, how likely a request succeeds now. It is low on purpose for fewer than three types, so types
with the same GPUs are asked about together; the answer names the ten best places, and what it
does not name is not 0. Neither ever stops the prices, or delays them by more than seconds.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec

from arbiter.clock import Clock
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, BadCredentials, ProviderError, RateLimited
from arbiter.gpus import GPUS
from arbiter.provider import Page, ProviderSettings, Signal, Skip
from arbiter.quality import malformed
from arbiter.typed import convert
from arbiter_providers._bands import bounds
from arbiter_providers._http import Http, Rejected
from arbiter_providers._rhythm import Rhythm, hurried, wanted
from arbiter_providers._rows import open_page
from arbiter_providers.aws_account import Account, paged
from arbiter_providers.aws_types import TYPES, Machines, machine

ADVISOR = "https://spot-bid-advisor.s3.amazonaws.com"
ADVISOR_PATH = "/spot-advisor-data.json"
ADVISOR_FEED, SCORES_FEED = "spot-advisor", "spot-placement-scores"
BAND, SCORE = "interruption_band", "placement_score"
UNITS = {BAND: "percent of instances reclaimed in 30 days", SCORE: "1..10"}

EVERY = timedelta(hours=6)
"""The file covers 30 days, and AWS counts how often scores are asked for."""

FEWEST_TYPES = 3
REGIONS_AT_ONCE = 10
MOST_CALLS = 20


def groups() -> tuple[tuple[str, ...], ...]:
    """The types that are scored together: the same GPU in the same number, at least three."""
    found: dict[tuple[str, int], list[str]] = {}
    for name, gpu in TYPES.items():
        if gpu[0] in GPUS:
            found.setdefault(gpu, []).append(name)
    return tuple(tuple(sorted(types)) for types in found.values() if len(types) >= FEWEST_TYPES)


class Signals:
    """Asks for both, each at its own pace. Lives as long as its provider.

    `settings.endpoint` (or AWS_ENDPOINT_URL) stands in for the file, too; a stand-in need not
    have either, and that is then no failure.
    """

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:
        self._settings = hurried(settings)
        self._clock = clock
        self._wanted = wanted(settings)
        self._endpoint = settings.endpoint or os.environ.get("AWS_ENDPOINT_URL")
        self._advisor = Rhythm(clock, EVERY)
        self._scores = Rhythm(clock, EVERY)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is missing, and why."""
        return (*self._advisor.notes, *self._scores.notes)

    def advisor(self) -> tuple[Page, ...]:
        """The spot advisor's file when it is due. Never raises a ProviderError."""
        if not self._wanted or not self._advisor.due:
            return ()
        try:
            with Http("aws", self._settings, clock=self._clock) as http:
                body = http.get((self._endpoint or ADVISOR).rstrip("/") + ADVISOR_PATH)
            _advisor(body)
        except Rejected as error:
            if self._endpoint and error.status == 404:
                self._advisor.succeeded()
            else:
                self._advisor.failed("spot advisor", error)
            return ()
        except ProviderError as error:
            self._advisor.failed("spot advisor", error)
            return ()
        self._advisor.succeeded()
        return (Page(ADVISOR_FEED, "", body),)

    def scores(self, session: Any, regions: Sequence[str]) -> tuple[Page, ...]:
        """The placement scores when they are due. Never raises a ProviderError.

        Args:
            session: a boto3 session with credentials.
            regions: those that the account can use.
        """
        if not self._wanted or not self._scores.due or not regions:
            return ()
        account = Account(session, self._settings, self._clock)
        pages: list[Page] = []
        try:
            ec2 = account.client("ec2", regions[0])
            for types, among in _questions(regions):
                pages += _score(ec2, regions[0], types, among)
        except (BadCredentials, RateLimited) as error:
            self._scores.failed("spot placement scores", error)
        except ProviderError as error:
            if self._endpoint:
                self._scores.succeeded()
            else:
                self._scores.failed("spot placement scores", error)
        else:
            self._scores.succeeded()
        return tuple(pages)


def _questions(regions: Sequence[str]) -> list[tuple[tuple[str, ...], Sequence[str]]]:
    """Types and regions of each call, the most useful first, no more than a few."""
    starts = range(0, len(regions), REGIONS_AT_ONCE)
    batches = [regions[start : start + REGIONS_AT_ONCE] for start in starts]
    return [(types, batch) for batch in batches for types in groups()][:MOST_CALLS]


def _score(ec2: Any, region: str, types: Sequence[str], among: Sequence[str]) -> Iterator[Page]:
    for body in paged(
        ec2.get_spot_placement_scores,
        region,
        InstanceTypes=list(types),
        TargetCapacity=1,
        TargetCapacityUnitType="units",
        SingleAvailabilityZone=False,
        RegionNames=list(among),
    ):
        yield Page(SCORES_FEED, "", {**body, "InstanceTypes": list(types)})


# --- reading --------------------------------------------------------------------------------


class _Range(msgspec.Struct, gc=False):
    index: int
    label: str


class _Advice(msgspec.Struct, gc=False):
    r: int


class _Systems(msgspec.Struct, gc=False):
    Linux: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)


class _File(msgspec.Struct, gc=False):
    ranges: list[_Range]
    spot_advisor: dict[str, _Systems]


class _Score(msgspec.Struct, gc=False):
    Region: str
    Score: int


class _Scores(msgspec.Struct, gc=False):
    InstanceTypes: list[str]
    SpotPlacementScores: list[Any]
    NextToken: str | None = None


_read_file = msgspec.json.Decoder(_File).decode
_read_advice = msgspec.json.Decoder(_Advice).decode

Read = tuple[list[Signal | Skip], frozenset[str]]
"""Signals, and the kinds that are complete."""


def read(pages: Sequence[Page], machines: Machines, regions: Collection[str]) -> Read:
    """The signals of all pages, of GPU machines in these regions.

    Raises:
        BadAnswer: a page is not what its feed promises.
    """
    found: list[Signal | Skip] = []
    kinds: set[str] = set()
    scored: set[tuple[str, ...]] = set()
    for page in pages:
        if page.feed == ADVISOR_FEED:
            found += _bands(_advisor(page.body), machines, regions)
            kinds.add(BAND)
        else:
            answer = _answer(page.body)
            found += _scored(answer, machines, regions)
            if not answer.NextToken:
                scored.add(tuple(answer.InstanceTypes))
    if scored and scored >= set(groups()):
        kinds.add(SCORE)
    return found, frozenset(kinds)


def _advisor(body: Any) -> _File:
    return open_page("aws: the spot advisor's file", body, _read_file)


def _bands(file: _File, machines: Machines, regions: Collection[str]) -> Iterator[Signal | Skip]:
    labels = {one.index: one.label for one in file.ranges}
    for region, systems in file.spot_advisor.items():
        if region in regions:
            for name, raw in systems.Linux.items():
                if not isinstance(machine(name, machines), str):
                    yield _band(region, name, raw, labels)


def _band(region: str, name: str, raw: msgspec.Raw, labels: Mapping[int, str]) -> Signal | Skip:
    try:
        label = labels[_read_advice(raw).r]
    except (msgspec.MsgspecError, KeyError):
        return malformed("spot advice of the wrong shape", f"{region} {name} {bytes(raw)[:80]!r}")
    low, high = bounds(label)
    return Signal(BAND, UNITS[BAND], region, None, name, Purchase.SPOT, low, high, label)


def _answer(body: Any) -> _Scores:
    try:
        return convert(body, _Scores)
    except msgspec.ValidationError as error:
        raise BadAnswer(f"aws: spot placement scores have another shape: {error}") from error


def _scored(
    answer: _Scores, machines: Machines, regions: Collection[str]
) -> Iterator[Signal | Skip]:
    """A score is that of all its types together; each of them carries it, and says so."""
    text = f"any of {', '.join(answer.InstanceTypes)}"
    for raw in answer.SpotPlacementScores:
        try:
            row = convert(raw, _Score)
        except msgspec.ValidationError as error:
            yield malformed(f"row of the wrong shape: {error}", raw)
            continue
        if not 1 <= row.Score <= 10:
            yield malformed("placement score beyond 1 to 10", raw)
        elif row.Region in regions:
            score = Decimal(row.Score)
            for name in answer.InstanceTypes:
                if not isinstance(machine(name, machines), str):
                    yield Signal(
                        SCORE,
                        UNITS[SCORE],
                        row.Region,
                        None,
                        name,
                        Purchase.SPOT,
                        score,
                        score,
                        text,
                    )
