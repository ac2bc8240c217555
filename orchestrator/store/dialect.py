"""The dialect layer: one SQL text for both stores.

Queries live in ``sql/*.sql`` under ``-- name: area.action`` lines, with ``:name`` parameters and a few tokens:

- ``{for_update}``    lock the rows read (Postgres); SQLite's writers are alone anyway
- ``{any:name}``      ``column {any:names}``: the column is one of a list of texts
- ``{any_id:name}``   the same for ids

A query that truly differs has a twin, ``-- name: area.action@postgres``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

SQLITE, POSTGRES = "sqlite", "postgres"

_HEAD = re.compile(r"^-- name: (\S+)[ \t]*$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")
_LIST = re.compile(r"\{(any|any_id):([a-z_]+)\}")
_WRITE = re.compile(r"\s*(?:WITH\b.*?\)\s*)?(INSERT INTO|UPDATE|DELETE FROM)\s+([a-z_]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Query:
    """A statement ready for one engine. ``table`` and ``op`` (insert, update, delete) are None for a read."""

    name: str
    sql: str
    parameters: frozenset[str]
    table: str | None
    op: str | None


def _translate(name: str, text: str, engine: str) -> Query:
    body = "\n".join(line for line in text.strip().splitlines() if not line.lstrip().startswith("--")).rstrip("; \n")
    written = _WRITE.match(body)
    if engine == POSTGRES:
        body = body.replace("%", "%%").replace("{for_update}", "FOR UPDATE")
        body = _LIST.sub(lambda m: f"= ANY(CAST(:{m[2]} AS {'UUID' if m[1] == 'any_id' else 'TEXT'}[]))", body)
    else:
        body = body.replace("{for_update}", "")
        body = _LIST.sub(lambda m: f"IN (SELECT value FROM json_each(:{m[2]}))", body)
    parameters = frozenset(_PARAMETER.findall(body))
    if engine == POSTGRES:
        body = _PARAMETER.sub(r"%(\1)s", body)
    op = written[1].split()[0].lower() if written else None
    return Query(name, body, parameters, written[2] if written else None, op)


@cache
def _texts() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted(resources.files("orchestrator.store").joinpath("sql").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".sql"):
            parts = _HEAD.split(file.read_text("utf-8"))
            for name, text in zip(parts[1::2], parts[2::2], strict=True):
                if name in found:
                    raise ValueError(f"two queries are named {name}")
                found[name] = text
    return found


@cache
def query(name: str, engine: str) -> Query:
    """The query of that name for ``engine``. KeyError: there is none."""
    texts = _texts()
    return _translate(name, texts.get(f"{name}@{engine}") or texts[name], engine)


def query_names() -> list[str]:
    """Every query, twins apart."""
    return sorted({name.split("@")[0] for name in _texts()})
