"""What stays of the old code as it was, and may mean something else here."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kindaware._authoring.port.old_model import LIFE_CYCLE, OldModel
from kindaware._authoring.port.statements import THREADS
from kindaware._authoring.port.symbols import dotted, mentions, self_attribute
from kindaware._config.model_spec import ModelSpec

_STATE = (
    "it keeps something from one request to the next: the hook runs once for the rows of several requests, "
    "for the warm-up, and again in parts after an error"
)
_ROWS = "it may mix rows, which can be those of several requests: compute each by itself"
_BASES = "the class has bases of its own: keep what they bring, without initialize and execute"
_THREADS = (
    "streams ran side by side, each in a thread, and those of a plain generator run one after another: where "
    "it waits, write it with async def and await"
)
_MODULE = "it uses Triton's module: only the library talks to Triton here"
_ACROSS_ROWS = frozenset(
    {"mean", "sum", "max", "min", "std", "var", "median", "argmax", "argmin", "norm", "flatten", "ravel"}
    | {"prod", "ptp", "quantile", "percentile", "average"}
)
_ALONG = frozenset({"axis", "dim", "start_dim", "dims"})


def find_doubts(old: OldModel, spec: ModelSpec, dropped: set[str]) -> list[tuple[int, str]]:
    """Return lines of a model.py that are kept, and what to decide about each.

    Args:
        old: the old model.
        spec: its tensors.
        dropped: attributes that the port leaves out.
    """
    found = [(old.owner.lineno, _BASES)] if any(dotted(one) != "object" for one in old.owner.bases) else []
    used = [one for name, one in old.methods.items() if name == "execute" or name not in LIFE_CYCLE]
    for function in (one for one in used if not one.name.startswith("__")):
        for node in ast.walk(function):
            if not spec.decoupled and _keeps(node, _globals(function), dropped):
                found.append((node.lineno, _STATE))  # type: ignore[attr-defined]
            elif spec.batches and not spec.decoupled and _mixes_rows(node):
                found.append((node.lineno, _ROWS))  # type: ignore[attr-defined]
    if spec.decoupled:
        found += [(one.lineno, _THREADS) for one in ast.walk(old.owner) if _starts_thread(one)]  # type: ignore[attr-defined]
    found += [(line, _MODULE) for line in _module_code(old)]
    return sorted(set(found))


def _starts_thread(node: ast.AST) -> bool:
    called = dotted(node.func) if isinstance(node, ast.Call) else ""
    return called in THREADS or called.rpartition(".")[2] == "submit"


def _globals(function: ast.FunctionDef) -> set[str]:
    return {name for one in ast.walk(function) if isinstance(one, ast.Global) for name in one.names}


def _keeps(node: ast.AST, shared: set[str], dropped: set[str]) -> bool:
    """Whether a statement changes what outlives the request."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        return False
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    places = [one.value if isinstance(one, ast.Subscript) else one for one in targets]
    return any(
        (self_attribute(one) or dotted(one) in shared) and self_attribute(one) not in dropped
        for one in places
    )


def _mixes_rows(node: ast.AST) -> bool:
    """Whether a call reduces an array as a whole, or along its first dimension."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    if node.func.attr not in _ACROSS_ROWS:
        return False
    is_function = dotted(node.func.value) in ("np", "numpy", "torch")
    along = [
        *node.args[1 if is_function else 0 :],
        *(one.value for one in node.keywords if one.arg in _ALONG),
    ]
    axes = [one.value for one in along if isinstance(one, ast.Constant)]
    return not along or (bool(axes) and axes[0] in (0, None))


def _module_code(old: OldModel) -> Iterator[int]:
    """Yield the lines of functions and classes beside the model that use Triton's module."""
    for one in old.tree.body:
        is_other = one is not old.owner and not isinstance(one, (ast.Import, ast.ImportFrom))
        if is_other and old.pb_utils and mentions(one, lambda node: dotted(node) == old.pb_utils):
            yield one.lineno
