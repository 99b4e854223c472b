"""Which pools should be asked whether they have room, and how soon again. Pure."""

from __future__ import annotations

from arbiter.spot.beliefs import Pool
from arbiter.spot.situation import Situation, Tuning, counted


def probes(situation: Situation) -> list[str]:
    """Pools that should be asked whether they have room for one more, most overdue first.

    Those with machines of ours are asked because one that has no more room than we take, and had,
    is about to take some away.
    """
    now, tuning = situation.now, situation.tuning
    ours = counted(situation.held)
    due = []
    for offer in situation.offered:
        pool = situation.beliefs.pool(offer.name, offer.region)
        held = ours.get(offer.name, 0)
        asked = pool.asked_at if held else pool.seen_at
        late = now - asked - _probe_wait(tuning, pool, held, now)
        if late >= 0:
            due.append((-late, offer.name))
    due.sort(key=lambda one: one[0])
    return [name for _, name in due]


def _probe_wait(tuning: Tuning, pool: Pool, held: int, now: float) -> float:
    if held:
        full = pool.full_at is not None and held >= pool.full_at
        return wait_s(tuning, now - pool.full_since) if full else tuning.room_probe_s
    if pool.up:
        return tuning.up_probe_s
    return 0.0 if pool.down_since is None else wait_s(tuning, now - pool.down_since)


def wait_s(tuning: Tuning, down_s: float) -> float:
    """Seconds after which a pool is asked again that has refused for `down_s` seconds."""
    return min(tuning.down_probe_max_s, max(tuning.down_probe_min_s, tuning.down_share * down_s))
