"""Who may run the machine, and where: a place and a rule give a verdict. Pure.

Levels contain one another; a stricter one asks for more facts, and a fact that it asks for and
that is not known refuses the place:

    any            nothing is asked
    transfer       the EEA, or a country for which a transfer basis under the GDPR exists
    eea            the EU, Iceland, Liechtenstein and Norway
    eu             the 27 member states
    eu-operator    and the operator and its ultimate parent are from the EU, out of the US CLOUD Act
    eu-certified   and it holds BSI C5 or SecNumCloud for this service

The country decides, never the name of a region. Nothing here is legal advice: a level is a reading
of facts that carry their own confidence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from functools import lru_cache

from arbiter.countries import ADEQUATE, ADEQUATE_FOR_SOME, EEA, EU, EVIDENCE_DATE, transfer_basis
from arbiter.domain import Place
from arbiter.errors import UnknownName

QUALIFYING = frozenset({"C5", "C5-Type1", "C5-Type2", "SecNumCloud-3.2"})
"""Certificates that the level eu-certified accepts, spelt as in the region table.

The spelling is exact on purpose: "SecNumCloud in progress" and "C5(in scope, verify)" are not held.
"""

OPERATED_TIERS = frozenset({"standard", "secure"})
"""Tiers that the provider runs itself. In every other one (RunPod's community cloud, any of Vast)
unnamed third parties host the machine."""

MARKETPLACES = frozenset({"vast"})

_CONFIDENCE = {"none": 0, "memory": 1, "code": 2, "docs": 3}


class Level(StrEnum):
    """How much a rule asks, from the loosest to the strictest."""

    ANY = "any"
    TRANSFER = "transfer"
    EEA = "eea"
    EU = "eu"
    EU_OPERATOR = "eu-operator"
    EU_CERTIFIED = "eu-certified"

    @property
    def strictness(self) -> int:
        """0 for any; whatever a stricter level allows, every looser one allows too."""
        return _STRICTNESS[self]


_STRICTNESS = {level: rank for rank, level in enumerate(Level)}


@dataclass(frozen=True, slots=True)
class Selection:
    """Places picked by name.

    Attributes:
        countries: ISO 3166 alpha-2 codes.
        providers: registry names.
        regions: "provider/region", or a region id of whatever provider.
        operators: legal entities or their ultimate parents, whole names in any case.
    """

    countries: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()

    def names_region(self, place: Place) -> bool:
        """Whether the region is listed, with or without its provider."""
        return place.region in self.regions or f"{place.provider}/{place.region}" in self.regions

    def names_operator(self, place: Place) -> bool:
        """Whether the operator or its parent is listed."""
        listed = {name.casefold() for name in self.operators}
        known = (place.operator, place.parent)
        return any(name is not None and name.casefold() in listed for name in known)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a policy demands of a place.

    Attributes:
        level: what the law and the operator must be like.
        allow: narrows the level; each list that is not empty must name the place. It never lets
            in what the level refuses.
        deny: refused whatever else is said.
        minimum_confidence: "memory", "code" or "docs": weaker facts do not count.
        tolerate_partial: the levels eu-operator and eu-certified accept an operator with a US
            affiliate, which the CLOUD Act may reach.
        trust_dpf: the level transfer accepts the United States under the Data Privacy Framework.
        version, evidence_date: of these rules, for the record of a decision.
    """

    level: Level = Level.EU
    allow: Selection = field(default_factory=Selection)
    deny: Selection = field(default_factory=Selection)
    minimum_confidence: str = "memory"
    tolerate_partial: bool = False
    trust_dpf: bool = True
    version: str = "1"
    evidence_date: date = EVIDENCE_DATE

    def __post_init__(self) -> None:
        if self.minimum_confidence not in ("memory", "code", "docs"):
            raise ValueError(
                f"minimum_confidence is {self.minimum_confidence!r}, must be memory, code or docs"
            )


@dataclass(frozen=True, slots=True)
class Allowed:
    """The place passes.

    Attributes:
        rule: the level that it passed.
        reason: one sentence without a full stop.
        evidence: "fact: value (confidence, source)" for every fact that was asked for.
    """

    rule: str
    reason: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The place does not pass.

    Attributes:
        rule: stable id of the test that failed ("country_outside_eu"), for counting.
        reason: one sentence without a full stop, naming the fact.
        evidence: as of Allowed.
    """

    rule: str
    reason: str
    evidence: tuple[str, ...]


Verdict = Allowed | Refused

MOST_VERDICTS = 4096
"""Newest verdicts that are remembered: about as many as all clouds have regions, for ten rules."""


@lru_cache(maxsize=MOST_VERDICTS)
def judge(place: Place, rule: Rule, tier: str = "standard") -> Verdict:
    """Whether a place passes a rule; found once, as every plan asks it of the same regions.

    Args:
        place: what is known of the region; unknowns are None.
        tier: the provider's product tier; who operates a community tier is never known.
    """
    operated = tier in OPERATED_TIERS and place.provider not in MARKETPLACES
    known = place if operated else _without_operator(place)
    if not operated and rule.level is not Level.ANY:
        failed: Failure = _tier_unknown(place, tier)
    else:
        failed = _first_failure(known, rule)
    evidence = _evidence(known, rule)
    if failed is not None:
        return Refused(*failed, evidence)
    where = f"{_where(place)}, in {place.country or 'a country that is not known'},"
    return Allowed(rule.level, f"{where} passes {rule.level}", evidence)


def parse_level(text: str) -> Level:
    """The level of that name.

    Raises:
        UnknownName: there is no such level; the message lists them and the nearest.
    """
    try:
        return Level(text.strip().lower().replace("_", "-"))
    except ValueError:
        from difflib import get_close_matches

        names = [level.value for level in Level]
        near = get_close_matches(text.lower(), names, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise UnknownName(
            f"there is no sovereignty level {text!r}", f"{guess}the levels are {', '.join(names)}"
        ) from None


Failure = tuple[str, str] | None
"""Rule id and reason, or None for a test that is passed."""


def _first_failure(place: Place, rule: Rule) -> Failure:
    failed = _denied(place, rule)
    for level, test in _TESTS:
        if failed is None and rule.level.strictness >= level.strictness:
            failed = test(place, rule)
    return failed or _not_listed(place, rule)


def _denied(place: Place, rule: Rule) -> Failure:
    deny = rule.deny
    if place.provider in deny.providers:
        return "denied_provider", f"{place.provider} is on the deny list"
    if deny.names_region(place):
        return "denied_region", f"{_where(place)} is on the deny list"
    if deny.countries:
        if place.country in deny.countries:
            return "denied_country", f"{_where(place)} is in {place.country}, which is denied"
        failed = _country_unknown(place, rule)
        if failed:
            return failed
    if deny.operators:
        if deny.names_operator(place):
            return "denied_operator", f"{place.operator} ({place.parent}) is on the deny list"
        return _operator_unknown(place, rule)
    return None


def _misplaced(place: Place, rule: Rule) -> Failure:
    failed = _country_unknown(place, rule)
    if failed:
        return failed
    if place.operator is None:
        return "operator_unknown", f"who operates {_where(place)} is not known"
    here = f"{_where(place)} is in {place.country}"
    if rule.level is Level.TRANSFER:
        return _no_transfer_basis(place, rule, here)
    if rule.level is Level.EEA:
        return None if place.country in EEA else ("country_outside_eea", f"{here}, outside the EEA")
    return None if place.country in EU else ("country_outside_eu", f"{here}, outside the EU")


def _no_transfer_basis(place: Place, rule: Rule, here: str) -> Failure:
    if place.country in EEA or place.country in ADEQUATE:
        return None
    if place.country not in ADEQUATE_FOR_SOME:
        return "transfer_basis_missing", f"{here}, for which no adequacy decision is known"
    if place.country == "US" and not rule.trust_dpf:
        return (
            "transfer_basis_missing",
            f"{here}, and the rule does not trust the Data Privacy Framework",
        )
    return None


def _run_from_outside(place: Place, rule: Rule) -> Failure:
    if place.operator_country is None or place.parent_country is None:
        return "operator_unknown", f"the countries of {place.operator} and its parent are not known"
    if place.parent_country == "US":
        return (
            "operator_under_us_parent",
            f"{place.operator} belongs to {place.parent or 'a parent'} in the US",
        )
    for country in (place.operator_country, place.parent_country):
        if country not in EU:
            return "operator_outside_eu", f"{place.operator} answers to {country}, outside the EU"
    if place.cloud_act == "no" or (place.cloud_act == "partial" and rule.tolerate_partial):
        return None
    reach = place.cloud_act or "not known"
    return "cloud_act_reach", f"the reach of the US CLOUD Act over {place.operator} is {reach}"


def _not_certified(place: Place, rule: Rule) -> Failure:
    if not place.certificates & QUALIFYING:
        return (
            "not_certified",
            f"{place.operator} is not known to hold C5 or SecNumCloud for {place.region}",
        )
    return _too_weak(place, rule, "certificates", place.certificates_confidence)


def _country_unknown(place: Place, rule: Rule) -> Failure:
    if place.country is None:
        return "country_unknown", f"the country of {_where(place)} is not known"
    return _too_weak(place, rule, "country", place.location_confidence)


def _operator_unknown(place: Place, rule: Rule) -> Failure:
    if place.operator is None:
        return "operator_unknown", f"who operates {_where(place)} is not known"
    return _too_weak(place, rule, "operator", place.operator_confidence)


def _not_listed(place: Place, rule: Rule) -> Failure:
    allow = rule.allow
    if allow.providers and place.provider not in allow.providers:
        return "not_on_allow_list", f"{place.provider} is not on the allow list"
    if allow.regions and not allow.names_region(place):
        return "not_on_allow_list", f"{_where(place)} is not on the allow list"
    if allow.countries:
        failed = _country_unknown(place, rule)
        if failed:
            return failed
        if place.country not in allow.countries:
            return (
                "not_on_allow_list",
                f"{_where(place)} is in {place.country}, which is not on the allow list",
            )
    if allow.operators:
        failed = _operator_unknown(place, rule)
        if failed:
            return failed
        if not allow.names_operator(place):
            return "not_on_allow_list", f"{place.operator} is not on the allow list"
    return None


# What each level adds to the looser ones, in the order in which it is asked.
_TESTS: tuple[tuple[Level, Callable[[Place, Rule], Failure]], ...] = (
    (Level.TRANSFER, _misplaced),
    (Level.EU_OPERATOR, _operator_unknown),
    (Level.EU_OPERATOR, _run_from_outside),
    (Level.EU_CERTIFIED, _not_certified),
)


def _too_weak(place: Place, rule: Rule, fact: str, confidence: str) -> Failure:
    if _CONFIDENCE.get(confidence, 0) >= _CONFIDENCE[rule.minimum_confidence]:
        return None
    return (
        "confidence_too_low",
        f"the {fact} of {_where(place)} rests on {confidence!r}, "
        f"the rule asks for {rule.minimum_confidence!r}",
    )


def _tier_unknown(place: Place, tier: str) -> tuple[str, str]:
    return (
        "tier_operator_unknown",
        f"machines of {place.provider}'s tier {tier} stand with third parties that are not named",
    )


def _without_operator(place: Place) -> Place:
    return replace(
        place,
        operator=None,
        operator_country=None,
        parent=None,
        parent_country=None,
        cloud_act=None,
        certificates=frozenset(),
        operator_confidence="none",
        certificates_confidence="none",
    )


def _where(place: Place) -> str:
    return f"{place.provider}/{place.region}"


def _evidence(place: Place, rule: Rule) -> tuple[str, ...]:
    """The facts that the level asks for, for the record."""
    source = place.source or "no source"
    location = f"({place.location_confidence}, {source})"
    facts = [f"country: {place.country or 'unknown'} {location}"]
    if rule.level is Level.TRANSFER:
        facts.append(f"transfer basis: {transfer_basis(place.country)} (lists of {EVIDENCE_DATE})")
    operator = f"({place.operator_confidence}, {source})"
    facts.append(f"operator: {place.operator or 'unknown'} {operator}")
    if rule.level.strictness >= Level.EU_OPERATOR.strictness:
        facts += [
            f"operator country: {place.operator_country or 'unknown'} {operator}",
            f"parent: {place.parent or 'unknown'}, {place.parent_country or 'unknown'} {operator}",
            f"US CLOUD Act: {place.cloud_act or 'unknown'} {operator}",
        ]
    if rule.level is Level.EU_CERTIFIED:
        held = "; ".join(sorted(place.certificates)) or "none known"
        facts.append(f"certificates: {held} ({place.certificates_confidence}, {source})")
    return tuple(facts)
