"""The command in this process, with its output and exit code; the store before and after."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from orchestrator.cli.main import main
from orchestrator.service import sessions, stories, waves
from orchestrator.service.context import Context
from orchestrator.store import open_store, schema

# Every command that is given with an agent's id renews it, also one that is refused afterwards.
RENEWED = {"last_heartbeat", "lease_until"}


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        lines = self.out.splitlines()
        assert len(lines) == 1, f"one document on stdout, not {len(lines)} lines: {self.out[:500]}"
        return json.loads(lines[0])

    @property
    def data(self):
        body = self.json
        assert body["maf"] == 1
        assert body["ok"] is True, body
        return body["data"]

    @property
    def error(self):
        body = self.json
        assert body["maf"] == 1
        assert body["ok"] is False, body
        return body["error"]


class Stream(io.TextIOWrapper):
    def __init__(self, encoding="utf-8", *, tty=False):
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self.tty = tty

    def isatty(self):
        return self.tty

    def text(self):
        return self.buffer.getvalue().decode(self.encoding)


class Maf:
    """``maf(*args)`` in ``root``; a real process with ``maf.process(*args)``."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.monkeypatch = monkeypatch

    def __call__(self, *args, cwd=None, env=None, encoding="utf-8", tty=False, stdin=None):
        with self.monkeypatch.context() as patch:
            patch.chdir(cwd or self.root)
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            out, err = Stream(encoding, tty=tty), Stream(encoding)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            if stdin is not None:
                patch.setattr(sys, "stdin", io.StringIO(stdin))
            code = main(list(args))
            return Result(code, out.text(), err.text())

    def ok(self, *args, **how):
        result = self(*args, **how)
        assert result.code == 0, (args, result)
        return result

    def process(self, *args, env=None, cwd=None, **more):
        code = "import sys; from orchestrator.cli.main import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", code, *args], cwd=cwd or self.root, env={**os.environ, **(env or {})},
            capture_output=True, timeout=60, **more,
        )  # fmt: skip

    def git(self, *args, cwd=None):
        return subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *args], cwd=cwd or self.root, check=True,
            capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch, tmp_path):
    for name in [n for n in os.environ if n.startswith(("MAF_", "GIT_"))] + ["NO_COLOR", "COLUMNS", "TERM"]:
        if not name.startswith("MAF_TEST"):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A repository with one commit and nothing else."""
    root = tmp_path / "project"
    root.mkdir()
    maf = Maf(root, monkeypatch)
    maf.git("init", "-q", "-b", "main")
    (root / "README").write_text("a project\n")
    maf.git("add", "-A")
    maf.git("commit", "-q", "-m", "First")
    return maf


@pytest.fixture
def maf(bare, store_url, monkeypatch):
    """A repository that is set up, on either store."""
    monkeypatch.setenv("MAF_DB", store_url)
    bare.ok("init", "--checks", "git --version")
    bare.url = store_url
    return bare


@pytest.fixture
def board(maf):
    """Stories in every kind of state, made through the use cases:

    W1 active: S-1 under QA (dev-1's), S-2 ready, S-3 backlog without criteria, S-4 in progress (dev-2's), S-5 failed;
    W2 planned after W1: S-6 backlog after S-2. ``gone`` is a dev whose session has ended.
    """
    schema.create(maf.url)
    with open_store(maf.url) as store:
        user = Context(store)
        for agent, role, domain in (
            ("cto", "cto", None), ("pm", "pm", None), ("dev-1", "dev", "core"), ("dev-2", "dev", None),
            ("dev-3", "dev", "ui"), ("qa-1", "qa", None), ("gone", "dev", None),
        ):  # fmt: skip
            sessions.register(user, agent, role, domain=domain)
        sessions.end(user, "gone")
        waves.add(user, "W1", name="First")
        waves.add(user, "W2", name="Second", after=["W1"])
        for number, wave in ((1, "W1"), (2, "W1"), (3, "W1"), (4, "W1"), (5, "W1"), (6, "W2")):
            stories.add(
                user, f"S-{number}", wave, title=f"Story {number}", domain="core",
                criteria=["it works"] if number != 3 else [], after=["S-2"] if number == 6 else [],
            )  # fmt: skip
        cto, pm = user.acting("cto"), user.acting("pm")
        for number in (1, 2, 4, 5):
            stories.approve(cto, f"S-{number}")
        waves.start(pm, "W1")
        evidence = {"command": ["true"], "exit_code": 0}
        for code, agent in (("S-1", "dev-1"), ("S-4", "dev-2")):
            dev = user.acting(agent)
            stories.assign(pm, code, agent)
            stories.start(dev, code, branch=f"feature/{code}", base=maf.git("rev-parse", "HEAD"))
        dev = user.acting("dev-1")
        for gate in (1, 2):
            stories.advance(dev, "S-1", gate=gate, evidence=evidence)
        stories.submit(dev, "S-1", commit="1" * 40, evidence=evidence)
        stories.fail(pm, "S-5", reason="not wanted")
    return maf


def dump(url):
    """Every row of the store, but for what a mere sign of life changes."""
    with open_store(url) as store, store.read() as reader:
        return {
            table: sorted(
                json.dumps({c: v for c, v in row.items() if c not in RENEWED}, sort_keys=True, default=str)
                for row in reader.engine.execute(_all(table), {})
            )
            for table in sorted(store.engine.tables())
            if table != "sqlite_sequence"
        }


def _all(table):
    from orchestrator.store.dialect import Query

    return Query(table, f'SELECT * FROM "{table}"', frozenset(), None, None)


@pytest.fixture
def dumped():
    return dump
