import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrator.domain.errors import GuardFailed, InvalidInput, NotFound
from orchestrator.git import Repository
from orchestrator.git.command import PREFIX


def tree_of(path):
    return {
        str(file.relative_to(path))
        for file in path.rglob("*")
        if file.is_file() and file.relative_to(path).parts[0] != ".git"
    }


def test_add_worktree_makes_branch_and_worktree_and_is_idempotent(box):
    base = box.repo.tip("main")
    tree = box.root.parent / "trees" / "S 1"
    assert box.repo.add_worktree(tree, "feature/S-1", base) == base
    assert tree_of(tree) == {"a.txt", "src/core/x.py"}
    own = box.commit(tree, **{"n.txt": "n\n"})
    box.write(tree, **{"unsaved.txt": "u\n"})
    moved = box.commit(**{"b.txt": "b\n"})
    assert box.repo.add_worktree(tree, "feature/S-1", moved) == own
    assert (tree / "unsaved.txt").exists()
    assert box.repo.head(tree) == own
    assert not box.repo.is_clean(tree)
    assert [w.branch for w in box.repo.worktrees()] == ["main", "feature/S-1"]
    with pytest.raises(NotFound):
        box.repo.add_worktree(box.root.parent / "x", "feature/none")
    with pytest.raises(NotFound):
        box.repo.head(box.root.parent)


def test_what_is_in_the_way_is_never_overwritten(box):
    base = box.repo.tip("main")
    place = box.root.parent / "mine"
    place.mkdir()
    (place / "file").write_text("precious")
    for attempt in (
        lambda p: box.repo.add_worktree(p, "feature/S-1", base),
        lambda p: box.repo.checkout_detached(p, base),
    ):
        with pytest.raises(GuardFailed, match="in the way"):
            attempt(place)
        with pytest.raises(GuardFailed, match="main checkout"):
            attempt(box.root)
        with pytest.raises(GuardFailed, match="is a file"):
            attempt(place / "file")
    assert (place / "file").read_text() == "precious"
    with pytest.raises(GuardFailed, match="main checkout"):
        box.repo.remove_worktree(box.root, target="main")
    box("checkout", "-q", "-b", "feature/S-2")
    with pytest.raises(GuardFailed, match="feature/S-2"):
        box.repo.add_worktree(box.root.parent / "t", "feature/S-2")


def half_made(box, name):
    """What `git worktree add` leaves when it is killed before its checkout is done."""
    tree = box.worktree(name)
    admin = box.root / ".git/worktrees" / name
    (admin / "index").unlink()
    (admin / "index.lock").touch()
    (admin / "locked").write_text("initializing")
    (tree / "a.txt").unlink()
    return tree


def test_a_half_made_worktree_is_made_anew(box):
    tree = half_made(box, "S-1")
    assert box.repo.add_worktree(tree, "feature/S-1") == box.repo.tip("main")
    assert tree_of(tree) == {"a.txt", "src/core/x.py"}
    assert box.repo.is_clean(tree)
    assert len(box.repo.worktrees()) == 2


def test_a_registration_that_never_got_a_place_is_swept(box):
    stub = box.root / ".git/worktrees/S-0"
    stub.mkdir(parents=True)
    (stub / "locked").write_text("initializing")
    box.worktree("S-1")
    assert stub.exists()  # another maf may be at it
    os.utime(stub / "locked", (time.time() - 120,) * 2)
    box.worktree("S-2")
    assert not stub.exists()


def test_our_worktrees_are_gits_worktrees(box):
    tree = box.worktree("S-1")
    other = box.root.parent / "other place" / "S-1"  # the same last name
    box.repo.add_worktree(other, "feature/other", box.repo.tip("main"))
    listed = {w.path: w for w in box.repo.worktrees()}
    assert listed[tree].branch == "feature/S-1"
    assert listed[other].branch == "feature/other"
    assert not any(w.locked or w.prunable for w in listed.values())
    assert box("worktree", "prune", "-v") == ""
    assert box("worktree", "repair") == ""
    assert box("fsck") == ""
    box("worktree", "remove", str(tree))
    box("worktree", "move", str(other), str(tree))
    assert box.repo.is_clean(tree)


def test_a_sparse_repository_keeps_its_settings(box):
    box("sparse-checkout", "set", "src")
    tree = box.worktree("S-1")
    check = box.root.parent / "check"
    box.repo.checkout_detached(check, box.repo.tip("main"))
    assert box.repo.is_clean(tree)
    assert box("symbolic-ref", "HEAD", cwd=tree) == "refs/heads/feature/S-1"
    assert box.repo.head(check) == box.repo.tip("main")


def test_a_missing_worktree_is_made_again_even_when_locked(box):
    tree = box.worktree("S-1")
    own = box.commit(tree, **{"n.txt": "n\n"})
    shutil.rmtree(tree)
    (box.root / ".git/worktrees/S-1/locked").write_text("initializing")
    assert box.repo.add_worktree(tree, "feature/S-1") == own
    assert (tree / "n.txt").exists()


def test_a_worktree_that_lost_its_link_is_linked_again_with_its_work(box):
    tree = box.worktree("S-1")
    box.write(tree, **{"unsaved.txt": "u\n"})
    for broken in (None, "gitdir: /nowhere\n", ""):
        (tree / ".git").unlink()
        if broken is not None:
            (tree / ".git").write_text(broken)
        box.repo.add_worktree(tree, "feature/S-1")
        assert box.repo.status(tree).untracked == ("unsaved.txt",)


def test_a_worktree_whose_registration_is_gone_is_kept_beside(box):
    tree = box.worktree("S-1")
    box.write(tree, **{"unsaved.txt": "u\n"})
    shutil.rmtree(box.root / ".git/worktrees/S-1")
    box.repo.add_worktree(tree, "feature/S-1")
    assert box.repo.is_clean(tree)
    assert (tree.with_name("S-1.left-1") / "unsaved.txt").read_text() == "u\n"


def test_stale_locks_of_a_killed_commit_are_broken(box):
    tree = box.worktree("S-1")
    for name in ("index.lock", "HEAD.lock"):
        lock = box.root / ".git/worktrees/S-1" / name
        lock.touch()
        os.utime(lock, (time.time() - 60,) * 2)
    box.repo.add_worktree(tree, "feature/S-1")
    box.commit(tree, **{"n.txt": "n\n"})


def test_a_worktree_that_went_to_another_branch_comes_back_with_its_work_archived(box):
    tree = box.worktree("S-1")
    box("checkout", "-q", "-b", "stray", cwd=tree)
    stray = box.commit(tree, **{"n.txt": "n\n"})
    box.write(tree, **{"unsaved.txt": "u\n"})
    box.repo.add_worktree(tree, "feature/S-1")
    assert box("symbolic-ref", "HEAD", cwd=tree) == "refs/heads/feature/S-1"
    kept = {a.commit for a in box.repo.archived("feature/S-1")}
    assert stray in kept
    assert any("unsaved.txt" in box("ls-tree", "--name-only", c) for c in kept)


def test_a_check_worktree_holds_exactly_the_commit(box):
    box.commit(**{".gitignore": "cache/\n", "keep/x": "x\n"})
    first = box.repo.tip("main")
    second = box.commit(**{"b.txt": "b\n", "a.txt": "two\n"})
    check = box.root.parent / "check"
    box.repo.checkout_detached(check, first)
    box.write(check, **{"a.txt": "changed\n", "b.txt": "in the way\n", "cache/c": "c\n", "new/n": "n\n"})
    (check / "keep/x").unlink()
    box("init", "-q", str(check / "inner"))
    box("add", "a.txt", cwd=check)
    (check / "locked").mkdir()
    (check / "locked/f").touch()
    (check / "locked").chmod(0o500)
    box.repo.checkout_detached(check, second, keep_ignored=True)
    assert box.repo.head(check) == second
    assert tree_of(check) == {".gitignore", "keep/x", "a.txt", "b.txt", "src/core/x.py", "cache/c"}
    box.repo.checkout_detached(check, first)
    assert tree_of(check) == {".gitignore", "keep/x", "a.txt", "src/core/x.py"}
    assert (check / "a.txt").read_text() == "one\n"
    with pytest.raises(InvalidInput):
        box.repo.checkout_detached(check, "main")
    with pytest.raises(NotFound):
        box.repo.checkout_detached(check, "1" * 40)


def test_a_check_worktree_recovers_from_any_leftover(box):
    tip = box.repo.tip("main")
    check = box.root.parent / "check"
    for damage in ("lock", "half", "merge", "index", "removing"):
        box.repo.checkout_detached(check, tip)
        admin = box.root / ".git/worktrees/check"
        if damage == "lock":
            (admin / "index.lock").touch()
            (check / "a.txt").unlink()
        elif damage == "half":
            (admin / "locked").write_text("initializing")
        elif damage == "merge":
            (admin / "MERGE_HEAD").write_text(tip + "\n")
        elif damage == "index":
            (admin / "index").write_bytes(b"DIRC broken")
        else:
            (admin / "maf-removing").touch()
            (check / ".git").unlink()
        box.repo.checkout_detached(check, tip)
        assert tree_of(check) == {"a.txt", "src/core/x.py"}, damage
        assert box.repo.is_clean(check), damage
    story = box.worktree("S-1")
    with pytest.raises(GuardFailed, match="no place for checks"):
        box.repo.checkout_detached(story, tip)


def test_remove_worktree_refuses_to_lose_work(box):
    tree = box.worktree("S-1")
    box.write(tree, **{"u.txt": "u\n"})
    with pytest.raises(GuardFailed, match="uncommitted"):
        box.repo.remove_worktree(tree, target="main")
    own = box.commit(tree)
    with pytest.raises(GuardFailed, match="commits"):
        box.repo.remove_worktree(tree, target="main")
    salvaged = box.repo.remove_worktree(tree, target="main", archive_as="S-1")
    assert (salvaged.head, salvaged.dirty) == (own, None)
    assert not tree.exists()
    assert len(box.repo.worktrees()) == 1
    assert box.repo.tip("feature/S-1") == own
    assert box.repo.remove_worktree(tree, target="main") is None
    again = box.repo.add_worktree(tree, "feature/S-1")
    assert again == own
    box.repo.remove_worktree(tree, target="main")  # archived now


def test_a_removal_that_was_cut_off_is_finished(box):
    tree = box.worktree("S-1")
    (box.root / ".git/worktrees/S-1/maf-removing").touch()
    (tree / ".git").unlink()
    (tree / "a.txt").unlink()
    assert box.repo.remove_worktree(tree, target="main") is None
    assert not tree.exists()
    assert len(box.repo.worktrees()) == 1


def _add_many(root, trees, start, names):
    with Repository.open(root) as repo:
        start.wait()
        for name in names:
            repo.add_worktree(trees / name, f"feature/{name}", repo.tip("main"))


def test_two_processes_add_worktrees_at_once(box):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    trees = box.root.parent / "trees"
    jobs = [[f"S-{n}" for n in range(6)], [f"S-{n}" for n in reversed(range(6))], [f"T-{n}" for n in range(6)]]
    workers = [context.Process(target=_add_many, args=(box.root, trees, start, names)) for names in jobs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(box.repo.worktrees()) == 13
    assert all(box.repo.is_clean(tree) for tree in trees.iterdir())


def test_kill_9_while_making_and_removing_is_carried_on(box):
    box.commit(**{f"many/{n}.txt": f"{n}\n" for n in range(150)})
    code = (
        "import sys, itertools; from pathlib import Path; from orchestrator.git import Repository\n"
        "r = Repository.open(Path(sys.argv[1])); t = Path(sys.argv[2])\n"
        "for _ in itertools.count():\n"
        "    r.add_worktree(t, 'feature/S-1', r.tip('main')); r.remove_worktree(t, target='main')\n"
        "    r.checkout_detached(t, r.tip('main')); r.remove_worktree(t, target='main')\n"
    )
    tree = box.root.parent / "t"
    for n in range(10):
        worker = subprocess.Popen([sys.executable, "-c", code, str(box.root), str(tree)], start_new_session=True)
        time.sleep(0.25 + 0.017 * n)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        try:
            box.repo.add_worktree(tree, "feature/S-1", box.repo.tip("main"))
        except GuardFailed:
            raise AssertionError(sorted(tree.iterdir())) from None
        assert box.repo.is_clean(tree)
        assert len(tree_of(tree)) == 152
        box.repo.remove_worktree(tree, target="main")


def test_the_lock_outlives_a_killed_maf_as_long_as_its_git_runs(box):
    path = box.root.parent / "t"
    with box.repo._alone(path) as lock:
        orphan = subprocess.Popen(
            [*PREFIX, "cat-file", "--batch"], cwd=box.root, stdin=subprocess.PIPE, pass_fds=[lock]
        )
    started = time.monotonic()

    def end():
        time.sleep(0.2)
        orphan.stdin.close()
        orphan.wait()

    thread = threading.Thread(target=end)
    thread.start()
    with box.repo._alone(path):
        assert time.monotonic() - started > 0.15
    thread.join()


def test_refresh_fast_forwards_merges_and_does_nothing(box):
    tree = box.worktree("S-1")
    moved = box.commit(**{"b.txt": "b\n"})
    assert box.repo.refresh_branch(tree, moved, name="S-1").kind == "fast_forward"
    assert box.repo.refresh_branch(tree, moved, name="S-1").kind == "unchanged"
    own = box.commit(tree, **{"n.txt": "n\n"})
    moved = box.commit(**{"c.txt": "c\n"})
    done = box.repo.refresh_branch(tree, moved, name="S-1")
    assert (done.kind, done.head) == ("merged", box.repo.tip("feature/S-1"))
    assert box.repo.commit(done.head).parents == (own, moved)
    assert box.repo.own_commits("feature/S-1", "main") == [own]
    assert box.repo.is_clean(tree)
    with pytest.raises(GuardFailed):
        box.repo.refresh_branch(box.root, moved, name="S-1")


def test_refresh_leaves_a_conflict_for_the_next_attempt(box):
    tree = box.worktree("S-1")
    box.commit(tree, **{"a.txt": "mine\n"})
    moved = box.commit(**{"a.txt": "theirs\n"})
    first = box.repo.refresh_branch(tree, moved, name="S-1")
    assert (first.kind, first.files) == ("conflict", ("a.txt",))
    assert "<<<<<<<" in (tree / "a.txt").read_text()
    assert box.repo.refresh_branch(tree, moved, name="S-1") == first
    newer = box.commit(**{"c.txt": "c\n"})
    again = box.repo.refresh_branch(tree, newer, name="S-1")
    assert again.kind == "conflict"
    assert again.salvaged.dirty
    resolved = box.commit(tree, **{"a.txt": "both\n"})
    assert box.repo.commit(resolved).parents[1] == newer
    assert box.repo.is_clean(tree)
    assert box.repo.merge_tree("main", resolved).tree == box.repo.commit(resolved).tree


def test_refresh_keeps_uncommitted_work_as_a_commit_of_the_branch(box):
    tree = box.worktree("S-1")
    own = box.commit(tree, **{"n.txt": "n\n"})
    box.write(tree, **{"n.txt": "more\n", "u.txt": "u\n"})
    moved = box.commit(**{"b.txt": "b\n"})
    done = box.repo.refresh_branch(tree, moved, name="S-1")
    assert done.kind == "merged"
    assert box.repo.commit(done.head).parents == (done.salvaged.dirty, moved)
    assert box.repo.own_commits("feature/S-1", "main") == [own, done.salvaged.dirty]
    assert (tree / "n.txt").read_text() == "more\n"
    assert box.repo.is_clean(tree)


def test_refresh_undoes_a_rebase_that_was_cut_off(box):
    tree = box.worktree("S-1")
    box.commit(tree, **{"a.txt": "mine\n"})
    moved = box.commit(**{"a.txt": "theirs\n"})
    box("rebase", "-q", "main", cwd=tree, check=False)
    box.repo.add_worktree(tree, "feature/S-1")
    assert box.repo.is_clean(tree)
    assert box.repo.refresh_branch(tree, moved, name="S-1").kind == "conflict"


def test_a_git_that_outlives_a_killed_maf_ends_what_it_has_begun(box):
    """A merge that says much: its words must not go into a pipe that nobody reads any more, half-way through."""
    box.commit(**{f"many/file-{number}": "base\n" for number in range(300)})
    path = box.worktree("S1")
    box.commit(path, **{f"many/file-{number}": "mine\n" for number in range(300)})
    _, tip = box.move_target(**{f"many/file-{number}": "theirs\n" for number in range(300)})
    code = (
        "import os, signal, subprocess, sys, threading\n"
        "from pathlib import Path\n"
        "from orchestrator.git import Repository\n"
        "import orchestrator.git.command as command\n"
        "real = subprocess.Popen\n"
        "class Popen(real):\n"
        "    def __init__(self, argv, **more):\n"
        "        super().__init__(argv, **more)\n"
        "        if 'merge' in argv:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "subprocess.Popen = Popen\n"
        f"Repository.open(Path({str(box.root)!r})).refresh_branch(Path({str(path)!r}), {tip!r}, name='S1')\n"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -9
    again = box.repo.refresh_branch(path, tip, name="S1")
    assert again.kind == "conflict"
    assert len(again.files) == 300
    assert box("rev-parse", "MERGE_HEAD", cwd=path) == tip
    assert box.repo.archived("S1") == []  # nothing was found half done
