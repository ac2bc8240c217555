"""The schema files: found, applied, recognised, upgraded."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from orchestrator.domain.errors import SchemaMismatch, StoreUnavailable
from orchestrator.store.unit import Store, open_store

VERSION = 1
"""The schema that this code works on."""

MIGRATIONS: dict[int, dict[str, str]] = {}
"""``{from_version: {"sqlite": sql, "postgres": sql}}``, each leading to the next version in one transaction."""

OUR_TABLES = frozenset({"schema_version", "waves", "stories", "signals", "agent_sessions", "agent_activity"})


def schema_text(engine: str) -> str:
    """The bytes of ``schema_ENGINE.sql`` as text: packaged beside this module, or at the top of a checkout."""
    name = f"schema_{engine}.sql"
    packaged = resources.files("orchestrator.store").joinpath(name)
    if packaged.is_file():
        return packaged.read_text("utf-8")
    return (Path(__file__).resolve().parents[2] / name).read_text("utf-8")


def version_of(store: Store) -> int | None:
    """The schema version of a store; None where it has no maf tables, 0 where it has some but no version."""
    tables = store.engine.tables()
    if "schema_version" not in tables:
        return 0 if tables & OUR_TABLES else None
    with store.read() as reader:
        row = reader.one("schema.version")
    return int(row["version"]) if row and row["version"] is not None else 0


def require_current(store: Store) -> None:
    """Raise SchemaMismatch unless the store's schema is the one that this code works on."""
    found = version_of(store)
    if found == VERSION:
        return
    if found is None:
        raise SchemaMismatch("the store is empty: it has no maf tables", hint="Run `maf init` with this --db.")
    if found == 0:
        raise SchemaMismatch(
            "the store has tables with maf's names but no schema version", hint="Use another database or schema."
        )
    if found > VERSION:
        raise SchemaMismatch(
            f"the store has schema version {found}, this maf knows {VERSION}",
            hint="Install the newer maf that wrote it.",
        )
    raise SchemaMismatch(
        f"the store has schema version {found}, this maf needs {VERSION}",
        hint="Back it up (`maf db backup`), then run `maf db upgrade`.",
    )


def create(url: str) -> bool:
    """Make the store at ``url`` where it is missing; True if it was made. A current one is left as it is."""
    if url.startswith("sqlite:///"):
        from orchestrator.store.sqlite import SqliteEngine

        path = Path(url.removeprefix("sqlite:///"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"the folder {path.parent} cannot be made ({error.strerror})",
                hint="Choose a place that can be written: maf init --db sqlite:///PATH.",
            ) from error
        store = Store(SqliteEngine(url, create=True))
    else:
        store = open_store(url, check_schema=False)
    with store:
        if version_of(store) is None:
            try:
                store.engine.script(schema_text(store.engine.name))
            except Exception:
                # Two at once: the other one made it, which is as good.
                if version_of(store) != VERSION:
                    raise
                return False
            return True
        require_current(store)
        return False


def upgrade(store: Store) -> list[int]:
    """Bring the store to :data:`VERSION`; the versions passed through, empty where it was current.

    StoreUnavailable: a migration failed; the store is as it was before that one.
    """
    found = version_of(store)
    if found is None or found == 0 or found > VERSION:
        require_current(store)
    passed: list[int] = []
    for version in range(found or 0, VERSION):
        step = MIGRATIONS[version][store.engine.name]
        # The version first: of two upgrades at once, the second stops there instead of migrating again.
        mark = f"INSERT INTO schema_version (version) VALUES ({version + 1});"
        try:
            store.engine.script(f"BEGIN;\n{mark}\n{step}\nCOMMIT;")
        except StoreUnavailable:
            if (version_of(store) or 0) <= version:
                raise
        else:
            passed.append(version + 1)
    return passed
