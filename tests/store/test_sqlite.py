"""What only SQLite can do wrong."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import resource
import signal
import tempfile

import apsw
import pytest

from orchestrator.domain.errors import MafError, StoreUnavailable
from orchestrator.store import open_store, schema
from orchestrator.store.sqlite import SqliteEngine
from tests.schema.parsed import text
from tests.store.rows import add_wave, log, wave_codes

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def url(sqlite_url: str) -> str:
    schema.create(sqlite_url)
    return sqlite_url


def path_of(url: str) -> pathlib.Path:
    return pathlib.Path(url.removeprefix("sqlite:///"))


def pragma(store, name: str):
    return store.engine.connection.pragma(name)


def test_durable_and_strict(url: str, opened):
    store = opened(url)
    assert pragma(store, "journal_mode") == "wal"
    assert pragma(store, "synchronous") == 2  # FULL: a power cut loses no acknowledged commit
    assert pragma(store, "foreign_keys") == 1


def test_a_store_made_by_hand_becomes_wal(sqlite_url: str, opened):
    connection = apsw.Connection(str(path_of(sqlite_url)))
    connection.execute(text("sqlite"))
    assert connection.pragma("journal_mode") == "delete"
    connection.close()
    store = opened(sqlite_url)
    assert pragma(store, "journal_mode") == "wal"
    add_wave(store, "W1")


def test_an_sqlite_with_the_wal_reset_bug_is_refused(url: str, monkeypatch):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(StoreUnavailable, match=r"3\.51\.2") as refused:
        open_store(url)
    assert "3.51.3" in refused.value.hint
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.3")
    open_store(url).close()


def mounted(monkeypatch, *mounts: str) -> None:
    read = pathlib.Path.read_text

    def fake(self, *args, **kwargs):
        return "\n".join(mounts) if str(self) == "/proc/self/mounts" else read(self, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, "read_text", fake)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_refused(url: str, monkeypatch, kind: str):
    folder = path_of(url).parent.parent
    mounted(monkeypatch, "/dev/sda / ext4 rw 0 0", f"server:/x {folder} {kind} rw 0 0")
    with pytest.raises(StoreUnavailable, match="network file system") as refused:
        open_store(url)
    assert refused.value.exit_code == 5
    assert "Postgres" in refused.value.hint


def test_a_local_disk_inside_a_network_one_is_fine(url: str, monkeypatch):
    folder = path_of(url).parent
    mounted(monkeypatch, f"server:/x {folder.parent} nfs4 rw 0 0", f"/dev/sda {folder} ext4 rw 0 0")
    open_store(url).close()
    # A mount whose name merely begins the same is another folder.
    mounted(monkeypatch, "/dev/sda / ext4 rw 0 0", f"server:/x {str(folder)[:-1]} nfs rw 0 0")
    open_store(url).close()


def refused(call) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as error:
        call()
    assert error.value.exit_code == 5
    assert error.value.hint
    return error.value


def test_a_file_that_is_no_database(url: str):
    other = path_of(url).with_name("notes.txt")
    other.write_text("Dear diary, this is no database. " * 100)
    error = refused(lambda: open_store(f"sqlite:///{other}"))
    assert "no SQLite database" in error.message
    assert str(other) in error.message
    assert other.read_text().startswith("Dear diary")
    refused(lambda: schema.create(f"sqlite:///{other}"))
    assert other.read_text().startswith("Dear diary")


def test_a_store_that_is_not_there(tmp_path):
    error = refused(lambda: open_store(f"sqlite:///{tmp_path}/none.db"))
    assert "maf init" in error.hint
    assert not (tmp_path / "none.db").exists()


def test_a_directory_for_a_store(tmp_path):
    refused(lambda: open_store(f"sqlite:///{tmp_path}"))
    refused(lambda: schema.create(f"sqlite:///{tmp_path}"))


def test_a_damaged_store(url: str, opened):
    store = opened(url)
    for n in range(50):
        add_wave(store, f"W{n}", description="x" * 2000)
    store.close()
    with path_of(url).open("r+b") as file:
        for page in range(2, 40):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)

    def use() -> None:
        with open_store(url) as damaged:
            wave_codes(damaged)

    assert "damaged" in refused(use).message


def _as_nobody(call, answers) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        call()
        answers.put(None)
    except MafError as error:
        answers.put((error.exit_code, error.message, error.hint))
    except BaseException as error:  # noqa: BLE001
        answers.put(repr(error))


@pytest.mark.parametrize("locked", ["folder", "all"])
def test_a_store_that_may_not_be_written(new_sqlite_url, locked: str):
    """By somebody who may read it only; root, who may write everything, becomes nobody for it."""
    new_sqlite_url()  # counts as a test of SQLite
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        url = f"sqlite:///{folder}/maf.db"
        schema.create(url)
        for file in pathlib.Path(folder).iterdir():
            file.chmod(0o666 if locked == "folder" else 0o444)
        pathlib.Path(folder).chmod(0o555)

        def use() -> None:
            with open_store(url) as store:
                add_wave(store, "W1")

        answers = FORK.Queue()
        process = FORK.Process(target=_as_nobody, args=(use, answers))
        process.start()
        answer = answers.get(timeout=30)
        process.join(30)
        pathlib.Path(folder).chmod(0o755)
        assert isinstance(answer, tuple), answer
        code, message, hint = answer
        assert code == 5
        assert "writable" in hint
        assert folder in message
        with open_store(url) as store:
            assert wave_codes(store) == []


class FullDisk(apsw.VFS):
    """A disk that takes no more once ``full`` is set."""

    full = False

    def __init__(self) -> None:
        super().__init__("full-disk", "")

    def xOpen(self, name, flags):  # noqa: N802 - SQLite's name
        return FullFile(name, flags)


class FullFile(apsw.VFSFile):
    def __init__(self, name, flags) -> None:
        super().__init__("", name, flags)

    def xWrite(self, data, offset):  # noqa: N802
        if FullDisk.full:
            raise apsw.FullError
        super().xWrite(data, offset)


@pytest.fixture
def full_disk(monkeypatch):
    disk = FullDisk()
    connection = apsw.Connection
    monkeypatch.setattr(apsw, "Connection", lambda *args, **kwargs: connection(*args, vfs="full-disk", **kwargs))
    yield disk
    FullDisk.full = False
    disk.unregister()


def test_a_full_disk_loses_nothing(url: str, full_disk, opened):
    store = opened(url)
    add_wave(store, "W1")
    before = log(store)
    FullDisk.full = True
    error = refused(lambda: add_wave(store, "W2", description="x" * 100_000))
    assert "disk is full" in error.message
    assert "nothing was written" in error.hint
    assert (wave_codes(store), log(store)) == (["W1"], before)
    FullDisk.full = False
    add_wave(store, "W3")
    assert wave_codes(store) == ["W1", "W3"]
    assert store.engine.raw("PRAGMA integrity_check")[1] == [("ok",)]


def _writes_too_much(url: str, answers) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = path_of(url).with_name("maf.db-wal").stat().st_size
    with open_store(url) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50_000, size + 50_000))
        try:
            add_wave(store, "W2", description="x" * 1_000_000)
            answers.put("it was written")
        except MafError as error:
            answers.put((error.exit_code, error.hint, wave_codes(store)))
        except BaseException as error:  # noqa: BLE001
            answers.put(repr(error))


def test_a_file_size_limit_loses_nothing(url: str, opened):
    store = opened(url)
    add_wave(store, "W1")
    answers = FORK.Queue()
    process = FORK.Process(target=_writes_too_much, args=(url, answers))
    process.start()
    code, hint, codes = answers.get(timeout=30)
    process.join(30)
    assert code == 5
    assert hint
    assert codes == ["W1"]
    add_wave(store, "W3")
    assert wave_codes(store) == ["W1", "W3"]
    assert store.engine.raw("PRAGMA integrity_check")[1] == [("ok",)]


def _writes_for_ever(url: str, pipe: int) -> None:
    with open_store(url) as store:
        n = 0
        while True:
            add_wave(store, f"W{n}", description="x" * 5000)
            os.write(pipe, b".")  # acknowledged
            n += 1


def _dies_inside(url: str) -> None:
    with open_store(url) as store:

        def work(tx) -> None:
            from tests.store.rows import insert_wave

            tx.activity("user", "wave.add")
            insert_wave(tx, "never", description="x" * 500_000)
            os.kill(os.getpid(), signal.SIGKILL)

        store.write(work)


@pytest.mark.parametrize("acknowledged", [1, 7, 20])
def test_a_killed_writer_loses_no_acknowledged_write(url: str, opened, acknowledged: int):
    read, write = os.pipe()
    process = FORK.Process(target=_writes_for_ever, args=(url, write))
    process.start()
    os.close(write)
    seen = 0
    while seen < acknowledged:
        seen += len(os.read(read, 1))
    process.kill()
    process.join(30)
    while more := os.read(read, 100):
        seen += len(more)
    os.close(read)
    store = opened(url)
    assert store.engine.raw("PRAGMA integrity_check")[1] == [("ok",)]
    codes = wave_codes(store)
    assert set(codes) >= {f"W{n}" for n in range(seen)}
    assert len(codes) == len(log(store)) <= seen + 1
    add_wave(store, "after")  # the turn of the dead one is free


def test_a_writer_killed_inside_its_transaction_leaves_nothing(url: str, opened):
    process = FORK.Process(target=_dies_inside, args=(url,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    store = opened(url)
    assert wave_codes(store) == []
    assert store.engine.raw("PRAGMA integrity_check")[1] == [("ok",)]
    add_wave(store, "after")


def test_a_writer_that_holds_its_turn_too_long_is_named(url: str, opened, monkeypatch):
    monkeypatch.setattr("orchestrator.store.sqlite.WAIT", 0.05)
    holder, store = opened(url), opened(url)

    def work(tx) -> None:
        tx.activity("user", "slow")
        error = refused(lambda: add_wave(store, "W1"))
        assert "busy" in error.message

    holder.write(work)
    add_wave(store, "W1")


def test_an_engine_opens_only_what_is_there(sqlite_url: str):
    refused(lambda: SqliteEngine(sqlite_url))


def test_a_store_deleted_under_its_user_is_not_written_to(url: str, opened):
    store = opened(url)
    add_wave(store, "W1")
    path = pathlib.Path(url.removeprefix("sqlite:///"))
    path.rename(path.with_suffix(".moved"))
    error = refused(lambda: add_wave(store, "W2"))
    assert "deleted or replaced" in error.message
    path.with_suffix(".moved").rename(path)
    add_wave(store, "W2")
    assert wave_codes(store) == ["W1", "W2"]
