"""The parameters of a run: flat in the flows, five values behind them, and each default said once."""

import inspect
from dataclasses import MISSING, fields
from datetime import timedelta

import pytest

from prefect_batch import Files, HealthCheck, Table, process_records, replay_dead_letters
from prefect_batch.blocks.errors import BadParameter, BadProcessor
from prefect_batch.flows.run.parameters import (
    ChunkParameters,
    FailureParameters,
    JobParameters,
    Parameters,
    PassParameters,
    RunParameters,
)

PARTS = {
    "what": JobParameters,
    "pass_": PassParameters,
    "failures": FailureParameters,
    "chunks": ChunkParameters,
    "run": RunParameters,
}
SINK = Table("sqlite:///shop.db", "orders_clean", key="id")
REQUIRED = {"job": "orders", "source": Table("sqlite:///shop.db", "orders", key="id"), "process": dict, "sink": SINK}


def defaults_of(*parts):
    found = [(field.name, field.default) for part in parts for field in fields(part)]
    return {name: inspect.Parameter.empty if default is MISSING else default for name, default in found}


def signature_of(flow):
    return {name: parameter.default for name, parameter in inspect.signature(flow.fn).parameters.items()}


def test_the_flow_has_every_parameter_of_the_five_values_with_its_default_and_no_other():
    assert signature_of(process_records) == defaults_of(*PARTS.values())


def test_each_parameter_belongs_to_one_value():
    assert sum(len(fields(part)) for part in PARTS.values()) == len(signature_of(process_records))


def test_a_replay_has_the_same_defaults_except_that_nearly_all_letters_may_fail_again():
    shared = {**defaults_of(FailureParameters, ChunkParameters, RunParameters), **defaults_of(PassParameters)}
    of_replay = signature_of(replay_dead_letters)
    differing = {name for name in shared.keys() & of_replay.keys() if of_replay[name] != shared[name]}
    assert (differing, of_replay["max_failure_rate"]) == ({"max_failure_rate"}, 0.99)
    assert defaults_of(ChunkParameters).keys() <= of_replay.keys()


def test_what_is_left_out_has_the_flows_default():
    assert Parameters.of(**REQUIRED) == Parameters.of(**{**signature_of(process_records), **REQUIRED})


OTHERS = {
    "job": "invoices",
    "source": Files("orders/*.parquet"),
    "process": len,
    "sink": Table("sqlite:///shop.db", "others", key="id"),
    "alert": ["slack-webhook/data-team"],
    "dead_letters": "letters",
    "redact": ["email"],
    "mode": "incremental",
    "overlap": 0,
    "limit": 7,
    "dry_run": True,
    "restart": True,
    "write_again": True,
    "max_failure_rate": 0.5,
    "max_failures": 3,
    "min_records": 5,
    "circuit_breaker": None,
    "record_timeout": 2.5,
    "record_retries": 2,
    "chunk_size": 100,
    "retries": 0,
    "retry_delay_seconds": 0.5,
    "run_window": "22:00-06:00 UTC",
    "max_duration": timedelta(hours=2),
    "max_rate": 100.0,
    "health": [HealthCheck(prefect_limit="database")],
    "min_free_disk_mb": 0,
    "concurrency": 2,
    "workers": "processes",
    "max_memory_mb": 100,
}


@pytest.mark.parametrize(("which", "name"), [(which, f.name) for which, part in PARTS.items() for f in fields(part)])
def test_a_flat_parameter_comes_to_its_value_and_changes_nothing_else(which, name):
    given = {"mode": "incremental"} if name == "overlap" else {}
    plain, other = Parameters.of(**REQUIRED, **given), Parameters.of(**{**REQUIRED, **given, name: OTHERS[name]})
    assert getattr(getattr(other, which), name) == OTHERS[name]
    for part in PARTS:
        for field in fields(getattr(plain, part)):
            if field.name != name:
                assert getattr(getattr(other, part), field.name) == getattr(getattr(plain, part), field.name)


def test_a_name_that_is_no_parameter_is_a_mistake_of_ours():
    with pytest.raises(AssertionError, match="these belong to no part of the parameters: chunksize"):
        Parameters.of(**REQUIRED, chunksize=100)


@pytest.mark.parametrize(
    ("part", "given", "sentence"),
    [
        (PassParameters, {"limit": 0}, "limit=0 must be 1 or more, or None"),
        (PassParameters, {"overlap": 1}, "overlap goes with mode='incremental': a full pass reads everything anyway"),
        (PassParameters, {"mode": "incremental", "overlap": -1}, "overlap=-1 must not be negative"),
        (FailureParameters, {"circuit_breaker": 0}, "circuit_breaker=0 must be 1 or more, or None"),
        (FailureParameters, {"max_failures": -1}, "max_failures=-1 must be 0 or more, or None for no limit"),
        (ChunkParameters, {"chunk_size": 0}, "chunk_size=0 must be 1 or more, or None"),
        (ChunkParameters, {"retries": -1}, "retries=-1 must be 0 or more"),
        (ChunkParameters, {"record_timeout": 0}, "record_timeout=0 must be more than 0 seconds, or None"),
        (RunParameters, {"min_free_disk_mb": -1}, "min_free_disk_mb=-1 must be 0 or more"),
        (RunParameters, {"max_memory_mb": 0}, "max_memory_mb=0 must be 1 or more, or None"),
        (RunParameters, {"max_duration": 0}, "max_duration=0 must be more than 0 seconds, or None"),
    ],
)
def test_each_value_refuses_what_is_out_of_its_range(part, given, sentence):
    with pytest.raises(BadParameter) as refused:
        part(**given)
    assert str(refused.value) == sentence


def test_a_function_that_cannot_be_called_is_refused_with_what_the_job_does():
    with pytest.raises(BadProcessor, match=r"must look like 'package\.module:function'"):
        JobParameters(**{**REQUIRED, "process": "clean"})
