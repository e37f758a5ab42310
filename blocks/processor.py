"""Processors: the user's function, given or found by import path, and the mark that makes a path callable."""

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

from prefect_batch.blocks.errors import BadParameter, BadProcessor

_Function = TypeVar("_Function", bound=Callable[..., Any])
_MARK = "__prefect_batch_processor__"

Form = Literal["record", "async", "frame", "table"]


@dataclass(frozen=True)
class _Options:
    vectorized: bool = False
    fallback: Callable[[dict[str, Any]], Any] | None = None
    concurrency: int = 50


@overload
def processor(function: _Function) -> _Function: ...


@overload
def processor(
    *, vectorized: bool = False, fallback: Callable[[dict[str, Any]], Any] | None = None, concurrency: int = 50
) -> Callable[[_Function], _Function]: ...


def processor(
    function: Any = None,
    *,
    vectorized: bool = False,
    fallback: Callable[[dict[str, Any]], Any] | None = None,
    concurrency: int = 50,
) -> Any:
    """Mark a function, so that a flow parameter may name it: ``process="shop.orders:clean"``.

    Without the mark, whoever may start the flow could call any function of any installed package.

    Args:
        function: The function. Left out where options are given: ``@processor(vectorized=True)``.
        vectorized: Whether it takes and returns a whole batch: a pandas.DataFrame, or a pyarrow.Table if its parameter
            is annotated so.
        fallback: For a vectorized function: a function of one record, which takes over in a batch with many bad ones.
        concurrency: For an ``async`` function: how many calls a chunk has in flight at once.

    Returns:
        The same function.
    """
    if concurrency < 1:
        raise BadParameter(f"concurrency={concurrency} must be 1 or more")

    def mark(marked: Any) -> Any:
        setattr(marked, _MARK, _Options(vectorized, fallback, concurrency))
        return marked

    return mark if function is None else mark(function)


@dataclass(frozen=True)
class Processor:
    """A function, its form, and the name (``module:qualified.name``) that identifies it in the definition.

    A function of the form record or async takes one record, a dict, and returns a dict, a list of dicts, or None to
    filter the record. A function of the form frame or table takes and returns a batch.
    """

    name: str
    function: Callable[..., Any]
    form: Form = "record"
    fallback: Callable[[dict[str, Any]], Any] | None = None
    concurrency: int = 50

    @property
    def vectorized(self) -> bool:
        """Whether it takes and returns a batch."""
        return self.form in ("frame", "table")


def resolve_processor(process: str | Callable[..., Any]) -> Processor:
    """Return the processor that a flow parameter names.

    Raises:
        BadProcessor: the path cannot be imported or names something unmarked, or the function has no supported form.
    """
    function = _imported(process) if isinstance(process, str) else process
    if not callable(function):
        raise BadProcessor(f"process must be a function or an import path 'module:function', not {function!r}")
    name = process if isinstance(process, str) else name_of(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadProcessor(
            f"{name_of(function)} must return its records, as a list if there are several, and not yield"
        )
    options: _Options = getattr(function, _MARK, None) or _Options()
    name = process if isinstance(process, str) else name_of(function)
    return Processor(name, function, _form(function, options), options.fallback, options.concurrency)


def _form(function: Callable[..., Any], options: _Options) -> Form:
    if inspect.iscoroutinefunction(function):
        if options.vectorized:
            raise BadProcessor(f"{name_of(function)} cannot be both async and vectorized")
        return "async"
    if not options.vectorized:
        return "record"
    parameters = list(inspect.signature(function).parameters.values())
    # Compared as text: the annotation may be a string, and resolving it could fail on a missing import.
    return "table" if parameters and "Table" in str(parameters[0].annotation) else "frame"


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
    if not isinstance(getattr(target, _MARK, None), _Options):
        raise BadProcessor(f"{path!r} is not marked: put @prefect_batch.processor above the function")
    return target  # type: ignore[no-any-return]


def name_of(function: Callable[..., Any]) -> str:
    """Return ``module:qualified.name`` of a function, of that in a `functools.partial`, or of another object's type."""
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"
