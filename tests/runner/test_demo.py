"""``maf demo``, for real, on both stores: what the store and the repository say afterwards."""

import json
import subprocess
from pathlib import Path

import pytest

from orchestrator.demo import sample, stage
from orchestrator.demo.agent import MAIN, keep_both, register
from orchestrator.demo.work import WORK
from orchestrator.domain.errors import InvalidInput
from orchestrator.git import Repository
from orchestrator.service import invariants, stories, waves
from orchestrator.service.context import Context
from orchestrator.store import open_store
from tests.support.terminal import MAF, environment, in_terminal, leftovers, piped

CONFLICT_PAIR = {"L-6", "L-7"}


def git(root, *args):
    return subprocess.run(["git", *args], cwd=root, check=True, capture_output=True, text=True).stdout


def expected_tree():
    files = {**sample.FILES, "plan.yaml": sample.PLAN}
    for work in WORK.values():
        files |= work.files
    for work in WORK.values():
        if work.command:
            files[str(MAIN)] = register(files[str(MAIN)], work.command)
    return files


def holds(root, url):
    """Every fact that the demo promises, asked of the store and of git."""
    with open_store(url) as store, Repository.open(root) as repo:
        ctx = Context(store)
        assert [(w["wave_code"], w["status"]) for w in waves.listing(ctx)] == [
            ("W1", "completed"), ("W2", "completed"), ("W3", "completed"),
        ]  # fmt: skip
        told = {s["story_code"]: stories.show(ctx, s["story_code"]) for s in stories.listing(ctx)}
        assert invariants.failed(invariants.check(ctx, repo, sample.TARGET)) == []
    assert {(s["status"], s["current_gate"]) for s in told.values()} == {("completed", 8)}
    assert len(told) == 10
    assert {s["domain"] for s in told.values()} == {"core", "reports", "cli"}

    rejected = [(code, r["findings"]) for code, s in told.items() for r in s["qa_reports"] if r["verdict"] == "fail"]
    assert [code for code, _ in rejected] == ["L-5"]
    assert "rates.csv" in json.dumps(rejected[0][1])

    refused = [
        (c, g) for c, s in told.items() for g in s["gates"] if g["transition_type"] == "reject" and g["from_gate"] > 4
    ]
    assert len(refused) == 1
    ((conflicting, gate),) = refused
    assert conflicting in CONFLICT_PAIR
    assert gate["metadata"]["conflict"] == [str(MAIN)]

    runs = {code: [(r["agent_id"], r["outcome"], r["exit_code"]) for r in s["runs"]] for code, s in told.items()}
    died = [(code, *run) for code, of in runs.items() for run in of if run[1:] != ("done", 0)]
    assert [(code, outcome, exit_code) for code, _, outcome, exit_code in died] == [("L-9", "failed", -9)]
    first, second = (agent for agent, *_ in runs["L-9"])
    assert first != second
    assert {code: len(of) for code, of in runs.items() if len(of) > 1} == {"L-5": 2, conflicting: 2, "L-9": 2}
    assert {agent for of in runs.values() for agent, *_ in of} == {"core-1", "reports-1", "cli-1", "any-1"}

    # What the dead agent had committed is on the target, in its name, below what the other one added.
    by = git(root, "log", "--format=%an", "--no-merges", "main", "--", "ledger/reports/budget.py").split()
    assert by == [first]
    assert git(root, "log", "--format=%an", "--no-merges", "main", "--", "tests/reports/test_budget.py").split() == [
        second
    ]

    tracked = set(git(root, "ls-tree", "-r", "--name-only", "main").split())
    want = expected_tree()
    assert tracked == {*want, "maf.toml"}
    assert {path: git(root, "show", f"main:{path}") for path in want} == want
    assert git(root, "symbolic-ref", "HEAD").strip() == "refs/heads/main"
    assert git(root, "status", "--porcelain", "--untracked-files=all") == ""
    assert git(root, "rev-list", "--merges", "--first-parent", "--count", "main").strip() == "10"
    assert leftovers(root) == []


@pytest.mark.timeout(300)
def test_in_a_terminal_with_a_store_of_its_own(tmp_path, new_sqlite_url):
    new_sqlite_url()  # counts this test among SQLite's
    code, output = in_terminal([MAF, "demo", "look"], cwd=tmp_path)
    root = tmp_path / "look"
    assert code == 0, output
    holds(root, f"sqlite:///{root}/.maf/maf.db")
    for said in ("QA rejected L-5", "rates.csv", "had a conflict with main", "was killed by signal 9 on L-9"):
        assert said in output
    assert "20 tests, checks passed" in output
    assert f"cd {root.name}" in output


@pytest.mark.timeout(300)
def test_for_a_program_with_a_store_elsewhere(tmp_path, postgres_url):
    root = tmp_path / "look"
    done = piped([MAF, "demo", str(root), "--json", "--db", postgres_url], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    holds(root, postgres_url)
    answer = json.loads(done.stdout)
    assert (answer["maf"], answer["ok"]) == (1, True)
    data = answer["data"]
    assert data["ok"]
    assert data["attempts"] == 13
    assert data["checks"]["tests"] == 20
    assert [(d["story"], d["signal"]) for d in data["deaths"]] == [("L-9", 9)]
    assert data["tip"] == git(root, "rev-parse", "main").strip()
    assert "3 of 3 waves completed" in done.stderr.splitlines()[-1]
    assert not (root / ".maf" / "maf.db").exists()

    again = piped([MAF, "demo", str(tmp_path / "second"), "--db", postgres_url], cwd=tmp_path)
    assert again.returncode == 1
    assert "holds a plan already" in again.stderr
    assert not (tmp_path / "second").exists()


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("precious")
    done = piped([MAF, "demo", str(full)], cwd=tmp_path)
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert [path.name for path in full.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("given", "error"), [("a-file", InvalidInput), ("a-file/below", InvalidInput), ("a\0b", InvalidInput)]
)
def test_what_cannot_be_a_folder_is_bad_input(tmp_path, given, error):
    (tmp_path / "a-file").write_text("")
    with pytest.raises(error) as caught:
        stage.folder(given, tmp_path)
    assert caught.value.hint


def test_without_a_folder_it_takes_the_first_free_name(tmp_path):
    assert [stage.folder(None, tmp_path).name for _ in range(3)] == ["maf-demo", "maf-demo-2", "maf-demo-3"]


def test_another_projects_settings_are_not_heard(tmp_path, sqlite_url, monkeypatch):
    monkeypatch.setenv("MAF_DB", sqlite_url)
    monkeypatch.setenv("MAF_AGENT", "somebody")
    root = stage.folder("look", tmp_path)
    with stage.build(root, None) as desk:
        assert [w["wave_code"] for w in waves.listing(desk.ctx)] == ["W1", "W2", "W3"]
        assert desk.location.store()[0] == f"sqlite:///{root}/.maf/maf.db"
    assert not Path(sqlite_url.removeprefix("sqlite:///")).exists()


def test_commands_come_out_the_same_in_either_order_and_twice():
    text = sample.FILES[str(MAIN)]
    one = register(register(text, "largest"), "categories")
    assert one == register(register(text, "categories"), "largest") == register(one, "largest")
    assert one.count("largest") == 4


@pytest.mark.parametrize("style", ["merge", "diff3"])
def test_a_conflict_is_resolved_to_what_both_wanted(tmp_path, style):
    text = sample.FILES[str(MAIN)]
    for name, content in {
        "base": text,
        "ours": register(text, "largest"),
        "theirs": register(text, "categories"),
    }.items():
        (tmp_path / name).write_text(content)
    option = ["--diff3"] if style == "diff3" else []
    merged = subprocess.run(
        ["git", "merge-file", "-p", *option, "ours", "base", "theirs"], cwd=tmp_path, capture_output=True, text=True,
        env=environment(),
    )  # fmt: skip
    assert merged.returncode > 0
    assert "<<<<<<<" in merged.stdout
    assert keep_both(merged.stdout) == register(register(text, "largest"), "categories")
