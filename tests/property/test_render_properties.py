"""Whatever text a profile or a tag holds: it comes back as it was, or it is refused."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from arbiter.domain import Offer, Place, Purchase
from arbiter.errors import TemplateRefused
from arbiter.profiles import load_profile
from arbiter.render import TaskInputs, as_word, as_yaml, label, render_task

TINY = load_profile("tiny")
OFFER = Offer(
    "aws",
    "standard",
    "eu-north-1",
    "eun1-az1",
    "g6e.xlarge",
    "L40S",
    1,
    Purchase.SPOT,
    Place("aws", "eu-north-1"),
)
NASTY = st.sampled_from(
    ["{{", "}}", "{%", "${", "$(", "`", "'", '"', "\\", "\n", "\0", "#", ": ", "- ", "!!", "*", "&"]
)
TEXT = st.lists(st.one_of(st.text(max_size=8), NASTY), max_size=6).map("".join)
PLAIN = re.compile(r"[a-z0-9_-]{0,63}")


def carried(text: str) -> bool:
    return text.isprintable()


@given(TEXT)
def test_a_scalar_reads_back_or_is_refused(text: str) -> None:
    try:
        scalar = as_yaml(text)
    except TemplateRefused:
        assert not carried(text)
        return
    assert carried(text)
    assert yaml.safe_load(f"a:\n  b: {scalar}\n") == {"a": {"b": text}}
    assert yaml.safe_load(f"{scalar}: 1") == {text: 1}
    assert scalar.isascii()


@given(TEXT)
def test_a_word_is_one_word_or_is_refused(text: str) -> None:
    try:
        word = as_word(text)
    except TemplateRefused:
        assert not carried(text)
        return
    assert carried(text)
    script = yaml.safe_load(f"run: |\n  serve {word} --end\n")["run"]
    assert shlex.split(script) == ["serve", text, "--end"]


@given(
    repository=TEXT,
    env=st.dictionaries(TEXT, TEXT, max_size=3),
    flags=st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), TEXT, max_size=3),
    tags=st.dictionaries(TEXT, TEXT, max_size=3),
    machine=TEXT,
)
def test_a_task_means_what_was_put_into_it(
    repository: str, env: dict[str, str], flags: dict[str, str], tags: dict[str, str], machine: str
) -> None:
    serving = replace(TINY.serving, env=env, flags={f"x-{name}": flags[name] for name in flags})
    inputs = TaskInputs(
        profile=replace(TINY, serving=serving),
        variant=replace(TINY.variants[0], repository=repository),
        offer=replace(OFFER, instance_type=machine),
        cluster="arb-1a2b-llm-1",
        owner="1a2b",
        service="llm",
        tags=tags,
    )
    texts = [repository, machine, *env, *env.values(), *flags.values(), *tags, *tags.values()]
    try:
        text = render_task(inputs)
    except TemplateRefused:
        assert not all(map(carried, texts))
        return
    assert all(map(carried, texts))
    task: dict[str, Any] = yaml.safe_load(text)
    assert set(task) == {"name", "resources", "envs", "secrets", "setup", "run"}
    assert task["envs"] == {"VLLM_NO_USAGE_STATS": "1", **env}
    assert task["resources"]["instance_type"] == machine
    assert task["secrets"] == {"ARBITER_API_KEY": None}
    labels = task["resources"]["labels"]
    assert len(labels) == 3 + len(tags)
    assert all(PLAIN.fullmatch(each) for pair in labels.items() for each in pair)
    words = shlex.split(task["run"].splitlines()[-1])
    assert words[:4] == ["exec", "$HOME/vllm/bin/vllm", "serve", repository]
    for name, value in flags.items():
        joined = value.startswith("-")
        at = words.index(f"--x-{name}={value}" if joined else f"--x-{name}")
        assert joined or words[at + 1] == value


@given(TEXT, TEXT)
def test_labels_are_plain_and_as_different_as_their_texts(one: str, other: str) -> None:
    assert PLAIN.fullmatch(label(one))
    assert (label(one) == label(other)) == (one == other)
    assert label(label(one)) == label(one)
