import re
import subprocess

import pytest


def shown(box, cwd=None):
    return box("status", "--porcelain", cwd=cwd)


def base_ref(box):
    return box.repo.objects.sha("refs/maf/left-behind/main")


def run_hint(hint):
    """The commands of a hint, run as the user would."""
    command = re.search(r"(git -C .*?)(?: {4}\(|\. Once)", hint)[1]
    subprocess.run(command, shell=True, check=True, capture_output=True)  # noqa: S602


def test_a_clean_checkout_follows(box):
    old, new = box.move_target(**{"b.txt": "b\n", "a.txt": "two\n"})
    assert shown(box) != ""
    box.write(**{"untracked.txt": "mine\n"})
    (box.root / "src/core/x.py").touch()
    done = box.repo.update_checkout("main", old, new)
    assert (done.kind, done.path, done.others) == ("updated", box.root, ())
    assert shown(box) == "?? untracked.txt"
    assert (box.root / "a.txt").read_text() == "two\n"
    assert base_ref(box) is None
    assert box.repo.reconcile_checkout("main").kind == "none"


def test_touched_files_are_no_changes(box):
    old, new = box.move_target(**{"a.txt": "two\n"})
    text = (box.root / "a.txt").read_text()
    (box.root / "a.txt").unlink()
    (box.root / "a.txt").write_text(text)
    assert box.repo.update_checkout("main", old, new).kind == "updated"
    assert shown(box) == ""


def test_a_checkout_on_another_branch_is_no_business_of_ours(box):
    box("checkout", "-q", "-b", "topic")
    old, new = box.move_target(**{"b.txt": "b\n"})
    assert box.repo.update_checkout("main", old, new).kind == "not_on_branch"
    assert box.repo.reconcile_checkout("main").kind == "not_on_branch"
    assert shown(box) == ""


def test_a_dirty_checkout_is_left_and_told_how_to_catch_up(box):
    box.write(**{"src/core/x.py": "x = 'mine'\n"})
    old, new = box.move_target(**{"a.txt": "two\n"})
    left = box.repo.update_checkout("main", old, new)
    assert left.kind == "left"
    assert "uncommitted" in left.reason
    assert "git commit -a" in left.hint
    assert (box.root / "a.txt").read_text() == "one\n"
    assert base_ref(box) == old
    # merges go on, the base stays that of the first
    old2, new2 = box.move_target(**{"c.txt": "c\n"})
    assert box.repo.update_checkout("main", old2, new2).kind == "left"
    assert base_ref(box) == old
    assert box.repo.left_behind("main") == [(box.root, old)]
    run_hint(left.hint)
    assert box.repo.left_behind("main") == []
    assert shown(box) == "M src/core/x.py"
    assert (box.root / "c.txt").exists()
    # caught up by hand, still dirty: the next merge starts from where it now is
    old3, new3 = box.move_target(**{"d.txt": "d\n"})
    assert box.repo.update_checkout("main", old3, new3).kind == "left"
    assert base_ref(box) == old3


def test_once_clean_again_it_catches_up_at_the_next_merge_or_start(box):
    box.write(**{"a.txt": "mine\n"})
    old, new = box.move_target(**{"b.txt": "b\n"})
    assert box.repo.update_checkout("main", old, new).kind == "left"
    box.write(**{"a.txt": "one\n"})
    old2, new2 = box.move_target(**{"c.txt": "c\n"})
    assert box.repo.update_checkout("main", old2, new2).kind == "updated"
    assert shown(box) == ""
    assert base_ref(box) is None
    box.write(**{"a.txt": "mine\n"})
    old3, new3 = box.move_target(**{"d.txt": "d\n"})
    assert box.repo.update_checkout("main", old3, new3).kind == "left"
    assert box.repo.reconcile_checkout("main").kind == "left"
    box.write(**{"a.txt": "one\n"})
    assert box.repo.reconcile_checkout("main").kind == "updated"
    assert (shown(box), base_ref(box)) == ("", None)


def test_both_sides_changed_the_same_file(box):
    box.commit(**{"long.txt": "".join(f"{n}\n" for n in range(20))})
    mine = "mine\n" + "".join(f"{n}\n" for n in range(1, 20))
    box.write(**{"long.txt": mine})
    box("add", "long.txt")
    old, new = box.move_target(**{"long.txt": "".join(f"{n}\n" for n in range(19)) + "theirs\n"})
    left = box.repo.update_checkout("main", old, new)
    assert left.kind == "left"
    assert "stash" in left.hint
    run_hint(left.hint)
    assert (box.root / "long.txt").read_text() == mine.replace("19\n", "theirs\n")
    assert box.repo.tip("main") == new
    assert box.repo.current_branch() == "main"


def test_an_untracked_file_in_the_way_is_not_overwritten(box):
    box.write(**{"b.txt": "mine\n"})
    old, new = box.move_target(**{"b.txt": "theirs\n"})
    left = box.repo.update_checkout("main", old, new)
    assert left.kind == "left"
    assert "move the file away" in left.hint
    assert (box.root / "b.txt").read_text() == "mine\n"
    (box.root / "b.txt").unlink()
    assert box.repo.reconcile_checkout("main").kind == "updated"
    assert (box.root / "b.txt").read_text() == "theirs\n"


def test_a_merge_half_done_or_a_held_index_is_left(box):
    box("branch", "side")
    box.commit(**{"a.txt": "ours\n"})
    side = box.root.parent / "side"
    box("worktree", "add", "-q", str(side), "side")
    box.commit(side, **{"a.txt": "side\n"})
    box("merge", "-q", "side", check=False)
    old, new = box.move_target(**{"b.txt": "b\n"})
    left = box.repo.update_checkout("main", old, new)
    assert left.kind == "left"
    assert "merge is half done" in left.reason
    box("update-ref", "--no-deref", "HEAD", old)
    box("merge", "--abort")
    box("symbolic-ref", "HEAD", "refs/heads/main")
    lock = box.root / ".git/index.lock"
    lock.touch()
    assert "index.lock" in box.repo.reconcile_checkout("main").reason
    assert lock.exists()
    lock.unlink()
    assert box.repo.reconcile_checkout("main").kind == "updated"
    assert shown(box) == ""


@pytest.mark.parametrize("dirty", [False, True])
def test_a_crash_before_the_checkout_followed_is_reconciled(box, dirty):
    if dirty:
        box.write(**{"src/core/x.py": "x = 'mine'\n"})
        box("add", "-A")
    old, _ = box.move_target(**{"b.txt": "b\n", "e.txt": "e\n"})
    done = box.repo.reconcile_checkout("main")
    assert done.kind == ("left" if dirty else "updated")
    assert base_ref(box) == (old if dirty else None)
    assert shown(box).splitlines()[:1] == (["D  b.txt"] if dirty else [])


def test_an_update_that_was_cut_off_half_way_is_finished(box):
    box.commit(**{"del.txt": "d\n", "late.txt": "1\n"})
    scratch = box.root.parent / "scratch"
    old = box.repo.tip("main")
    box.repo.checkout_detached(scratch, old)
    (scratch / "del.txt").unlink()
    new = box.commit(scratch, **{"a.txt": "two\n", "b.txt": "b\n", "late.txt": "2\n"})
    box.repo.update_branch("main", new, old)
    # what a killed read-tree leaves: some files as after, some as before, the index as before
    box.write(**{"a.txt": "two\n", "b.txt": "b\n"})
    (box.root / "del.txt").unlink()
    assert box.repo.reconcile_checkout("main").kind == "updated"
    assert shown(box) == ""
    assert (box.root / "late.txt").read_text() == "2\n"


@pytest.mark.parametrize("users", [{"late.txt": "mine\n"}, {"b.txt": "mine\n"}, {"src/core/x.py": "mine\n"}])
def test_what_looks_cut_off_but_holds_users_work_is_left(box, users):
    box.commit(**{"late.txt": "1\n"})
    old, new = box.move_target(**{"a.txt": "two\n", "b.txt": "b\n", "late.txt": "2\n"})
    box.write(**{"a.txt": "two\n", **users})
    assert box.repo.update_checkout("main", old, new).kind == "left"
    for name, content in users.items():
        assert (box.root / name).read_text() == content


def test_the_users_own_dirt_after_their_own_commit_is_not_taken_for_ours(box):
    old, new = box.move_target(**{"b.txt": "b\n"})
    box.repo.update_checkout("main", old, new)
    box.write(**{"a.txt": "mine\n", "n.txt": "n\n"})
    box("add", "n.txt")
    assert box.repo.reconcile_checkout("main").kind == "none"
    box.commit(**{"z.txt": "z\n"})
    box.write(**{"a.txt": "mine again\n"})
    assert box.repo.reconcile_checkout("main").kind == "none"
    assert base_ref(box) is None


def test_linked_worktrees_that_have_the_target_follow_too(box):
    box("checkout", "-q", "-b", "topic")
    linked = box.root.parent / "linked"
    box("worktree", "add", "-q", str(linked), "main")
    old, new = box.move_target(**{"b.txt": "b\n"})
    done = box.repo.update_checkout("main", old, new)
    assert (done.kind, done.path) == ("updated", linked)
    box("symbolic-ref", "HEAD", "refs/heads/main")
    box("reset", "-q", "--hard")
    box.write(**{"a.txt": "mine\n"})
    old, new = box.move_target(**{"c.txt": "c\n"})
    done = box.repo.update_checkout("main", old, new)
    assert (done.kind, done.path, [o.kind for o in done.others]) == ("left", box.root, ["updated"])
    old, new = box.move_target(**{"d.txt": "d\n"})
    done = box.repo.update_checkout("main", old, new)
    assert (done.kind, [o.kind for o in done.others]) == ("left", ["updated"])
    assert shown(box, linked) == ""
