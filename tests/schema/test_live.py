"""The schema files applied, by the drivers and by the databases' own programs, make the same database twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw
import psycopg
import pytest

from tests.schema import live, parsed

if TYPE_CHECKING:
    from collections.abc import Callable

WITH_SQLITE = [live.apply_with_apsw] + ([live.apply_with_sqlite3] if live.SQLITE3 else [])
WITH_POSTGRES = [live.apply_with_psycopg] + ([live.apply_with_psql] if live.PSQL else [])


@pytest.mark.parametrize("on_postgres", WITH_POSTGRES)
@pytest.mark.parametrize("on_sqlite", WITH_SQLITE)
def test_both_databases_say_the_same_about_themselves(
    on_sqlite: Callable, on_postgres: Callable, sqlite_url: str, postgres_url: str
):
    with on_sqlite(sqlite_url.removeprefix("sqlite:///")) as sqlite, on_postgres(postgres_url) as postgres:
        one, other = live.sqlite_says(sqlite), live.postgres_says(postgres)
    sqlite.close()
    assert list(one) == list(other) == [t.name for t in parsed.tables("sqlite")]
    for table, said in one.items():
        assert said == other[table], table


def test_a_file_applied_twice_refuses_and_changes_nothing(sqlite_url: str, postgres_url: str):
    with live.apply_with_apsw(sqlite_url.removeprefix("sqlite:///")) as sqlite:
        before = live.sqlite_says(sqlite)
        with pytest.raises(apsw.SQLError, match="already exists"):
            sqlite.execute(parsed.text("sqlite").replace("BEGIN;\n", "", 1))
        assert live.sqlite_says(sqlite) == before
    sqlite.close()
    with live.apply_with_psycopg(postgres_url) as postgres:
        said = live.postgres_says(postgres)
        with pytest.raises(psycopg.errors.DuplicateTable):
            postgres.execute(parsed.text("postgres").encode())
        postgres.execute("ROLLBACK")
        assert live.postgres_says(postgres) == said


def test_sqlites_tables_are_strict(sqlite_url: str):
    with live.apply_with_apsw(sqlite_url.removeprefix("sqlite:///")) as sqlite:
        lax = sqlite.execute(
            "SELECT name FROM pragma_table_list WHERE strict = 0 AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
    sqlite.close()
    assert lax == []
