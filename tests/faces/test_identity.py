"""Who acts, what shows that it is alive, and what an agent carries with it."""

import pytest

from orchestrator.domain import moments

LOOKS = [
    ["status"], ["history"], ["history", "S-1"], ["story", "list"], ["story", "show", "S-1"], ["wave", "list"],
    ["wave", "show", "W1"], ["wave", "status", "W1"], ["plan", "show"], ["agent", "list"], ["agent", "show", "pm"],
    ["signal", "list"], ["kickstart", "dev"], ["db", "info"], ["db", "query", "SELECT 1"],
]  # fmt: skip
REFUSED = [
    (["story", "advance", "S-2"], 1), (["wave", "pause", "W1"], 1), (["story", "next"], 3),
    (["story", "start", "no"], 3), (["story", "start", "../x"], 2), (["signal", "send", "blocked"], 2),
    (["story", "advance", "S-4", "--token", "9"], 4),
]  # fmt: skip


def lease(board, agent):
    return board.ok("agent", "show", agent, "--json").data["lease_until"]


@pytest.mark.parametrize("args", LOOKS, ids=" ".join)
def test_a_look_is_a_sign_of_life_and_changes_nothing_else(board, dumped, args):
    before, first = dumped(board.url), lease(board, "dev-3")
    board.ok(*args, "--agent", "dev-3")
    assert moments.between(first, lease(board, "dev-3")) > 0
    assert dumped(board.url) == before


@pytest.mark.parametrize(("args", "code"), REFUSED, ids=lambda x: " ".join(x) if isinstance(x, list) else str(x))
def test_a_refused_command_is_a_sign_of_life_too(board, dumped, args, code):
    """A dev that asks for work every minute and finds none is alive."""
    before, first = dumped(board.url), lease(board, "dev-3")
    assert board(*args, "--agent", "dev-3").code == code
    assert moments.between(first, lease(board, "dev-3")) > 0
    assert dumped(board.url) == before


def test_an_ended_session_comes_not_back_to_life_by_looking(board, dumped):
    before = dumped(board.url)
    board.ok("status", "--agent", "gone")
    board.ok("kickstart", "dev", "--agent", "nobody-yet")
    assert board("story", "next", "--agent", "gone").code == 4
    assert dumped(board.url) == before


@pytest.mark.parametrize("args", [["status"], ["story", "show", "S-1"], ["signal", "inbox"], ["story", "next"]])
def test_every_call_of_an_older_life_is_refused(board, args):
    first = lease(board, "dev-2")
    for env in ({"MAF_SESSION": "7"}, {"MAF_SESSION": "7", "MAF_AGENT": "dev-2"}):
        refused = board(*args, "--agent", "dev-2", "--json", env=env)
        assert (refused.code, refused.error["code"]) == (4, "session_ended")
    assert lease(board, "dev-2") == first, "who is gone does not keep its successor alive"


def test_what_the_launcher_gave_holds_for_its_agent_and_for_nobody_else(board):
    stale = {"MAF_TOKEN": "7"}
    assert board("story", "advance", "S-4", "--agent", "dev-2", env=stale).code == 4
    other = {"MAF_TOKEN": "7", "MAF_SESSION": "7", "MAF_AGENT": "dev-1"}
    board.ok("signal", "inbox", "--agent", "dev-2", env=other)
    board.ok("wave", "pause", "W1", env={"MAF_TOKEN": "7", "MAF_SESSION": "7"})


@pytest.mark.parametrize("how", ["option", "variable"])
def test_nobody_acts_as_the_tool_itself(board, dumped, how):
    before = dumped(board.url)
    more, env = (["--agent", "maf"], {}) if how == "option" else ([], {"MAF_AGENT": "maf"})
    for args in (["story", "fail", "S-2", "--reason", "x"], ["wave", "start", "W2"], ["story", "release", "S-4",
                 "--reason", "x"], ["signal", "send", "wave_failed", "--payload", "{}"], ["status"]):  # fmt: skip
        refused = board(*args, *more, "--json", env=env)
        assert (refused.code, refused.error["code"]) == (1, "wrong_role"), args
    assert dumped(board.url) == before


def test_a_key_holds_for_a_registration(board):
    args = ["agent", "register", "dev-9", "--role", "dev", "--key", "once", "--json"]
    assert board.ok(*args).data["id"] == board.ok(*args).data["id"]


def test_the_version_is_json_where_json_is_asked_for(board):
    plain = board.ok("--version").out.split()[1]
    assert board.ok("--version", "--json").data == board.ok("--json", "--version").data == {"version": plain}
