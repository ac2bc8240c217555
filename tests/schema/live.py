"""Two empty stores with the schema files applied, and what their databases say about themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import apsw
import psycopg

from tests.schema import parsed
from tests.support import postgres

PSQL = shutil.which("psql") or (
    str(postgres.server_programs() / "psql")
    if postgres.server_programs() and (postgres.server_programs() / "psql").exists()
    else None
)
SQLITE3 = shutil.which("sqlite3")
"""The databases' own programs, where this machine has them; the drivers apply the same files everywhere."""


def apply_with_apsw(path: str) -> apsw.Connection:
    connection = apsw.Connection(path)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(parsed.text("sqlite"))
    return connection


def apply_with_sqlite3(path: str) -> apsw.Connection:
    assert SQLITE3
    with (parsed.TOP / "schema_sqlite.sql").open("rb") as file:
        done = subprocess.run([SQLITE3, "-bail", path], stdin=file, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    connection = apsw.Connection(path)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def apply_with_psycopg(url: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(url, autocommit=True)
    connection.execute(parsed.text("postgres").encode())
    return connection


def apply_with_psql(url: str) -> psycopg.Connection[Any]:
    assert PSQL
    command = [PSQL, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(Path(parsed.TOP, "schema_postgres.sql")), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return psycopg.connect(url, autocommit=True)


def sqlite_says(connection: apsw.Connection) -> dict[str, Any]:
    """``{table: …}`` in the order of making: columns, keys and indexes."""
    found: dict[str, Any] = {}
    made = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    ).get
    for table in [made] if isinstance(made, str) else made:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        unique, indexes = set(), {}
        for _, name, is_unique, origin, _ in connection.execute(f"PRAGMA index_list({table})").fetchall():
            on = tuple(c for (_, _, c) in connection.execute(f"PRAGMA index_info({name})").fetchall())
            if origin == "u":
                unique.add(on)
            elif origin == "c":
                sql = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).get
                indexes[name] = (bool(is_unique), on, " WHERE " in str(sql))
        found[table] = {
            "columns": [name for _, name, *_ in columns],
            # An INTEGER PRIMARY KEY is the rowid, which is never null though it is not declared so.
            "required": {name for _, name, _, required, _, key in columns if required or key},
            "defaults": {name for _, name, _, _, default, _ in columns if default is not None},
            "key": tuple(c[1] for c in sorted((c for c in columns if c[5]), key=lambda c: c[5])),
            "unique": unique,
            "references": {
                (r[3], r[2], r[4]) for r in connection.execute(f"PRAGMA foreign_key_list({table})").fetchall()
            },
            "indexes": indexes,
            "triggers": {
                n for (n,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", (table,)
                )
            },
        }  # fmt: skip
    return found


def postgres_says(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """The same of Postgres."""

    def rows(sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return connection.execute(sql.encode(), values).fetchall()

    found: dict[str, Any] = {}
    tables = rows(
        "SELECT relname, oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
        " ORDER BY oid"
    )
    for table, oid in tables:
        columns = rows(
            "SELECT attname, attnotnull, atthasdef FROM pg_attribute"
            " WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum", oid,
        )  # fmt: skip
        constraints = rows("SELECT contype, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s", oid)

        def inside(definition: str) -> tuple[str, ...]:
            return tuple(definition.split("(", 1)[1].split(")", 1)[0].split(", "))

        indexes = rows(
            "SELECT c.relname, i.indisunique, pg_get_indexdef(c.oid), i.indpred IS NOT NULL FROM pg_index i"
            " JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %s"
            " AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u'))", oid,
        )  # fmt: skip
        found[table] = {
            "columns": [name for name, _, _ in columns],
            "required": {name for name, required, _ in columns if required},
            "defaults": {name for name, _, default in columns if default},
            "key": next((inside(d) for kind, d in constraints if kind in ("p", b"p")), ()),
            "unique": {inside(d) for kind, d in constraints if kind in ("u", b"u")},
            "references": {
                re.fullmatch(r"FOREIGN KEY \((\w+)\) REFERENCES (?:\w+\.)?(\w+)\((\w+)\)", d).groups()  # type: ignore[union-attr]
                for kind, d in constraints if kind in ("f", b"f")
            },
            "indexes": {name: (unique, inside(d), partial) for name, unique, d, partial in indexes},
            "triggers": {
                n for (n,) in rows("SELECT tgname FROM pg_trigger WHERE tgrelid = %s AND NOT tgisinternal", oid)
            },
        }  # fmt: skip
    return found
