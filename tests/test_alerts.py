"""Who is told when a run ends badly: notification blocks, and Automations by events."""

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from prefect.automations import Automation
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.system import Secret
from prefect.events.actions import DoNothing
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed

from prefect_batch import CircuitOpen, FailureRateExceeded, Table, process_records, status
from prefect_batch.blocks.errors import BadParameter, JobIsOwned
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state.cursor_store import CursorStore
from prefect_batch.blocks.state.ownership import own_job
from prefect_batch.flows.reporting import alerts
from prefect_batch.flows.reporting.hooks import report_crash

TOLD = []


class Told(NotificationBlock):
    """A notification block that remembers what it was told."""

    _block_type_slug = "told"

    fails: bool = False

    def notify(self, body, subject=None):
        if self.fails:
            raise ConnectionError("nobody listens at https://u:hunter2@hooks.example.com")
        TOLD.append((subject, body))


class ToldAsync(Told):
    """The same, as Prefect's own abstract class declares it."""

    _block_type_slug = "told-async"

    async def notify(self, body, subject=None):
        TOLD.append((f"async {subject}", body))


@pytest.fixture(autouse=True)
def nobody_told():
    TOLD.clear()


@pytest.fixture
def run(server, sqlite, job, tmp_path):
    sqlite.run(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY)",
        "CREATE TABLE out (id INTEGER PRIMARY KEY, CHECK (id < 10000))",
    )
    sqlite.many("INSERT INTO numbers VALUES (:id)", [{"id": n} for n in range(400)])

    def call(process=dict, **parameters):
        return process_records(
            job=job,
            source=Table(sqlite.url, "numbers", key="id"),
            process=process,
            sink=Table(sqlite.url, "out", key="id"),
            dead_letters=str(tmp_path / "letters"),
            **{"chunk_size": 100, **parameters},
        )

    return call


def fail(record):
    raise ValueError(f"no number {record['id']}")


def events(job, *names):
    """The payloads of these events of the job, once they have all arrived; the server takes them in a little later."""
    deadline = time.monotonic() + 60
    now = datetime.now(UTC)
    wanted = {
        "filter": {
            "occurred": {
                "since": (now - timedelta(hours=1)).isoformat(),
                "until": (now + timedelta(hours=1)).isoformat(),
            },
            "resource": {"id": [f"prefect-batch.job.{job}"]},
        }
    }
    while True:
        found = httpx.post(f"{PREFECT_API_URL.value()}/events/filter", json=wanted).json()["events"]
        payloads = {event["event"].removeprefix("prefect-batch."): event["payload"] for event in found}
        if set(names) <= set(payloads):
            return payloads
        assert time.monotonic() < deadline, f"only {sorted(payloads)} arrived"
        time.sleep(0.2)


def test_a_threshold_stop_is_told_and_can_start_an_automation(run, job, caplog):
    Told().save(job, overwrite=True, _sync=True)
    ToldAsync().save(job, overwrite=True, _sync=True)
    Told(fails=True).save(f"{job}-deaf", overwrite=True, _sync=True)
    trigger = EventTrigger(
        expect={"prefect-batch.threshold.exceeded"},
        match={"prefect.resource.id": f"prefect-batch.job.{job}"},
        posture=Posture.Reactive,
        threshold=1,
    )
    automation = Automation(name=job, trigger=trigger, actions=[DoNothing()]).create(_sync=True)
    with pytest.raises(FailureRateExceeded):
        run(fail, alert=[f"told/{job}-deaf", f"told/{job}", f"told-async/{job}"])
    # The one that fails is named in the log, and keeps nothing from the others.
    assert f"the alert told/{job}-deaf was not sent: ConnectionError: nobody listens at" in caplog.text
    assert "hunter2" not in caplog.text
    (subject, body), (other, _) = TOLD
    assert subject == f"{job} stopped: too many records failed"
    assert other == f"async {subject}"
    assert "400 of 400 records failed (100.00%), more than max_failure_rate=0.05 allows" in body
    assert "400 × ValueError: no number 0 (key 0)" in body
    found = events(job, "threshold.exceeded", "run.failed")
    for payload in found.values():
        assert (payload["cause"], payload["read"], payload["failed"], payload["failure_rate"]) == (
            "threshold",
            400,
            400,
            1,
        )
        assert (payload["max_failure_rate"], payload["job"], payload["pass"]) == (0.05, job, 1)
    _wait_until_triggered(automation.id)


def _wait_until_triggered(automation_id):
    deadline = time.monotonic() + 60
    wanted = {"filter": {"event": {"name": ["prefect.automation.triggered"]}}}
    while time.monotonic() < deadline:
        found = httpx.post(f"{PREFECT_API_URL.value()}/events/filter", json=wanted).json()["events"]
        if any(str(automation_id) in event["resource"]["prefect.resource.id"] for event in found):
            return
        time.sleep(0.2)
    pytest.fail("the automation was not triggered")


def test_an_open_circuit_and_a_complete_run_are_events_with_their_numbers(run, job):
    Told().save(job, overwrite=True, _sync=True)
    with pytest.raises(CircuitOpen):
        run(lambda r: {"id": r["id"] + 10_000}, alert=[f"told/{job}"])
    assert [subject for subject, _ in TOLD] == [f"{job} stopped: the sink takes nothing"]
    assert "the sink took not one record of 3 chunks in a row" in TOLD[0][1]
    run(alert=[f"told/{job}"], restart=True)
    assert len(TOLD) == 1  # A run that ends well wakes nobody.
    found = events(job, "circuit.open", "run.failed", "run.completed")
    assert (found["circuit.open"]["refused_chunks"], found["circuit.open"]["refused_records"]) == (3, 300)
    assert (found["run.completed"]["status"], found["run.completed"]["written"]) == ("complete", 400)


def test_a_crash_is_told_by_a_hook_that_knows_only_ids_and_blocks(run, job):
    """As in the process of a runner or worker, after the run's own was killed: the cursor still says running."""
    Told().save(job, overwrite=True, _sync=True)
    run(limit=100, alert=[f"told/{job}"])
    store = CursorStore(job)
    store.save(replace(store.load(), status="running", message=""))
    flow_run = call_api(lambda client: client.read_flow_run(status(job).run_id))
    report_crash(process_records, flow_run, Crashed(message="killed by the system"))
    ((subject, body),) = TOLD
    assert subject == f"{job} crashed"
    assert "crashed: killed by the system" in body
    payload = events(job, "run.failed")["run.failed"]
    assert (payload["cause"], payload["read"]) == ("crash", 100)


def test_a_run_that_could_not_start_is_told_but_not_one_that_another_run_forbids(run, job):
    Told().save(job, overwrite=True, _sync=True)
    with pytest.raises(BadParameter):
        run(chunk_size=0, alert=[f"told/{job}"])
    ((subject, body),) = TOLD
    assert subject == f"{job} could not start"
    assert "chunk_size=0 must be 1 or more" in body
    with own_job(job, "00000000-0000-0000-0000-000000000001", 1), pytest.raises(JobIsOwned):
        run(alert=[f"told/{job}"])
    assert len(TOLD) == 1


@pytest.mark.parametrize(
    ("slug", "sentence"),
    [
        ("told/nobody", "alert='told/nobody': there is no such block; create it in Prefect, or correct the name"),
        ("nonsense", "alert='nonsense': there is no such block"),
        ("secret/{job}", "is a Secret, which cannot notify; name a notification block"),
    ],
)
def test_a_block_that_cannot_be_told_is_refused_at_the_start(run, job, slug, sentence):
    Secret(value="x").save(job, overwrite=True, _sync=True)
    with pytest.raises(BadParameter, match=sentence):
        alerts.check_alerts([slug.format(job=job)])


def test_a_run_does_not_start_with_an_unknown_block(run, sqlite):
    with pytest.raises(BadParameter, match="there is no such block"):
        run(alert=["told/nobody"])
    assert sqlite.rows("SELECT count(*) FROM out") == [(0,)]


def test_an_alert_that_hangs_is_given_up(server, job, monkeypatch, caplog):
    class Hanging(Told):
        """Never comes back."""

        _block_type_slug = "told-hanging"

        def notify(self, *_):
            time.sleep(5)

    Hanging().save(job, overwrite=True, _sync=True)
    monkeypatch.setattr(alerts, "PATIENCE_SECONDS", 0.2)
    alerts.send_alerts([f"told-hanging/{job}"], "subject", "body", logging.getLogger("prefect.batch-test"))
    assert f"the alert told-hanging/{job} was not sent: no answer within 0.2 s" in caplog.text
