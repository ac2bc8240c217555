"""The schema files as sqlglot reads them, brought to one form in which the two can be compared."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp

TOP = Path(__file__).resolve().parents[2]
NEW_ID, NOW = "a new id", "now"

# What stands in SQLite for a type of Postgres, with the column's name as C.
ID_FORM = (
    "C GLOB '????????-????-????-????-????????????' AND LENGTH(REPLACE(C, '-', '')) = 32 AND NOT C GLOB '*[^0-9a-f-]*'"
)
MOMENT_FORM = (
    "C GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z' AND "
    "SUBSTRING(C, 1, 19) IS STRFTIME('%Y-%m-%dT%H:%M:%S', SUBSTRING(C, 1, 19), '+0 days')"
)
INT_FORM = "C BETWEEN -2147483648 AND 2147483647"
NEW_ID_SQLITE = (
    "(LOWER(HEX(RANDOMBLOB(4)) || '-' || HEX(RANDOMBLOB(2)) || '-4' || SUBSTRING(HEX(RANDOMBLOB(2)), 2) || '-a' || "
    "SUBSTRING(HEX(RANDOMBLOB(2)), 2) || '-' || HEX(RANDOMBLOB(6))))"
)
DEFAULTS = {
    NEW_ID_SQLITE: NEW_ID,
    "GEN_RANDOM_UUID()": NEW_ID,
    "(STRFTIME('%Y-%m-%dT%H:%M:%f000Z', 'now'))": NOW,
    "CURRENT_TIMESTAMP": NOW,
    "(STRFTIME('%Y-%m-%dT%H:%M:%f000Z', 'now', '+28800 seconds'))": "now + 8 h",
    "(CURRENT_TIMESTAMP + INTERVAL '28800 SECONDS')": "now + 8 h",
}


@dataclass
class Column:
    name: str
    type: str
    required: bool
    default: str | None
    unique: bool
    primary: bool
    references: tuple[str, str] | None
    checks: list[str]


@dataclass
class Table:
    name: str
    columns: list[Column]
    constraints: list[str]

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


def text(engine: str) -> str:
    return (TOP / f"schema_{engine}.sql").read_text("utf-8")


@cache
def statements(engine: str) -> list[exp.Expr]:
    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it has no grammar for triggers; they are compared as text
    return [s for s in sqlglot.parse(text(engine), read=engine) if s is not None]


def plain(node: Any, engine: str) -> str:
    return str(node.sql(dialect=engine, comments=False))


@cache
def tables(engine: str) -> list[Table]:
    found = [s for s in statements(engine) if isinstance(s, exp.Create) and s.kind == "TABLE"]
    return [_table(s, engine) for s in found]


def indexes(engine: str) -> list[tuple[str, str, bool, list[str], str | None]]:
    """(name, table, unique, columns, predicate), in the file's order."""
    found = []
    for s in statements(engine):
        if isinstance(s, exp.Create) and s.kind == "INDEX":
            params = s.this.args["params"]
            where = params.args.get("where")
            columns = [c.this.name for c in params.args["columns"]]
            predicate = plain(where.this, engine).replace("<>", "!=") if where else None
            predicate = re.sub(r"NOT (\w+) IS NULL", r"\1 IS NOT NULL", predicate) if predicate else None
            found.append((s.this.name, s.this.args["table"].name, bool(s.args["unique"]), columns, predicate))
    return found


def triggers(engine: str) -> list[tuple[str, str, str]]:
    """(name, event, table), in the file's order."""
    return re.findall(r"CREATE TRIGGER (\w+) BEFORE (\w+) ON (\w+)", text(engine))


def comments(engine: str) -> list[tuple[str, str]]:
    """Every comment line below the header, with the name that it stands above."""
    lines = text(engine).split("\nBEGIN;\n", 1)[1].splitlines()
    found = []
    for number, line in enumerate(lines):
        if line.lstrip().startswith("--"):
            below = next((x for x in lines[number:] if x.strip() and not x.lstrip().startswith("--")), "")
            found.append((line.strip(), " ".join(re.findall(r"\w+", below)[: 3 if below[:1] == "C" else 1])))
    return found


def _table(create: exp.Create, engine: str) -> Table:
    name = create.this.this.name
    parts = create.this.expressions
    columns = [_column(part, engine) for part in parts if isinstance(part, exp.ColumnDef)]
    rest = sorted(plain(part, engine) for part in parts if not isinstance(part, exp.ColumnDef))
    for part in parts:
        if isinstance(part, exp.PrimaryKey):
            for column in part.expressions:
                next(c for c in columns if c.name == column.name).required = True
    return Table(name, columns, [r.replace("!=", "<>") for r in rest])


def _column(node: exp.ColumnDef, engine: str) -> Column:
    column = Column(node.name, plain(node.args["kind"], engine), False, None, False, False, None, [])
    counter = False
    for constraint in node.args["constraints"]:
        kind = constraint.kind
        if isinstance(kind, exp.NotNullColumnConstraint):
            column.required = not kind.args.get("allow_null")
        elif isinstance(kind, exp.DefaultColumnConstraint):
            written = plain(kind.this, engine)
            column.default = DEFAULTS.get(written, written)
        elif isinstance(kind, exp.CheckColumnConstraint):
            column.checks.append(re.sub(rf"\b{node.name}\b", "C", plain(kind.this, engine)))
        elif isinstance(kind, exp.UniqueColumnConstraint):
            column.unique = True
        elif isinstance(kind, exp.PrimaryKeyColumnConstraint):
            column.primary = column.required = True
        elif isinstance(kind, exp.Reference):
            column.references = (kind.this.this.name, kind.this.expressions[0].name)
        elif isinstance(kind, exp.AutoIncrementColumnConstraint | exp.GeneratedAsIdentityColumnConstraint):
            counter = True
        else:
            raise NotImplementedError(f"{node.name}: the test does not know {kind!r}")
    _meaning(column, engine, counter=counter)
    return column


def _meaning(column: Column, engine: str, *, counter: bool) -> None:
    """Replace the engine's type, and the checks that stand for one, by what both mean."""
    chosen = any(check.startswith("C IN (") for check in column.checks)
    if engine == "sqlite":
        column.type, column.checks = _sqlite_type(column)
    else:
        json = [c for c in column.checks if c.startswith("JSONB_TYPEOF(C) = ")]
        column.checks = [c for c in column.checks if c not in json]
        given = column.type
        column.type = {"INT": "int", "BIGINT": "bigint", "TIMESTAMPTZ": "moment", "UUID": "id", "TEXT": "text"}.get(
            given, given.lower()
        )
        if given == "JSONB":
            assert len(json) == 1, f"{column.name}: JSONB without its kind"
            column.type = f"json {json[0].split()[-1]}"
        elif chosen and given.startswith("VARCHAR"):
            column.type = "text"  # one of a list; its width says nothing more
    if counter:
        column.type = "counter"
    if column.references:
        assert column.type in ("text", "id"), column.name
        column.type = "id"


def _sqlite_type(column: Column) -> tuple[str, list[str]]:
    checks = column.checks
    if column.type == "INTEGER":
        if INT_FORM in checks:
            return "int", [c for c in checks if c != INT_FORM]
        if "C BETWEEN 1 AND 2147483647" in checks:
            return "int", ["C > 0", *(c for c in checks if c != "C BETWEEN 1 AND 2147483647")]
        bounded = column.primary or any(" BETWEEN " in c or " IN (" in c for c in checks)
        return ("int" if bounded else "bigint"), checks
    assert column.type == "TEXT", f"{column.name}: {column.type}"
    for form, meaning in ((ID_FORM, "id"), (MOMENT_FORM, "moment")):
        if form in checks:
            return meaning, [c for c in checks if c != form]
    for check in checks:
        if found := re.fullmatch(r"JSON_VALID\(C\) AND JSON_TYPE\(C\) = ('\w+')", check):
            return f"json {found[1]}", [c for c in checks if c != check]
        if found := re.fullmatch(r"LENGTH\(C\) <= (\d+)", check):
            return f"varchar({found[1]})", [c for c in checks if c != check]
    return "text", checks
