"""Behind a real PgBouncer in transaction mode: each transaction may be in another session of the server."""

import shutil
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from prefect_batch import Table, dead_letters, process_records, reconcile
from prefect_batch.blocks.databases.connections import open_engine
from tests.conftest import REQUIRED, free_port, start_server

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def pooled(postgresql, tmp_path):
    """The URL of the test's database by way of PgBouncer."""
    binary = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if binary is None:
        (pytest.fail if REQUIRED else pytest.skip)("no pgbouncer here: apt-get install pgbouncer")
    url = make_url(postgresql.url)
    if url.host is None:
        pytest.skip("this PostgreSQL has no TCP port, which PgBouncer needs here")
    port, server = free_port(), f"host={url.host} port={url.port or 5432} user={url.username}"
    settings = tmp_path / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = {server}\n{url.database}_one = {server} dbname={url.database} pool_size=1\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 12\nmax_client_conn = 200\n"
    )
    settings.chmod(0o644)
    for folder in [tmp_path, *tmp_path.parents[:2]]:
        folder.chmod(0o755)  # As root it runs as another user.
    user = ["-u", "nobody"] if Path("/proc/self").owner() == "root" else []
    process = start_server([binary, *user, str(settings)], tmp_path / "pgbouncer.log")
    pooled = url.set(port=port, host="127.0.0.1").render_as_string()
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(pooled).close()
            break
        except psycopg.OperationalError:
            if time.monotonic() > deadline or process.poll() is not None:
                pytest.fail((tmp_path / "pgbouncer.log").read_text())
            time.sleep(0.05)
    yield pooled
    from prefect_batch.blocks.databases.connections import close_engines

    close_engines()
    process.kill()
    process.wait()


def spoil(record):
    return {"id": record["id"], "v": record["v"] if record["id"] % 50 else "bad"}


def test_a_pass_its_letters_and_its_proof(postgresql, pooled, job, tmp_path):
    postgresql.run(
        "CREATE TABLE src (id int PRIMARY KEY, v int)",
        "INSERT INTO src SELECT n, n FROM generate_series(1, 1000) n",
        "CREATE TABLE dst (id int PRIMARY KEY, v int)",
        "INSERT INTO dst VALUES (7, 0)",  # So that rows are upserted by way of a temporary table.
    )
    source, sink = Table(pooled, "src", key="id"), Table(pooled, "dst", key="id")
    report = process_records(job, source, spoil, sink, chunk_size=150, dead_letters=str(tmp_path / "letters"))
    assert (report.run.written, report.run.failed, report.run.retries) == (980, 20, 0)
    assert postgresql.rows("SELECT count(*), count(*) FILTER (WHERE v = id) FROM dst") == [(980, 980)]
    assert len(dead_letters(job)) == 20
    assert reconcile(job).status == "agrees"


def test_two_clients_that_share_a_session(pooled):
    """The name of a prepared statement of one would be that of another statement of the other."""
    with open_engine(f"{pooled}_one").connect() as one, open_engine(f"{pooled}_one").connect() as other:
        for connection, statement in ((one, "SELECT 1"), (other, "SELECT 2")):
            for _ in range(8):
                assert connection.exec_driver_sql(statement).scalar_one() == int(statement[-1])
                connection.commit()  # The session goes back to the pool.


def test_the_session_speaks_utf8_whatever_the_url_says(postgresql):
    with open_engine(f"{postgresql.url}?client_encoding=latin1").connect() as connection:
        assert connection.connection.driver_connection.info.encoding == "utf-8"
