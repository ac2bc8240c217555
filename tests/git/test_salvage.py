import os
import time

import pytest

from orchestrator.domain.errors import NotFound


def files_at(box, commit):
    return set(box("ls-tree", "-r", "-z", "--name-only", commit).split("\0")) - {""}


def snapshot(box, tree):
    git_dir = box.repo.git_dir(tree)
    files = {str(p): p.read_bytes() for p in tree.rglob("*") if p.is_file() and not p.is_symlink()}
    return files, (git_dir / "index").read_bytes(), (git_dir / "HEAD").read_bytes()


def test_clean_work_is_its_head(box):
    tree = box.worktree("S-1")
    own = box.commit(tree, **{"n.txt": "n\n"})
    saved = box.repo.salvage(tree, "S-1")
    assert (saved.head, saved.dirty, saved.skipped) == (own, None, ())
    assert box.repo.salvage(tree, "S-1") == saved
    assert [(a.ref, a.commit) for a in box.repo.archived("S-1")] == [(saved.refs[0], own)]


def test_dirty_work_of_every_kind_is_kept_and_nothing_is_touched(box):
    box.commit(**{".gitignore": "*.log\n", "del.txt": "d\n"})
    tree = box.worktree("S-1")
    box.commit(tree, **{"n.txt": "n\n"})
    box.write(tree, **{"n.txt": "staged\n"})
    box("add", "n.txt", cwd=tree)
    box.write(tree, **{"n.txt": "unstaged\n", "x.log": "ignored\n", "new\nline": "x\n", "-rf": "x\n"})
    (tree / "del.txt").unlink()
    (tree / os.fsdecode(b"\xff")).write_text("x")
    (tree / "link").symlink_to("nowhere")
    box("init", "-q", str(tree / "inner"))
    box.write(tree, **{"inner/deep/f.txt": "inside\n"})
    before = snapshot(box, tree)
    saved = box.repo.salvage(tree, "S-1")
    assert snapshot(box, tree) == before
    expected = {
        ".gitignore",
        "a.txt",
        "src/core/x.py",
        "n.txt",
        "new\nline",
        "-rf",
        "\udcff",
        "link",
        "inner/deep/f.txt",
    }
    assert files_at(box, saved.dirty) == expected
    assert box("show", f"{saved.dirty}:n.txt") == "unstaged"
    parents = box.repo.commit(saved.dirty).parents
    assert parents[0] == saved.head
    assert box("show", f"{parents[1]}:n.txt") == "staged"
    time.sleep(1.1)
    assert box.repo.salvage(tree, "S-1") == saved  # the same state is the same commit
    box("gc", "-q", "--prune=now")
    assert box.repo.resolve(saved.dirty)


def test_work_in_the_middle_of_a_merge_and_with_a_held_index(box):
    tree = box.worktree("S-1")
    box.commit(tree, **{"a.txt": "mine\n"})
    theirs = box.commit(**{"a.txt": "theirs\n"})
    box("merge", "-q", "main", cwd=tree, check=False)
    lock = box.repo.git_dir(tree) / "index.lock"
    lock.touch()
    saved = box.repo.salvage(tree, "S-1")
    assert lock.exists()
    assert "<<<<<<<" in box("show", f"{saved.dirty}:a.txt")
    assert box.repo.commit(saved.dirty).parents == (saved.head, theirs)


def test_detached_unborn_and_without_an_index(box):
    tree = box.worktree("S-1")
    box("checkout", "-q", "--detach", cwd=tree)
    own = box.commit(tree, **{"n.txt": "n\n"})
    assert box.repo.salvage(tree, "S-1").head == own
    (box.repo.git_dir(tree) / "index").unlink()
    saved = box.repo.salvage(tree, "S-1")
    assert files_at(box, saved.dirty) == {"a.txt", "src/core/x.py", "n.txt"}
    box("checkout", "-q", "-f", "--orphan", "fresh", cwd=tree)
    saved = box.repo.salvage(tree, "S-1")
    assert saved.head is None
    assert saved.dirty is None or files_at(box, saved.dirty)
    box.write(tree, **{"n.txt": "again\n"})
    assert "n.txt" in files_at(box, box.repo.salvage(tree, "S-1").dirty)


def test_the_main_checkout_can_be_salvaged_and_a_stranger_not(box, tmp_path):
    box.write(**{"u.txt": "u\n"})
    assert "u.txt" in files_at(box, box.repo.salvage(box.root, "mine").dirty)
    box("init", "-q", str(tmp_path / "other"))
    for stranger in (tmp_path / "other", tmp_path, box.root / "src"):
        with pytest.raises(NotFound):
            box.repo.salvage(stranger, "x")


def test_scratch_folders_of_killed_processes_are_swept(box):
    old = box.root / ".git/maf/scratch-old"
    old.mkdir(parents=True)
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    box.write(**{"u.txt": "u\n"})
    box.repo.salvage(box.root, "mine")
    assert list((box.root / ".git/maf").glob("scratch-*")) == []
