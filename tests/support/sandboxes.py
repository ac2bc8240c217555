"""The fixtures of the tests that drive a whole project: a sandbox, and nothing left of it."""

import pytest

from orchestrator import process
from tests.support.plain_git import plain_git
from tests.support.project import Sandbox


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch, tmp_path):
    plain_git(monkeypatch, tmp_path)


@pytest.fixture(scope="module", autouse=True)
def _no_supervisor_left():
    yield
    process.shutdown()


@pytest.fixture
def box(tmp_path, sqlite_url):
    """A project on SQLite."""
    sandbox = Sandbox(tmp_path / "repo", sqlite_url)
    yield sandbox
    sandbox.close()


@pytest.fixture
def both(tmp_path, store_url):
    """A project on each store in turn, for what the store has a part in."""
    sandbox = Sandbox(tmp_path / "repo", store_url)
    yield sandbox
    sandbox.close()
