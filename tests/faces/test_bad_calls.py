"""Bad calls: the right exit code, a message that says what is wrong, a hint, and nothing written, on both stores."""

import json

import pytest

NO_ID = "0199f0a0-0000-7000-8000-000000000000"
MB10 = "x" * (10 * 1024 * 1024)
AS = "--agent"


def add(code="S-9", *more, **given):
    values = {"wave": "W1", "title": "t", "domain": "core", **given}
    return ["story", "add", *(f"--{k}={v}" for k, v in values.items()), *more, "--", code]


def blocked(payload, *more):
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return ["signal", "send", "blocked", "--payload", text, AS, "dev-2", *more]


NOT_FOUND = [
    (["story", "show", "S-99"], 3, "no story 'S-99'"),
    (["story", "approve", "S-99", AS, "cto"], 3, "no story"),
    (["story", "start", "S-99", AS, "dev-1"], 3, "no story"),
    (["story", "list", "--wave", "W99"], 3, "no wave 'W99'"),
    (["wave", "start", "W99", AS, "pm"], 3, "no wave"),
    (["wave", "show", "W99"], 3, "no wave"),
    (["wave", "add", "W9", "--name", "n", "--after", "W99"], 3, "no wave"),
    (add(wave="W99"), 3, "no wave"),
    (add("S-9", "--after", "S-99"), 3, "no story"),
    (["story", "depend", "S-2", "--after", "S-99"], 3, "no story"),
    (["story", "assign", "S-2", "--to", "ghost", AS, "pm"], 3, "no agent is registered as 'ghost'"),
    (["story", "approve", "S-3", AS, "ghost"], 3, "no agent is registered as 'ghost'"),
    (["story", "next", AS, "dev-3"], 3, "no story is ready in ui"),
    (["qa", "reject", "S-99", "--finding", "x", AS, "qa-1"], 3, "no story"),
    (["qa", "pass", "S-99", AS, "qa-1"], 3, "no story"),
    (["merge", "S-99", AS, "cto"], 3, "no story"),
    (["agent", "show", "ghost"], 3, "ghost"),
    (["agent", "end", "ghost"], 3, "ghost"),
    (["signal", "show", NO_ID], 3, "no signal"),
    (["signal", "ack", NO_ID, AS, "pm"], 3, "no signal"),
    (["signal", "done", "not-an-id", AS, "pm"], 3, "no signal"),
    (blocked({"reason": "x"}, "--story", "S-99"), 3, "no story"),
    (blocked({"reason": "x"}, "--to", "ghost"), 3, "no agent has the id 'ghost'"),
    (blocked({"reason": "x"}, "--reply-to", NO_ID), 3, "no signal"),
    (blocked({"reason": "x", "story_id": NO_ID}), 3, "no story with the id"),
    (["history", "X-9"], 3, "no story or wave"),
    (["stop", "--agent", "ghost", "--reason", "x"], 3, "ghost"),
    (["plan", "import", "no-such-file.yaml"], 3, "no-such-file.yaml"),
    (["db", "export", "out", "--table", "passwords"], 3, "no table"),
    (["kickstart", "dev", "--story", "S-99"], 3, "no story"),
]

WRONG_ROLE = [
    (["story", "approve", "S-3", AS, "dev-1"], 1, "is a dev"),
    (["story", "assign", "S-2", "--to", "dev-3", AS, "qa-1"], 1, "is a qa"),
    (["story", "next", AS, "pm"], 1, "is a pm"),
    (["story", "submit", "S-4"], 1, "needs an agent"),
    (["story", "fail", "S-2", "--reason", "x", AS, "qa-1"], 1, "is a qa"),
    (["wave", "pause", "W1", AS, "dev-1"], 1, "is a dev"),
    (["qa", "pass", "S-1", AS, "dev-1"], 1, "is a dev"),
    (["qa", "reject", "S-1", "--finding", "x", AS, "dev-1"], 1, "is a dev"),
    (["agent", "register", "dev-1", "--role", "qa", "--takeover"], 1, "never changes its role"),
    (["review", "accept", "S-1", AS, "dev-1"], 1, "is a dev"),
    (["review", "return", "S-1", "--reason", "x", AS, "cto"], 1, "is a cto"),
    (["merge", "S-1", "--refuse", "x", AS, "pm"], 1, "is a pm"),
    (["signal", "send", "answer", "--payload", '{"text": "x"}', AS, "dev-1"], 1, "is a dev"),
    (["signal", "send", "emergency_stop", "--payload", '{"reason": "x"}', AS, "dev-1"], 1, "is a dev"),
    (["signal", "send", "story_approved", AS, "cto"], 1, "never by hand"),
    (["signal", "send", "blocked", "--payload", '{"reason": "x"}'], 1, "sent by an agent"),
    (["--agent", "dev-1", "stop", "--all", "--reason", "x"], 1, "is a dev"),
    (["agent", "end", "pm", AS, "dev-1"], 1, "may not end"),
]

WRONG_STATE = [
    (["story", "approve", "S-2", AS, "cto"], 1, "is ready"),
    (["story", "approve", "S-3", AS, "cto"], 1, "no acceptance criteria"),
    (["story", "assign", "S-3", "--to", "dev-1", AS, "pm"], 1, "is backlog"),
    (["story", "assign", "S-2", "--to", "dev-3", AS, "pm"], 1, "works in ui"),
    (["story", "assign", "S-2", "--to", "dev-2", AS, "pm"], 1, "already holds S-4"),
    (["story", "assign", "S-2", "--to", "qa-1", AS, "pm"], 1, "not a dev"),
    (["story", "assign", "S-2", "--to", "gone", AS, "pm"], 1, "has ended"),
    (["story", "start", "S-1", AS, "dev-1"], 1, "is qa_review"),
    (["story", "advance", "S-2", AS, "dev-1"], 1, "is ready"),
    (["story", "submit", "S-4", AS, "dev-2"], 1, "before gate 1"),
    (["story", "release", "S-1", "--reason", "x", AS, "pm"], 1, "is qa_review"),
    (["story", "reopen", "S-2", AS, "pm"], 1, "is ready"),
    (["story", "next", AS, "dev-2"], 1, "already holds S-4"),
    (["story", "depend", "S-4", "--after", "S-2"], 1, "before it is assigned"),
    (add("S-1"), 1, "already a story"),
    (["wave", "add", "W1", "--name", "n"], 1, "already a wave"),
    (["wave", "start", "W1", AS, "pm"], 1, "is active"),
    (["wave", "start", "W2", AS, "pm"], 1, "waits for W1"),
    (["wave", "resume", "W1", AS, "pm"], 1, "is active"),
    (["wave", "retry", "W1", AS, "pm"], 1, "is active"),
    (["review", "accept", "S-1", AS, "pm"], 1, "is qa_review"),
    (["merge", "S-2", AS, "cto"], 1, "is ready"),
    (["resume", AS, "pm"], 1, "no emergency stop"),
    (["agent", "register", "dev-1", "--role", "dev"], 1, "is live"),
    (["agent", "end", "gone"], 1, "has ended"),
]

LOST = [
    (["story", "next", AS, "gone"], 4, "has ended"),
    (["agent", "heartbeat", AS, "gone"], 4, "has ended"),
    (["signal", "inbox", AS, "gone"], 4, "has ended"),
    (["story", "advance", "S-4", AS, "dev-2", "--token", "99"], 4, "token"),
]

HOSTILE_CODES = [
    "../evil", "..", "a..b", "$(touch pwned)", "`id`", "a\nb", "a\tb", "a b", "-x", "--help-me", "", ".hidden",
    "x.lock", "x.", "a/b", "a\\b", "x" * 51, "S\x00", "S\x1b[31m", "\u202eS-1", "S\u200f", "S\ud800", "S\udcff",
    "\uff33-1", "é", "a:b",
]  # fmt: skip

GOOD_IDS = ("x.lock", "a..b", "x.", "x" * 51)  # for an agent, which becomes no branch

BAD_INPUT = [
    *((add(code), 2, "") for code in HOSTILE_CODES),
    *((["story", "show", "--", code], 2, "not a usable code") for code in HOSTILE_CODES if "\x00" not in code),
    *((["agent", "register", "--role", "dev", "--", code], 2, "") for code in HOSTILE_CODES if code not in GOOD_IDS),
    (["wave", "add", "--name", "n", "--", "../W"], 2, "not a usable code"),
    ([*add()[:-2], "-x"], 2, "No such option"),
    (add(title=""), 2, "title"),
    (add(title="two\nlines"), 2, "line break"),
    (add(title="\u202emoc.live"), 2, "direction mark"),
    (add(title="a\x00b"), 2, "NUL"),
    (add(title="a\ud800b"), 2, "surrogate"),
    (add(title="x" * 256), 2, "256 characters"),
    (add(domain="../../etc"), 2, "domain"),
    (add(domain="core\u200f"), 2, "domain"),
    (add(priority=0), 2, "priority"),
    (add(priority=2**31), 2, "priority"),
    (add(points=-1), 2, "points"),
    (add(priority="urgent"), 2, "urgent"),
    (add("S-9", "--criteria", "a\x00b"), 2, "NUL"),
    (add("S-9", "--criteria", "\ud800"), 2, "surrogate"),
    (add("S-9", "--criteria", MB10), 2, "at most"),
    (add("S-9", "--description", MB10), 2, "at most"),
    (add("S-9", "--after", "S-6"), 2, "wait for each other"),
    (["story", "depend", "S-6", "--after", "S-6"], 2, "itself"),
    (["wave", "add", "W9", "--name", "n", "--after", "W9"], 2, ""),
    (["agent", "register", "maf", "--role", "dev"], 2, "reserved"),
    (["agent", "register", "user", "--role", "dev"], 2, "reserved"),
    (["agent", "register", "new", "--role", "boss"], 2, "boss"),
    (["agent", "register", "new", "--role", "dev", "--ttl", "0"], 2, "lease"),
    (["agent", "register", "new", "--role", "dev", "--domain", "a/b"], 2, "domain"),
    (["agent", "heartbeat"], 2, "heartbeat"),
    (["signal", "inbox"], 2, "inbox"),
    (["signal", "send", "nonsense", AS, "pm"], 2, "no signal type"),
    (blocked("no json"), 2, "not JSON"),
    (blocked("[1]"), 2, "JSON object"),
    (blocked('"text"'), 2, "JSON object"),
    (blocked('{"reason": NaN}'), 2, "NaN"),
    (blocked("[" * 100_000), 2, "not JSON"),
    (blocked({}), 2, "'reason' is missing"),
    (blocked({"reason": 7}), 2, "must be text"),
    (blocked({"reason": "  "}), 2, "must be text"),
    (blocked('{"reason": "a\\u0000b"}'), 2, "NUL"),
    (blocked('{"reason": "a\\ud800b"}'), 2, ""),
    (blocked('{"reason": "x", "a\\u0000": 1}'), 2, "NUL"),
    (blocked({"reason": MB10}), 2, "bytes"),
    (blocked("@no-such-file.json"), 2, "cannot be read"),
    (blocked({"reason": "x"}, "--priority", "0"), 2, "priority"),
    (blocked({"reason": "x"}, "--expires-in", "-1"), 2, "expires"),
    (blocked({"reason": "x"}, "--expires-in", "nan"), 2, "expires"),
    (blocked({"reason": "x"}, "--to", "role:boss"), 3, "no role"),
    (blocked({"reason": "x"}, "--to", "-x"), 2, "not a usable agent id"),
    (["signal", "send", "answer", "--payload", '{"text": "x"}', AS, "pm"], 2, "--reply-to"),
    (["qa", "reject", "S-1", AS, "qa-1"], 2, "finding"),
    (["qa", "reject", "S-1", "--finding", " ", AS, "qa-1"], 2, "text"),
    (["qa", "reject", "S-1", "--finding", "x", "--coverage", "101", AS, "qa-1"], 2, "101"),
    (["qa", "reject", "S-1", "--finding", "a\x00b", AS, "qa-1"], 2, "NUL"),
    (["story", "release", "S-4", "--reason", "a\x00b", AS, "pm"], 2, "NUL"),
    (["story", "approve", "S-3", AS, "../cto"], 2, "agent id"),
    (["story", "list", "--status", "nearly"], 2, "no story status"),
    (["history", "--at", "yesterday-ish"], 2, "not a time"),
    (["history", "--limit", "0"], 2, "0"),
    (["stop", "--reason", "x"], 2, "what to stop"),
    (["stop", "--all", "--wave", "W1", "--reason", "x"], 2, "one thing"),
    (["wave", "pause", "W1", AS, "pm", "--token", "0"], 2, "0"),
    (["wave", "pause", "W1", AS, "pm", "--key", "k" * 201], 2, "200"),
    (["db", "query"], 2, "SQL"),
    (["db", "query", "SELEC 1"], 2, "refuses the query"),
    (["db", "query", "DROP TABLE stories"], 2, ""),
    (["db", "query", "--search", " "], 2, "search"),
    (["db", "export", "out", "--fts"], 2, "--format sqlite"),
    (["story", "add", "S-9"], 2, "--wave"),
    (["story", "ad", "S-9"], 2, "Did you mean 'add'?"),
    (["storry"], 2, "Did you mean 'story'?"),
    (["--db", "ftp://x/y", "status"], 2, "not a store's URL"),
    (["kickstart", "boss"], 2, "boss"),
]

STORIES = "maf: 1\nwaves:\n  - code: P1\n    name: n\n    stories:\n"
A_STORY = "      - {{code: {}, title: a, domain: d, criteria: [x], after: [{}]}}\n"

PLANS = {
    "no.yaml": ("a: [", 2, "no.yaml"),
    "binary.yaml": ("maf: 1\x00", 2, "NUL"),
    "empty.yaml": ("", 2, "empty"),
    "other.yaml": ("services: {web: {}}", 2, "format"),
    "unknown.yaml": ("maf: 1\nwaves:\n  - {code: P1, name: n, storys: []}\n", 2, "storys"),
    "cycle.yaml": (STORIES + A_STORY.format("A", "B") + A_STORY.format("B", "A"), 2, "circle"),
    "dangling.yaml": (STORIES + A_STORY.format("A", "NOPE"), 2, "does not exist"),
    "twice.yaml": (STORIES + A_STORY.format("A", "") * 2, 2, "used twice"),
    "taken.yaml": (STORIES + A_STORY.format("S-1", ""), 2, "already a story 'S-1'"),
    "hostile.yaml": (STORIES + A_STORY.format("'../x'", ""), 2, "not a usable code"),
    "huge.yaml": ("maf: 1\n# " + MB10, 2, "larger than"),
}


def wrongs(board, dumped, cases):
    """What is not as it should be, of all cases; the store is compared after each."""
    before, found = dumped(board.url), []
    for number, (args, code, text) in enumerate(cases):
        shown = str([a[:40] for a in args])
        result = board(*args)
        if result.code != code:
            found.append(f"{shown}: exit {result.code}, not {code}: {result.err[:300]}")
        if text not in result.err:
            found.append(f"{shown}: says {result.err[:300]!r}, not {text!r}")
        if "hint:" not in result.err or result.out:
            found.append(f"{shown}: no hint, or something on stdout: {result.err[:300]!r} {result.out[:300]!r}")
        if len(result.err) > 5000 or any(ord(c) < 32 and c != "\n" for c in result.err) or "\u202e" in result.err:
            found.append(f"{shown}: the message is not fit to be printed: {result.err[:300]!r}")
        again = board(*args, "--json") if "--" not in args else board("--json", *args)
        error = again.error
        if again.code != code or not error["message"] or not error["hint"]:
            found.append(f"{shown}: as JSON: {again.code} {error}")
        # Reading the whole store after each would be most of the test's time.
        if (number % 10 == 9 or number == len(cases) - 1) and dumped(board.url) != before:
            found.append(f"{shown} or one of up to nine before it: something was written")
            before = dumped(board.url)
    return found


TABLES = {
    "not found": NOT_FOUND, "wrong role": WRONG_ROLE, "wrong state": WRONG_STATE, "lost": LOST,
    "input 1": BAD_INPUT[:45], "input 2": BAD_INPUT[45:90], "input 3": BAD_INPUT[90:],
}  # fmt: skip


@pytest.mark.parametrize("cases", TABLES.values(), ids=TABLES)
def test_a_bad_call_is_refused_and_writes_nothing(board, dumped, cases):
    found = wrongs(board, dumped, cases)
    assert found == [], "\n".join(found)
    assert not list(board.root.glob("pwned"))


def test_there_are_enough_of_them():
    every = [*NOT_FOUND, *WRONG_ROLE, *WRONG_STATE, *LOST, *BAD_INPUT]
    assert len(every) + len(PLANS) >= 150
    assert len(BAD_INPUT) > 90


def test_a_bad_plan_is_refused_and_writes_nothing(board, dumped):
    cases = []
    for name, (text, code, message) in PLANS.items():
        (board.root / name).write_text(text)
        cases += [(["plan", "import", name], code, message), (["plan", "import", "--dry-run", name], code, message)]
    assert wrongs(board, dumped, cases) == []


def test_an_older_epoch_and_a_stale_token_of_the_launcher_are_refused(board, dumped):
    before = dumped(board.url)
    own = {"MAF_AGENT": "dev-2"}
    old = board("story", "advance", "S-4", env={**own, "MAF_SESSION": "7"})
    stale = board("story", "advance", "S-4", env={**own, "MAF_TOKEN": "7"})
    broken = board("story", "advance", "S-4", env={**own, "MAF_TOKEN": "seven"})
    assert (old.code, stale.code, broken.code) == (4, 4, 2)
    assert "epoch" in old.err
    assert "token" in stale.err
    assert "MAF_TOKEN" in broken.err
    assert dumped(board.url) == before


def test_a_store_that_cannot_be_used_is_exit_5(board, tmp_path):
    (tmp_path / "no.db").write_text("this is no database, and long enough to be read as one" * 100)
    for url in (
        f"sqlite:///{tmp_path}/none/maf.db", f"sqlite:///{tmp_path}/no.db", "postgresql://nobody@127.0.0.1:1/none",
    ):  # fmt: skip
        for args in (["status"], ["story", "list"], ["db", "info"], ["agent", "heartbeat", "--agent", "x"]):
            result = board(*args, "--db", url, "--json")
            assert (result.code, bool(result.error["hint"])) == (5, True), (url, args, result)
    assert not (tmp_path / "none").exists()
