"""Gate 4: checks afresh, at the very commit, by somebody else."""

import pytest

from orchestrator.domain.errors import GateFailed, Refused, WrongRole
from orchestrator.domain.settings import Checks
from orchestrator.gates import qa
from orchestrator.service import sessions


def test_leftovers_in_the_devs_worktree_do_not_help(both):
    """`build.log` is ignored: the self-test finds it, QA does not."""
    both.wave(stories_=["S1"])
    path = both.start("S1")
    (path / "build.log").write_text("made by hand")
    both.set(checks=Checks(commands=(("test", "-e", "build.log"),)))
    both.submit("S1")
    with pytest.raises(GateFailed, match="gate 4"):
        qa.qa_pass(both.as_("qa"), "S1")
    story = both.show("S1")
    assert (story["status"], story["current_gate"]) == ("qa_review", 4)
    report = story["qa_reports"][-1]
    assert (report["verdict"], report["commit_sha"]) == ("fail", story["submitted_commit"])
    assert report["metadata"]["exit_code"] == 1
    assert report["metadata"]["command"] == "test -e build.log"


def test_leftovers_of_earlier_checks_do_not_help_either(box):
    box.wave(stories_=["S1", "S2"])
    box.set(checks=Checks(commands=(("sh", "-c", "test ! -e left.log && test ! -e left && touch left.log left"),)))
    for code, agent in (("S1", "ann"), ("S2", "bob")):
        path = box.start(code, agent)
        box.commit({f"f-{code}": "1"}, cwd=path)
        box.set(checks=Checks(none="made further down"))
        box.submit(code, agent=agent)
    box.set(checks=Checks(commands=(("sh", "-c", "test ! -e left.log && test ! -e left && touch left.log left"),)))
    for code in ("S1", "S2"):
        qa.qa_pass(box.as_("qa"), code)


def test_the_checks_see_exactly_the_submitted_commit(box):
    box.wave(stories_=["S1"])
    path = box.submit("S1", {"f": "submitted"})
    (path / "f").write_text("changed afterwards, not committed")
    box.set(checks=Checks(commands=(("grep", "-qx", "submitted", "f"),)))
    qa.qa_pass(box.as_("qa"), "S1")
    assert box.gate("S1", 4)["metadata"]["commit"] == box.show("S1")["submitted_commit"]


def test_another_tip_than_the_submitted_one_is_rejected(both):
    both.wave(stories_=["S1"])
    path = both.submit("S1")
    submitted = both.show("S1")["submitted_commit"]
    late = both.commit({"late": "1"}, cwd=path)
    with pytest.raises(GateFailed, match="rejected"):
        qa.qa_pass(both.as_("qa"), "S1")
    story = both.show("S1")
    assert (story["status"], story["current_gate"]) == ("in_progress", 2)
    assert late in story["gates"][-1]["notes"]
    assert submitted in story["gates"][-1]["notes"]
    both.submit("S1", {"more": "1"})
    qa.qa_pass(both.as_("qa"), "S1")


def test_nobody_judges_what_he_has_worked_on(both):
    both.wave(stories_=["S1"])
    both.submit("S1")
    with pytest.raises(WrongRole, match="ann' is a dev"):
        qa.qa_pass(both.as_("ann"), "S1")
    with pytest.raises(Refused, match="never changes its role"):
        sessions.register(both.ctx, "ann", "qa", takeover=True)
    assert both.show("S1")["status"] == "qa_review"


def test_qa_evidence_and_report(both):
    both.set(checks=Checks(commands=(("sh", "-c", "echo 7 passed; echo TOTAL 10 1 90%"),)))
    both.wave(stories_=["S1"])
    both.submit("S1")
    qa.qa_pass(both.as_("qa"), "S1", findings=["well made"])
    story, gate = both.show("S1"), both.gate("S1", 4)
    report = story["qa_reports"][-1]
    assert (report["verdict"], report["coverage_percent"], report["qa_agent"]) == ("pass", 90, "qa")
    assert report["findings"] == [{"text": "well made"}]
    found = gate["metadata"]
    assert (found["qa_report"], found["commit"]) == (report["id"], story["submitted_commit"])
    assert (found["exit_code"], found["counts"], found["coverage"]) == (0, {"passed": 7}, 90)


def test_the_automatic_qa_rejects_with_what_the_checks_printed(box):
    box.wave(stories_=["S1"])
    box.submit("S1")
    box.set(checks=Checks(commands=(("sh", "-c", "echo the parser is wrong; exit 2"),)))
    qa.decide(box.as_("qa"), "S1")
    story = box.show("S1")
    assert story["status"] == "in_progress"
    assert "the parser is wrong" in story["qa_reports"][-1]["findings"][0]["text"]
    assert "exited with 2" in story["gates"][-1]["notes"]


def test_a_check_that_was_cut_off_rejects_nothing(box):
    """Its process is ended from outside, as by the end of maf: that says nothing about the work."""
    box.wave(stories_=["S1"])
    box.submit("S1")
    # The keeper of a run is the parent of its command; SIGTERM to it is how maf's end looks from there.
    box.set(checks=Checks(commands=(("sh", "-c", "kill -TERM $PPID; sleep 30"),)))
    with pytest.raises(GateFailed, match="cut off"):
        qa.decide(box.as_("qa"), "S1")
    assert box.show("S1")["status"] == "qa_review"
    assert box.show("S1")["qa_reports"] == []


def test_a_session_that_ended_while_the_checks_ran_records_nothing(both):
    both.wave(stories_=["S1"])
    both.submit("S1")
    me = both.project.acting("qa", epoch=1)
    sessions.register(both.ctx, "qa", "qa", takeover=True)
    with pytest.raises(Exception, match="taken over"):
        qa.decide(me, "S1")
    assert both.show("S1")["status"] == "qa_review"
