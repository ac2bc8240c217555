"""``maf init``: ``maf.toml``, the store, and git told to ignore ``.maf/``. Called again, it changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from orchestrator.bootstrap.locate import FILE, HOME, Location, absolute
from orchestrator.domain.errors import InvalidInput, Refused
from orchestrator.git import Repository
from orchestrator.store import schema


@dataclass(frozen=True, slots=True)
class Found:
    """A likely check: its argv, and what gave it away."""

    command: tuple[str, ...]
    because: str


def likely_checks(root: Path) -> list[Found]:
    """The commands that test this project, as far as its files tell."""
    found = [check for check in (_python(root), _node(root), *_by_file(root)) if check]
    return found or [check for check in (_make(root),) if check]


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(200_000)
    except OSError:
        return ""


def _python(root: Path) -> Found | None:
    config = next((f for f in ("pytest.ini", "conftest.py", "tests/conftest.py") if (root / f).is_file()), None)
    for name in ("pyproject.toml", "setup.cfg", "tox.ini"):
        if config is None and "pytest" in _read(root / name):
            config = name
    tests = [
        *root.glob("test_*.py"),
        *(p for d in ("tests", "test") for p in sorted((root / d).rglob("test*.py"))[:50]),
    ]
    if config is None and not tests:
        return None
    runner = (
        ("uv", "run") if (root / "uv.lock").is_file() else ("poetry", "run") if (root / "poetry.lock").is_file() else ()
    )
    if config is None and any("unittest" in _read(t) for t in tests) and not any("pytest" in _read(t) for t in tests):
        folder = tests[0].relative_to(root).parts[0] if len(tests[0].relative_to(root).parts) > 1 else "."
        return Found(
            (*runner, "python3", "-m", "unittest", "discover", "-s", folder, "-t", "."), f"unittest in {folder}"
        )
    return Found((*runner, "python3", "-m", "pytest", "-q"), config or str(tests[0].relative_to(root)))


def _node(root: Path) -> Found | None:
    try:
        scripts = json.loads(_read(root / "package.json") or "{}").get("scripts", {})
        test = scripts.get("test", "")
    except (ValueError, AttributeError):
        return None
    if not isinstance(test, str) or not test or "no test specified" in test:
        return None
    tools = {"pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn", "bun.lockb": "bun", "bun.lock": "bun"}
    tool = next((tool for lock, tool in tools.items() if (root / lock).is_file()), "npm")
    return Found((tool, "run", "test") if tool == "bun" else (tool, "test"), "scripts.test in package.json")


def _by_file(root: Path) -> list[Found]:
    table = {
        "Cargo.toml": ("cargo", "test"),
        "go.mod": ("go", "test", "./..."),
        "pom.xml": ("mvn", "-q", "test"),
        "gradlew": ("./gradlew", "test"),
        "mix.exs": ("mix", "test"),
        "Package.swift": ("swift", "test"),
    }
    found = [Found(command, name) for name, command in table.items() if (root / name).is_file()]
    if (root / "Gemfile").is_file() and (root / "spec").is_dir():
        found.append(Found(("bundle", "exec", "rspec"), "spec/"))
    if any(root.glob("*.sln")):
        found.append(Found(("dotnet", "test"), "a .sln file"))
    return found


def _make(root: Path) -> Found | None:
    for name in ("Makefile", "makefile", "GNUmakefile"):
        for target in ("test", "check"):
            if re.search(rf"^{target}\s*:(?!=)", _read(root / name), re.MULTILINE):
                return Found(("make", target), f"{target} in {name}")
    return None


def init(
    location: Location, *, start: Path, target: str | None = None, checks: Sequence[Sequence[str]] = (),
    no_checks: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Set the project up. What was done, what was found, and the next steps.

    InvalidInput: the project has no checks and does not say why; nothing is written then. NotFound, Refused: there is
    no repository or no commit. Refused: ``maf.toml`` is there and says otherwise.
    """
    if checks and no_checks:
        raise InvalidInput("--checks and --no-checks exclude each other", hint="Give one of them.")
    with Repository.open(location.root or start) as repository:
        root, common = repository.root, repository.common_dir
        branch = target or repository.default_target() or repository.current_branch()
        file = root / FILE
        if branch is None and not file.exists():
            raise InvalidInput("the target branch cannot be told", hint="Say it: maf init --target BRANCH")
        if target is not None:
            repository.tip(target)
    if file.exists():
        made, found = False, []
        _agree(Location(start, root, location.environment), location, target, checks, no_checks)
    else:
        found = [] if checks or no_checks else likely_checks(root)
        commands = [tuple(c) for c in checks] or [f.command for f in found]
        if not commands and not no_checks:
            raise InvalidInput(
                "no checks were found: no tests that pytest, npm, cargo, go or make would run",
                hint='Name them: maf init --checks "COMMAND" (again for more), or say why there are none: '
                'maf init --no-checks "WHY"',
            )
        given = location.flags.get("store", {}).get("url")
        text = render(str(branch), commands, no_checks, given)
        made = True
    url = absolute(location.store()[0], root) if location.root else _url(location, root)
    fresh = schema.create(url)
    if made:
        _write(file, text)
    ignored = _exclude(common)
    return {
        "root": str(root), "file": str(file), "made_file": made, "store": public(url), "made_store": fresh,
        "ignored": ignored, "target": branch, "secret_left_out": made and given is not None and public(given) != given,
        "found": [{"command": list(f.command), "because": f.because} for f in found],
        "checks": [list(c) for c in commands] if made else None,
    }  # fmt: skip


def _url(location: Location, root: Path) -> str:
    return Location(location.start, root, location.environment, location.flags).store()[0]


def _agree(
    there: Location, given: Location, target: str | None, checks: Sequence[Sequence[str]], no_checks: str | None
) -> None:
    """Refused where the file says otherwise than the call; the file is the user's to change."""
    from orchestrator.bootstrap.config import load

    settings = load(there).settings
    url = given.flags.get("store", {}).get("url")
    said = Location(there.start, there.root, {}).find("store.url")
    differing = [
        name
        for name, differs in (
            ("[store] url", url and said and absolute(public(url), there.root or there.start)
             != absolute(public(said[0]), there.root or there.start)),
            ("[project] target", target and target != settings.target),
            ("[checks] commands", checks and tuple(map(tuple, checks)) != settings.checks.commands),
            ("[checks] none", no_checks and no_checks != settings.checks.none),
        )
        if differs
    ]  # fmt: skip
    if differing:
        raise Refused(
            f"{there.file} is there already and says otherwise about {', '.join(differing)}",
            hint="Change it in the file; `maf config show` says what holds.",
        )


def public(url: str) -> str:
    """The URL without its password."""
    if not url.startswith(("postgresql://", "postgres://")):
        return url
    parts = urlsplit(url)
    user = (parts.username or "") + "@" if parts.username else ""
    place = parts.netloc.rpartition("@")[2]
    query = "&".join(p for p in parts.query.split("&") if p and not p.startswith("password="))
    return urlunsplit((parts.scheme, user + place, parts.path, query, ""))


def _write(file: Path, text: str) -> None:
    """All of it or nothing, and never over a file that appeared meanwhile."""
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        return


def _exclude(common: Path) -> bool:
    """Have git ignore ``.maf/`` in this clone; the project's own ``.gitignore`` is not touched. True if it was new."""
    path = common / "info" / "exclude"
    line = f"/{HOME}/"
    text = path.read_text("utf-8", "surrogateescape") if path.is_file() else ""
    if line in text.splitlines():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(("" if text.endswith("\n") or not text else "\n") + line + "\n")
    return True


def toml(value: Any) -> str:
    """A text or a list of texts as TOML (whose basic strings are JSON's, but for DEL)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def render(target: str, commands: Sequence[Sequence[str]], no_checks: str | None, url: str | None) -> str:
    """A commented ``maf.toml``."""
    if commands:
        lines = "\n".join(f"    {toml(list(command))}," for command in commands)
        checks = f"commands = [\n{lines}\n]"
    else:
        checks = f"none = {toml(no_checks)}   # why there are none; the evidence says so too"
    store = f"url = {toml(public(url))}" if url else '# url = "sqlite:///.maf/maf.db"   # or postgresql://HOST/DATABASE'
    return f"""\
# maf: how agents work together in this repository. `maf config show --origin` says what holds and why.

[project]
target = {toml(target)}          # the branch that stories are merged to
# plan_files = ["docs/plans/{{story}}.md"]   # what gate 1 asks for in the story's worktree

[store]
{store}

[checks]
# Run in a fresh worktree at gates 3, 4 and 6; each is an argv list, without a shell.
{checks}
# timeout = 1800            # seconds, each command

# Who may change what; gate 2 refuses a diff outside. A domain that is not named here may change everything.
# [domains.core]
# owns = ["src/core/", "tests/core/"]
# reads = ["src/**"]
# forbidden = ["*.lock"]

# Who plays the roles: "auto" (maf itself), "human" (you, with maf's commands), "agent" (a command).
[roles.cto]
mode = "auto"
[roles.pm]
mode = "auto"
[roles.qa]
mode = "auto"

# The developers that `maf run` launches. The prompt comes on stdin.
# [[agents]]
# id = "dev"
# command = ["claude", "-p", "--permission-mode", "acceptEdits"]
# count = 4

[run]
agents = 4                  # at once
max_attempts = 3            # then a story is failed
# timeout = 3600            # seconds, each attempt
"""
