"""Which project, which store, which settings."""

import json
import os

import pytest

from orchestrator.bootstrap.locate import find_root, locate
from orchestrator.store import schema


def origin(maf, key="store.url", *args, **how):
    data = maf.ok("config", "show", "--origin", "--json", *args, **how).data
    return data["values"][key], data["origins"][key]


def test_the_store_is_the_flags_then_the_environments_then_the_files_then_the_default(bare, tmp_path):
    (tmp_path / "no-config" / "maf").mkdir(parents=True)
    user = tmp_path / "no-config" / "maf" / "config.toml"
    file = bare.root / "maf.toml"
    env = {"MAF_DB": "sqlite:///env.db"}
    assert origin(bare) == (f"sqlite:///{bare.root}/.maf/maf.db", "default")
    user.write_text('[store]\nurl = "sqlite:///user.db"\n')
    assert origin(bare) == (f"sqlite:///{bare.root}/user.db", str(user))
    file.write_text('[store]\nurl = "sqlite:///file.db"\n')
    assert origin(bare) == (f"sqlite:///{bare.root}/file.db", str(file))
    assert origin(bare, env=env) == (f"sqlite:///{bare.root}/env.db", "MAF_DB")
    assert origin(bare, "store.url", "--db", "sqlite:////abs/flag.db", env=env) == ("sqlite:////abs/flag.db", "--db")
    assert (
        bare.ok("--db", "sqlite:///flag.db", "config", "show", "--json")
        .data["values"]["store.url"]
        .endswith("/flag.db")
    )


def test_an_option_after_the_command_wins_over_one_before(bare):
    shown = bare.ok("--db", "sqlite:///before.db", "config", "--db", "sqlite:///middle.db", "show", "--db",
                    "sqlite:///after.db", "--json")  # fmt: skip
    assert shown.data["values"]["store.url"].endswith("/after.db")


def test_it_is_found_from_a_folder_below_and_from_a_linked_worktree(bare, tmp_path):
    below = bare.root / "a" / "b"
    below.mkdir(parents=True)
    assert find_root(below) == bare.root
    inside, outside = bare.root / ".maf" / "worktrees" / "S-1", tmp_path / "elsewhere"
    for path in (inside, outside):
        bare.git("worktree", "add", "-q", "--detach", str(path))
        (path / "sub").mkdir()
        (path / "maf.toml").write_text("[project]\n")
        assert find_root(path / "sub") == bare.root
    assert find_root(tmp_path / "nothing") is None
    separate = tmp_path / "separate"
    bare.git("clone", "-q", f"--separate-git-dir={tmp_path / 'data.git'}", str(bare.root), str(separate))
    assert find_root(separate) == separate


def test_outside_of_any_project_it_says_what_to_do(bare, tmp_path):
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    result = bare("status", cwd=lonely)
    assert result.code == 5
    assert "maf init" in result.err
    url = f"sqlite:///{tmp_path}/own.db"
    schema.create(url)
    assert bare("status", "--db", url, cwd=lonely).code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[checks", "maf.toml is not valid TOML"),
        ("[chekcs]\n", "did you mean 'checks'?"),
        ("[checks]\ncommand = []\n", "checks.command: there is no such key; did you mean 'commands'?"),
        ("[checks]\ntimeout = '5'\n", "checks.timeout: input should be a valid number"),
        ("[checks]\ntimeout = 0\n", "checks.timeout"),
        ("[checks]\ncommands = ['a && b']\n", "needs a shell"),
        ("[checks]\ncommands = [[]]\n", "at least the program's name"),
        ("[checks]\ncommands = ['a']\nnone = 'why'\n", "exclude each other"),
        ("[checks]\nnone = ''\n", "checks.none"),
        ("[roles.pm]\nmode = 'agent'\n", "needs a command"),
        ("[roles.pm]\nmode = 'human'\ncommand = ['x']\n", "a command is for"),
        ("[roles.pm]\nmode = 'robot'\n", "'auto', 'agent' or 'human'"),
        ("[roles.dev]\nmode = 'auto'\n", "there is no such key"),
        ("[roles.pm]\nid = 'maf'\n", "the tool's own id"),
        ("[roles.pm]\nid = '../x'\n", "not a usable agent id"),
        ("[roles.pm]\nid = 'qa'\n", "used twice: roles.pm and roles.qa"),
        (
            "[[agents]]\nid = 'a'\ncommand = 'x'\n[[agents]]\nid = 'a'\ncommand = 'x'\n",
            "used twice: agents[0] and agents[1]",
        ),
        ("[[agents]]\nid = 'pm'\ncommand = 'x'\n", "used twice"),
        ("[[agents]]\nid = 'a'\n", "agents[0].command: field required"),
        ("[[agents]]\nid = 'a'\ncommand = 'x'\ncount = 0\n", "agents[0].count"),
        ("[[agents]]\nid = 'a'\ncommand = 'x'\nprompts = 'file'\n", "did you mean 'prompt'?"),
        ("[domains.core]\nown = ['a']\n", "domains.core.own: there is no such key; did you mean 'owns'?"),
        ("[domains.core]\nowns = ['!a']\n", "domains.core"),
        ("[domains.'a/b']\nowns = ['a']\n", "not a usable domain"),
        ("[run]\nagents = true\n", "run.agents"),
        ("[run]\nmax_attempts = 0\n", "run.max_attempts"),
        ("[project]\ntarget = '-x'\n", "not a branch name"),
        ("[store]\nurl = 'mysql://x'\n", "store.url"),
        ("[signals]\nper_minute = -1\n", "signals.per_minute"),
        ("agents = 3\n", "agents"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file_and_key(bare, text, said):
    (bare.root / "maf.toml").write_text(text)
    result = bare("config", "show")
    assert (result.code, "maf.toml" in result.err, "hint:" in result.err) == (2, True, True), result.err
    assert said in result.err, result.err


def test_the_users_file_and_the_environment_are_named_too(bare, tmp_path):
    user = tmp_path / "no-config" / "maf"
    user.mkdir(parents=True)
    (user / "config.toml").write_text("[run]\nagents = 7\ntimout = 3\n")
    assert f"{user / 'config.toml'}: run.timout" in bare("config", "show").err
    (user / "config.toml").write_text("[run]\nagents = 7\n")
    (bare.root / "maf.toml").write_text("[run]\nmax_attempts = 2\n")
    assert origin(bare, "run.agents") == (7, str(user / "config.toml"))
    assert origin(bare, "run.max_attempts") == (2, str(bare.root / "maf.toml"))
    assert origin(bare, "run.agents", env={"MAF_RUN_AGENTS": "9"}) == (9, "MAF_RUN_AGENTS")
    assert origin(bare, "run.timeout") == (3600.0, "default")
    for value in ("many", "0"):
        wrong = bare("config", "show", env={"MAF_RUN_AGENTS": value})
        assert (wrong.code, "MAF_RUN_AGENTS" in wrong.err) == (2, True), wrong.err


def test_settings_reach_the_domain_as_they_are(bare):
    from orchestrator.bootstrap.config import load

    (bare.root / "maf.toml").write_text(
        '[project]\ntarget = "trunk"\nplan_files = ["plans/{story}.md"]\n'
        '[checks]\ncommands = ["pytest -q", ["sh", "-c", "a && b"]]\nenvironment = {A = "1"}\n'
        '[domains.core]\nowns = ["src/"]\nforbidden = ["*.lock"]\n[roles.qa]\nmode = "human"\nid = "ann"\n'
        '[[agents]]\nid = "dev"\ncommand = ["claude", "-p"]\ndomain = "core"\ncount = 2\nsubmits = false\n'
        'pass_environment = ["HOME"]\n[run]\nbackoff = 1\n[sessions]\nttl = 60\n[signals]\nper_minute = 5\n'
    )
    settings = load(locate(bare.root, os.environ)).settings
    assert settings.target == "trunk"
    assert settings.checks.commands == (("pytest", "-q"), ("sh", "-c", "a && b"))
    assert settings.domains["core"].owns == ("src/",)
    assert (settings.roles["qa"].mode, settings.roles["qa"].id, settings.roles["pm"].id) == ("human", "ann", "pm")
    assert settings.agents[0].command == ("claude", "-p")
    assert (settings.agents[0].count, settings.agents[0].submits) == (2, False)
    assert (settings.run.backoff, settings.ttl_hand, settings.signals_per_minute) == (1.0, 60, 5)


def test_every_key_is_documented():
    from pathlib import Path

    from orchestrator.bootstrap.locate import VARIABLES
    from orchestrator.bootstrap.model import File

    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    for section, found in File.model_fields.items():
        kind = found.annotation
        if section in ("domains", "roles", "agents"):
            continue
        for key in kind.model_fields:
            assert f"| `{section}.{key}` |" in text, f"{section}.{key}"
    from orchestrator.bootstrap.model import AgentSection, DomainSection, RoleSection

    for prefix, kind in (("domains.NAME", DomainSection), ("roles.ROLE", RoleSection), ("agents", AgentSection)):
        for key in kind.model_fields:
            assert f"| `{prefix}.{key}` |" in text, f"{prefix}.{key}"
    assert [v for v in VARIABLES if v not in text] == []


def test_signals_per_minute_holds_without_pydantic(board):
    (board.root / "maf.toml").write_text("[signals]\nper_minute = 2\n")
    send = ["signal", "send", "blocked", "--payload", json.dumps({"reason": "x"}), "--agent", "dev-2"]
    assert [board(*send).code for _ in range(3)] == [0, 0, 1]
    (board.root / "maf.toml").write_text('[signals]\nper_minute = "two"\n')
    wrong = board(*send)
    assert (wrong.code, "signals.per_minute" in wrong.err) == (2, True)


def test_a_path_that_is_not_utf_8_is_refused_by_name(bare, tmp_path):
    odd = tmp_path / "lat\udce9"
    bare.git("clone", "-q", str(bare.root), str(odd))
    for args in (["init", "--no-checks", "none yet"], ["status"], ["run"]):
        refused = bare(*args, "--json", cwd=odd)
        assert (refused.code, refused.error["code"]) == (2, "invalid_input")
        assert "lat\\udce9" in refused.error["message"]
        assert "Rename" in refused.error["hint"]
    assert not (odd / "maf.toml").exists()
