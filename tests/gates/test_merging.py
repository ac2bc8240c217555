"""Gates 6 and 7: what is merged is what was checked, once, onto the tip that it was checked on."""

from dataclasses import replace

import pytest

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import GateFailed, LostRace, StoreUnavailable, WrongState
from orchestrator.domain.settings import Checks
from orchestrator.gates import dev, integration
from orchestrator.service import reviews, sessions, stories, waves


def ready(box, *codes, files=None):
    """Stories in the merge queue, each made by a dev of its own from the same tip."""
    devs = ("ann", "bob")
    paths = [box.start(code, agent) for code, agent in zip(codes, devs, strict=False)]
    for code, agent in zip(codes, devs, strict=False):
        box.to_merge(code, (files or {}).get(code), agent)
    return paths


def sent_back(box, code, *parts):
    with pytest.raises(GateFailed) as caught:
        box.merge(code)
    story = box.show(code)
    assert (story["status"], story["current_gate"]) == ("in_progress", 2)
    for part in parts:
        assert part in caught.value.message
        assert part in story["gates"][-1]["notes"]
    return story


def test_the_merge_commit_says_who_passed_each_gate_and_holds_what_was_checked(both):
    both.wave(stories_=["S1"])
    old = both.tip()
    both.to_merge("S1")
    merged = both.merge("S1")
    commit = merged["commit"]
    submitted = both.show("S1")["submitted_commit"]
    assert both.tip() == commit
    assert both.git("log", "-1", "--format=%P").split() == [old, submitted]
    assert both.git("rev-parse", "HEAD^{tree}") == both.gate("S1", 6)["metadata"]["tree"]
    assert both.gate("S1", 6)["metadata"]["target_tip"] == old
    passed = ["cto", "ann", "ann", "ann", "qa", "pm", "maf", "cto"]
    assert both.git("log", "-1", "--format=%(trailers:only)").splitlines() == [
        "Wave: W1", "Story: S1",
        *(f"Gate-{gate.number}: {gate.name}, {by}" for gate, by in zip(lc.GATES, passed, strict=True)),
        f"Submitted: {submitted}",
    ]  # fmt: skip
    evidence = both.gate("S1", 7)["metadata"]
    assert (evidence["commit"], evidence["target_tip"], evidence["exit_code"]) == (commit, old, 0)
    assert both.show("S1")["status"] == "completed"
    both.sound()


def test_a_story_ahead_of_the_tip_is_still_a_merge_commit(box):
    box.wave(stories_=["S1"])
    box.to_merge("S1")
    box.merge("S1")
    assert len(box.git("log", "-1", "--format=%P").split()) == 2


def test_a_conflict_returns_the_story_onto_the_tip_with_its_work_kept(both):
    both.wave(stories_=["S1", "S2"])
    _, path = ready(both, "S1", "S2", files={"S1": {"same": "one\n"}, "S2": {"same": "two\n", "own": "2\n"}})
    both.merge("S1")
    tip = both.tip()
    submitted = both.show("S2")["submitted_commit"]
    story = sent_back(both, "S2", "conflict", "same")
    assert story["gates"][-1]["metadata"]["conflict"] == ["same"]
    assert both.tip() == tip
    # bob is registered by hand: the tip is merged into his branch at once, the conflict is his to resolve.
    assert "<<<<<<<" in (path / "same").read_text()
    assert both.git("rev-parse", "MERGE_HEAD", cwd=path) == tip
    both.submit("S2", {"same": "one\ntwo\n"}, "bob")
    both.git("merge-base", "--is-ancestor", submitted, "feature/S2")
    both_pass(both, "S2")
    both.merge("S2")
    assert both.tree()["same"] == "one\ntwo"
    assert both.merges() == ["S2", "S1"]
    both.sound()


def test_a_conflict_that_its_dev_left_behind_is_taken_up_from_gate_1(both):
    """Killed half-way through resolving: the next dev passes gate 1 with the merge still to be resolved."""
    both.wave(stories_=["S1", "S2"])
    ready(both, "S1", "S2", files={"S1": {"same": "one\n"}, "S2": {"same": "two\n"}})
    both.merge("S1")
    sent_back(both, "S2", "conflict", "same")
    sessions.end(both.as_("pm").ctx, "bob")
    assert both.show("S2")["current_gate"] == 1
    both.crew()
    mine = both.as_("ann")
    stories.assign(both.as_("pm").ctx, "S2", "ann")
    started = dev.start_story(mine, "S2")
    assert started["conflict"] == ["same"]
    assert dev.advance(mine, "S2")["current_gate"] == 2
    both.submit("S2", {"same": "one\ntwo\n"}, "ann")
    both_pass(both, "S2")
    both.merge("S2")
    assert both.tree()["same"] == "one\ntwo"
    both.sound()


def both_pass(box, code):
    from orchestrator.gates import qa

    qa.qa_pass(box.as_("qa"), code)
    reviews.accept(box.as_("pm").ctx, code)


def test_stories_that_are_fine_alone_but_not_together(both):
    """Each adds a file; the checks allow one. The second is returned with what they said, its work on the new tip."""
    both.set(
        checks=Checks(commands=(("sh", "-c", "ls x-*; test $(ls x-* | wc -l) -le 1 || { echo too many; exit 4; }"),))
    )
    both.wave(stories_=["S1", "S2"])
    _, path = ready(both, "S1", "S2", files={"S1": {"x-1": "1"}, "S2": {"x-2": "2"}})
    both.merge("S1")
    tip = both.tip()
    story = sent_back(both, "S2", "exited with 4", "too many")
    assert both.tip() == tip
    assert story["gates"][-1]["metadata"]["exit_code"] == 4
    assert (path / "x-1").exists()
    assert (path / "x-2").exists()
    both.sound()


def test_a_target_that_moved_since_gate_6_is_integrated_again(both):
    both.wave(stories_=["S1"])
    both.to_merge("S1")
    integration.integrate(both.as_("maf"), "S1")
    assert both.show("S1")["current_gate"] == 7
    moved = both.commit({"theirs": "1"})
    both.merge("S1")
    assert both.git("rev-parse", "HEAD^1") == moved
    resets = [g for g in both.show("S1")["gates"] if g["transition_type"] == "reset"]
    assert [(g["from_gate"], g["to_gate"]) for g in resets] == [(7, 6)]
    assert both.gate("S1", 6)["metadata"]["target_tip"] == moved
    assert both.gate("S1", 6)["metadata"]["tree"] == both.git("rev-parse", "HEAD^{tree}")
    both.sound()


def test_a_target_that_moves_in_the_very_moment_loses_the_swap_and_nothing_else(box, monkeypatch):
    box.wave(stories_=["S1"])
    box.to_merge("S1")
    project = box.as_("cto")
    real, pushed = project.repo.update_branch, []

    def update_branch(*args, **more):
        if len(pushed) < 2:
            pushed.append(box.commit({f"theirs-{len(pushed)}": "1"}))
        return real(*args, **more)

    monkeypatch.setattr(project.repo, "update_branch", update_branch)
    merged = integration.merge(project, "S1")
    assert box.git("rev-parse", f"{merged['commit']}^1") == pushed[-1]
    assert {"theirs-0", "theirs-1", "f-S1"} <= box.tree().keys()
    assert box.merges() == ["S1"]
    box.sound()


def test_a_target_that_never_stands_still_is_given_up_with_the_story_unharmed(box, monkeypatch):
    box.wave(stories_=["S1"])
    box.to_merge("S1")
    project = box.as_("cto")
    monkeypatch.setattr(integration, "_TRIES", 4)
    real = project.repo.update_branch

    def update_branch(*args, **more):
        box.commit({"theirs": box.tip()})
        return real(*args, **more)

    monkeypatch.setattr(project.repo, "update_branch", update_branch)
    with pytest.raises(LostRace, match="moved 4 times"):
        integration.merge(project, "S1")
    assert box.show("S1")["status"] == "pm_review"
    monkeypatch.undo()
    box.merge("S1")
    box.sound()


@pytest.mark.parametrize("then", ["at once", "after other work", "with the branch moved", "with the branch gone"])
def test_a_crash_between_the_merge_and_its_record_makes_no_second_merge(both, monkeypatch, then):
    both.wave(stories_=["S1"])
    path = both.to_merge("S1")

    def crash(*_, **__):
        raise StoreUnavailable("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(reviews, "merge", crash)
        with pytest.raises(StoreUnavailable):
            both.merge("S1")
    merged = both.tip()
    assert both.merges() == ["S1"]
    assert both.show("S1")["current_gate"] == 7
    both.git("reset", "-q", "--hard")
    if then == "after other work":
        both.commit({"theirs": "1"})
    elif then == "with the branch moved":
        both.commit({"late": "1"}, cwd=path)
    elif then == "with the branch gone":
        both.git("worktree", "remove", "--force", str(path))
        both.git("branch", "-D", "feature/S1")
    both.merge("S1")
    assert both.merges() == ["S1"]
    assert both.gate("S1", 7)["metadata"]["commit"] == merged
    assert both.show("S1")["status"] == "completed"
    both.sound()


@pytest.mark.parametrize("how", ["--no-ff", "--ff-only"])
@pytest.mark.parametrize("after", [True, False])
def test_what_somebody_merged_by_hand_is_not_merged_again(box, how, after):
    box.wave(stories_=["S1"])
    box.to_merge("S1")
    box.git("merge", "-q", how, "--no-edit", "feature/S1")
    by_hand = box.tip()
    if after:
        box.commit({"theirs": "1"})
    tip = box.tip()
    merged = box.merge("S1")
    assert box.tip() == tip
    assert merged["commit"] == by_hand
    assert box.show("S1")["status"] == "completed"
    box.sound()


def test_a_branch_that_moved_after_submit_is_not_merged(both):
    both.wave(stories_=["S1"])
    path = both.to_merge("S1")
    tip = both.tip()
    late = both.commit({"late": "1"}, cwd=path)
    sent_back(both, "S1", late)
    assert both.tip() == tip
    both.sound()


def test_a_branch_that_moved_between_gates_6_and_7_is_not_merged(both):
    both.wave(stories_=["S1"])
    path = both.to_merge("S1")
    integration.integrate(both.as_("maf"), "S1")
    late = both.commit({"late": "1"}, cwd=path)
    with pytest.raises(GateFailed, match="moved from the submitted"):
        both.merge("S1")
    assert both.kept(late)
    assert both.merges() == []
    both.sound()


def test_a_story_whose_dev_is_gone_is_ready_for_another_with_the_reason(both):
    both.wave(stories_=["S1", "S2"])
    ready(both, "S1", "S2", files={"S1": {"same": "1"}, "S2": {"same": "2"}})
    sessions.end(both.ctx, "bob")
    both.merge("S1")
    with pytest.raises(GateFailed, match="conflict"):
        both.merge("S2")
    story = both.show("S2")
    assert story["status"] == "ready"
    assert any("conflict" in (g["notes"] or "") for g in story["gates"])
    path = both.start("S2", "ann")
    assert "<<<<<<<" in (path / "same").read_text()
    both.sound()


def test_integration_without_checks_stays_closed(box):
    box.wave(stories_=["S1"])
    box.to_merge("S1")
    box.set(checks=Checks())
    with pytest.raises(GateFailed, match="no checks"):
        box.merge("S1")
    assert box.show("S1")["current_gate"] == 6
    assert box.merges() == []


def test_a_check_of_the_merge_that_was_cut_off_sends_nobody_back(box):
    box.wave(stories_=["S1"])
    box.to_merge("S1")
    box.set(checks=Checks(commands=(("sh", "-c", "kill -TERM $PPID; sleep 30"),)))
    with pytest.raises(GateFailed, match="cut off"):
        box.merge("S1")
    assert (box.show("S1")["status"], box.show("S1")["current_gate"]) == ("pm_review", 6)


def test_only_the_cto_merges_and_learns_it_before_the_checks_run(box):
    box.wave(stories_=["S1"])
    box.to_merge("S1")
    box.set(checks=Checks(commands=(("touch", str(box.root / ".maf/ran")),)))
    with pytest.raises(Exception, match="cto"):
        integration.merge(box.as_("pm"), "S1")
    assert not (box.root / ".maf/ran").exists()


def test_a_paused_wave_merges_nothing(both):
    both.wave(stories_=["S1"])
    both.to_merge("S1")
    waves.pause(both.as_("pm").ctx, "W1")
    with pytest.raises(WrongState, match="paused"):
        both.merge("S1")
    assert both.merges() == []
    waves.resume(both.as_("pm").ctx, "W1")
    both.merge("S1")
    both.sound()


# -- the user's own checkout ---------------------------------------------------------------------------------------


def test_a_clean_checkout_follows(box):
    box.wave(stories_=["S1"])
    box.to_merge("S1")
    assert box.merge("S1")["checkout"]["kind"] == "updated"
    assert (box.root / "f-S1").read_text() == "S1"
    assert box.git("status", "--porcelain") == ""


def test_a_dirty_checkout_is_left_alone_told_of_and_caught_up_later(box):
    box.wave(stories_=["S1", "S2"])
    ready(box, "S1", "S2")
    (box.root / "README").write_text("mine, not committed\n")
    for code in ("S1", "S2"):
        left = box.merge(code)["checkout"]
        assert left["kind"] == "left"
        assert "uncommitted" in left["reason"]
        assert "read-tree" in left["hint"]
        assert (box.root / "README").read_text() == "mine, not committed\n"
        assert not (box.root / f"f-{code}").exists()
    assert {"f-S1", "f-S2"} <= box.tree().keys()
    box.git("checkout", "refs/maf/left-behind/main", "--", "README")
    box.project.repo.reconcile_checkout("main")
    assert box.git("status", "--porcelain") == ""
    assert (box.root / "f-S2").exists()
    box.sound()


def test_a_checkout_of_another_branch_is_not_touched(box):
    box.wave(stories_=["S1"])
    box.git("checkout", "-q", "-b", "mine")
    box.to_merge("S1")
    assert box.merge("S1")["checkout"]["kind"] == "not_on_branch"
    assert not (box.root / "f-S1").exists()
    assert "f-S1" in box.tree("main")


def test_a_checkout_that_cannot_follow_does_not_keep_the_merge_from_its_record(box, monkeypatch):
    box.wave(stories_=["S1"])
    box.to_merge("S1")
    project = box.as_("cto")

    def breaks(*_):
        raise StoreUnavailable("no permission there", hint="look")

    monkeypatch.setattr(project.repo, "update_checkout", breaks)
    merged = integration.merge(project, "S1")
    assert (merged["checkout"]["kind"], merged["checkout"]["reason"]) == ("left", "no permission there")
    assert box.show("S1")["status"] == "completed"


# -- the story's worktree ------------------------------------------------------------------------------------------


def test_a_worktree_goes_when_its_story_is_merged_and_not_before(box):
    box.wave(stories_=["S1"])
    path = box.to_merge("S1")
    assert path.exists()
    box.merge("S1")
    assert not path.exists()
    assert box.git("rev-parse", "--verify", "-q", "feature/S1")


def test_a_worktree_with_something_uncommitted_stays(box):
    box.wave(stories_=["S1"])
    path = box.to_merge("S1")
    (path / "notes").write_text("not on main")
    box.merge("S1")
    assert (path / "notes").read_text() == "not on main"


def test_another_target_branch(box):
    box.git("branch", "trunk")
    box.settings = replace(box.settings, target="trunk")
    box.set(target="trunk")
    box.wave(stories_=["S1"])
    box.to_merge("S1")
    main = box.tip("main")
    box.merge("S1")
    assert box.tip("main") == main
    assert "f-S1" in box.tree("trunk")
    box.sound()
