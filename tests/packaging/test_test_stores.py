"""The tests' own stores: what they promise the other tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import apsw
import psycopg
import pytest

from tests.support import postgres

ROOT = Path(__file__).resolve().parents[2]


def test_a_store_url_is_one_of_both_kinds_and_empty(store_url, store_kind):
    if store_kind == "sqlite":
        path = Path(store_url.removeprefix("sqlite:///"))
        assert path.is_absolute()
        assert path.parent.is_dir()
        assert not path.exists()
    else:
        with psycopg.connect(store_url) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
            assert tables.fetchall() == []


def test_two_postgres_urls_do_not_see_each_other(new_postgres_url):
    first, second = new_postgres_url(), new_postgres_url()
    with psycopg.connect(first) as a, psycopg.connect(second) as b:
        a.execute("CREATE TABLE only_here (x int)")
        a.commit()
        with pytest.raises(psycopg.errors.UndefinedTable):
            b.execute("SELECT * FROM only_here")


def test_a_schema_is_dropped_although_somebody_still_holds_a_lock_in_it(postgres_server):
    url, admin = postgres_server
    admin.execute("CREATE SCHEMA held")
    holder = psycopg.connect(postgres.in_schema(url, "held"))
    holder.execute("CREATE TABLE t (x int)")
    holder.commit()
    holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    postgres.drop_schema(admin, "held")
    assert admin.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'held'").fetchone() == (0,)
    with pytest.raises(psycopg.OperationalError):
        holder.execute("SELECT 1")
    holder.close()


def test_options_that_a_given_url_already_has_are_kept():
    url = postgres.in_schema("postgresql://u:p%40ss@h:1/db?options=-cjit%3Doff&sslmode=require", "s")
    assert psycopg.conninfo.conninfo_to_dict(url) == {
        "user": "u",
        "password": "p@ss",
        "host": "h",
        "port": "1",
        "dbname": "db",
        "options": "-cjit=off -csearch_path=s",
        "sslmode": "require",
    }


def test_sqlite_is_one_without_the_wal_reset_bug():
    assert tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) >= (3, 51, 3)


# --- a run of its own, seen from outside ---------------------------------------------------------------------


@pytest.fixture
def run_pytest(tmp_path, postgres_server):
    """Run pytest, with this conftest, on a small test file; on the same server as this run unless told otherwise."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_sample.py").write_text(
        textwrap.dedent("""
            import psycopg, pytest
            def test_both(store_url): pass
            def test_postgres(postgres_url): psycopg.connect(postgres_url).close()
            def test_neither(): pass
            @pytest.mark.skip(reason="on purpose")
            def test_skipped(): pass
        """)
    )

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path]

    def run(*arguments, **environment):
        kept = {k: v for k, v in os.environ.items() if k not in {"CI", "MAF_REQUIRE_POSTGRES"} and "XDIST" not in k}
        return subprocess.run(
            [*command, *arguments, tmp_path],
            env=kept | {"PYTHONPATH": str(ROOT), "MAF_TEST_POSTGRES_URL": postgres_server[0]} | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_last_line_says_what_ran_where(run_pytest, postgres_server, workers):
    version = postgres_server[1].execute("SHOW server_version").fetchone()[0].split()[0]
    done = run_pytest("-n", workers)
    lines = done.stdout.strip().splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    sqlite = apsw.sqlite_lib_version()
    assert lines[-1] == f"stores: sqlite {sqlite} (1 passed), postgres {version} (2 passed), skipped 1"
    assert lines[-2].startswith("4 passed, 1 skipped in ")


def test_no_server_and_no_directory_is_left_behind(run_pytest, tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    marker = tmp_path / "socket"
    with (tmp_path / "test_sample.py").open("a") as sample:
        sample.write(
            f"def test_where(postgres_server): open({str(marker)!r}, 'w').write(postgres_server[1].info.host)\n"
        )
    done = run_pytest("-n", "2", TMPDIR=str(temporary), MAF_TEST_POSTGRES_URL="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert marker.read_text().startswith("/")
    assert not Path(marker.read_text()).exists()
    assert [path for path in temporary.iterdir() if path.name.startswith("maf-")] == []


def test_without_postgres_its_tests_fail(run_pytest):
    done = run_pytest(MAF_TEST_POSTGRES_URL="postgresql://127.0.0.1:1/none")
    assert done.returncode == 1
    assert "2 passed, 1 skipped, 2 errors" in done.stdout
    assert "Postgres is not available: the server that MAF_TEST_POSTGRES_URL names cannot be reached" in done.stdout


def test_one_store_only_when_it_is_said_aloud(run_pytest):
    done = run_pytest("--stores=sqlite")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("(1 passed), postgres not used (0 passed), skipped 3")


@pytest.mark.parametrize("environment", [{"CI": "true"}, {"MAF_REQUIRE_POSTGRES": "1"}])
def test_ci_never_leaves_a_store_out(run_pytest, environment):
    done = run_pytest("--stores=sqlite", **environment)
    assert done.returncode == 4
    assert "both stores are tested" in done.stderr


def test_an_unknown_store_is_refused(run_pytest):
    done = run_pytest("--stores=oracle")
    assert done.returncode == 4
    assert "no store is called oracle" in done.stderr


@pytest.mark.skipif(postgres.wheel_programs() is None, reason="no wheel of Postgres for this processor")
def test_the_wheel_serves_where_the_machine_has_no_postgres(tmp_path, monkeypatch):
    monkeypatch.setattr(postgres, "_candidates", lambda: [postgres.wheel_programs()])
    monkeypatch.delenv("MAF_TEST_POSTGRES_URL", raising=False)
    controller = postgres.Controller()
    try:
        with psycopg.connect(postgres.server(controller.directory)["url"]) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        controller.close()
