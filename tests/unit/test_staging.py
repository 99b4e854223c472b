"""Weights in a bucket: the rule is asked where they stand, the server how it reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from arbiter.errors import ArbiterError, ProfileError
from arbiter.profiles import Load, Quantization, Variant, load_profile, read_profile
from arbiter.regions import load_atlas
from arbiter.render import VLLM_VERSION, TaskInputs
from arbiter.resources import resource_dir
from arbiter.sovereignty import Level, Rule
from arbiter.staging import refuse_outside, source, stands_in
from tests.unit.test_render import command, flag, inputs, rendered

ATLAS = load_atlas()
EU = Rule(level=Level.EU)
BUCKET = "s3://weights-of-ours/llama/8b"


def staged(
    repository: str = BUCKET, region: str | None = "eu-central-1", **more: object
) -> Variant:
    return Variant(Quantization.BF16, repository, region=region, **more)  # type: ignore[arg-type]


def task_of(variant: Variant, **serving: object) -> TaskInputs:
    profile = load_profile("tiny")
    changed = replace(profile, serving=replace(profile.serving, **serving))  # type: ignore[arg-type]
    return inputs(changed, variant=variant)


@pytest.mark.parametrize(
    ("variant", "allowed"),
    [
        (staged(), True),
        (staged(region="us-east-1"), False),
        (staged(region="eu-west-2"), False),  # London
        (staged(region="eu-nowhere-9"), False),
        (staged(region=None), False),
        (staged("gs://b/m", "europe-west4"), True),
        (staged("gs://b/m", "europe-west6"), False),  # Zurich
        (staged("az://b/m", "westeurope"), True),
        (staged("s3://b/m", "scaleway/fr-par-2"), True),
        (staged("s3://b/m", "nobody/fr-par-2"), False),
        (Variant(Quantization.BF16, "Qwen/Qwen3-8B"), True),  # the hub's, and no bucket
    ],
)
def test_a_bucket_outside_the_rule_or_unknown_is_refused(variant: Variant, allowed: bool) -> None:
    if allowed:
        refuse_outside(variant, EU, ATLAS.place)
        return
    with pytest.raises(ArbiterError, match=r"the weights of .* stand in") as caught:
        refuse_outside(variant, EU, ATLAS.place)
    assert "\n" not in str(caught.value)


def test_a_strict_rule_is_asked_of_the_buckets_operator() -> None:
    strict = Rule(level=Level.EU_OPERATOR)
    with pytest.raises(ArbiterError, match="refuses"):
        refuse_outside(staged(), strict, ATLAS.place)
    refuse_outside(staged("s3://b/m", "scaleway/fr-par-2"), strict, ATLAS.place)


def test_the_provider_follows_from_the_scheme_unless_the_region_names_it() -> None:
    assert stands_in(staged()) == ("aws", "eu-central-1")
    assert stands_in(staged("gs://b", "europe-west4")) == ("gcp", "europe-west4")
    assert stands_in(staged(region="ovh/gra")) == ("ovh", "gra")


def test_vllm_streams_from_the_bucket() -> None:
    task = rendered(task_of(staged()))
    words = command(task)
    assert words[2:4] == ["serve", BUCKET]
    assert flag(words, "--load-format") == "runai_streamer"
    assert f"vllm[runai]=={VLLM_VERSION}" in task["setup"]
    assert "file_mounts" not in task


def test_or_skypilot_mounts_it() -> None:
    task = rendered(task_of(staged(load=Load.MOUNT)))
    assert command(task)[2:4] == ["serve", "/weights/llama/8b"]
    assert "--load-format" not in command(task)
    assert task["file_mounts"] == {"/weights": {"source": "s3://weights-of-ours", "mode": "MOUNT"}}
    assert source(staged("gs://b", "europe-west4", load=Load.MOUNT)) == "/weights"


def test_a_mounted_bucket_is_read_by_whatever_loader_the_profile_names() -> None:
    task = rendered(task_of(staged(load=Load.MOUNT), flags={"load-format": "fastsafetensors"}))
    assert flag(command(task), "--load-format") == "fastsafetensors"


@pytest.mark.parametrize(
    ("images", "found"),
    [
        ({"aws/eu-north-1": "ami-0north", "aws": "ami-0any"}, "ami-0north"),
        ({"aws": "ami-0any", "gcp": "other"}, "ami-0any"),
        ({"aws/eu-west-1": "ami-0west"}, None),
    ],
)
def test_the_nearest_machine_image_is_taken(images: dict[str, str], found: str | None) -> None:
    task = rendered(task_of(Variant(Quantization.BF16, "a/b"), images=images))
    assert task["resources"].get("image_id") == found


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("repository: s3://b/m", "must say in which region s3://b/m stands"),
        ("repository: s3://b/m\n    region: 'a b'", "must be a region, or provider/region"),
        ("repository: a/b\n    region: eu-west-1", "is for weights in a bucket"),
        ("repository: a/b\n    load: mount", "is for weights in a bucket"),
        ("repository: az://b/m\n    region: westeurope\n    load: mount", "use stream"),
        ("repository: s3://b/m\n    region: eu-west-1\n    revision: main", "has no revisions"),
        ("repository: s3://b/m\n    region: eu-west-1\n    load: fast", "load"),
    ],
)
def test_a_profile_says_where_its_bucket_stands(tmp_path: Path, lines: str, told: str) -> None:
    shipped = (resource_dir("templates") / "profiles" / "tiny.yaml").read_text(encoding="utf-8")
    before, _, rest = shipped.partition("    repository:")
    path = tmp_path / "tiny.yaml"
    path.write_text(f"{before}    {lines}\n{rest.partition(chr(10))[2]}", encoding="utf-8")
    with pytest.raises(ProfileError, match=told):
        read_profile(path)


def test_such_a_profile_is_read(tmp_path: Path) -> None:
    shipped = (resource_dir("templates") / "profiles" / "tiny.yaml").read_text(encoding="utf-8")
    before, _, rest = shipped.partition("    repository:")
    path = tmp_path / "tiny.yaml"
    lines = "repository: s3://b/m\n    region: scaleway/fr-par-2\n    load: stream"
    path.write_text(f"{before}    {lines}\n{rest.partition(chr(10))[2]}", encoding="utf-8")
    (variant, *_) = read_profile(path).variants
    assert (variant.region, variant.load) == ("scaleway/fr-par-2", Load.STREAM)
