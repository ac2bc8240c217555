"""Signals by hand and their deliveries: who gets them, once, and what is refused."""

from __future__ import annotations

import pytest

from orchestrator.domain import lifecycle as lc
from orchestrator.service import reviews, sessions, signals, stories
from tests.service.world import HOUR, RAN, World

UNKNOWN = "0190a6d0-0000-7000-8000-0000000000ff"
QUESTION = {"question": "why?"}


def states(world: World, signal: str) -> dict[str, str]:
    return {d["addressee"]: d["status"] for d in signals.show(world.user, signal)["deliveries"]}


def test_a_broadcast_reaches_each_who_is_live_but_its_sender(world: World):
    sessions.register(world.user, "dev-3", "dev", ttl=10)
    sessions.register(world.user, "dev-4", "dev")
    sessions.end(world.user, "dev-4")
    world.tick(11)  # dev-3 is silent, though nobody has swept it yet
    sent = signals.send(world.pm, "emergency_stop", {"reason": "fire"})
    assert set(states(world, sent["id"])) == {"cto", "dev-1", "dev-2", "qa-1"}
    sessions.register(world.user, "dev-5", "dev")
    assert world.pending(world.user.acting("dev-5")) == [], "it came later"


def test_a_domain_is_addressed_apart(world: World):
    sessions.register(world.user, "dev-ui", "dev", domain="ui")
    sent = signals.send(world.pm, "emergency_stop", {"reason": "fire"}, to="all:dev/core")
    assert set(states(world, sent["id"])) == {"dev-1", "dev-2"}
    one = signals.send(world.pm, "help_needed", QUESTION, to="role:dev/ui")
    assert world.pending(world.user.acting("dev-ui")) == ["help_needed"]
    assert "help_needed" not in world.pending(world.dev)
    world.refused(1, lambda: signals.acknowledge(world.dev, one["id"]), "not addressed")


def test_a_role_addressed_signal_is_taken_by_exactly_one(world: World):
    sessions.register(world.user, "pm-2", "pm")
    second = world.user.acting("pm-2")
    sent = signals.send(world.dev, "help_needed", QUESTION)
    assert world.pending(world.pm) == world.pending(second) == ["help_needed"]
    signals.acknowledge(second, sent["id"])
    signals.acknowledge(second, sent["id"])  # repeating one's own is no error
    world.refused(4, lambda: signals.acknowledge(world.pm, sent["id"]), "pm-2")
    world.refused(4, lambda: signals.done(world.pm, sent["id"]), "pm-2")
    assert signals.inbox(second)["taken"][0]["id"] == sent["id"]
    signals.done(second, sent["id"])
    world.refused(1, lambda: signals.done(second, sent["id"]), "processed")
    assert signals.show(world.user, sent["id"])["status"] == "processed"


def test_one_to_a_role_that_nobody_has_waits_for_the_first(world: World):
    sessions.end(world.user, "qa-1")
    sent = signals.send(world.dev, "help_needed", QUESTION, to="role:qa")
    assert signals.show(world.user, sent["id"])["status"] == "pending"
    sessions.register(world.user, "qa-7", "qa")
    assert world.pending(world.user.acting("qa-7")) == ["help_needed"]


def test_one_that_nobody_hears_is_processed(world: World):
    for agent in ("cto", "qa-1", "dev-1", "dev-2"):
        sessions.end(world.user, agent)
    sent = signals.send(world.pm, "emergency_stop", {"reason": "fire"})
    assert (sent["status"], states(world, sent["id"])) == ("processed", {})


def test_a_signal_shows_its_least_advanced_delivery(world: World):
    sent = signals.send(world.pm, "emergency_stop", {"reason": "fire"}, to="all:dev")
    shown = lambda: signals.show(world.user, sent["id"])["status"]  # noqa: E731
    assert shown() == "pending"
    signals.acknowledge(world.dev, sent["id"])
    assert shown() == "pending"
    signals.done(world.dev2, sent["id"])
    assert shown() == "acknowledged"
    signals.done(world.dev, sent["id"])
    assert shown() == "processed"


def test_the_inbox_is_by_priority_then_time(world: World):
    for priority, question in ((2, "third"), (1, "first"), (2, "fourth"), (1, "second")):
        world.tick(1)
        signals.send(world.dev, "help_needed", {"question": question}, priority=priority)
    pending = signals.inbox(world.pm)["pending"]
    assert [s["payload"]["question"] for s in pending] == ["first", "second", "third", "fourth"]
    assert all(s["delivered_at"] is None for s in pending)
    assert all(s["delivered_at"] for s in signals.inbox(world.pm)["pending"]), "seen the second time"


def test_past_its_expiry_it_is_neither_seen_nor_taken(world: World):
    sent = signals.send(world.dev, "help_needed", QUESTION, expires_in=60)
    taken = signals.send(world.dev, "help_needed", QUESTION, expires_in=60)
    signals.acknowledge(world.pm, taken["id"])
    world.tick(61)
    assert world.pending(world.pm) == []
    world.refused(1, lambda: signals.acknowledge(world.pm, sent["id"]), "expired")
    world.refused(1, lambda: signals.done(world.pm, taken["id"]), "expired")
    sessions.register(world.user, "dev-9", "dev")  # sweeps
    for signal in (sent, taken):
        assert signals.show(world.user, signal["id"])["status"] == "expired"


def test_before_its_expiry_it_is_processed_for_good(world: World):
    sent = signals.send(world.dev, "help_needed", QUESTION, expires_in=60)
    signals.done(world.pm, sent["id"])
    world.tick(61)
    sessions.register(world.user, "dev-9", "dev")
    assert signals.show(world.user, sent["id"])["status"] == "processed"


# --- blocked and its answer ------------------------------------------------------------------------------------


def working(world: World) -> None:
    world.wave("S-1")
    world.begin("S-1")


def test_blocked_names_the_current_story_and_blocks_the_session(world: World):
    working(world)
    sent = signals.send(world.dev, "blocked", {"reason": "no key"})
    assert sent["story_id"] == sent["payload"]["story_id"] == world.look("S-1")["id"]
    assert sent["to_agent"] == "role:pm"
    assert world.session("dev-1")["status"] == "blocked"
    assert world.state("S-1") == ("in_progress", 1, "dev-1"), "the story stays with its dev"


@pytest.mark.parametrize("how", ["answer", "done"])
def test_an_answer_or_its_processing_sets_the_session_back_to_working(world: World, how: str):
    working(world)
    sent = signals.send(world.dev, "blocked", {"reason": "no key"})
    if how == "done":
        signals.done(world.pm, sent["id"])
    else:
        answer = signals.send(world.pm, "answer", {"text": "use mine"}, cause=sent["id"])
        assert (answer["to_agent"], answer["cause_id"], answer["chain_depth"]) == ("dev-1", sent["id"], 1)
        assert answer["payload"] == {"text": "use mine", "answers": sent["id"]}
    assert world.session("dev-1")["status"] == "working"


def test_help_of_nobodys_story_has_none(world: World):
    sent = signals.send(world.qa, "help_needed", QUESTION)
    assert (sent["story_id"], sent["payload"]["story_id"]) == (None, None)
    assert world.session("qa-1")["status"] == "active"


def test_a_story_named_wins_over_the_current_one(world: World):
    working(world)
    world.story("S-2")
    sent = signals.send(world.dev, "help_needed", QUESTION, story="S-2")
    assert sent["story_id"] == sent["payload"]["story_id"] == world.look("S-2")["id"]


def test_the_payload_may_name_what_is_answered(world: World):
    asked = signals.send(world.dev, "help_needed", QUESTION)
    told = signals.send(world.pm, "answer", {"text": "so", "answers": asked["id"]})
    assert (told["to_agent"], told["cause_id"]) == ("dev-1", asked["id"])
    world.refused(3, lambda: signals.send(world.pm, "answer", {"text": "so", "answers": UNKNOWN}))
    world.refused(2, lambda: signals.send(world.pm, "answer", {"text": "so", "answers": 7}))


def test_what_waits_for_an_ended_agent_expires_when_its_story_moves_on(world: World):
    world.wave("S-1", "S-2")
    world.begin("S-1")
    asked = signals.send(world.dev, "help_needed", QUESTION)
    about = world.look("S-1")["id"]
    told = signals.send(world.pm, "answer", {"text": "so"}, cause=asked["id"])
    assert told["story_id"] == about
    other = signals.send(world.pm, "help_needed", QUESTION, to="dev-1", story="S-2")
    stories.advance(world.dev, "S-1", gate=1, evidence=RAN)
    shown = lambda: [signals.show(world.user, s["id"])["status"] for s in (asked, told, other)]  # noqa: E731
    assert shown() == ["pending"] * 3, "its dev is there to read it"
    sessions.end(world.dev, "dev-1")
    assert shown() == ["pending"] * 3, "it waits for its dev, who may come back"
    sessions.register(world.user, "dev-1", "dev", domain="core")
    assert "answer" in world.pending(world.dev)
    sessions.end(world.dev, "dev-1")
    world.begin("S-1", world.dev2)
    assert shown() == ["pending", "expired", "pending"], "a role's and another story's stay"


def test_a_stale_token_speaks_for_nobody(world: World):
    """A dev whose story was given away carries on unawares: it is told so, whatever it sends."""
    world.wave("S-1", "S-2")
    world.begin("S-1")
    carrying = {token: world.user.acting("dev-1", token=token) for token in (1, 2)}
    signals.send(carrying[1], "help_needed", QUESTION)
    signals.send(carrying[1], "help_needed", QUESTION, story="S-2")  # about another's story
    world.refused(4, lambda: signals.send(carrying[2], "blocked", {"reason": "no key"}), "stale")
    world.submit("S-1")
    signals.send(carrying[1], "help_needed", QUESTION)  # under QA it is still its own
    reviews.qa_reject(world.qa, "S-1", findings=["slow"])
    stories.release(world.pm, "S-1", reason="somebody else shall")
    world.begin("S-1", world.dev2)
    world.refused(4, lambda: signals.send(carrying[1], "blocked", {"reason": "no key"}), "stale")
    world.refused(4, lambda: signals.send(carrying[1], "help_needed", QUESTION, story="S-1"), "stale")
    assert world.session("dev-1")["status"] == "idle"


# --- bad input -------------------------------------------------------------------------------------------------

DEEP: list = []
for _ in range(300):
    DEEP = [DEEP]

BAD = [
    ("user", "help_needed", QUESTION, {}, 1),
    ("dev-1", "answer", {"text": "so"}, {}, 1),
    ("dev-1", "emergency_stop", {"reason": "fire"}, {}, 1),
    ("qa-1", "emergency_stop", {"reason": "fire"}, {}, 1),
    *(
        (agent, str(rule.type), {}, {}, 1)
        for agent in ("dev-1", "pm")
        for rule in lc.SIGNALS.values()
        if not rule.by_hand
    ),
    ("dev-1", "hello", {}, {}, 2),
    ("dev-1", "", {}, {}, 2),
    ("dev-1", "help_needed", {}, {}, 2),
    ("dev-1", "help_needed", {"question": ""}, {}, 2),
    ("dev-1", "help_needed", {"question": "  \n"}, {}, 2),
    ("dev-1", "help_needed", {"question": 7}, {}, 2),
    ("dev-1", "help_needed", {"question": None}, {}, 2),
    ("dev-1", "help_needed", ["why?"], {}, 2),
    ("dev-1", "blocked", {"question": "why?"}, {}, 2),
    ("dev-1", "blocked", {"reason": ["no"]}, {}, 2),
    ("pm", "answer", {"text": "so"}, {}, 2),
    ("dev-1", "help_needed", {"question": "nul \x00"}, {}, 2),
    ("dev-1", "help_needed", {"question": "half \ud83d"}, {}, 2),
    ("dev-1", "help_needed", {"question": "why?", "k\x00": 1}, {}, 2),
    ("dev-1", "help_needed", {"question": "x" * 65_536}, {}, 2),
    ("dev-1", "help_needed", {"question": "é" * 33_000}, {}, 2),
    ("dev-1", "help_needed", {"question": "x" * 10_000_000}, {}, 2),
    ("dev-1", "help_needed", {"question": "why?", "n": float("nan")}, {}, 2),
    ("dev-1", "help_needed", {"question": "why?", "n": float("inf")}, {}, 2),
    ("dev-1", "help_needed", {"question": "why?", "o": object()}, {}, 2),
    ("dev-1", "help_needed", {"question": "why?", "deep": DEEP}, {}, 2),
    ("dev-1", "help_needed", QUESTION, {"priority": 0}, 2),
    ("dev-1", "help_needed", QUESTION, {"priority": 2**31}, 2),
    ("dev-1", "help_needed", QUESTION, {"expires_in": 0}, 2),
    ("dev-1", "help_needed", QUESTION, {"expires_in": -5}, 2),
    ("dev-1", "help_needed", QUESTION, {"expires_in": 1e12}, 2),
    ("dev-1", "help_needed", QUESTION, {"to": "../pm"}, 2),
    ("dev-1", "help_needed", QUESTION, {"to": "$(reboot)"}, 2),
    ("dev-1", "help_needed", QUESTION, {"to": ""}, 2),
    ("dev-1", "help_needed", QUESTION, {"to": "all:dev/" + "x" * 200}, 2),
    ("dev-1", "help_needed", QUESTION, {"to": "role:dev/a b"}, 2),
    ("dev-1", "help_needed", QUESTION, {"story": "a/b"}, 2),
    ("dev-1", "help_needed", QUESTION, {"to": "nobody"}, 3),
    ("dev-1", "help_needed", QUESTION, {"to": "role:boss"}, 3),
    ("dev-1", "help_needed", QUESTION, {"to": "all:boss"}, 3),
    ("dev-1", "help_needed", QUESTION, {"story": "S-404"}, 3),
    ("dev-1", "help_needed", {**QUESTION, "story_id": UNKNOWN}, {}, 3),
    ("dev-1", "help_needed", {**QUESTION, "story_id": "S-1"}, {}, 3),
    ("dev-1", "help_needed", QUESTION, {"cause": UNKNOWN}, 3),
    ("dev-1", "help_needed", QUESTION, {"cause": "' OR 1=1 --"}, 3),
    ("nobody", "help_needed", QUESTION, {}, 3),
    ("no/body", "help_needed", QUESTION, {}, 2),
    ("\ud800", "help_needed", QUESTION, {}, 2),
    ("gone", "help_needed", QUESTION, {}, 4),
]


def test_bad_input_gets_its_exit_code_and_writes_nothing(world: World):
    """One store for all of them: none of them changes it."""
    sessions.register(world.user, "gone", "dev")
    sessions.end(world.user, "gone")
    world.keep_alive("dev-1", "pm", "qa-1")  # their first call is logged
    for agent, kind, payload, options, code in BAD:
        world.refused(code, lambda: signals.send(world.user.acting(agent), kind, payload, **options))  # noqa: B023
    assert len(BAD) >= 60


@pytest.mark.parametrize(
    "payload", [{"question": "x" * 65_000}, {"question": "🙂 \u202b עברית %s '; DROP TABLE signals"}]
)
def test_odd_input_that_is_fine_arrives_as_it_was(world: World, payload: dict):
    sent = signals.send(world.dev, "help_needed", payload)
    (found,) = signals.inbox(world.pm)["pending"]
    assert found["payload"] == sent["payload"] == {**payload, "story_id": None}


def test_an_unknown_signal_is_not_found(world: World):
    world.keep_alive("pm")
    for signal in (UNKNOWN, "S-1", "", "\x00", "' OR 1=1"):
        for call in (signals.acknowledge, signals.done):
            world.refused(3, lambda: call(world.pm, signal))  # noqa: B023
        world.refused(3, lambda: signals.show(world.user, signal))  # noqa: B023


# --- storms ----------------------------------------------------------------------------------------------------


def alerts(world: World) -> int:
    return len([s for s in world.signals("help_needed") if s["from_agent"] == "maf"])


def test_a_chain_of_replies_ends_at_its_depth_with_one_alert(world: World):
    last = signals.send(world.dev, "help_needed", QUESTION)
    for depth in range(1, lc.MAX_CHAIN_DEPTH + 1):
        last = signals.send(world.dev, "help_needed", QUESTION, cause=last["id"])
        assert last["chain_depth"] == depth
    for _ in range(3):
        with pytest.raises(signals.Storm, match="chain") as storm:
            signals.send(world.dev, "help_needed", QUESTION, cause=last["id"])
        assert storm.value.exit_code == 1
    assert len([s for s in world.signals("help_needed") if s["from_agent"] == "dev-1"]) == lc.MAX_CHAIN_DEPTH + 1
    assert alerts(world) == 1


def test_too_many_in_a_minute_are_refused_with_one_alert(world: World):
    for _ in range(30):
        signals.send(world.dev, "help_needed", QUESTION)
    for _ in range(5):
        with pytest.raises(signals.Storm, match="within a minute"):
            signals.send(world.dev, "help_needed", QUESTION)
    assert alerts(world) == 1
    signals.send(world.dev2, "help_needed", QUESTION)  # another agent's rate is its own
    world.tick(61)
    signals.send(world.dev, "help_needed", QUESTION)
    assert alerts(world) == 1


def test_another_storm_later_is_another_alert(world: World):
    for expected in (1, 2):
        for _ in range(30):
            signals.send(world.dev, "help_needed", QUESTION)
        with pytest.raises(signals.Storm):
            signals.send(world.dev, "help_needed", QUESTION)
        assert alerts(world) == expected
        world.tick(120)


# --- signals that the lifecycle sends and settles --------------------------------------------------------------


def test_an_action_processes_what_asked_for_it(world: World):
    world.wave("S-1")
    kinds = {}

    def status(kind: str) -> str:
        return str(world.signals(kind)[-1]["status"])

    kinds["approved"] = status("story_approved")
    stories.assign(world.pm, "S-1", "dev-1")
    assert (kinds["approved"], status("story_approved"), status("story_assigned")) == (
        "pending",
        "processed",
        "pending",
    )
    stories.start(world.dev, "S-1", branch="feature/S-1", base="0" * 40)
    assert status("story_assigned") == "processed"
    stories.advance(world.dev, "S-1", gate=1, evidence=RAN)
    world.submit("S-1")
    assert status("ready_for_qa") == "pending"


def test_what_a_release_overtakes_is_expired(world: World):
    world.wave("S-1")
    stories.assign(world.pm, "S-1", "dev-1")
    stories.release(world.pm, "S-1", reason="somebody else")
    assert world.signals("story_assigned")[0]["status"] == "expired"
    assert world.pending(world.dev) == ["wave_started"]
    world.tick(HOUR)
    stories.assign(world.pm, "S-1", "dev-2")
    assert world.signals("story_released")[0]["status"] == "processed"
