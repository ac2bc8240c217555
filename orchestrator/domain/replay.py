"""The audit log as a fold: each entry's ``details.changes``, laid over what came before, gives the tables.

A change is ``[table, op, image]``. An ``insert`` image holds every column that is not null, an ``update`` image the key
and the columns that may have changed, a ``delete`` image the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Row = dict[str, Any]
Key = tuple[Any, ...]
Tables = dict[str, dict[Key, Row]]

KEYS: dict[str, tuple[str, ...]] = {
    "waves": ("id",),
    "stories": ("id",),
    "signals": ("id",),
    "agent_sessions": ("id",),
    "gate_transitions": ("id",),
    "qa_reports": ("id",),
    "wave_dependencies": ("wave_id", "depends_on_wave_id"),
    "story_dependencies": ("story_id", "depends_on_story_id"),
    "assignments": ("id",),
    "agent_epochs": ("id",),
    "signal_deliveries": ("id",),
    "agent_runs": ("id",),
    "token_usage": ("id",),
    "domain_ownership": ("domain",),
    "emergency_stops": ("id",),
}
"""The tables that the log gives, with their primary keys: all but the log itself, idempotency keys, schema version."""

UNLOGGED: dict[str, frozenset[str]] = {
    "agent_sessions": frozenset({"last_heartbeat", "lease_until"}),
    "signal_deliveries": frozenset({"delivered_at"}),
}
"""Columns left out of the log: every command of every agent would write them."""


class BrokenLog(ValueError):
    """An entry that cannot follow what the log says before it."""


def empty() -> Tables:
    """The tables before the first entry."""
    return {table: {} for table in KEYS}


def apply(tables: Tables, changes: Iterable[tuple[str, str, Mapping[str, Any]]]) -> None:
    """Lay the changes of one entry over ``tables``. BrokenLog: a row appears twice, or changes before it is there."""
    for table, op, image in changes:
        rows = tables[table]
        key = tuple(image[column] for column in KEYS[table])
        if op == "insert":
            if key in rows:
                raise BrokenLog(f"{table} {key} is inserted twice")
            rows[key] = dict(image)
        elif key not in rows:
            raise BrokenLog(f"{table} {key} is changed by a {op}, but was never inserted")
        elif op == "update":
            rows[key].update(image)
        else:
            del rows[key]


def differences(replayed: Tables, actual: Mapping[str, Iterable[Row]]) -> list[Row]:
    """Where the two differ: ``{table, key, column, replayed, actual}``; ``column`` is None where a whole row does."""
    found: list[Row] = []
    for table, columns in KEYS.items():
        rows = {tuple(row[c] for c in columns): row for row in actual[table]}
        for key in rows.keys() | replayed[table].keys():
            there, told = rows.get(key), replayed[table].get(key)
            if there is None or told is None:
                found.append({"table": table, "key": key, "column": None, "replayed": told, "actual": there})
                continue
            compared = sorted((there.keys() | told.keys()) - UNLOGGED.get(table, frozenset()))
            found += [
                {"table": table, "key": key, "column": c, "replayed": told.get(c), "actual": there.get(c)}
                for c in compared
                if there.get(c) != told.get(c)
            ]
    return found
