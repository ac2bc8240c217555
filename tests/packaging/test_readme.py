"""Every command of the README is run here, or is a make target that another named test runs the body of."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from orchestrator.domain.errors import MafError

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCK = re.compile(r"(?:^<!-- run: ([a-z-]+) -->\n)?^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

ELSEWHERE = {
    "make demo": ("Makefile", "tests/runner/test_demo.py", "demo"),
    "make test": ("Makefile", "tests/packaging/test_test_stores.py", "pytest"),
}
"""make target -> where its body is tested: a file or folder, and what is named there."""


def blocks() -> dict[str, list[str]]:
    """The sh blocks by name, as lines without comments."""
    found = {}
    for name, language, body in BLOCK.findall(README):
        if language == "sh":
            found[name] = [line for text in body.splitlines() if (line := re.sub(r"\s+# .*$", "", text).strip())]
    return found


def block(language: str) -> str:
    (body,) = (body for _, kind, body in BLOCK.findall(README) if kind == language)
    return body


class Shell:
    """Runs lines as a reader would type them, in a repository of their own, with ``maf`` and ``git`` on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.repo = folder / "repo"
        for path in (self.home, self.bin, self.repo):
            path.mkdir(parents=True)
        here = Path(sys.executable).parent
        (self.bin / "maf").symlink_to(here / "maf")
        # python3 of the checks is the one that has pytest.
        (self.bin / "python3").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (self.bin / "python3").chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if k in {"LANG", "LC_ALL", "TMPDIR", "PGPASSWORD"}}
        self.environment = kept | {
            "HOME": str(self.home), "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb",
            "GIT_CONFIG_NOSYSTEM": "1", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        for setting in ("user.name Reader", "user.email reader@example.org", "init.defaultBranch main"):
            self("git config --global " + setting)
        tests = self.repo / "tests"
        tests.mkdir()
        (tests / "test_it.py").write_text("def test_it():\n    assert True\n")
        (self.repo / ".gitignore").write_text("__pycache__/\n.pytest_cache/\n")
        self("git init -q && git add -A && git commit -q -m First")

    def __call__(self, line: str, **more: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", line], cwd=self.repo, env=self.environment | more, capture_output=True, text=True,
            timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, line: str) -> dict:
        return json.loads(self(line + " --json"))["data"]


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


# --- nothing is left out -----------------------------------------------------------------------------------------


def test_every_block_of_commands_has_a_test():
    shown = [name for name, language, _ in BLOCK.findall(README) if language not in {"toml", "yaml", "text"}]
    assert all(language in {"sh", "toml", "yaml", "text"} for _, language, _ in BLOCK.findall(README))
    assert sorted(shown) == sorted(blocks())
    source = Path(__file__).read_text("utf-8")
    assert [name for name in shown if f'blocks()["{name}"]' not in source] == []


def test_make_demo_and_make_test_are_the_first_commands():
    assert list(blocks())[:2] == ["demo", "test"]
    assert blocks()["demo"] == ["make demo"]
    assert blocks()["test"] == ["make test"]


def test_what_make_runs_is_tested_elsewhere():
    lines = [line for name in blocks() for line in blocks()[name] if line.startswith("make")]
    named = re.findall(r"`(make [a-z-]+)`", README)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in {*lines, *named}:
        assert re.search(rf"^{line.removeprefix('make ')}:", makefile, re.MULTILINE), line
    for line in lines:
        recipe, place, word = ELSEWHERE[line]
        assert re.search(rf"^{line.removeprefix('make ')}:[^\n]*\n\t.*{word}", makefile, re.IGNORECASE | re.MULTILINE)
        there = ROOT / place
        texts = [p.read_text("utf-8") for p in ([there] if there.is_file() else there.glob("test_*.py"))]
        assert any(word in text for text in texts), f"nothing in {place} runs what {line} runs"
        assert (ROOT / recipe).is_file()


def test_the_excerpt_of_the_demo_is_about_its_sample():
    import yaml

    from orchestrator.demo import sample

    excerpt = next(body for _, language, body in BLOCK.findall(README) if language == "text")
    plan = yaml.safe_load(sample.PLAN)["waves"]
    stories = {story["code"]: story for wave in plan for story in wave["stories"]}
    assert f"{len(sample.AGENTS)} scripted agents work" in excerpt
    assert f" {len(plan)} of {len(plan)} waves completed" in excerpt
    shown = re.findall(r"^(L-\d+) +completed +(\w+) .* [0-9a-f]{7}  (.+)$", excerpt, re.MULTILINE)
    assert len(shown) == 3
    assert [(stories[code]["domain"], stories[code]["title"]) for code, _, _ in shown] == [s[1:] for s in shown]
    assert set(re.findall(r"L-\d+", excerpt)) <= set(stories)


# --- as a reader would do it -------------------------------------------------------------------------------------


def test_the_link_makes_the_command_known(shell, tmp_path):
    clone = tmp_path / "clone"
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "maf").symlink_to(Path(sys.executable).parent / "maf")
    lines = " && ".join(blocks()["link"])
    shell(f"cd {clone} && {lines} && $HOME/.local/bin/maf --version")


MY_AGENT = """
    #!/bin/sh
    # A scripted agent: knows what each story of the README's plan wants.
    set -e
    prompt=$(cat)
    case "$prompt" in *"$MAF_STORY"*) ;; *) echo "the prompt names no $MAF_STORY" >&2; exit 1 ;; esac
    case "$MAF_STORY" in
        PARSE-1) mkdir -p src; echo "import datetime; parse = datetime.date.fromisoformat" > src/dates.py
                 printf 'import sys; sys.path.insert(0, "src")\\nimport dates\\n\\n' > tests/test_dates.py
                 printf 'def test_parse():\\n    assert dates.parse("2026-01-31").day\\n' >> tests/test_dates.py ;;
        PRINT-1) echo "print(__import__('dates').parse('2026-01-31'))" > src/show.py ;;
        DOC-1) mkdir -p docs; echo "ISO 8601" > docs/dates.md ;;
        *) echo "not my story: $MAF_STORY" >&2; exit 1 ;;
    esac
    git add -A
    git commit -q -m "$MAF_STORY"
"""


@pytest.mark.timeout(300)
def test_using_it_on_a_repository(shell):
    for line in blocks()["begin"]:
        shell(line)
    agent = shell.bin / "my-agent"
    agent.write_text(textwrap.dedent(MY_AGENT).lstrip())
    agent.chmod(0o755)
    (shell.repo / "maf.toml").write_text(block("toml"))
    (shell.repo / "plan.yaml").write_text(block("yaml"))
    shell("git commit -q -am 'Who works here'")
    said = {line: shell(line) for line in blocks()["plan"]}
    plan = shell.json("maf plan show")
    assert {s["code"]: s["status"] for s in plan["stories"]} == dict.fromkeys(
        ("PARSE-1", "DOC-1", "PRINT-1"), "completed"
    )
    assert shell("git ls-tree -r --name-only main").split() == [
        ".gitignore", "docs/dates.md", "maf.toml", "src/dates.py", "src/show.py",
        "tests/test_dates.py", "tests/test_it.py",
    ]  # fmt: skip
    graph = said["git log --graph --oneline main"]
    assert all(f"Merge {code} into main" in graph for code in ("PARSE-1", "DOC-1", "PRINT-1"))
    assert (shell.repo / "src" / "show.py").exists(), "the clean checkout follows"


def test_the_example_of_maf_toml_is_valid_and_keeps_to_the_defaults_it_names(tmp_path):
    from orchestrator.bootstrap.config import load
    from orchestrator.bootstrap.locate import locate

    (tmp_path / "maf.toml").write_text(block("toml"))
    settings = load(locate(tmp_path, {"XDG_CONFIG_HOME": str(tmp_path)})).settings
    assert settings.agents[0].command == ("my-agent", "--yes")
    assert tomllib.loads(block("toml"))["run"]["agents"] == settings.run.agents
    (tmp_path / "maf.toml").write_text(block("toml").replace("max_attempts", "attempts"))
    with pytest.raises(MafError, match="no such key"):
        load(locate(tmp_path, {"XDG_CONFIG_HOME": str(tmp_path)}))


@pytest.mark.timeout(300)
def test_the_session_by_hand(shell, store_url):
    shell.environment["MAF_DB"] = store_url
    tip, said = shell("git rev-parse main"), ""
    for text in blocks()["by-hand"]:
        line = text.replace("ID|role:R", "role:pm").replace("--story CODE", "--story S-1")
        if "WORKTREE" in line:
            worktree = shell.repo / ".maf" / "worktrees" / "S-1"
            assert str(worktree) in said, "story start says where"
            (worktree / "parser.py").write_text("def parse(text):\n    return text\n")
            line = line.replace("WORKTREE", shlex.quote(str(worktree)))
            line = line.replace("git commit …", "git add parser.py && git commit -q -m 'A parser'")
        if re.search(r"\bID\b", line):
            inbox = shell.json("maf signal inbox --agent pm")
            asked = next(s for s in inbox["pending"] if s["signal_type"] == "help_needed")
            line = re.sub(r"\bID\b", asked["id"], line)
        # What stands in brackets may be there or not.
        for one in dict.fromkeys((re.sub(r" \[--[^\]]+\]", "", line), re.sub(r" \[(--[^\]]+)\]", r" \1", line))):
            answer = shell(one)
        said += answer
        if line.startswith("maf signal inbox"):
            assert "story_assigned" in answer
    story = shell.json("maf story show S-1")
    assert (story["status"], story["current_gate"]) == ("completed", 8)
    assert shell("git show main:parser.py").startswith("def parse")
    assert shell("git rev-parse main^1") == tip
    message = shell("git log -1 --format=%B main")
    assert [line.split(":")[0] for line in message.splitlines() if line.startswith("Gate-")] == [
        f"Gate-{n}" for n in range(8)
    ]
    shell("maf doctor")


@pytest.mark.timeout(300)
def test_the_session_by_hand_is_told_what_it_says(shell):
    """The alternatives that stand in its comments."""
    shell("rm -r tests && maf init --no-checks 'why'")
    shell("maf agent register dev-1 --role dev && maf agent register cto --role cto && maf agent register pm --role pm")
    shell("maf agent register qa-1 --role qa && maf wave add W0 --name Zero && maf wave add W1 --name First --after W0")
    shell("maf story add S-0 --wave W0 --title A --domain core --criteria c")
    shell("maf story add S-1 --wave W1 --title A --domain core --criteria c --after S-0")
    shell("maf story approve S-0 --agent cto && maf wave start W0 --agent pm && maf story next --agent dev-1")
    shell("maf story start S-0 --agent dev-1 && maf story advance S-0 --agent dev-1")
    shell("cd .maf/worktrees/S-0 && echo x > x && git add x && git commit -q -m x")
    shell("maf story advance S-0 --agent dev-1 && maf story submit S-0 --agent dev-1")
    shell('maf qa reject S-0 --agent qa-1 --finding "…"')
    assert shell.json("maf story show S-0")["status"] == "in_progress"


# --- stores ------------------------------------------------------------------------------------------------------


def test_postgres_by_its_url(shell, postgres_url):
    for line in blocks()["postgres"]:
        said = shell(line.replace("postgresql://localhost/maf", shlex.quote(postgres_url)))
    assert "postgres" in said.lower()


def test_queries_backups_and_exports(shell):
    shell("maf init && maf wave add W1 --name First")
    shell("maf story add S-1 --wave W1 --title A --domain core --criteria c")
    query, backup, export = blocks()["db"]
    assert "S-1" in shell(query)
    shell(backup)
    shell(export)
    assert (shell.repo / "maf-backup.db").stat().st_size > 0
    assert "S-1" in (shell.repo / "out" / "stories.csv").read_text()


def test_the_exit_codes_are_those_of_the_error_tree():
    codes = {error.exit_code for error in MafError.__subclasses__()}
    table = re.findall(r"^\| (\d) \| (.+) \|$", README, re.MULTILINE)
    assert [int(code) for code, _ in table] == [0, *sorted(codes)]
