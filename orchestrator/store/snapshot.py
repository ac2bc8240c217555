"""A store as one SQLite file of its own: for ad-hoc queries, exports, search and backups.

sqlite-utils brings a second SQLite library into the process; on the live file the two would break each other's locks.
So the tools work on a snapshot, which also makes one set of them serve both stores.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.domain.errors import InvalidInput, NotFound, Refused, StoreUnavailable
from orchestrator.store.dialect import POSTGRES
from orchestrator.store.schema import schema_text
from orchestrator.store.unit import Store

if TYPE_CHECKING:
    from sqlite_utils import Database

SEARCHED = {
    "stories": ("story_code", "title", "description", "acceptance_criteria", "domain"),
    "signals": ("signal_type", "from_agent", "to_agent", "payload"),
}
"""Tables with full-text search, and their columns."""


def write(store: Store, path: Path, *, force: bool = False) -> int:
    """Write a consistent copy of the store to the SQLite file ``path``; its size in bytes.

    Safe while others write. Refused where the file exists, unless ``force``; it is replaced in one step.
    """
    if path.exists() and not force:
        raise Refused(f"{path} exists", hint="Name another file, or say --force to replace it.")
    if store.engine.url.startswith("sqlite:///"):
        live = Path(store.engine.url.removeprefix("sqlite:///"))
        if path.exists() and path.samefile(live):
            raise Refused(f"{path} is the store itself", hint="Name another file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}", hint="Name another folder.") from None
    os.close(handle)
    part = Path(name)
    try:
        _copy(store, part)
        part.replace(path)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}", hint="Name another file.") from None
    finally:
        part.unlink(missing_ok=True)
    return path.stat().st_size


def _copy(store: Store, path: Path) -> None:
    if store.engine.name == POSTGRES:
        _copy_tables(store, path)
    else:
        _backup(store, path)


def _backup(store: Store, path: Path) -> None:
    """SQLite's own backup: a consistent copy, whatever is written meanwhile."""
    import apsw

    target = apsw.Connection(str(path))
    try:
        with target.backup("main", store.engine.connection, "main") as backup:  # type: ignore[attr-defined]
            # In one step: a copy in many would begin anew at every commit of others.
            backup.step()
        target.execute("PRAGMA journal_mode = DELETE")
    except apsw.Error as error:
        raise StoreUnavailable(
            f"the snapshot could not be made: {error}", hint="Check the disk and try again."
        ) from error
    finally:
        target.close()


def _copy_tables(store: Store, path: Path) -> None:
    """Every table of a Postgres store, of one REPEATABLE READ snapshot, into the same schema of SQLite."""
    import apsw

    target = apsw.Connection(str(path))
    try:
        target.execute(schema_text("sqlite"))
        target.execute("PRAGMA foreign_keys = OFF")
        target.execute("BEGIN")
        here = {name for (name,) in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        tables = sorted(store.engine.tables() & here)
        with store.read():
            for table in tables:
                if table == "schema_version":
                    target.execute("DELETE FROM schema_version")
                _copy_table(target, _stream(store, table), table)
        target.execute("COMMIT")
        if broken := target.execute("PRAGMA foreign_key_check").fetchall():
            raise StoreUnavailable(f"the snapshot has dangling rows: {broken[:3]}", hint="Run `maf doctor`.")
    except apsw.Error as error:
        raise StoreUnavailable(
            f"the snapshot could not be made: {error}", hint="Check the disk and try again."
        ) from error
    finally:
        target.close()


def _stream(store: Store, table: str) -> Iterator[dict[str, Any]]:
    """The rows of a Postgres table, a few thousand in memory at once."""
    connection: Any = store.engine.connection  # type: ignore[attr-defined]
    with connection.cursor(name="maf_snapshot") as cursor:
        cursor.itersize = 2000
        cursor.execute(f'SELECT * FROM "{table}" ORDER BY 1')
        yield from cursor


def _copy_table(target: Any, rows: Iterator[dict[str, Any]], table: str) -> None:
    statement = ""
    for row in rows:
        if not statement:
            columns = ", ".join(f'"{c}"' for c in row)
            statement = f'INSERT INTO "{table}" ({columns}) VALUES ({", ".join("?" * len(row))})'
        target.execute(statement, [_plain(value) for value in row.values()])


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if isinstance(value, dict | list) else value


@contextlib.contextmanager
def opened(store: Store) -> Iterator[Database]:
    """A snapshot in a temporary file, as a sqlite-utils database; gone afterwards."""
    from sqlite_utils import Database

    with tempfile.TemporaryDirectory(prefix="maf-snapshot-") as folder:
        path = Path(folder) / "snapshot.db"
        _copy(store, path)
        database = Database(path)
        try:
            yield database
        finally:
            database.close()


def query(store: Store, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows of one query over a snapshot. InvalidInput: SQLite refuses it, or it returns no rows at all."""
    import sqlite3

    with opened(store) as database:
        try:
            cursor = database.conn.execute(sql)
            rows = [tuple(row) for row in cursor]
        except (sqlite3.Error, sqlite3.Warning, ValueError, UnicodeError) as error:
            raise InvalidInput(
                f"SQLite refuses the query: {error}", hint="`maf db info` lists the tables; it is one SELECT."
            ) from None
        if cursor.description is None:
            raise InvalidInput(
                "this is no query: it returns nothing", hint="A query works on a copy; it changes nothing."
            )
        return [column[0] for column in cursor.description], rows


def search(store: Store, words: str, *, limit: int = 50) -> list[dict[str, Any]]:
    """Stories and signals with all of ``words``, the best first: {table, id, code, text, rank}."""
    if not words.strip():
        raise InvalidInput("there is nothing to search for", hint="Give one word or more.")
    found: list[dict[str, Any]] = []
    with opened(store) as database:
        enable_search(database)
        for table in SEARCHED:
            for row in database.table(table).search(words, limit=limit, quote=True, include_rank=True):
                text = row["title"] if table == "stories" else f"{row['signal_type']} {row['payload']}"
                found.append({
                    "table": table, "id": row["id"], "code": row.get("story_code"), "text": text, "rank": row["rank"],
                })  # fmt: skip
    return sorted(found, key=lambda row: row["rank"])[:limit]


def enable_search(database: Database) -> None:
    """Add full-text indexes over stories and signals."""
    for table, columns in SEARCHED.items():
        database.table(table).enable_fts(columns, tokenize="porter", replace=True)


def export(
    store: Store, folder: Path, kind: str, *, tables: Sequence[str] = (), fts: bool = False, force: bool = False
) -> dict[str, int]:
    """Write tables as ``NAME.json`` or ``NAME.csv`` into ``folder``, or all as ``maf.db`` (``kind`` sqlite).

    Returns the rows of each table. NotFound: no such table. Refused: a file exists, unless ``force``.
    """
    with opened(store) as database:
        there = [name for name in database.table_names() if not name.startswith("sqlite_")]
        for name in tables:
            if name not in there:
                raise NotFound(f"there is no table {name[:60]!r}", hint=f"Tables are {', '.join(sorted(there))}.")
        chosen = list(dict.fromkeys(tables)) or sorted(there)
        counts = {name: database.table(name).count for name in chosen}
        if fts:
            enable_search(database)
        names = ["maf.db"] if kind == "sqlite" else [f"{name}.{kind}" for name in chosen]
        taken = [name for name in names if (folder / name).exists()]
        if taken and not force:
            raise Refused(f"{folder / taken[0]} exists", hint="Name another folder, or say --force to replace it.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if kind == "sqlite":
                (folder / "maf.db").unlink(missing_ok=True)
                database.conn.execute("VACUUM INTO ?", [str(folder / "maf.db")])
            else:
                for name in chosen:
                    _export_table(database, name, folder / f"{name}.{kind}", kind)
        except OSError as error:
            raise StoreUnavailable(
                f"{folder} cannot be written: {error.strerror}", hint="Name another folder."
            ) from None
    return counts


def _export_table(database: Database, name: str, path: Path, kind: str) -> None:
    table = database.table(name)
    if kind == "csv":
        import csv

        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            columns = [column.name for column in table.columns]
            writer.writerow(columns)
            writer.writerows([row[c] for c in columns] for row in table.rows)
        return
    rows = [{column: decoded(column, value) for column, value in row.items()} for row in table.rows]
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", "utf-8")


def decoded(column: str, value: Any) -> Any:
    """A JSON column's text as JSON."""
    from orchestrator.store.sqlite import JSON_COLUMNS

    return json.loads(value) if column in JSON_COLUMNS and isinstance(value, str) else value
