"""Gate 5: the PM accepts what was submitted, and nothing else."""

import pytest

from orchestrator.domain.errors import GateFailed, WrongState
from orchestrator.gates import qa, review
from orchestrator.service import waves


def submitted(box):
    box.wave(stories_=["S1"])
    path = box.submit("S1")
    qa.qa_pass(box.as_("qa"), "S1")
    return path


def test_another_tip_than_the_submitted_one_is_returned(both):
    late = both.commit({"late": "1"}, cwd=submitted(both))
    with pytest.raises(GateFailed, match="returned") as failed:
        review.accept(both.as_("pm"), "S1")
    assert (failed.value.exit_code, late in failed.value.message) == (1, True)
    story = both.show("S1")
    assert (story["status"], story["current_gate"], story["assigned_agent"]) == ("in_progress", 2, "ann")
    assert (story["gates"][-1]["agent_id"], late in story["gates"][-1]["notes"]) == ("pm", True)
    both.submit("S1", {"later": "1"})
    qa.qa_pass(both.as_("qa"), "S1")
    review.accept(both.as_("pm"), "S1")
    both.merge("S1")
    assert "late" in both.tree()
    both.sound()


def test_the_submitted_one_is_accepted(both):
    submitted(both)
    assert review.accept(both.as_("pm"), "S1", notes="fine")["current_gate"] == 6
    assert both.gate("S1", 5)["notes"] == "fine"


def test_a_clone_without_the_branch_says_nothing_about_it(both):
    path = submitted(both)
    both.git("worktree", "remove", "--force", str(path))
    both.git("branch", "-q", "-m", "feature/S1", "elsewhere")
    assert review.accept(both.as_("pm"), "S1")["current_gate"] == 6


def test_nothing_is_returned_that_could_not_be_accepted(both):
    both.commit({"late": "1"}, cwd=submitted(both))
    waves.pause(both.as_("pm").ctx, "W1")
    with pytest.raises(WrongState, match="paused"):
        review.accept(both.as_("pm"), "S1")
    assert both.show("S1")["current_gate"] == 5
