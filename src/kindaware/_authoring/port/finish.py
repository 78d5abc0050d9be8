"""Symbols of the old code turned into code of the new model."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch

from kindaware._authoring.port.expressions import TO_DLPACK
from kindaware._authoring.port.statements import Question, like
from kindaware._authoring.port.symbols import Symbol, dotted, expression, is_symbol, names_in, symbols_in
from kindaware._config.model_spec import ModelSpec, TensorSpec

COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try)
"""Statements that can be written with a question among the statements in them."""

_SAME_NAME = {"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"}
_ON_HOST = ("cpu", "detach", "contiguous")
_QUESTIONS = {
    "request": "it asks the request: a parameter `requests` of the hook has what they say about themselves",
    "about_request": "it asks one request of several: `requests[n]` of the hook has it, with its rows",
    "control": "it reads what is no input: of controls, `requests[n]` has is_start, is_end, correlation_id",
    "sender": "it uses the response sender: yield what is to be sent",
    "thread": "it starts a thread: a `stream` with async def runs beside others",
    "args": "it passes all of args on: self.args has them, parsed",
}


class UnfinishedError(Exception):
    """A symbol stands where the new code has nothing for it; its text is what is to be decided."""


class Finisher(ast.NodeTransformer):
    """Turns symbols into code.

    Args:
        spec: the model's tensors; None if they aren't known.
        numpy: the name of numpy in the file.
        keeps_arrays: whether inputs become numpy arrays, since the old code does more than arithmetic.
        one_request: whether the hook gets a single request.
        parameters: the names of the inputs that are no names of Python, by the code that stands for them.
    """

    def __init__(
        self,
        spec: ModelSpec | None,
        *,
        numpy: str,
        keeps_arrays: bool,
        one_request: bool,
    ) -> None:
        self.inputs = {one.name: one for one in spec.inputs} if spec else {}
        self.outputs = {one.name: one for one in spec.outputs} if spec else {}
        self.numpy = numpy
        self.keeps_arrays = keeps_arrays
        self.one_request = one_request
        self.asks_requests = False
        self.variables: dict[str, str] = {}

    def visit(self, node: ast.AST) -> Any:
        """Return a node finished."""
        return self._symbol(node) if isinstance(node, Symbol) else super().visit(node)

    def finish(self, node: ast.expr) -> ast.expr:
        """Return an expression without symbols.

        Raises:
            UnfinishedError: one of them has nothing that it could become.
        """
        finished: ast.expr = self.visit(copy.deepcopy(node))
        return finished

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        asks_for = len(node.ops) == 1 and isinstance(node.ops[0], (ast.In, ast.NotIn))
        if asks_for and is_symbol(node.comparators[0], "parameters"):
            return ast.Compare(self.visit(node.left), node.ops, [expression("self.parameters")])
        return cast(ast.expr, self.generic_visit(node))

    def _symbol(self, symbol: Symbol) -> ast.expr:
        kind, name, value = symbol.kind, symbol.name, symbol.value
        plain = {
            "device": "self.device",
            "device_id": "self.args.device_id" if name == "int" else "str(self.args.device_id)",
            "kind": "self.args.kind",
            "is_gpu": "self.device.type == 'cuda'",
            "logger": "self.logger",
            "config": "self.args.config",
            "parameters": "self.args.config['parameters']",
            "parameter": f"self.args.config['parameters'][{name!r}]",
        }
        if kind == "parameter" and value is not None:
            found = expression(f"self.args.config['parameters'].get({name!r})")
            assert isinstance(found, ast.Call)
            found.args += (
                [] if isinstance(value, ast.Constant) and value.value is None else [self.finish(value)]
            )
            return found
        if kind in plain:
            return expression(plain[kind])
        if kind in ("tensor", "input", "array"):
            return self._array(name) if kind == "array" else read_input(name)
        if kind == "copy":
            assert value is not None
            self.variables.pop(name, None)
            is_array = is_symbol(value, "array") and self.keeps_arrays and not self._is_text(name)
            return ast.Call(
                ast.Attribute(self.finish(value), "copy" if is_array else "clone", ast.Load()), [], []
            )
        if kind == "dtype" and name in (known := {**self.inputs, **self.outputs}):
            is_text = known[name].dtype.torch is None
            return expression("object" if is_text else f"{self.numpy}.{known[name].dtype.numpy}")
        return self._answer(symbol)

    def _answer(self, symbol: Symbol) -> ast.expr:
        kind, name, value = symbol.kind, symbol.name, symbol.value
        if kind in ("array_output", "tensor_output"):
            return self._output(symbol)
        if kind in ("value", "done"):
            assert value is not None
            return self.finish(value)
        if kind == "response":
            return self._response(symbol)
        if kind == "error":
            assert value is not None
            # Triton's errors are INTERNAL unless they say otherwise, the library's INVALID_ARG.
            code = [ast.keyword("code", ast.Constant(name or "INTERNAL"))]
            given = [] if name == "INVALID_ARG" else code
            return ast.Call(ast.Name("RequestError", ast.Load()), [self.finish(value)], given)
        if kind == "about_request" and self.one_request:
            self.asks_requests = True
            return expression(f"requests[0].{name}")
        raise UnfinishedError(_QUESTIONS.get(kind, "it uses Triton's API in a way that has no counterpart"))

    def _response(self, symbol: Symbol) -> ast.expr:
        if symbol.value is not None:
            return self.finish(symbol.value)
        outputs = [one for one in symbol.parts if isinstance(one, Symbol)]
        if len(outputs) < len(symbol.parts) or any(not one.name for one in outputs):
            raise UnfinishedError("which outputs a response has is not plain: return a dict of them by name")
        if len(outputs) == 1 and len(self.outputs) <= 1:
            return self.finish(outputs[0])
        return ast.Dict([ast.Constant(one.name) for one in outputs], [self.finish(one) for one in outputs])

    def _output(self, symbol: Symbol) -> ast.expr:
        """Return the value of an output as a torch tensor; text as an array."""
        assert symbol.value is not None
        declared = self.outputs.get(symbol.name)
        if declared is not None and declared.dtype.torch is None:
            return self.finish(symbol.value)
        value, is_torch, is_cast = _without_way_to_host(symbol.value, is_torch=symbol.kind == "tensor_output")
        if is_symbol(value, "array", "input"):
            assert isinstance(value, Symbol)
            given = self.inputs.get(value.name)
            is_cast = is_cast and not _same_dtype(given, declared)
            return self._cast(read_input(value.name), declared if is_cast else None)
        if is_torch:
            return self._cast(self.finish(value), declared if is_cast else None)
        if not self.keeps_arrays:
            dtypes = {one.dtype.torch for one in self.inputs.values()}
            is_same = declared is not None and dtypes == {declared.dtype.torch}
            return self._cast(self.finish(value), None if is_same else declared)
        array = self.finish(symbol.value)
        listed = self._as_list(array)
        return listed or ast.Call(expression("torch.as_tensor"), [array], [])

    def _as_list(self, array: ast.expr) -> ast.expr | None:
        """Return `torch.tensor([...], dtype=...)` for `np.array([...], dtype)`."""
        if not (isinstance(array, ast.Call) and dotted(array.func) == f"{self.numpy}.array" and array.args):
            return None
        dtypes = [*array.args[1:], *(one.value for one in array.keywords if one.arg == "dtype")]
        module, _, name = (dotted(dtypes[0]) if len(dtypes) == 1 else "").rpartition(".")
        if not isinstance(array.args[0], ast.List) or module != self.numpy or name not in _SAME_NAME:
            return None
        return ast.Call(
            expression("torch.tensor"), [array.args[0]], [ast.keyword("dtype", expression(f"torch.{name}"))]
        )

    def _cast(self, value: ast.expr, declared: TensorSpec | None) -> ast.expr:
        if declared is None or declared.dtype.torch is None:
            return value
        return ast.Call(ast.Attribute(value, "to", ast.Load()), [expression(str(declared.dtype.torch))], [])

    def _array(self, name: str) -> ast.expr:
        if self._is_text(name) or not self.keeps_arrays:
            return read_input(name)
        if name in self.variables:
            return ast.Name(self.variables[name], ast.Load())
        return as_array(name)

    def _is_text(self, name: str) -> bool:
        return name in self.inputs and self.inputs[name].dtype.torch is None


def as_array(name: str) -> ast.expr:
    """Return the code that makes a numpy array of an input."""
    array = expression("X.cpu().numpy()")
    array.func.value.func.value = read_input(name)  # type: ignore[attr-defined]
    return array


def read_input(name: str) -> ast.expr:
    """Return the code that reads an input in a hook."""
    return ast.Name(name, ast.Load()) if name.isidentifier() else expression(f"inputs[{name!r}]")


def finish_block(
    statements: Iterable[ast.stmt], finisher: Finisher, foreign: Sequence[tuple[str, str]]
) -> list[ast.stmt]:
    """Return statements without symbols; those that can't be are questions.

    Args:
        statements: with symbols.
        finisher: turns symbols into code.
        foreign: names that have no meaning in the new code, with what is to be decided where one stands.
    """
    return [_finish_statement(one, finisher, foreign) for one in statements]


def _finish_statement(
    statement: ast.stmt, finisher: Finisher, foreign: Sequence[tuple[str, str]]
) -> ast.stmt:
    if isinstance(statement, Question):
        return statement
    new = copy.copy(statement)
    try:
        for name, value in ast.iter_fields(statement):
            if isinstance(value, ast.expr):
                setattr(new, name, finisher.finish(_own(value, foreign)))
            elif isinstance(value, list):
                setattr(new, name, [_finish_part(one, finisher, foreign) for one in value])
    except UnfinishedError as error:
        return like(Question(str(error), getattr(statement, "origin", statement)), statement)
    asked = [one for one in ast.walk(new) if isinstance(one, Question)]
    if asked and not isinstance(new, COMPOUND):  # such as a function: it can't be written in part
        return like(Question(asked[0].text, getattr(statement, "origin", statement)), statement)
    return new


def _finish_part(one: ast.AST, finisher: Finisher, foreign: Sequence[tuple[str, str]]) -> ast.AST:
    if isinstance(one, ast.stmt):
        return _finish_statement(one, finisher, foreign)
    if isinstance(one, ast.expr):
        return finisher.finish(_own(one, foreign))
    if isinstance(one, ast.withitem):
        return ast.withitem(finisher.finish(_own(one.context_expr, foreign)), one.optional_vars)
    if isinstance(one, ast.ExceptHandler):
        kind = None if one.type is None else finisher.finish(one.type)
        return like(ast.ExceptHandler(kind, one.name, finish_block(one.body, finisher, foreign)), one)
    return one


def _own(value: ast.expr, foreign: Sequence[tuple[str, str]]) -> ast.expr:
    """Return an expression that has only names of the new code in it.

    Raises:
        UnfinishedError: it has another.
    """
    read = names_in(value)
    for name, question in foreign:
        if name in read:
            raise UnfinishedError(question)
    return value


def is_arithmetic(statements: Sequence[ast.stmt], spec: ModelSpec | None) -> bool:
    """Return whether all that is done with arrays is arithmetic that tensors do in the same way."""
    used = {one.name for statement in statements for one in symbols_in(statement) if one.kind == "array"}
    dtypes = {one.dtype.torch for one in (spec.inputs if spec else ()) if one.name in used}
    if not used or len(dtypes) != 1 or None in dtypes:
        return False
    (dtype,) = dtypes
    return dtype is not None and _Arithmetic(dtype).holds(statements)


class _Arithmetic:
    """Follows arrays through statements.

    Args:
        dtype: of the arrays.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.divides = dtype.is_floating_point
        self.names: set[str] = set()

    def holds(self, statements: Sequence[ast.stmt]) -> bool:
        return all(self._statement(one) for one in statements)

    def _statement(self, statement: ast.stmt) -> bool:
        if isinstance(statement, ast.Assign) and self._touches(statement.value):
            for target in statement.targets:
                self.names |= names_in(target, ast.Store)
            are_names = all(isinstance(one, (ast.Name, ast.Tuple)) for one in statement.targets)
            return are_names and self._value(statement.value)
        value = getattr(statement, "value", None)
        if isinstance(statement, ast.Expr) and isinstance(value, ast.Yield):
            value = value.value
        if isinstance(statement, (ast.Return, ast.Expr)) and is_symbol(value, "response"):
            assert isinstance(value, Symbol)
            parts = [_uncast(one.value) for one in value.parts if isinstance(one, Symbol)]
            return value.value is None and all(one is None or self._value(one) for one in parts)
        if isinstance(statement, (ast.Return, ast.Assign, ast.Expr, ast.AugAssign)):
            return not self._touches(statement)
        return not self._touches(statement)

    def _touches(self, node: ast.AST) -> bool:
        return any(one.kind == "array" for one in symbols_in(node)) or bool(names_in(node) & self.names)

    def _value(self, value: ast.expr) -> bool:
        if isinstance(value, ast.Tuple):
            return all(map(self._value, value.elts))
        if isinstance(value, ast.BinOp):
            is_known = isinstance(value.op, (ast.Add, ast.Sub, ast.Mult)) or (
                isinstance(value.op, ast.Div) and self.divides
            )
            return is_known and self._value(value.left) and self._value(value.right)
        if isinstance(value, ast.UnaryOp):
            return isinstance(value.op, ast.USub) and self._value(value.operand)
        return (
            self._is_number(value)
            or is_symbol(value, "array")
            or (isinstance(value, ast.Name) and value.id in self.names)
        )

    def _is_number(self, value: ast.expr) -> bool:
        """Whether it is a number that leaves the data type as it is, in numpy as in torch."""
        number = value.value if isinstance(value, ast.Constant) else None
        if isinstance(number, bool) or not isinstance(number, (int, float)) or self.dtype is torch.bool:
            return False
        if self.dtype.is_floating_point:
            return abs(number) <= torch.finfo(self.dtype).max
        limits = torch.iinfo(self.dtype)
        return isinstance(number, int) and limits.min <= number <= limits.max


def _uncast(value: ast.expr | None) -> ast.expr | None:
    """Return an output's value without its last `.astype(dtype)`, which becomes a cast of the tensor."""
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and len(value.args) == 1):
        return value
    is_cast = value.func.attr == "astype" and is_symbol(value.args[0], "dtype")
    return value.func.value if is_cast else value


def _without_way_to_host(value: ast.expr, *, is_torch: bool) -> tuple[ast.expr, bool, bool]:
    """Return a value without `.detach().cpu().numpy().astype(...)`, and what of these it had.

    Args:
        value: of an output.
        is_torch: whether it is known to be a torch tensor.

    Returns:
        The value, whether it is a torch tensor, and whether its data type was changed.
    """
    is_cast = False
    while isinstance(value, ast.Call):
        if dotted(value.func) in TO_DLPACK and len(value.args) == 1:
            value, is_torch = value.args[0], True
        elif isinstance(value.func, ast.Attribute) and value.func.attr == "numpy":
            value, is_torch = value.func.value, True
        elif isinstance(value.func, ast.Attribute) and value.func.attr == "astype" and not is_torch:
            if not is_symbol(value.args[0] if value.args else None, "dtype"):
                break
            value, is_cast = value.func.value, True
        elif is_torch and isinstance(value.func, ast.Attribute) and value.func.attr in _ON_HOST:
            value = value.func.value
        else:
            break
    return value, is_torch, is_cast


def _same_dtype(given: TensorSpec | None, declared: TensorSpec | None) -> bool:
    return given is not None and declared is not None and given.dtype is declared.dtype
