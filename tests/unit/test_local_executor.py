"""The local executor with real processes: one server per cluster, whatever dies and whenever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from launch_specs import CLUSTER, a_spec

from arbiter.errors import ArbiterError, LaunchError, LaunchRejected, NoCapacity, QuotaExceeded
from arbiter.executors.base import Executor, LaunchSpec, Phase, Sighting
from arbiter.executors.folder import Folder
from arbiter.executors.local import LocalExecutor, demo_server


def processes(state: Path) -> list[int]:
    """Every process whose command line names the state folder, apart from this one."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != os.getpid():
            try:
                command = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if str(state).encode() in command:
                found.append(int(entry))
    return found


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder; what runs in it is ended, and a test that leaves anything behind fails."""
    folder = tmp_path / "clusters"
    yield folder
    executor = LocalExecutor(folder, drain_s=0)
    for owner in ("me", "you"):
        for cluster in executor.inventory(owner):
            executor.terminate(cluster)
    left = processes(folder)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def sight(executor: LocalExecutor, cluster: str = CLUSTER) -> Sighting | None:
    return executor.observe([cluster]).get(cluster)


def phase(executor: LocalExecutor, cluster: str = CLUSTER) -> Phase | None:
    sighting = sight(executor, cluster)
    return sighting.phase if sighting else None


def launched(executor: LocalExecutor, spec: LaunchSpec | None = None) -> Sighting:
    spec = spec or a_spec()
    executor.submit(spec)
    until(lambda: phase(executor, spec.cluster) is not Phase.PENDING)
    sighting = sight(executor, spec.cluster)
    assert sighting is not None
    return sighting


def answers(endpoint: str | None) -> bool:
    try:
        with urlopen(f"{endpoint}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def server_pid(state: Path, cluster: str = CLUSTER) -> int:
    return int((state / cluster / "pid").read_text())


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_it_is_an_executor(state: Path) -> None:
    assert isinstance(LocalExecutor(state), Executor)


def test_a_replica_goes_from_submission_to_an_answering_endpoint_to_nothing(state: Path) -> None:
    executor = LocalExecutor(state)
    sighting = launched(executor)
    assert sighting.phase is Phase.UP
    assert (sighting.region, sighting.zone) == ("eu-north-1", "eun1-az1")
    until(lambda: answers(sighting.endpoint))
    assert executor.inventory("me") == [CLUSTER]
    executor.terminate(CLUSTER)
    assert not answers(sighting.endpoint)
    assert executor.observe([CLUSTER]) == {}
    assert executor.inventory("me") == []
    assert list(state.iterdir()) == []
    assert processes(state) == []


def test_during_the_cold_start_the_machine_is_up_and_does_not_answer(state: Path) -> None:
    sighting = launched(LocalExecutor(state, cold_start_s=60))
    assert sighting.phase is Phase.UP
    assert not answers(sighting.endpoint)


def test_nothing_is_seen_of_clusters_that_were_never_submitted(state: Path) -> None:
    executor = LocalExecutor(state)
    assert executor.observe(["never", "../etc", ""]) == {}
    executor.terminate("never")
    executor.terminate("../etc")
    assert executor.inventory("me") == []
    assert not executor.reclaim("never")


def test_a_name_that_leads_out_of_the_state_folder_is_rejected(state: Path) -> None:
    with pytest.raises(LaunchRejected, match=r"not a cluster name: '\.\./x'"):
        LocalExecutor(state).submit(a_spec("../x"))


def test_submitting_again_starts_nothing(state: Path) -> None:
    executor = LocalExecutor(state)
    first = executor.submit(a_spec())
    assert executor.submit(a_spec()) == first
    launched(executor)
    assert LocalExecutor(state).submit(a_spec()) == first
    assert len(processes(state)) == 1


def test_submitting_again_does_not_revive_a_dead_cluster(state: Path) -> None:
    executor = LocalExecutor(state)
    launched(executor)
    assert executor.reclaim(CLUSTER)
    executor.submit(a_spec())
    assert phase(executor) is Phase.GONE
    assert processes(state) == []


def test_a_replica_outlives_its_arbiter_and_the_next_one_finds_it(state: Path) -> None:
    program = _program(state, "executor.submit(spec)")
    subprocess.run(program, check=True, timeout=30)
    executor = LocalExecutor(state)
    sighting = launched(executor)
    assert sighting.phase is Phase.UP
    until(lambda: answers(sighting.endpoint))
    assert executor.inventory("me") == [CLUSTER]


@pytest.mark.parametrize("step", ["folder", "locked", "spec", "spawned"])
def test_a_caller_killed_at_any_step_of_a_launch_leaves_one_server_after_the_retry(
    state: Path, step: str
) -> None:
    killed = subprocess.run(_program(state, "executor.submit(spec)", step), timeout=30)
    assert killed.returncode == -signal.SIGKILL
    executor = LocalExecutor(state)
    before = phase(executor)
    assert before in ({Phase.PENDING, Phase.UP} if step == "spawned" else {None})
    assert launched(executor).phase is Phase.UP
    assert processes(state) == [server_pid(state)]


@pytest.mark.parametrize("step", ["folder", "locked", "spec", "spawned"])
def test_a_caller_killed_at_any_step_of_a_launch_leaves_nothing_that_cannot_be_ended(
    state: Path, step: str
) -> None:
    subprocess.run(_program(state, "executor.submit(spec)", step), timeout=30)
    LocalExecutor(state).terminate(CLUSTER)
    assert list(state.iterdir()) == []
    assert processes(state) == []


@pytest.mark.parametrize("step", ["tombstone", "asked", "stopped", "removed"])
def test_a_caller_killed_at_any_step_of_a_termination_is_repaired_by_the_next(
    state: Path, step: str
) -> None:
    executor = LocalExecutor(state)
    launched(executor)
    killed = subprocess.run(_program(state, "executor.terminate(spec.cluster)", step), timeout=30)
    assert killed.returncode == -signal.SIGKILL
    assert phase(executor) in {None, Phase.UP}  # ended or not yet; never lost or failed
    executor.terminate(CLUSTER)
    assert list(state.iterdir()) == []
    assert executor.inventory("me") == []


def test_two_callers_at_once_start_one_server(state: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.001)\n"
    callers = [
        subprocess.Popen(_program(state, wait + "executor.submit(spec)\n" * 3)) for _ in range(2)
    ]
    time.sleep(0.3)
    go.touch()
    assert [caller.wait(30) for caller in callers] == [0, 0]
    executor = LocalExecutor(state)
    assert launched(executor).phase is Phase.UP
    assert processes(state) == [server_pid(state)]


def test_a_submission_that_meets_a_termination_is_refused(state: Path) -> None:
    subprocess.run(_program(state, "executor.submit(spec)", "locked"), timeout=30)
    (state / CLUSTER / "ending").touch()
    with pytest.raises(ArbiterError, match="is being ended; launch under a new name"):
        LocalExecutor(state).submit(a_spec())
    assert phase(LocalExecutor(state)) is None
    LocalExecutor(state).terminate(CLUSTER)


def test_a_hung_server_is_killed_once_it_had_its_time(state: Path) -> None:
    executor = LocalExecutor(state, drain_s=0.1)
    launched(executor)
    pid = server_pid(state)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: state_of(pid) == "T")
    executor.terminate(CLUSTER)
    assert processes(state) == []
    assert executor.observe([CLUSTER]) == {}


def test_a_drained_server_finishes_the_answer_in_flight(state: Path) -> None:
    executor = LocalExecutor(state, drain_s=10)
    sighting = launched(executor)
    until(lambda: answers(sighting.endpoint))
    asked = json.dumps({"prompt": "hi", "max_tokens": 20, "ignore_eos": True, "stream": True})
    with urlopen(f"{sighting.endpoint}/v1/completions", asked.encode(), timeout=5) as stream:
        first = stream.readline()
        executor.terminate(CLUSTER)
        events = [first, *stream.readlines()]
    words = [line for line in events if line.startswith(b"data: {")]
    assert len(words) == 21  # twenty tokens and the end
    assert b'"finish_reason": "length"' in words[-1]
    assert events[-2] == b"data: [DONE]\n"


def test_a_reclaimed_server_is_gone_and_not_terminated(state: Path) -> None:
    executor = LocalExecutor(state)
    launched(executor)
    assert executor.reclaim(CLUSTER)
    assert phase(executor) is Phase.GONE
    assert executor.inventory("me") == [CLUSTER]
    executor.terminate(CLUSTER)
    assert executor.inventory("me") == []


def test_a_reclaim_takes_the_children_of_the_server_too(state: Path) -> None:
    script = 'sleep 600 & echo 1 > "$1"/port; wait'

    def command(spec: LaunchSpec, folder: Path) -> list[str]:
        return ["/bin/sh", "-c", script, "sh", str(folder)]

    executor = LocalExecutor(state, command=command, drain_s=0)
    launched(executor)
    os.kill(server_pid(state), signal.SIGKILL)
    until(lambda: phase(executor) is Phase.GONE)
    executor.terminate(CLUSTER)  # returns only once the lock is free, which the child holds
    assert list(state.iterdir()) == []


def test_a_reclaim_takes_children_that_do_not_hold_the_lock(state: Path) -> None:
    # as vLLM's engine does not: Python closes a child's descriptors
    script = (
        "import pathlib, subprocess, sys; folder = pathlib.Path(sys.argv[1])\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "(folder / 'child').write_text(str(child.pid))\n"
        "(folder / 'port').write_text('1')\n"
        "child.wait()"
    )

    def command(spec: LaunchSpec, folder: Path) -> list[str]:
        return [sys.executable, "-c", script, str(folder)]

    executor = LocalExecutor(state, command=command)
    launched(executor)
    child = int((state / CLUSTER / "child").read_text())
    assert Path(f"/proc/{child}").exists()
    assert executor.reclaim(CLUSTER)
    until(lambda: not Path(f"/proc/{child}").exists())
    executor.terminate(CLUSTER)


def test_a_process_id_that_was_used_again_is_neither_alive_nor_signalled(state: Path) -> None:
    executor = LocalExecutor(state)
    launched(executor)
    recorded = state / CLUSTER / "pid"
    real = recorded.read_text()
    other = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        recorded.write_text(f"{other.pid}\n")
        assert phase(executor) is Phase.GONE
        assert not executor.reclaim(CLUSTER)
        assert not Folder(state / CLUSTER).ask_to_end()
        Folder(state / CLUSTER).kill()
        recorded.write_text(real)
        executor.terminate(CLUSTER)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_no_ended_server_stays_as_a_zombie(state: Path) -> None:
    executor = LocalExecutor(state)
    launched(executor)
    pid = server_pid(state)
    os.kill(pid, signal.SIGKILL)
    until(lambda: phase(executor) is Phase.GONE)
    until(lambda: not (executor.observe([]) or Path(f"/proc/{pid}").exists()))


def test_a_server_that_dies_before_it_has_a_port_is_a_failed_launch(state: Path) -> None:
    executor = LocalExecutor(state, command=lambda spec, folder: ["false"])
    sighting = launched(executor)
    assert sighting.phase is Phase.FAILED
    assert isinstance(sighting.error, LaunchError)
    assert "ended during its start; see " in str(sighting.error)


def test_a_program_that_is_missing_rejects_the_launch_and_leaves_nothing(state: Path) -> None:
    executor = LocalExecutor(state, command=lambda spec, folder: ["no-such-server"])
    with pytest.raises(LaunchRejected, match="no-such-server; install it"):
        executor.submit(a_spec())
    assert executor.observe([CLUSTER]) == {}
    executor.terminate(CLUSTER)


@pytest.mark.parametrize(
    ("place", "refusal", "kind"),
    [
        ("aws/eu-north-1", "none", NoCapacity),
        ("aws/eu-north-1/eun1-az1:spot", "quota", QuotaExceeded),
        ("aws/standard/eu-north-1/eun1-az1/g6e.xlarge/spot", "rejected", LaunchRejected),
    ],
)
def test_a_place_without_capacity_fails_the_launch(
    state: Path, place: str, refusal: str, kind: type[LaunchError]
) -> None:
    executor = LocalExecutor(state)
    executor.set_capacity({place: refusal})
    sighting = launched(executor)
    assert sighting.phase is Phase.FAILED
    assert type(sighting.error) is kind
    assert "aws/eu-north-1/eun1-az1" in str(sighting.error)
    executor.set_capacity({})
    executor.submit(a_spec())
    assert phase(executor) is Phase.FAILED  # a retry of the same launch gets the same answer
    assert processes(state) == []


@pytest.mark.parametrize("place", ["aws/eu-north-1:on_demand", "aws/eu-north-1/eun1-az2", "azure"])
def test_a_refusal_elsewhere_does_not_touch_the_launch(state: Path, place: str) -> None:
    executor = LocalExecutor(state)
    executor.set_capacity({place: "none"})
    assert launched(executor).phase is Phase.UP


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not a JSON object; correct it or remove it"),
        ('{"aws": "maybe"}', "not a kind of refusal: 'maybe'; use one of none, quota, rejected"),
    ],
)
def test_a_malformed_capacity_file_is_said_and_starts_nothing(
    state: Path, text: str, reason: str
) -> None:
    state.mkdir()
    (state / "capacity.json").write_text(text)
    with pytest.raises(ArbiterError, match=reason):
        LocalExecutor(state).submit(a_spec())
    assert processes(state) == []


@pytest.mark.parametrize("name", [CLUSTER, "aws/eu-north-1"])
def test_a_cluster_can_be_made_to_stand_elsewhere(state: Path, name: str) -> None:
    executor = LocalExecutor(state)
    executor.set_misplaced({name: {"region": "us-east-1", "zone": None}})
    sighting = launched(executor)
    assert (sighting.region, sighting.zone) == ("us-east-1", None)


def test_the_inventory_keeps_owners_apart(state: Path) -> None:
    executor = LocalExecutor(state, cold_start_s=60)
    executor.submit(a_spec("mine"))
    executor.submit(a_spec("yours", owner="you"))
    assert executor.inventory("me") == ["mine"]
    assert executor.inventory("you") == ["yours"]


def test_secrets_reach_the_server_and_no_file(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "cloud-secret")
    executor = LocalExecutor(state)
    launched(executor, a_spec(secrets={"VLLM_API_KEY": "top-secret"}))
    environment = Path(f"/proc/{server_pid(state)}/environ").read_bytes()
    assert b"VLLM_API_KEY=top-secret" in environment
    assert b"cloud-secret" not in environment
    assert b"top-secret" not in Path(f"/proc/{server_pid(state)}/cmdline").read_bytes()
    for file in (state / CLUSTER).iterdir():
        assert b"top-secret" not in file.read_bytes()
    spec = json.loads((state / CLUSTER / "spec.json").read_text())
    assert spec["secrets"] == ["VLLM_API_KEY"]


def test_a_state_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArbiterError, match=r"could not be started: Not a directory: .*/file/x"):
        LocalExecutor(tmp_path / "file" / "x").submit(a_spec())


def test_the_default_command_runs_from_anywhere_and_carries_no_secret(tmp_path: Path) -> None:
    command = demo_server(cold_start_s=3)(a_spec(secrets={"VLLM_API_KEY": "s"}), tmp_path)
    assert command[:4] == [sys.executable, "-P", "-m", "arbiter.demo.server"]
    assert "--cold-start=3" in command


def _program(state: Path, statements: str, step: str = "") -> list[str]:
    """A caller in a process of its own, which kills itself at a step."""
    source = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from launch_specs import a_spec
from arbiter.executors.local import LocalExecutor

def checkpoint(reached):
    if reached == {step!r}:
        os.kill(os.getpid(), signal.SIGKILL)

spec = a_spec()
executor = LocalExecutor(Path({str(state)!r}), checkpoint=checkpoint)
{statements}
"""
    # The state folder's name must not be on the command line, where a server would have it.
    script = state.parent / f"caller-{step or 'whole'}.py"
    script.write_text(source)
    return [sys.executable, str(script)]


# --- what is arranged -----------------------------------------------------------------------


def test_a_launch_that_hangs_stays_pending_and_can_be_ended(state: Path) -> None:
    executor = LocalExecutor(state, drain_s=0)
    executor.set_capacity({"aws": "hangs"})
    executor.submit(a_spec())
    executor.set_capacity({})
    executor.submit(a_spec())
    assert phase(executor) is Phase.PENDING, "a launch that hangs is not begun again"
    assert executor.standing() == {}
    executor.terminate(CLUSTER)
    assert phase(executor) is None
    assert executor.inventory("me") == []


def test_a_notice_is_seen_until_the_cluster_is_taken(state: Path) -> None:
    executor = LocalExecutor(state, drain_s=0)
    assert not executor.give_notice(CLUSTER, 5)
    launched(executor)
    assert executor.give_notice(CLUSTER, 5)
    seen = sight(executor)
    assert seen is not None
    assert seen.notice is not None
    assert seen.notice.takes_at is not None
    assert seen.notice.given_at is not None
    assert (seen.notice.takes_at - seen.notice.given_at).total_seconds() == 5


def test_what_it_really_costs_is_read_back(state: Path) -> None:
    executor = LocalExecutor(state, drain_s=0)
    seen = launched(executor)
    assert seen.price is None, "what is not arranged is not known"
    executor.set_charged({CLUSTER: "10.24"})
    seen = sight(executor) or seen
    assert str(seen.price) == "10.24 USD"


def test_what_another_owner_has_under_the_name_is_left_alone(state: Path) -> None:
    executor = LocalExecutor(state, drain_s=0)
    cluster = "arb-0a1b2c3d-chat-1"
    theirs = replace(a_spec(), cluster=cluster, owner="you")
    launched(executor, theirs)
    with pytest.raises(LaunchRejected, match="somebody else's"):
        executor.submit(replace(theirs, owner="0a1b2c3d"))
    executor.terminate(cluster)
    assert phase(executor, cluster) is Phase.UP
    (state / cluster / "spec.json").unlink()  # so that the fixture may end it
    executor.terminate(cluster)
