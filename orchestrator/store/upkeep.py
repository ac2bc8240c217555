"""What a person asks of the store itself: what is in it, is it whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.store import schema
from orchestrator.store.dialect import Query
from orchestrator.store.unit import Store


def info(store: Store) -> dict[str, Any]:
    """Kind, version, schema version, size in bytes, and the rows of each table."""
    tables = sorted(store.engine.tables() - {"sqlite_sequence"})
    with store.read() as reader:
        counts = {}
        for name in tables:
            counted = Query(name, f'SELECT COUNT(*) AS n FROM "{name}"', frozenset(), None, None)
            counts[name] = reader.engine.execute(counted, {})[0]["n"]
        size = reader.must("db.size")["size"]
    return {
        "kind": store.engine.name, "version": store.engine.version(), "schema": schema.version_of(store),
        "knows_schema": schema.VERSION, "size": size, "tables": counts,
    }  # fmt: skip


def check(store: Store) -> list[str]:
    """What is wrong with the store as a database; empty where it is whole."""
    problems: list[str] = []
    with store.read() as reader:
        for name in ("invariant.17.integrity", "invariant.17.foreign_keys"):
            problems += [", ".join(str(v) for v in row.values()) for row in reader.all(name)]
    version = schema.version_of(store)
    if version != schema.VERSION:
        problems.append(f"its schema version is {version}; this maf knows {schema.VERSION}")
    return problems


def path_of(store: Store) -> Path | None:
    """The file of a SQLite store."""
    url = store.engine.url
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
