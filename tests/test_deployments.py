"""The flow as people run it: served, and deployed to a process worker; started, stopped, killed, and gone on with.

One worker and one serving process for all tests here. A run waits in the third of its six chunks until `open_gate`.
"""

import http.server
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.events import emit_event

import prefect_batch
from prefect_batch import dead_letters, status, stop
from prefect_batch.blocks.prefect_api import call_api

ROOT = Path(prefect_batch.__file__).parent
pytestmark = pytest.mark.timeout(600)
ROWS = 6000
PROCESSOR = """
import os, time
from prefect_batch import processor

@processor
def pass_gate(record):
    gate = record["gate"]
    if gate:
        open(gate + ".reached", "w").close()
        while not os.path.exists(gate + ".open"):
            time.sleep(0.02)
    if record["id"] % 1000 == 7:
        raise ValueError("seven")
    return {"id": record["id"], "n": 1}

@processor
def fail_until_mended(record):
    if not os.path.exists(record["gate"] + ".open"):
        raise RuntimeError("not mended")
    return {"id": record["id"], "n": 1}
"""
SERVE = """
from prefect_batch import process_records
process_records.serve(name="served", pause_on_shutdown=False)
"""


# For the session, since its server is: pytest-xdist may hand a worker the tests of this module in several portions.
@pytest.fixture(scope="session")
def environment(tmp_path_factory, server):
    modules = tmp_path_factory.mktemp("modules")
    (modules / "gates.py").write_text(PROCESSOR)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(modules), str(ROOT / "examples")]),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }


def prefect(environment, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def deployed(environment):
    """The deployments of prefect.yaml, as the page on deploying says to make them; their schedules, which now rest."""
    prefect(environment, "work-pool", "create", "batch", "--type", "process")
    prefect(environment, "deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    found = {d.name: d for d in call_api(lambda client: client.read_deployments()) if d.name != "served"}
    schedules = {d.name: [entry.schedule for entry in d.schedules] for d in found.values()}
    for one in found.values():
        call_api(lambda client, one=one: client.pause_deployment(one.id))
    return schedules


class Worker:
    """A worker of the pool, which can be killed and started again."""

    def __init__(self, environment, log):
        self.environment, self.log = environment, log

    def start(self):
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "batch", "--type", "process"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def worker(environment, deployed, tmp_path_factory):
    running = Worker(environment, tmp_path_factory.mktemp("worker") / "worker.log")
    running.start()
    yield running
    end(running.process)


@pytest.fixture(scope="session")
def served(environment, tmp_path_factory):
    """The name of a deployment that a `.serve` process looks after."""
    with (tmp_path_factory.mktemp("serve") / "serve.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, stdout=log, stderr=log)
    yield "process-records/served"
    end(process)


def end(process):
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()


class Gate:
    """Where a run waits: `reached` says that it does."""

    def __init__(self, path):
        self.path = str(path)

    def reached(self):
        wait_for(lambda: os.path.exists(self.path + ".reached"), "the gate")

    def open(self):
        Path(self.path + ".open").touch()


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def parameters(sqlite, job, tmp_path, gate):
    sqlite.run(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY, gate TEXT)",
        "CREATE TABLE out (id INTEGER PRIMARY KEY, n INTEGER)",
    )
    rows = [{"id": n, "gate": gate.path if n == 2500 else ""} for n in range(ROWS)]
    sqlite.many("INSERT INTO numbers VALUES (:id, :gate)", rows)
    return {
        "job": job,
        "source": {"connection": sqlite.url, "name": "numbers", "key": "id"},
        "process": "gates:pass_gate",
        "sink": {"connection": sqlite.url, "name": "out", "key": "id"},
        "chunk_size": 1000,
        "concurrency": 1,
        "workers": "threads",
        "dead_letters": str(tmp_path / "letters"),
    }


@pytest.fixture
def check(sqlite, job):
    def check():
        expected = [(n, 1) for n in range(ROWS) if n % 1000 != 7]
        assert sqlite.rows("SELECT * FROM out ORDER BY id") == expected
        assert sorted(json.loads(key)[0] for key in dead_letters(job)["key"]) == list(range(7, ROWS, 1000))
        assert status(job).status == "complete"

    return check


def wait_for(condition, what, seconds=240):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    pytest.fail(f"{what} did not come within {seconds} s")


def deployment(name):
    from prefect.exceptions import ObjectNotFound

    try:
        return call_api(lambda client: client.read_deployment_by_name(name))
    except ObjectNotFound:
        return None


def start(name, parameters):
    """A run of the deployment, which may be about to appear."""
    found = wait_for(lambda: deployment(name), name)
    return call_api(lambda client: client.create_flow_run_from_deployment(found.id, parameters=parameters)).id


def runs_of(name):
    mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment(name).id]))
    return call_api(lambda client: client.read_flow_runs(flow_run_filter=mine))


def state_of(run_id):
    mine = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    (run,) = call_api(lambda client: client.read_flow_runs(flow_run_filter=mine))
    return run.state


def wait_for_state(run_id, *names):
    """The state, once it has one of these names; a test that waits for a success hears of a failure at once."""

    def reached():
        state = state_of(run_id)
        if state.is_final() and state.name not in names:
            pytest.fail(f"the run is {state.name}: {state.message}")
        return state if state.name in names else None

    return wait_for(reached, f"state {names}")


AD_HOC = "process-records/ad-hoc"


def test_prefect_yaml_deploys_as_it_is_with_schedules_in_a_time_zone(deployed):
    assert {"nightly", "hourly", "replay", "reconcile", "ad-hoc"} <= deployed.keys()
    for name, cron in (("nightly", "0 2 * * *"), ("hourly", "15 * * * *"), ("reconcile", "0 7 * * 0")):
        (schedule,) = deployed[name]
        assert (schedule.cron, schedule.timezone) == (cron, "Europe/Berlin")
    assert deployed["ad-hoc"] == []


def test_the_examples_deployments_run_as_they_are(worker, environment, tmp_path):
    subprocess.run([sys.executable, "-m", "shop.prepare", "3000"], env=environment, cwd=tmp_path, check=True)
    runs = {name: start(f"process-records/{name}", {}) for name in ("nightly", "hourly")}
    for name, run in runs.items():
        wait_for_state(run, "Completed")
        done = status(f"orders-{name}")
        assert (done.status, done.tally.read) == ("complete", 3000)


def test_run_from_the_command_line_with_another_parameter(served, environment, parameters, gate, check):
    gate.open()
    wait_for(lambda: deployment(served), served)
    given = [f"{name}={json.dumps(value)}" for name, value in parameters.items()]
    asked = [argument for value in [*given, "chunk_size=2500"] for argument in ("-p", value)]
    prefect(environment, "deployment", "run", served, *asked)
    (run,) = (run for run in runs_of(served) if run.parameters["job"] == parameters["job"])
    wait_for_state(run.id, "Completed")
    assert run.parameters["chunk_size"] == 2500
    check()


def test_cancelled_and_run_again(served, environment, parameters, gate, sqlite, job, check):
    run = start(served, parameters)
    gate.reached()
    prefect(environment, "flow-run", "cancel", str(run))
    gate.open()
    wait_for_state(run, "Cancelled")
    wait_for(lambda: status(job).status == "stopped", "the last save")
    # The chunk in hand was finished, and counted.
    assert status(job).tally.read == 3000
    assert sqlite.rows("SELECT count(*) FROM out")[0][0] == status(job).tally.written
    wait_for_state(start(served, parameters), "Completed")
    check()


def test_suspended_and_resumed(served, parameters, gate, job, check):
    from prefect.flow_runs import resume_flow_run, suspend_flow_run

    # Many small chunks: the run must not be through before it notices.
    run = start(served, {**parameters, "chunk_size": 50})
    gate.reached()
    suspend_flow_run(flow_run_id=run, timeout=600, _sync=True)
    gate.open()
    wait_for(lambda: status(job).status == "stopped", "the last save")
    assert status(job).message == "paused or suspended in Prefect"
    assert state_of(run).name == "Suspended"
    # Prefect interrupts the wait for the chunk in hand, which is finished: it is in the sink, or done once more.
    assert status(job).tally.read in range(2400, ROWS)
    resume_flow_run(run, _sync=True)
    wait_for_state(run, "Completed")
    check()


def flow_process(run_id):
    (found,) = (
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get("PREFECT__FLOW_RUN_ID") == str(run_id)
        and any("prefect" in part for part in process.info["cmdline"] or [])
    )
    return found


@pytest.fixture
def webhook(job):
    """A notification block whose posts a server of this test receives; its slug, and the posts."""
    posts = queue.SimpleQueue()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            posts.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{receiver.server_port}"
        block = CustomWebhookNotificationBlock(
            name=job, url=url, json_data={"subject": "{{subject}}", "body": "{{body}}"}
        )
        block.save(job, overwrite=True, _sync=True)
        yield f"{block.get_block_type_slug()}/{job}", posts
        receiver.shutdown()


def test_killed_in_a_worker_and_run_again(worker, parameters, gate, job, check, webhook):
    slug, posts = webhook
    run = start(AD_HOC, {**parameters, "alert": [slug]})
    gate.reached()
    os.kill(flow_process(run).pid, signal.SIGKILL)
    wait_for_state(run, "Crashed")
    assert status(job).tally.read in (1000, 2000)  # The save of the second chunk may be under way.
    # The worker tells of it: the run itself no longer can.
    post = posts.get(timeout=60)
    assert post["subject"] == f"{job} crashed"
    assert f"{job}: pass 1 failed: crashed: " in post["body"]
    gate.open()
    wait_for_state(start(AD_HOC, parameters), "Completed")
    check()


def test_a_run_outlives_its_worker_and_another_worker_goes_on(worker, parameters, gate, check):
    run = start(AD_HOC, parameters)
    gate.reached()
    worker.kill()
    worker.start()
    gate.open()
    wait_for_state(run, "Completed")
    check()


def test_a_run_whose_machine_died_is_crashed_by_the_automation(
    worker, environment, parameters, gate, job, check, tmp_path
):
    automation = yaml.safe_load((ROOT / "deployments" / "crash-zombies.yaml").read_text())
    # As it ships but for its patience, and for the runs of the other tests.
    quick = tmp_path / "quick.yaml"
    quick.write_text(yaml.safe_dump({**automation, "trigger": {**automation["trigger"], "within": 10}}))
    run = start(AD_HOC, parameters)
    gate.reached()
    process = flow_process(run)
    prefect(environment, "automation", "create", "--from-file", str(quick))
    try:
        # It counts from the next sign of life on; a real one comes every half minute.
        emit_heartbeat(run)
        worker.kill()
        process.kill()
        told = wait_for_state(run, "Crashed")
    finally:
        for found in call_api(lambda client: client.read_automations_by_name(automation["name"])):
            call_api(lambda client, found=found: client.delete_automation(found.id))
        worker.start()
    assert told.message == automation["actions"][0]["message"]
    gate.open()
    wait_for_state(start(AD_HOC, parameters), "Completed")
    check()


def emit_heartbeat(run_id):
    emit_event(
        event="prefect.flow-run.heartbeat",
        resource={"prefect.resource.id": f"prefect.flow-run.{run_id}"},
        related=[
            {
                "prefect.resource.id": "prefect.flow.any",
                "prefect.resource.role": "flow",
                "prefect.resource.name": "process-records",
            }
        ],
    )


def test_a_run_outlives_a_restart_of_the_server(worker, server, parameters, gate, check):
    run = start(AD_HOC, parameters)
    gate.reached()
    server.stop()
    gate.open()
    server.start()
    wait_for_state(run, "Completed")
    check()


def test_retried_after_its_function_was_mended(worker, environment, parameters, gate, sqlite, job):
    sqlite.run(f"UPDATE numbers SET gate = '{gate.path}'")
    run = start(AD_HOC, {**parameters, "process": "gates:fail_until_mended"})
    failed = wait_for_state(run, "Failed")
    assert "1,000 of 1,000 records failed" in failed.message
    gate.open()
    prefect(environment, "flow-run", "retry", str(run))
    wait_for_state(run, "Completed")
    assert status(job).status == "complete"
    assert status(job).tally.read == ROWS


def scheduled(name, schedule, parameters):
    """The first run that the server's scheduler makes of this schedule, which is then taken away again."""
    found = deployment(name)
    made = call_api(
        lambda client: client.create_deployment_schedules(found.id, [(schedule, True)], parameters=parameters)
    )
    call_api(lambda client: client.resume_deployment(found.id))
    of_schedule = lambda: [run for run in runs_of(name) if run.auto_scheduled]  # noqa: E731
    run = min(wait_for(of_schedule, "a scheduled run"), key=lambda run: run.expected_start_time)
    wait_for(lambda: not state_of(run.id).is_scheduled(), "its start")
    call_api(lambda client: client.delete_deployment_schedule(found.id, made[0].id))
    call_api(lambda client: client.pause_deployment(found.id))
    return run


def test_a_scheduled_run_leaves_the_job_to_the_run_that_is_at_work(worker, parameters, gate, check):
    run = start(AD_HOC, parameters)
    gate.reached()
    # Should the scheduler be late for the first run, there is another a minute later.
    ahead = IntervalSchedule(interval=timedelta(minutes=1), anchor_date=datetime.now(UTC) + timedelta(seconds=8))
    second = scheduled(AD_HOC, ahead, parameters)
    told = wait_for_state(second.id, "AlreadyRunning")
    assert told.is_cancelled()  # Nobody is alarmed.
    assert "is already at work: flow run" in told.message
    gate.open()
    wait_for_state(run, "Completed")
    check()


def test_stopped_from_outside_and_kept_out_by_its_window(served, parameters, gate, job, check):
    run = start(served, parameters)
    gate.reached()
    stop(job)
    wait_for(lambda: status(job).message.startswith("stopping: stopped by "), "the request")
    gate.open()
    state = wait_for_state(run, "Stopped")
    assert state.type.value == "CANCELLED"
    assert re.fullmatch(rf"{job} was stopped by .*; its next run goes on", state.message)
    hour = (datetime.now(UTC).hour + 2) % 24
    kept_out = start(served, {**parameters, "run_window": f"{hour:02}:00-{hour:02}:30 UTC"})
    state = wait_for_state(kept_out, "OutsideRunWindow")
    assert state.type.value == "CANCELLED"
    assert f"{job} did not run: its run window {hour:02}:00-{hour:02}:30 UTC opens at " in state.message
    wait_for_state(start(served, parameters), "Completed")
    check()


def test_the_form_of_the_parameters_is_explained():
    from prefect_batch import process_records

    schema = process_records.parameters.model_dump()
    for name, field in schema["properties"].items():
        assert field.get("description"), name
    # Both of Prefect's pages show anyOf as tabs, and only one of them oneOf.
    tabs = [tab["$ref"].rpartition("/")[2] for tab in schema["properties"]["source"]["anyOf"]]
    assert tabs[:2] == ["Table", "Query"]
    assert [tab["title"] for tab in schema["properties"]["chunk_size"]["anyOf"]] == ["records", "adaptive"]
    assert list(schema["properties"])[:5] == ["job", "source", "process", "sink", "mode"]
    assert set(schema["required"]) == {"job", "source", "process", "sink"}
    definitions = schema["definitions"]
    for name in ("Table", "Query"):
        for field, description in definitions[name]["properties"].items():
            assert description.get("description"), (name, field)
            assert {"type": "null"} not in description.get("anyOf", ()), (name, field)
