"""Transactions over either engine: a read is a snapshot, a write is a unit of work that logs what it changed.

Every logged statement returns the key and the columns that it may have changed; they become ``details.changes`` of the
transaction's ``agent_activity`` rows, which therefore replay to the very tables. The log is written last, while the
rows it tells of are still locked, so its order is theirs.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self, TypeVar

from orchestrator.domain import ids, moments
from orchestrator.domain.errors import InvalidInput, LostRace
from orchestrator.store.dialect import Query, query

Row = dict[str, Any]
T = TypeVar("T")

EXCLUSIVE = "exclusive"
"""Alone among writers: what moves stories, waves and sessions. Such transactions happen one after another."""
SHARED = "shared"
"""Beside other shared writers (Postgres): sending and taking signals, heartbeats."""

KEYS: dict[str, tuple[str, ...]] = {
    "wave_dependencies": ("wave_id", "depends_on_wave_id"),
    "story_dependencies": ("story_id", "depends_on_story_id"),
    "domain_ownership": ("domain",),
}
"""Primary keys that are not ``id``."""

_ATTEMPTS = 8


def key_of(table: str) -> tuple[str, ...]:
    """The primary key's columns of ``table``."""
    return KEYS.get(table, ("id",))


class Retry(Exception):
    """The engine asks for the transaction to be run again (deadlock, lost connection before the commit)."""


class Engine(Protocol):
    """What a driver must do. Values are str, int, float, None, and dict or list for JSON columns, on both engines."""

    name: str
    url: str

    def version(self) -> str:
        """The database's own version, such as ``3.53.0``."""

    def begin_read(self) -> None:
        """Open a snapshot."""

    def begin_write(self, scope: str) -> Row:
        """Open a write transaction; returns the query ``unit.begin``, and ``now``, the store's clock."""

    def commit(self, last: Sequence[tuple[Query, dict[str, Any]]], *, wake: bool) -> None:
        """Run the ``last`` statements and make it all durable; ``wake`` tells those who wait, once it can be read."""

    def rollback(self) -> None:
        """Forget it; never raises."""

    def execute(self, statement: Query, parameters: dict[str, Any]) -> list[Row]:
        """Run one statement and return all its rows."""

    def execute_all(self, statements: Sequence[tuple[Query, dict[str, Any]]]) -> list[list[Row]]:
        """Run statements that do not need one another's rows, in one round trip; the rows of each."""

    def script(self, sql: str) -> None:
        """Run many statements that manage their own transaction (schemas)."""

    def tables(self) -> set[str]:
        """The names of the tables in this store's schema."""

    def wait(self, seconds: float) -> bool:
        """Sleep until another process commits something; False if nothing came in time."""

    def prepare_wait(self) -> None:
        """Note what has been seen, so that nothing committed after this is missed by :meth:`wait`."""

    def raw(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Run one read-only statement of a person's: (columns, rows)."""

    def close(self) -> None:
        """Let go of it."""


class Reader:
    """Reads of one snapshot."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def all(self, name: str, /, **parameters: Any) -> list[Row]:
        """Every row of the named query."""
        return self.engine.execute(query(name, self.engine.name), parameters)

    def one(self, name: str, /, **parameters: Any) -> Row | None:
        """The first row of the named query, or None."""
        rows = self.all(name, **parameters)
        return rows[0] if rows else None

    def each(self, *queries: tuple[str, dict[str, Any]]) -> list[list[Row]]:
        """The rows of several queries that do not need one another's, in one round trip."""
        return self.engine.execute_all([(query(name, self.engine.name), given) for name, given in queries])

    def must(self, name: str, /, **parameters: Any) -> Row:
        """The one row that a query such as a count always has."""
        return self.all(name, **parameters)[0]


def the_one(rows: list[Row]) -> Row:
    """The row that a compare-and-swap wrote. LostRace: there is none, so somebody else was first."""
    if len(rows) != 1:
        raise LostRace("somebody else was first", hint="Look at it again and retry.")
    return rows[0]


class Tx(Reader):
    """A write transaction. ``now`` is its moment by the store's clock, later than that of any logged one before it.

    ``overdue``: a session or a signal had run out at its beginning.
    """

    def __init__(self, engine: Engine, now: str, due: str | None = None) -> None:
        super().__init__(engine)
        self.now = now
        self.overdue = due is not None and due <= now
        self.wrote = False
        self._log: list[tuple[str, str, str | None, dict[str, Any]]] = []

    def activity(self, agent_id: str, activity_type: str, story_id: str | None = None, /, **details: Any) -> None:
        """Open a row of the audit log; the changes that follow belong to it, until the next."""
        self._log.append((agent_id, activity_type, story_id, {**details, "changes": []}))

    def write(self, name: str, /, *, before: Row | None = None, **parameters: Any) -> list[Row]:
        """Run a logged write and return its rows. ``before`` leaves columns that did not change out of the log."""
        statement = query(name, self.engine.name)
        rows = self.engine.execute(statement, parameters)
        self._note(statement, rows, before)
        return rows

    def write_all(
        self, statements: Sequence[tuple[str, dict[str, Any]]], *, before: Row | None = None
    ) -> list[list[Row]]:
        """Logged writes, and reads, that do not need one another's rows, in one round trip.

        ``before`` is about the first, as in :meth:`write`.
        """
        ready = [(query(name, self.engine.name), parameters) for name, parameters in statements]
        results = self.engine.execute_all(ready)
        for place, ((statement, _), rows) in enumerate(zip(ready, results, strict=True)):
            if statement.op is not None:
                self._note(statement, rows, None if place else before)
        return results

    def _note(self, statement: Query, rows: list[Row], before: Row | None = None) -> None:
        self.wrote = True
        changes = self._log[-1][3]["changes"]
        for row in rows:
            keys = key_of(statement.table or "")
            if statement.op == "insert":
                image = {column: value for column, value in row.items() if value is not None}
            elif before is not None:
                image = {c: v for c, v in row.items() if c in keys or c not in before or before[c] != v}
            else:
                image = row
            changes.append([statement.table, statement.op, image])

    def swap(self, name: str, /, *, before: Row | None = None, **parameters: Any) -> Row:
        """A compare-and-swap: the one row it wrote. LostRace: somebody else was first."""
        return the_one(self.write(name, before=before, **parameters))

    def mark(self, name: str, /, **parameters: Any) -> list[Row]:
        """Run a write that is left out of the log: heartbeats, delivery marks, idempotency keys."""
        self.wrote = True
        return self.engine.execute(query(name, self.engine.name), parameters)

    def log(self) -> list[tuple[Query, dict[str, Any]]]:
        """What writes the audit rows; the last thing before the commit."""
        insert = query("activity.insert", self.engine.name)
        for *_, details in self._log:
            if not details["changes"]:
                del details["changes"]
        return [
            (insert, {
                "id": ids.new_id(), "agent_id": agent_id, "activity_type": activity_type, "story_id": story_id,
                "details": json.dumps(details, ensure_ascii=False, separators=(",", ":")), "now": self.now,
            })
            for agent_id, activity_type, story_id, details in self._log
        ]  # fmt: skip


class Store:
    """One connection to a store; not shared between threads (open another: it is cheap).

    ``clock`` replaces the store's own clock, for tests.
    """

    def __init__(self, engine: Engine, clock: Callable[[], str] | None = None) -> None:
        self.engine = engine
        self.clock = clock
        self._tx: Tx | None = None

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """A snapshot to read from. Inside a write it is that transaction. StoreUnavailable: it was lost meanwhile."""
        if self._tx is not None:
            yield self._tx
            return
        try:
            self.engine.begin_read()
            yield Reader(self.engine)
        except Retry as asked:
            raise asked.args[0] from asked.__cause__
        finally:
            self.engine.rollback()

    def write(self, work: Callable[[Tx], T], *, scope: str = EXCLUSIVE, repeatable: bool = False) -> T:
        """Run ``work`` in a write transaction, again if the engine asks for it, and return what it returns.

        ``repeatable``: the work carries an idempotency key, so it may run again even after a commit whose outcome
        is not known. Raises what ``work`` raises, with nothing written; StoreUnavailable after the last attempt.
        """
        for attempt in range(_ATTEMPTS):
            try:
                return self._once(work, scope)
            except Retry as asked:
                cause = asked.__cause__
                error = asked.args[0]
                if attempt == _ATTEMPTS - 1 or (getattr(asked, "ambiguous", False) and not repeatable):
                    raise error from cause
                time.sleep(random.uniform(0, 0.01 * 2**attempt))
        raise AssertionError

    def _once(self, work: Callable[[Tx], T], scope: str) -> T:
        found = self.engine.begin_write(scope)
        now, last = self.clock() if self.clock else found["now"], found["last"]
        if last is not None and last >= now:
            now = moments.after(last, 1e-6)
        due = min((m for m in (found["lease_due"], found["signal_due"]) if m is not None), default=None)
        tx = self._tx = Tx(self.engine, now, due)
        try:
            result = work(tx)
            last = tx.log()
            if tx.wrote or last:
                self._tx = None
                self.engine.commit(last, wake=bool(last))
            else:
                self.engine.rollback()
        except BaseException:
            self.engine.rollback()
            raise
        finally:
            self._tx = None
        return result

    def now(self) -> str:
        """The store's clock."""
        if self.clock:
            return self.clock()
        with self.read() as reader:
            return str(reader.must("clock.now")["now"]) if self.engine.name == "postgres" else moments.system_now()

    def close(self) -> None:
        """Let go of the connection."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(url: str, *, clock: Callable[[], str] | None = None, check_schema: bool = True) -> Store:
    """Open the store at ``url`` (``sqlite:///PATH`` or ``postgresql://…``).

    Raises InvalidInput for an unknown URL, StoreUnavailable where it cannot be reached, SchemaMismatch where its
    schema is missing, newer or unknown (unless ``check_schema`` is false).
    """
    if url.startswith("sqlite:///"):
        from orchestrator.store.sqlite import SqliteEngine

        engine: Engine = SqliteEngine(url)
    elif url.startswith(("postgresql://", "postgres://")):
        from orchestrator.store.postgres import PostgresEngine

        engine = PostgresEngine(url)
    else:
        raise InvalidInput(
            # Whatever it is, it may hold a password.
            f"{'this' if '@' in url or 'password' in url else repr(url[:80])} is not a store's URL",
            hint="Use sqlite:///PATH (four slashes for an absolute path) or postgresql://USER@HOST/DATABASE.",
        )
    store = Store(engine, clock)
    if check_schema:
        from orchestrator.store.schema import require_current

        try:
            require_current(store)
        except BaseException:
            store.close()
            raise
    return store


def as_list(values: Sequence[str], engine: str) -> Any:
    """A list parameter for an ``{any:…}`` token."""
    return list(values) if engine == "postgres" else json.dumps(list(values))
