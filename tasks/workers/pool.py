"""The worker processes of a run, below Prefect's tasks: each works on a chunk at a time."""

import mmap
import multiprocessing
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.chunks import ChunkRange, ChunkResult
from prefect_batch.blocks.errors import RecordTimeout, RunStopped, SinkRefuses, WorkerDied
from prefect_batch.tasks.work.rate_limit import RateLimit
from prefect_batch.tasks.work.record_guard import IDLE, SHARED_BYTES
from prefect_batch.tasks.work.stop_signals import NOT_BEGUN, ROLLED_BACK, abandon, refuse
from prefect_batch.tasks.workers.messages import LogLine, WorkerSetup, WorkOrder

Log = Callable[[int, str], None]
# A record that no alarm can interrupt is ended with its worker after this many times its limit.
PATIENCE = 1.25

_pools: dict[str, "WorkerPool"] = {}


def pool_of(run_id: str) -> "WorkerPool | None":
    """Return the pool of this run in this process, if it has one."""
    return _pools.get(run_id)


def worker_pids(run_id: str) -> list[int]:
    """Return the process ids of this run's workers."""
    pool = pool_of(run_id)
    return [] if pool is None else pool.pids


def refuse_waiting(run_id: str) -> None:
    """Let no chunk of this run begin that still waits for a worker process, or for its next attempt."""
    refuse(run_id)
    if pool := pool_of(run_id):
        pool.refuse()


def stop_at_once(run_id: str) -> None:
    """Make the running chunks of this run, in this process and its workers, roll back."""
    abandon(run_id)
    if pool := pool_of(run_id):
        pool.kill()


class _Worker:
    """One worker process, seen from its parent. `hung` is the record for which it was killed."""

    hung: int | None = None

    def __init__(self, setup: bytes) -> None:
        ours, theirs = multiprocessing.Pipe()
        with theirs, tempfile.TemporaryFile() as file:
            file.truncate(SHARED_BYTES)
            self._shared = mmap.mmap(file.fileno(), SHARED_BYTES)
            self._in_hand = memoryview(self._shared).cast("q")
            self.rate_limit = RateLimit(memoryview(self._shared)[8:].cast("d"))
            self._in_hand[0] = IDLE
            descriptors = (theirs.fileno(), file.fileno())
            command = [
                sys.executable,
                "-m",
                "prefect_batch.tasks.workers.worker",
                *map(str, descriptors),
                str(os.getpid()),
            ]
            self._process = subprocess.Popen(command, pass_fds=descriptors)  # noqa: S603 - our own module
        self.connection = ours
        self.connection.send_bytes(setup)

    @property
    def in_hand(self) -> int:
        """The number, in its chunk, of the record that is being processed, or IDLE."""
        return int(self._in_hand[0])

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def kill(self) -> None:
        """End it at once, whatever it does. The database rolls its transaction back."""
        self._process.kill()
        self._process.wait()


class WorkerPool:
    """The worker processes for the chunks of one run, as a context manager.

    A worker that dies costs its chunk one attempt. The record that it was processing is tried once more, and then
    becomes a dead letter.
    """

    def __init__(self, setup: WorkerSetup, size: int) -> None:
        self._setup = pickle.dumps(setup)
        self._run_id, self._timeout = setup.job.run_id, setup.timeout_seconds
        self._size = size
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        self._all: set[_Worker] = set()
        self._deaths: Counter[tuple[ChunkRange, int]] = Counter()
        self._closed = self._refusing = False
        self._rate = 0.0
        # A worker ends with the thread that started it, so one thread starts them all.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="batch-workers")

    def __enter__(self) -> Self:
        _pools[self._run_id] = self
        for _ in range(self._size):
            self._idle.put(self._start())
        return self

    def __exit__(self, *exc_info: object) -> None:
        del _pools[self._run_id]
        self.kill()
        self._starter.shutdown()

    def _start(self) -> _Worker:
        worker = self._starter.submit(_Worker, self._setup).result()
        worker.rate_limit.rate = self._rate
        self._all.add(worker)
        return worker

    def grow(self, size: int) -> None:
        """Have at least so many workers."""
        for _ in range(size - self._size):
            self._idle.put(self._start())
        self._size = max(size, self._size)

    def set_rate_limit(self, rate: float) -> None:
        """Limit each worker to this many records per second from now on, also within a chunk. 0 removes the limit."""
        self._rate = rate
        for worker in list(self._all):
            worker.rate_limit.rate = rate

    @property
    def pids(self) -> list[int]:
        """The ids of the worker processes."""
        return [worker.pid for worker in list(self._all)]

    def refuse(self) -> None:
        """Begin no further chunk: those that wait for a worker stop, those that are running are finished."""
        self._refusing = True

    def kill(self) -> None:
        """End all workers at once."""
        self._closed = True
        self._idle.put(None)  # Wakes a chunk that waits for a worker.
        for worker in list(self._all):
            worker.kill()

    def work(self, chunk: ChunkRange, batch_rows: int, log: Log, *, hold_refused: bool = False) -> ChunkResult:
        """Run the chunk in one of the workers, in batches of this size, and return its result.

        Lines of its log go to `log`.

        Raises:
            StopBatch: The processor raised it.
            SinkRefuses: The sink took none of its records, so that it is held back.
            RemoteError: The chunk failed.
            WorkerDied: The worker died; the chunk is worth another attempt.
            RunStopped: The workers were ended.
        """
        doomed: dict[int, Exception] = {
            record: WorkerDied(record) for (of, record), times in self._deaths.items() if of == chunk and times > 1
        }
        while True:
            worker = self._wait_for_worker()
            try:
                answer = self._ask(worker, WorkOrder(chunk, batch_rows, doomed, hold_refused), log)
            except (EOFError, ConnectionError) as error:
                hung = self._replace(worker, chunk)
                if hung is None:
                    raise WorkerDied from error
                # Its alarm was not heard: the rest of the chunk is done again without this record.
                assert self._timeout is not None
                doomed[hung] = RecordTimeout(self._timeout, by_force=True)
                continue
            if not isinstance(answer, (ChunkResult, SinkRefuses)) and not blame_of(answer).passes:
                self.refuse()  # Before its worker continues with the next chunk.
            self._idle.put(worker)
            if isinstance(answer, ChunkResult):
                return answer
            raise answer

    def _wait_for_worker(self) -> _Worker:
        worker = self._idle.get()
        if worker is None or self._closed:
            self._idle.put(None)
            raise RunStopped(ROLLED_BACK)
        if self._refusing:
            self._idle.put(worker)
            raise RunStopped(NOT_BEGUN)
        return worker

    def _ask(self, worker: _Worker, order: WorkOrder, log: Log) -> Any:
        worker.hung = None
        worker.connection.send(order)
        while True:
            self._await(worker)
            answer = worker.connection.recv()
            if not isinstance(answer, LogLine):
                return answer
            log(answer.level, answer.text)

    def _await(self, worker: _Worker) -> None:
        """Wait for an answer, and kill the worker when it processes one record for too long."""
        if self._timeout is None:
            return
        seen, since = IDLE, time.monotonic()
        while not worker.connection.poll(min(0.2, self._timeout / 20)):
            now, record = time.monotonic(), worker.in_hand
            if record != seen or record == IDLE:
                seen, since = record, now
            elif now - since > PATIENCE * self._timeout:
                worker.hung = record
                worker.kill()
                raise EOFError

    def _replace(self, worker: _Worker, chunk: ChunkRange) -> int | None:
        """Start another worker in place of one that died.

        Returns:
            The number of the record that hung, if the worker was killed for it.
        """
        record = worker.in_hand
        self._all.discard(worker)
        worker.kill()
        if self._closed:
            raise RunStopped(ROLLED_BACK)
        self._idle.put(self._start())
        if worker.hung is None and record != IDLE:
            self._deaths[chunk, record] += 1
        return worker.hung
