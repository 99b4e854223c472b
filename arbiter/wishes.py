"""How a service's mix of spot and on-demand machines is brought nearer to the best one. Pure.

`arbiter.spot` scores mixes and names the next step; here that step meets the market (which offer)
and the bounds that a user sets on moving (how soon, how often, for how much).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from arbiter.asked import Asked
from arbiter.commitments import COMMITTED, fixed, machine_of
from arbiter.costs import cheapest_to_buy
from arbiter.domain import Candidate, Expected, Purchase, Replica, ReplicaState
from arbiter.economics import expected, pays
from arbiter.policy import Policy
from arbiter.pools import group_of, pool_of, told_of
from arbiter.spot.beliefs import Beliefs, hazard_now
from arbiter.spot.decide import Board, Step
from arbiter.spot.situation import Held, Situation
from arbiter.standing import Standing, Wish, up_to
from arbiter.steering import in_aim, knobs_of

SPOT_SHARE = Decimal("0.35")
"""Spot's price over on-demand's, where no on-demand price is known to compare with: the mean of
the EU's GPU spot prices of 2026 over their list prices."""

SPARE_STAYS = 2
"""For how many of the policy's min_stay_s a spare stands at least: without losses a service makes
no more than a day / (SPARE_STAYS x min_stay_s) launches a day for each of its spares."""

MOST_STEPS = 64
"""Steps of one plan; more than any fleet needs at once."""


class Wishes:
    """The wishes of one service in one plan.

    A wish that the policy's bounds forbid is passed over, and the next best is asked for.
    """

    def __init__(self, standing: Standing, policy: Policy, beliefs: Beliefs) -> None:
        self._standing, self._policy = standing, policy
        self._pools = standing.market.pools
        self._bought = cheapest_to_buy(standing.candidates, policy)
        known = in_aim(up_to(standing.now, standing.machines, beliefs), standing.service, policy)
        seeds = told_of(beliefs.seeds, [*known.pools, *self._pools]) if beliefs.seeds else {}
        self._beliefs = replace(known, seeds=seeds) if seeds != known.seeds else known
        self._unit = self._price_of_one()
        self._machines = list(standing.machines)
        self._used = {one.offer.where for one in standing.machines}
        self._launched: list[Held] = []
        alive = [one for one in standing.machines if not self._is_doomed(one)]
        self._fixed = fixed(alive, standing.covered, policy.base_on_demand, standing.replicas)
        self._coming = 0  # of those that are fixed once they are launched
        self._free = dict(standing.free)
        self._missing_cost = policy.missing_cost
        self._refused = self._not_to_be_tried()
        self._may_buy = self._bought is not None
        self._asked = Asked(standing, policy, self._beliefs, self._pools, self._unit)
        self._asked.begin(self._refused)
        self._board: Board | None = None

    def all(self) -> list[Wish]:
        """The steps that are wanted now, in their order."""
        found = self._on_what_is_paid_for() + self._base()
        for _ in range(MOST_STEPS):
            board = self._board = self._board or Board(self._situation())
            step = None if self._idles(board) else board.step(self._refused)
            if step is None:
                break
            self._missing_cost = board.missing_cost
            wish = self._ending(step) if step.kind == "end" else self._launching(step)
            if wish is not None:
                found.append(wish)
            elif step.kind == "end":
                break  # what may not end now is asked for again by a later plan
        return found

    def _idles(self, board: Board) -> bool:
        """Whether all that the board may still name would be passed over."""
        spares = self._count() - self._standing.replicas
        if spares < 0 or self._may_take_a_place():
            return False
        return board.idle(self._refused, beside=spares < self._policy.max_spares)

    def cost_share(self, running: Sequence[Replica]) -> float | None:
        """What these cost as a share of all ordered replicas on demand; None of no replicas."""
        if not running or not self._standing.replicas:
            return None
        return sum(self._price_now(one) for one in running) / self._standing.replicas

    # --- what no rule has to choose ---------------------------------------------------------------

    def _on_what_is_paid_for(self) -> list[Wish]:
        """Replicas onto machines of commitments: what is missing, else in the place of the dearest.

        What using one costs besides must not be more than the cheapest other offer.
        """
        found: list[Wish] = []
        paid = self._standing.market.paid
        if not paid:
            return found
        others = [one for one in self._standing.candidates if COMMITTED not in one.marks]
        for candidate in paid:
            machine = machine_of(candidate.quote.offer) or ""
            dear = bool(others) and candidate.usd_per_mtok > others[0].usd_per_mtok
            while not dear and self._free.get(machine, 0) > 0 and self._room() > 0:
                wish: Wish | None = Wish(candidate, None, False, "it is paid for already")
                if self._count() >= self._standing.replicas:
                    wish = self._move(candidate)
                if wish is None:
                    break
                self._free[machine] -= 1
                self._coming += 1
                found.append(wish)
        return found

    def _base(self) -> list[Wish]:
        """Replicas that are always on demand, as far as they are not yet."""
        wanted = min(self._policy.base_on_demand, self._standing.replicas)
        lacking = wanted - len(self._fixed) - self._coming
        if self._bought is None or lacking <= 0:
            return []
        self._coming += lacking
        self._used.add(self._bought.quote.offer.where)
        reason = f"on demand, as {wanted} of {self._standing.replicas} replicas always are"
        return [Wish(self._bought, None, False, reason)] * lacking

    def _room(self) -> int:
        return self._standing.replicas - len(self._fixed) - self._coming

    def _count(self) -> int:
        """Machines that count, those of this plan included."""
        standing = sum(not self._is_doomed(one) for one in self._machines)
        return standing + len(self._launched) + self._coming

    # --- what is asked --------------------------------------------------------------------------

    def _situation(self) -> Situation:
        policy = self._policy
        return Situation(
            now=self._standing.now.timestamp(),
            replicas=self._standing.replicas - len(self._fixed) - self._coming,
            knobs=knobs_of(policy),
            on_demand_cold_h=self._asked.cold_h(self._bought),
            offered=self._asked.offered,
            held=[self._held(one) for one in self._machines if one.cluster not in self._fixed]
            + self._launched,
            beliefs=self._beliefs,
            probing=False,
            on_demand=self._may_buy,
            service=self._standing.service,
        )

    def _held(self, replica: Replica) -> Held:
        spot = replica.offer.purchase is Purchase.SPOT
        return Held(
            id=replica.cluster,
            pool=pool_of(replica.offer) if spot else None,
            ready=replica.state is ReplicaState.HEALTHY,
            doomed=replica.cluster in self._standing.doomed,
            price=self._price_now(replica),
        )

    def _price_now(self, replica: Replica) -> float:
        """On-demand hours per hour; of one whose price is not known, those of on demand."""
        cost = self._standing.costs.get(replica.cluster)
        return 1.0 if cost is None else self._relative(cost)

    def _price_of_one(self) -> Decimal:
        """USD per million tokens that count as 1: the cheapest on-demand offer's."""
        if self._bought is not None:
            return self._bought.usd_per_mtok
        for candidate in self._standing.candidates:
            if candidate.usd_per_mtok > 0:
                return candidate.usd_per_mtok / SPOT_SHARE
        return max(self._standing.costs.values(), default=Decimal(0)) or Decimal(1)

    def _relative(self, usd_per_mtok: Decimal) -> float:
        return float(usd_per_mtok / self._unit)

    def _not_to_be_tried(self) -> set[str]:
        """No spot in a churn, nor for replicas that are missing after many failures in minutes.

        Then every other place that refuses costs them time. A spare, or a move, costs nobody any.
        """
        many = self._standing.failures >= self._policy.fallback_after
        many = many and self._count() < self._standing.replicas
        if self._bought is None or not (many or self._standing.churn is not None):
            return set()
        return set(self._pools)

    # --- what is answered -----------------------------------------------------------------------

    def _launching(self, step: Step) -> Wish | None:
        found = self._bought if step.pool is None else self._pools[step.pool]
        if found is None:
            return None
        chosen = self._spread(found)
        wish = self._launch(chosen, step)
        if wish is None:
            self._pass_over(step)
            return None
        offer = chosen.quote.offer
        self._used.add(offer.where)
        pool = pool_of(offer) if offer.purchase is Purchase.SPOT else None
        name = f"new-{len(self._launched)}"
        price = self._relative(chosen.usd_per_mtok)
        self._hold(Held(id=name, pool=pool, ready=False, doomed=False, price=price))
        return wish

    def _hold(self, one: Held) -> None:
        self._launched.append(one)
        if one.pool is not None:
            self._taken(one.pool)
        if self._board is not None:
            self._board.hold(one)

    def _taken(self, pool: str) -> None:
        for offered in self._asked.taken(pool, self._refused):
            if self._board is not None:
                self._board.offer(offered)

    def _expected(self, chosen: Candidate, step: Step) -> Expected:
        offer, now = chosen.quote.offer, self._standing.now.timestamp()
        losses_per_h = 0.0
        if offer.purchase is Purchase.SPOT:
            losses_per_h = hazard_now(self._beliefs, pool_of(offer), group_of(offer), now)
        return expected(
            step.why,
            chosen,
            self._standing.profile,
            cold_h=self._asked.cold_h(chosen),
            losses_per_h=losses_per_h,
            on_demand=self._bought,
            missing_cost=self._missing_cost,
        )

    def _launch(self, chosen: Candidate, step: Step) -> Wish | None:
        count = self._count()
        if count < self._standing.replicas:
            reason = self._why_needed(chosen)
        elif (
            step.why.replaces is not None
            or count >= self._standing.replicas + self._policy.max_spares
        ):
            # No spare more, but it may take the place of a dearer one.
            return self._move(chosen, step)
        else:
            reason = _why_spare(step)
        return Wish(chosen, None, False, reason, self._expected(chosen, step))

    def _move(self, chosen: Candidate, step: Step | None = None) -> Wish | None:
        """In the place of the dearest, where the policy's bounds on moving allow it."""
        dearest = self._to_move()
        if dearest is None or chosen.usd_per_mtok > self._worth_moving(dearest):
            return None
        figures = None if step is None else self._expected(chosen, step)
        if figures is not None and not pays(figures):
            return None
        saving = 1 - chosen.usd_per_mtok / self._standing.costs[dearest.cluster]
        reason = f"{saving:.0%} cheaper than {dearest.cluster}"
        return Wish(chosen, dearest, True, reason, figures)

    def _to_move(self) -> Replica | None:
        """The dearest replica, if one may move for money now."""
        costs = self._standing.costs
        if self._launched or self._coming or self._standing.moves_left <= 0:
            return None
        if not all(self._may_move(one) for one in self._machines):
            return None
        moving = [one for one in self._machines if one.cluster not in self._fixed]
        priced = [one for one in moving if one.cluster in costs]
        return max(priced, key=lambda one: (costs[one.cluster], one.cluster), default=None)

    def _may_take_a_place(self) -> bool:
        """Whether anything is cheap enough for a move, and one is allowed."""
        dearest = self._to_move()
        if dearest is None or not self._standing.candidates:
            return False
        return self._standing.candidates[0].usd_per_mtok <= self._worth_moving(dearest)

    def _worth_moving(self, replica: Replica) -> Decimal:
        """USD per million tokens from which down a place is worth the move."""
        return self._standing.costs[replica.cluster] * (1 - self._policy.min_saving)

    def _may_move(self, replica: Replica, stays: int = 1) -> bool:
        since = replica.healthy_at
        stay = timedelta(seconds=self._policy.min_stay_s) * stays
        return since is not None and self._standing.now - since >= stay

    def _ending(self, step: Step) -> Wish | None:
        replica = next((one for one in self._machines if one.cluster == step.id), None)
        if replica is None:
            return None
        healthy = replica.state is ReplicaState.HEALTHY
        lowered_at, now = self._standing.lowered_at, self._standing.now
        superfluous = lowered_at is not None and replica.launched_at <= lowered_at <= now
        if healthy and not superfluous and not self._may_move(replica, SPARE_STAYS):
            return None
        answering = sum(one.state is ReplicaState.HEALTHY for one in self._machines)
        if healthy and answering <= self._standing.replicas:
            return None  # what is to take its place does not answer yet
        self._machines.remove(replica)
        self._board = None
        return Wish(None, replica, False, "the others suffice")

    def _spread(self, found: Candidate) -> Candidate:
        """The candidate itself, or a little dearer one in a place not used yet.

        Two replicas in one place stand, and fall, together.
        """
        if found.quote.offer.where not in self._used:
            return found
        bound = found.usd_per_mtok * (1 + self._policy.spread_premium)
        purchase = found.quote.offer.purchase
        for one in self._standing.candidates:
            offer = one.quote.offer
            if one.usd_per_mtok > bound:
                break
            elsewhere = offer.where not in self._used and offer.purchase is purchase
            elsewhere = elsewhere and COMMITTED not in one.marks
            if elsewhere and pool_of(offer) not in self._refused:
                return one
        return found

    def _pass_over(self, step: Step) -> None:
        """What was not granted is not asked for again, nor what cannot be granted either."""
        if step.pool is None:
            self._buy_no_more()
        else:
            self._refused.add(step.pool)
            self._taken(step.pool)
        if self._count() < self._standing.replicas + self._policy.max_spares:
            return  # another place may still be granted as a spare
        dearest = self._to_move()
        if dearest is None:
            self._refused.update(self._pools)
            self._buy_no_more()
            return
        most = self._worth_moving(dearest)
        self._refused.update(name for name, one in self._pools.items() if one.usd_per_mtok > most)
        if self._bought is not None and self._bought.usd_per_mtok > most:
            self._buy_no_more()

    def _buy_no_more(self) -> None:
        if self._may_buy and self._board is not None:
            self._board.buy_no_more()
        self._may_buy = False

    def _is_doomed(self, replica: Replica) -> bool:
        return replica.cluster in self._standing.doomed

    def _why_needed(self, chosen: Candidate) -> str:
        failures = self._standing.failures
        on_demand = chosen.quote.offer.purchase is Purchase.ON_DEMAND
        if on_demand and self._standing.churn is not None:
            return str(self._standing.churn)
        if on_demand and failures >= self._policy.fallback_after:
            return f"on-demand, after {failures} spot failures"
        if failures:
            return f"the cheapest left after {failures} spot failures"
        if chosen is self._standing.candidates[0]:
            return "the cheapest eligible offer"
        return "the best of the eligible offers by price and risk"


def _why_spare(step: Step) -> str:
    before, after = step.why.missing_before, step.why.missing_after
    return f"a spare: {before:.1%} of replicas would be missing without it, {after:.1%} with it"
