"""The demo's traffic: what is answered, what fails, and what nobody is to blame for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event, Thread

import pytest

from arbiter.demo.server import Options, Server
from arbiter.demo.traffic import Traffic, answer

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(Options("tiny", tokens_per_second=5000), api_key="key") as made:
        made.server_activate()
        thread = Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def endpoint(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def traffic_to(*endpoints: str, key: str = "key", ending: Event | None = None) -> Traffic:
    return Traffic("tiny", key, lambda: endpoints, ending or Event(), 0.01, timeout_s=5.0)


def test_what_was_answered_and_what_failed_is_counted(endpoint: str) -> None:
    traffic = traffic_to()
    traffic.ask([endpoint])
    assert (traffic.tally.answered, traffic.tally.failed) == (1, 0)
    traffic.ask([NOBODY])
    assert (traffic.tally.answered, traffic.tally.failed) == (1, 1)
    assert "refused" in traffic.tally.last_failure
    traffic.ask([])
    assert (traffic.tally.failed, traffic.tally.last_failure) == (2, "no replica answers")


def test_a_question_is_answered_when_one_of_those_asked_answers(endpoint: str) -> None:
    traffic = traffic_to()
    traffic.ask([NOBODY, endpoint])
    assert (traffic.tally.answered, traffic.tally.failed) == (1, 0)


def test_the_wrong_key_is_a_failure(endpoint: str) -> None:
    traffic = traffic_to(key="another")
    traffic.ask([endpoint])
    assert (traffic.tally.answered, traffic.tally.failed) == (0, 1)
    assert "401" in traffic.tally.last_failure


def test_a_question_that_the_end_cuts_off_is_nobodys_failure(endpoint: str) -> None:
    ending = Event()
    ending.set()
    traffic = traffic_to(ending=ending)
    traffic.ask([NOBODY])
    assert (traffic.tally.answered, traffic.tally.failed) == (0, 0)
    traffic.ask([endpoint])
    assert traffic.tally.answered == 1


def test_it_begins_when_there_is_somebody_to_ask_and_ends_when_told(endpoint: str) -> None:
    ending, looked = Event(), 0

    def endpoints() -> Sequence[str]:
        nonlocal looked
        looked += 1
        if looked == 6:
            ending.set()
        return [endpoint] if looked in (3, 4) else []

    traffic = Traffic("tiny", "key", endpoints, ending, 0.01)
    thread = Thread(target=traffic.run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    # the first two looks ask nobody, the fifth finds nobody, the sixth is the end
    assert (traffic.tally.answered, traffic.tally.failed) == (2, 1)


def test_the_answer_is_the_models_text(endpoint: str) -> None:
    assert "simulated" in answer(endpoint, "tiny", "key")
    with pytest.raises(ValueError, match="not an HTTP endpoint"):
        answer("file:///etc/passwd", "tiny", "key")
