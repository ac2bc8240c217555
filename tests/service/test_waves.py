"""When a wave starts, completes and fails, and what its state forbids."""

from __future__ import annotations

import pytest

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import InvalidPlan
from orchestrator.domain.plan import Criterion, Plan, PlannedStory, PlannedWave
from orchestrator.service import planning, reviews, stories, waves
from tests.service.world import BASE, COMMIT, MERGE, RAN, World

WHY = {"reason": "because"}


def test_a_wave_completes_with_its_last_story_and_starts_who_waited(world: World):
    world.wave("S-1", "S-2")
    world.wave("S-3", code="W2", after=("W1",), start=False)
    world.wave("S-4", code="W3", after=("W1", "W2"), start=False)
    waves.add(world.user, "W4", name="W4", after=("W1",), manual=True)
    world.finish("S-1")
    assert world.wave_status() == "active"
    world.finish("S-2")
    assert [world.wave_status(w) for w in ("W1", "W2", "W3", "W4")] == ["completed", "active", "planning", "planning"]
    assert len(world.signals("wave_completed")) == 1
    stats = world.signals("wave_completed")[0]["payload"]["stats"]
    assert stats["stories"] == 2
    # In the very transaction: the last story's end and the wave's have one moment.
    assert waves.status(world.user, "W1")["completed_at"] == world.look("S-2")["completed_at"]
    world.finish("S-3")
    assert world.wave_status("W3") == "active"
    waves.start(world.pm, "W4")


def test_empty_waves_complete_when_started_one_after_another(world: World):
    world.wave(start=False)
    world.wave(code="W2", after=("W1",), start=False)
    world.wave("S-1", code="W3", after=("W2",), start=False)
    assert waves.start(world.pm, "W1")["status"] == "completed"
    assert [world.wave_status(w) for w in ("W2", "W3")] == ["completed", "active"]


def test_a_wave_waits_for_what_it_depends_on(world: World):
    world.wave("S-1")
    world.wave("S-2", code="W2", after=("W1",), start=False)
    world.refused(1, lambda: waves.start(world.pm, "W2"), "W1 (active)")
    world.refused(1, lambda: waves.start(world.pm, "W1"), "active")
    world.refused(3, lambda: waves.start(world.pm, "W9"))
    world.refused(1, lambda: waves.start(world.dev, "W2"), "dev")
    world.refused(1, lambda: waves.start(world.user, "W2"), "needs an agent")


def test_outside_an_active_wave_nothing_advances(world: World):
    world.wave("S-1", "S-2", "S-3", "S-4", "S-5")
    world.begin("S-1")
    stories.assign(world.pm, "S-2", "dev-2")
    waves.pause(world.pm, "W1")
    for call in (
        lambda: stories.advance(world.dev, "S-1", gate=1, evidence=RAN),
        lambda: stories.start(world.dev2, "S-2", branch="b", base=BASE),
        lambda: stories.assign(world.pm, "S-3", "dev-1"),
    ):
        error = world.refused(1, call, "paused")
        assert "maf wave resume W1" in str(error.hint)
    stories.release(world.pm, "S-2", **WHY)
    stories.fail(world.pm, "S-4", **WHY)
    stories.reopen(world.pm, "S-4")
    world.keep_alive("dev-2")
    world.refused(3, lambda: stories.next_story(world.dev2), "no story is ready")
    waves.resume(world.pm, "W1")
    stories.advance(world.dev, "S-1", gate=1, evidence=RAN)
    assert [s["wave_id"] for s in world.signals("wave_paused") + world.signals("wave_resumed")] == [
        waves.status(world.user, "W1")["id"]
    ] * 2


def test_a_check_that_ran_when_the_wave_was_paused_may_record_its_result(world: World):
    world.wave("S-1", "S-2")
    world.begin("S-1")
    began = world.time
    world.tick(5)
    waves.pause(world.pm, "W1")
    world.tick(5)
    world.refused(
        1, lambda: stories.advance(world.dev, "S-1", gate=1, evidence=RAN, checked_since=world.time), "paused"
    )
    stories.advance(world.dev, "S-1", gate=1, evidence=RAN, checked_since=began)


def test_rejects_go_on_in_a_paused_wave(world: World):
    world.wave("S-1", "S-2")
    world.begin("S-1")
    world.submit("S-1")
    waves.pause(world.pm, "W1")
    reviews.qa_reject(world.qa, "S-1", findings=["bad"])
    assert world.state("S-1") == ("in_progress", 2, "dev-1")


# --- failing ---------------------------------------------------------------------------------------------------


def test_a_wave_fails_when_every_story_has_ended_or_waits_behind_a_failed_one(world: World):
    world.wave("S-1", "S-2", start=False)
    world.story("S-3", after=["S-2"])
    world.story("S-4", after=["S-3"])
    waves.start(world.pm, "W1")
    world.finish("S-1")
    assert world.wave_status() == "active"
    stories.fail(world.pm, "S-2", **WHY)
    assert world.wave_status() == "failed"
    assert len(world.signals("wave_failed")) == 1
    assert world.state("S-4")[0] == "ready", "what waits is not failed with it"


def test_a_wave_goes_on_while_one_story_can(world: World):
    world.wave("S-1", "S-2")
    stories.fail(world.pm, "S-1", **WHY)
    assert world.wave_status() == "active"
    world.finish("S-2")
    assert world.wave_status() == "failed"


def test_a_wave_fails_with_what_its_last_story_waits_for_in_another(world: World):
    """Across waves, and through a story of a third."""
    world.wave("A-1", "A-2", start=False)
    world.wave("B-1", "B-2", code="W2", start=False)
    world.wave("C-1", code="W3", start=False)
    stories.add_dependency(world.user, "C-1", "A-1")
    stories.add_dependency(world.user, "B-2", "C-1")
    for code in ("W1", "W2", "W3"):
        waves.start(world.pm, code)
    stories.fail(world.pm, "B-1", **WHY)
    assert world.wave_status("W2") == "active"
    stories.fail(world.pm, "A-1", **WHY)
    assert [world.wave_status(w) for w in ("W1", "W2", "W3")] == ["active", "failed", "active"]


def test_failing_a_wave_fails_its_unended_stories(world: World):
    world.wave("S-1", "S-2", "S-3")
    world.finish("S-1")
    world.begin("S-2")
    waves.fail(world.pm, "W1", **WHY)
    assert [world.state(s)[0] for s in ("S-1", "S-2", "S-3")] == ["completed", "failed", "failed"]
    assert world.session("dev-1")["current_story_id"] is None
    world.refused(1, lambda: waves.fail(world.pm, "W1", **WHY), "failed")
    world.refused(1, lambda: stories.add(world.user, "S-9", "W1", title="t", domain="core"), "failed")
    error = world.refused(1, lambda: stories.reopen(world.pm, "S-2"), "failed")
    assert "maf wave retry W1" in str(error.hint)


def test_a_wave_that_has_not_started_cannot_fail(world: World):
    world.wave("S-1", start=False)
    world.refused(1, lambda: waves.fail(world.pm, "W1", **WHY), "planning")


def test_retry_reopens_the_failed_and_moves_out_what_it_is_told(world: World):
    world.wave("S-1", "S-2", start=False)
    world.story("S-3", approved=False)
    waves.start(world.pm, "W1")
    world.begin("S-1")
    waves.fail(world.pm, "W1", **WHY)
    world.wave("S-9", code="W2")
    world.refused(2, lambda: waves.retry(world.pm, "W1", without=["S-9"]), "not in wave")
    world.refused(3, lambda: waves.retry(world.pm, "W1", without=["S-404"]))
    waves.retry(world.pm, "W1", without=["S-2"])
    assert world.wave_status() == "active"
    assert world.state("S-1") == ("ready", 1, None)
    assert world.state("S-3") == ("backlog", 0, None), "gate 0 was never passed"
    assert world.state("S-2")[0] == "failed"
    assert world.look("S-2")["wave_code"] is None
    assert world.look("S-1")["branch_name"] == "feature/S-1"
    world.refused(1, lambda: stories.reopen(world.pm, "S-2"), "no wave")


def test_retry_without_all_that_failed_completes_the_wave(world: World):
    world.wave("S-1", "S-2")
    world.wave("S-3", code="W2", after=("W1",), start=False)
    world.finish("S-1")
    stories.fail(world.pm, "S-2", **WHY)
    assert world.wave_status() == "failed"
    world.refused(1, lambda: waves.retry(world.pm, "W1", without=["S-1"]), "merged")
    waves.retry(world.pm, "W1", without=["S-2"])
    assert [world.wave_status(w) for w in ("W1", "W2")] == ["completed", "active"]


def test_a_completed_wave_takes_no_story(world: World):
    world.wave("S-1")
    world.finish("S-1")
    world.refused(1, lambda: stories.add(world.user, "S-2", "W1", title="t", domain="core"), "completed")
    for action in (waves.pause, waves.resume, waves.start):
        world.refused(1, lambda: action(world.pm, "W1"), "completed")  # noqa: B023
    world.refused(1, lambda: waves.retry(world.pm, "W1"), "completed")


# --- plans -----------------------------------------------------------------------------------------------------


def plan(*pairs: tuple[str, str], after: dict[str, tuple[str, ...]] | None = None, waits=(("W2", ("W1",)),)) -> Plan:
    codes = dict.fromkeys(wave for _, wave in pairs)
    waiting = dict(waits)
    return Plan(
        format="test",
        waves=tuple(PlannedWave(code=w, name=w, after=tuple(waiting.get(w, ()))) for w in codes),
        stories=tuple(
            PlannedStory(
                code=s, wave=w, title=s, domain="core", criteria=(Criterion("it works", "AC-1"),),
                after=(after or {}).get(s, ()),
            )
            for s, w in pairs
        ),
    )  # fmt: skip


def test_a_plan_enters_whole(world: World):
    result = planning.import_plan(world.user, plan(("S-1", "W1"), ("S-2", "W2"), after={"S-2": ("S-1",)}))
    assert (result["waves"], result["stories"], result["dependencies"]) == (2, 2, 1)
    assert [world.wave_status(w) for w in ("W1", "W2")] == ["planning", "planning"]
    assert world.state("S-1") == ("backlog", 0, None)
    assert world.look("S-1")["acceptance_criteria"] == [{"text": "it works", "id": "AC-1"}]
    assert world.look("S-2")["depends_on"] == [{"story_code": "S-1", "status": "backlog"}]
    first = world.look("S-1")["gates"]
    assert [(g["from_gate"], g["to_gate"], g["transition_type"]) for g in first] == [(None, 0, "advance")]


def test_a_plan_with_one_error_enters_not_at_all(world: World):
    world.wave("S-1")
    error = world.refused(2, lambda: planning.import_plan(world.user, plan(("S-7", "W7"), ("S-1", "W1"))), "W1")
    assert isinstance(error, InvalidPlan)
    assert len(error.details["problems"]) == 2, "all of them at once"


@pytest.mark.parametrize(
    "bad",
    [
        plan(("S-1", "W1"), ("S-2", "W1"), after={"S-1": ("S-2",), "S-2": ("S-1",)}),
        plan(("S-1", "W1"), ("S-2", "W2"), after={"S-1": ("S-2",)}),
        plan(("S-1", "W1"), ("S-2", "W2"), waits=(("W2", ("W1",)), ("W1", ("W2",)))),
        plan(("S-1", "W1"), ("a/b", "W1")),
    ],
)
def test_a_plan_that_cannot_be_carried_out_enters_not_at_all(world: World, bad: Plan):
    world.refused(2, lambda: planning.import_plan(world.user, bad))


def test_a_dependency_that_closes_a_circle_is_refused(world: World):
    world.wave("S-1", start=False)
    world.wave("S-2", code="W2", after=("W1",), start=False)
    world.story("S-3", after=["S-1"])
    for code, after in (("S-1", "S-3"), ("S-1", "S-2"), ("S-1", "S-1")):
        world.refused(2, lambda: stories.add_dependency(world.user, code, after))  # noqa: B023
    world.refused(3, lambda: stories.add_dependency(world.user, "S-1", "S-404"))
    waves.start(world.pm, "W1")
    world.begin("S-1")
    world.refused(1, lambda: stories.add_dependency(world.user, "S-1", "S-3"), "before it is assigned")


def test_no_story_comes_to_wait_once_its_wave_has_started(world: World):
    """It would wait for ever: the last one that can go on, behind one that has failed."""
    world.wave("S-1", "S-2")
    stories.fail(world.pm, "S-1", **WHY)
    world.refused(1, lambda: stories.add_dependency(world.user, "S-2", "S-1"), "before its wave starts")
    waves.pause(world.pm, "W1")
    world.refused(1, lambda: stories.add_dependency(world.user, "S-2", "S-1"), "paused")
    waves.resume(world.pm, "W1")
    world.story("S-3", after=["S-1"])  # a new one waits from its beginning
    world.finish("S-2")
    assert world.wave_status() == "failed"


def test_a_wave_fails_with_what_comes_to_wait_elsewhere(world: World):
    world.wave("A-1", "A-2", start=False)
    world.wave("B-1", code="W2", start=False)
    stories.add_dependency(world.user, "A-2", "B-1")
    world.wave("C-1", "C-2", code="W3")
    waves.start(world.pm, "W1")
    for code in ("A-1", "C-1"):
        stories.fail(world.pm, code, **WHY)
    assert world.wave_status() == "active"
    stories.add_dependency(world.user, "B-1", "C-1")
    assert [world.wave_status(w) for w in ("W1", "W2", "W3")] == ["failed", "planning", "active"]


def test_the_roles_of_a_wave_are_the_lifecycles(world: World):
    world.wave("S-1")
    world.keep_alive("dev-1", "qa-1", "cto", "pm")
    calls = {"pause": waves.pause, "resume": waves.resume, "start": waves.start, "retry": waves.retry}
    for name, call in calls.items():
        for who in (world.dev, world.qa, world.cto):
            assert who.agent not in lc.WAVE_ACTIONS[name].by
            world.refused(1, lambda: call(who, "W1"), "is for")  # noqa: B023


def test_merging_counts_for_the_dev_and_tells_everybody(world: World):
    world.wave("S-1", "S-2")
    world.finish("S-1")
    (merged,) = world.signals("merge_complete")
    assert merged["payload"] == {"story_id": world.look("S-1")["id"], "commit_sha": MERGE}
    assert merged["to_agent"] is None
    assert world.session("dev-1")["total_stories_completed"] == 1
    assert world.look("S-1")["submitted_commit"] == COMMIT


def test_a_long_chain_of_empty_waves_is_completed_at_once(world: World):
    plan = [PlannedWave(f"E{n}", "empty", after=(f"E{n - 1}",) if n else ()) for n in range(300)]
    planning.import_plan(world.user, Plan(waves=tuple(plan), stories=(), format="test"))
    assert waves.start(world.pm, "E0")["status"] == "completed"
    assert world.wave_status("E299") == "completed"
