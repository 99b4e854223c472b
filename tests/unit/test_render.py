"""Tasks as SkyPilot and bash read them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from arbiter.domain import Offer, Place, Purchase
from arbiter.errors import TemplateRefused
from arbiter.profile_checks import REMOVED_FLAGS, REMOVED_PREFIXES
from arbiter.profiles import Profile, Quantization, Serving, Variant, load_profile, profile_names
from arbiter.render import LABEL_LENGTH, VLLM_VERSION, TaskInputs, label, render_task
from arbiter.resources import resource_dir

MACHINES = {
    # provider: (region, zone, instance type, GPU)
    "aws": ("eu-north-1", "eun1-az1", "g6e.xlarge", "L40S"),
    "gcp": ("europe-west4", "europe-west4-a", "a2-ultragpu-1g", "A100-80GB"),
    "azure": ("westeurope", None, "Standard_NC24ads_A100_v4", "A100-80GB"),
}


def an_offer(machine: str = "aws", **changes: Any) -> Offer:
    region, zone, instance_type, gpu = MACHINES[machine]
    place = Place(machine, region)
    offer = Offer(machine, "standard", region, zone, instance_type, gpu, 1, Purchase.SPOT, place)
    return replace(offer, **changes)


def inputs(profile: Profile | str = "llama70b-awq", **changes: Any) -> TaskInputs:
    known = load_profile(profile) if isinstance(profile, str) else profile
    made = TaskInputs(
        known, known.variants[0], an_offer(), "arb-1a2b-llm-1", "1a2b", "llm", {"team": "search"}
    )
    return replace(made, **changes)


def served(**serving: Any) -> TaskInputs:
    profile = load_profile("tiny")
    return inputs(replace(profile, serving=replace(profile.serving, **serving)))


def rendered(made: TaskInputs, *search_path: Path) -> dict[str, Any]:
    task = yaml.safe_load(render_task(made, search_path))
    assert isinstance(task, dict)
    return task


def command(task: dict[str, Any]) -> list[str]:
    """The words of the line that starts the server."""
    (line,) = (each for each in task["run"].splitlines() if each.startswith("exec "))
    return shlex.split(line)


def flag(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_a_task_asks_for_the_offered_machine_in_the_offered_place() -> None:
    resources = rendered(inputs())["resources"]
    assert resources == {
        "infra": "aws/eu-north-1",
        "instance_type": "g6e.xlarge",
        "accelerators": "L40S:1",
        "use_spot": True,
        "disk_size": 256,
        "ports": [8000, 8001],
        "labels": {
            "arbiter-cluster": "arb-1a2b-llm-1",
            "arbiter-owner": "1a2b",
            "arbiter-service": "llm",
            "tag-team": "search",
        },
    }


def test_on_demand_is_not_spot() -> None:
    task = rendered(inputs(offer=an_offer(purchase=Purchase.ON_DEMAND)))
    assert task["resources"]["use_spot"] is False


def test_a_gpu_that_has_no_name_in_skypilot_is_left_to_the_instance_type() -> None:
    resources = rendered(inputs(offer=an_offer(gpu="XPU-9")))["resources"]
    assert "accelerators" not in resources
    assert resources["instance_type"] == "g6e.xlarge"


def test_a_zone_is_pinned_where_its_name_is_known() -> None:
    def infra(offer: Offer) -> object:
        return rendered(inputs(offer=offer))["resources"]["infra"]

    assert infra(an_offer("gcp")) == "gcp/europe-west4/europe-west4-a"
    assert infra(an_offer("aws")) == "aws/eu-north-1", "the id eun1-az1 is no name of a zone"
    assert infra(an_offer("azure")) == "azure/westeurope"


def test_a_place_that_skypilot_has_no_word_for_is_refused() -> None:
    nowhere = an_offer(provider="runpod", region="XX-1", zone=None, place=Place("runpod", "XX-1"))
    with pytest.raises(TemplateRefused, match="country of runpod/XX-1 is not known"):
        render_task(inputs(offer=nowhere))


def test_the_server_is_started_as_the_profile_says() -> None:
    profile = load_profile("llama70b-awq")
    variant = replace(profile.variants[0], revision="0123abc")
    words = command(rendered(inputs(variant=variant, offer=an_offer(gpu_count=4))))
    assert words[:4] == ["exec", "$HOME/vllm/bin/vllm", "serve", variant.repository]
    assert flag(words, "--served-model-name") == "llama70b-awq"
    assert flag(words, "--host") == "0.0.0.0"
    assert flag(words, "--port") == "8000"
    assert flag(words, "--max-model-len") == str(profile.workload.context)
    assert flag(words, "--max-num-seqs") == str(profile.workload.concurrency)
    assert flag(words, "--gpu-memory-utilization") == "0.92"
    assert flag(words, "--tensor-parallel-size") == "4"
    assert flag(words, "--shutdown-timeout") == str(profile.serving.drain_s)
    assert flag(words, "--revision") == "0123abc"


def test_without_a_revision_none_is_asked_for() -> None:
    assert "--revision" not in command(rendered(inputs()))


def test_flags_are_bare_negated_or_valued() -> None:
    flags = {
        "enforce-eager": True,
        "enable-prefix-caching": False,
        "kv-cache-dtype": "fp8",
        "seed": -1,
        "speculative-config": '{"method": "ngram"}',
    }
    words = command(rendered(served(flags=flags)))
    assert "--enforce-eager" in words
    assert "--no-enable-prefix-caching" in words
    assert flag(words, "--kv-cache-dtype") == "fp8"
    assert "--seed=-1" in words, "a word that begins with a dash would be the next flag"
    assert json.loads(flag(words, "--speculative-config")) == {"method": "ngram"}


def test_a_profile_cannot_overrule_what_arbiter_decides() -> None:
    words = command(rendered(served(flags={"port": 1, "host": "::", "max-num-seqs": 9999})))
    assert [flag(words, name) for name in ("--port", "--host", "--max-num-seqs")] == [
        "8000",
        "0.0.0.0",
        "16",
    ]
    assert len([word for word in words if word == "--port"]) == 1


def test_secrets_are_names_without_values() -> None:
    task = rendered(inputs("llama70b"))
    assert task["secrets"] == {"ARBITER_API_KEY": None, "HF_TOKEN": None}
    assert task["envs"] == {"VLLM_NO_USAGE_STATS": "1"}


def test_the_key_is_no_argument() -> None:
    """vLLM logs its arguments, and everyone on a machine can list them."""
    task = rendered(inputs())
    assert not any("api-key" in word or "ARBITER_API_KEY" in word for word in command(task))
    assert 'export VLLM_API_KEY="$ARBITER_API_KEY"' in task["run"].splitlines()


def test_a_secret_that_is_named_twice_is_asked_for_once() -> None:
    task = rendered(served(secrets=("HF_TOKEN", "ARBITER_API_KEY", "HF_TOKEN")))
    assert list(task["secrets"]) == ["ARBITER_API_KEY", "HF_TOKEN"]


def test_the_version_of_vllm_is_pinned() -> None:
    assert f"vllm=={VLLM_VERSION}" in rendered(inputs())["setup"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", VLLM_VERSION)


@pytest.mark.parametrize("name", profile_names())
def test_bash_reads_the_scripts_of_every_profile(name: str) -> None:
    task = rendered(inputs(name))
    for script in (task["setup"], task["run"]):
        checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", profile_names())
def test_no_flag_is_one_that_vllm_has_removed(name: str) -> None:
    profile = load_profile(name)
    flags = [
        word.removeprefix("--").partition("=")[0]
        for variant in profile.variants
        for word in command(rendered(inputs(profile, variant=variant)))
        if word.startswith("--")
    ]
    assert len(flags) >= 8
    gone = [each for each in flags if each in REMOVED_FLAGS or each.startswith(REMOVED_PREFIXES)]
    assert gone == []


def test_the_removed_flags_are_those_that_vllm_refuses() -> None:
    assert {"swap-space", "disable-log-requests", "num-scheduler-steps"} <= REMOVED_FLAGS


# --- values that would mean something else -------------------------------------------------------

NASTY = (
    "{{ 7 * 7 }}",
    "{% raw %}",
    "$(touch /tmp/owned)",
    "`id`",
    "a'b\"c",
    "a; rm -rf /",
    "- x: y",
    "# no comment",
    "yes",
    "1e3",
    "null",
    "--flag",
    "",
    "\N{GRINNING FACE}",
    "\\u0041\\",
)


@pytest.mark.parametrize("text", NASTY)
def test_a_value_stays_a_value(text: str) -> None:
    profile = load_profile("tiny")
    serving = replace(profile.serving, env={"TEXT": text}, flags={"chat-template": text})
    made = inputs(
        replace(profile, serving=serving), variant=replace(profile.variants[0], repository=text)
    )
    task = rendered(made)
    assert task["envs"]["TEXT"] == text
    words = command(task)
    assert words[3] == text
    given = f"--chat-template={text}" if text.startswith("-") else text
    assert given in words[4:]
    assert set(task) == {"name", "resources", "envs", "secrets", "setup", "run"}


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\t", "\x1b", "\x85", "\u2028", "\ud800"])
@pytest.mark.parametrize(
    ("field", "made"),
    [
        ("name", lambda text: inputs(cluster=text)),
        ("envs: 'A'", lambda text: served(env={"A": text})),
        ("arguments", lambda text: served(flags={"a": text})),
        ("secrets", lambda text: served(secrets=(text,))),
        ("repository", lambda text: inputs(variant=Variant("awq", text))),  # type: ignore[arg-type]
        ("the tag 'team'", lambda text: inputs(tags={"team": text})),
        ("instance_type", lambda text: inputs(offer=an_offer(instance_type=text))),
        ("infra", lambda text: inputs(offer=an_offer(region=text))),
    ],
)
def test_what_no_template_can_carry_is_refused_by_its_name(
    field: str, made: Any, character: str
) -> None:
    with pytest.raises(TemplateRefused) as refused:
        render_task(made(f"a{character}b"))
    assert refused.value.message.startswith(f"{field} holds the unprintable character")
    assert refused.value.message.isprintable(), "the message is one line"


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a", "team-a", "a_b", "x" * 63, "2024"])
def test_a_label_that_every_cloud_takes_is_kept(text: str) -> None:
    assert label(text) == text


def test_two_tags_stay_two() -> None:
    tags = {"Team": "A", "team": "A", "TEAM": "A", "te.am": "A", "te am": "A"}
    labels = rendered(inputs(tags=tags))["resources"]["labels"]
    assert len(labels) == len(tags) + 3
    assert all(len(key) <= LABEL_LENGTH for key in labels)


def test_a_tag_cannot_pose_as_a_label_of_arbiter() -> None:
    labels = rendered(inputs(tags={"arbiter-owner": "somebody"}))["resources"]["labels"]
    assert labels["arbiter-owner"] == "1a2b"
    assert labels["tag-arbiter-owner"] == "somebody"


# --- templates of the user -----------------------------------------------------------------------


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vllm.yaml.j2").write_text(text)
    return folder


def test_the_users_template_wins(tmp_path: Path) -> None:
    write(tmp_path / "first" / "tasks", "name: {{ name | yaml }}\nfrom: first")
    write(tmp_path / "second", "from: second")
    both = (tmp_path / "first", tmp_path / "second")
    assert rendered(inputs(), *both) == {"name": "arb-1a2b-llm-1", "from": "first"}
    assert rendered(inputs(), tmp_path / "second") == {"from": "second"}
    assert "run" in rendered(inputs(), tmp_path / "absent")


def test_an_unknown_template_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(TemplateRefused, match=r"there is no template mine\.yaml\.j2") as refused:
        render_task(served(template="mine"), (tmp_path,))
    assert str(tmp_path / "tasks") in str(refused.value)
    assert str(resource_dir("templates") / "tasks") in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: {{ nmae | yaml }}", "'nmae' is undefined"),
        ("a: 1\nb: {% if %}", r"vllm\.yaml\.j2:2: "),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ labels.__class__.__mro__ }}", "unsafe"),
        ("{{ name | yaml(1) }}", "failed"),
        ("{% include 'other' %}", "there is no template other"),
    ],
)
def test_a_wrong_template_is_refused_with_the_reason(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(TemplateRefused, match=told):
        render_task(inputs(), (write(tmp_path, text),))


def test_a_template_cannot_read_other_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden")
    write(tmp_path / "mine", "{% include '../secret' %}")
    with pytest.raises(TemplateRefused):
        render_task(inputs(), (tmp_path / "mine",))


# --- SkyPilot's own word -------------------------------------------------------------------------

CATALOG = {
    "common/accelerators.csv": (
        "AcceleratorName,Clouds\nL40S,['AWS']\nA100-80GB,\"['GCP','Azure']\""
    ),
    "common/metadata.csv": "Manufacturer,GPU,MemoryGB\nNVIDIA,L40S,48\nNVIDIA,A100-80GB,80",
    "aws/vms.csv": (
        "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,"
        "Region,AvailabilityZone,Arch,LocalDiskType,NVMeSupported,LocalDiskSize,LocalDiskCount,"
        "MaximumEfaInterfaces\n"
        "g6e.xlarge,L40S,1,4,32,,2.0,1.0,eu-north-1,eun1-az1,x86_64,,,,,"
    ),
    "gcp/vms.csv": (
        "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,"
        "AvailabilityZone,Price,SpotPrice\n"
        "a2-ultragpu-1g,12,170,,,,europe-west4,europe-west4-a,1.6,0.5\n"
        ",,,A100-80GB,1,A100-80GB,europe-west4,europe-west4-a,3.9,1.9"
    ),
    "azure/vms.csv": (
        "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,"
        "Region,Generation\n"
        "Standard_NC24ads_A100_v4,A100-80GB,1,24,220,,4.8,1.4,westeurope,V2"
    ),
}
"""Enough of SkyPilot's catalogs to know the machines above; without them it would download."""

VALIDATE = """
import json, sys, yaml, sky
seen = []
for text in json.load(sys.stdin):
    secrets = [(name, "value") for name in yaml.safe_load(text)["secrets"]]
    task = sky.Task.from_yaml_config(yaml.safe_load(text), secrets_overrides=secrets)
    task.validate()
    (machine,) = task.resources
    seen.append([str(machine.cloud), machine.region, machine.zone, machine.instance_type,
                 machine.use_spot, machine.ports, machine.labels, task.run, sorted(task.secrets)])
print("\\n" + json.dumps(seen))
"""


def test_skypilot_takes_the_task_of_every_profile_on_every_cloud(tmp_path: Path) -> None:
    if find_spec("sky") is None:
        pytest.skip("needs SkyPilot: make install")
    for name, text in CATALOG.items():
        path = tmp_path / ".sky" / "catalogs" / "v8" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    tags = {"Team.Name": "a b", "cost": "{{ x }}"}
    made = [
        inputs(name, offer=an_offer(provider), service=name, tags=tags)
        for name in profile_names()
        for provider in MACHINES
    ]
    bucket = Variant(Quantization.BF16, "s3://weights/llama", region="eu-central-1")
    made.append(inputs("tiny", variant=bucket))  # it asks the cloud of mounts and of images
    kept = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", VALIDATE],
        input=json.dumps([render_task(one) for one in made]),
        env={**kept, "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for one, seen in zip(made, json.loads(done.stdout.splitlines()[-1]), strict=True):
        task = rendered(one)
        zone = one.offer.zone if one.offer.provider == "gcp" else None
        cloud = {"aws": "AWS", "gcp": "GCP", "azure": "Azure"}[one.offer.provider]
        assert seen[:5] == [cloud, one.offer.region, zone, one.offer.instance_type, True]
        port = one.profile.serving.port
        assert seen[5] == [f"{port}-{port + 1}"], "the server, and who tells of notices"
        assert seen[6] == task["resources"]["labels"]
        assert seen[7:] == [task["run"], sorted(task["secrets"])]


def test_the_default_serving_names_the_template_that_is_shipped() -> None:
    assert (resource_dir("templates") / "tasks" / f"{Serving().template}.yaml.j2").is_file()
