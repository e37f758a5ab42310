"""What is bound to a processor: a part of the job's definition, as keyed hashes from which no value can be read.

Never a part of it is the function's body, so that a pass goes on with a fixed function.
"""

import dis
import functools
import hashlib
import hmac
import inspect
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

from prefect_batch.blocks.processor import name_of

# Values that their `repr` tells apart. A bool is an int, too, and a datetime a date: they come first.
_SCALARS = (bool, int, float, complex, str, bytes, Decimal, datetime, date, time, timedelta, UUID, ZoneInfo, range)
_CONTAINERS = (dict, list, tuple, set, frozenset)
# What these assign are arguments; what other methods assign is state.
_BUILDERS = ("__init__", "__new__", "__post_init__", "__setstate__")
# A larger container is data, and not an argument.
DEEPEST, MOST_MEMBERS = 20, 10_000

# Containers as they were when a function was first given, by name: it may fill them, such as a cache.
_first_seen: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()


PARTS = {"arguments": "argument", "variables": "variable"}


class _Bound(NamedTuple):
    """A value that is bound to a function.

    Attributes:
        part: ``arguments`` were given to it, or to the object behind it. ``variables`` it takes from its surroundings:
            which ones there are depends on its body, so only those that are there before and after are compared.
    """

    part: Literal["arguments", "variables"]
    name: str
    value: Any


def bound_to(function: Callable[..., Any], job: str, key: Callable[[], bytes]) -> dict[str, dict[str, str]]:
    """Return the arguments and the variables that are bound to a function, as a cursor keeps them.

    A plain value, or a container of such, is a hash. A function is its name, and has what is bound to it beside it. Any
    other object is its type.

    Args:
        function: A function, `functools.partial`, closure, bound method, or an object that can be called.
        job: The job, because equal values of two jobs must not have equal hashes.
        key: Returns the key of the hashes. It is called only if there is a plain value.
    """
    found: dict[str, dict[str, str]] = {"arguments": {}, "variables": {}}
    first = _remembered(function)
    for one in _walk(function, "", set()):
        shape = json.dumps(_shape(one.value))
        if isinstance(one.value, _CONTAINERS):
            shape = first.setdefault(one.name, shape)
        found[one.part][one.name] = _token(one.name, json.loads(shape), job, key)
    return found


def bound_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each argument and variable that differs between two definitions, by its name."""
    lines = []
    for part, noun in PARTS.items():
        was, present = before[part], now[part]
        names = was.keys() | present.keys() if part == "arguments" else was.keys() & present.keys()
        changed = [name for name in sorted(names) if was.get(name) != present.get(name)]
        lines += [f"process: the {noun} {name} {_change(was.get(name), present.get(name))}" for name in changed]
    return lines


def _change(was: str | None, present: str | None) -> str:
    if was is None or present is None:
        return "is new" if was is None else "is gone"
    before, now = ("a value" if token.startswith("value ") else token for token in (was, present))
    return "has another value" if before == now else f"was {before}, is now {now}"


def _remembered(function: Any) -> dict[str, str]:
    try:
        return _first_seen.setdefault(getattr(function, "__self__", function), {})
    except TypeError:  # It can have no weak references, or no hash.
        return {}


def _walk(function: Any, prefix: str, seen: set[int]) -> Iterator[_Bound]:
    """Yield what is bound to the function, and to functions that are bound to it."""
    if id(function) in seen:
        return
    seen.add(id(function))
    for part, name, value in _bound(function):
        yield _Bound(part, prefix + name, value)
        if _is_function(value):
            yield from _walk(value, f"{prefix}{name}.", seen)


def _bound(function: Any) -> Iterator[_Bound]:
    if isinstance(function, functools.partial):
        for name, value in _named(function).items():
            yield _Bound("arguments", name, value)
        yield from _bound(function.func)
    elif isinstance(function, types.MethodType):
        of = function.__self__
        yield _Bound("arguments", "self", of)
        yield from (one._replace(name=f"self.{one.name}") for one in _attributes(of))
        yield from _bound(function.__func__)
    elif isinstance(function, types.FunctionType):
        yield from _surroundings(function)
    elif not isinstance(function, (type, types.BuiltinFunctionType)):
        yield from _attributes(function)


def _named(partial: "functools.partial[Any]") -> dict[str, Any]:
    """Return the arguments of a partial by the names of their parameters, as far as these can be told."""
    try:
        given = inspect.signature(partial.func).bind_partial(*partial.args, **partial.keywords)
    except (TypeError, ValueError):
        return {**{f"{place}": value for place, value in enumerate(partial.args, 1)}, **partial.keywords}
    kinds = {name: parameter.kind for name, parameter in given.signature.parameters.items()}
    named: dict[str, Any] = {}
    for name, value in given.arguments.items():
        if kinds[name] is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        else:
            named[name] = value
    return named


def _surroundings(function: types.FunctionType) -> Iterator[_Bound]:
    """Yield the variables of a closure, and the defaults of a function that was made within another or is a lambda.

    The defaults of any other function are a part of its code. A variable that the function itself assigns is state.
    """
    assigned = _assigned(function.__code__, "STORE_DEREF")
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name not in assigned and name != "__class__":
            try:
                yield _Bound("variables", name, cell.cell_contents)
            except ValueError:  # It has no value yet.
                continue
    if "<" in function.__qualname__:
        for name, parameter in inspect.signature(function, follow_wrapped=False).parameters.items():
            if parameter.default is not parameter.empty:
                yield _Bound("variables", name, parameter.default)


def _attributes(of: Any) -> Iterator[_Bound]:
    """Yield what an object was made with: attributes by the names of its parameters, and others that only it sets."""
    if isinstance(of, (type, types.ModuleType)):
        return
    try:
        parameters = set(inspect.signature(type(of)).parameters)
    except (TypeError, ValueError):
        parameters = set()
    methods = [
        method
        for kind in type(of).__mro__
        for method in vars(kind).values()
        if isinstance(method, types.FunctionType) and method.__name__ not in _BUILDERS
    ]
    state = set[str]().union(*(_assigned(method.__code__, "STORE_ATTR") for method in methods))
    for attribute, value in _held(of):
        if attribute.startswith("__") and attribute not in ("__wrapped__", "__func__"):
            continue
        name = re.sub(r"^_+(?:[^_]\w*?__)?", "", attribute)
        if name in parameters:
            yield _Bound("arguments", name, value)
        elif attribute not in state:
            yield _Bound("variables", attribute, value)


def _held(of: Any) -> list[tuple[str, Any]]:
    try:
        held = object.__getstate__(of)
    except TypeError:
        return []
    parts = held if isinstance(held, tuple) else (held,)
    return [(name, value) for part in parts if isinstance(part, dict) for name, value in part.items()]


def _assigned(code: types.CodeType, operation: str) -> set[str]:
    """Return the names that this code, and that of functions within it, assigns."""
    names = {str(one.argval) for one in dis.get_instructions(code) if one.opname == operation}
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return names.union(*(_assigned(one, operation) for one in inner))


def _is_function(value: Any) -> bool:
    return isinstance(value, (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial))


def _token(name: str, shape: Any, job: str, key: Callable[[], bytes]) -> str:
    if isinstance(shape, str):
        return shape
    text = json.dumps([job, name, shape])
    return "value " + hmac.new(key(), b"argument\0" + text.encode(), hashlib.sha256).hexdigest()[:32]


def _shape(value: Any, depth: int = 0) -> Any:
    """Return a plain value as JSON that differs where the value does, and the name of anything else as text."""
    kind = f"{type(value).__module__}:{type(value).__qualname__}"
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None:
        return [kind]
    if isinstance(value, Enum):
        return [kind, value.name]
    if isinstance(value, (PurePath, re.Pattern)):
        return [kind, str(value) if isinstance(value, PurePath) else [_shape(value.pattern), value.flags]]
    for scalar in _SCALARS:
        if isinstance(value, scalar):
            return [kind, scalar.__repr__(value)]
    if isinstance(value, _CONTAINERS) and len(value) <= MOST_MEMBERS:
        return [kind, _members(value, depth + 1)] if depth < DEEPEST else [kind]
    if _is_function(value):
        return f"function {name_of(value)}"
    if isinstance(value, (type, types.ModuleType)):
        return f"{value.__module__}:{value.__qualname__}" if isinstance(value, type) else f"module {value.__name__}"
    return f"object of {kind}"


def _members(value: Any, depth: int) -> list[Any]:
    if isinstance(value, dict):
        return sorted(([_shape(k, depth), _shape(v, depth)] for k, v in value.items()), key=json.dumps)
    shapes = [_shape(member, depth) for member in value]
    return sorted(shapes, key=json.dumps) if isinstance(value, (set, frozenset)) else shapes
