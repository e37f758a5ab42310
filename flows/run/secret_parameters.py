"""Keeps passwords and keys out of the parameters of flow runs and deployments, which everybody can read."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar, cast

import prefect.runtime
from prefect import Flow
from prefect.utilities.callables import get_call_parameters

from prefect_batch.blocks.credentials import HOW_TO_NAME
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.passwords import gives_access, hide_passwords, holds_login, names_secret
from prefect_batch.blocks.processor import name_of

_AnyFlow = TypeVar("_AnyFlow", bound=Flow[Any, Any])

# Text in which a word before "=" may be a column, or what a person looks for.
_FREE_TEXT = ("sql", "where", "message")


def keep_secrets_out(flow: _AnyFlow) -> _AnyFlow:
    """Return the flow itself, which from now on refuses parameters with secrets before a run or a deployment exists."""
    flow.__class__ = cast("type[_AnyFlow]", _Careful)
    return flow


class _Careful(Flow[Any, Any]):
    """A flow that looks at its parameters first."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the flow, unless its parameters hold a secret."""
        given = {name: value for name, value in kwargs.items() if name not in ("return_state", "wait_for")}
        _check(get_call_parameters(self.fn, args, given))
        return super().__call__(*args, **kwargs)

    def with_options(self, **options: Any) -> Flow[Any, Any]:
        """Return the same flow with other options."""
        return keep_secrets_out(super().with_options(**options))

    def to_deployment(self, name: str, *args: Any, **options: Any) -> Any:
        """Return a deployment, unless its parameters hold a secret."""
        _check(options.get("parameters") or {})
        return super().to_deployment(name, *args, **options)

    async def ato_deployment(self, name: str, *args: Any, **options: Any) -> Any:
        """Return a deployment, unless its parameters hold a secret."""
        _check(options.get("parameters") or {})
        return await super().ato_deployment(name, *args, **options)

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters as the flow takes them, before a run that the server has made, too."""
        # Prefect logs what it refuses, with all parameters.
        run_id = prefect.runtime.flow_run.id
        _check(
            parameters,
            "\nThe run holds it in its parameters, where it can be read until you delete the run: "
            f"prefect flow-run delete {run_id}\nIf its deployment holds it, too, correct the deployment."
            if run_id
            else "",
        )
        return super().validate_parameters(parameters)

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters as the server keeps them: a function by its name, without what is bound to it."""
        process = parameters.get("process")
        named = {"process": name_of(process)} if callable(process) else {}
        return super().serialize_parameters({**parameters, **named})


def _check(parameters: Mapping[str, Any], what_to_do: str = "") -> None:
    found = sorted(set(_secrets_in({name: value for name, value in parameters.items() if name != "process"})))
    if found:
        raise BadParameter(
            f"{', '.join(found)}: this carries a password or a key, and flow parameters can be read by everybody: "
            f"{HOW_TO_NAME}{what_to_do}"
        )


def _secrets_in(value: Any, path: str = "") -> Iterator[str]:
    """Yield the name of each parameter that holds a secret."""
    if is_dataclass(value):
        value = vars(value)
    name = path.rpartition(".")[2]
    if isinstance(value, str):
        if _holds_secret(name, value):
            yield path
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            where = f"{path}.{key}".lstrip(".")
            if name != "schema" and names_secret(str(key)) and isinstance(inner, str) and inner:
                yield where
            yield from _secrets_in(inner, where)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _secrets_in(inner, path)


def _holds_secret(name: str, text: str) -> bool:
    if name in _FREE_TEXT:
        return holds_login(text)
    # A directory of a path may be called token=5.
    return gives_access(text) or (name != "path" and hide_passwords(text) != text)
