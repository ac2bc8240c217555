"""A real repository under maf with a real store, and the short ways through the workflow that the tests take."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from orchestrator.domain.settings import Checks, DevAgent, Run, Settings
from orchestrator.gates import dev, integration, qa
from orchestrator.gates.project import Project
from orchestrator.git import Repository
from orchestrator.service import reviews, sessions, stories, waves
from orchestrator.service.context import Context
from orchestrator.store import open_store, schema
from tests.support.invariants import assert_invariants

PASSES = Checks(commands=(("true",),))


def git(cwd, *args, check=True):
    """What git prints, stripped."""
    done = subprocess.run(["git", *args], cwd=cwd, capture_output=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"git {args}: {done.stderr.decode()}")
    return done.stdout.decode(errors="surrogateescape").strip()


def script(text, **more):
    """A dev agent that does not know maf: a shell script in its worktree."""
    return DevAgent("dev", ("sh", "-c", text), **{"prompt": "none", "submits": False, **more})


WRITES = script('echo {story} > f-{story}; git add . && git commit -qm "work on {story}"')


class Sandbox:
    """Repository, store and settings; ``open()`` gives a project with connections of its own."""

    def __init__(self, root: Path, url: str, **settings) -> None:
        self.root, self.url = root, url
        self.settings = Settings(store=url, **{"checks": PASSES, "run": Run(backoff=0.02), **settings})
        root.mkdir()
        git(root, "init", "-q", "-b", "main")
        self.commit({"README": "hello\n", ".gitignore": ".maf/\n*.log\n"}, "first")
        schema.create(url)
        self._opened = []
        self.project = self.open()

    def open(self) -> Project:
        project = Project(Repository.open(self.root), self.settings, Context(open_store(self.url)))
        self._opened.append(project)
        return project

    def close(self) -> None:
        for project in self._opened:
            project.ctx.store.close()
            project.repo.close()

    def set(self, **settings) -> None:
        """Other settings from now on."""
        self.settings = replace(self.settings, **settings)
        self.project = replace(self.project, settings=self.settings)

    # -- git -------------------------------------------------------------------------------------------------------

    def git(self, *args, cwd=None, check=True):
        return git(cwd or self.root, *args, check=check)

    def commit(self, files, message="work", cwd=None):
        cwd = Path(cwd or self.root)
        for name, content in files.items():
            path = cwd / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.git("add", "-A", cwd=cwd)
        self.git("commit", "-q", "--allow-empty", "-m", message, cwd=cwd)
        return self.git("rev-parse", "HEAD", cwd=cwd)

    def tip(self, branch="main"):
        return self.git("rev-parse", branch)

    def tree(self, rev="main"):
        """Path to content."""
        names = self.git("ls-tree", "-r", "--name-only", rev).splitlines()
        return {name: self.git("show", f"{rev}:{name}") for name in names}

    def merges(self):
        """The story of each merge commit on the target's first-parent line, the newest first."""
        out = self.git(
            "log", "--first-parent", "--merges", "--format=%(trailers:key=Story,valueonly,separator=)", "main"
        )
        return [line for line in out.splitlines() if line]

    # -- the workflow ----------------------------------------------------------------------------------------------

    @property
    def ctx(self):
        return self.project.ctx

    def wave(self, code="W1", stories_=(), *, start=True, domain="core", after=(), **more):
        waves.add(self.ctx, code, name=code, after=after, **more)
        for story in stories_:
            self.story(story, code, domain=domain)
        if start:
            self.crew()
            for story in stories_:
                stories.approve(self.as_("cto").ctx, story)
            waves.start(self.as_("pm").ctx, code)

    def story(self, code, wave="W1", *, domain="core", after=(), **more):
        more = {"title": f"Story {code}", "criteria": ["it is there"], **more}
        return stories.add(self.ctx, code, wave, domain=domain, after=after, **more)

    def crew(self):
        """A live session of each role, and two devs, registered by hand."""
        live = {s["agent_id"] for s in sessions.listing(self.ctx)}
        for agent, role in {"cto": "cto", "pm": "pm", "qa": "qa", "ann": "dev", "bob": "dev"}.items():
            if agent not in live:
                sessions.register(self.ctx, agent, role)

    def as_(self, agent) -> Project:
        return self.project.acting(agent)

    def start(self, code, agent="ann") -> Path:
        stories.assign(self.as_("pm").ctx, code, agent)
        return Path(dev.start_story(self.as_(agent), code)["worktree"])

    def submit(self, code, files=None, agent="ann"):
        """From ready (or returned) to QA; its worktree."""
        story = self.show(code)
        path = self.start(code, agent) if story["status"] == "ready" else self.project.worktree(code)
        self.commit(files or {f"f-{code}": code}, f"work on {code}", cwd=path)
        while self.show(code)["current_gate"] < 3:
            dev.advance(self.as_(agent), code)
        dev.submit(self.as_(agent), code)
        return path

    def to_merge(self, code, files=None, agent="ann"):
        """From ready to the merge queue."""
        path = self.submit(code, files, agent)
        qa.qa_pass(self.as_("qa"), code)
        reviews.accept(self.as_("pm").ctx, code)
        return path

    def merge(self, code):
        return integration.merge(self.as_("cto"), code)

    def show(self, code):
        return stories.show(self.ctx, code)

    def gate(self, code, number):
        """The latest pass of a gate."""
        return [g for g in self.show(code)["gates"] if g["from_gate"] == number and g["transition_type"] == "advance"][
            -1
        ]

    def kept(self, commit):
        """Whether a branch or one of maf's refs holds the commit."""
        return bool(self.git("for-each-ref", "--contains", commit, "refs/heads", "refs/maf"))

    def sound(self):
        """Every invariant holds, those of git included."""
        assert_invariants(self.ctx, self.project.repo, self.settings.target)
