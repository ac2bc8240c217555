"""6, 8 and 9 ask git: a real repository with real merges, and what it takes to make each fail."""

import subprocess

import pytest

from orchestrator.git import Repository
from orchestrator.service import invariants, stories
from tests.support.board import Board, fill
from tests.support.invariants import assert_invariants, broken


class GitBoard(Board):
    """A board whose commits exist: each attempt is a commit on feature/CODE, each merge a merge commit on main."""

    def __init__(self, url, root):
        super().__init__(url, commit=self.committed)
        self.root, self.made = root, {}
        root.mkdir()
        self("init", "-q", "-b", "main")
        self("config", "user.name", "Ada")
        self("config", "user.email", "ada@example.org")
        self("commit", "-q", "--allow-empty", "-m", "first")
        self.first = self("rev-parse", "HEAD")
        self.repo = Repository.open(root)
        self.merge = self.merged

    def __call__(self, *args):
        return subprocess.run(["git", *args], cwd=self.root, capture_output=True, check=True, text=True).stdout.strip()

    def committed(self, code, attempt):
        if (code, attempt) not in self.made:
            parent = self.made.get((code, attempt - 1), self.first)
            tree = self("rev-parse", f"{parent}^{{tree}}")
            self.made[code, attempt] = self("commit-tree", tree, "-p", parent, "-m", f"{code} {attempt}")
            self("update-ref", f"refs/heads/feature/{code}", self.made[code, attempt])
        return self.made[code, attempt]

    def merged(self, code, submitted):
        tip = self("rev-parse", "main")
        commit = self("commit-tree", f"{tip}^{{tree}}", "-p", tip, "-p", submitted, "-m", f"merge {code}")
        self("update-ref", "refs/heads/main", commit)
        return commit

    def broken(self):
        return set(broken(self.user, self.repo, "main")) - {"15.replay"}


@pytest.fixture
def board(store_url, tmp_path):
    made = fill(GitBoard(store_url, tmp_path / "repo"))
    yield made
    made.repo.close()
    made.store.close()


def set_merge_commit(board, commit):
    board.sql(
        f"""UPDATE gate_transitions SET metadata = '{{"command": "git", "exit_code": 0, "commit": "{commit}"}}'"""
        " WHERE to_gate = 8 AND story_id = (SELECT id FROM stories WHERE story_code = 'S-1')"
    )


def test_real_merges_break_none(board):
    assert_invariants(board.user, board.repo, "main")
    names = {result.name for result in invariants.check(board.user, board.repo, "main")}
    assert {"6.merged_what_qa_saw", "8.merge_on_target", "8.nothing_missing", "9.nothing_lost"} <= names


def test_a_merge_of_something_else(board):
    set_merge_commit(board, board.first)
    assert board.broken() == {"6.merged_what_qa_saw"}


def test_a_merge_beside_the_target(board):
    tip = board("rev-parse", "main")
    set_merge_commit(board, board("commit-tree", f"{tip}^{{tree}}", "-p", tip, "-m", "beside"))
    assert board.broken() == {"8.merge_on_target"}


def test_a_target_that_lost_its_merges(board):
    board("update-ref", "refs/heads/main", board.first)
    assert board.broken() == {"8.merge_on_target", "8.nothing_missing"}


def test_a_target_that_is_gone(board):
    assert set(broken(board.user, board.repo, "elsewhere")) == {"8.merge_on_target"}


def test_a_branch_that_was_deleted_with_its_work(board):

    stories.start(board.of("dev-2"), "S-2", branch="feature/S-2", base=board.first)
    board.work("S-2", "dev-2")
    assert board.broken() == set()
    board("update-ref", "-d", "refs/heads/feature/S-2")
    assert board.broken() == {"9.nothing_lost"}
    board.repo.archive("S-2", board.commit("S-2", 1))
    assert board.broken() == set()
