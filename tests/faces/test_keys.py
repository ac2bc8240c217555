"""An idempotency key on what a gate does: the repeat runs nothing, and says what the first call said."""

import pytest

from tests.faces.conftest import dump


@pytest.fixture
def ready(maf):
    for agent, role in (("cto", "cto"), ("pm", "pm"), ("dev-1", "dev"), ("dev-2", "dev"), ("qa-1", "qa")):
        maf.ok("agent", "register", agent, "--role", role)
    maf.ok("wave", "add", "W1", "--name", "First")
    maf.ok("story", "add", "S-1", "--wave", "W1", "--title", "A", "--domain", "core", "--criteria", "c")
    maf.ok("story", "approve", "S-1", "--agent", "cto")
    maf.ok("wave", "start", "W1", "--agent", "pm")
    maf.ok("story", "assign", "S-1", "--to", "dev-1", "--agent", "pm")
    return maf


def test_every_step_of_a_story_can_be_repeated_with_its_key(ready):
    steps = [
        ("story", "start", "S-1", "--agent", "dev-1"), ("story", "advance", "S-1", "--agent", "dev-1"),
        ("story", "advance", "S-1", "--agent", "dev-1"), ("story", "submit", "S-1", "--agent", "dev-1"),
        ("qa", "pass", "S-1", "--agent", "qa-1"), ("review", "accept", "S-1", "--agent", "pm"),
        ("merge", "S-1", "--agent", "cto"),
    ]  # fmt: skip
    for number, step in enumerate(steps):
        if number == 2:
            worktree = ready.root / ".maf" / "worktrees" / "S-1"
            (worktree / "work.txt").write_text("work\n")
            ready.git("add", "-A", cwd=worktree)
            ready.git("commit", "-q", "-m", "Work", cwd=worktree)
        first = ready.ok(*step, "--key", f"k{number}", "--json").data
        before, tip = dump(ready.url), ready.git("rev-parse", "main")
        again = ready.ok(*step, "--key", f"k{number}", "--json").data
        assert {k: v for k, v in again.items() if k != "checkout"} == {
            k: v for k, v in first.items() if k != "checkout"
        }
        assert dump(ready.url) == before, step
        assert ready.git("rev-parse", "main") == tip
        ready.ok(*step, "--key", f"k{number}")  # and as a person reads it
    assert ready.ok("story", "show", "S-1", "--json").data["current_gate"] == 8


def test_a_key_is_for_one_request_only(ready):
    ready.ok("story", "start", "S-1", "--agent", "dev-1", "--key", "k")
    refused = ready("story", "advance", "S-1", "--agent", "dev-1", "--key", "k")
    assert (refused.code, "another request" in refused.err) == (1, True)
    assert ready.ok("story", "show", "S-1", "--json").data["current_gate"] == 1


def test_a_call_that_was_refused_leaves_its_key_free(ready):
    ready.ok("story", "start", "S-1", "--agent", "dev-1")
    ready.ok("story", "advance", "S-1", "--agent", "dev-1")
    assert ready("story", "advance", "S-1", "--agent", "dev-1", "--key", "k").code == 1  # nothing is committed yet
    worktree = ready.root / ".maf" / "worktrees" / "S-1"
    (worktree / "work.txt").write_text("work\n")
    ready.git("add", "-A", cwd=worktree)
    ready.git("commit", "-q", "-m", "Work", cwd=worktree)
    ready.ok("story", "advance", "S-1", "--agent", "dev-1", "--key", "k")
