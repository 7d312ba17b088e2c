"""The ground: errors that hold no secret, a clock that stands, a file that survives, forks."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from mobius_otel import FrozenClock, errors
from mobius_otel.errors import ConfigurationError, shown
from mobius_otel.sqlite import SqliteFile
from tests.services import forking

SCHEMA = ("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)",)


class Hostile:
    """An object that cannot be shown."""

    def __repr__(self):
        raise ValueError("hunter2secret")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "'plain'"),
        ("redis+bogus://user:S3cretPw@h:1", "'redis+bogus://[redacted]@h:1'"),
        ("https://a:b@c/ and https://d:e@f/", "'https://[redacted]@c/ and https://[redacted]@f/'"),
        (Hostile(), "<Hostile>"),
        ("line\nbreak", "'line\\nbreak'"),
    ],
)
def test_a_value_is_shown_without_its_credentials(value, text):
    """Short, on one line, safe."""
    assert shown(value) == text
    assert len(shown("x" * 100_000)) <= 120


def test_errors_have_fields_and_builtin_parents():
    """A program acts on them without reading."""
    error = ConfigurationError("limit", "x", "a number", "For example: 1")
    assert (error.setting, error.rule, error.hint) == ("limit", "a number", "For example: 1")
    assert str(error) == "limit = 'x': it must be a number. For example: 1"
    assert isinstance(errors.MissingExtra("a", "b", "c"), ImportError | ValueError)
    assert "pip install 'mobius_otel[b]'" in str(errors.MissingExtra("a", "b", "c"))
    assert isinstance(errors.InsufficientScope({"a"}), PermissionError)
    assert isinstance(errors.KeyNotFound("k"), LookupError)
    assert str(errors.InvalidApiKey("revoked", "key_1")) == str(errors.InvalidApiKey("unknown"))


def test_a_frozen_clock_moves_when_told():
    """Forth, back, and to a point."""
    clock = FrozenClock(10.0)
    assert (clock(), clock.advance(5), clock.advance(-1)) == (10.0, 15.0, 14.0)
    clock.set(3)
    assert clock() == 3.0


def test_a_file_is_private_and_shared_between_handles(tmp_path):
    """0600 from the first byte; what one handle commits the other reads."""
    one, two = (SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things") for _ in range(2))
    with one.writing() as connection:
        connection.execute("INSERT INTO things (name) VALUES ('a')")
    with two.reading() as connection:
        assert connection.execute("SELECT name FROM things").fetchall() == [("a",)]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "x.db").stat().st_mode) == 0o600
    one.close()
    with one.reading() as connection:
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (1,)
    one.close()
    two.close()


def test_a_failed_block_leaves_nothing(tmp_path):
    """A transaction is whole or not there."""
    file = SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things")

    def half() -> None:
        with file.writing() as connection:
            connection.execute("INSERT INTO things (name) VALUES ('a')")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    with file.reading() as connection:
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (0,)
    file.close()


def test_a_transaction_that_nobody_could_end_is_no_ones(tmp_path):
    """A signal handler raises when it has begun: neither this file nor another handle is locked by it."""
    options = {"what": "test file", "table": "things", "busy_timeout": 0.1}
    one, two = (SqliteFile(tmp_path / "x.db", SCHEMA, **options) for _ in range(2))

    class Connection:
        def __init__(self, inner, stays):
            self.inner, self.stays, self.begun = inner, stays, False

        def execute(self, sql):
            self.inner.execute(sql)
            self.begun = True
            raise KeyboardInterrupt

        @property
        def in_transaction(self):
            if self.stays and self.begun:  # a second one, in the middle of what the first one is answered with
                raise KeyboardInterrupt
            return self.inner.in_transaction

        def rollback(self):
            self.inner.rollback()

    connection = one._connection
    for stays in (False, True):
        one._connection = Connection(connection, stays)
        with pytest.raises(KeyboardInterrupt), one.lock, one.writing():
            pass
        one._connection = connection
        assert connection.in_transaction is stays
        for file in (one, two):
            with file.lock, file.writing() as found:
                found.execute("INSERT INTO things (name) VALUES ('a')")
    one.close()
    two.close()


def test_a_file_is_migrated_forward_and_a_newer_one_refused(tmp_path):
    """By version, never by guessing."""
    SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things").close()
    newer = (*SCHEMA, "ALTER TABLE things ADD COLUMN more TEXT")
    SqliteFile(tmp_path / "x.db", newer, what="test file", table="things").close()
    with pytest.raises(ConfigurationError, match="of version 1 or older, but it is of version 2"):
        SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things")


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_file_that_others_may_read_is_refused(tmp_path):
    """With the command that mends it."""
    SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things").close()
    (tmp_path / "x.db").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things")


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_what_is_no_file_is_refused_as_that(tmp_path):
    """A folder, of which nobody shall change the mode; a link that leads nowhere."""
    (tmp_path / "folder").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for name, found in (("folder", "this is a folder"), ("link", "this is none, or a link to none")):
        with pytest.raises(ConfigurationError, match=found) as caught:
            SqliteFile(tmp_path / name, SCHEMA, what="test file", table="things")
        assert "chmod" not in str(caught.value)


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"\0" * 5000])
def test_what_is_no_database_is_refused(tmp_path, content):
    """One sentence, and the file stays as it was."""
    (tmp_path / "x.db").write_bytes(content)
    (tmp_path / "x.db").chmod(0o600)
    with pytest.raises(ConfigurationError, match="a SQLite file that can be opened"):
        SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things")
    assert (tmp_path / "x.db").read_bytes() == content


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("table", ["users", "things"])
def test_a_database_of_another_program_is_refused_as_it_is(tmp_path, version, table):
    """By its tables, whatever its version: nothing of ours goes into it, not even another journal."""
    path = tmp_path / "x.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(f"CREATE TABLE {table} (x)")
        other.execute(f"PRAGMA user_version = {version}")
    path.chmod(0o600)
    before = path.read_bytes()
    if (table, version) == ("things", 1):
        SqliteFile(path, SCHEMA, what="test file", table="things").close()
        return
    with pytest.raises(ConfigurationError, match=f"something else. It has the tables {table}"):
        SqliteFile(path, SCHEMA, what="test file", table="things")
    assert path.read_bytes() == before


def test_an_empty_file_that_was_there_before_is_said(tmp_path, caplog):
    """Somebody may have emptied it; one that is just being made is nobody's business."""
    for age, lines in ((0, 0), (60, 1)):
        path = tmp_path / f"{age}.db"
        path.touch(mode=0o600)
        os.utime(path, (time.time() - age,) * 2)
        SqliteFile(path, SCHEMA, what="test file", table="things").close()
        assert caplog.text.count("begins anew") == lines


def test_a_file_that_is_deleted_or_replaced_is_noticed(tmp_path):
    """What is written to a file without a name would be lost with the process."""
    file = SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things")
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"x.db{suffix}").unlink(missing_ok=True)
    with pytest.raises(sqlite3.OperationalError, match="deleted or replaced"), file.writing():
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_while_threads_write_harms_nobody(tmp_path):
    """Parent and child both go on; the file is sound and holds what each wrote."""
    code = f"""
    import os, sys, threading
    from mobius_otel.sqlite import SqliteFile
    file = SqliteFile({str(tmp_path / "x.db")!r}, {SCHEMA!r}, what="test file", table="things")
    def write(name, times):
        for _ in range(times):
            with file.lock, file.writing() as connection:
                connection.execute("INSERT INTO things (name) VALUES (?)", (name,))
    threads = [threading.Thread(target=write, args=("parent", 200)) for _ in range(3)]
    for thread in threads: thread.start()
    children = []
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            write("child", 20); os._exit(0)
        children.append(pid)
    for thread in threads: thread.join()
    for pid in children: assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with file.reading() as connection:
        print(connection.execute("SELECT name, count(*) FROM things GROUP BY name ORDER BY name").fetchall(),
              connection.execute("PRAGMA integrity_check").fetchone())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False,
        env=forking.environment(),
    )  # fmt: skip
    assert done.stdout.strip() == "[('child', 100), ('parent', 600)] ('ok',)", done.stderr


def _in_a_child(work):
    """Run `work` in a forked child; return its status: 0 where all went well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_holds_locks_of_its_own(tmp_path):
    """A process that closes the file as the last one it knows of removes no log beneath a child that it forked."""
    file = SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things")
    before = file.version()

    def add(name):
        with file.lock, file.writing() as connection:
            connection.execute("INSERT INTO things (name) VALUES (?)", (name,))

    def child():
        add("child")
        code = f"""
        from mobius_otel.sqlite import SqliteFile
        file = SqliteFile({str(tmp_path / "x.db")!r}, {SCHEMA!r}, what="test file", table="things")
        with file.lock, file.writing() as connection:
            connection.execute("INSERT INTO things (name) VALUES ('other')")
        file.close()
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=forking.environment())
        assert (tmp_path / "x.db-wal").exists()
        add("child again")

    add("parent")
    pid = os.fork()
    if pid == 0:
        file.close()  # the one that began it is gone, and the next process is the child of nobody
        os._exit(_in_a_child(child) or _in_a_child(child))
    assert file.version() is not None, "a fork does not close the parent's"
    assert file.version() != before
    file.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with file.lock, file.reading() as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM things ORDER BY name")]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert names == ["child", "child", "child again", "child again", "other", "other", "parent"]
    file.close()


def test_a_file_that_another_process_is_just_making_is_waited_for(tmp_path):
    """SQLite itself does not wait when it begins its write-ahead log."""
    path = tmp_path / "x.db"
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    let_go = threading.Timer(0.2, other.rollback)
    let_go.start()
    SqliteFile(path, SCHEMA, what="test file", table="things").close()
    let_go.join()
    other.close()
    path = tmp_path / "y.db"
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConfigurationError, match="database is locked"):
        SqliteFile(path, SCHEMA, what="test file", table="things", busy_timeout=0.1)
    other.close()


def test_a_name_that_leaves_no_room_for_the_files_beside_it_is_refused(tmp_path):
    """One clear error, before anything is made."""
    with pytest.raises(ConfigurationError, match="a name of at most 217 bytes"):
        SqliteFile(tmp_path / ("x" * 218), SCHEMA, what="test file", table="things")
    assert not list(tmp_path.iterdir())
    SqliteFile(tmp_path / ("x" * 217), SCHEMA, what="test file", table="things").close()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """What SQLite says of it, "unable to open database file", helps nobody."""
    SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things").close()
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigurationError, match="may not write in"):
            SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_middle_of_a_use_leaves_the_parents_alone(tmp_path):
    """A signal handler may fork; its child would take the parent's locks for its own, and does not write."""
    file = SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things")

    def child():
        with pytest.raises(sqlite3.OperationalError, match="in use in the middle of a fork"), file.lock:
            file.writing()

    with file.lock, file.writing() as connection:
        connection.execute("INSERT INTO things (name) VALUES ('before')")
        assert _in_a_child(child) == 0
        connection.execute("INSERT INTO things (name) VALUES ('after')")
    with file.lock, file.reading() as connection:
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (2,)
    file.close()


def test_threads_share_one_handle(tmp_path):
    """One short lock; every write is there."""
    file = SqliteFile(tmp_path / "x.db", SCHEMA, what="test file", table="things")

    def write():
        for _ in range(50):
            with file.lock, file.writing() as connection:
                connection.execute("INSERT INTO things (name) VALUES ('t')")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with file.reading() as connection:
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (400,)
    file.close()
