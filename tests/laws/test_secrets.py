"""Secrets stay secret: none is kept in a flow run or a deployment, and none is shown in a text."""

import dataclasses
import functools
import json
import logging

import httpx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client

from prefect_batch import HealthCheck, Table, process_records, reconcile, replay_dead_letters
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.passwords import gives_access, hide_passwords, holds_login
from prefect_batch.flows.run import secret_parameters

SECRET = "S3cr3tPw"
URL = f"postgresql://shop:{SECRET}@127.0.0.1/shop"
SOURCE = {"connection": "sqlite:///shop.db", "name": "orders", "key": "id"}
GIVEN = {"job": "keeps-secrets", "source": SOURCE, "process": print, "sink": SOURCE}

# Parameters of process_records that hold a secret, and what the refusal names.
HOLDERS = {
    "source.connection": {"source": {**SOURCE, "connection": URL}},
    "sink.connection": {"sink": {**SOURCE, "connection": f"postgresql://h/shop?password={SECRET}"}},
    "source.conection": {"source": {**SOURCE, "conection": URL}},
    "source.where": {"source": {**SOURCE, "where": f"id IN (SELECT id FROM dblink('host=h password={SECRET}', 'q'))"}},
    "source.sql": {"source": {"connection": "sqlite:///shop.db", "key": "id", "sql": f"SELECT * FROM url('{URL}')"}},
    "source.path": {"source": {"path": f"s3://AKIA:{SECRET}@bucket/orders.csv"}},
    "sink.path": {"sink": {"path": f"https://host/orders.csv?X-Amz-Signature={SECRET}"}},
    "sink.storage_options.secret": {"sink": {"path": "s3://bucket", "storage_options": {"secret": SECRET}}},
    "dead_letters": {"dead_letters": f"s3://AKIA:{SECRET}@bucket/letters"},
    "health.sql": {"health": [{"connection": "sqlite://", "limit": 1, "sql": f"SELECT f('{URL}')"}]},
    "health.connection": {"health": [{"connection": URL, "limit": 1, "sql": "SELECT 1"}]},
    "job": {"job": URL},
    "alert": {"alert": [f"https://hooks.example/?token={SECRET}"]},
}


def flow_runs() -> list:
    with get_client(sync_client=True) as client:
        answer = client._client.post("/flow_runs/filter", json={"sort": "START_TIME_DESC"})
        return answer.json()


@pytest.fixture
def refusals(caplog, capfd):
    """All that was logged and printed."""
    caplog.set_level(logging.DEBUG)
    return lambda: caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_call_with_a_secret_is_refused_before_there_is_a_run(holder, server, refusals):
    before = len(flow_runs())
    with pytest.raises(BadParameter, match=f"^{holder}: ") as refused:
        process_records(**{**GIVEN, **HOLDERS[holder]})
    assert len(flow_runs()) == before
    assert SECRET not in str(refused.value) + refusals()


@pytest.mark.parametrize(
    "call",
    [
        lambda: process_records.with_options(retries=0)(**{**GIVEN, "dead_letters": URL}),
        lambda: process_records(**{**GIVEN, "dead_letters": URL}, return_state=True),
        lambda: replay_dead_letters(URL),
        lambda: reconcile(URL),
    ],
)
def test_so_is_every_call_of_every_flow(call, server):
    before = len(flow_runs())
    with pytest.raises(BadParameter):
        call()
    assert len(flow_runs()) == before


def test_a_deployment_with_a_secret_is_refused(server):
    for flow in (process_records, process_records.with_options(retries=1)):
        with pytest.raises(BadParameter, match=r"^source\.connection: "):
            flow.to_deployment("secret", parameters={"source": {**SOURCE, "connection": URL}})


def test_of_a_run_that_the_server_made_the_message_says_which_to_delete(server, monkeypatch, refusals):
    run_id = "0b6a2a3c-9f9b-4a57-8a08-7a8d9f2a4f3e"
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", run_id)
    with pytest.raises(BadParameter, match=f"prefect flow-run delete {run_id}") as refused:
        process_records.validate_parameters({**GIVEN, "source": {**SOURCE, "connection": URL}})
    assert SECRET not in str(refused.value) + refusals()


class Client:
    def __init__(self, api_key):
        self.api_key = api_key

    def __call__(self, row):
        return row


@dataclasses.dataclass
class Settings:
    api_key: str

    def __call__(self, row):
        return row


def clean(row, api_key):
    return row


@pytest.mark.parametrize(
    "function",
    [Client(SECRET), Settings(SECRET), functools.partial(clean, api_key=SECRET), Client(SECRET).__call__],
    ids=["object", "dataclass", "partial", "method"],
)
def test_what_is_bound_to_a_function_is_no_parameter_of_the_run(function):
    kept = process_records.serialize_parameters({**GIVEN, "process": function})
    assert SECRET not in json.dumps(kept)
    assert kept["process"].startswith(f"{__name__}:")


FREE = [
    "id > 7",
    "pass = 1",
    "pwd=1 AND token=2 AND name='x'",
    "url LIKE 'http://host:80/a@b'",
    "a='x' AND password='y'",
]


@pytest.mark.parametrize("text", FREE)
def test_a_condition_on_a_column_of_such_a_name_is_none(text):
    assert list(secret_parameters._secrets_in({"source": Table("sqlite://", "t", key="id", where=text)})) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"source": {"path": "s3://bucket/token=5/*.parquet"}},
        {"source": {"path": "data/a?.csv", "schema": {"password": "string"}}},
        {"source": {**SOURCE, "connection": "secret/shop"}, "redact": ["password", "api_key"]},
        {"source": {**SOURCE, "connection": "postgresql://me@h/shop?sslmode=require&sslkey=/k.pem"}},
        {"health": [HealthCheck(check="active_connections", limit=5, connection="env/SHOP_URL")]},
        {"alert": ["slack-webhook/data-team"], "run_window": "22:00-06:00 UTC", "max_rate": 5.0},
        {"message": "password=… is wrong", "where": "error_type = 'ValueError' AND record.token = 5"},
    ],
)
def test_what_is_no_secret_is_none(parameters):
    assert list(secret_parameters._secrets_in(parameters)) == []


secrets = st.text("abcXYZ0189-_./+~", min_size=8, max_size=20).map(lambda text: f"S{text}")


@pytest.mark.parametrize(
    "form",
    [
        "postgresql://me:{}@host/db",
        "s3://key:{}@bucket/x",
        "https://{}@github.example/x",
        "Cannot connect to proxy http://me:{}@proxy:3128",
        "https://account.blob.example/x?sv=1&sig={}",
        "https://host/x?X-Amz-Signature={}&x=1",
        "host=h password={} user=me",
        "DefaultEndpointsProtocol=https;AccountKey={}",
        "aws_secret_access_key={}",
        "api_key='{}'",
        "{{'key': 'AKIA', 'secret': '{}'}}",
        '{{"password": "{}", "x": 1}}',
        "Authorization: Bearer {}",
        "headers={{'Authorization': 'Basic {}'}}",
        "the server refused Bearer {}",
    ],
)
@given(secret=secrets)
def test_a_secret_is_hidden_in_every_form(form, secret):
    assume("/" not in secret or not form.startswith("https://{}"))  # Where a URL's host would end.
    text = f"before {form.format(secret)} after"
    hidden = hide_passwords(text)
    assert secret not in hidden
    assert hidden.startswith("before ")
    assert hide_passwords(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'token'",
        "Key (id)=(5) already exists, key=(1,)",
        "max_tokens=5, passed=3, signal=9",
        "column password: text does not fit",
        "http://host:8080/path and https://host/a?b=c",
        "a bearer of bad news",
    ],
)
def test_what_is_no_secret_is_shown(text):
    assert hide_passwords(text) == text
    assert not gives_access(text)
    assert not holds_login(text)


def test_a_proxy_that_does_not_answer_is_named_without_its_password():
    with pytest.raises(httpx.HTTPError) as error, httpx.Client(proxy=f"http://me:{SECRET}@127.0.0.1:9") as client:
        client.get("http://127.0.0.1:9/")
    assert SECRET not in hide_passwords(repr(error.value))
