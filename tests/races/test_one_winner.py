"""Real processes, released by a barrier, at one thing: exactly one of them gets it, every time."""

from collections import Counter

import pytest

from orchestrator.service import reviews, sessions, signals, stories, waves
from tests.races import workers
from tests.support.invariants import assert_invariants
from tests.support.soak import count

pytestmark = pytest.mark.timeout(3600)
PROCESSES, ROUNDS = 8, count(500, 50)


def test_one_claim_of_the_next_story(arena, record_property):
    arena.devs(PROCESSES)
    for number in range(ROUNDS):
        arena.story(f"S-{number}", "W")
    won = arena.race(workers.claim, PROCESSES, ROUNDS)
    record_property("rounds", ROUNDS)
    taken = Counter(turn for rounds in won.values() for turn, _, _ in rounds)
    assert taken == Counter(range(ROUNDS))
    assert {token for rounds in won.values() for *_, token in rounds} == {1}
    assert len(won) == PROCESSES
    assert_invariants(arena.ctx)


def test_one_assignment_of_a_story(arena, record_property):
    arena.devs(PROCESSES)
    for number in range(ROUNDS):
        arena.story(f"S-{number}", "W", approved=True)
    won = arena.race(workers.assign, PROCESSES, ROUNDS)
    record_property("rounds", ROUNDS)
    assert Counter(turn for rounds in won.values() for turn, _, _ in rounds) == Counter(range(ROUNDS))
    assert_invariants(arena.ctx)


def test_one_taker_of_a_role_s_signal(arena, record_property):
    for number in range(PROCESSES):
        sessions.register(arena.ctx, f"pm-{number}", "pm")
    arena.devs(1)
    sender = arena.ctx.acting("dev-0")
    ids = [signals.send(sender, "help_needed", {"question": "?"}, to="role:pm")["id"] for _ in range(ROUNDS)]
    won = arena.race(workers.acknowledge, PROCESSES, ids)
    record_property("rounds", ROUNDS)
    assert Counter(turn for turns in won.values() for turn in turns) == Counter(range(ROUNDS))
    taken = dict(
        arena.rows("SELECT taken_by, COUNT(*) FROM signal_deliveries WHERE taken_by IS NOT NULL GROUP BY taken_by")
    )
    assert taken == {f"pm-{n}": len(turns) for n, turns in won.items() if turns}
    assert_invariants(arena.ctx)


def test_one_merge_of_a_story_and_one_completion_of_its_wave(arena, record_property):
    arena.devs(1)
    pm, dev, tool = arena.ctx.acting("pm"), arena.ctx.acting("dev-0"), arena.ctx.acting("maf")
    for number in range(ROUNDS):
        waves.add(arena.ctx, f"W-{number}", name="a wave")
        for half in (0, 1):
            arena.story(f"S-{number}-{half}", f"W-{number}", approved=True)
        waves.start(pm, f"W-{number}")
        for half in (0, 1):
            code, commit = f"S-{number}-{half}", f"{number:039x}{half}"
            stories.assign(pm, code, "dev-0")
            stories.start(dev, code, branch=f"feature/{code}", base="0" * 40)
            for gate in (1, 2):
                stories.advance(dev, code, gate=gate, evidence=workers.RAN)
            stories.submit(dev, code, commit=commit, evidence=workers.RAN)
            reviews.qa_pass(arena.ctx.acting("qa"), code, commit=commit, evidence=workers.RAN)
            reviews.accept(pm, code)
            reviews.integrate(tool, code, commit=commit, evidence={**workers.RAN, "tree": "t", "target_tip": "x"})
    won = arena.race(workers.merge, PROCESSES, ROUNDS)
    record_property("rounds", ROUNDS)
    merged = Counter(code for rounds in won.values() for _, code in rounds)
    assert merged == Counter(f"S-{n}-{half}" for n in range(ROUNDS) for half in (0, 1))
    completions = Counter(code for (code,) in arena.rows(
        "SELECT w.wave_code FROM signals s JOIN waves w ON w.id = s.wave_id WHERE s.signal_type = 'wave_completed'"
    ))  # fmt: skip
    assert completions == Counter(f"W-{n}" for n in range(ROUNDS))
    assert_invariants(arena.ctx)


def test_many_contend_and_nobody_hears_of_a_lock(arena, record_property):
    """``race`` fails if anything but "nothing is ready" reaches any of them."""
    processes, claims = 32, count(3000, 300)
    arena.devs(processes)
    for number in range(claims):
        if number % 50 == 0:
            arena.wave(f"W-{number // 50}")
        arena.story(f"S-{number}", f"W-{number // 50}", approved=True)
    won = arena.race(workers.contend, processes)
    record_property("claims", claims)
    record_property("processes", processes)
    taken = Counter(code for claimed in won.values() for code, _ in claimed)
    assert taken == Counter(f"S-{n}" for n in range(claims))
    assert {token for claimed in won.values() for _, token in claimed} == {1}
    assert arena.rows("SELECT COUNT(*) FROM assignments") == [(claims,)]
    assert_invariants(arena.ctx)
