import os

import pytest

from orchestrator.domain.errors import GuardFailed, InvalidInput, NotFound
from orchestrator.git import Change, Conflict, Merged

WHEN = "2026-01-02T03:04:05.678901Z"


def merge(box, branch, message="merge"):
    tip, head = box.repo.tip("main"), box.repo.tip(branch)
    tree = box.repo.merge_tree(tip, head).tree
    commit = box.repo.commit_merge(tree, [tip, head], message, WHEN)
    box.repo.update_branch("main", commit, tip)
    return commit


def test_own_commits_leave_out_the_target_and_merges_of_it(box):
    tree = box.worktree("S-1")
    first = box.commit(tree, **{"n.txt": "1\n"})
    box.commit(**{"b.txt": "b\n"})
    box("merge", "-q", "--no-edit", "main", cwd=tree)
    second = box.commit(tree, **{"n.txt": "2\n"})
    assert box.repo.own_commits("feature/S-1", "main") == [first, second]
    assert box.repo.own_commits("main", "feature/S-1") == []
    changes = box.repo.changed_files("main", "feature/S-1", from_merge_base=True)
    assert [c.path for c in changes] == ["n.txt"]
    with pytest.raises(NotFound):
        box.repo.own_commits("feature/none", "main")


def test_changed_files_show_renames_modes_links_and_hostile_names(box):
    box.commit(**{"old name.txt": "a long enough text\nto be found again\n", "gone": "x\n"})
    base = box.repo.tip("main")
    (box.root / "old name.txt").rename(box.root / "new\nname\t.txt")
    (box.root / "gone").unlink()
    (box.root / "a.txt").chmod(0o755)
    (box.root / "link").symlink_to("../out")
    (box.root / os.fsdecode(b"caf\xe9 \xff")).write_text("x")
    (box.root / "-x").write_text("x")
    box("init", "-q", str(box.root / "sub"))
    box.commit(box.root / "sub")
    head = box.commit()
    found = {c.path: c for c in box.repo.changed_files(base, head)}
    assert set(found) == {"new\nname\t.txt", "gone", "a.txt", "link", os.fsdecode(b"caf\xe9 \xff"), "-x", "sub"}
    moved = found["new\nname\t.txt"]
    assert (moved.status, moved.old_path, moved.touched) == ("R", "old name.txt", ("old name.txt", "new\nname\t.txt"))
    assert found["link"] == Change("link", "A", None, "000000", "120000", "../out")
    assert found["sub"].is_submodule
    assert (found["a.txt"].old_mode, found["a.txt"].new_mode) == ("100644", "100755")
    assert (found["gone"].status, found["gone"].new_mode) == ("D", "000000")
    assert box.repo.changed_files(head, head) == []


def test_criss_cross_histories_still_have_a_diff(box):
    tree = box.worktree("S-1")
    box.commit(tree, **{"n.txt": "1\n"})
    box.commit(**{"b.txt": "b\n"})
    ours, theirs = box.repo.tip("main"), box.repo.tip("feature/S-1")
    box("merge", "-q", "--no-edit", theirs)
    box("merge", "-q", "--no-edit", ours, cwd=tree)
    box.commit(tree, **{"later.txt": "1\n"})
    paths = [c.path for c in box.repo.changed_files("main", "feature/S-1", from_merge_base=True)]
    assert "later.txt" in paths


def test_merge_base_and_unrelated_histories(box):
    base = box.repo.tip("main")
    box.worktree("S-1")
    box.commit(**{"b.txt": "b\n"})
    assert box.repo.merge_base("main", "feature/S-1") == base
    box("checkout", "-q", "--orphan", "alien")
    box.commit()
    with pytest.raises(GuardFailed, match="no history"):
        box.repo.merge_base("main", "alien")
    with pytest.raises(GuardFailed, match="no history"):
        box.repo.changed_files("main", "alien", from_merge_base=True)


def test_a_clean_merge_is_a_tree_and_touches_no_checkout(box):
    tree = box.worktree("S-1")
    head = box.commit(tree, **{"n.txt": "n\n"})
    assert box.repo.merge_tree("main", head) == Merged(box.repo.commit(head).tree)
    target = box.commit(**{"b.txt": "b\n"})
    merged = box.repo.merge_tree(target, head)
    assert isinstance(merged, Merged)
    assert box("ls-tree", "-r", "--name-only", merged.tree).split() == ["a.txt", "b.txt", "n.txt", "src/core/x.py"]
    assert box("status", "--porcelain") == ""


def test_a_conflict_names_its_files_however_they_are_called(box):
    name = "con\nflict \udcff.txt"
    box.commit(**{name: "base\n", "del.txt": "d\n"})
    tree = box.worktree("S-1")
    (tree / "del.txt").unlink()
    head = box.commit(tree, **{name: "theirs\n"})
    target = box.commit(**{name: "ours\n", "del.txt": "changed\n"})
    found = box.repo.merge_tree(target, head)
    assert isinstance(found, Conflict)
    assert set(found.files) == {name, "del.txt"}
    assert any("CONFLICT (modify/delete)" in m for m in found.messages)
    assert any("CONFLICT (content)" in m for m in found.messages)


def test_a_merge_commit_is_the_same_whoever_makes_it_and_when(box, monkeypatch):
    tip = box.repo.tip("main")
    tree = box.repo.commit(tip).tree
    args = (tree, [tip], "Merge S-1: café\n\n#1 passed by qa\n", WHEN)
    one = box.repo.commit_merge(*args)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Eve")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "@1 +0000")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    box("config", "commit.gpgSign", "true")
    box("config", "user.name", "Bob")
    assert box.repo.commit_merge(*args) == one
    assert box("log", "-1", "--format=%an|%ae|%cn|%at|%ct|%s|%b", one) == (
        "maf|maf@localhost|maf|1767323045|1767323045|Merge S-1: café|#1 passed by qa"
    )
    other = box.repo.commit_merge(*args, author=("dev-1 <x>\n", "dev-1@localhost"))
    assert box("log", "-1", "--format=%an <%ae>", other) == "dev-1 x <dev-1@localhost>"


@pytest.mark.parametrize(
    ("message", "when"), [("a\0b", WHEN), ("\ud800", WHEN), ("m", "yesterday"), ("m", "2026-01-02T03:04:05")]
)
def test_bad_merge_arguments_are_refused(box, message, when):
    tip = box.repo.tip("main")
    with pytest.raises(InvalidInput):
        box.repo.commit_merge(box.repo.commit(tip).tree, [tip], message, when)
    with pytest.raises(InvalidInput):
        box.repo.commit_merge("--help", [tip], "m", WHEN)


def test_find_merge_sees_what_a_crash_did_not_record(box):
    submitted = []
    before = box.repo.tip("main")
    for n in range(3):
        tree = box.worktree(f"S-{n}")
        submitted.append(box.commit(tree, **{f"n{n}.txt": "n\n"}))
    assert box.repo.find_merge("main", submitted[0]) is None
    assert box.repo.find_merge("main", submitted[0], since=before) is None
    merges = [merge(box, f"feature/S-{n}") for n in range(3)]
    for n in range(3):
        assert box.repo.find_merge("main", submitted[n]) == merges[n]
        assert box.repo.find_merge("main", submitted[n], since=before) == merges[n]
        assert box.repo._search_merge(box.repo.tip("main"), submitted[n]) == merges[n]
    assert box.repo.find_merge("main", submitted[0], since=merges[1]) is None
    with pytest.raises(NotFound):
        box.repo.find_merge("main", "1" * 40)


def test_find_merge_of_what_came_in_by_hand(box):
    tree = box.worktree("S-1")
    submitted = box.commit(tree, **{"n.txt": "1\n"})
    box.commit(tree, **{"n.txt": "2\n"})
    box.commit(**{"b.txt": "b\n"})
    assert box.repo.find_merge("main", submitted) is None
    box("merge", "-q", "--no-ff", "--no-edit", "feature/S-1")
    by_hand = box.repo.tip("main")
    for n in range(3):
        box.commit(**{"c.txt": f"{n}\n"})
    assert box.repo.find_merge("main", submitted) == by_hand
    other = box.worktree("S-2")
    forwarded = box.commit(other, **{"f.txt": "1\n"})
    box("merge", "-q", "--ff-only", "feature/S-2")
    box.commit(**{"c.txt": "9\n"})
    assert box.repo.find_merge("main", forwarded) == forwarded
