import os
import subprocess

import pytest

from orchestrator.git import Repository


class Sandbox:
    """A real repository, and git itself to look at what maf did to it."""

    def __init__(self, root):
        self.root = root
        root.mkdir()
        self("init", "-q", "-b", "main")
        self.commit(**{"a.txt": "one\n", "src/core/x.py": "x = 1\n"})
        self.repo = Repository.open(root)

    def __call__(self, *args, cwd=None, check=True, text=True):
        done = subprocess.run(["git", *args], cwd=cwd or self.root, capture_output=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"git {args}: {done.stderr.decode()}")
        return done.stdout.decode(errors="surrogateescape").strip() if text else done.stdout

    def write(self, cwd=None, **files):
        for name, content in files.items():
            path = (cwd or self.root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def commit(self, cwd=None, message="work", **files):
        self.write(cwd, **files)
        self("add", "-A", cwd=cwd)
        self("commit", "-q", "--allow-empty", "-m", message, cwd=cwd)
        return self("rev-parse", "HEAD", cwd=cwd)

    def worktree(self, name):
        path = self.root.parent / "trees" / name
        self.repo.add_worktree(path, f"feature/{name}", self.repo.tip("main"))
        return path

    def move_target(self, **files):
        """A commit on main, moved as maf moves it: by update-ref, with no checkout touched."""
        scratch = self.root.parent / "scratch"
        old = self.repo.tip("main")
        self.repo.checkout_detached(scratch, old)
        new = self.commit(scratch, **files)
        self.repo.update_branch("main", new, old)
        return old, new


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def box(tmp_path):
    sandbox = Sandbox(tmp_path / "repo")
    yield sandbox
    sandbox.repo.close()
