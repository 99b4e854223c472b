"""Rules over places: what each level lets in, and what each refusal says."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from arbiter.domain import Place
from arbiter.errors import UnknownName
from arbiter.regions import load_atlas
from arbiter.resources import resource_dir
from arbiter.sovereignty import (
    Allowed,
    Level,
    Refused,
    Rule,
    Selection,
    judge,
    parse_level,
)

EUROPEAN = Place(
    provider="ovh",
    region="GRA11",
    country="FR",
    operator="OVH SAS",
    operator_country="FR",
    parent="OVH Groupe SA",
    parent_country="FR",
    cloud_act="no",
    certificates=frozenset({"C5"}),
    location_confidence="docs",
    operator_confidence="code",
    certificates_confidence="memory",
    source="the table",
)
AMERICAN = replace(
    EUROPEAN, provider="aws", region="eu-west-3", parent="Amazon.com Inc", parent_country="US",
    operator="Amazon Web Services EMEA SARL", operator_country="LU", cloud_act="yes",
)  # fmt: skip


def refusal(place: Place, rule: Rule, tier: str = "standard") -> Refused:
    verdict = judge(place, rule, tier)
    assert isinstance(verdict, Refused)
    return verdict


def passes(place: Place, rule: Rule, tier: str = "standard") -> bool:
    return isinstance(judge(place, rule, tier), Allowed)


def gpu_regions_for_everyone() -> list[Place]:
    atlas = load_atlas()
    with (resource_dir("data") / "regions" / "regions.csv").open(encoding="utf-8") as file:
        return [
            atlas.place(row["provider"], row["region_id"])
            for row in csv.DictReader(file)
            if row["gpu"] == "yes" and row["access"] == "general"
        ]


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        (Rule(Level.ANY), 183),
        (Rule(Level.TRANSFER), 159),
        (Rule(Level.EEA), 56),
        (Rule(Level.EU), 46),
        (Rule(Level.EU_OPERATOR, tolerate_partial=True), 16),
        (Rule(Level.EU_OPERATOR), 14),
        (Rule(Level.EU_CERTIFIED), 6),
    ],
)
def test_regions_left_at_each_level(rule: Rule, count: int) -> None:
    assert sum(passes(place, rule) for place in gpu_regions_for_everyone()) == count


@pytest.mark.parametrize(
    ("provider", "region", "level", "refused_by"),
    [
        ("aws", "eu-west-2", Level.EU, "country_outside_eu"),
        ("aws", "eu-west-2", Level.EEA, "country_outside_eea"),
        ("gcp", "europe-west6", Level.EEA, "country_outside_eea"),
        ("runpod", "EUR-IS-1", Level.EU, "country_outside_eu"),
        ("runpod", "EUR-IS-1", Level.EEA, None),
        ("runpod", "US-DE-1", Level.EU, "country_outside_eu"),
        ("runpod", "US-DE-1", Level.TRANSFER, None),
        ("aws", "ap-east-1", Level.TRANSFER, "transfer_basis_missing"),
        ("aws", "eu-central-1", Level.EU, None),
        ("aws", "eu-central-1", Level.EU_OPERATOR, "operator_under_us_parent"),
        ("aws-eusc", "eusc-de-east-1", Level.EU, None),
        ("aws-eusc", "eusc-de-east-1", Level.EU_OPERATOR, "operator_under_us_parent"),
        ("s3ns", "u-france-east1", Level.EU_OPERATOR, "cloud_act_reach"),
        ("nebius", "eu-north1", Level.EU_OPERATOR, "cloud_act_reach"),
        ("nebius", "eu-west2", Level.EU, "country_unknown"),
        ("lambda", "europe-south-1", Level.TRANSFER, "country_unknown"),
        ("scaleway", "fr-par-2", Level.EU_OPERATOR, None),
        ("scaleway", "fr-par-2", Level.EU_CERTIFIED, "not_certified"),
        ("outscale", "cloudgouv-eu-west-1", Level.EU_CERTIFIED, None),
        ("aws", "eu-nowhere-1", Level.TRANSFER, "country_unknown"),
    ],
)
def test_the_table_under_the_levels(
    provider: str, region: str, level: Level, refused_by: str | None
) -> None:
    verdict = judge(load_atlas().place(provider, region), Rule(level))
    assert (verdict.rule if isinstance(verdict, Refused) else None) == refused_by


def test_the_default_rule_is_the_eu() -> None:
    assert Rule().level is Level.EU
    assert refusal(replace(EUROPEAN, country="GB"), Rule()).rule == "country_outside_eu"


def test_a_refusal_names_the_place_and_its_country() -> None:
    london = load_atlas().place("aws", "eu-west-2")
    assert refusal(london, Rule()).reason == "aws/eu-west-2 is in GB, outside the EU"


def test_evidence_has_confidence_and_source() -> None:
    verdict = judge(EUROPEAN, Rule(Level.EU_CERTIFIED))
    assert verdict.evidence == (
        "country: FR (docs, the table)",
        "operator: OVH SAS (code, the table)",
        "operator country: FR (code, the table)",
        "parent: OVH Groupe SA, FR (code, the table)",
        "US CLOUD Act: no (code, the table)",
        "certificates: C5 (memory, the table)",
    )


def test_the_basis_of_a_transfer_is_evidence() -> None:
    verdict = judge(load_atlas().place("aws", "us-east-1"), Rule(Level.TRANSFER))
    assert any("Data Privacy Framework" in fact for fact in verdict.evidence)


@pytest.mark.parametrize("level", [level for level in Level if level is not Level.ANY])
def test_third_parties_are_refused_whatever_the_country(level: Level) -> None:
    place = load_atlas().place("runpod", "EU-NL-1")
    assert refusal(place, Rule(level), "community").rule == "tier_operator_unknown"
    vast = replace(EUROPEAN, provider="vast")
    assert refusal(vast, Rule(level), "secure").rule == "tier_operator_unknown"


def test_third_parties_pass_only_where_nothing_is_asked() -> None:
    place = load_atlas().place("runpod", "EU-NL-1")
    assert passes(place, Rule(Level.ANY), "community")
    asked = Rule(Level.ANY, deny=Selection(operators=("Some Firm",)))
    assert refusal(place, asked, "community").rule == "operator_unknown"
    listed = Rule(Level.ANY, allow=Selection(operators=("Runpod Inc",)))
    assert refusal(place, listed, "community").rule == "operator_unknown"
    assert passes(place, listed, "secure")


def test_a_tier_that_nobody_has_heard_of_is_not_trusted() -> None:
    assert refusal(EUROPEAN, Rule(), "friends").rule == "tier_operator_unknown"


@pytest.mark.parametrize(
    ("change", "refused_by"),
    [
        ({"country": None}, "country_unknown"),
        ({"country": "CH"}, "country_outside_eu"),
        ({"operator": None}, "operator_unknown"),
        ({"operator_country": None}, "operator_unknown"),
        ({"parent_country": None}, "operator_unknown"),
        ({"operator_country": "CH"}, "operator_outside_eu"),
        ({"parent_country": "GB"}, "operator_outside_eu"),
        ({"parent_country": "US"}, "operator_under_us_parent"),
        ({"cloud_act": None}, "cloud_act_reach"),
        ({"cloud_act": "yes"}, "cloud_act_reach"),
        ({"cloud_act": "partial"}, "cloud_act_reach"),
        ({"cloud_act": "contested"}, "cloud_act_reach"),
        ({"certificates": frozenset()}, "not_certified"),
        ({"certificates": frozenset({"C5(in scope, verify)"})}, "not_certified"),
        ({"certificates": frozenset({"SecNumCloud in progress (not qualified)"})}, "not_certified"),
        ({"certificates_confidence": "none"}, "confidence_too_low"),
        ({"location_confidence": "none"}, "confidence_too_low"),
        ({"operator_confidence": "hearsay"}, "confidence_too_low"),
    ],
)
def test_one_missing_fact_is_enough(change: dict[str, object], refused_by: str) -> None:
    assert passes(EUROPEAN, Rule(Level.EU_CERTIFIED))
    place = replace(EUROPEAN, **change)  # type: ignore[arg-type]
    assert refusal(place, Rule(Level.EU_CERTIFIED)).rule == refused_by


def test_a_us_affiliate_may_be_tolerated_a_us_parent_never() -> None:
    tolerant = Rule(Level.EU_OPERATOR, tolerate_partial=True)
    assert passes(replace(EUROPEAN, cloud_act="partial"), tolerant)
    assert refusal(AMERICAN, tolerant).rule == "operator_under_us_parent"


def test_weak_facts_do_not_count_where_strong_ones_are_asked_for() -> None:
    weak = replace(EUROPEAN, location_confidence="memory")
    assert passes(weak, Rule())
    verdict = refusal(weak, Rule(minimum_confidence="code"))
    assert verdict.rule == "confidence_too_low"
    assert "'memory'" in verdict.reason
    assert passes(EUROPEAN, Rule(Level.EU_OPERATOR, minimum_confidence="code"))
    asked = Rule(Level.EU_OPERATOR, minimum_confidence="docs")
    assert refusal(EUROPEAN, asked).rule == "confidence_too_low"


def test_a_confidence_that_does_not_exist_is_refused_when_the_rule_is_made() -> None:
    with pytest.raises(ValueError, match="must be memory, code or docs"):
        Rule(minimum_confidence="sure")


def test_the_data_privacy_framework_is_a_switch() -> None:
    virginia = load_atlas().place("aws", "us-east-1")
    assert passes(virginia, Rule(Level.TRANSFER))
    assert refusal(virginia, Rule(Level.TRANSFER, trust_dpf=False)).rule == "transfer_basis_missing"
    canada = load_atlas().place("aws", "ca-central-1")
    assert passes(canada, Rule(Level.TRANSFER, trust_dpf=False))


@pytest.mark.parametrize(
    ("deny", "refused_by"),
    [
        (Selection(providers=("ovh",)), "denied_provider"),
        (Selection(regions=("ovh/GRA11",)), "denied_region"),
        (Selection(regions=("GRA11",)), "denied_region"),
        (Selection(countries=("GB", "FR")), "denied_country"),
        (Selection(operators=("ovh sas",)), "denied_operator"),
        (Selection(operators=("OVH Groupe SA",)), "denied_operator"),
        (Selection(regions=("aws/GRA11",)), None),
        (Selection(countries=("GB",), operators=("Scaleway SAS",)), None),
    ],
)
@pytest.mark.parametrize("level", list(Level))
def test_deny_wins_at_every_level(level: Level, deny: Selection, refused_by: str | None) -> None:
    same = Selection(("FR",), ("ovh",), ("GRA11",), ("OVH SAS",))
    verdict = judge(EUROPEAN, Rule(level, allow=same, deny=deny))
    assert (verdict.rule if isinstance(verdict, Refused) else None) == refused_by


def test_what_is_not_known_may_be_what_is_denied() -> None:
    nowhere = Place("aws", "xx-1")
    assert passes(nowhere, Rule(Level.ANY))
    by_country = Rule(Level.ANY, deny=Selection(countries=("RU",)))
    assert refusal(nowhere, by_country).rule == "country_unknown"
    by_operator = Rule(Level.ANY, deny=Selection(operators=("Some Firm",)))
    assert refusal(nowhere, by_operator).rule == "operator_unknown"


@pytest.mark.parametrize(
    "allow",
    [
        Selection(providers=("aws",)),
        Selection(regions=("GRA9", "aws/GRA11")),
        Selection(countries=("DE",)),
        Selection(operators=("Scaleway SAS",)),
        Selection(countries=("FR",), operators=("Scaleway SAS",)),
    ],
)
@pytest.mark.parametrize("level", list(Level))
def test_an_allow_list_narrows(level: Level, allow: Selection) -> None:
    assert refusal(EUROPEAN, Rule(level, allow=allow)).rule == "not_on_allow_list"


def test_an_allow_list_never_overrides_the_level() -> None:
    london = load_atlas().place("aws", "eu-west-2")
    allow = Selection(("GB",), ("aws",), ("aws/eu-west-2",))
    assert refusal(london, Rule(allow=allow)).rule == "country_outside_eu"
    assert passes(london, Rule(Level.TRANSFER, allow=allow))


@pytest.mark.parametrize(
    ("text", "level"),
    [("eu", Level.EU), (" EU-Operator ", Level.EU_OPERATOR), ("eu_certified", Level.EU_CERTIFIED)],
)
def test_levels_by_name(text: str, level: Level) -> None:
    assert parse_level(text) is level


def test_a_level_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(UnknownName) as caught:
        parse_level("eu-oprator")
    assert str(caught.value) == (
        "there is no sovereignty level 'eu-oprator'; did you mean eu-operator? "
        "the levels are any, transfer, eea, eu, eu-operator, eu-certified"
    )
    with pytest.raises(UnknownName, match="the levels are any"):
        parse_level("")
