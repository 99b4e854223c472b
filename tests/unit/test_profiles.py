"""Profiles: those that arbiter brings, the user's own, and what is said of a malformed one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from arbiter.errors import ProfileError
from arbiter.profiles import Profile, Quantization, load_profile, profile_names, read_profile

GOOD = """\
name: mine
description: my own
architecture:
  parameters_b: 8.03
  layers: 32
  hidden: 4096
  heads: 32
  kv_heads: 8
  head_dim: 128
  vocab: 128256
variants:
  - quantization: bf16
    repository: me/mine
"""
SERVING = GOOD + "serving:\n"


def written(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaints(folder: Path, text: str) -> list[str]:
    """What is wrong with a profile, each line without its path."""
    path = written(folder, text)
    with pytest.raises(ProfileError) as caught:
        read_profile(path)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_that_arbiter_brings_is_well_formed(name: str) -> None:
    assert load_profile(name).name == name


def test_arbiter_brings_these_profiles() -> None:
    assert set(profile_names()) >= {
        "llama70b-awq",
        "llama70b-fp8",
        "llama70b",
        "llama8b",
        "qwen32b-awq",
        "mistral-small-24b",
        "gpt-oss-120b",
        "tiny",
    }


def test_gated_profiles_ask_for_the_token() -> None:
    for name in profile_names():
        profile = load_profile(name)
        assert ("HF_TOKEN" in profile.serving.secrets) == profile.gated, name


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    profile = read_profile(written(tmp_path, GOOD))
    assert profile.workload.context == 8192
    assert profile.serving.port == 8000
    assert profile.variants[0].quantization is Quantization.BF16
    assert profile.serving.flags == {}


def test_every_field_is_read(tmp_path: Path) -> None:
    text = SERVING + (
        "  flags: {kv-cache-dtype: fp8, no-enable-prefix-caching: true, seed: 3, top: 0.5}\n"
        "  env: {HF_HOME: /data}\n"
        "  secrets: [HF_TOKEN]\n"
        "gpus: [H100, A100-80GB]\n"
        "workload: {context: 4096, concurrency: 8}\n"
    )
    profile = read_profile(written(tmp_path, text))
    assert profile.serving.flags == {
        "kv-cache-dtype": "fp8",
        "no-enable-prefix-caching": True,
        "seed": 3,
        "top": 0.5,
    }
    assert profile.serving.secrets == ("HF_TOKEN",)
    assert profile.gpus == ("H100", "A100-80GB")
    assert (profile.workload.context, profile.workload.input_tokens) == (4096, 1024)


def test_the_users_folder_comes_first(tmp_path: Path) -> None:
    text = GOOD.replace("name: mine", "name: tiny")
    written(tmp_path, text, "tiny")
    assert load_profile("tiny", [tmp_path]).description == "my own"
    assert load_profile("tiny").description != "my own"
    assert load_profile("llama8b", [tmp_path]).name == "llama8b"


def test_names_are_those_that_load(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    written(tmp_path, GOOD, "Not A Name")
    (tmp_path / "notes.txt").touch()
    names = profile_names([tmp_path, tmp_path / "not there"])
    assert set(names) == {"mine", *profile_names()}
    assert list(names) == sorted(names)


def test_an_unknown_profile_names_the_nearest_and_where_to_put_one(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    with pytest.raises(ProfileError) as caught:
        load_profile("llama70b-akw", [tmp_path])
    assert str(caught.value).startswith(
        "there is no profile 'llama70b-akw'; did you mean llama70b-awq or "
    )
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(ProfileError, match=r"there are gpt-oss-120b, .*mine, .*tiny; "):
        load_profile("xyz", [tmp_path])


@pytest.mark.parametrize("name", ["../mine", "/etc/passwd", "", ".", "a" * 80, "UPPER", "a\nb"])
def test_no_name_leads_out_of_the_folders(tmp_path: Path, name: str) -> None:
    written(tmp_path, GOOD)
    (tmp_path / "inner").mkdir()
    with pytest.raises(ProfileError, match="there is no profile"):
        load_profile(name, [tmp_path / "inner"])


def test_every_problem_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
name: other
descripton: x
architecture:
  parameters_b: 70
  layers: "80"
  hidden: 0
  heads: 64
  kv_heads: 7
  head_dim: 128
  vocab: 128256
  vocab: 128257
variants:
  - quantization: awk
    repository: "a b"
    weigths_gib: 1
workload:
  context: .inf
serving:
  port: true
  flags:
    max-num-seqs: 4
    swap-space: 4
  env: {HF_HOME: 1}
gpus: [H1000]
"""
    assert complaints(tmp_path, text) == [
        "1: description: is missing",
        "1: name: is 'other', but the file is called mine.yaml",
        "2: descripton: is not known, did you mean description?",
        "5: architecture.layers: must be a whole number",
        "6: architecture.hidden: is 0, must be above 0",
        "8: architecture.kv_heads: is 7, must divide 64 heads",
        "11: architecture.vocab: is given twice",
        "13: variants[1].quantization: must be 'bf16', 'fp8', 'awq' or 'mxfp4'",
        "14: variants[1].repository: is 'a b', must be owner/model, an absolute path, "
        "or a bucket's URL",
        "15: variants[1].weigths_gib: is not known, did you mean weights_gib?",
        "17: workload.context: is inf, must be above 0",
        "17: workload.context: must be a whole number",
        "19: serving.port: must be a whole number",
        "21: serving.flags.max-num-seqs: is set by arbiter from workload.concurrency",
        "22: serving.flags.swap-space: no longer exists in vLLM",
        "23: serving.env.HF_HOME: must be text (in quotes, if it looks like a number or a yes)",
        "24: gpus[1]: no GPU is called 'H1000', did you mean H100?",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD.replace("name: mine", "name: Mine"), "1: name: must be lower-case letters"),
        (GOOD.replace("name: mine", "name: -mine"), "1: name: must be lower-case letters"),
        (GOOD.replace("name: mine\n", ""), "1: name: is missing"),
        (GOOD.replace("kv_heads: 8", "kv_heads: -8"), "8: architecture.kv_heads: is -8"),
        (GOOD.replace("8.03", ".nan"), "4: architecture.parameters_b: is nan"),
        (GOOD.replace("8.03", "yes"), "4: architecture.parameters_b: must be a number"),
        (
            GOOD.replace("  layers: 32", "  layers: 32\n  sliding_layers: 33\n  sliding_window: 1"),
            "6: architecture.sliding_layers: is 33, more than layers, 32",
        ),
        (
            GOOD.replace("  layers: 32", "  layers: 32\n  sliding_layers: 3"),
            "6: architecture.sliding_layers: needs sliding_window beside it",
        ),
        (
            GOOD.replace("  layers: 32", "  layers: 32\n  experts: 8"),
            "6: architecture.experts: needs active_experts beside it",
        ),
        (
            GOOD.replace("  layers: 32", "  layers: 32\n  active_parameters_b: 9"),
            "6: architecture.active_parameters_b: is 9, more than parameters_b, 8.03",
        ),
        (
            GOOD[: GOOD.index("variants")] + "variants: []\n",
            "11: variants: must list at least one way",
        ),
        (
            GOOD[: GOOD.index("variants")] + "variants: [3]\n",
            "11: variants[1]: must be a mapping of names to values",
        ),
        (GOOD[: GOOD.index("variants")] + "variants: none\n", "11: variants: must be a list"),
        (
            GOOD + "  - {quantization: bf16, repository: me/other}\n",
            "14: variants[2].quantization: bf16 is listed twice",
        ),
        (GOOD + "    weights_gib: 0\n", "14: variants[1].weights_gib: is 0, must be above 0"),
        (GOOD + "    revision: '--x y'\n", "14: variants[1].revision: is '--x y'"),
        (GOOD.replace("me/mine", "../mine"), "13: variants[1].repository: is '../mine'"),
        (GOOD.replace("me/mine", "s3://a/../b"), "13: variants[1].repository: is 's3://a/../b'"),
        (GOOD + "workload: {concurrency: 0}\n", "14: workload.concurrency: is 0"),
        (
            GOOD + "workload:\n  context: 512\n  input_tokens: 500\n  output_tokens: 100\n",
            "15: workload.context: is 512, a mean request has 600 tokens",
        ),
        (SERVING + "  port: 80\n", "15: serving.port: is 80, must be 1024 to 65535"),
        (
            SERVING + "  gpu_memory_utilization: 1.5\n",
            "15: serving.gpu_memory_utilization: is 1.5, must be above 0 and at most 1",
        ),
        (SERVING + "  drain_s: -1\n", "15: serving.drain_s: is -1"),
        (SERVING + "  template: ../vllm\n", "15: serving.template: is '../vllm'"),
        (SERVING + "  flags: {--seed: 1}\n", "15: serving.flags.--seed: is no flag"),
        (SERVING + "  flags: {'a; b': 1}\n", "15: serving.flags.a; b: is no flag"),
        (SERVING + "  flags: {api-key: x}\n", "15: serving.flags.api-key: is set by arbiter"),
        (
            SERVING + "  flags: {guided-decoding-backend: x}\n",
            "15: serving.flags.guided-decoding-backend: no longer exists in vLLM",
        ),
        (
            SERVING + "  flags: {no-enable-reasoning: true}\n",
            "15: serving.flags.no-enable-reasoning: no longer exists",
        ),
        (SERVING + "  flags: {x: .inf}\n", "15: serving.flags.x: is inf, must be finite"),
        (SERVING + '  flags: {x: "a\\nb"}\n', "15: serving.flags.x: must be one line"),
        (
            SERVING + "  flags: {x: [1]}\n",
            "15: serving.flags.x: must be text (in quotes, if it looks like a number or a yes) "
            "or a whole number or a number or true or false",
        ),
        (SERVING + "  env: {A-B: x}\n", "15: serving.env.A-B: is no name of a variable"),
        (SERVING + "  env: {HF_TOKEN: x}\n", "15: serving.env.HF_TOKEN: looks like a secret"),
        (SERVING + '  env: {A: "x\\ny"}\n', "15: serving.env.A: must be one line"),
        (SERVING + "  secrets: HF_TOKEN\n", "15: serving.secrets: must be a list"),
        (
            SERVING + "  env: {A: x}\n  secrets: [A]\n",
            "16: serving.secrets[1]: A is in env already",
        ),
        (SERVING + "  colour: red\n", "15: serving.colour: is not known"),
        (GOOD + "1: x\n", "14: 1: is no name: write the key in quotes"),
        (GOOD + "name: mine\n", "14: name: is given twice"),
    ],
)
def test_one_problem_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    found = complaints(tmp_path, text)
    assert any(line.startswith(complaint) for line in found), found


def test_what_may_be_a_secret_is_not_repeated(tmp_path: Path) -> None:
    found = complaints(tmp_path, SERVING + "  secrets: ['hf_abc-DEF/123']\n")
    assert found == [
        "15: serving.secrets[1]: must be the name of a variable (HF_TOKEN), never its value"
    ]
    found = complaints(tmp_path, SERVING + "  env: {API_KEY: hunter2}\n")
    assert "hunter2" not in "\n".join(found)


@pytest.mark.parametrize(
    "repository", ["gpt2", "me/mine", "/models/tiny", "s3://bucket/folder/model", "gs://b"]
)
def test_weights_may_lie_on_the_hub_in_a_folder_or_in_a_bucket(
    tmp_path: Path, repository: str
) -> None:
    place = "\n    region: eu-west-1" if "://" in repository else ""
    profile = read_profile(written(tmp_path, GOOD.replace("me/mine", repository + place)))
    assert profile.variants[0].repository == repository


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", ":1: must be a mapping"),
        (b"- a\n", ":1: must be a mapping"),
        (b"a: [1,\nb: 2\n", "is not YAML"),
        (b"a: 1\nb: \xff\n", ":2: is not UTF-8 text"),
        (b"a: &x {b: 1}\nc: *x\n", ":1: aliases"),
        (b"a: &x [*x]\n", ":1: aliases"),
        (b"<<: {a: 1}\n", ":1: merge keys"),
        (b"a: !!python/object/apply:os.system [ls]\n", ":1: is not YAML"),
        (b"a: 2026-13-45\n", "is not YAML"),
        (b"[" * 100_000, "nested too deeply"),
        (b"- " * 100_000, "nested too deeply"),
        (b"#" * 1_000_001, "larger than 1000000 bytes"),
    ],
)
def test_what_is_no_profile_at_all(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=complaint) as caught:
        read_profile(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"gone\.yaml cannot be read: No such file"):
        read_profile(tmp_path / "gone.yaml")


def test_a_good_profile_is_read_without_pydantic() -> None:
    code = (
        "import sys; from arbiter.profiles import load_profile; "
        "heavy = {'yaml', 'msgspec', 'pydantic', 'difflib'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "load_profile('tiny'); assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_schema_says_what_the_file_says(tmp_path: Path) -> None:
    assert isinstance(load_profile("tiny"), Profile)
    tiny = load_profile("tiny").architecture
    assert (tiny.layers, tiny.hidden, tiny.vocab) == (2, 64, 512)
