"""What holds for every place and every rule, not only for those that somebody thought of."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from arbiter.countries import ADEQUATE, ADEQUATE_FOR_SOME, EEA, EU
from arbiter.domain import Place
from arbiter.sovereignty import Allowed, Level, Rule, Selection, judge

COUNTRIES = (*sorted(EEA), *sorted(ADEQUATE), *ADEQUATE_FOR_SOME, "CN", "RU", "IN", "ZA", None)
NAMES = ("eu-west-2", "EU-FR-1", "europe-west6", "EUR-IS-1", "US-DE-1", "eu", "de/fra", "")
OPERATORS = ("OVH SAS", "Amazon Web Services EMEA SARL", None)
PARENTS = ("OVH Groupe SA", "Amazon.com Inc", None)
CONFIDENCES = ("none", "memory", "code", "docs", "hearsay")
CERTIFICATES = ("C5", "SecNumCloud-3.2", "SecNumCloud in progress (not qualified)", "SOC2")

countries = st.sampled_from(COUNTRIES)
confidences = st.sampled_from(CONFIDENCES)
tiers = st.sampled_from(("standard", "secure", "community", "", "other"))
places = st.builds(
    Place,
    provider=st.sampled_from(("aws", "ovh", "runpod", "vast")),
    region=st.sampled_from(NAMES) | st.text(max_size=12),
    country=countries,
    operator=st.sampled_from(OPERATORS),
    operator_country=countries,
    parent=st.sampled_from(PARENTS),
    parent_country=countries,
    cloud_act=st.sampled_from(("no", "partial", "yes", "yes_parent", "contested", None)),
    certificates=st.frozensets(st.sampled_from(CERTIFICATES)),
    location_confidence=confidences,
    operator_confidence=confidences,
    certificates_confidence=confidences,
)
selections = st.builds(
    Selection,
    countries=st.lists(st.sampled_from([c for c in COUNTRIES if c]), max_size=3).map(tuple),
    providers=st.lists(st.sampled_from(("aws", "ovh", "runpod")), max_size=2).map(tuple),
    regions=st.lists(st.sampled_from((*NAMES, "aws/eu-west-2")), max_size=2).map(tuple),
    operators=st.lists(st.sampled_from(("ovh sas", "Amazon.com Inc")), max_size=2).map(tuple),
)
rules = st.builds(
    Rule,
    level=st.sampled_from(Level),
    allow=selections,
    deny=selections,
    minimum_confidence=st.sampled_from(("memory", "code", "docs")),
    tolerate_partial=st.booleans(),
    trust_dpf=st.booleans(),
)
trusted_places = st.builds(
    replace,
    st.builds(
        Place,
        provider=st.sampled_from(("aws", "ovh")),
        region=st.sampled_from(NAMES),
        country=st.sampled_from(sorted(EEA)),
        operator=st.just("OVH SAS"),
        operator_country=st.sampled_from(sorted(EU)),
        parent_country=st.sampled_from(sorted(EU)),
        cloud_act=st.sampled_from(("no", "partial")),
        certificates=st.frozensets(st.sampled_from(CERTIFICATES)),
    ),
    location_confidence=st.just("docs"),
    operator_confidence=st.just("docs"),
    certificates_confidence=st.just("docs"),
)


def allowed(place: Place, rule: Rule, tier: str) -> bool:
    return isinstance(judge(place, rule, tier), Allowed)


@given(places | trusted_places, rules, tiers)
def test_what_a_stricter_level_allows_every_looser_one_allows(
    place: Place, rule: Rule, tier: str
) -> None:
    passed = [allowed(place, replace(rule, level=level), tier) for level in Level]
    assert passed == sorted(passed, reverse=True)


INSIDE: dict[Level, frozenset[str]] = {
    Level.TRANSFER: EEA | ADEQUATE | set(ADEQUATE_FOR_SOME),
    Level.EEA: EEA,
    Level.EU: EU,
    Level.EU_OPERATOR: EU,
    Level.EU_CERTIFIED: EU,
}
OUTSIDE = [(level, one) for level, of in INSIDE.items() for one in COUNTRIES if one not in of]


@given(places, rules, tiers, st.sampled_from(OUTSIDE))
def test_no_country_outside_the_level_is_ever_allowed(
    place: Place, rule: Rule, tier: str, outside: tuple[Level, str | None]
) -> None:
    level, country = outside
    assert not allowed(replace(place, country=country), replace(rule, level=level), tier)


@given(trusted_places, st.sampled_from(NAMES) | st.text(max_size=12), st.sampled_from(Level))
def test_the_name_of_a_region_decides_nothing(place: Place, name: str, level: Level) -> None:
    rule = Rule(level)
    assert allowed(place, rule, "standard") == allowed(
        replace(place, region=name), rule, "standard"
    )


@given(
    trusted_places,
    st.sampled_from([level for level in Level if level is not Level.ANY]),
    st.sampled_from(("country", "operator")),
)
def test_an_unknown_is_refused(place: Place, level: Level, fact: str) -> None:
    unknown = replace(place, country=None) if fact == "country" else replace(place, operator=None)
    assert not allowed(unknown, Rule(level), "standard")


@given(places | trusted_places, rules, tiers)
def test_denying_more_never_lets_more_in(place: Place, rule: Rule, tier: str) -> None:
    if allowed(place, rule, tier):
        assert allowed(place, replace(rule, deny=Selection()), tier)
        assert allowed(place, replace(rule, allow=Selection()), tier)


@given(places | trusted_places, rules, tiers)
def test_asking_for_better_evidence_never_lets_more_in(place: Place, rule: Rule, tier: str) -> None:
    passed = [
        allowed(place, replace(rule, minimum_confidence=least), tier)
        for least in ("memory", "code", "docs")
    ]
    assert passed == sorted(passed, reverse=True)


@given(places, rules, tiers)
def test_a_verdict_is_one_sentence_with_evidence(place: Place, rule: Rule, tier: str) -> None:
    verdict = judge(place, rule, tier)
    assert verdict == judge(place, rule, tier)
    assert verdict.reason
    assert not verdict.reason.endswith(".")
    assert verdict.evidence
