"""`initialize` and `finalize` of the old code as `load` and `unload`."""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence

from kindaware._authoring.port.expressions import Folder
from kindaware._authoring.port.old_model import OldModel
from kindaware._authoring.port.statements import Question, like, without_docstring
from kindaware._authoring.port.symbols import (
    Symbol,
    dotted,
    is_symbol,
    mentions,
    names_in,
    self_attribute,
    symbols_in,
    text_of,
)

_VISIBLE = "it chooses the device, which instance_group in config.pbtxt does here"
_TRAINING = "it puts a module into training mode, and the library all of them into eval mode after load"
_LOCKS = ("threading.Lock", "threading.RLock", "Lock", "RLock")
_FOLDED = frozenset(
    {"config", "config_text", "tensor_config", "tensor_configs", "parameters", "parameter", "datatype"}
    | {"dtype", "device", "device_id", "kind", "is_gpu", "logger", "args"}
)
"""Kinds that need no variable of their own: what they stand for is written where it is used."""


class LoadRewriter:
    """Rewrites `initialize`, without what chooses a device and reads the configuration.

    Args:
        old: the old model.
        folder: folds its expressions; gets to know what names and attributes stand for.
        dropped: attributes that nothing needs any more.
    """

    def __init__(self, old: OldModel, folder: Folder, dropped: set[str]) -> None:
        self.old = old
        self.folder = folder
        self.dropped = dropped
        self._nodes: set[ast.AST] = set()
        self._plain: set[ast.AST] = set()

    def rewrite(self) -> list[ast.stmt]:
        """Return the statements of `load`."""
        function = self.old.methods.get("initialize")
        if function is None:
            return []
        self.folder.names = {self.old.parameter("initialize"): Symbol("args")}
        self._look_at(function)
        return self.block(without_docstring(function.body))

    def _look_at(self, function: ast.FunctionDef) -> None:
        self._nodes = set(ast.walk(function))
        straight = [one for one in function.body if isinstance(one, (ast.Assign, ast.AnnAssign))]
        self._plain = {node for one in straight for node in ast.walk(one)}

    def block(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Return the statements of any method, without what chooses a device and reads the configuration."""
        return [new for one in statements for new in self._statement(one)]

    def _statement(self, statement: ast.stmt) -> list[ast.stmt]:  # noqa: PLR0911
        if mentions(statement, lambda one: text_of(one) == "CUDA_VISIBLE_DEVICES"):
            return [like(Question(_VISIBLE, statement), statement)]
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            return self._assignment(statement)
        if isinstance(statement, ast.If):
            return self._if(statement)
        if isinstance(statement, ast.Expr):
            value = self.folder.fold(statement.value)
            called = dotted(value.func) if isinstance(value, ast.Call) else ""
            if called.endswith(".train"):
                return [like(Question(_TRAINING, statement), statement)]
            is_gone = called == "torch.cuda.set_device" or isinstance(
                value, (Symbol, ast.Name, ast.Attribute)
            )
            return [] if is_gone else [like(ast.Expr(value), statement)]
        if isinstance(statement, ast.Raise) and statement.exc is not None:
            return [like(ast.Raise(self.folder.fold(statement.exc), statement.cause), statement)]
        new = copy.deepcopy(statement)
        for name, value in ast.iter_fields(new):
            if isinstance(value, ast.expr):
                setattr(new, name, self.folder.fold(value))
            elif isinstance(value, list) and value and all(isinstance(one, ast.stmt) for one in value):
                setattr(new, name, self.block(value) or [ast.Pass()])
        return [like(new, statement)]

    def _assignment(self, statement: ast.Assign | ast.AnnAssign) -> list[ast.stmt]:
        assert statement.value is not None
        value = self.folder.fold(statement.value)
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if is_symbol(value, *_FOLDED - {"device"}) and any(self._changes_later(one) for one in targets):
            return [like(_with_value(statement, value), statement)]
        places = [(self_attribute(one), dotted(one)) for one in targets]
        if any(attribute in self.dropped for attribute, _ in places if attribute):
            return []
        is_flag = isinstance(value, ast.Constant) and not isinstance(statement.value, ast.Constant)
        found = value if is_flag else self._stands_for(value, targets)
        if found is not None and all(
            attribute or isinstance(one, ast.Name)
            for (attribute, _), one in zip(places, targets, strict=True)
        ):
            for attribute, name in places:
                if attribute:
                    self.folder.attributes[attribute] = found
                else:
                    self.folder.names[name] = found
            return []
        if len(targets) == 1 and ast.dump(targets[0]).replace("Store()", "Load()") == ast.dump(value):
            return []  # self.model = self.model.to(device)
        return [like(_with_value(statement, value), statement)]

    def _changes_later(self, target: ast.expr) -> bool:
        """Whether a name or attribute is assigned more than once, and not always in a straight line."""
        name = dotted(target)
        stores = [
            one
            for one in ast.walk(self.old.owner)
            if isinstance(one, (ast.Name, ast.Attribute))
            and isinstance(one.ctx, ast.Store)
            and dotted(one) == name
        ]
        if not self_attribute(target):
            stores = [one for one in stores if one in self._nodes]
        return len(stores) > 1 and any(one not in self._plain for one in stores)

    def _stands_for(self, value: ast.expr, targets: Sequence[ast.expr]) -> ast.expr | None:
        """Return the symbol that a value is; None if it needs a variable."""
        if isinstance(value, Symbol) and value.kind in _FOLDED:
            return value
        if dotted(getattr(value, "func", value)) == "torch.cuda.is_available":
            return Symbol("is_gpu")
        names = [dotted(one) for one in targets]
        return Symbol("device") if _is_device(value, names) else None

    def _if(self, statement: ast.If) -> list[ast.stmt]:
        test = self.folder.fold(statement.test)
        about_kind = any(one.kind in ("kind", "is_gpu", "device_id") for one in symbols_in(test))
        if about_kind or _asks_cuda(test):
            places = [_device_target(one) for one in [*statement.body, *statement.orelse]]
            if places and all(places):
                for place in places:
                    name = place.removeprefix("self.")
                    known = self.folder.names if name == place else self.folder.attributes
                    known[name] = Symbol("device")
                return []
        if isinstance(test, ast.Constant):
            return self.block(statement.body if test.value else statement.orelse)
        body, orelse = self.block(statement.body), self.block(statement.orelse)
        if not body and not orelse:
            return []
        return [like(ast.If(test, body or [ast.Pass()], orelse), statement)]


def _with_value(statement: ast.Assign | ast.AnnAssign, value: ast.expr) -> ast.stmt:
    new = copy.deepcopy(statement)
    new.value = value
    return new


def find_thread_counters(old: OldModel) -> set[str]:
    """Return the attributes that count running threads, and their locks: the library waits for streams."""
    locks = {
        self_attribute(one.targets[0])
        for one in ast.walk(old.owner)
        if isinstance(one, ast.Assign)
        and isinstance(one.value, ast.Call)
        and dotted(one.value.func) in _LOCKS
    } - {""}
    guarded = [
        one
        for one in ast.walk(old.owner)
        if isinstance(one, ast.With) and self_attribute(one.items[0].context_expr) in locks
    ]
    counters = set()
    for one in guarded:
        counters |= {
            self_attribute(inner.target) for inner in one.body if isinstance(inner, ast.AugAssign)
        } - {""}
    finalize = old.methods.get("finalize")
    in_finalize = set(ast.walk(finalize)) if finalize else set()
    others = [one for one in guarded if one not in in_finalize]
    only_count = all(
        isinstance(inner, ast.AugAssign) and self_attribute(inner.target) in counters
        for one in others
        for inner in one.body
    )
    return counters | locks if counters and only_count else set()


def rewrite_finalize(old: OldModel, folder: Folder, dropped: set[str]) -> list[ast.stmt]:
    """Return the statements of `unload`; none where only threads were waited for."""
    function = old.methods.get("finalize")
    if function is None:
        return []
    folder.names = {}
    kept = [
        one
        for one in without_docstring(function.body)
        if not isinstance(one, ast.Pass)
        and not mentions(one, lambda node: self_attribute(node) in dropped and bool(self_attribute(node)))
    ]
    if len(kept) < len(function.body):
        kept = _without_dead_names(kept)
    return LoadRewriter(old, folder, dropped).block(kept)


def _without_dead_names(statements: list[ast.stmt]) -> list[ast.stmt]:
    """Remove assignments to names that nothing reads any more."""
    while True:
        read = set().union(*(names_in(one) for one in statements)) if statements else set()
        alive = [
            one
            for one in statements
            if not (
                isinstance(one, ast.Assign)
                and all(isinstance(t, ast.Name) and t.id not in read for t in one.targets)
            )
        ]
        if len(alive) == len(statements):
            return alive
        statements = alive


def _asks_cuda(node: ast.AST) -> bool:
    return mentions(node, lambda one: dotted(one) in ("torch.cuda.is_available", "torch.cuda.device_count"))


def _is_device(value: ast.expr, names: Sequence[str]) -> bool:
    """Whether a value chooses a device, as far as its text and its name tell."""
    if is_symbol(value, "device"):
        return True
    if isinstance(value, ast.Call):
        return dotted(value.func) == "torch.device"
    if isinstance(value, ast.IfExp):
        return _is_device(value.body, ["device"]) and _is_device(value.orelse, ["device"])
    is_named = any("device" in name or "cuda" in name for name in names)
    if isinstance(value, ast.JoinedStr):
        return is_named and bool(value.values) and text_of(value.values[0]).startswith("cuda")
    if isinstance(value, ast.BinOp):
        return is_named and text_of(value.left).startswith("cuda")
    return is_named and text_of(value).partition(":")[0] in ("cpu", "cuda")


def _device_target(statement: ast.stmt) -> str:
    """Return the name or attribute that a statement sets to a device; empty for anything else."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        name = dotted(statement.targets[0])
        return name if _is_device(statement.value, [name]) else ""
    return ""
