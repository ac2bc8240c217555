"""``maf init``: finds the checks, writes once, changes nothing the second time."""

import json

import pytest

from orchestrator.bootstrap.init import likely_checks, public, render, toml
from orchestrator.bootstrap.locate import read_toml
from orchestrator.git import Repository

LAYOUTS = {
    "pytest in pyproject": ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, ["python3", "-m", "pytest", "-q"]),
    "tests alone": ({"tests/test_a.py": "def test_a(): pass\n"}, ["python3", "-m", "pytest", "-q"]),
    "unittest": (
        {"tests/test_a.py": "import unittest\n"},
        ["python3", "-m", "unittest", "discover", "-s", "tests", "-t", "."],
    ),
    "uv": ({"pytest.ini": "[pytest]\n", "uv.lock": ""}, ["uv", "run", "python3", "-m", "pytest", "-q"]),
    "npm": ({"package.json": '{"scripts": {"test": "jest"}}'}, ["npm", "test"]),
    "pnpm": ({"package.json": '{"scripts": {"test": "jest"}}', "pnpm-lock.yaml": ""}, ["pnpm", "test"]),
    "cargo": ({"Cargo.toml": ""}, ["cargo", "test"]),
    "go": ({"go.mod": ""}, ["go", "test", "./..."]),
    "make test": ({"Makefile": "all:\n\ntest: all\n\ttrue\n"}, ["make", "test"]),
    "make check": ({"Makefile": "check:\n\ttrue\n"}, ["make", "check"]),
}
NOTHING = {
    "npm's default": {"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'},
    "broken package.json": {"package.json": "[1"},
    "a list": {"package.json": "[]"},
    "a variable": {"Makefile": "test := 1\n"},
    "no tests": {"src/a.py": "x = 1\n"},
}


def lay(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_likely_checks_are_found(tmp_path, layout):
    files, command = LAYOUTS[layout]
    lay(tmp_path, files)
    assert [list(f.command) for f in likely_checks(tmp_path)] == [command]


@pytest.mark.parametrize("layout", NOTHING)
def test_nothing_is_invented(bare, layout):
    lay(bare.root, NOTHING[layout])
    before = sorted(p for p in bare.root.rglob("*") if ".git/" not in str(p))
    result = bare("init")
    assert result.code == 2
    assert "--checks" in result.err
    assert "--no-checks" in result.err
    assert sorted(p for p in bare.root.rglob("*") if ".git/" not in str(p)) == before


def test_two_languages_are_both_checked(bare):
    lay(
        bare.root,
        {"tests/test_a.py": "import pytest\n", "package.json": '{"scripts": {"test": "jest"}}', "Makefile": "test:\n"},
    )
    data = bare.ok("init", "--json").data
    assert data["checks"] == [["python3", "-m", "pytest", "-q"], ["npm", "test"]]
    assert [f["because"] for f in data["found"]] == ["tests/test_a.py", "scripts.test in package.json"]


def test_it_is_idempotent_and_leaves_the_users_files_alone(bare):
    lay(bare.root, {"Makefile": "test:\n", ".gitignore": "*.log\n"})
    said = bare.ok("init").out
    assert "Next:" in said
    assert "maf plan import" in said
    first = (bare.root / "maf.toml").read_text()
    assert bare.git("status", "--porcelain", "--ignored").count(".maf/") == 1
    assert "?? .maf" not in bare.git("status", "--porcelain")
    assert (bare.root / ".gitignore").read_text() == "*.log\n"
    exclude = bare.root / ".git" / "info" / "exclude"
    before = exclude.read_text()
    bare.ok("wave", "add", "W1", "--name", "n")
    again = bare.ok("init", "--json").data
    assert (again["made_file"], again["made_store"], again["ignored"]) == (False, False, False)
    assert ((bare.root / "maf.toml").read_text(), exclude.read_text()) == (first, before)
    assert len(bare.ok("wave", "list", "--json").data) == 1
    (bare.root / ".maf" / "maf.db").unlink()
    assert bare.ok("init", "--json").data["made_store"]


def test_the_file_it_writes_says_what_was_given(bare):
    bare.git("branch", "trunk")
    bare.ok(
        "init",
        "--target",
        "trunk",
        "--checks",
        "pytest -q",
        "--checks",
        "sh -c 'a \"b\"'",
        "--db",
        "sqlite:///other.db",
    )
    values = bare.ok("config", "show", "--json").data["values"]
    assert values["project.target"] == "trunk"
    assert values["checks.commands"] == [["pytest", "-q"], ["sh", "-c", 'a "b"']]
    assert values["store.url"] == f"sqlite:///{bare.root}/other.db"
    assert (bare.root / "other.db").exists()
    assert bare.ok("status").code == 0


def test_no_checks_says_why(bare):
    bare.ok("init", "--no-checks", 'a "book"\nof tables')
    assert bare.ok("config", "show", "--json").data["values"]["checks.none"] == 'a "book"\nof tables'
    assert "none: a" in bare.ok("doctor").out


def test_what_the_file_says_otherwise_is_refused(bare):
    bare.ok("init", "--checks", "true")
    bare.git("branch", "trunk")
    for more in (["--target", "trunk"], ["--checks", "false"], ["--no-checks", "why"]):
        result = bare("init", *more)
        assert (result.code, "maf.toml" in result.err) == (1, True), result
    assert bare("init", "--checks", "true", "--target", "main").code == 0


@pytest.mark.parametrize(
    "more", [["--checks", "a 'b"], ["--checks", ""], ["--no-checks", " "], ["--checks", "a", "--no-checks", "b"],
             ["--checks", "a", "--target", "nowhere"], ["--checks", "a", "--db", "mysql://x/y"]],
)  # fmt: skip
def test_a_wrong_call_writes_nothing(bare, more):
    result = bare("init", *more)
    assert result.code in (2, 3), result
    assert not (bare.root / "maf.toml").exists()
    assert not (bare.root / ".maf").exists()


def test_it_needs_a_repository_with_a_commit(tmp_path, bare):
    for name, made in (("plain", False), ("empty", True)):
        folder = tmp_path / name
        folder.mkdir()
        if made:
            bare.git("init", "-q", cwd=folder)
        result = bare("init", "--no-checks", "x", cwd=folder)
        assert result.code in (1, 3)
        assert "git" in result.err.split("hint:")[1]
        assert sorted(p.name for p in folder.iterdir() if p.name != ".git") == []


def test_from_a_linked_worktree_it_is_the_main_project(bare, tmp_path):
    linked = tmp_path / "linked"
    bare.git("worktree", "add", "-q", "--detach", str(linked))
    bare.ok("init", "--no-checks", "x", cwd=linked)
    assert (bare.root / "maf.toml").exists()
    assert not (linked / "maf.toml").exists()


def test_passwords_are_not_written_down():
    for url, shown in (
        ("postgresql://u:secret@h:5432/d?sslmode=require", "postgresql://u@h:5432/d?sslmode=require"),
        ("postgresql://h/d?user=u&password=secret", "postgresql://h/d?user=u"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
    ):
        assert public(url) == shown
        assert "secret" not in render("main", [["true"]], None, url)


def test_texts_are_toml_whatever_is_in_them(tmp_path):
    for text in ('"', "\\", "\x7f", "\x1f", "é\u2028", "a\nb", "'''", "\U0001f600"):
        (tmp_path / "x.toml").write_text(f"a = {toml(text)}\n", "utf-8")
        assert read_toml(tmp_path / "x.toml")["a"] == text
        assert json.loads(toml([text])) == [text] or text == "\x7f"


def test_doctor_finds_what_is_missing(bare):
    bare.ok("init", "--checks", "no-such-program-anywhere --x")
    data = bare.ok("doctor", "--json").data
    states = {(f["name"], f["state"]) for f in data["findings"]}
    assert ("program", "warning") in states
    assert data["healthy"]
    (bare.root / "maf.toml").write_text("[checks]\ncommandos = 1\n")
    assert bare("doctor").code == 1
    assert "did you mean 'commands'?" in bare("doctor").out


def test_doctor_says_that_a_checkout_still_shows_what_was_before_a_merge(bare):
    """A commit there would take the merged work out again, and no message but the merge's own had said so."""
    bare.ok("init", "--no-checks", "none yet")
    assert [f for f in bare.ok("doctor", "--json").data["findings"] if f["name"] == "checkout"] == []
    old = bare.git("rev-parse", "main")
    bare.git("checkout", "-q", "-b", "work")
    lay(bare.root, {"merged.txt": "work\n", "mine.txt": "one\n"})
    bare.git("add", ".")
    bare.git("commit", "-q", "-m", "work")
    bare.git("checkout", "-q", "main")
    lay(bare.root, {"mine.txt": "mine\n"})
    bare.git("add", "mine.txt")
    bare.git("update-ref", "refs/heads/main", "work")
    with Repository.open(bare.root) as repository:
        assert repository.update_checkout("main", old, repository.tip("work")).kind == "left"
    [found] = [f for f in bare.ok("doctor", "--json").data["findings"] if f["name"] == "checkout"]
    assert found["state"] == "warning"
    assert old[:12] in found["text"]
    assert f"read-tree -m -u {old} HEAD" in found["hint"]


def test_doctor_without_a_store_counts_no_invariants(bare):
    gone = bare("doctor")
    assert gone.code == 1
    assert "maf init" in gone.out
    assert "invariants hold" not in gone.out
