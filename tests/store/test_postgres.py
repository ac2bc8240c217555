"""What only Postgres can do wrong: connections end, transactions clash, a database holds several stores."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg import errors as pg

from orchestrator.domain.errors import InvalidInput, MafError, StoreUnavailable
from orchestrator.service import waves
from orchestrator.service.context import Context
from orchestrator.store import SHARED, Store, Tx, open_store, schema
from orchestrator.store.unit import Retry
from tests.store.cutting import Proxy
from tests.store.rows import add_wave, insert_wave, log, wave_codes
from tests.support import postgres

SECRET = "hunter2-Ωß"


@pytest.fixture
def made_url(postgres_url: str) -> str:
    schema.create(postgres_url)
    return postgres_url


# --- retries ---------------------------------------------------------------------------------------------------


def kill(killer: psycopg.Connection, store: Store) -> None:
    """End the store's connection from outside, and wait until the server has let it go."""
    pid = store.engine.connection.info.backend_pid
    killer.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


@pytest.fixture
def killer(postgres_server):
    return postgres_server[1]


def counting(attempts: list[str], code: str, *, first=None):
    """Work that adds a wave; ``first`` runs in its first attempt."""

    def work(tx: Tx) -> str:
        attempts.append(tx.now)
        tx.activity("user", "wave.add", None, wave=code)
        insert_wave(tx, code)
        if first is not None and len(attempts) == 1:
            first(tx)
        return code

    return work


def test_an_idle_connection_that_died_is_made_anew(store: Store, killer):
    add_wave(store, "W1")
    kill(killer, store)
    assert wave_codes(store) == ["W1"]
    kill(killer, store)
    add_wave(store, "W2")
    assert wave_codes(store) == ["W1", "W2"]


@pytest.mark.parametrize("scope", ["exclusive", SHARED])
def test_a_connection_lost_inside_is_run_again_and_done_once(store: Store, killer, scope: str):
    attempts: list[str] = []

    def first(tx: Tx) -> None:
        kill(killer, store)
        tx.all("wave.list")

    assert store.write(counting(attempts, "W1", first=first), scope=scope) == "W1"
    assert len(attempts) == 2
    assert attempts[0] < attempts[1]
    assert len(log(store)) == 1


def test_a_snapshot_lost_while_reading_says_so(store: Store, killer):
    add_wave(store, "W1")

    def read() -> None:
        with store.read() as reader:
            kill(killer, store)
            reader.all("wave.list")

    with pytest.raises(StoreUnavailable, match="lost") as lost:
        read()
    assert lost.value.exit_code == 5
    assert wave_codes(store) == ["W1"]


@pytest.mark.parametrize("error", [pg.SerializationFailure, pg.DeadlockDetected, pg.UniqueViolation])
def test_a_clash_is_run_again(store: Store, error):
    attempts: list[str] = []

    def first(_: Tx) -> None:
        raise store.engine._translated(error("clash"))

    assert store.write(counting(attempts, "W1", first=first)) == "W1"
    assert len(attempts) == 2
    assert len(log(store)) == 1


def test_a_real_deadlock_ends_with_both_done(made_url: str, opened):
    """Two shared writers lock two rows in opposite orders; the server stops one, which then runs again."""
    stores = [opened(made_url) for _ in range(2)]
    rows = [add_wave(stores[0], code)["id"] for code in ("W1", "W2")]
    both = threading.Barrier(2)
    attempts: list[int] = []

    def swaps(number: int) -> None:
        first, second = rows if number else rows[::-1]

        def work(tx: Tx) -> None:
            attempts.append(number)
            tx.activity("pm", "wave.touch")
            for step, row in enumerate((first, second)):
                if step == 1 and len(attempts) <= 2:
                    both.wait(20)  # both hold their first row
                wave = tx.one("wave.by_id", id=row)
                tx.swap("wave.save", id=row, expected_status="planning", status="planning", started_at=tx.now,
                        completed_at=wave["completed_at"], now=tx.now)  # fmt: skip

        stores[number].write(work, scope=SHARED)

    threads = [threading.Thread(target=swaps, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(attempts) in ([0, 0, 1], [0, 1, 1])
    assert len(log(stores[0])) == 4


def test_it_gives_up_with_a_clear_error(store: Store, monkeypatch):
    monkeypatch.setattr("orchestrator.store.unit._ATTEMPTS", 3)
    attempts: list[str] = []

    def work(tx: Tx) -> None:
        attempts.append(tx.now)
        raise store.engine._translated(pg.SerializationFailure("could not serialize access"))

    with pytest.raises(StoreUnavailable, match="after retries") as refused:
        store.write(work)
    assert len(attempts) == 3
    assert refused.value.exit_code == 5
    assert refused.value.hint


@pytest.fixture
def proxy(made_url: str):
    proxy = Proxy(made_url)
    yield proxy
    proxy.close()


CUTS = pytest.mark.parametrize("cut", ["before", "after"])
"""The connection ends before the server hears of the commit, or after it has done it: the client cannot tell."""


@CUTS
def test_an_ambiguous_commit_is_not_run_again(store: Store, proxy: Proxy, opened, cut: str):
    attempts: list[str] = []
    unlucky = opened(proxy.url)
    proxy.cut = cut
    with pytest.raises(StoreUnavailable, match="not known") as unknown:
        unlucky.write(counting(attempts, "W1"))
    assert len(attempts) == 1
    assert "--key" in str(unknown.value.hint)
    assert wave_codes(store) == (["W1"] if cut == "after" else [])
    add_wave(unlucky, "W2")  # on a connection made anew


@CUTS
def test_an_ambiguous_commit_with_a_key_is_done_exactly_once(store: Store, proxy: Proxy, opened, cut: str):
    unlucky = opened(proxy.url)
    proxy.cut = cut
    wave = waves.add(Context(unlucky, key="k1"), "W1", name="First")
    assert wave["wave_code"] == "W1"
    assert proxy.cut is None, "it was cut"
    assert [r["activity_type"] for r in log(store)] == ["wave.add"]
    assert waves.add(Context(store, key="k1"), "W1", name="First")["id"] == wave["id"]


def test_a_commit_that_the_server_refuses_is_not_ambiguous(store: Store):
    """The server is there and says no: it is known that nothing stands."""
    store.engine.script(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;"
        "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON waves DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION full_disk()"
    )
    with pytest.raises(StoreUnavailable, match="could not extend") as full:
        add_wave(store, "W1")
    assert "space" in str(full.value.hint)
    assert wave_codes(store) == log(store) == []
    store.engine.script("DROP TRIGGER at_commit ON waves")
    add_wave(store, "W1")


def test_retry_never_shows_outside(store: Store, killer):
    for use in (lambda: wave_codes(store), store.engine.tables, store.now, lambda: add_wave(store, "W1")):
        kill(killer, store)
        try:
            use()
        except Retry:
            pytest.fail("Retry came out")
        except MafError:
            pass


# --- waiting on a connection that ends -------------------------------------------------------------------------


def test_what_was_committed_while_nobody_listened_is_not_missed(store: Store, other: Store, killer):
    store.engine.prepare_wait()
    kill(killer, store)
    wave_codes(store)  # reconnects, and no longer listens
    add_wave(other, "W1")
    assert store.engine.wait(30) is True


def test_a_waiter_whose_connection_ends_looks_again(store: Store, killer):
    store.engine.prepare_wait()
    kill(killer, store)
    assert store.engine.wait(0.2) is True
    assert wave_codes(store) == []


# --- several stores in one database ----------------------------------------------------------------------------


def test_stores_of_two_schemas_do_not_see_each_other(new_postgres_url, opened):
    urls = [new_postgres_url(), new_postgres_url()]
    assert [schema.create(url) for url in urls] == [True, True]
    one, two = (opened(url) for url in urls)
    add_wave(one, "W1")
    assert (wave_codes(one), wave_codes(two)) == (["W1"], [])
    assert two.engine.tables() == one.engine.tables()


def test_a_store_is_not_woken_by_another_schema(new_postgres_url, opened):
    urls = [new_postgres_url(), new_postgres_url()]
    for url in urls:
        schema.create(url)
    one, two = (opened(url) for url in urls)
    two.engine.prepare_wait()
    add_wave(one, "W1")
    assert two.engine.wait(0.2) is False
    third = opened(urls[1])
    add_wave(third, "W1")
    assert two.engine.wait(30) is True


def test_a_writer_does_not_wait_for_one_of_another_schema(new_postgres_url, opened):
    urls = [new_postgres_url(), new_postgres_url()]
    for url in urls:
        schema.create(url)
    one, two = (opened(url) for url in urls)
    two.engine._simple("SET lock_timeout = '5s'")

    def work(tx: Tx) -> None:
        tx.activity("user", "slow")
        add_wave(two, "W2")  # in the middle of the other's exclusive transaction

    one.write(work)
    assert wave_codes(two) == ["W2"]


def test_exclusive_writers_of_one_store_take_turns_and_shared_ones_do_not(store: Store, other: Store):
    other.engine._simple("SET lock_timeout = '50ms'")

    def beside(scope: str):
        def work(tx: Tx) -> str:
            tx.activity("user", "outer")
            try:
                other.write(lambda inner: inner.activity("user", "inner"), scope=scope)
            except MafError:
                return "waits"
            return "goes on"

        return work

    assert store.write(beside("exclusive")) == "waits"
    assert store.write(beside(SHARED)) == "waits"
    assert store.write(beside(SHARED), scope=SHARED) == "goes on"


def test_an_account_without_rights_is_told_so(made_url: str, postgres_server, killer):
    role = "maf_reader_" + made_url.rsplit("_", maxsplit=1)[-1]
    name = made_url.rsplit("%3D", maxsplit=1)[-1].rsplit("=", maxsplit=1)[-1]
    killer.execute(f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {name} TO {role};"
                   f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {role}")  # fmt: skip
    try:
        parts = urlsplit(made_url)
        url = parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()
        with open_store(url) as reader:
            assert wave_codes(reader) == []
            with pytest.raises(StoreUnavailable, match="permission denied") as refused:
                add_wave(reader, "W1")
        assert refused.value.exit_code == 5
        assert "rights" in refused.value.hint
    finally:
        killer.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


# --- where it cannot be reached --------------------------------------------------------------------------------


def refused(url: str) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as error:
        open_store(url)
    assert error.value.exit_code == 5
    assert error.value.hint
    return error.value


def everything(error: BaseException) -> str:
    """All that a face could print of an error, its causes too."""
    text = ""
    seen: BaseException | None = error
    while seen is not None:
        text += repr(seen) + str(seen) + repr(getattr(seen, "hint", "")) + repr(getattr(seen, "details", ""))
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return text


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://maf:{quote(SECRET)}@127.0.0.1:1/postgres",
        f"postgresql://maf:{SECRET}@127.0.0.1:1/postgres",
        f"postgresql://maf:{SECRET}@no-such-host.invalid/postgres",
        f"postgresql://maf@127.0.0.1:1/postgres?password={quote(SECRET)}",
        f"postgresql://maf:{SECRET}@127.0.0.1:notaport/postgres",
        f"postgresql://maf:{SECRET}@127.0.0.1/postgres?nonsense=1",
        "postgresql://maf:hunter2@home@127.0.0.1:1/postgres",
        "postgresql://maf:hun/ter2@127.0.0.1:1/postgres",
        "postgresql://maf:hun?ter2@127.0.0.1:1/postgres",
        f"postgresql://maf:{SECRET}@/postgres?host=%2Fnowhere%2Fat%2Fall",
        f"postgresql://maf:{SECRET}@[::1/postgres",
    ],
)
def test_no_password_is_ever_printed(url: str, postgres_url: str):
    text = everything(refused(url))
    for secret in (SECRET, quote(SECRET), "hunter2", "ter2"):
        assert secret not in text


def test_an_url_that_is_no_stores_prints_no_password_either():
    for url in ("mysql://maf:hunter2@host/db", "postgres:maf:hunter2@host", "host?password=hunter2"):
        with pytest.raises(InvalidInput) as error:
            open_store(url)
        assert "hunter2" not in everything(error.value)
    with pytest.raises(InvalidInput, match=r"maf\.db"):
        open_store("maf.db")


def test_a_database_that_is_not_there(postgres_url: str):
    error = refused(urlsplit(postgres_url)._replace(path="/no_such_database").geturl())
    assert "no_such_database" in error.message
    assert "database" in error.hint


def test_a_schema_that_is_not_there(postgres_url: str):
    error = refused(postgres_url.replace("test_", "missing_"))
    assert "maf init" in error.hint


# --- a server of the test's own, to stop, start and lock ---------------------------------------------------------


class Server:
    """A cluster in a temporary directory, that a test may stop and start."""

    def __init__(self, base: Path) -> None:
        self.base, self.data = base, base / "data"
        self.identity = postgres._unprivileged(base)
        programs = postgres.server_programs()
        assert programs is not None
        self.programs = postgres._within_reach(programs, base, self.identity)
        made = subprocess.run(
            [self.programs / "initdb", "-D", self.data, "-U", "maf", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            capture_output=True, cwd=base, **self.identity,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        self.process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://maf@/postgres?host={quote(str(base), safe='')}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.programs / "postgres", "-D", self.data, "-cfsync=off", "-clisten_addresses=",
             f"-cunix_socket_directories={self.base}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.base,
            **self.identity,
        )  # fmt: skip
        postgres._wait_until_ready(self.url, self.process, self.base / "data" / "PG_VERSION")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def ask_for_a_password(self, password: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("ALTER ROLE maf PASSWORD {}").format(password))
        (self.data / "pg_hba.conf").write_text("local all all scram-sha-256\n")


@pytest.fixture
def server(new_postgres_url):
    """Its own, also where MAF_TEST_POSTGRES_URL names one: nobody else's is stopped."""
    if postgres.server_programs() is None:
        pytest.fail("no server programs: see tests/support/postgres.py")
    base = Path(tempfile.mkdtemp(prefix="maf-own-", dir="/tmp"))
    made = Server(base)
    made.start()
    yield made
    made.stop(signal.SIGQUIT)
    shutil.rmtree(base, ignore_errors=True)


def test_a_restarted_server_is_found_again(server: Server, opened):
    schema.create(server.url)
    store, waiter = opened(server.url), opened(server.url)
    add_wave(store, "W1")
    waiter.engine.prepare_wait()
    server.stop()
    for use in (lambda: add_wave(store, "W2"), lambda: wave_codes(store), lambda: refused_again(waiter)):
        with pytest.raises(StoreUnavailable, match=r"cannot be reached|lost") as gone:
            use()
        assert gone.value.exit_code == 5
    server.start()
    add_wave(store, "W2")
    assert wave_codes(store) == ["W1", "W2"]
    assert waiter.engine.wait(10) is True
    server.stop(signal.SIGQUIT)  # as after a crash
    server.start()
    assert wave_codes(store) == ["W1", "W2"]


def refused_again(waiter: Store) -> None:
    waiter.engine.wait(0.01)
    waiter.engine.prepare_wait()


def test_a_wrong_password_is_told_and_not_shown(server: Server):
    server.ask_for_a_password(SECRET)
    server.stop()
    server.process = subprocess.Popen(
        [server.programs / "postgres", "-D", server.data, "-clisten_addresses=",
         f"-cunix_socket_directories={server.base}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=server.base,
        **server.identity,
    )  # fmt: skip
    right = server.url.replace("maf@", f"maf:{quote(SECRET)}@")
    postgres._wait_until_ready(right, server.process, server.data / "PG_VERSION")
    schema.create(right)
    open_store(right).close()
    error = refused(server.url.replace("maf@", "maf:wrong-guess@"))
    assert "password" in error.message
    assert "wrong-guess" not in everything(error)
    assert SECRET not in everything(error)
    error = refused(server.url)
    assert "password" in error.message


def test_psycopg_is_imported_only_for_a_postgres_url(sqlite_url: str):
    code = (
        "import sys; from orchestrator.store import schema, open_store; url = sys.argv[1];"
        "schema.create(url); open_store(url).close(); print('psycopg' in sys.modules, 'apsw' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, sqlite_url], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "True"], done.stderr
