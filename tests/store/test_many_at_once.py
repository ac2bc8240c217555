"""Several processes on one store: writers take turns, waiters wake, keys work once."""

from __future__ import annotations

import threading
import time

import pytest

from orchestrator.domain.errors import Refused
from orchestrator.service import sessions, signals, waves
from orchestrator.service.context import Context
from orchestrator.store import Store, open_store
from orchestrator.store.bell import Bell
from tests.store.rows import add_wave, answers_of, log, wave_codes

LONG = 30.0
"""Seconds that a wait may take before the test has failed; none of them is waited for."""


# --- wake-ups --------------------------------------------------------------------------------------------------


def _waits(url: str, ready, start) -> tuple[bool, float]:
    with open_store(url) as store:
        store.engine.prepare_wait()
        start.wait()
        ready.set()
        began = time.monotonic()
        return store.engine.wait(LONG), time.monotonic() - began


def test_a_commit_elsewhere_wakes_whoever_waits(made_url: str):
    from tests.store.rows import FORK

    ready = FORK.Event()

    def commit() -> None:
        ready.wait(LONG)
        with open_store(made_url) as store:
            add_wave(store, "W1")

    thread = threading.Thread(target=commit)
    thread.start()
    ((woken, seconds),) = answers_of(_waits, (made_url, ready))
    thread.join()
    assert woken is True
    assert seconds < LONG / 3


def test_the_ring_itself_wakes_long_before_the_safety_look(made_url: str, store: Store, other: Store, monkeypatch):
    """With the look at the file switched off (SQLite), only the ring or the notice can wake."""
    monkeypatch.setattr(Bell, "wait", _only_by_ring(Bell.wait))
    store.engine.prepare_wait()
    timer = threading.Thread(target=lambda: add_wave_from_a_thread(made_url))
    timer.start()
    began = time.monotonic()
    assert store.engine.wait(LONG) is True
    timer.join()
    assert time.monotonic() - began < LONG / 3


def _only_by_ring(wait):
    return lambda self, seconds: wait(self, seconds if seconds < 0.5 else LONG)


def add_wave_from_a_thread(url: str) -> None:
    with open_store(url) as store:
        add_wave(store, "W1")


def test_nothing_is_missed_between_prepare_and_wait(store: Store, other: Store):
    for n in range(3):
        store.engine.prepare_wait()
        add_wave(other, f"W{n}")
        assert store.engine.wait(LONG) is True


def test_nothing_is_missed_while_reading_after_prepare(store: Store, other: Store):
    store.engine.prepare_wait()
    add_wave(other, "W1")
    assert wave_codes(store) == ["W1"]  # the notice arrives with this answer
    assert store.engine.wait(LONG) is True


def test_nothing_is_missed_that_comes_while_it_reads(store: Store, other: Store):
    store.engine.prepare_wait()
    with store.read() as reader:
        reader.all("wave.list")
        add_wave(other, "W1")
    assert store.engine.wait(LONG) is True


def test_its_own_commit_wakes_nobody_but_others(store: Store, other: Store):
    store.engine.prepare_wait()
    other.engine.prepare_wait()
    add_wave(store, "W1")
    assert store.engine.wait(0.05) is False
    assert other.engine.wait(LONG) is True


def test_waiting_in_vain_ends_in_time_without_work(store: Store):
    """Two seconds of waiting cost next to no processor time: it sleeps."""
    store.engine.prepare_wait()
    cpu, wall = time.process_time(), time.monotonic()
    assert store.engine.wait(2.0) is False
    assert time.monotonic() - wall >= 1.99
    assert time.process_time() - cpu < 0.1


def test_without_inotify_it_still_wakes(sqlite_url: str, opened, monkeypatch):
    from orchestrator.store import schema

    schema.create(sqlite_url)
    monkeypatch.setattr("orchestrator.store.bell.sys.platform", "elsewhere")
    store, other = opened(sqlite_url), opened(sqlite_url)
    store.engine.prepare_wait()
    assert store.engine._bell._fd is None
    add_wave(other, "W1")
    assert store.engine.wait(LONG) is True
    store.engine.prepare_wait()
    assert store.engine.wait(0.1) is False


def test_two_waiters_both_wake(made_url: str, opened, store: Store):
    waiters = [opened(made_url) for _ in range(2)]
    for waiter in waiters:
        waiter.engine.prepare_wait()
    add_wave(store, "W1")
    assert [waiter.engine.wait(LONG) for waiter in waiters] == [True, True]


# --- writers ---------------------------------------------------------------------------------------------------


def _writes(url: str, name: str, count: int, start) -> int:
    with open_store(url) as store:
        start.wait()
        for n in range(count):
            add_wave(store, f"{name}-{n}")
    return count


def test_eight_writers_at_once_never_find_it_locked(made_url: str, store: Store):
    assert answers_of(_writes, *[(made_url, f"p{n}", 25) for n in range(8)]) == [25] * 8
    assert len(wave_codes(store)) == 200
    rows = log(store)
    assert len(rows) == 200
    assert [r["created_at"] for r in rows] == sorted({r["created_at"] for r in rows}), "one after another, each later"


def _writes_and_sends(url: str, number: int, start) -> int:
    with open_store(url) as store:
        ctx = Context(store)
        start.wait()
        for n in range(10):
            if number % 2:
                waves.add(ctx, f"w{number}-{n}", name="n")
            else:
                signals.send(ctx.acting(f"dev-{number}"), "help_needed", {"question": str(n)})
    return number


def test_lifecycle_writers_and_senders_side_by_side(made_url: str, store: Store):
    for n in (0, 2):
        sessions.register(Context(store), f"dev-{n}", "dev")
    assert sorted(answers_of(_writes_and_sends, *[(made_url, n) for n in range(4)])) == [0, 1, 2, 3]
    with store.read() as reader:
        assert len(reader.all("signal.list", size=100)) == 20
        assert len(reader.all("wave.list")) == 20


# --- keys ------------------------------------------------------------------------------------------------------


def keyed(store: Store, key: str, agent: str = "user") -> Context:
    return Context(store, agent=agent, key=key)


def test_a_key_works_once_and_gives_the_first_result_again(store: Store, other: Store):
    first = waves.add(keyed(store, "k1"), "W1", name="First")
    before = log(store)
    assert waves.add(keyed(other, "k1"), "W1", name="First") == first
    assert log(store) == before
    assert wave_codes(store) == ["W1"]


def test_a_key_is_of_one_request_by_one_agent(store: Store):
    waves.add(keyed(store, "k1"), "W1", name="First")
    before = log(store)
    for ctx, name, code in (
        (keyed(store, "k1"), "Second", "W1"),
        (keyed(store, "k1"), "First", "W2"),
        (keyed(store, "k1", "maf"), "First", "W1"),
    ):
        with pytest.raises(Refused, match=r"another request|needs an agent"):
            waves.add(ctx, code, name=name)
    with pytest.raises(Refused, match="another request"):
        sessions.register(keyed(store, "k1"), "dev-1", "dev")
    assert log(store) == before


def test_a_refused_request_leaves_its_key_free(store: Store):
    waves.add(Context(store), "W1", name="First")
    with pytest.raises(Refused, match="already"):
        waves.add(keyed(store, "k1"), "W1", name="First")
    assert waves.add(keyed(store, "k1"), "W2", name="Second")["wave_code"] == "W2"


@pytest.mark.parametrize("key", ["", "k" * 201, "nul\x00", "\ud800"])
def test_a_key_that_cannot_be_stored_is_refused(store: Store, key: str):
    from orchestrator.domain.errors import InvalidInput

    with pytest.raises(InvalidInput):
        waves.add(keyed(store, key), "W1", name="First")
    assert log(store) == []


def _sends_with_key(url: str, start) -> str:
    with open_store(url) as store:
        ctx = Context(store, agent="dev-1", key="the same")
        start.wait()
        return signals.send(ctx, "help_needed", {"question": "why?"})["id"]


def _adds_with_key(url: str, start) -> str:
    with open_store(url) as store:
        start.wait()
        return waves.add(keyed(store, "the same"), "W1", name="First")["id"]


@pytest.mark.parametrize("call", [_sends_with_key, _adds_with_key])
def test_processes_at_once_with_one_key_have_one_effect(made_url: str, store: Store, call):
    sessions.register(Context(store), "dev-1", "dev")
    results = answers_of(call, *[(made_url,)] * 4)
    assert len(set(results)) == 1, results
    with store.read() as reader:
        assert len(reader.all("signal.list", size=9)) + len(reader.all("wave.list")) == 1
