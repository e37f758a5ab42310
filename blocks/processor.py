"""Processors: the user's function, found by import path or given, and the mark that makes a path callable."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from prefect_batch.blocks.errors import BadProcessor

__all__ = ["Processor", "processor", "resolve_processor"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_MARK = "__prefect_batch_processor__"


def processor(function: _Function) -> _Function:
    """The same function, marked so that a flow parameter may name it: ``process="shop.orders:clean"``.

    Without the mark, whoever may start the flow could call any function of any installed package.
    """
    setattr(function, _MARK, True)
    return function


@dataclass(frozen=True)
class Processor:
    """A function of one record, and the name (``module:qualified.name``) that stands for it in the definition.

    The function takes a record as a dict and returns a dict, a list of dicts, or None to filter the record.
    """

    name: str
    function: Callable[[dict[str, Any]], Any]


def resolve_processor(process: str | Callable[..., Any]) -> Processor:
    """The processor that a flow parameter means.

    Raises:
        BadProcessor: the path cannot be imported, names something unmarked, or the thing cannot be called so.
    """
    function = _imported(process) if isinstance(process, str) else process
    if not callable(function):
        raise BadProcessor(f"process must be a function or an import path 'module:function', not {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise BadProcessor(f"{_name(function)} must be an ordinary function that returns its record: no async, no yield")
    return Processor(process if isinstance(process, str) else _name(function), function)


def _imported(path: str) -> Callable[..., Any]:
    module_name, colon, qualname = path.partition(":")
    if not (colon and module_name and qualname):
        raise BadProcessor(f"the import path {path!r} must look like 'package.module:function'")
    try:
        target: Any = importlib.import_module(module_name)
        for part in qualname.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise BadProcessor(
            f"{path!r} cannot be imported ({error}); is the package installed where the flow runs?"
        ) from error
    if not getattr(target, _MARK, False):
        raise BadProcessor(f"{path!r} is not marked: put @prefect_batch.processor above the function")
    return target  # type: ignore[no-any-return]


def _name(function: Callable[..., Any]) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"
