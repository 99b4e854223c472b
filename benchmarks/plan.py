"""One plan() of 2,000 candidate offers and 50 replicas, in CPU time: what a tick costs to decide.

The offers are spot machines of five kinds over zones in Europe, and one on-demand offer for each
region; of every fourth pool something is believed, of every second its provider says how often it
is lost. Cases: a fleet that stands well with its two spares, one that has just lost five machines,
one that is steered to an availability, and one that begins with nothing. Every answer is checked:
a plan launches what is missing, and at most a move besides.
The peer is the same plan() on a tenth of the offers: how the cost grows with the market.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from _report import Row, arguments, interleaved, report, row

from arbiter.domain import ActionKind, Offer, Place, Purchase, Quote, Replica, ReplicaState, Service
from arbiter.money import Price
from arbiter.planner import Fleet, plan
from arbiter.policy import Policy
from arbiter.pools import group_of, pool_of
from arbiter.profiles import load_profile
from arbiter.sovereignty import Level, Rule
from arbiter.spot.beliefs import Beliefs, Event, Happened, learn
from arbiter.spot.priors import BAND, Said, seeds

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
OFFERS, REPLICAS, REGIONS = 2000, 50, 20
MACHINES = (("g6.xlarge", "L4", 900_000), ("g5.xlarge", "A10G", 1_100_000),
            ("g6e.xlarge", "L40S", 2_100_000), ("a2-ultragpu-1g", "A100-80GB", 4_500_000),
            ("p5.4xlarge", "H100", 7_200_000))  # fmt: skip
GOAL_MS = 20.0


@dataclass(frozen=True)
class World:
    """What plan() is given."""

    quotes: Sequence[Quote]
    fleet: Fleet
    policy: Policy
    beliefs: Beliefs

    def decide(self) -> int:
        """Plan once; the number of launches."""
        made = plan(NOW, self.quotes, self.fleet, self.policy, self.beliefs)
        return sum(one.kind is ActionKind.LAUNCH for one in made.actions)


def world(offers: int, standing: int, policy: Policy) -> World:
    """A market of so many spot offers, and a fleet of 50 of which so many stand."""
    spot = [_offer(number, Purchase.SPOT) for number in range(offers)]
    bought = [_offer(number, Purchase.ON_DEMAND) for number in range(REGIONS)]
    quotes = [*_quotes(spot, 0.35), *_quotes(bought, 1.0)]
    cheap = sorted(quotes[:offers], key=lambda one: one.price.micros if one.price else 0)
    replicas = tuple(_replica(number, cheap[number % 40]) for number in range(standing))
    service = Service("chat", "tiny", REPLICAS, generation=standing)
    fleet = Fleet(service, load_profile("tiny"), "0badcafe", replicas)
    return World(quotes, fleet, policy, _beliefs(spot))


def _offer(number: int, purchase: Purchase) -> Offer:
    region = f"region-{number % REGIONS}"
    machine, gpu, _ = MACHINES[number // REGIONS % len(MACHINES)]
    zone = f"zone-{number // REGIONS // len(MACHINES)}" if purchase is Purchase.SPOT else None
    place = PLACES[number % REGIONS]
    return Offer("aws", "standard", region, zone, machine, gpu, 1, purchase, place)


PLACES = [Place("aws", f"region-{number}", country="SE") for number in range(REGIONS)]


def _quotes(offers: Sequence[Offer], share: float) -> list[Quote]:
    prices = {gpu: micros for _, gpu, micros in MACHINES}
    seen = NOW - timedelta(minutes=2)
    return [
        Quote(one, Price(int(prices[one.gpu] * share) + 700 * (number * 7919 % 97)), seen)
        for number, one in enumerate(offers)
    ]


def _replica(number: int, quote: Quote) -> Replica:
    since = NOW - timedelta(hours=30)
    state = ReplicaState.HEALTHY
    name = f"arb-0badcafe-chat-{number + 1}"
    return Replica(name, "chat", quote.offer, quote.price, state, since, since, since)


def _beliefs(offers: Sequence[Offer]) -> Beliefs:
    at = NOW.timestamp()
    events = [
        Event(at - 3600.0 * (40 - hour), pool_of(one), group_of(one), kind)
        for hour, kind in ((0, Happened.GAVE), (20, Happened.LOST), (38, Happened.GAVE))
        for one in offers[::4]
    ]
    said = [
        Said("aws", pool_of(one), BAND, 5.0 * (number % 4), 5.0 * (number % 4) + 5.0, "", at)
        for number, one in enumerate(offers[::2])
    ]
    return replace(learn(Beliefs(), events), seeds=seeds(said, at))


def _timed(found: World, launches: range) -> Callable[[int], float]:
    def measure(_: int) -> float:
        gc.collect()
        begin = time.process_time()
        made = found.decide()
        took = time.process_time() - begin
        if made not in launches:
            raise SystemExit(f"{made} launches, not {launches}: the plan is wrong")
        return took * 1000.0

    return measure


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    policy = Policy(sovereignty=Rule(level=Level.ANY))
    cases = {
        "all stand": (REPLICAS + 2, policy, range(2)),
        "five were lost": (REPLICAS - 3, policy, range(5, 6)),
        "steered to 99.9 %": (REPLICAS + 2, replace(policy, availability=0.999), range(2)),
        "none yet": (0, policy, range(REPLICAS, REPLICAS + 3)),
    }
    sides = {
        (name, size): _timed(world(size, standing, rules), launches)
        for name, (standing, rules, launches) in cases.items()
        for size in (OFFERS, OFFERS // 10)
    }
    named = {f"{name}|{size}": measure for (name, size), measure in sides.items()}
    figures = interleaved(named, 5 if options.quick else 25)
    report([_row(name, figures) for name in cases], options.json)


def _row(name: str, figures: dict[str, list[float]]) -> Row:
    return row(
        f"plan, {OFFERS} offers, {REPLICAS} replicas: {name}",
        "cpython",
        figures[f"{name}|{OFFERS}"],
        "ms of CPU",
        peer=f"{OFFERS // 10} offers",
        theirs=figures[f"{name}|{OFFERS // 10}"],
        goal=GOAL_MS,
    )


if __name__ == "__main__":
    main()
