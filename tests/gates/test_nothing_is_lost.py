"""Whatever ends an attempt: its commits and its uncommitted work stay reachable."""

import pytest

from orchestrator.domain.errors import GuardFailed
from orchestrator.gates import dev
from orchestrator.service import sessions, stops


def worked(box, code="S1"):
    """A commit and uncommitted work in a started story's worktree: (path, commit)."""
    path = box.start(code)
    commit = box.commit({"done": "1"}, cwd=path)
    (path / "done").write_text("changed, not committed\n")
    (path / "new").write_text("untracked\n")
    return path, commit


def found(box, name, content):
    """Whether some ref of maf's, or a branch, holds this file with this content."""
    refs = box.git("for-each-ref", "--format=%(refname)", "refs/maf", "refs/heads").splitlines()
    return any(box.git("show", f"{ref}:{name}", check=False) == content for ref in refs)


def all_kept(box, commit):
    assert box.kept(commit)
    assert found(box, "done", "changed, not committed")
    assert found(box, "new", "untracked")


@pytest.mark.parametrize("how", ["release", "fail"])
def test_released_and_failed(both, how):
    both.wave(stories_=["S1"])
    _, commit = worked(both)
    {"release": dev.release, "fail": dev.fail}[how](both.as_("pm"), "S1", "no more")
    all_kept(both, commit)
    both.git("worktree", "remove", "--force", str(both.project.worktree("S1")))
    both.git("branch", "-D", "feature/S1")
    all_kept(both, commit)  # even where somebody clears away what is left
    both.sound()


@pytest.mark.parametrize("how", ["end", "takeover", "stop"])
def test_sessions_that_end_leave_their_work_where_it_is(both, how):
    both.wave(stories_=["S1"])
    path, commit = worked(both)
    if how == "end":
        sessions.end(both.as_("pm").ctx, "ann")
    elif how == "takeover":
        sessions.register(both.ctx, "ann", "dev", takeover=True)
    else:
        stops.stop(both.as_("cto").ctx, "all", None, reason="something is wrong")
        stops.lift(both.as_("cto").ctx)
    assert both.show("S1")["status"] == "ready"
    assert both.kept(commit)
    assert (path / "new").read_text() == "untracked\n"
    both.crew()
    again = both.start("S1", "bob")
    all_kept(both, commit)
    assert both.git("show", "HEAD:new", cwd=again) == "untracked"
    both.sound()


def test_a_second_attempt_cannot_bury_the_first(box):
    """The branch is thrown back by hand between two attempts: what was submitted is pinned."""
    box.wave(stories_=["S1"])
    path = box.submit("S1")
    submitted = box.show("S1")["submitted_commit"]
    box.git("reset", "-q", "--hard", "main", cwd=path)
    assert box.kept(submitted)


def test_a_stop_of_a_domain_ends_whoever_works_in_it(both):
    both.wave(stories_=["S1"], domain="core")
    both.wave("W2", stories_=["S2"], domain="web")
    both.start("S1", "ann")
    both.start("S2", "bob")
    stopped = stops.stop(both.as_("cto").ctx, "domain", "core", reason="no")["stopped"]
    assert stopped == ["ann"]
    assert both.show("S1")["status"] == "ready"
    assert both.show("S2")["status"] == "in_progress"
    both.sound()


def test_only_a_merged_worktree_is_removed(box):
    box.wave(stories_=["S1"])
    path = box.start("S1")
    box.commit({"done": "1"}, cwd=path)
    with pytest.raises(GuardFailed, match="not on main"):
        box.project.repo.remove_worktree(path, target="main")
    assert path.exists()
