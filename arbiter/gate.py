"""What a poll must be against the provider's own past before it may decide anything. Pure.

`quality` looks at one figure and at its neighbours in the same answer; this looks at what the same
series cost before. Nothing is shut out for ever: a price that stands stubbornly is believed after a
stated time, the longer the less likely it is.

How far true prices step was measured on recorded histories (largest ratio, either way):

| feed | one change | within a day | within 90 days |
|---|---|---|---|
| AWS spot, 34 series, 2019-20, and 9 zones of 2023 | 1.04 | 1.08 | 1.23 |
| Azure spot, 255 series, 2026 (a monthly list) | 1.25 | 1.25 | 1.25 |
| GCP spot, 306 series, 2022-26 (a list, weekly snapshots) | 3.90 | 3.90 | 4.58 |
| GCP on-demand, 306 series, 2022-26 | 1.34 | 1.34 | 1.34 |

And the false ones in the same files: the GPU's share missing from eleven GCP prices between one and
two days (1/4.6 to 1/6.3), one cloud's placeholder of 0.50 (1/7.2), and on 2026-02-18 a tracker that
went over from the price of the machine to that of one GPU (1/4, 1/8, 1/16 of nearly all series).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from statistics import median
from typing import NamedTuple

from arbiter.domain import Purchase
from arbiter.provider import PricedOffer
from arbiter.quality import PEERS

SeriesKey = tuple[str, str, str, str, str, str]
"""(tier, region, zone or "", instance type, purchase, currency) within one provider."""

Part = tuple[str, str]
"""A region and a purchase: what a provider is covered by."""

FURTHEST: Mapping[str, float] = {
    Purchase.SPOT: 5.0,
    Purchase.ON_DEMAND: 3.0,
    Purchase.RESERVED: 3.0,
}
"""How many times dearer or cheaper than it last was a price may be and still be believed at once.
Above every true step that was measured, and above a list price that is halved."""

AGREES = 2.0
"""A doubted price within this factor of the median of its standing peers has them on its side."""

MOST = 0.5
FEWEST = 3
"""A part has slipped when more than this share of its known prices, and so many, moved alike."""

SLIGHT = 1.6
"""A smaller step than this is no slip of units and no number of GPUs: it is not looked at."""

TEN_TIMES = 0.25
"""How far from the power of ten a slip of units may lie, for prices that also changed a little."""

PER_GPU = 0.03
"""The same for the number of GPUs."""

ALIKE = 0.005
NEARLY_ALL = 0.9
FEWEST_OF_ALL = 10
LIKE_A_RATE = ((0.75, 0.97), (1.03, 1.35))
"""A whole provider that moves by one factor like a rate of exchange: EUR read as USD, or back.
A euro cost between 0.96 and 1.25 dollars in the last ten years."""

FAR_FROM_PAST = "far from its own past"
FAR_FROM_BOTH = "far from its own past and from its peers"
FAR_FROM_PEERS = "far from its peers"
WORTHLESS = "price or number of GPUs is not above 0"
POWER_OF_TEN = "most of the region moved by the same power of ten"
GPU_COUNT = "most of the region moved by its number of GPUs"
ONE_FACTOR = "all prices moved by one factor, as if of another currency"
EMPTY = "a region that had prices answered with none"
MALFORMED = "more than half of the rows are malformed"


class Patience(NamedTuple):
    """For how long a doubt stands before what is doubted is believed: both must have passed."""

    polls: int
    seconds: float

    def is_over(self, polls: int, seconds: float) -> bool:
        """Whether the doubt has lasted so long."""
        return polls >= self.polls and seconds >= self.seconds


HOUR, DAY = 3600.0, 86_400.0

PATIENCE: Mapping[str, Patience | None] = {
    EMPTY: Patience(3, HOUR / 4),
    FAR_FROM_PAST: Patience(6, DAY),
    ONE_FACTOR: Patience(6, DAY),
    FAR_FROM_BOTH: Patience(12, 7 * DAY),
    FAR_FROM_PEERS: Patience(12, 7 * DAY),
    POWER_OF_TEN: Patience(12, 7 * DAY),
    GPU_COUNT: Patience(12, 7 * DAY),
    WORTHLESS: None,
    MALFORMED: None,
}
"""Reason -> when the price is believed after all; None is never: it cannot be a price.

A day is as long as the missing GPU's share stood; a week gives a person time to look."""

PEERS_AGREE = Patience(3, HOUR)
"""Instead, where the peers are on the doubted price's side."""

SAME = 1.25
"""A doubted price that moves by more than this is doubted anew, from the beginning."""


class Move(NamedTuple):
    """A price that is not what it was: the offer, what it was, and how many times it is now."""

    key: SeriesKey
    offer: PricedOffer
    before: int
    ratio: float


class Known(NamedTuple):
    """How many offers of a poll have a past, by part: all, and those of several GPUs."""

    all: Counter[Part]
    large: Counter[Part]


@dataclass(frozen=True, slots=True)
class Doubt:
    """An offer that is not believed, and why."""

    key: SeriesKey
    offer: PricedOffer
    reason: str


def series_key(offer: PricedOffer) -> SeriesKey:
    """What identifies the series of an offer within its provider."""
    zone, currency = offer.zone or "", offer.price.currency
    return offer.tier, offer.region, zone, offer.instance_type, offer.purchase, currency


def moves(offers: Iterable[PricedOffer], past: Mapping[SeriesKey, int]) -> list[Move]:
    """The offers that have a past and another price now."""
    found = []
    for offer in offers:
        key = series_key(offer)
        before = past.get(key)
        micros = offer.price.micros
        if before is not None and before != micros:
            found.append(Move(key, offer, before, micros / before))
    return found


def slipped_parts(moved: Sequence[Move], known: Callable[[], Known]) -> dict[Part, str]:
    """Regions and purchases whose prices slipped together, each with the reason.

    Args:
        known: how many offers of the poll have a past; asked for only when it matters.
    """
    moved = [move for move in moved if not 1 / SLIGHT < move.ratio < SLIGHT]
    if len(moved) < FEWEST:
        return {}
    by_ten = _together(moved, _power_of_ten)
    by_count = _together(moved, _by_gpu_count)
    # Machines of two GPUs that cost half may just be cheaper: of larger ones a slip is seen.
    large = {_part(move) for move in moved if move.offer.gpu_count > 2 and _by_gpu_count(move)}
    by_count = {part: number for part, number in by_count.items() if part in large}
    if not by_ten and not by_count:
        return {}
    totals = known()
    slipped = {
        part: POWER_OF_TEN for part, number in by_ten.items() if number > MOST * totals.all[part]
    }
    slipped.update(
        (part, GPU_COUNT)  # an eighth is near a tenth too: what fits more prices is told
        for part, number in by_count.items()
        if number > MOST * totals.large[part] and number >= by_ten.get(part, 0)
    )
    return slipped


def moved_by_one_factor(moved: Sequence[Move], known: int) -> bool:
    """Whether nearly all prices moved by one factor that could be a rate of exchange."""
    if len(moved) < FEWEST_OF_ALL or len(moved) < NEARLY_ALL * known:
        return False
    middle = median(move.ratio for move in moved)
    if not any(low <= middle <= high for low, high in LIKE_A_RATE):
        return False
    alike = sum(1 for move in moved if abs(move.ratio / middle - 1) <= ALIKE)
    return alike >= NEARLY_ALL * known


def is_far(move: Move) -> bool:
    """Whether the step is larger than any that was seen to be true."""
    limit = FURTHEST[move.offer.purchase]
    return not 1 / limit <= move.ratio <= limit


def doubt(move: Move, lowest: int | None, highest: int | None, agree: bool | None) -> str | None:
    """Why a far step is not believed; None where the series was near that price before.

    Args:
        lowest, highest: of the series' prices in the last 90 days, micros; None where it had none.
        agree: whether its peers are on its side, see `agreement`.
    """
    if lowest is None or highest is None:
        return None
    limit, micros = FURTHEST[move.offer.purchase], move.offer.price.micros
    if lowest / limit <= micros <= highest * limit:
        return None
    return FAR_FROM_BOTH if agree is False else FAR_FROM_PAST


def agreement(offer: PricedOffer, peers: Sequence[int]) -> bool | None:
    """Whether the peers are on the price's side; None where there are too few to say."""
    if len(peers) < PEERS:
        return None
    ratio = offer.price.micros / offer.gpu_count / median(peers)
    return 1 / AGREES <= ratio <= AGREES


def patience(reason: str, agree: bool | None) -> Patience | None:
    """How long the doubt stands."""
    if reason == FAR_FROM_PAST and agree:
        return PEERS_AGREE
    return PATIENCE[reason]


def is_same(micros: int, first: int) -> bool:
    """Whether a doubted price is still the one that was first doubted."""
    return first > 0 and 1 / SAME <= micros / first <= SAME


def _together(moved: Iterable[Move], kind: Callable[[Move], int]) -> dict[Part, int]:
    """Part -> how many of its prices moved in the same way, where they are not too few."""
    counted: dict[Part, Counter[int]] = defaultdict(Counter)
    for move in moved:
        way = kind(move)
        if way:
            counted[_part(move)][way] += 1
    most = {part: max(ways.values()) for part, ways in counted.items()}
    return {part: number for part, number in most.items() if number >= FEWEST}


def _part(move: Move) -> Part:
    return move.key[1], move.key[4]


def _power_of_ten(move: Move) -> int:
    """The power of ten by which the price moved, or 0."""
    power = round(log10(move.ratio))
    return power if abs(move.ratio / 10.0**power - 1) <= TEN_TIMES else 0


def _by_gpu_count(move: Move) -> int:
    """1 where the price is multiplied by the number of GPUs, -1 where it is divided, else 0."""
    count = move.offer.gpu_count
    if count < 2:
        return 0
    if abs(move.ratio * count - 1) <= PER_GPU:
        return -1
    return 1 if abs(move.ratio / count - 1) <= PER_GPU else 0
