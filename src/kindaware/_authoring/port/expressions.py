"""Expressions of the old code, with Triton's API folded into symbols."""

from __future__ import annotations

import ast
import copy
import re

from kindaware._authoring.port.symbols import Symbol, dotted, expression, is_symbol, self_attribute, text_of
from kindaware._config.model_spec import ModelSpec

_ARGS = {
    "model_name": "self.args.model_name",
    "model_version": "self.args.model_version",
    "model_repository": "self.args.repository",
    "model_instance_name": "self.args.instance_name",
}
_LEVELS = {
    "log_info": "info",
    "log_warn": "warning",
    "log_error": "error",
    "log_verbose": "debug",
    "log": "info",
}
_FROM_DLPACK = ("from_dlpack", "torch.from_dlpack", "torch.utils.dlpack.from_dlpack", "dlpack.from_dlpack")
TO_DLPACK = ("to_dlpack", "torch.to_dlpack", "torch.utils.dlpack.to_dlpack", "dlpack.to_dlpack")
_TO_TENSOR = ("torch.from_numpy", "torch.tensor", "torch.as_tensor", "torch.Tensor")
_NO_TRAINING = ("eval",)
_ABOUT_REQUEST = {
    "request_id": "id",
    "correlation_id": "correlation_id",
    "timeout": "timeout",
    "parameters": "parameters",
}


class Folder(ast.NodeTransformer):
    """Folds expressions of Triton's API into symbols.

    Args:
        pb_utils: the name of Triton's module.
        spec: the model's tensors; None if they aren't known.
        attributes: what attributes of self stand for; shared, and completed by the caller.
        places_modules: whether `.to(device)`, `.cuda()` and `.eval()` are dropped, as in `load`.
    """

    def __init__(
        self,
        pb_utils: str,
        spec: ModelSpec | None,
        attributes: dict[str, ast.expr],
        *,
        places_modules: bool = False,
    ) -> None:
        self.pb_utils = pb_utils
        self.spec = spec
        self.attributes = attributes
        self.names: dict[str, ast.expr] = {}
        self.places_modules = places_modules

    def fold(self, node: ast.expr) -> ast.expr:
        """Return an expression folded; the given one stays as it is."""
        folded: ast.expr = self.visit(copy.deepcopy(node))
        return folded

    def visit_Name(self, node: ast.Name) -> ast.expr:
        is_known = isinstance(node.ctx, ast.Load) and node.id in self.names
        return copy.deepcopy(self.names[node.id]) if is_known else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        own = self_attribute(node)
        if own in self.attributes and isinstance(node.ctx, ast.Load):
            return copy.deepcopy(self.attributes[own])
        if self._is_triton(node, "Logger"):
            return Symbol("logger")
        node.value = self.visit(node.value)
        if is_symbol(node.value, "device") and node.attr not in ("type", "index"):
            node.value = expression("str(self.device)")  # a text, in the old code
        if is_symbol(node.value, "logger") and node.attr in _LEVELS:
            return expression(f"self.logger.{_LEVELS[node.attr]}")
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        node.left, node.comparators = self.visit(node.left), [self.visit(one) for one in node.comparators]
        pair = (node.left, node.comparators[0])
        if len(node.ops) > 1 or not isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
            return node
        for symbol, other in (pair, pair[::-1]):
            text = text_of(other)
            if is_symbol(symbol, "kind") and text in ("GPU", "CPU"):
                is_gpu = (text == "GPU") == isinstance(node.ops[0], ast.Eq)
                return Symbol("is_gpu") if is_gpu else ast.UnaryOp(ast.Not(), Symbol("is_gpu"))
            if is_symbol(symbol, "device") and text:
                name = expression("str(self.device)" if ":" in text else "self.device.type")
                return ast.Compare(name, node.ops, [other])
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        test, body, orelse = (self.visit(one) for one in (node.test, node.body, node.orelse))
        return ast.IfExp(is_there(test), body, orelse)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        value = self.visit(node.value)
        return Symbol("walrus", node.target.id, value) if isinstance(value, Symbol) else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        node.value, node.slice = self.visit(node.value), self.visit(node.slice)
        if not isinstance(node.value, Symbol):
            return node
        return self._entry(node.value, node.slice) or node

    def _entry(self, owner: Symbol, index: ast.expr) -> ast.expr | None:
        """Return what an entry of args or of the configuration is; None for one that isn't known."""
        key = text_of(index)
        entries = {
            ("config", "input"): Symbol("tensor_configs", "input"),
            ("config", "output"): Symbol("tensor_configs", "output"),
            ("config", "parameters"): Symbol("parameters"),
            ("parameters", key): Symbol("parameter", key),
            ("parameter", "string_value"): expression(f"self.parameters[{owner.name!r}]"),
            ("tensor_config", "data_type"): Symbol("datatype", owner.name),
        }
        if owner.kind == "args":
            return _argument(key)
        if owner.kind == "parameter" and key == "string_value" and isinstance(owner.value, ast.Dict):
            given = zip(owner.value.keys, owner.value.values, strict=True)
            defaults = [value for name, value in given if text_of(name) == key]
            if defaults:
                return _parameter_or(owner.name, defaults[0])
        found = entries.get((owner.kind, key)) if key else None
        return found or self._tensor_config(owner, index)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        node.operand = self.visit(node.operand)
        is_known = isinstance(node.op, ast.Not) and isinstance(node.operand, ast.Constant)
        return ast.Constant(not node.operand.value) if is_known else node  # type: ignore[attr-defined]

    def visit_Call(self, node: ast.Call) -> ast.expr:
        node.func = self.visit(node.func)
        node.args = [self.visit(one) for one in node.args]
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
        for fold in (self._configuration, self._method, self._tensor, self._response):
            found = fold(node)
            if found is not None:
                return found
        return node

    def _is_triton(self, node: ast.AST, *names: str) -> bool:
        return bool(self.pb_utils) and dotted(node) in {f"{self.pb_utils}.{name}" for name in names}

    def _tensor_config(self, owner: Symbol, index: ast.expr) -> ast.expr | None:
        if owner.kind != "tensor_configs" or self.spec is None or not isinstance(index, ast.Constant):
            return None
        tensors = self.spec.inputs if owner.name == "input" else self.spec.outputs
        is_known = isinstance(index.value, int) and index.value < len(tensors)
        return Symbol("tensor_config", tensors[index.value].name) if is_known else None  # type: ignore[index]

    def _configuration(self, node: ast.Call) -> ast.expr | None:
        """Fold what is read from the model's configuration."""
        first = node.args[0] if node.args else None
        if dotted(node.func) == "json.loads" and is_symbol(first, "config_text", "about_request"):
            return Symbol("config") if is_symbol(first, "config_text") else first
        if self._is_triton(node.func, "using_decoupled_model_transaction_policy") and self.spec is not None:
            return ast.Constant(self.spec.decoupled)
        if self._is_triton(node.func, "get_output_config_by_name", "get_input_config_by_name"):
            name = text_of(node.args[1]) if len(node.args) > 1 else ""
            return Symbol("tensor_config", name) if name else None
        if self._is_triton(node.func, "triton_string_to_numpy") and is_symbol(first, "datatype"):
            assert isinstance(first, Symbol)
            return Symbol("dtype", first.name)
        is_id = dotted(node.func) in ("int", "str") and is_symbol(first, "device_id")
        return Symbol("device_id", dotted(node.func)) if is_id else None

    def _method(self, node: ast.Call) -> ast.expr | None:
        """Fold methods of requests, and of tensors."""
        if not isinstance(node.func, ast.Attribute):
            return None
        owner, method = node.func.value, node.func.attr
        found = self._method_of_symbol(owner, method, node) if isinstance(owner, Symbol) else None
        if found is not None:
            return found
        is_move = method == "cuda" or (method == "to" and _is_device(node))
        if is_move and ((self.places_modules and not makes_tensor(owner)) or is_symbol(owner, "tensor")):
            return owner
        return owner if self.places_modules and method in _NO_TRAINING and not node.args else None

    def _method_of_symbol(self, owner: Symbol, method: str, node: ast.Call) -> ast.expr | None:
        methods = {
            ("input", "as_numpy"): Symbol("array", owner.name, hint=owner.hint),
            ("input", "to_dlpack"): Symbol("capsule", owner.name, hint=owner.hint),
            ("request", "get_response_sender"): Symbol("sender"),
            ("request", "is_cancelled"): Symbol("is_cancelled"),
            ("sender", "is_cancelled"): Symbol("is_cancelled"),
        }
        if owner.kind == "request" and method in _ABOUT_REQUEST:
            return Symbol("about_request", _ABOUT_REQUEST[method])
        if owner.kind in ("config", "parameters", "parameter") and method == "get" and node.args:
            return self._entry_or(owner, node.args[0], node.args[1] if len(node.args) > 1 else None)
        return methods.get((owner.kind, method))

    def _entry_or(self, owner: Symbol, index: ast.expr, default: ast.expr | None) -> ast.expr | None:
        """Return what `.get(index, default)` of the configuration is."""
        key = text_of(index)
        if owner.kind == "parameters" and key:
            return Symbol("parameter", key, default or ast.Constant(None))
        if owner.kind == "parameter" and key == "string_value" and default is not None:
            return _parameter_or(owner.name, default)
        return self._entry(owner, index)

    def _tensor(self, node: ast.Call) -> ast.expr | None:
        """Fold the ways into a torch tensor, and into one of Triton's."""
        first = node.args[0] if node.args else None
        if self._is_triton(node.func, "get_input_tensor_by_name") and len(node.args) > 1:
            name = text_of(node.args[1])
            is_input = self.spec is None or name in {one.name for one in self.spec.inputs}
            return Symbol("input" if is_input else "control", name) if name else None
        name = dotted(node.func)
        is_read = name in _FROM_DLPACK and is_symbol(first, "capsule", "input")
        if is_read or (name in _TO_TENSOR and is_symbol(first, "array", "tensor")):
            assert isinstance(first, Symbol)
            tensor = Symbol("tensor", first.name)
            dtypes = [one.value for one in node.keywords if one.arg == "dtype"]
            if name == "torch.Tensor":  # it makes FP32 of everything
                dtypes = [expression("torch.float32")]
            return self._converted(tensor, dtypes[0]) if dtypes else tensor
        is_array, is_dlpack = (
            self._is_triton(node.func, "Tensor"),
            self._is_triton(node.func, "Tensor.from_dlpack"),
        )
        if (is_array or is_dlpack) and len(node.args) == 2 and text_of(first):
            return Symbol("array_output" if is_array else "tensor_output", text_of(first), node.args[1])
        return None

    def _converted(self, tensor: Symbol, dtype: ast.expr) -> ast.expr:
        declared = {one.name: one.dtype.torch for one in self.spec.inputs} if self.spec else {}
        if str(declared.get(tensor.name)) == dotted(dtype):
            return tensor
        return ast.Call(ast.Attribute(tensor, "to", ast.Load()), [dtype], [])

    def _response(self, node: ast.Call) -> ast.expr | None:
        """Fold responses and their errors."""
        if self._is_triton(node.func, "TritonError") and node.args:
            codes = [*node.args[1:], *(one.value for one in node.keywords if one.arg == "code")]
            code = dotted(codes[0]).rpartition(".")[2] if codes else ""
            return Symbol("error", code, node.args[0])
        if self._is_triton(node.func, "TritonModelException") and node.args:
            return Symbol("error", "", node.args[0])
        if not self._is_triton(node.func, "InferenceResponse"):
            return None
        by_name = {one.arg: one.value for one in node.keywords}
        outputs = node.args[0] if node.args else by_name.get("output_tensors")
        error = node.args[1] if len(node.args) > 1 else by_name.get("error")
        if error is not None:
            is_known = is_symbol(error, "error")
            return error if is_known else Symbol("error", "", error)
        if isinstance(outputs, (ast.List, ast.Tuple)):
            return Symbol("response", parts=outputs.elts)
        return Symbol("response", value=outputs)


def is_there(test: ast.expr) -> ast.expr:
    """Return a condition in which an input's tensor object is true: it is there."""
    if is_symbol(test, "input"):
        return ast.Compare(test, [ast.IsNot()], [ast.Constant(None)])
    if isinstance(test, ast.BoolOp):
        return ast.BoolOp(test.op, [is_there(one) for one in test.values])
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return ast.UnaryOp(test.op, is_there(test.operand))
    return test


def _parameter_or(name: str, default: ast.expr) -> ast.expr:
    found = expression(f"self.parameters.get({name!r})")
    assert isinstance(found, ast.Call)
    found.args.append(default)
    return found


def _argument(key: str) -> ast.expr | None:
    """Return what stands for an entry of `args`."""
    if key == "model_config":
        return Symbol("config_text")
    if key == "model_instance_kind":
        return Symbol("kind")
    if key == "model_instance_device_id":
        return Symbol("device_id")
    return expression(_ARGS[key]) if key in _ARGS else None


def makes_tensor(node: ast.AST) -> bool:
    """Return whether an expression looks like a plain tensor, which the library doesn't move."""
    calls = [dotted(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)]
    return any(re.fullmatch(r"(torch|np|numpy|F)\.(\w+\.)*[a-z_]+", one) for one in calls)


def _is_device(node: ast.Call) -> bool:
    """Whether `.to(...)` gets a device and nothing else."""
    values = [*node.args, *(one.value for one in node.keywords)]
    return len(values) == 1 and (
        is_symbol(values[0], "device")
        or dotted(values[0]) == "self.device"
        or text_of(values[0]).partition(":")[0] in ("cpu", "cuda")
    )
