"""What is remembered from poll to poll never changes what is found in one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from arbiter.difference import difference
from arbiter.provider import PricedOffer
from arbiter.screening import Screening
from arbiter.store.brought import Brought, SeriesKey, key_of
from arbiter.testing import priced

SOLD = [
    priced(f"r{region}", usd, gpu_count=gpus)
    for region in range(4)
    for usd in ("0.50", "0.60", "500", "0")
    for gpus in (1, 8)
]
OFFERS = st.lists(st.sampled_from(SOLD), max_size=20)


@st.composite
def polls(draw: st.DrawFn) -> list[list[PricedOffer]]:
    """Polls of many offers, of which a few change from one to the next."""
    standing = draw(st.lists(st.sampled_from(SOLD), min_size=0, max_size=40))
    found = [standing]
    for _ in range(draw(st.integers(1, 4))):
        standing = list(standing)
        for _ in range(draw(st.integers(0, 3))):
            if standing:
                standing[draw(st.integers(0, len(standing) - 1))] = draw(st.sampled_from(SOLD))
        if draw(st.booleans()):
            standing = draw(st.permutations(standing)) + draw(OFFERS)
        found.append(standing)
    return found


@given(polls())
def test_a_poll_after_others_is_screened_as_if_it_were_the_first(
    brought: list[list[PricedOffer]],
) -> None:
    screening = Screening()
    for offers in brought:
        assert screening.screen(offers) == Screening().screen(offers)


@given(polls())
def test_of_several_offers_for_one_series_the_last_counts_in_every_poll(
    brought: list[list[PricedOffer]],
) -> None:
    memory, known = Brought(), dict[SeriesKey, PricedOffer]()
    for offers in brought:
        news = memory.take(offers)
        for key in news.vanished:
            del known[key]
        known.update(news.fresh)
        assert {key: id(one) for key, one in known.items()} == {
            key_of(one): id(one) for one in offers
        }


@given(OFFERS, OFFERS)
def test_the_difference_is_what_only_one_of_them_has(
    before: list[PricedOffer], after: list[PricedOffer]
) -> None:
    gone, come = difference(before, after)
    distinct = len(set(map(id, before))) == len(before) and len(set(map(id, after))) == len(after)
    if distinct:
        assert set(map(id, gone)) == set(map(id, before)) - set(map(id, after))
        assert set(map(id, come)) == set(map(id, after)) - set(map(id, before))
    assert {id(one) for one in come} >= set(map(id, after)) - set(map(id, before))
    assert {id(one) for one in gone} >= set(map(id, before)) - set(map(id, after))
