"""What a model.py that `serve` has written does in the process of a model."""

from __future__ import annotations

import importlib
import json
import linecache
import operator
import pickle
import sys
from pathlib import Path
from typing import Any

from kindaware._serving.forms import CallForms
from kindaware._serving.payload import PICKLE
from kindaware._serving.served_callable import KINDS

STATE = "served.json"


def load_class(model_file: str) -> type:
    """Return the class that a directory holds, or names.

    Args:
        model_file: path of the model.py.
    """
    folder = Path(model_file).parent
    state: dict[str, Any] = json.loads((folder / STATE).read_text())
    # As the caller finds its modules: this process has the packages' directories only.
    sys.path[:] = [*state["sys_path"], *(one for one in sys.path if one not in state["sys_path"])]
    for name, text in state["sources"].items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    if "callable" in state:
        attributes = {"_payload": folder / state["callable"], "_forms": CallForms.from_json(state["forms"])}
        return type("Served", (KINDS[state["kind"]],), attributes)
    if "module" in state:
        return _as_type(operator.attrgetter(state["qualname"])(importlib.import_module(state["module"])))
    # Written by `serve` for this server, in a directory of the user's own.
    return _as_type(pickle.loads((folder / PICKLE).read_bytes()))


def _as_type(found: Any) -> type:
    assert isinstance(found, type), "serve has written a class"
    return found
