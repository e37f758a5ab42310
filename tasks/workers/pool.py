"""The worker processes of a run, below Prefect's tasks: each works on a chunk at a time."""

import contextlib
import pickle
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.chunks import ChunkRange, ChunkResult, Outcome, Split
from prefect_batch.blocks.errors import RecordTimeout, RemoteError, RunStopped, SinkRefuses, WorkerDied
from prefect_batch.tasks.error_text import remote_error
from prefect_batch.tasks.work.record_guard import IDLE
from prefect_batch.tasks.work.stop_signals import NOT_BEGUN, ROLLED_BACK, abandon, refuse
from prefect_batch.tasks.work.trial import Trial
from prefect_batch.tasks.workers.messages import LogLine, WorkerSetup, WorkOrder
from prefect_batch.tasks.workers.worker_process import WorkerProcess, end_workers

Log = Callable[[int, str], None]
# A record that no alarm can interrupt is ended with its worker after this many times its limit.
PATIENCE = 1.25
# How often a chunk's worker is looked at.
LOOK_SECONDS = 0.2

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


@dataclass(eq=False)
class _Seat:
    """A place for a worker, which is empty when one has died and until another can be started."""

    worker: WorkerProcess | None = None


class WorkerPool:
    """The worker processes for the chunks of one run, as a context manager.

    A worker that dies costs its chunk one attempt. At its end the workers may close what their functions have opened;
    what they leave behind is asked to end, and killed.
    """

    def __init__(self, setup: WorkerSetup, size: int) -> None:
        self._setup = pickle.dumps(setup)
        self._run_id, self._timeout = setup.job.run_id, setup.timeout_seconds
        self._size = size
        self._idle: queue.SimpleQueue[_Seat] = queue.SimpleQueue()
        self._all: set[WorkerProcess] = set()
        self._closed = self._refusing = False
        self._rate = 0.0
        # A worker ends with the thread that started it, so one thread starts them all.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="batch-workers")

    def __enter__(self) -> Self:
        _pools[self._run_id] = self
        self._add(self._size)
        return self

    def __exit__(self, *exc_info: object) -> None:
        del _pools[self._run_id]
        self._end(at_once=False)
        self._starter.shutdown()

    def _add(self, seats: int) -> None:
        """Start so many workers. A place that stays empty for a lack of this machine is filled by a later chunk."""
        for _ in range(seats):
            seat = _Seat()
            with contextlib.suppress(RemoteError):
                self._fill(seat)
            self._idle.put(seat)

    def _fill(self, seat: _Seat) -> WorkerProcess:
        """Return the worker of this place, started anew if there is none, or if it has died in its idleness.

        Raises:
            RemoteError: None can be started.
            RunStopped: All workers were ended.
        """
        if seat.worker is not None and seat.worker.has_ended:
            self._discard(seat)
        if seat.worker is None:
            try:
                seat.worker = self._starter.submit(WorkerProcess, self._setup).result()
            except (OSError, RuntimeError, MemoryError) as error:
                raise remote_error(error, blame_of(error)) from None
            seat.worker.rate_limit.rate = self._rate
            self._all.add(seat.worker)
        if self._closed:  # In the meantime.
            self._discard(seat)
            raise RunStopped(ROLLED_BACK)
        return seat.worker

    def _discard(self, seat: _Seat) -> None:
        """End the worker of this place, and what it has started."""
        if seat.worker is not None:
            end_workers([seat.worker], at_once=True)
            self._all.discard(seat.worker)
            seat.worker = None

    def grow(self, size: int) -> None:
        """Have at least so many workers."""
        self._add(size - self._size)
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
        self._end(at_once=True)

    def _end(self, *, at_once: bool) -> None:
        self._closed = True
        self._idle.put(_Seat())  # Wakes a chunk that waits for a worker.
        end_workers(list(self._all), at_once=at_once)
        self._all.clear()

    def work(
        self, chunk: ChunkRange, batch_rows: int, log: Log, *, hold_refused: bool = False, trial: Trial | None = None
    ) -> Outcome:
        """Run the chunk in one of the workers, in batches of this size, and return its outcome.

        Lines of its log go to `log`.

        Raises:
            StopBatch: The processor raised it.
            SinkRefuses: The sink took none of its records, so that it is held back.
            RemoteError: The chunk failed, or no worker can be started now.
            WorkerDied: The worker died.
            RunStopped: The workers were ended.
        """
        doomed: dict[int, Exception] = {}
        while True:
            seat = self._take_seat()
            try:
                order = WorkOrder(chunk, batch_rows, doomed, hold_refused, trial or Trial())
                answer = self._ask(self._fill(seat), order, log)
            except (EOFError, ConnectionError) as error:
                hung, in_hand = self._clear(seat)
                if hung is None:
                    raise WorkerDied(in_hand) from error
                # Its alarm was not heard: the rest of the chunk is done again without this record.
                assert self._timeout is not None
                doomed[hung] = RecordTimeout(self._timeout, by_force=True)
                continue
            except BaseException:
                self._discard(seat)  # Its answer may be on the way, and must not be taken for that of another chunk.
                raise
            else:
                if not isinstance(answer, (ChunkResult, Split, SinkRefuses)) and not blame_of(answer).passes:
                    self.refuse()  # Before its worker continues with the next chunk.
            finally:
                self._idle.put(seat)
            if isinstance(answer, (ChunkResult, Split)):
                return answer
            raise answer

    def _take_seat(self) -> _Seat:
        """Wait for a place whose worker is idle."""
        seat = self._idle.get()
        if self._closed or self._refusing:
            self._idle.put(seat)
            raise RunStopped(ROLLED_BACK if self._closed else NOT_BEGUN)
        return seat

    def _ask(self, worker: WorkerProcess, order: WorkOrder, log: Log) -> Any:
        worker.hung = None
        worker.connection.send(order)
        while True:
            self._await(worker)
            answer = worker.connection.recv()
            if not isinstance(answer, LogLine):
                return answer
            log(answer.level, answer.text)

    def _await(self, worker: WorkerProcess) -> None:
        """Wait for an answer.

        Raises:
            EOFError: The worker has died, or has processed one record for too long.
        """
        seen, since = IDLE, time.monotonic()
        seconds = LOOK_SECONDS if self._timeout is None else min(LOOK_SECONDS, self._timeout / 20)
        while not worker.wait_for_answer(seconds):
            now, record = time.monotonic(), worker.in_hand
            if record != seen or record == IDLE:
                seen, since = record, now
            elif self._timeout is not None and now - since > PATIENCE * self._timeout:
                worker.hung = record
                raise EOFError

    def _clear(self, seat: _Seat) -> tuple[int | None, int | None]:
        """End the worker of this place, which has died or hangs.

        Returns:
            The number of the record that hangs, if there is one, and of the one that was being processed.

        Raises:
            RunStopped: All workers were ended.
        """
        worker = seat.worker
        if self._closed:
            raise RunStopped(ROLLED_BACK)
        if worker is None:
            return None, None  # It has died while it was started.
        record = worker.in_hand
        self._discard(seat)
        return worker.hung, None if record == IDLE else record
