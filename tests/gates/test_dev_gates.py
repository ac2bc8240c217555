"""Gates 1 to 3: the branch, the plan, the work, the self-test."""

import os
import sys

import pytest

from orchestrator.domain.errors import GateFailed, LostRace, StaleToken, WrongState
from orchestrator.domain.settings import Checks, Domain
from orchestrator.gates import dev
from orchestrator.service import sessions, stories
from tests.support.project import PASSES

HOSTILE = ["-x", "a b", "new\nline", 'quo"te', "$(touch pwned)", "ümläut", ":(glob)x", "..hidden", "tab\there"]


def advance(box, code="S1", agent="ann"):
    return dev.advance(box.as_(agent), code)


def refused(act, *parts):
    with pytest.raises(GateFailed) as caught:
        act()
    for part in parts:
        assert part in caught.value.message, caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_story_starts_on_a_branch_of_its_own_from_the_targets_tip(both):
    both.wave(stories_=["S1"])
    tip = both.commit({"later": "1"})
    path = both.start("S1")
    assert both.git("branch", "--show-current", cwd=path) == "feature/S1"
    assert both.tip("feature/S1") == tip
    assert both.show("S1")["base_commit"] == tip
    assert both.git("branch", "--show-current") == "main"
    assert both.git("status", "--porcelain") == ""


def test_a_second_attempt_continues_the_branch_on_top_of_the_new_tip(box):
    box.wave(stories_=["S1"])
    path = box.start("S1")
    first = box.commit({"mine": "1"}, cwd=path)
    (path / "half").write_text("not committed\n")
    dev.release(box.as_("pm"), "S1", "try again")
    moved = box.commit({"theirs": "1"})
    again = box.start("S1", "bob")
    assert again == path
    for commit in (first, moved):
        box.git("merge-base", "--is-ancestor", commit, "feature/S1")
    assert box.tree("feature/S1")["half"] == "not committed"
    assert box.show("S1")["base_commit"] == moved


def test_a_conflict_with_the_target_is_left_in_the_worktree_and_named(box):
    box.wave(stories_=["S1"])
    path = box.start("S1")
    box.commit({"README": "mine\n"}, cwd=path)
    dev.release(box.as_("pm"), "S1", "again")
    box.commit({"README": "theirs\n"})
    stories.assign(box.as_("pm").ctx, "S1", "ann")
    made = dev.start_story(box.as_("ann"), "S1")
    assert made["conflict"] == ["README"]
    assert "<<<<<<<" in (path / "README").read_text()
    # Gate 1 asks for no more than the story's own branch, continued; gate 2 for the merge to be finished.
    assert advance(box)["current_gate"] == 2
    refused(lambda: advance(box), "the merge of main into feature/S1 is not finished")
    box.commit({"README": "both\n"}, cwd=path)
    assert advance(box)["current_gate"] == 3


def test_the_plan_files_that_the_project_asks_for_must_be_there(box):
    box.set(plan_files=("plans/{story}.md", "NOTES"))
    box.wave(stories_=["S1"])
    path = box.start("S1")
    refused(lambda: advance(box), "plans/S1.md", "NOTES")
    (path / "plans").mkdir()
    (path / "plans/S1.md").write_text("first this\n")
    refused(lambda: advance(box), "NOTES")
    (path / "NOTES").mkdir()  # a folder is no file
    refused(lambda: advance(box), "NOTES")
    (path / "NOTES").rmdir()
    (path / "NOTES").write_text("")
    advance(box)
    assert box.gate("S1", 1)["metadata"]["plan_files"] == ["plans/S1.md", "NOTES"]


def test_gate_2_wants_a_commit_of_the_storys_own(box):
    box.wave(stories_=["S1"])
    path = box.start("S1")
    advance(box)
    refused(lambda: advance(box), "no commit of its own")
    (path / "f").write_text("not committed")
    refused(lambda: advance(box), "no commit of its own")
    (path / "f").unlink()
    box.commit({"theirs": "1"})
    box.git("merge", "-q", "--no-ff", "-m", "only a merge", "main", cwd=path)
    refused(lambda: advance(box), "no commit of its own")
    commit = box.commit({"mine": "1"}, cwd=path)
    advance(box)
    evidence = box.gate("S1", 2)["metadata"]
    assert (evidence["commit"], evidence["commits"], evidence["exit_code"]) == (commit, 1, 0)


@pytest.mark.parametrize("how", ["add", "change", "delete", "rename", "executable"])
def test_gate_2_refuses_what_the_domain_may_not_touch(box, how):
    box.commit({"src/a.py": "a\n" * 9, "lib/b.py": "b\n" * 9})
    box.set(domains={"core": Domain(owns=("src/**",))})
    box.wave(stories_=["S1"])
    path = box.start("S1")
    advance(box)
    box.commit({"src/new.py": "1"}, cwd=path)
    if how == "add":
        (path / "lib/c.py").write_text("1")
    elif how == "change":
        (path / "lib/b.py").write_text("1")
    elif how == "delete":
        (path / "lib/b.py").unlink()
    elif how == "rename":
        (path / "lib/b.py").rename(path / "src/b.py")
    else:
        (path / "lib/b.py").chmod(0o755)
    box.commit({}, cwd=path)
    error = refused(lambda: advance(box), "'core'", "lib/")
    assert error.details["violations"][0]["path"].startswith("lib/")
    assert box.show("S1")["current_gate"] == 2


def test_what_is_added_after_gate_2_is_held_to_it_at_submit(box):
    box.set(domains={"core": Domain(owns=("src/**",))})
    box.wave(stories_=["S1"])
    path = box.start("S1")
    advance(box)
    box.commit({"src/a": "1"}, cwd=path)
    advance(box)
    box.commit({"elsewhere": "1"}, cwd=path)
    refused(lambda: dev.submit(box.as_("ann"), "S1"), "elsewhere")
    assert box.show("S1")["status"] == "in_progress"


def test_a_commit_that_takes_a_file_back_is_no_change_outside(box):
    box.set(domains={"core": Domain(owns=("src/**",))})
    box.wave(stories_=["S1"])
    path = box.start("S1")
    box.commit({"src/a": "1", "elsewhere": "1"}, cwd=path)
    (path / "elsewhere").unlink()
    box.commit({}, cwd=path)
    advance(box)
    assert advance(box)["current_gate"] == 3


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_hostile_file_names_go_through_every_gate(box, name):
    box.set(domains={"core": Domain(owns=("ok/**",))})
    box.wave(stories_=["S1"])
    path = box.start("S1")
    advance(box)
    box.commit({name: "x"}, cwd=path)
    error = refused(lambda: advance(box))
    assert error.details["violations"][0]["path"] == name
    (path / "ok").mkdir()
    (path / name).rename(path / "ok" / name)
    box.commit({}, cwd=path)
    advance(box)
    dev.submit(box.as_("ann"), "S1")
    assert [file.name for file in (path / "ok").iterdir()] == [name]
    assert not (path / "pwned").exists()


def test_a_name_that_is_no_text_is_refused_with_words(box):
    box.set(domains={"core": Domain(owns=("ok/**",))})
    box.wave(stories_=["S1"])
    path = box.start("S1")
    advance(box)
    (path / os.fsdecode(b"\xff\xfe")).write_text("x")
    box.commit({}, cwd=path)
    refused(lambda: advance(box), "'core'")


def test_uncommitted_work_is_not_submitted(box):
    box.wave(stories_=["S1"])
    path = box.start("S1")
    box.commit({"mine": "1"}, cwd=path)
    advance(box), advance(box)
    (path / "forgotten").write_text("1")
    refused(lambda: dev.submit(box.as_("ann"), "S1"), "not committed")
    (path / "forgotten").unlink()
    (path / "mine").write_text("2")
    refused(lambda: dev.submit(box.as_("ann"), "S1"), "not committed")
    box.git("checkout", "-q", "mine", cwd=path)
    (path / "build.log").write_text("ignored")
    assert dev.submit(box.as_("ann"), "S1")["status"] == "qa_review"


def test_a_worktree_that_has_left_its_branch_is_not_submitted(box):
    box.wave(stories_=["S1"])
    path = box.start("S1")
    box.commit({"mine": "1"}, cwd=path)
    advance(box), advance(box)
    box.git("checkout", "-q", "--detach", cwd=path)
    box.commit({"more": "1"}, cwd=path)
    refused(lambda: dev.submit(box.as_("ann"), "S1"), "its branch feature/S1")


CHECKS = {
    "failing": (Checks(commands=(("true",), ("sh", "-c", "echo 2 failed, 3 passed; exit 3"), ("touch", "never"))),
                "exited with 3"),
    "killed": (Checks(commands=(("sh", "-c", "kill -9 $$"),)), "killed by a signal"),
    "missing": (Checks(commands=(("no-such-program",),)), "not started"),
    "timeout": (Checks(commands=(("sleep", "60"),), timeout=0.2), "ran longer than"),
    "flood": (Checks(commands=(("yes",),), output_limit=10_000), "too much output"),
}  # fmt: skip


@pytest.mark.parametrize(("checks", "said"), CHECKS.values(), ids=CHECKS)
def test_gate_3_does_not_pass_unless_every_check_ran_and_exited_0(box, checks, said):
    box.wave(stories_=["S1"])
    path = box.start("S1")
    box.commit({"mine": "1"}, cwd=path)
    advance(box), advance(box)
    box.set(checks=checks)
    error = refused(lambda: dev.submit(box.as_("ann"), "S1"), "gate 3", said)
    evidence = error.details["evidence"]
    assert evidence["exit_code"] != 0
    assert (box.show("S1")["status"], box.show("S1")["current_gate"]) == ("in_progress", 3)
    assert not (path / "never").exists()
    box.set(checks=PASSES)
    assert dev.submit(box.as_("ann"), "S1")["current_gate"] == 4


def test_without_checks_nothing_passes_until_the_project_says_why(box):
    box.set(checks=Checks())
    box.wave(stories_=["S1"])
    path = box.start("S1")
    box.commit({"mine": "1"}, cwd=path)
    advance(box), advance(box)
    assert "[checks]" in refused(lambda: dev.submit(box.as_("ann"), "S1"), "no checks").hint
    box.set(checks=Checks(none="a collection of pictures"))
    dev.submit(box.as_("ann"), "S1")
    decision = box.gate("S1", 3)["metadata"]["decision"]
    assert decision == {"by": "ann", "no_checks": "a collection of pictures"}


def test_the_evidence_says_what_ran_and_what_came_of_it(both):
    says = "print('1 failed'); print('12 passed, 2 skipped in 0.1s'); print('TOTAL   100   9   91%')"
    both.set(checks=Checks(commands=((sys.executable, "-c", says), ("sh", "-c", "echo 3 passed")),
                           environment={"WITH": "this"}))  # fmt: skip
    both.wave(stories_=["S1"])
    path = both.start("S1")
    commit = both.commit({"mine": "1"}, cwd=path)
    advance(both), advance(both)
    dev.submit(both.as_("ann"), "S1")
    found = both.gate("S1", 3)["metadata"]
    assert (found["commit"], found["exit_code"], found["coverage"]) == (commit, 0, 91)
    assert found["counts"] == {"failed": 1, "passed": 15, "skipped": 2}
    assert " && sh -c echo 3 passed" in found["command"]
    assert found["duration"] > 0
    assert found["duration"] == pytest.approx(sum(r["duration"] for r in found["runs"]), abs=0.01)
    assert [r["exit_code"] for r in found["runs"]] == [0, 0]
    assert (both.root / found["runs"][1]["log"]).read_text() == "3 passed\n"


def test_checks_get_the_environment_that_the_project_gives_and_no_more(box, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    test = 'test "$MAF_CHECK" = 1 && test "$WITH" = this && test -z "$SECRET_TOKEN"'
    box.set(checks=Checks(commands=(("sh", "-c", test),), environment={"WITH": "this"}))
    box.wave(stories_=["S1"])
    box.submit("S1")


def test_a_dev_that_lost_the_story_advances_and_submits_nothing(both):
    both.wave(stories_=["S1"])
    path = both.start("S1")
    both.commit({"mine": "1"}, cwd=path)
    token = both.show("S1")["fencing_token"]
    dev.release(both.as_("pm"), "S1", "too slow")
    stories.assign(both.as_("pm").ctx, "S1", "ann")
    dev.start_story(both.as_("ann"), "S1")
    stale = both.project.acting("ann", token=token)
    for act in (dev.advance, dev.submit):
        with pytest.raises((StaleToken, WrongState)):
            act(stale, "S1")
    with pytest.raises(StaleToken):
        dev.advance(stale, "S1")
    assert both.show("S1")["current_gate"] == 1


def test_a_branch_that_moves_while_its_checks_run_is_not_submitted(box):
    box.wave(stories_=["S1"])
    path = box.start("S1")
    box.commit({"mine": "1"}, cwd=path)
    advance(box), advance(box)
    sneaks = "unset GIT_DIR; git -c user.name=x -c user.email=x@y commit -q --allow-empty -m sneaked"
    box.set(checks=Checks(commands=(("sh", "-c", sneaks),)))
    with pytest.raises(WrongState, match="moved while"):
        dev.submit(box.as_("ann"), "S1")
    assert box.show("S1")["current_gate"] == 3


def test_an_agent_taken_over_cannot_go_on(both):
    both.wave(stories_=["S1"])
    both.start("S1")
    old = both.project.acting("ann", epoch=1, token=1)
    sessions.register(both.ctx, "ann", "dev", takeover=True)
    with pytest.raises(LostRace):
        dev.advance(old, "S1")
    assert both.show("S1")["status"] == "ready"
