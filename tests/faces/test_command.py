"""The command as such: help, envelopes, exit codes, character sets, hostile text, pipes, start-up."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from orchestrator.cli import docs, main
from orchestrator.cli.text import Screen, clean, cut, width
from orchestrator.service import sessions, stories, waves
from orchestrator.service.context import Context
from orchestrator.store import open_store

ROOT = Path(__file__).parents[2]
HOSTILE = "\x1b[31mred\x1b]0;title\x07\u202emoc\u2066\x00\x9b31m\u200b"
EVERY = [(path, command) for path, command, _ in docs.commands(click.Context(main.root, info_name="maf"), main.root)]

READS = """
story list
wave list
wave show W1
story show S-1
agent list
agent show dev-1
signal list
signal types
signal inbox --agent pm
status
history
plan show
config show
db info
db check
kickstart qa
completion zsh
"""

CONTRACT = """
init status plan-import plan-check plan-show wave-add wave-list wave-show wave-start wave-pause wave-resume wave-status
wave-fail wave-retry story-add story-list story-show story-approve story-assign story-next story-start story-advance
story-submit story-release story-fail story-reopen story-depend qa-pass qa-reject review-accept review-return merge
signal-send signal-inbox signal-ack signal-done signal-show signal-types signal-list agent-register agent-heartbeat
agent-list agent-show agent-end kickstart history stop resume doctor config-show completion db-info db-upgrade db-check
db-backup db-query db-export
"""


def test_every_command_of_the_contract_is_there():
    assert set(CONTRACT.split()) <= {path.removeprefix("maf ").replace(" ", "-") for path, _ in EVERY}


def test_every_command_says_what_it_does_with_an_example(bare):
    for path, command in EVERY:
        shown = bare.ok(*path.split()[1:], "--help").out
        assert f"Usage: {path}" in shown, path
        assert command.help, path
        assert command.help.split("\n")[0] in re.sub(r"\n\s+", " ", shown), path
        assert command.examples, path
        assert all(path in example for example in command.examples), command.examples
        assert all(option in shown for option in ("--json", "--db", "--agent")), path
        for param in command.params:
            assert isinstance(param, click.Argument) or param.help, f"{path}: {param.name} has no help"
        known = {name for param in command.get_params(click.Context(command)) for name in param.opts}
        for example in command.examples:
            used = set(re.findall(r"(?<=\s)--[a-z-]+", example.partition("&&")[0]))
            assert used <= known, example


def test_the_help_of_maf_has_every_command_in_sections(bare):
    shown = bare.ok("--help").out
    for title, section in main.SECTIONS.items():
        assert f"{title}:" in shown
        assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in section)
    assert bare().code == 2
    assert re.match(r"maf \d", bare.ok("--version").out)
    assert bare("story").code == 2


def test_no_list_of_commands_cuts_a_sentence(bare):
    for group in ("plan", "wave", "story", "qa", "review", "signal", "agent", "db", "config"):
        assert "..." not in bare.ok(group, "--help").out.replace("[OPTIONS] COMMAND [ARGS]...", ""), group


def test_the_reference_is_that_of_the_commands():
    assert (ROOT / "docs" / "commands.md").read_text() == docs.document(), "run: python -m orchestrator.cli.docs"


def test_json_is_one_document_wherever_the_option_stands(board):
    for args in (["--json", "story", "list"], ["story", "--json", "list"], ["story", "list", "--json"]):
        result = board.ok(*args)
        assert [s["story_code"] for s in result.data] == [f"S-{n}" for n in range(1, 7)]
        assert result.err == ""
    for line in READS.strip().splitlines():
        assert board.ok(*line.split(), "--json").data is not None
        assert board.ok(*line.split()).out.strip()


def test_plan_show_has_the_fields_of_the_contract(board):
    data = board.ok("plan", "show", "--json").data
    assert [(w["code"], w["after"]) for w in data["waves"]] == [("W1", []), ("W2", ["W1"])]
    last = data["stories"][-1]
    assert (last["code"], last["wave"], last["status"], last["depends_on"]) == ("S-6", "W2", "backlog", ["S-2"])


def test_wrong_usage_is_json_too(bare):
    for args in (["nothing"], ["story", "add"], ["story", "list", "--wat"], ["signal", "list", "--limit", "x"]):
        result = bare(*args, "--json")
        assert (result.code, result.error["code"], bool(result.error["hint"])) == (2, "usage", True)
    plain = bare("story", "list", "--", "--json")
    assert (plain.code, plain.out) == (2, ""), "after -- it is no option"


def test_an_error_inside_is_one_line_and_exit_70(board, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("unforeseen\nsecond line")

    monkeypatch.setattr(stories, "listing", broken)
    result = board("story", "list")
    assert (result.code, result.out) == (70, "")
    assert "RuntimeError: unforeseen" in result.err
    assert "MAF_DEBUG=1" in result.err
    assert "Traceback" not in result.err
    assert board("story", "list", "--json").error["code"] == "internal"
    with pytest.raises(RuntimeError):
        board("story", "list", env={"MAF_DEBUG": "1"})
    monkeypatch.setattr(stories, "listing", lambda *_a, **_k: (_ for _ in ()).throw(KeyboardInterrupt))
    assert board("story", "list").code == 130


def test_empty_states_say_what_to_do_next(maf):
    for args in (["status"], ["wave", "list"], ["story", "list"], ["plan", "show"], ["agent", "list"]):
        assert "Next:" in maf.ok(*args).out
    assert maf.ok("signal", "list").out
    assert maf.ok("db", "query", "SELECT * FROM waves").out == "No rows.\n"


@pytest.fixture
def hostile(board):
    """Text as no command accepts it, but as another program may have written it."""
    with open_store(board.url) as store:
        user = Context(store)
        stories.add(user, "S-7", "W1", title="日本語 ✓ naïve", domain="core", description=HOSTILE.replace("\x00", ""),
                    criteria=[HOSTILE.replace("\x00", "")])  # fmt: skip
        stories.approve(user.acting("cto"), "S-7", notes=HOSTILE.replace("\x00", ""))
        waves.add(user, "W3", name="Ünïcode", description="\x1b[2J")
        sessions.end(user, "dev-3", reason="\x1b[31m")
    return board


def test_hostile_text_reaches_no_terminal(hostile):
    for args in (
        ["story", "show", "S-7"], ["story", "list"], ["wave", "show", "W3"], ["history", "--limit", "500"],
        ["agent", "show", "dev-3"], ["status"], ["plan", "show"], ["db", "query", "SELECT * FROM stories"],
        ["db", "query", "--search", "naïve"], ["wave", "show", HOSTILE], [HOSTILE], ["completion", HOSTILE],
        ["story", "approve", "S-1", "--agent", HOSTILE], ["story", "list", "--status", HOSTILE],
        ["plan", "import", "\x1b[31m.yaml"], ["--db", "x\x1b[31m", "status"],
    ):  # fmt: skip
        result = hostile(*args)
        text = result.out + result.err
        bad = [c for c in text if not c.isprintable() and c != "\n"]
        assert not bad, (args, bad, text)
    assert "\\x1b[31mred" in hostile.ok("story", "show", "S-7").out
    assert hostile.ok("story", "show", "S-7", "--json").data["description"] == HOSTILE.replace("\x00", "")


def test_a_stream_without_unicode_gets_all_of_it_as_ascii(hostile):
    for args in (["story", "list"], ["story", "show", "S-7"], ["wave", "list"], ["story", "show", "nope"], ["--help"]):
        result = hostile(*args, encoding="ascii")
        assert result.code in (0, 3)
    assert "\\u65e5\\u672c\\u8a9e" in hostile.ok("story", "list", encoding="ascii").out
    as_json = hostile.ok("story", "show", "S-7", "--json", encoding="ascii")
    assert as_json.data["title"] == "日本語 ✓ naïve"


def test_colours_are_for_terminals_that_want_them(board):
    plain = board.ok("story", "list").out
    assert "\x1b[" not in plain
    assert "\x1b[" in board.ok("story", "list", tty=True).out
    for how in ({"env": {"NO_COLOR": "1"}}, {"env": {"TERM": "dumb"}}):
        assert "\x1b[" not in board.ok("story", "list", tty=True, **how).out
    assert "\x1b[" not in board.ok("story", "list", "--no-color", tty=True).out
    assert "\x1b[" in board.ok("story", "list", tty=True, env={"NO_COLOR": ""}).out, "an empty NO_COLOR does not count"


def test_tables_fit_the_terminal_and_align_wide_characters(hostile):
    shown = hostile.ok("story", "list", tty=True, env={"COLUMNS": "70", "NO_COLOR": "1"}).out
    assert all(width(line) <= 70 for line in shown.splitlines())
    assert width("日本") == 4
    assert width("e\u0301") == 1
    assert cut("日本語日本語", 7) == "日本語…"
    assert cut("short", 7) == "short"


@pytest.mark.parametrize(
    "text", ["\x1b[31m", "\x07", "\u202e", "\u2066", "\x00", "\x7f", "\x9b", "\u200b", "\ud800", "\ufeff"]
)
def test_clean_leaves_nothing_that_acts(text):
    assert clean(f"a{text}b").isprintable()
    assert clean(f"a{text}b", lines=True).isprintable()


def test_clean_keeps_what_people_write():
    for text in ("naïve 日本語 ✓ — “quoted”", "👩‍💻 family"):
        assert clean(text) == text
    assert clean("a\nb\tc") == "a b c"
    assert clean("a\nb\tc", lines=True) == "a\nb\tc"
    assert clean(None) == ""
    assert clean(7) == "7"


def test_quiet_says_only_what_was_asked_for(board):
    assert board.ok("wave", "add", "W8", "--name", "n", "-q").out == ""
    assert board.ok("-q", "wave", "list").out != ""


def test_no_output_fails_in_the_c_locale_or_a_closed_pipe(hostile):
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = hostile.process("story", "show", "S-7", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert hostile.process("story", "show", "é\udcff", env=env).returncode == 2
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT i FROM n"
    script = '{ "$@"; echo "exit $?" >&2; } | head -1'
    maf = [sys.executable, "-c", "import sys; from orchestrator.cli.main import main; sys.exit(main())"]
    piped = subprocess.run(
        ["sh", "-c", script, "sh", *maf, "db", "query", many],
        cwd=hostile.root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert piped.stdout.strip() == "I"
    assert piped.stderr == "exit 141\n"


HOT = (["signal", "inbox", "--agent", "pm"], ["story", "show", "S-1"], ["agent", "heartbeat", "--agent", "pm"],
       ["story", "list"], ["status"], ["signal", "ack", "x", "--agent", "pm"])  # fmt: skip
HEAVY = {
    "pydantic",
    "rich",
    "sqlite_utils",
    "sqlite3",
    "watchfiles",
    "yaml",
    "asyncio",
    "textual",
    "mcp",
    "importlib.metadata",
}


@pytest.mark.parametrize("args", HOT, ids=" ".join)
def test_what_agents_call_all_day_imports_little(board, args, store_kind):
    code = (
        "import sys; from orchestrator.cli.main import main; main(sys.argv[1:]); "
        "print(' '.join(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args, "--json"], cwd=board.root, capture_output=True, text=True, timeout=60
    )
    modules = set(done.stderr.split())
    heavy = HEAVY | ({"psycopg"} if store_kind == "sqlite" else {"apsw"})
    assert json.loads(done.stdout)["maf"] == 1
    assert "orchestrator.cli.main" in modules
    if store_kind == "postgres":
        heavy -= {"asyncio", "importlib.metadata"}  # psycopg's own
    assert not heavy & modules
    assert not {m for m in modules if m.startswith(("orchestrator.runner", "orchestrator.plans", "orchestrator.gates"))}


def test_a_stream_of_unknown_encoding_gets_ascii():
    stream = io.StringIO()
    Screen(stream).table(["A", "N"], [["x…", 1], ["é", 22]])
    assert stream.getvalue().isascii()
    assert stream.getvalue().splitlines()[1] == "x...   1"


def test_a_plan_says_which_stories_gate_0_will_refuse(bare, tmp_path):
    """Nobody can give a story its criteria later, so a run would wait for it without end."""
    bare.ok("init", "--no-checks", "none yet")
    plan = tmp_path / "plan.yaml"
    head = "maf: 1\nwaves:\n- code: W1\n  name: x\n  stories:\n  - {code: A, title: t, domain: d, criteria: [c]}\n"
    plan.write_text(head + "  - {code: B, title: t, domain: d}\n")
    for call in (["check", str(plan)], ["import", "--dry-run", str(plan)], ["import", str(plan)]):
        [note] = [line for line in bare.ok("plan", *call).out.splitlines() if "note:" in line]
        assert "gate 0" in note
        assert note.endswith(": B")
    refused = bare("plan", "import", str(plan))
    assert refused.code == 2
    assert "codes of its own" in refused.err


def test_an_empty_plan_is_refused_without_a_place(bare, tmp_path):
    (tmp_path / "plan.yaml").write_text("maf: 1\nwaves: []\n")
    assert bare("plan", "check", str(tmp_path / "plan.yaml")).err.startswith("error: the plan is empty")
