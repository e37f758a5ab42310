"""A user's function on its way to another process: by name where that process can import it, else by value."""

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle

__all__ = ["send_function"]


def send_function(function: Callable[..., Any]) -> bytes | None:
    """The function as bytes for `pickle.loads`; None if it holds something that cannot leave this process.

    What lives in ``__main__`` (a script, a notebook), or in a module that was not found by the import path, is sent by
    value: the other process must not, or cannot, import it.
    """
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    by_value = module is not None and module.__name__ != "__main__" and not _importable(module)
    try:
        if by_value:
            cloudpickle.register_pickle_by_value(module)
        sent: bytes = cloudpickle.dumps(function)
    except Exception:  # noqa: BLE001 - pickling calls into whatever the function refers to
        return None
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
    return sent


def _importable(module: types.ModuleType) -> bool:
    """Whether a fresh interpreter with the same path would find this very module under its name."""
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
