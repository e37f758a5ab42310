"""One case in a process of its own: seconds, CPU, peak memory of the tree, foreign load, and what was written."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field

import psutil

# With more CPU in use by others, on average, a measurement does not count.
FOREIGN_CORES = 0.25


@dataclass
class Result:
    """What a case took: seconds of the work itself, without imports; CPU seconds; peak MB of all its processes.

    `foreign_cores` is the CPU that neither the case, nor its databases, nor the Prefect server used, per second.
    """

    seconds: float
    peak_mb: float
    client_cpu: float
    sums: list[float]
    foreign_cores: float = 0.0
    database_cpu: float = 0.0
    prefect_cpu: float = 0.0
    more: dict = field(default_factory=dict)


def run_case(spec):
    """The result of a case; `spec` is what `run.py --child` gets. It counts only in a machine that is quiet."""
    before = _busy(), _database_cpu(), _server_cpu()
    command = [sys.executable, os.path.join(os.path.dirname(__file__), "run.py"), "--child", json.dumps(spec)]
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        output.seek(0)
        text = output.read()
    lines = [line for line in text.splitlines() if line.startswith("RESULT ")]
    if not lines:
        sys.exit(f"{spec} failed:\n{text}")
    result = Result(**json.loads(lines[-1].removeprefix("RESULT ")))
    after = _busy(), _database_cpu(), _server_cpu()
    busy, result.database_cpu, result.prefect_cpu = (b - a for a, b in zip(before, after, strict=True))
    own = usage.ru_utime + usage.ru_stime + result.database_cpu + result.prefect_cpu
    result.foreign_cores = max(0.0, busy - own) / seconds
    return result


def timed(work):
    """In the child: (seconds, CPU seconds, peak MB of the tree) of the work."""
    peak, over = [0], threading.Event()

    def watch():
        me = psutil.Process()
        while not over.wait(0.05):
            with contextlib.suppress(psutil.NoSuchProcess):
                peak[0] = max(peak[0], sum(p.memory_info().rss for p in (me, *me.children(recursive=True))))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    started, before = time.perf_counter(), sum(os.times()[:4])
    work()
    seconds, cpu = time.perf_counter() - started, sum(os.times()[:4]) - before
    over.set()
    watching.join()
    return seconds, cpu, peak[0] / 2**20


def _busy():
    """CPU seconds that this machine has been busy for."""
    times = psutil.cpu_times()
    return sum(times[:3]) + sum(getattr(times, name, 0) for name in ("irq", "softirq", "steal"))


def _database_cpu():
    """CPU seconds of PostgreSQL, its ended sessions included."""
    return sum(
        _cpu(p, ended=True) for p in psutil.process_iter(["name"]) if (p.info["name"] or "").startswith("postgres")
    )


def _server_cpu():
    pid = os.environ.get("PREFECT_BATCH_BENCH_SERVER")
    return _cpu(psutil.Process(int(pid)), ended=True) if pid else 0.0


def _cpu(process, *, ended):
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return times.user + times.system + (times.children_user + times.children_system if ended else 0)
    return 0.0


@contextlib.contextmanager
def prefect_server():
    """A Prefect server for all cases."""
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(
        PREFECT_HOME=tempfile.mkdtemp(),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_LOGGING_LEVEL="WARNING",
        DO_NOT_TRACK="1",
    )
    os.environ.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/api"
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/health").is_success:
                    break
            time.sleep(0.3)
        os.environ.update(PREFECT_API_URL=url, PREFECT_BATCH_BENCH_SERVER=str(server.pid))
        yield
    finally:
        server.kill()
        server.wait()
