"""``maf db``: snapshots of either store, and the tools on them."""

import csv
import io
import json
import threading

import apsw
import pytest

from orchestrator.service import waves
from orchestrator.service.context import Context
from orchestrator.store import open_store

TABLES = {"waves", "stories", "signals", "agent_sessions", "agent_activity", "gate_transitions", "qa_reports"}


def rows(path, sql):
    connection = apsw.Connection(str(path))
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_info_and_check(board):
    data = board.ok("db", "info", "--json").data
    assert set(data["tables"]) >= TABLES
    assert data["tables"]["stories"] == 6
    assert data["size"] > 0
    assert data["schema"] == data["knows_schema"]
    assert board.ok("db", "check", "--json").data["whole"]
    assert board.ok("db", "upgrade", "--json").data["passed"] == []


def test_a_backup_is_a_store_with_the_same_rows(board, dumped, tmp_path):
    path = tmp_path / "deep" / "copy.db"
    board.ok("db", "backup", str(path))
    assert sorted(p.name for p in path.parent.iterdir()) == ["copy.db"]
    assert dumped(f"sqlite:///{path}") == dumped(board.url)
    assert board.ok("db", "check", "--db", f"sqlite:///{path}")
    assert board.ok("wave", "add", "W6", "--name", "n", "--db", f"sqlite:///{path}")
    refused = board("db", "backup", str(path))
    assert (refused.code, "--force" in refused.err) == (1, True)
    board.ok("wave", "add", "W7", "--name", "n")
    board.ok("db", "backup", str(path), "--force")
    assert rows(path, "SELECT COUNT(*) FROM waves WHERE wave_code = 'W7'") == [(1,)]
    assert board("db", "backup", "/proc/none/x.db").code == 5


def test_a_backup_never_overwrites_the_store_itself(bare):
    bare.ok("init", "--no-checks", "x")
    result = bare("db", "backup", ".maf/maf.db", "--force")
    assert (result.code, "itself" in result.err) == (1, True)
    assert bare.ok("db", "check")


def test_a_backup_under_load_is_consistent(board, tmp_path):
    stop, made, failures = threading.Event(), [], []

    def write(worker):
        try:
            with open_store(board.url) as store:
                user = Context(store)
                for number in range(10_000):
                    if stop.is_set():
                        return
                    waves.add(user, f"L{worker}-{number}", name="n")
                    made.append(1)
        except Exception as error:  # noqa: BLE001 - reported by the test itself
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(5):
            path = tmp_path / f"{number}.db"
            board.ok("db", "backup", str(path))
            # A wave and its row in the log are of one transaction.
            ((waves_, logged),) = rows(
                path, "SELECT (SELECT COUNT(*) FROM waves WHERE wave_code LIKE 'L%'), "
                "(SELECT COUNT(*) FROM agent_activity WHERE activity_type = 'wave.add' AND details LIKE '%\"L%')",
            )  # fmt: skip
            assert waves_ == logged
            assert rows(path, "PRAGMA integrity_check") == [("ok",)]
            assert rows(path, "PRAGMA foreign_key_check") == []
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not failures
    assert made


def test_a_query_is_of_sqlite_and_changes_nothing(board, dumped):
    before = dumped(board.url)
    sql = "SELECT story_code, json_extract(acceptance_criteria, '$[0].text') AS first FROM stories ORDER BY 1 LIMIT 2"
    assert board.ok("db", "query", sql, "--json").data == [
        {"story_code": "S-1", "first": "it works"}, {"story_code": "S-2", "first": "it works"},
    ]  # fmt: skip
    table = board.ok("db", "query", sql).out.splitlines()
    assert table[0].split() == ["STORY_CODE", "FIRST"]
    text = board.ok("db", "query", "SELECT story_code, title FROM stories WHERE story_code = 'S-1'", "--csv").out
    assert list(csv.reader(io.StringIO(text))) == [["story_code", "title"], ["S-1", "Story 1"]]
    for statement in ("DELETE FROM stories", "UPDATE stories SET title = 'x'", "DROP TABLE signals"):
        assert board("db", "query", statement).code == 2
    assert board.ok("db", "query", "SELECT payload FROM signals LIMIT 1", "--json").data[0]["payload"]["story_code"]
    assert board.ok("db", "query", "SELECT x'00ff' AS b", "--json").data == [{"b": "00ff"}]
    assert dumped(board.url) == before


def test_search_finds_stories_and_signals(board):
    board.ok("signal", "send", "help_needed", "--agent", "dev-2", "--payload", '{"question": "which parsing format?"}')
    board.ok(
        "story",
        "add",
        "S-7",
        "--wave",
        "W1",
        "--domain",
        "core",
        "--title",
        "Parse dates",
        "--criteria",
        "refuses junk",
    )
    found = board.ok("db", "query", "--search", "parse", "--json").data
    assert {(row["table"], row["code"]) for row in found} == {("stories", "S-7"), ("signals", None)}
    assert [r["code"] for r in board.ok("db", "query", "--search", "junk", "--json").data] == ["S-7"]
    assert board.ok("db", "query", "--search", 'no" OR such*', "--json").data == []
    assert len(board.ok("db", "query", "--search", "story", "--limit", "2", "--json").data) == 2


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_export_writes_every_table(board, tmp_path, kind):
    out = tmp_path / "out"
    data = board.ok("db", "export", str(out), "--format", kind, "--json").data
    files = {path.name for path in out.iterdir()}
    assert {f"{table}.{kind}" for table in TABLES} <= files
    assert len(files) == len(data["rows"])
    if kind == "json":
        stories = json.loads((out / "stories.json").read_text())
        assert stories[0]["acceptance_criteria"] == [{"text": "it works"}]
    else:
        with (out / "stories.csv").open(newline="") as file:
            stories = list(csv.DictReader(file))
    assert [s["story_code"] for s in stories] == [f"S-{n}" for n in range(1, 7)]
    again = board("db", "export", str(out), "--format", kind)
    assert (again.code, "--force" in again.err) == (1, True)
    board.ok("db", "export", str(out), "--format", kind, "--force", "--table", "waves")


def test_export_of_one_file_can_be_searched(board, tmp_path):
    board.ok("db", "export", str(tmp_path / "out"), "--format", "sqlite", "--fts")
    found = rows(tmp_path / "out" / "maf.db", "SELECT COUNT(*) FROM stories_fts WHERE stories_fts MATCH 'story'")
    assert found == [(6,)]


def test_a_damaged_store_is_exit_5(bare, tmp_path):
    bare.ok("init", "--no-checks", "x")
    with open_store(f"sqlite:///{bare.root}/.maf/maf.db") as store:
        for number in range(60):
            waves.add(Context(store), f"W{number}", name="n" * 200)
    copy = tmp_path / "copy.db"
    bare.ok("db", "backup", str(copy))
    content = bytearray(copy.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 + 100 : page * 4096 + 2000] = b"\xff" * 1900
    copy.write_bytes(content)
    result = bare("db", "check", "--db", f"sqlite:///{copy}")
    assert result.code == 5
    assert "damaged" in result.err
    assert bare("doctor", "--db", f"sqlite:///{copy}").code in (1, 5)
