"""SQLite through apsw, which carries its own current SQLite: WAL, ``synchronous=FULL``, foreign keys on.

Writers queue behind a lock on a side file before ``BEGIN IMMEDIATE``, so that SQLite's own busy waits (which starve
some and surface as "database is locked") are not what orders them. After a commit that is logged the doorbell file is
touched; waiting is inotify on it, with a look at ``data_version`` twice a second behind it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import apsw

from orchestrator.domain import moments
from orchestrator.domain.errors import InvalidInput, MafError, StoreUnavailable
from orchestrator.store.bell import Bell
from orchestrator.store.dialect import SQLITE, Query, query
from orchestrator.store.unit import Row

JSON_COLUMNS = frozenset(
    {"acceptance_criteria", "metadata", "payload", "details", "findings", "owns", "reads", "forbidden", "result"}
)
MINIMUM = (3, 51, 3)
"""Older ones have the WAL-reset bug that can corrupt a database (fixed in 3.51.3)."""
WAIT = 60.0
"""Seconds a writer waits for its turn before it gives up with exit 5."""
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "fuse.s3fs", "ceph", "lustre"})


class SqliteEngine:
    """One connection to a SQLite file."""

    name = SQLITE

    def __init__(self, url: str, *, create: bool = False) -> None:
        self.url = url
        self.path = Path(url.removeprefix("sqlite:///"))
        if tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) < MINIMUM:
            raise StoreUnavailable(
                f"SQLite {apsw.sqlite_lib_version()} can corrupt a database that several processes write",
                hint="Install apsw 3.51.3 or newer.",
            )
        if not self.path.exists() and not create:
            raise StoreUnavailable(f"there is no store at {self.path}", hint="Run `maf init` first.")
        self._refuse_network()
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        self._lock: int | None = None
        self._bell: Bell | None = None
        self._open = False
        with _errors(self.path):
            self.connection = apsw.Connection(str(self.path), flags=flags, statementcachesize=256)
            self.connection.set_busy_timeout(int(WAIT * 1000))
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute("PRAGMA foreign_keys = ON")
            status = self.path.stat()
            self._file = (status.st_dev, status.st_ino)
            self._use_wal()

    def _use_wal(self) -> None:
        """Also for a store that was made by hand. Two that switch at once would find the file locked: so by turns."""
        if self.connection.pragma("journal_mode") != "wal":
            self._queue()
            try:
                self.connection.pragma("journal_mode", "wal")
            finally:
                self._release()

    def _refuse_network(self) -> None:
        """SQLite's locks cannot be trusted on a network file system."""
        try:
            mounts = Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()
        except OSError:
            return
        folder = os.path.realpath(self.path.parent)
        best, kind = "", ""
        for line in mounts:
            _, point, fs, *_ = line.split(" ", 3)
            inside = folder == point or folder.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, fs
        if kind in _NETWORK:
            raise StoreUnavailable(
                f"{self.path} is on a network file system ({kind}), where SQLite's locks cannot be trusted",
                hint="Put the store on a local disk with `maf init --db sqlite:///…`, or use Postgres.",
            )

    def version(self) -> str:
        return apsw.sqlite_lib_version()

    def begin_read(self) -> None:
        with _errors(self.path):
            self.connection.execute("BEGIN")
        self._open = True

    def begin_write(self, scope: str) -> Row:  # noqa: ARG002 - SQLite's writers are alone
        self._refuse_replaced()
        self._queue()
        try:
            with _errors(self.path):
                self.connection.execute("BEGIN IMMEDIATE")
            self._open = True
            found = self.execute(query("unit.begin", SQLITE), {})[0]
        except BaseException:
            self.rollback()
            raise
        return {**found, "now": moments.system_now()}

    def _refuse_replaced(self) -> None:
        """Writing on in a deleted or replaced file would be done with exit 0, and be lost."""
        try:
            found = self.path.stat()
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._file:
            raise StoreUnavailable(
                f"the store {self.path} was deleted or replaced while it was in use",
                hint="Put it back, or end what runs and begin with `maf init`.",
            )

    def _queue(self) -> None:
        if self._lock is None:
            with _errors(self.path):
                self._lock = os.open(f"{self.path}-queue", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline, pause = time.monotonic() + WAIT, 0.0005
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreUnavailable(
                        f"the store was busy for {WAIT:.0f} s", hint="Find the stopped writer with `maf doctor`."
                    ) from None
                time.sleep(pause)
                pause = min(pause * 1.5, 0.01)
            else:
                return

    def commit(self, last: Sequence[tuple[Query, dict[str, Any]]], *, wake: bool) -> None:
        self.execute_all(last)
        try:
            with _errors(self.path):
                self.connection.execute("COMMIT")
            self._open = False
        finally:
            self._release()
        if wake:
            Bell.ring(self._bell_path)

    def rollback(self) -> None:
        if self._open:
            with suppress(apsw.Error):
                self.connection.execute("ROLLBACK")
            self._open = False
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def execute(self, statement: Query, parameters: dict[str, Any]) -> list[Row]:
        rows: list[Row] = []
        names: list[str] = []
        with _errors(self.path):
            cursor = self.connection.cursor()
            for values in cursor.execute(statement.sql, parameters):
                if not names:
                    names = [column[0] for column in cursor.get_description()]
                row = dict(zip(names, values, strict=True))
                for column in JSON_COLUMNS.intersection(names):
                    if isinstance(row[column], str):
                        row[column] = json.loads(row[column])
                rows.append(row)
        return rows

    def execute_all(self, statements: Sequence[tuple[Query, dict[str, Any]]]) -> list[list[Row]]:
        return [self.execute(statement, parameters) for statement, parameters in statements]

    def script(self, sql: str) -> None:
        self._queue()
        try:
            with _errors(self.path):
                self.connection.execute(sql)
        except apsw.Error as error:
            raise StoreUnavailable(f"SQLite: {error}", hint="Nothing was changed; see the message.") from error
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            self._release()

    def tables(self) -> set[str]:
        with _errors(self.path):
            return {name for (name,) in self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    @property
    def _bell_path(self) -> str:
        return f"{self.path}-bell"

    def _data_version(self) -> int:
        with _errors(self.path):
            return cast("int", self.connection.execute("PRAGMA data_version").fetchall()[0][0])

    def prepare_wait(self) -> None:
        if self._bell is None:
            self._bell = Bell(self._bell_path)
        self._seen = self._data_version()

    def wait(self, seconds: float) -> bool:
        if self._bell is None:
            self.prepare_wait()
        assert self._bell is not None
        deadline = time.monotonic() + seconds
        while True:
            if self._data_version() != self._seen:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._bell.wait(min(left, 0.5))

    def raw(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        # A connection of its own that cannot write: a pragma in the SQL could lift any ban on this one.
        with _errors(self.path):
            reader = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
            try:
                reader.set_busy_timeout(int(WAIT * 1000))
                columns: list[str] = []

                def note(cursor: apsw.Cursor, *_: object) -> bool:
                    columns[:] = [column[0] for column in cursor.get_description()]
                    return True

                # Only here are the columns known of a query that finds nothing.
                reader.exec_trace = note
                rows = [tuple(row) for row in reader.execute(sql)]
                return columns, rows
            except apsw.Error as error:
                raise InvalidInput(f"SQLite refuses the query: {error}", hint="Check the SQL.") from error
            finally:
                reader.close()

    def close(self) -> None:
        self.rollback()
        self.connection.close()
        if self._bell is not None:
            self._bell.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class _errors:  # noqa: N801 - used as a verb
    """The table that maps the driver's errors to ours."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if not isinstance(error, apsw.Error | OSError) or isinstance(error, MafError):
            return
        for cls, message, hint in (
            (apsw.FullError, "the disk is full", "Free some space and run the command again; nothing was written."),
            (apsw.BusyError, "the store is locked by another program", "Close whatever holds it open and try again."),
            (apsw.ReadOnlyError, "the store is read-only", "Make the file and its folder writable."),
            (apsw.CorruptError, "the store is damaged", "Restore a backup (`maf db backup` makes them)."),
            (apsw.NotADBError, "this file is no SQLite database", "Check --db, MAF_DB and maf.toml."),
            (apsw.CantOpenError, "the store cannot be opened", "Check that the folder exists and is writable."),
            (apsw.IOError, "the disk could not be read or written", "Check the disk; nothing was written."),
            (PermissionError, "the store may not be written", "Make the file and its folder writable."),
            (OSError, "the store's folder cannot be used", "Check that the folder exists and is writable."),
        ):
            if isinstance(error, cls):
                raise StoreUnavailable(f"{message}: {self.path} ({error})", hint=hint) from error
