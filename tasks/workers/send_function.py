"""A user's function on its way to another process: by name where that process can import it, else by value."""

import io
import linecache
import pickle
import sys
import types
from collections import ChainMap
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle


def _code_from(file: str, lines: list[str], make: Callable[..., types.CodeType], arguments: Any) -> types.CodeType:
    """Return the code that `make` gives, as code of this file, whose lines tracebacks show from now on."""
    if lines:
        linecache.cache[file] = (sum(map(len, lines)), None, lines, file)
    return make(*arguments).replace(co_filename=file)


def _reduce_code(code: types.CodeType) -> tuple[Any, ...]:
    make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    return _code_from, (code.co_filename, linecache.getlines(code.co_filename), make, arguments)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc] # It has no types.
    """Sends code with its file, which cloudpickle 3.1.3 leaves out, and with its lines: a cell's are in no file."""

    dispatch_table: ClassVar[Any] = ChainMap({types.CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table)


def send_function(function: Callable[..., Any]) -> bytes | None:
    """Return the function as bytes for `pickle.loads`, or None if it holds something that cannot leave this process.

    A function of ``__main__`` (a script, a notebook), or of a module that was not found by the import path, is sent by
    value: the other process must not, or cannot, import it.
    """
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    by_value = module is not None and module.__name__ != "__main__" and not _importable(module)
    try:
        if by_value:
            cloudpickle.register_pickle_by_value(module)
        sent = io.BytesIO()
        _Pickler(sent).dump(function)
    except Exception:  # noqa: BLE001 - pickling calls into whatever the function refers to
        return None
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
    return sent.getvalue()


def load_function(sent: bytes) -> Callable[..., Any]:
    """Return a function that another process has sent, as one of a script that this process runs.

    What the script defines is found in ``__main__`` here, too, by what the function pickles: for a pool of its own.
    """
    function: Callable[..., Any] = pickle.loads(sent)  # noqa: S301 - from our parent
    called = getattr(function, "func", function)  # That of a functools.partial.
    for each in (called, vars(type(called)).get("__call__")):
        for name, value in getattr(each, "__globals__", {}).items():
            if getattr(value, "__module__", None) == "__main__":
                vars(sys.modules["__main__"]).setdefault(name, value)
    return function


def _importable(module: types.ModuleType) -> bool:
    """Return whether a new interpreter with the same path would find the same module under its name."""
    if getattr(module, "__file__", None) is None:
        return module.__name__ in sys.builtin_module_names
    path: Any = None
    spec: Any = None
    for depth in range(1, module.__name__.count(".") + 2):
        name = ".".join(module.__name__.split(".")[:depth])
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path) if hasattr(finder, "find_spec") else None
            if spec is not None:
                break
        else:
            return False
        path = spec.submodule_search_locations
    return bool(spec.origin) and Path(str(spec.origin)) == Path(str(module.__file__))
