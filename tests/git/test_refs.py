import multiprocessing
import os
import time

import pytest

from orchestrator.domain.errors import GuardFailed, InvalidInput, LostRace, NotFound, Refused
from orchestrator.git import GitFailed, GitUnavailable, Repository
from orchestrator.git.command import Git, environment


def test_open_finds_the_main_worktree_from_below_and_from_a_linked_one(box):
    tree = box.worktree("S-1")
    (tree / "deep").mkdir()
    for start in (box.root / "src" / "core", tree, tree / "deep", box.root / "a.txt"):
        with Repository.open(start) as repo:
            assert (repo.root, repo.common_dir) == (box.root, box.root / ".git")


def test_open_refuses_what_it_cannot_work_with(box, tmp_path):
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    with pytest.raises(NotFound) as error:
        Repository.open(nowhere)
    assert error.value.hint == "git init"
    box("init", "-q", "--bare", str(tmp_path / "bare.git"))
    with pytest.raises(Refused, match="bare"):
        Repository.open(tmp_path / "bare.git")
    box("init", "-q", str(tmp_path / "empty"))
    with pytest.raises(Refused, match="no commit"):
        Repository.open(tmp_path / "empty")
    with pytest.raises(Refused, match="own folder"):
        Repository.open(box.root / ".git")
    with pytest.raises(NotFound, match="no directory"):
        Repository.open(tmp_path / "missing" / "x")


def test_a_submodule_is_a_repository_of_its_own(box, tmp_path):
    box("clone", "-q", str(box.root), str(tmp_path / "other"))
    box("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "other"), "sub")
    with Repository.open(box.root / "sub") as repo:
        assert repo.root == box.root / "sub"
        assert repo.tip("main") == box.repo.tip("main")
        repo.add_worktree(tmp_path / "sub-tree", "feature/s", repo.tip("main"))
        assert repo.head(tmp_path / "sub-tree") == repo.tip("main")
        assert repo.is_clean(tmp_path / "sub-tree")


def test_a_shallow_clone_works_and_says_why_when_history_is_missing(box, tmp_path):
    box.commit(**{"b.txt": "b\n"})
    box("clone", "-q", "--depth=1", f"file://{box.root}", str(tmp_path / "shallow"))
    with Repository.open(tmp_path / "shallow") as repo:
        assert repo.is_shallow
        box("checkout", "-q", "--orphan", "other", cwd=repo.root)
        box.commit(repo.root)
        with pytest.raises(GuardFailed) as error:
            repo.merge_base("main", "other")
        assert "--unshallow" in error.value.hint


def test_the_environment_cannot_redirect_git(box, monkeypatch, tmp_path):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "0")
    with Repository.open(box.root) as repo:
        assert repo.tip("main") == box.repo.tip("main")
        assert repo.is_clean(box.root)
    kept = environment()
    assert "GIT_DIR" not in kept
    assert kept["GIT_CONFIG_COUNT"] == "0"


def test_tip_resolve_and_ancestry(box):
    first = box.repo.tip("main")
    second = box.commit(**{"b.txt": "b\n"})
    assert box.repo.tip("main") == second
    assert box.repo.resolve("HEAD~1") == first
    assert box.repo.commit("main").parents == (first,)
    assert box.repo.is_ancestor(first, second)
    assert not box.repo.is_ancestor(second, first)
    third = box.commit(**{"c.txt": "b\n"})
    assert box.repo.is_ancestor(first, third)
    for nothing in ("nope", "", "-x", "--all", "a\nb", "a\0b", "\udcff", "\ud800", "main missing", "x" * 9999):
        assert box.repo.resolve(nothing) is None
    with pytest.raises(NotFound):
        box.repo.tip("nope")
    assert box.repo.current_branch() == "main"
    box("checkout", "-q", "--detach")
    assert box.repo.current_branch() is None
    box("tag", "-a", "-m", "x", "v1")
    assert box.repo.resolve("v1") == third


def test_default_target_prefers_what_origin_calls_so(box, tmp_path):
    box("checkout", "-q", "-b", "topic")
    assert box.repo.default_target() == "main"
    box("branch", "trunk")
    box("update-ref", "refs/remotes/origin/trunk", "HEAD")
    box("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk")
    assert box.repo.default_target() == "trunk"
    box("branch", "-D", "main")
    box("symbolic-ref", "-d", "refs/remotes/origin/HEAD")
    assert box.repo.default_target() == "topic"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-x",
        "--orphan",
        "a..b",
        "a b",
        "a\nb",
        "a\0b",
        "x.lock",
        "a/.b",
        "/a",
        "a/",
        "@{1}",
        "é\u202e",
        "\udcff",
        "a*",
    ],
)
def test_hostile_branch_names_are_refused(box, name):
    with pytest.raises(InvalidInput):
        box.repo.create_branch(name, box.repo.tip("main"))
    with pytest.raises(InvalidInput):
        box.repo.archive(name, box.repo.tip("main"))
    assert box("for-each-ref", "--format=%(refname)") == "refs/heads/main"


def test_create_branch_is_idempotent_and_continues_its_own_work(box):
    base = box.repo.tip("main")
    assert box.repo.create_branch("feature/S-1", base) == base
    tree = box.root.parent / "t"
    box.repo.add_worktree(tree, "feature/S-1")
    own = box.commit(tree, **{"n.txt": "n\n"})
    assert box.repo.create_branch("feature/S-1", base) == own
    moved = box.commit(**{"b.txt": "b\n"})
    with pytest.raises(GuardFailed, match="does not descend"):
        box.repo.create_branch("feature/S-1", moved)
    assert box.repo.tip("feature/S-1") == own
    with pytest.raises(GitFailed):  # a branch stands where a folder is needed
        box.repo.create_branch("main/x", base)
    with pytest.raises(NotFound):
        box.repo.create_branch("feature/S-2", "1" * 40)


def test_update_branch_is_a_compare_and_swap(box):
    old = box.repo.tip("main")
    box("checkout", "-q", "--detach")
    new = box.commit(**{"b.txt": "b\n"})
    box.repo.update_branch("main", new, old, "merge S-1\nas one line")
    with pytest.raises(LostRace, match="target moved") as error:
        box.repo.update_branch("main", new, old)
    assert error.value.details["actual"] == new
    assert box("reflog", "-1", "--format=%gs", "main") == "maf: merge S-1 as one line"
    for bad in ("main", "HEAD", "", "-d", new[:12]):
        with pytest.raises(InvalidInput):
            box.repo.update_branch("main", bad, new)
    with pytest.raises(LostRace):
        box.repo.update_branch("gone", new, old)


def _race(root, old, news, barrier, results):
    with Repository.open(root) as repo:
        for new in news:
            barrier.wait()
            try:
                repo.update_branch("main", new, old)
                results.put("won")
            except LostRace:
                results.put("lost")
            barrier.wait()
            if barrier.n_waiting == 0:
                old = repo.tip("main")
            barrier.wait()


def test_of_two_processes_that_move_the_target_one_wins(box):
    base = box.repo.tip("main")
    box("checkout", "-q", "--detach")
    tree = box.repo.commit(base).tree
    rounds = 8
    commits = [
        [box.repo.commit_merge(tree, [base], f"{who} {n}", "2026-01-01T00:00:00Z") for n in range(rounds)]
        for who in range(2)
    ]
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_race, args=(box.root, base, own, barrier, results)) for own in commits]
    for worker in workers:
        worker.start()
    outcome = [results.get(timeout=30) for _ in range(2 * rounds)]
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert outcome.count("won") == rounds


def test_a_ref_lock_of_a_dead_process_is_broken_and_a_fresh_one_waited_for(box):
    base = box.repo.tip("main")
    new = box.repo.commit_merge(box.repo.commit(base).tree, [base], "m", "2026-01-01T00:00:00Z")
    lock = box.root / ".git/refs/heads/main.lock"
    lock.touch()
    os.utime(lock, (time.time() - 60,) * 2)
    box.repo.update_branch("main", new, base)
    assert box.repo.tip("main") == new


def test_delete_branch_only_when_its_commits_are_kept(box):
    tree = box.worktree("S-1")
    own = box.commit(tree, **{"n.txt": "n\n"})
    box.repo.remove_worktree(tree, target="main", archive_as="S-1")
    box("update-ref", "-d", box.repo.archived("S-1")[0].ref)
    with pytest.raises(GuardFailed):
        box.repo.delete_branch("feature/S-1", target="main")
    ref = box.repo.archive("S-1", own)
    assert [(a.ref, a.commit) for a in box.repo.archived("S-1")] == [(ref, own)]
    assert box.repo.archived("S-2") == []
    box.repo.delete_branch("feature/S-1", target="main")
    box.repo.delete_branch("feature/S-1", target="main")
    assert box.repo.find_tip("feature/S-1") is None


def test_the_reader_survives_being_killed_and_a_fork(box):
    tip = box.repo.tip("main")
    box.repo.objects._process.kill()
    assert box.repo.tip("main") == tip
    child = os.fork()
    if child == 0:
        os._exit(0 if box.repo.tip("main") == tip else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert box.repo.tip("main") == tip


@pytest.mark.parametrize(
    ("stderr", "error", "code"),
    [
        ("fatal: write error: No space left on device", GitUnavailable, 5),
        ("error: file write error: Disk quota exceeded", GitUnavailable, 5),
        ("fatal: detected dubious ownership in repository at '/x'", GitUnavailable, 5),
        ("fatal: loose object 12 is corrupt", GitUnavailable, 5),
        ("usage: git cat-file", GitUnavailable, 5),
        ("warning: noise\nfatal: not something we can merge\nhint: more", GitFailed, 1),
    ],
)
def test_failures_of_git_are_told_apart(box, tmp_path, monkeypatch, stderr, error, code):
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\ncat >&2 <<'EOF'\n{stderr}\nEOF\nexit {129 if 'usage' in stderr else 128}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    git = Git(box.root)
    with pytest.raises(error) as found:
        git.run("status")
    assert found.value.exit_code == code
    assert found.value.hint
    if code == 1:
        assert found.value.message == "git status: not something we can merge"


def test_no_git_and_an_old_git_are_named(box, tmp_path, monkeypatch):
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho git version 2.30.1\n")
    fake.chmod(0o755)
    assert box.repo.version() >= (2, 38)
    monkeypatch.setenv("PATH", f"{fake.parent}:/bin:/usr/bin")
    with pytest.raises(GitUnavailable, match="too old"):
        Git(box.root).version()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitUnavailable, match="not installed"):
        Git(box.root).run("status")
