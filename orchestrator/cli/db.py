"""``maf db``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.base import Cli, command, group
from orchestrator.cli.text import Screen, clean
from orchestrator.domain.errors import InvalidInput, StoreUnavailable

cli = group("db", "The store: what is in it, backups, queries, exports.")


def _public(cli: Cli) -> str:
    from orchestrator.bootstrap.init import public

    return public(cli.location.store()[0])


@command(cli, "info", "maf db info", "maf db info --db postgresql://db.example.org/maf", looks=True)
def info(cli: Cli) -> None:
    """Where the store is, its versions, its size, its tables."""
    from orchestrator.store import upkeep

    data = {"url": _public(cli), "origin": cli.location.store()[1], **upkeep.info(cli.store)}

    def people(screen: Screen) -> None:
        screen.facts([
            ("store", data["url"]), ("from", data["origin"]), ("kind", f"{data['kind']} {data['version']}"),
            ("schema", f"version {data['schema']}"), ("size", f"{data['size'] / 1024:.0f} KiB"),
        ])  # fmt: skip
        screen.line()
        screen.table(["TABLE", "ROWS"], list(data["tables"].items()))

    cli.out(data, people)


@command(cli, "upgrade", "maf db backup before.db && maf db upgrade")
def upgrade(cli: Cli) -> None:
    """Bring the store's schema to this maf's version. Back it up first."""
    from orchestrator.store import open_store, schema

    with open_store(cli.location.store()[0], check_schema=False) as store:
        passed = schema.upgrade(store)
    text = f"upgraded to schema version {passed[-1]}" if passed else f"the schema is current (version {schema.VERSION})"
    cli.out({"schema": schema.VERSION, "passed": passed}, text)


@command(cli, "check", "maf db check")
def check(cli: Cli) -> None:
    """Is the store whole: pages, foreign keys, schema version. `maf doctor` also looks at what it says."""
    from orchestrator.store import upkeep

    problems = upkeep.check(cli.store)
    if problems:
        raise StoreUnavailable(
            f"the store is damaged: {problems[0]}" + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""),
            hint="Restore a backup, or export what can be read: maf db export DIR", found=problems,
        )  # fmt: skip
    cli.out({"whole": True, "problems": []}, "the store is whole")


@command(cli, "backup", "maf db backup ~/backups/maf.db", "maf db backup maf-copy.db --force", looks=True)
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def backup(cli: Cli, path: Path, force: bool) -> None:
    """Write a consistent copy of the store to a SQLite file, also while others write, also of a Postgres store.

    `--db sqlite:///PATH` opens it like any store.
    """
    from orchestrator.store import snapshot

    size = snapshot.write(cli.store, path.expanduser(), force=force)
    cli.out({"path": str(path), "size": size}, f"{clean(str(path))}: {size / 1024:.0f} KiB")


@command(
    cli, "query",
    'maf db query "SELECT story_code, status FROM stories"',
    'maf db query "SELECT * FROM signals" --csv > signals.csv',
    "maf db query --search parser", looks=True,
)  # fmt: skip
@click.argument("sql", metavar="[SQL]", required=False)
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values.")
@click.option("--search", metavar="WORDS", help="Full-text search of stories and signals instead of SQL.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Of a search, the best so many."
)
def query(cli: Cli, sql: str | None, as_csv: bool, search: str | None, limit: int) -> None:
    """Ask with SQL of SQLite, over a copy: of either kind of store, and whatever it says changes nothing."""
    from orchestrator.store import snapshot

    if (sql is None) == (search is None):
        raise InvalidInput("give either SQL or --search WORDS", hint='maf db query "SELECT * FROM waves"')
    if as_csv and cli.as_json:
        raise InvalidInput("--csv and --json exclude each other", hint="Give one of them.")
    if search is not None:
        found = snapshot.search(cli.store, search, limit=limit)
        columns = ["table", "id", "code", "text", "rank"]
        rows: list[tuple[Any, ...]] = [tuple(row[c] for c in columns) for row in found]
    else:
        columns, rows = snapshot.query(cli.store, sql or "")
    if as_csv:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        cli.screen.write(text.getvalue())
        return
    data = [
        {c: v.hex() if isinstance(v, bytes) else snapshot.decoded(c, v) for c, v in zip(columns, row, strict=True)}
        for row in rows
    ]

    def people(screen: Screen) -> None:
        if not rows:
            screen.line("No rows.")
            return
        shown = [c for c in columns if c != "rank"]
        screen.table([c.upper() for c in shown], [[_cell(row[columns.index(c)]) for c in shown] for row in rows])

    cli.out(data, people)


def _cell(value: Any) -> str:
    return "" if value is None else value.hex() if isinstance(value, bytes) else str(value)


@command(
    cli, "export",
    "maf db export out/ --format csv",
    "maf db export out/ --format json --table stories --table signals",
    "maf db export out/ --format sqlite --fts", looks=True,
)  # fmt: skip
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--format", "kind", type=click.Choice(["json", "csv", "sqlite"]), default="json", show_default=True,
              help="A file for each table, or one SQLite file.")  # fmt: skip
@click.option("--table", "tables", multiple=True, metavar="NAME", help="Only this table; repeatable.")
@click.option("--fts", is_flag=True, help="With --format sqlite: add full-text search over stories and signals.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def export(cli: Cli, folder: Path, kind: str, tables: tuple[str, ...], fts: bool, force: bool) -> None:
    """Write the store's tables as JSON, CSV or one SQLite file with full-text search."""
    from orchestrator.store import snapshot

    if kind == "sqlite" and tables:
        raise InvalidInput("--format sqlite holds every table", hint="Leave --table out.")
    if fts and kind != "sqlite":
        raise InvalidInput("--fts is for --format sqlite", hint="Add --format sqlite.")
    counts = snapshot.export(cli.store, folder.expanduser(), kind, tables=tables, fts=fts, force=force)
    cli.out(
        {"folder": str(folder), "format": kind, "rows": counts},
        f"{sum(counts.values())} rows of {len(counts)} tables are in {clean(str(folder))}",
    )
