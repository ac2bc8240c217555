"""Postgres through psycopg 3. The server's clock; LISTEN/NOTIFY as a wake-up hint only; the tables are the truth.

Exclusive writers hold an advisory lock of this schema, shared ones hold it shared: so lifecycle changes happen one
after another, exactly as on SQLite, while signals are sent and taken side by side.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import psycopg
from psycopg import errors as pg
from psycopg.adapt import Loader
from psycopg.rows import dict_row
from psycopg.types.datetime import TimestamptzLoader

from orchestrator.domain import moments
from orchestrator.domain.errors import InvalidInput, StoreUnavailable
from orchestrator.store.dialect import POSTGRES, Query, query
from orchestrator.store.unit import SHARED, Retry, Row

_CLASS = 0x6D6166
"""Our advisory locks' class: 'maf'."""
_SERVER_GONE = (pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow, pg.IdleSessionTimeout)
"""The server ends the session: the connection is lost, though it may not look closed yet."""


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _refuse_unreadable(url: str) -> None:
    """A password with a bare ``@`` or ``/`` is cut at the wrong place, and its rest printed as a host or a port."""
    user, at, _ = url.partition("://")[2].rpartition("@")
    if at and any(mark in user for mark in "@/?#"):
        raise StoreUnavailable(
            "the Postgres URL cannot be read: its user or password has one of @ / ? # in it",
            hint="Write these as %40 %2F %3F %23, or leave the password to PGPASSWORD or ~/.pgpass.",
        )


def _without_secrets(url: str, message: str) -> str:
    """``message`` without the URL's password, as it stands there or decoded."""
    password = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    given = parse_qs(url.partition("?")[2]).get("password", [])
    secrets = {password, unquote(password), *given, *(quote(g) for g in given)} - {""}
    for secret in sorted(secrets, key=len, reverse=True):
        message = message.replace(secret, "***")
    return message


class _Moment(TimestamptzLoader):
    """``2026-11-22 11:47:40.885663+00``, as every session of ours shows it, is nearly a moment already."""

    def load(self, data: Any) -> Any:
        text = bytes(data).decode()
        if len(text) >= 22 and text[4] == "-" and text.endswith("+00"):
            return f"{text[:10]}T{text[11:19]}.{text[20:-3]:0<6}Z"
        return moments.from_datetime(super().load(data).astimezone(UTC))


class _Text(Loader):
    def load(self, data: Any) -> str:
        return bytes(data).decode()


class PostgresEngine:
    """One connection to a Postgres database; the schema is that of the connection's search_path."""

    name = POSTGRES

    def __init__(self, url: str) -> None:
        self.url = url
        self._in = False
        self._listening = self._waiting = False
        self._channel = ""
        _refuse_unreadable(url)
        self._connect()

    def _connect(self) -> None:
        try:
            self.connection = psycopg.connect(self.url, autocommit=True, connect_timeout=10, row_factory=dict_row)
        except (psycopg.Error, UnicodeError) as error:
            raise StoreUnavailable(
                f"Postgres cannot be reached: {_without_secrets(self.url, _first_line(error))}",
                hint="Check the URL's host, port, user and database, and that the server runs.",
            ) from None  # its text may hold the URL's password
        self.connection.adapters.register_loader("timestamptz", _Moment)
        self.connection.adapters.register_loader("uuid", _Text)
        self.connection.prepare_threshold = 2
        # Once for the whole session: times in UTC whatever the server's default is; and a prepared statement is planned
        # once, as each is written so that its plan does not hang on its parameters. Nor is any of them so large that
        # starting workers or compiling it would pay.
        rows = self._simple(
            "SET TimeZone = 'UTC'; SET client_min_messages = warning; SET plan_cache_mode = force_generic_plan; "
            "SET max_parallel_workers_per_gather = 0; SET jit = off; SELECT md5(current_schema()) AS schema"
        )
        # Each store of a database, being a schema, has a channel of its own.
        self._channel = f"maf_{rows[0]['schema']}"
        self._notify = f"NOTIFY {self._channel}".encode()
        self._listening = False

    def _simple(self, sql: str) -> list[Row]:
        """Several statements in one round trip; the last result's rows."""
        cursor = self.connection.cursor()
        cursor.execute(sql.encode(), prepare=False)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []

    def version(self) -> str:
        number = self.connection.info.server_version
        return f"{number // 10000}.{number % 10000}"

    def begin_read(self) -> None:
        self._begin(["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"])

    def begin_write(self, scope: str) -> Row:
        lock = "pg_advisory_xact_lock_shared" if scope == SHARED else "pg_advisory_xact_lock"
        found = self._begin(
            ["BEGIN", f"SELECT {lock}({_CLASS}, hashtext(current_schema()))", query("unit.begin", POSTGRES).sql]
        )
        return found.fetchall()[0]

    def _begin(self, statements: Sequence[str]) -> psycopg.Cursor[Row]:
        """Run what opens a transaction, in one round trip; the cursor of the last."""
        for attempt in (1, 2):
            if self.connection.closed:
                self._connect()
            self._in = True
            try:
                with self.connection.pipeline():
                    cursors = [self.connection.execute(sql.encode()) for sql in statements]
                return cursors[-1]
            except psycopg.OperationalError as error:
                # An idle connection that the server or a proxy has dropped: nothing was begun, so once more.
                if isinstance(error, _SERVER_GONE):
                    self._lost()
                self.rollback()
                if attempt == 2 or not self.connection.closed:
                    raise self._translated(error) from error
            except psycopg.Error as error:
                self.rollback()
                raise self._translated(error) from error
        raise AssertionError

    def commit(self, last: Sequence[tuple[Query, dict[str, Any]]], *, wake: bool) -> None:
        try:
            with self.connection.pipeline():
                for statement, parameters in last:
                    self.connection.execute(statement.sql, parameters)
                if wake:
                    self.connection.execute(self._notify)
                done = self.connection.execute("COMMIT")
            if done.statusmessage != "COMMIT":
                raise psycopg.OperationalError(f"asked to commit, the server said {done.statusmessage}")
            self._in = False
        except psycopg.OperationalError as error:
            if not self.connection.closed and not isinstance(error, _SERVER_GONE):
                # The server answered, and said no: nothing of it stands.
                self.rollback()
                raise self._translated(error) from error
            self._lost()
            retry = Retry(
                StoreUnavailable(
                    f"the connection was lost while committing; whether it was done is not known ({error})".strip(),
                    hint="Look with `maf history`, or repeat it with --key, which does it once.",
                )
            )
            retry.ambiguous = True  # type: ignore[attr-defined]
            raise retry from error
        except psycopg.Error as error:
            self.rollback()
            raise self._translated(error) from error

    def rollback(self) -> None:
        if self._in:
            self._in = False
            with suppress(psycopg.Error):
                if not self.connection.closed:
                    self._simple("ROLLBACK")

    def _lost(self) -> None:
        self._in = False
        self.connection.close()

    def execute(self, statement: Query, parameters: dict[str, Any]) -> list[Row]:
        try:
            cursor = self.connection.execute(statement.sql, parameters)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise self._translated(error) from error

    def execute_all(self, statements: Sequence[tuple[Query, dict[str, Any]]]) -> list[list[Row]]:
        try:
            with self.connection.pipeline():
                cursors = [self.connection.execute(statement.sql, parameters) for statement, parameters in statements]
            return [cursor.fetchall() if cursor.description else [] for cursor in cursors]
        except psycopg.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: psycopg.Error) -> Exception:
        """The table that maps the driver's errors to ours."""
        text = _first_line(error)
        if isinstance(error, pg.SerializationFailure | pg.DeadlockDetected | pg.UniqueViolation):
            return Retry(StoreUnavailable(f"Postgres gave up after retries: {text}", hint="Try again."))
        if isinstance(error, _SERVER_GONE):
            self._lost()
        if isinstance(error, pg.UndefinedTable):
            return StoreUnavailable(f"the store has no maf tables: {text}", hint="Run `maf init` with this --db.")
        if isinstance(error, pg.InsufficientPrivilege):
            return StoreUnavailable(f"Postgres refuses: {text}", hint="Grant the role its rights on maf's tables.")
        if isinstance(error, pg.DiskFull):
            return StoreUnavailable(f"Postgres: {text}", hint="Free some space on the server.")
        if self.connection.closed:
            return Retry(StoreUnavailable(f"the connection to Postgres was lost: {text}", hint="Try again."))
        if isinstance(error, psycopg.OperationalError):
            return StoreUnavailable(f"Postgres: {text}", hint="Check the server, then try again.")
        return error

    def script(self, sql: str) -> None:
        try:
            self._simple(sql)
        except psycopg.Error as error:
            with suppress(psycopg.Error):
                self._simple("ROLLBACK")
            raise StoreUnavailable(f"Postgres: {str(error).strip()}", hint="See the message.") from error

    def tables(self) -> set[str]:
        self._begin(["BEGIN READ ONLY"])
        try:
            return {
                row["name"]
                for row in self._simple("SELECT table_name AS name FROM information_schema.tables "
                                        "WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'")
            }  # fmt: skip
        except psycopg.Error as error:
            raise StoreUnavailable(f"Postgres: {_first_line(error)}", hint="Try again.") from error
        finally:
            self.rollback()

    def prepare_wait(self) -> None:
        if self.connection.closed:
            self._connect()
        if not self._listening:
            self._simple(f"LISTEN {self._channel}")
            self._listening = True
        self._waiting = True

    def wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        try:
            missed = self._waiting and (self.connection.closed or not self._listening)
            self.prepare_wait()
            if missed:
                return True  # reconnected since prepare_wait: nobody listened for a while
            me = self.connection.info.backend_pid
            while not any([notice.pid != me for notice in self.connection.notifies(timeout=0)]):  # noqa: C419 - read all
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                select.select([self.connection.fileno()], [], [], left)
        except (psycopg.Error, OSError):
            # A lost connection may have swallowed a notice: look, and reconnect on the way.
            self._lost()
            time.sleep(min(max(deadline - time.monotonic(), 0), 1.0))
        return True

    def raw(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        self.begin_read()
        try:
            cursor = self.connection.cursor(row_factory=psycopg.rows.tuple_row)
            # Prepared, so that it is one statement: a second one could leave the read-only transaction.
            cursor.execute(sql.encode(), prepare=True)
            if cursor.description is None:
                return [], []
            return [column.name for column in cursor.description], cursor.fetchall()
        except psycopg.Error as error:
            raise InvalidInput(f"Postgres refuses the query: {str(error).strip()}", hint="Check the SQL.") from error
        finally:
            self.rollback()

    def close(self) -> None:
        self.rollback()
        self.connection.close()
