"""A policy file in a backtest: the daemon's own plan() in the place of a policy.

The machines of a market are all alike, so which model they serve does not matter: one profile and
one GPU stand in for all. Caps per million tokens, which need the real ones, are left aside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from arbiter.backtest.view import Buy, End, Instance, Launch, Orders, Setting, View
from arbiter.churn import LOSSES_KEPT, churn
from arbiter.domain import (
    Action,
    ActionKind,
    Offer,
    OfferKey,
    Place,
    Purchase,
    Quote,
    Refusal,
    Replica,
    ReplicaState,
    Service,
)
from arbiter.market import PriceList
from arbiter.money import Price
from arbiter.planner import Fleet, plan
from arbiter.policy import DAY, Policy, next_refusal
from arbiter.pools import group_of, pool_of
from arbiter.profiles import Profile, load_profile
from arbiter.sovereignty import Level, Rule
from arbiter.spot.beliefs import Beliefs, Event, Happened, learn, with_goal
from arbiter.spot.cold import Answered
from arbiter.steering import steered

MACHINE = ("stand-in", "L4", 1)
MODEL = "llama8b"
START = datetime(2026, 1, 1, tzinfo=UTC)
"""Any instant will do: plan() only compares instants."""
LOOK, CALM = 5, 30
"""Ticks after which plan() is asked anew although nothing has happened: the least, and the most
where all replicas are healthy on machines that are old enough for a risk that hardly changes."""
ROUNDS = 12
"""Times that plan() is asked in one tick: the daemon looks six times a minute, and once more
after each refusal."""


@dataclass(frozen=True)
class Planned:
    """Makes a run of plan() under a policy; can be pickled.

    Args:
        places: the facts of each zone, where the policy's rule of sovereignty is to be asked;
            None: it is left aside, as on a market that was recorded elsewhere.
        tiers: the product tier of each zone, beside its places.
    """

    policy: Policy
    places: tuple[Place, ...] | None = None
    tiers: tuple[str, ...] | None = None

    def __call__(self, setting: Setting) -> PlannedPolicy:
        """The policy of one run."""
        rule = self.policy.sovereignty if self.places else Rule(level=Level.ANY)
        policy = replace(
            self.policy,
            sovereignty=rule,
            max_usd_per_mtok=None,
            cold_start_s=setting.on_demand_cold_start * setting.tick_s,
        )
        regions = {zone.region: Place("recorded", zone.region) for zone in setting.zones}
        places = self.places or tuple(regions[zone.region] for zone in setting.zones)
        tiers = self.tiers or ("standard",) * len(places)
        return PlannedPolicy(policy, setting, places, tiers)


class PlannedPolicy:
    """plan() in one run, with the memory that the daemon keeps in its database.

    Attributes:
        moved_at: ticks at which it moved a replica for money.
    """

    def __init__(
        self, policy: Policy, setting: Setting, places: Sequence[Place], tiers: Sequence[str]
    ) -> None:
        self._policy, self._setting = policy, setting
        self._profile = _profile(setting)
        self._offers = [
            _offer(place, tier, zone.name, Purchase.SPOT)
            for zone, place, tier in zip(setting.zones, places, tiers, strict=True)
        ]
        self._zones = {offer.key: number for number, offer in enumerate(self._offers)}
        first = {
            (place.provider, place.region): _offer(place, tier, None, Purchase.ON_DEMAND)
            for place, tier in zip(places, tiers, strict=True)
        }
        self._bought = list(first.values())
        self._notice_s = {place.provider: setting.notice * setting.tick_s for place in places}
        self._refusals: dict[OfferKey, Refusal] = {}
        self._moves: list[datetime] = []
        self._losses: list[datetime] = []
        self._replicas: dict[int, Replica] = {}  # by the machine's id
        self._launched = 0
        self._beliefs = Beliefs()
        self._cost_share: float | None = None
        self.moved_at: list[int] = []
        self._wake = 0
        self._seen: tuple[object, ...] | None = None
        self._known: PriceList | None = None
        self._prices: tuple[int, ...] = ()

    def tick(self, view: View) -> Orders:
        """Ask plan() until it has nothing more to do now; not before something is different."""
        ready = sum(map(view.is_ready, view.instances))
        state = self._state(view, [one.id for one in view.instances], ready)
        if not view.lost and view.tick < self._wake and state == self._seen:
            return self._wake
        until: int | None = yield from self._planned(view)
        self._wake = until or view.tick + 1
        healthy = sum(one.healthy_at is not None for one in self._replicas.values())
        self._seen = self._state(view, self._replicas, healthy)
        return self._wake

    @staticmethod
    def _state(view: View, ours: Iterable[int], ready: int) -> tuple[object, ...]:
        """All that is worth another look before the time when it differs."""
        ids = sorted(ours)
        doomed = [one.id for one in view.instances if one.lost_at is not None and one.id in ids]
        return view.prices, view.replicas, ids, ready, doomed

    def _planned(self, view: View) -> Orders:
        now = START + timedelta(seconds=view.tick * self._setting.tick_s)
        self._steer(view, now)
        lost = [self._replicas.pop(instance.id) for instance in view.lost]
        for replica in lost:
            self._remember(replica.offer.key, now, lost=True)
            if replica.offer.purchase is Purchase.SPOT:
                self._losses.append(now)
        self._observe(now, lost)
        self._ripen(view, now)
        quotes = self._quotes(view, now)
        for _ in range(ROUNDS):
            fleet = self._fleet(view, now)
            decided = plan(now, quotes, fleet, self._policy, self._beliefs)
            self._cost_share = decided.cost_share
            if not decided.actions:
                return self._calm_until(view, now)
            for action in decided.actions:
                if action.kind is not ActionKind.LAUNCH:
                    yield from self._end(action)
                elif not view.attempts and self._is_spot(action):
                    return None
                else:
                    yield from self._launch(action, now)
        return None

    # --- what plan() is given -----------------------------------------------------------------

    def _quotes(self, view: View, now: datetime) -> PriceList:
        """The prices that stand; those that do not change are seen anew before they are stale."""
        known = self._known
        if known is None or view.prices != self._prices or not known.is_fresh(now, self._policy):
            spot = [
                Quote(offer, Price(micros), now)
                for offer, micros in zip(self._offers, view.prices, strict=True)
            ]
            price = Price(self._setting.on_demand_micros)
            bought = [Quote(offer, price, now) for offer in self._bought]
            known = self._known = PriceList([*spot, *bought])
            self._prices = view.prices
        return known

    def _fleet(self, view: View, now: datetime) -> Fleet:
        service = Service("backtest", self._profile.name, view.replicas, generation=self._launched)
        self._refusals = {k: r for k, r in self._refusals.items() if _matters(r, now, self._policy)}
        self._moves = [moved for moved in self._moves if moved > now - DAY]
        self._losses = [lost for lost in self._losses if lost > now - LOSSES_KEPT]
        return Fleet(
            service,
            self._profile,
            "backtest",
            tuple(self._replicas.values()),
            refusals=tuple(self._refusals.values()),
            moves=tuple(self._moves),
            losses=tuple(self._losses),
            notice_s=self._notice_s,
        )

    def _steer(self, view: View, now: datetime) -> None:
        """Note how it fared since the last look, as the daemon does at every tick."""
        healthy = [one.state is ReplicaState.HEALTHY for one in self._replicas.values()]
        goal = steered(
            now,
            self._beliefs,
            "backtest",
            self._policy,
            ready=sum(healthy),
            replicas=view.replicas,
            cost_share=self._cost_share,
        )
        if goal is not None:
            self._beliefs = with_goal(self._beliefs, "backtest", goal)

    def _observe(self, now: datetime, lost: Sequence[Replica]) -> None:
        """Learn what still stands and what is gone, as the daemon does when it looks."""
        at = now.timestamp()
        spot = [one for one in self._replicas.values() if one.offer.purchase is Purchase.SPOT]
        standing = Counter(pool_of(one.offer) for one in spot)
        gone = Counter(pool_of(one.offer) for one in lost if one.offer.purchase is Purchase.SPOT)
        groups = {pool_of(one.offer): group_of(one.offer) for one in (*spot, *lost)}
        events = [Event(at, pool, groups[pool], Happened.STANDS, n) for pool, n in standing.items()]
        events += [
            Event(at, pool, groups[pool], Happened.LOST, standing[pool] + n, n)
            for pool, n in gone.items()
        ]
        self._beliefs = learn(self._beliefs, events)

    def _tried(self, offer: Offer, now: datetime, kind: Happened) -> None:
        pool = pool_of(offer)
        held = sum(pool_of(one.offer) == pool for one in self._replicas.values())
        event = Event(now.timestamp(), pool, group_of(offer), kind, held)
        self._beliefs = learn(self._beliefs, [event])

    def _ripen(self, view: View, now: datetime) -> None:
        for instance in view.instances:
            replica = self._replicas[instance.id]
            if view.is_ready(instance) and replica.healthy_at is None:
                self._replicas[instance.id] = replace(
                    replica, state=ReplicaState.HEALTHY, healthy_at=now, changed_at=now
                )
                took_s = (now - replica.launched_at).total_seconds()
                place = group_of(replica.offer)
                answered = Answered(now.timestamp(), self._profile.name, place, took_s)
                self._beliefs = learn(self._beliefs, [answered])
            elif instance.lost_at is not None and replica.state is ReplicaState.HEALTHY:
                silent = now - timedelta(seconds=self._policy.unhealthy_s)
                self._replicas[instance.id] = replace(
                    replica, state=ReplicaState.UNHEALTHY, changed_at=silent
                )

    # --- what it decides ----------------------------------------------------------------------

    def _launch(self, action: Action, now: datetime) -> Orders:
        offer = action.offer
        assert offer is not None  # a launch has one
        self._launched += 1
        order = Buy() if offer.purchase is Purchase.ON_DEMAND else Launch(self._zones[offer.key])
        outcome = yield order
        if not isinstance(outcome, Instance):
            self._remember(offer.key, now, lost=False)
            self._tried(offer, now, Happened.REFUSED)
            return None
        if offer.purchase is Purchase.SPOT:
            self._tried(offer, now, Happened.GAVE)
        state, healthy = ReplicaState.LAUNCHING, None
        if outcome.ready_at == outcome.launched:
            state, healthy = ReplicaState.HEALTHY, now
        self._replicas[outcome.id] = Replica(
            action.cluster, action.service, offer, action.price, state, now, now, healthy,
            replaces=action.replaces,
        )  # fmt: skip
        if action.for_money:
            self._moves.append(now)
            self.moved_at.append(int((now - START).total_seconds()) // self._setting.tick_s)
        return None

    def _end(self, action: Action) -> Orders:
        """A drain ends the machine at once: the model has no streams to wait for."""
        for id_, replica in list(self._replicas.items()):
            if replica.cluster == action.cluster:
                del self._replicas[id_]
                yield End(id_)
        return None

    def _remember(self, key: OfferKey, now: datetime, *, lost: bool) -> None:
        if key.purchase is Purchase.SPOT:
            past = self._refusals.values()
            refusal = next_refusal(self._policy, past, key, now, "no capacity", lost=lost)
            self._refusals[key] = refusal

    def _is_spot(self, action: Action) -> bool:
        return action.offer is not None and action.offer.purchase is Purchase.SPOT

    def _calm_until(self, view: View, now: datetime) -> int:
        """When plan() is asked again if nothing happens before: risks fall with age, so soon."""
        policy = self._policy
        instants = [moved + DAY for moved in self._moves]
        for refusal in self._refusals.values():
            instants += [refusal.until, refusal.at + timedelta(seconds=policy.fallback_window_s)]
        for replica in self._replicas.values():
            if replica.healthy_at is not None:
                instants.append(replica.healthy_at + timedelta(seconds=policy.min_stay_s))
        held = churn(policy, self._losses, view.replicas, now)
        instants += [] if held is None else [held.until]
        later = [one for one in instants if one > now]
        soon = view.tick + self._patience(view)
        if not later:
            return soon
        seconds = (min(later) - START).total_seconds()
        return min(soon, max(view.tick + 1, -int(-seconds // self._setting.tick_s)))

    def _patience(self, view: View) -> int:
        """Ticks until risks, which fall about as one over the age, are worth another look."""
        healthy = [one for one in self._replicas.values() if one.healthy_at is not None]
        if self._refusals or len(healthy) != len(self._replicas) or len(healthy) < view.replicas:
            return LOOK
        youngest = max((one.launched for one in view.instances), default=view.tick)
        return min(CALM, max(LOOK, (view.tick - youngest) // 10))


def _matters(refusal: Refusal, now: datetime, policy: Policy) -> bool:
    """Whether a refusal still steers anything: it stands, is counted, or would be doubled."""
    remembered = refusal.until + (refusal.until - refusal.at)
    return now <= remembered or now <= refusal.at + timedelta(seconds=policy.fallback_window_s)


def _offer(place: Place, tier: str, zone: str | None, purchase: Purchase) -> Offer:
    machine, gpu, count = MACHINE
    return Offer(place.provider, tier, place.region, zone, machine, gpu, count, purchase, place)


def _profile(setting: Setting) -> Profile:
    """The stand-in, with patience for the slowest cold start."""
    profile = load_profile(MODEL)
    slowest = max((*setting.cold_starts, setting.on_demand_cold_start)) * setting.tick_s
    patience = max(profile.serving.start_s, slowest + 60)
    return replace(profile, serving=replace(profile.serving, start_s=patience))
