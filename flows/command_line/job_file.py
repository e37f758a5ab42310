"""A job described in a YAML file: the parameters of `process_records` by their names."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect.exceptions import ParameterTypeError

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.flows.process_records import process_records


def read_job_file(path: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters in the file, with these changes, checked as Prefect checks those of a deployment.

    Raises:
        BadParameter: the file cannot be read, or a parameter is missing, unknown or out of its range.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadParameter(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(found, dict) or not found:
        raise BadParameter(f"{path} must hold a mapping of parameters: job, source, process, sink and others")
    given = {**found, **changes}
    known = process_records.parameters.properties
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
            raise BadParameter(f"{path}: there is no parameter {name}{meant}")
    if missing := [name for name in process_records.parameters.required if name not in given]:
        raise BadParameter(f"{path}: {', '.join(missing)} must be given, too")
    try:
        validated: dict[str, Any] = process_records.validate_parameters(given)
    except ParameterTypeError as error:
        raise BadParameter(f"{path}: {_said(error)}") from error
    return validated


def parse_value(text: str) -> Any:
    """Return a value of the command line, read as YAML: a number, true, null, a list, an object, or else a text.

    Raises:
        BadParameter: it is no YAML.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadParameter(f"{text!r} cannot be read as a value: {error}") from error


def _said(error: ParameterTypeError) -> str:
    """Return the faults, one per line, without Prefect's preamble."""
    return "\n  ".join(line.strip().removeprefix("- ") for line in str(error).splitlines()[1:]) or str(error)
