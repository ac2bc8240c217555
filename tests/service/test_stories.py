"""Who may hold a story, what proves it, where a rejected one goes, and what an emergency stop does."""

from __future__ import annotations

import pytest

from orchestrator.service import reviews, sessions, stops, stories, waves
from tests.service.world import BASE, COMMIT, MERGE, RAN, World

WHY = {"reason": "because"}


# --- assigning -------------------------------------------------------------------------------------------------


def test_assigning_needs_a_free_live_dev_of_the_domain(world: World):
    world.wave("S-1", "S-2", start=False)
    world.story("S-3", domain="ui")
    world.story("S-4", after=["S-1"])
    world.story("S-5", approved=False)
    waves.start(world.pm, "W1")
    sessions.register(world.user, "dev-3", "dev", ttl=5)
    sessions.register(world.user, "dev-4", "dev")
    world.tick(6)
    stories.assign(world.pm, "S-1", "dev-1")
    world.keep_alive("pm")
    sessions.register(world.user, "pm-2", "pm")  # sweeps dev-3 out
    for code, dev, exit_code, word in (
        ("S-2", "dev-1", 1, "already holds S-1"), ("S-3", "dev-2", 1, "works in core"), ("S-4", "dev-2", 1, "S-1"),
        ("S-5", "dev-2", 1, "backlog"), ("S-2", "qa-1", 1, "not a dev"), ("S-2", "dev-3", 1, "ended"),
        ("S-2", "nobody", 3, "nobody"), ("S-404", "dev-2", 3, "S-404"), ("S-1", "dev-2", 1, "assigned"),
        ("../S", "dev-2", 2, "code"), ("S-2", "a b", 2, "agent id"),
    ):  # fmt: skip
        world.refused(exit_code, lambda: stories.assign(world.pm, code, dev), word)  # noqa: B023
    stories.assign(world.pm, "S-3", "dev-4")  # a dev without a domain takes any


def test_pulling_takes_the_best_of_the_domain(world: World):
    world.wave(start=False)
    for code, given in (
        ("S-late", {"priority": 3}), ("S-ui", {"domain": "ui"}), ("S-two", {"priority": 2}), ("S-one", {"priority": 1}),
        ("S-waits", {"priority": 1, "after": ["S-late"]}),
    ):  # fmt: skip
        world.story(code, **given)
    world.tick(1)
    waves.start(world.pm, "W1")
    taken = stories.next_story(world.dev)
    assert (taken["story_code"], taken["token"], taken["status"]) == ("S-one", 1, "assigned")
    assert world.signals("story_assigned")[0]["from_agent"] == "maf"
    world.refused(1, lambda: stories.next_story(world.dev), "already holds")
    assert stories.next_story(world.dev2)["story_code"] == "S-two"


# --- fencing ---------------------------------------------------------------------------------------------------


def test_tokens_grow_and_a_stale_one_is_refused(world: World):
    world.wave("S-1")
    first = world.begin("S-1")
    assert first["token"] == 1
    stories.release(world.pm, "S-1", **WHY)
    second = world.begin("S-1", world.dev2)
    assert second["token"] == 2
    world.keep_alive("dev-1", "dev-2")
    stale = world.user.acting("dev-1", token=1)
    for call in (
        lambda: stories.advance(stale, "S-1", gate=1, evidence=RAN),
        lambda: stories.advance(world.user.acting("dev-2", token=1), "S-1", gate=1, evidence=RAN),
        lambda: stories.advance(world.user.acting("dev-2", token=3), "S-1", gate=1, evidence=RAN),
    ):
        world.refused(4, call, "stale")
    world.refused(1, lambda: stories.advance(world.dev, "S-1", gate=1, evidence=RAN), "held by dev-2")
    stories.advance(world.user.acting("dev-2", token=2), "S-1", gate=1, evidence=RAN)


def test_the_same_dev_again_has_another_token(world: World):
    world.wave("S-1")
    world.begin("S-1")
    stories.release(world.pm, "S-1", **WHY)
    world.begin("S-1")
    world.refused(4, lambda: stories.advance(world.user.acting("dev-1", token=1), "S-1", gate=1, evidence=RAN), "stale")


def test_a_dev_registered_by_hand_needs_no_token_one_that_was_launched_does(world: World):
    world.wave("S-1", "S-2")
    world.begin("S-1")  # by hand, without
    sessions.register(world.user, "dev-3", "dev", domain="core", launched_by="runner")
    launched = world.user.acting("dev-3")
    world.keep_alive("dev-3")
    stories.assign(world.pm, "S-2", "dev-3")
    world.refused(4, lambda: stories.start(launched, "S-2", branch="b", base=BASE), "no token")
    stories.start(world.user.acting("dev-3", token=1), "S-2", branch="b", base=BASE)


# --- gates -----------------------------------------------------------------------------------------------------


NO_EVIDENCE = [{}, {"exit_code": 0}, {"exit_code": 1, "command": ["make"]}, {"command": ["make"]}, {"decision": {}},
 {"decision": "yes"}, {"exit_code": None, "command": ["make"]}]  # fmt: skip


def test_no_gate_passes_without_evidence(world: World):
    world.wave("S-1")
    world.begin("S-1")
    for evidence in NO_EVIDENCE:
        world.refused(1, lambda: stories.advance(world.dev, "S-1", gate=1, evidence=evidence), "evidence")  # noqa: B023


@pytest.mark.parametrize(
    "evidence", [{**RAN, "out": "nul \x00"}, {**RAN, "out": "half \ud800"}, {**RAN, "out": "x" * 300_000}]
)
def test_evidence_that_cannot_be_stored_is_refused(world: World, evidence: dict):
    world.wave("S-1")
    world.begin("S-1")
    world.refused(2, lambda: stories.advance(world.dev, "S-1", gate=1, evidence=evidence), "evidence")


def test_gates_are_not_skipped(world: World):
    world.wave("S-1")
    world.begin("S-1")
    world.keep_alive("qa-1")
    for call in (
        lambda: stories.submit(world.dev, "S-1", commit=COMMIT, evidence=RAN),
        lambda: reviews.qa_pass(world.qa, "S-1", commit=COMMIT, evidence=RAN),
        lambda: reviews.accept(world.pm, "S-1"),
        lambda: world.merge("S-1"),
    ):
        error = world.refused(1, call)
        assert "Next: maf story advance S-1" in str(error.hint)
    world.refused(4, lambda: stories.advance(world.dev, "S-1", gate=2, evidence=RAN), "gate 1, not 2")


def test_a_check_of_another_commit_is_no_pass(world: World):
    world.wave("S-1")
    world.begin("S-1")
    world.submit("S-1")
    world.keep_alive("qa-1")
    world.refused(4, lambda: reviews.qa_pass(world.qa, "S-1", commit="9" * 40, evidence=RAN), "submitted at")
    reviews.qa_pass(world.qa, "S-1", commit=COMMIT, evidence=RAN)
    reviews.accept(world.pm, "S-1")
    proof = {**RAN, "tree": "t", "target_tip": BASE}
    world.refused(4, lambda: reviews.integrate(world.maf, "S-1", commit="9" * 40, evidence=proof))
    world.refused(1, lambda: reviews.integrate(world.maf, "S-1", commit=COMMIT, evidence=RAN), "merged tree")


def test_a_story_is_merged_once(world: World):
    world.wave("S-1", "S-2")
    world.finish("S-1")
    world.refused(1, lambda: world.merge("S-1"), "completed")
    for call in (lambda: stories.fail(world.pm, "S-1", **WHY), lambda: stories.reopen(world.pm, "S-1")):
        world.refused(1, call, "completed")


def test_a_rejection_needs_findings_that_can_be_kept(world: World):
    world.wave("S-1")
    world.begin("S-1")
    world.submit("S-1")
    world.keep_alive("qa-1")
    for findings in ([], [""], ["  "], [{}], [{"text": 7}], ["nul \x00"], ["x" * 9000]):
        world.refused(2, lambda: reviews.qa_reject(world.qa, "S-1", findings=findings))  # noqa: B023


def test_notes_that_cannot_be_stored_are_refused(world: World):
    world.wave("S-1", start=False)
    world.story("S-2", approved=False)
    for notes in ("nul \x00", "half \udfff", "x" * 9000):
        world.refused(2, lambda: stories.approve(world.cto, "S-2", notes=notes), "notes")  # noqa: B023


# --- sent back -------------------------------------------------------------------------------------------------


def send_back(world: World, how: str) -> None:
    """Reject ``S-1`` at QA, at the PM, or before the merge."""
    if how == "reject":
        reviews.qa_reject(world.qa, "S-1", findings=["it is slow"])
        return
    reviews.qa_pass(world.qa, "S-1", commit=COMMIT, evidence=RAN)
    if how == "return":
        reviews.give_back(world.pm, "S-1", **WHY)
        return
    reviews.accept(world.pm, "S-1")
    reviews.refuse(world.cto if how == "refuse" else world.maf, "S-1", **WHY)


HOW = {"reject": "qa_rejected", "return": "pm_rejected", "refuse": "merge_rejected", "refuse by maf": "merge_rejected"}


@pytest.mark.parametrize("how", HOW)
def test_it_goes_back_to_its_dev(world: World, how: str):
    world.wave("S-1")
    world.begin("S-1")
    world.submit("S-1")
    assert world.session("dev-1")["status"] == "idle"
    send_back(world, how)
    assert world.state("S-1") == ("in_progress", 2, "dev-1")
    assert HOW[how] in world.pending(world.dev)
    assert world.session("dev-1")["current_story_id"] == world.look("S-1")["id"]
    place = world.look("S-1")["first_submitted_at"]
    world.tick(60)
    world.submit("S-1")
    assert world.look("S-1")["first_submitted_at"] == place, "its place in the queue is kept"
    assert world.signals(HOW[how])[0]["status"] == "processed"
    world.review("S-1")
    assert world.merge("S-1")["status"] == "completed"


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("dev", ["gone", "busy"])
def test_it_is_released_where_its_dev_is_gone_or_busy(world: World, how: str, dev: str):
    world.wave("S-1", "S-2")
    world.begin("S-1")
    world.submit("S-1")
    if dev == "gone":
        sessions.end(world.dev, "dev-1")
    else:
        world.begin("S-2")
    send_back(world, how)
    assert world.state("S-1") == ("ready", 1, None)
    row = world.look("S-1")
    assert row["branch_name"] == "feature/S-1", "the work stays for whoever takes it next"
    assert [(g["from_gate"], g["to_gate"]) for g in row["gates"]][-2:][1] == (2, 1)
    assert world.signals("story_released")[0]["payload"]["story_id"] == row["id"]
    assert world.signals(HOW[how])[0]["to_agent"] == "dev-1"
    if dev == "busy":
        assert world.state("S-2") == ("in_progress", 1, "dev-1"), "what it does now is untouched"
        assert world.session("dev-1")["current_story_id"] == world.look("S-2")["id"]
    again = world.begin("S-1", world.dev2)
    assert again["token"] == 2
    assert world.signals(HOW[how])[0]["status"] == "expired"
    world.submit("S-1", world.dev2)


# --- failing and reopening -------------------------------------------------------------------------------------


def test_failing_frees_its_dev_and_reopening_starts_again_with_its_branch(world: World):
    world.wave("S-1", "S-2")
    world.begin("S-1")
    stories.advance(world.dev, "S-1", gate=1, evidence=RAN)
    stories.fail(world.pm, "S-1", **WHY)
    assert world.state("S-1") == ("failed", 2, None)
    assert (world.session("dev-1")["status"], world.session("dev-1")["current_story_id"]) == ("idle", None)
    world.begin("S-2")
    stories.reopen(world.pm, "S-1")
    row = world.look("S-1")
    assert (row["status"], row["current_gate"], row["branch_name"]) == ("ready", 1, "feature/S-1")
    assert world.signals("story_failed")[0]["status"] == "processed"
    world.refused(1, lambda: stories.reopen(world.pm, "S-1"), "ready")


def test_one_that_never_passed_gate_0_reopens_to_backlog(world: World):
    world.wave("S-1", start=False)
    world.story("S-2", approved=False)
    stories.fail(world.pm, "S-2", **WHY)
    stories.reopen(world.pm, "S-2")
    assert world.state("S-2") == ("backlog", 0, None)


def test_approving_needs_criteria(world: World):
    world.wave("S-1", start=False)
    world.story("S-2", approved=False, criteria=[])
    world.refused(1, lambda: stories.approve(world.cto, "S-2"), "criteria")


BAD_STORIES = [
    ({"code": "../x"}, 2), ({"code": "$(reboot)"}, 2), ({"code": "-x"}, 2), ({"code": "a\nb"}, 2),
    ({"code": "a\x00"}, 2), ({"code": "x" * 51}, 2), ({"code": "a.lock"}, 2), ({"code": "a..b"}, 2),
    ({"code": ""}, 2),
    ({"code": "\ud800"}, 2), ({"title": ""}, 2), ({"title": "x" * 256}, 2), ({"title": "a\nb"}, 2),
    ({"title": "nul \x00"}, 2), ({"title": "\u202eevil"}, 2), ({"description": "\ud800"}, 2),
    ({"description": "x" * 10_000_000}, 2), ({"domain": "a/b"}, 2), ({"domain": "x" * 51}, 2), ({"priority": 0}, 2),
    ({"priority": 2**31}, 2), ({"points": -1}, 2), ({"story_type": "x" * 51}, 2), ({"criteria": ["nul \x00"]}, 2),
    ({"criteria": ["it works", " "]}, 2),
    ({"wave": "W9"}, 3), ({"wave": "-W"}, 2), ({"after": ["S-404"]}, 3), ({"after": ["S-2"]}, 2),
    ({"code": "S-1"}, 1),
]  # fmt: skip


def test_a_bad_story_writes_nothing(world: World):
    world.wave("S-1", start=False)
    for given, code in BAD_STORIES:
        row = {"code": "S-2", "wave": "W1", "title": "t", "domain": "core", **given}
        name, wave = row.pop("code"), row.pop("wave")
        world.refused(code, lambda: stories.add(world.user, name, wave, **row))  # noqa: B023


def test_a_reason_has_to_be_given(world: World):
    world.wave("S-1", "S-2")
    world.begin("S-1")
    for call in (stories.release, stories.fail):
        world.refused(2, lambda: call(world.pm, "S-1", reason=" \n"), "reason")  # noqa: B023
    world.refused(2, lambda: waves.fail(world.pm, "W1", reason=""), "reason")
    world.submit("S-1")
    reviews.qa_pass(world.qa, "S-1", commit=COMMIT, evidence=RAN)
    world.refused(2, lambda: reviews.give_back(world.pm, "S-1", reason=""), "reason")
    reviews.accept(world.pm, "S-1")
    world.keep_alive("cto")
    world.refused(2, lambda: reviews.refuse(world.cto, "S-1", reason=""), "reason")


# --- emergency stops -------------------------------------------------------------------------------------------


def test_stopping_all_ends_everybody_but_who_stops(world: World):
    world.wave("S-1", "S-2")
    world.begin("S-1")
    result = stops.stop(world.pm, "all", None, reason="fire")
    assert sorted(result["stopped"]) == ["cto", "dev-1", "dev-2", "qa-1"]
    assert world.state("S-1") == ("ready", 1, None)
    assert world.look("S-1")["assignments"][0]["end_reason"] == "stopped"
    assert world.session("pm")["status"] != "terminated"
    dev = sessions.register(world.user, "dev-1", "dev", domain="core")
    assert dev["epoch"] == 2
    world.refused(1, lambda: stories.assign(world.pm, "S-1", "dev-1"), "fire")
    world.keep_alive("dev-1")
    with pytest.raises(Exception, match=r"no story is ready|stopped"):
        stories.next_story(world.dev)
    assert [s["scope"] for s in stops.in_force(world.user)] == ["all"]
    stops.lift(world.pm)
    assert stops.in_force(world.user) == []
    assert stories.next_story(world.dev)["story_code"] == "S-1"
    world.refused(1, lambda: stops.lift(world.pm), "no emergency stop")


@pytest.mark.parametrize(("scope", "value"), [("agent", "dev-1"), ("domain", "core"), ("wave", "W1")])
def test_a_stop_covers_its_scope_and_no_more(world: World, scope: str, value: str):
    sessions.register(world.user, "dev-ui", "dev", domain="ui")
    ui = world.user.acting("dev-ui")
    world.wave("S-1", start=False)
    world.wave(code="W2", start=False)
    world.story("U-1", "W2", domain="ui")
    waves.start(world.pm, "W1")
    waves.start(world.pm, "W2")
    world.begin("S-1")
    world.begin("U-1", ui)
    stopped = stops.stop(world.cto, scope, value, reason="fire")["stopped"]
    assert stopped == (["dev-1", "dev-2"] if scope == "domain" else ["dev-1"])
    assert world.state("S-1") == ("ready", 1, None)
    assert world.state("U-1") == ("in_progress", 1, "dev-ui")
    stop = world.signals("emergency_stop")[-1]
    assert stop["payload"] == {"reason": "fire"}
    sessions.register(world.user, "dev-1", "dev", domain="core")
    world.refused(1, lambda: stories.assign(world.pm, "S-1", "dev-1"), "stopped")
    stops.lift(world.cto, scope, value)
    stories.assign(world.pm, "S-1", "dev-1")


@pytest.mark.parametrize(
    ("scope", "value", "reason", "code"),
    [
        ("moon", None, "r", 2), ("all", "x", "r", 2), ("agent", None, "r", 2), ("agent", "nobody", "r", 3),
        ("wave", "W9", "r", 3), ("domain", "a/b", "r", 2), ("all", None, "", 2), ("all", None, "a\nb", 2),
    ],
)  # fmt: skip
def test_a_stop_that_says_not_what_stops_nothing(world: World, scope: str, value: str | None, reason: str, code: int):
    world.keep_alive("pm")
    world.refused(code, lambda: stops.stop(world.pm, scope, value, reason=reason))


def test_only_cto_and_pm_stop(world: World):
    world.keep_alive("dev-1", "qa-1")
    for who in (world.dev, world.qa, world.user):
        world.refused(1, lambda: stops.stop(who, "all", None, reason="r"))  # noqa: B023
        world.refused(1, lambda: stops.lift(who))  # noqa: B023


def test_every_step_of_a_merged_story_is_on_record(world: World):
    world.wave("S-1")
    world.finish("S-1")
    row = world.look("S-1")
    assert [(g["from_gate"], g["to_gate"]) for g in row["gates"]] == [(None, 0), *((g, g + 1) for g in range(8))]
    owners = [g["agent_id"] for g in row["gates"]]
    assert owners == ["user", "cto", "dev-1", "dev-1", "dev-1", "qa-1", "pm", "maf", "cto"]
    assert row["gates"][-1]["metadata"]["commit"] == MERGE
    assert [r["verdict"] for r in row["qa_reports"]] == ["pass"]
