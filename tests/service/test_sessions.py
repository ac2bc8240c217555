"""Agents' sessions: their leases, their lives, and what an end gives back."""

from __future__ import annotations

import pytest

from orchestrator.domain import moments
from orchestrator.domain.errors import SessionEnded
from orchestrator.service import reviews, sessions, signals, stories
from tests.service.world import COMMIT, HOUR, RAN, World


def sweep(world: World) -> None:
    """Any exclusive call: here one of a PM who is live."""
    sessions.register(world.user, f"watch-{world.time[11:]}".replace(":", "."), "pm")


def test_a_first_call_makes_a_session_active(world: World):
    assert world.session("dev-1")["status"] == "starting"
    sessions.heartbeat(world.dev)
    assert world.session("dev-1")["status"] == "active"


def test_registering_a_live_id_is_refused(world: World):
    world.refused(1, lambda: sessions.register(world.user, "dev-1", "dev"), "live")
    assert world.session("dev-1")["epoch"] == 1


BAD = [
    ("maf", "dev", {}, 2), ("user", "pm", {}, 2), ("dev-9", "boss", {}, 2), ("../dev", "dev", {}, 2),
    ("-rf", "dev", {}, 2), ("d\x00v", "dev", {}, 2), ("\ud800", "dev", {}, 2), ("", "dev", {}, 2),
    ("x" * 101, "dev", {}, 2), ("dev-9", "dev", {"domain": "a/b"}, 2), ("dev-9", "dev", {"vm": "a\nb"}, 2),
    ("dev-9", "dev", {"ttl": 0}, 2), ("dev-9", "dev", {"ttl": 10**9}, 2), ("dev-1", "qa", {"takeover": True}, 1),
]  # fmt: skip


def test_a_bad_registration_writes_nothing(world: World):
    for agent, role, given, code in BAD:
        world.refused(code, lambda: sessions.register(world.user, agent, role, **given))  # noqa: B023


def test_an_id_never_changes_its_role_not_even_after_its_end(world: World):
    sessions.end(world.pm, "dev-1")
    world.refused(1, lambda: sessions.register(world.user, "dev-1", "qa"), "never changes its role")


def test_takeover_releases_what_the_first_held_and_gives_its_signals_back(world: World):
    world.wave("S-1")
    world.begin("S-1")
    question = signals.send(world.dev, "help_needed", {"question": "?"})
    asked = signals.send(world.pm, "answer", {"text": "so"}, cause=question["id"])
    signals.acknowledge(world.dev, asked["id"])
    taken = sessions.register(world.user, "dev-1", "dev", domain="core", takeover=True)
    assert (taken["epoch"], taken["status"], taken["ended_at"]) == (2, "starting", None)
    assert world.state("S-1") == ("ready", 1, None)
    assert [a["end_reason"] for a in world.look("S-1")["assignments"]] == ["takeover"]
    assert [e["end_reason"] for e in world.session("dev-1")["epochs"]] == ["takeover", None]
    assert "answer" in world.pending(world.dev), "a direct one waits for that id"
    assert world.signals("story_released")[0]["to_agent"] == "role:pm"


def test_calls_of_an_older_life_are_refused(world: World):
    old = world.user.acting("dev-1", epoch=1)
    sessions.heartbeat(old)
    sessions.register(world.user, "dev-1", "dev", takeover=True)
    for call in (lambda: sessions.heartbeat(old), lambda: signals.inbox(old), lambda: stories.next_story(old)):
        world.refused(4, call, "epoch 1")
    sessions.heartbeat(world.user.acting("dev-1", epoch=2))


def test_a_story_started_in_an_older_life_is_not_the_new_ones(world: World):
    world.wave("S-1")
    world.begin("S-1")
    sessions.register(world.user, "dev-1", "dev", takeover=True)
    world.keep_alive("dev-1")
    world.refused(1, lambda: stories.advance(world.dev, "S-1", gate=1, evidence=RAN), "S-1 is ready")


def test_totals_survive_a_revival(world: World):
    world.wave("S-1")
    world.finish("S-1")
    sessions.end(world.dev, "dev-1")
    revived = sessions.register(world.user, "dev-1", "dev", domain="core")
    assert (revived["total_stories_completed"], revived["epoch"]) == (1, 2)


def test_every_call_renews_the_lease(world: World):
    first = world.session("dev-1")["lease_until"]
    assert moments.between(world.time, first) == pytest.approx(8 * HOUR, abs=1)
    for call in (lambda: signals.inbox(world.dev), lambda: sessions.heartbeat(world.dev)):
        world.tick(HOUR)
        before = world.session("dev-1")["lease_until"]
        call()
        assert moments.between(before, world.session("dev-1")["lease_until"]) == pytest.approx(HOUR, abs=0.001)


def test_a_lease_never_shrinks_when_the_clock_steps_back(world: World):
    lease = world.session("dev-1")["lease_until"]
    world.tick(-2 * HOUR)
    sessions.heartbeat(world.dev)
    assert world.session("dev-1")["lease_until"] >= lease


def test_a_silent_dev_loses_its_story_and_its_deliveries(world: World):
    world.wave("S-1")
    sessions.register(world.user, "dev-3", "dev", domain="core", launched_by="runner")
    silent = world.user.acting("dev-3", token=1)
    world.begin("S-1", silent)
    lease = world.session("dev-3")["lease_until"]
    world.tick(121)
    sweep(world)
    assert world.state("S-1") == ("ready", 1, None)
    session = world.session("dev-3")
    assert (session["status"], session["ended_at"]) == ("terminated", lease)
    assignment = world.look("S-1")["assignments"][0]
    assert (assignment["end_reason"], assignment["lease_until"]) == ("expired", lease)
    assert world.look("S-1")["branch_name"] == "feature/S-1", "the work is kept"
    world.refused(4, lambda: sessions.heartbeat(silent), "ended")


def test_a_dev_just_within_its_lease_keeps_everything(world: World):
    sessions.register(world.user, "dev-3", "dev", domain="core", launched_by="runner")
    world.tick(119)
    sweep(world)
    sessions.heartbeat(world.user.acting("dev-3"))
    world.tick(119)
    sweep(world)
    assert world.session("dev-3")["status"] == "active"


def test_a_session_past_its_lease_is_refused_before_anyone_swept(world: World):
    sessions.register(world.user, "dev-3", "dev", ttl=10)
    world.tick(11)
    with pytest.raises(SessionEnded):
        sessions.heartbeat(world.user.acting("dev-3"))
    with pytest.raises(SessionEnded):
        signals.inbox(world.user.acting("dev-3"))


def test_a_dev_that_ends_after_submit_leaves_the_story_where_it_is(world: World):
    world.wave("S-1")
    world.begin("S-1")
    world.submit("S-1")
    sessions.end(world.dev, "dev-1")
    assert world.state("S-1") == ("qa_review", 4, None)
    assert world.look("S-1")["assignments"][0]["end_reason"] == "ended"
    world.review("S-1")
    assert world.merge("S-1")["status"] == "completed"
    assert world.session("dev-1")["total_stories_completed"] == 1


def test_a_role_addressed_signal_goes_back_to_its_role(world: World):
    sessions.register(world.user, "qa-2", "qa", ttl=10)
    second = world.user.acting("qa-2")
    world.wave("S-1")
    world.begin("S-1")
    world.submit("S-1")
    ready = world.signals("ready_for_qa")[0]
    signals.acknowledge(second, ready["id"])
    assert "ready_for_qa" not in world.pending(world.qa)
    world.refused(4, lambda: signals.acknowledge(world.qa, ready["id"]), "qa-2")
    world.tick(11)
    sweep(world)
    (again,) = [s for s in signals.inbox(world.qa)["pending"] if s["id"] == ready["id"]]
    assert again["redeliveries"] == 1
    signals.acknowledge(world.qa, ready["id"])
    reviews.qa_pass(world.qa, "S-1", commit=COMMIT, evidence=RAN)
    assert signals.show(world.user, ready["id"])["status"] == "processed"


def test_a_share_of_a_broadcast_expires_with_who_had_taken_it(world: World):
    world.wave("S-1")
    (started,) = world.signals("wave_started")
    signals.acknowledge(world.dev, started["id"])
    sessions.end(world.dev, "dev-1")
    states = {d["addressee"]: d["status"] for d in signals.show(world.user, started["id"])["deliveries"]}
    assert states == {"cto": "pending", "dev-1": "expired", "dev-2": "pending", "qa-1": "pending"}


def test_who_may_end_whom(world: World):
    world.refused(1, lambda: sessions.end(world.dev, "dev-2"), "may not end")
    world.refused(3, lambda: sessions.end(world.pm, "nobody"))
    world.refused(2, lambda: sessions.end(world.pm, "dev-2", reason="nul \x00"))
    sessions.end(world.pm, "dev-2")
    world.refused(1, lambda: sessions.end(world.pm, "dev-2"), "already")
    sessions.end(world.dev, "dev-1")
    sessions.end(world.user, "qa-1")
