"""The collector rests while work is done, and always comes back."""

from __future__ import annotations

import gc

import pytest

from arbiter.garbage import uncollected


@pytest.fixture(autouse=True)
def _collector_on():
    gc.enable()
    yield
    gc.enable()


def test_the_collector_rests_until_the_last_work_is_done():
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_comes_back_after_an_error():
    with pytest.raises(ValueError, match="wrong"), uncollected():
        raise ValueError("wrong")
    assert gc.isenabled()


def test_where_somebody_else_turned_it_off_it_stays_off():
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()
