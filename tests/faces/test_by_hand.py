"""The flow by hand, as the contract of the commands has it, on both stores; and what people do instead of it."""

import shlex

import pytest

from orchestrator.git import Repository
from orchestrator.service.context import Context
from orchestrator.store import open_store
from tests.support.invariants import assert_invariants

SESSION = """
maf init
maf agent register cto --role cto
maf agent register pm --role pm
maf agent register dev-1 --role dev --domain core          # without --domain it takes any
maf agent register qa-1 --role qa
maf wave add W1 --name "First wave"                      # --after W0 for a wave that waits
maf story add S-1 --wave W1 --title "Add a parser" --domain core --criteria "parses dates" --criteria "refuses junk"   # --after S-0
maf story approve S-1 --agent cto
maf wave start W1 --agent pm
maf story assign S-1 --to dev-1 --agent pm                # or: maf story next --agent dev-1
maf signal inbox --agent dev-1                            # story_assigned
maf story start S-1 --agent dev-1                         # branch and worktree are ready; says where
maf story advance S-1 --agent dev-1                       # gate 1 -> 2
COMMIT
maf story advance S-1 --agent dev-1                       # gate 2 -> 3
maf story submit S-1 --agent dev-1                        # gate 3 -> 4, ready_for_qa
maf qa pass S-1 --agent qa-1                              # checks run afresh; or: maf qa reject S-1 --agent qa-1 --finding "…"
maf review accept S-1 --agent pm
maf merge S-1 --agent cto                                 # integration, then the merge commit
maf signal send help_needed --agent dev-1 --payload '{"question": "which date formats?"}'
maf signal ack ID --agent pm ; maf signal done ID --agent pm
"""  # noqa: E501 - as it stands


@pytest.fixture
def project(bare, store_url, monkeypatch):
    """A repository with a check, and no maf yet."""
    monkeypatch.setenv("MAF_DB", store_url)
    (bare.root / "Makefile").write_text("test:\n\tgrep -q project README\n")
    bare.git("add", "-A")
    bare.git("commit", "-q", "-m", "A check")
    bare.url = store_url
    return bare


def commit(maf, worktree, name="parser.txt", text="a parser\n"):
    (worktree / name).write_text(text)
    maf.git("add", "-A", cwd=worktree)
    maf.git("commit", "-q", "-m", f"Work on {name}", cwd=worktree)


def test_the_session_works_as_it_stands(project):
    maf, worktree, said = project, project.root / ".maf/worktrees/S-1", {}
    for line in SESSION.strip().splitlines():
        if line == "COMMIT":
            commit(maf, worktree)
            continue
        for one in line.split(" ; "):
            args = shlex.split(one, comments=True)[1:]
            if "ID" in args:
                args[args.index("ID")] = said["signal send help_needed"]["id"]
            said[" ".join(args[:3]) if args[0] == "signal" else " ".join(args[:2])] = maf.ok(*args, "--json").data
    assert said["story start"]["worktree"] == str(worktree)
    assert said["story start"]["branch"] == "feature/S-1"
    assert [s["signal_type"] for s in said["signal inbox --agent"]["pending"]][-1] == "story_assigned"
    assert maf.git("show", "main:parser.txt") == "a parser"
    merge = maf.git("log", "-1", "--format=%P%n%B", "main")
    assert len(merge.splitlines()[0].split()) == 2
    assert all(f"Gate-{gate}: " in merge for gate in range(8))
    assert (maf.root / "parser.txt").exists(), "a clean checkout on the target follows"
    assert maf.ok("story", "show", "S-1", "--json").data["status"] == "completed"
    shown = maf.ok("story", "show", "S-1").out.splitlines()
    tested = {line.split("  ")[2]: line for line in shown if "exit 0" in line and " s, at " in line}
    assert {"3 → 4", "4 → 5", "6 → 7"} <= set(tested), "the gates show the evidence of their checks"
    assert maf.ok("wave", "list", "--json").data[0]["status"] == "completed"
    with open_store(maf.url) as store, Repository.open(maf.root) as repository:
        assert_invariants(Context(store), repository, "main")
    healthy = maf.ok("doctor", "--json").data
    assert healthy["healthy"]
    assert len(healthy["findings"]) > 17


def test_a_solo_developer_names_nobody_but_the_dev(project):
    maf = project
    maf.ok("init")
    maf.ok("wave", "add", "W1", "--name", "First")
    maf.ok("story", "add", "S-1", "--wave", "W1", "--title", "t", "--domain", "core", "--criteria", "c")
    maf.ok("story", "approve", "S-1")
    maf.ok("wave", "start", "W1")
    maf.ok("agent", "register", "dev-1", "--role", "dev")
    env = {"MAF_AGENT": "dev-1"}
    maf.ok("story", "next", env=env)
    worktree = maf.root / ".maf/worktrees/S-1"
    maf.ok("story", "start", "S-1", env=env)
    # From inside the worktree it is the main project's store and settings.
    maf.ok("story", "advance", "S-1", env=env, cwd=worktree)
    commit(maf, worktree)
    maf.ok("story", "advance", "S-1", env=env, cwd=worktree)
    maf.ok("story", "submit", "S-1", env=env, cwd=worktree)
    maf.ok("qa", "reject", "S-1", "--finding", "no tests")
    assert "no tests" in maf.ok("kickstart", "dev", env=env).out
    commit(maf, worktree, "test.txt")
    maf.ok("story", "advance", "S-1", env=env, cwd=worktree)
    maf.ok("story", "submit", "S-1", env=env, cwd=worktree)
    maf.ok("qa", "pass", "S-1")
    maf.ok("review", "accept", "S-1")
    maf.ok("merge", "S-1")
    roles = {a["agent_id"]: a["agent_type"] for a in maf.ok("agent", "list", "--json").data}
    assert roles == {"cto": "cto", "pm": "pm", "qa": "qa", "dev-1": "dev"}


def test_qa_pass_with_failing_checks_is_exit_1_and_keeps_the_evidence(board):
    maf = board
    maf.git("branch", "feature/S-1", "main")
    tip = maf.git("rev-parse", "main")
    (maf.root / "maf.toml").write_text('[checks]\ncommands = [["git", "no-such-command"]]\n')
    maf.ok("qa", "reject", "S-1", "--finding", "again", "--agent", "qa-1")
    assert maf("qa", "pass", "S-1", "--agent", "qa-1").code == 1
    assert tip == maf.git("rev-parse", "main")
    reports = maf.ok("story", "show", "S-1", "--json").data["qa_reports"]
    assert [r["verdict"] for r in reports] == ["fail"]


def test_failing_checks_leave_the_story_with_qa(project):
    maf = project
    maf.ok("init")
    for args in (
        ["wave", "add", "W1", "--name", "First"],
        ["story", "add", "S-1", "--wave", "W1", "--title", "t", "--domain", "core", "--criteria", "c"],
        ["story", "approve", "S-1"], ["wave", "start", "W1"], ["agent", "register", "dev-1", "--role", "dev"],
        ["story", "assign", "S-1", "--to", "dev-1"], ["story", "start", "S-1", "--agent", "dev-1"],
        ["story", "advance", "S-1", "--agent", "dev-1"],
    ):  # fmt: skip
        maf.ok(*args)
    worktree = maf.root / ".maf/worktrees/S-1"
    commit(maf, worktree)
    maf.ok("story", "advance", "S-1", "--agent", "dev-1")
    maf.ok("story", "submit", "S-1", "--agent", "dev-1")
    toml = (maf.root / "maf.toml").read_text()
    (maf.root / "maf.toml").write_text(toml.replace('["make", "test"]', '["make", "no-such-target"]'))
    result = maf("qa", "pass", "S-1", "--json")
    assert (result.code, result.error["code"]) == (1, "gate_failed")
    story = maf.ok("story", "show", "S-1", "--json").data
    assert (story["status"], story["current_gate"]) == ("qa_review", 4)
    assert story["qa_reports"][-1]["verdict"] == "fail"
    assert story["qa_reports"][-1]["metadata"]


def test_a_role_that_an_agent_plays_has_to_be_named(board):
    (board.root / "maf.toml").write_text('[roles.pm]\nmode = "agent"\ncommand = ["pm"]\n[roles.cto]\nid = "boss"\n')
    refused = board("wave", "pause", "W1")
    assert refused.code == 1
    assert "--agent" in refused.err
    board.ok("wave", "pause", "W1", "--agent", "pm")
    board.ok("story", "add", "S-7", "--wave", "W1", "--title", "t", "--domain", "d", "--criteria", "c")
    board.ok("story", "approve", "S-7")
    assert board.ok("agent", "show", "boss", "--json").data["agent_type"] == "cto"


def test_a_persons_role_comes_back_after_its_session_has_ended(board):
    board.ok("agent", "end", "pm")
    board.ok("wave", "pause", "W1")
    assert board.ok("agent", "show", "pm", "--json").data["epoch"] == 2


def test_a_key_makes_a_repeat_do_nothing(board):
    send = ["signal", "send", "blocked", "--payload", '{"reason": "x"}', "--agent", "dev-2", "--key", "k1", "--json"]
    assert board.ok(*send).data["id"] == board.ok(*send).data["id"]
    other = board(*send[:4], '{"reason": "y"}', *send[5:])
    assert (other.code, "another request" in other.error["message"]) == (1, True)


def test_stop_and_resume(board):
    stopped = board.ok("stop", "--agent", "dev-2", "--reason", "in circles", "--json").data
    assert stopped["stopped"] == ["dev-2"]
    assert board.ok("story", "show", "S-4", "--json").data["status"] == "ready"
    assert "STOPPED agent dev-2: in circles" in board.ok("status").out
    board.ok("resume")
    assert board.ok("status", "--json").data["stops"] == []


def test_history_tells_the_state_as_it_was(board):
    before = board.ok("history", "--limit", "1", "--json").data[0]["time"]
    board.ok("wave", "pause", "W1")
    then = board.ok("history", "--at", before, "--json").data
    assert {w["wave_code"]: w["status"] for w in then["waves"]} == {"W1": "active", "W2": "planning"}
    assert board.ok("wave", "show", "W1", "--json").data["status"] == "paused"
    assert {r["what"] for r in board.ok("history", "S-1", "--json").data} >= {"story.approve", "story.submit"}
    one = board.ok("history", "S-1", "--at", before, "--json").data
    assert [s["story_code"] for s in one["stories"]] == ["S-1"]


PLAN = """\
maf: 1
waves:
  - code: P1
    name: Parsers
    stories:
      - {code: A-1, title: Dates, domain: core, criteria: [parses ISO dates]}
      - {code: A-2, title: Times, domain: core, criteria: [parses times], after: [A-1]}
  - code: P2
    name: Interface
    after: [P1]
    stories:
      - {code: B-1, title: Show dates, domain: ui, criteria: [shows them], after: [A-2]}
"""


def test_a_plan_goes_in_whole_once(maf, dumped):
    (maf.root / "plan.yaml").write_text(PLAN)
    empty = dumped(maf.url)
    assert maf.ok("plan", "check", "plan.yaml", "--json").data["stories"] == 3
    assert maf.ok("plan", "import", "plan.yaml", "--dry-run", "--json").data["dry_run"]
    assert dumped(maf.url) == empty
    done = maf.ok("plan", "import", "plan.yaml", "--json").data
    assert (done["waves"], done["stories"], done["dependencies"]) == (2, 3, 2)
    shown = maf.ok("plan", "show", "--json").data
    assert [(s["code"], s["wave"], s["status"], s["depends_on"]) for s in shown["stories"]] == [
        ("A-1", "P1", "backlog", []), ("A-2", "P1", "backlog", ["A-1"]), ("B-1", "P2", "backlog", ["A-2"]),
    ]  # fmt: skip
    assert [(w["code"], w["after"]) for w in shown["waves"]] == [("P1", []), ("P2", ["P1"])]
    full = dumped(maf.url)
    for more in ([], ["--dry-run"]):
        again = maf("plan", "import", "plan.yaml", *more)
        assert (again.code, "already a wave 'P1'" in again.err, "already a story 'B-1'" in again.err) == (2, True, True)
    assert dumped(maf.url) == full


def test_a_wave_is_paused_failed_and_taken_up_again(board):
    assert board.ok("wave", "pause", "W1", "--json").data["status"] == "paused"
    assert board("story", "next", "--agent", "dev-1").code == 3
    board.ok("wave", "resume", "W1")
    board.ok("story", "depend", "S-6", "--after", "S-4")
    assert [d["story_code"] for d in board.ok("story", "show", "S-6", "--json").data["depends_on"]] == ["S-2", "S-4"]
    board.ok("wave", "fail", "W1", "--reason", "the customer left")
    assert {s["status"] for s in board.ok("story", "list", "--wave", "W1", "--json").data} == {"failed"}
    board.ok("wave", "retry", "W1", "--without", "S-3,S-5")
    stories = {s["story_code"]: s["status"] for s in board.ok("story", "list", "--wave", "W1", "--json").data}
    assert stories == {"S-1": "ready", "S-2": "ready", "S-4": "ready"}
    board.ok("story", "fail", "S-2", "--reason", "no")
    board.ok("story", "reopen", "S-2")
    board.ok("story", "assign", "S-2", "--to", "dev-1")
    assert board.ok("story", "release", "S-2", "--reason", "later", "--json").data["status"] == "ready"


def test_a_question_is_answered(board):
    asked = board.ok(
        "signal", "send", "blocked", "--agent", "dev-2", "--payload", "-", "--json", stdin='{"reason": "which?"}'
    )
    assert board.ok("agent", "show", "dev-2", "--json").data["status"] == "blocked"
    waiting = board.ok("signal", "inbox", "--agent", "pm", "--json").data["pending"]
    assert asked.data["id"] in [s["id"] for s in waiting]
    answer = [
        "signal",
        "send",
        "answer",
        "--reply-to",
        asked.data["id"],
        "--payload",
        '{"text": "the first"}',
        "--json",
    ]
    assert board.ok(*answer).data["to_agent"] == "dev-2"
    assert board.ok("agent", "show", "dev-2", "--json").data["status"] == "working"
    board.ok("signal", "done", asked.data["id"], "--agent", "pm")
    assert board.ok("signal", "show", asked.data["id"], "--json").data["status"] == "processed"
    assert board("signal", "ack", asked.data["id"], "--agent", "pm").code == 1


@pytest.mark.parametrize(
    "ends",
    [
        ("stop", "--all", "--reason", "wrong branch"), ("agent", "end", "dev-1", "--agent", "pm"),
        ("wave", "fail", "W1", "--reason", "cancelled", "--agent", "pm"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_takes_a_story_from_its_dev_pins_its_work(project, ends):
    maf = project
    for line in SESSION.splitlines()[1:13]:
        words = shlex.split(line, comments=True)[1:]
        maf.ok(*words)
    path = maf.root / ".maf" / "worktrees" / "S-1"
    (path / "half.py").write_text("half = 1\n")
    maf.ok(*ends)
    pinned = maf.git("for-each-ref", "--format=%(refname)", "refs/maf").split()
    assert any("half.py" in maf.git("ls-tree", "-r", "--name-only", ref) for ref in pinned)
