"""The region table: what it says, how it is looked up, and how a slip in it is reported."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from arbiter.countries import EEA, EU, transfer_basis
from arbiter.domain import Place
from arbiter.errors import ArbiterError
from arbiter.regions import COLUMNS, load_atlas, unknown_names
from arbiter.resources import resource_dir
from arbiter.sovereignty import Selection

TABLE = resource_dir("data") / "regions" / "regions.csv"
GOOD = (
    "ovh,GRA11,Gravelines,FR,yes,yes,not_needed_eu,OVH SAS,FR,OVH Groupe SA,FR,no,,"
    "ISO27001;C5,yes,general,memory,memory,docs,memory,the source,a note"
)


def table(path: Path, *lines: str) -> Path:
    file = path / "regions.csv"
    file.write_text("\n".join((",".join(COLUMNS), *lines)) + "\n", encoding="utf-8")
    return file


def rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("provider", "region", "country"),
    [
        ("aws", "eu-west-2", "GB"),
        ("gcp", "europe-west6", "CH"),
        ("runpod", "EUR-IS-1", "IS"),
        ("runpod", "US-DE-1", "US"),
        ("aws", "eu-central-2", "CH"),
        ("azure", "norwayeast", "NO"),
        ("scaleway", "fr-par-2", "FR"),
    ],
)
def test_names_that_mislead_have_their_true_country(
    provider: str, region: str, country: str
) -> None:
    assert load_atlas().place(provider, region).country == country


def test_a_region_that_is_not_listed_knows_nothing() -> None:
    assert load_atlas().place("aws", "eu-nowhere-9") == Place("aws", "eu-nowhere-9")
    assert load_atlas().place("nobody", "eu-west-1") == Place("nobody", "eu-west-1")


def test_what_the_table_does_not_know_is_none() -> None:
    place = load_atlas().place("lambda", "europe-south-1")
    assert (place.country, place.city, place.adequacy) == (None, None, None)
    assert place.operator == "Lambda Inc"


def test_azure_is_found_in_any_case_and_the_others_as_written() -> None:
    atlas = load_atlas()
    assert atlas.place("azure", "WestEurope") is atlas.place("azure", "westeurope")
    assert atlas.place("azure", "WestEurope").country == "NL"
    assert atlas.place("runpod", "eu-nl-1").country is None


def test_one_region_is_one_object() -> None:
    atlas = load_atlas()
    assert atlas.place("aws", "eu-west-1") is atlas.place("aws", "eu-west-1")
    assert atlas.place("aws", "xx-1") is atlas.place("aws", "xx-1")


def test_asking_for_an_unknown_region_does_not_list_it() -> None:
    atlas = load_atlas(TABLE)
    before = len(atlas)
    atlas.place("aws", "xx-unlisted-1")
    assert len(atlas) == len(list(atlas)) == before == len(rows())
    assert "xx-unlisted-1" not in atlas.regions("aws")


def test_regions_and_providers_are_listed() -> None:
    atlas = load_atlas()
    assert atlas.regions("verda") == ("FIN-01", "FIN-02", "FIN-03", "ICE-01")
    assert atlas.regions("nobody") == ()
    assert {"aws", "gcp", "azure", "lambda", "runpod"} <= set(atlas.providers())


def test_the_derived_columns_agree_with_the_country() -> None:
    def yes(test: bool) -> str:
        return "yes" if test else "no"

    basis = {
        "not_needed_eu": "none needed, EU",
        "not_needed_eea": "none needed, EEA",
        "full": "adequacy decision",
        "partial_pipeda_orgs": "adequate only for recipients under PIPEDA",
        "dpf_certified_orgs_only": (
            "adequate only for firms certified under the Data Privacy Framework"
        ),
        "none": "none",
    }
    for row in rows():
        country = row["country_iso"]
        where = f"{row['provider']}/{row['region_id']}"
        if country == "ZZ":
            assert {row["in_eu"], row["in_eea"], row["adequacy"]} == {"unknown"}, where
            continue
        assert row["in_eu"] == yes(country in EU), where
        assert row["in_eea"] == yes(country in EEA), where
        assert basis[row["adequacy"]] == transfer_basis(country), where


def test_certificates_are_split_and_kept_as_spelt(tmp_path: Path) -> None:
    line = GOOD.replace("ISO27001;C5", '"ISO27001; C5;only this, not that;"')
    place = load_atlas(table(tmp_path, line)).place("ovh", "GRA11")
    assert place.certificates == {"ISO27001", "C5", "only this, not that"}


def test_blank_lines_and_question_marks_are_unknown(tmp_path: Path) -> None:
    line = GOOD.replace(",FR,yes", ",?,yes").replace("OVH SAS,FR", ",unknown")
    place = load_atlas(table(tmp_path, line)).place("ovh", "GRA11")
    assert (place.country, place.operator, place.operator_country) == (None, None, None)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (GOOD + ",one more", "23 columns instead of 22"),
        ("ovh,GRA12", "2 columns instead of 22"),
        (GOOD, "ovh/GRA11 is listed twice"),
        (GOOD.replace("GRA11", "").replace("Gravelines", "x"), "must not be empty"),
        (GOOD.replace("GRA11", "A").replace(",FR,yes", ",fr,yes"), "country_iso is 'fr'"),
        (GOOD.replace("GRA11", "A").replace(",FR,yes", ",France,yes"), "country_iso is 'France'"),
        (GOOD.replace("GRA11", "A").replace("FR,no", "FR,maybe"), "cloud_act_exposed is 'maybe'"),
        (GOOD.replace("GRA11", "A").replace("general,memory", "general,sure"), "confidence is"),
    ],
)
def test_a_malformed_table_names_the_line(tmp_path: Path, line: str, what: str) -> None:
    file = table(tmp_path, GOOD, line)
    with pytest.raises(ArbiterError) as caught:
        load_atlas(file)
    assert str(caught.value).startswith(f"{file}:3: ")
    assert what in str(caught.value)


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "regions.csv"
    file.write_text("provider,region\naws,eu-west-1\n", encoding="utf-8")
    with pytest.raises(ArbiterError, match=r":1: the columns must be provider,region_id"):
        load_atlas(file)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "regions.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ArbiterError, match=r"the region table .*regions\.csv cannot be read"):
        load_atlas(file)


def test_names_that_name_nothing_are_reported_with_the_nearest() -> None:
    selection = Selection(
        countries=("UK", "fr", "DE", "RU"),
        providers=("asure", "aws"),
        regions=("aws/eu-west-22", "fr-par-2", "aws/eu-west-1"),
        operators=("Hetzner Online", "ovh groupe sa"),
    )
    assert unknown_names(selection, load_atlas()) == [
        "no provider is called 'asure', did you mean azure?",
        "no region is called 'aws/eu-west-22', did you mean aws/eu-west-2?",
        "no operator is called 'hetzner online', did you mean hetzner online gmbh?",
        "'UK' is no ISO 3166 code, did you mean GB?",
        "'fr' is no country, write two capitals (DE)",
    ]


def test_names_that_exist_are_not_reported() -> None:
    listed = Selection(("FR",), ("ovh",), ("ovh/GRA11", "GRA9"), ("OVH SAS",))
    assert unknown_names(listed, load_atlas()) == []
