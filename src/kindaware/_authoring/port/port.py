"""A hand-written model.py of the Python backend, rewritten for this library as far as its code is plain."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from kindaware._authoring.port.doubts import find_doubts
from kindaware._authoring.port.emit import Emitter
from kindaware._authoring.port.expressions import Folder
from kindaware._authoring.port.finish import Finisher, as_array, finish_block, is_arithmetic
from kindaware._authoring.port.load import LoadRewriter, find_thread_counters, rewrite_finalize
from kindaware._authoring.port.old_model import CLASS, LIFE_CYCLE, OldModel, read_old_model
from kindaware._authoring.port.shadows import without_shadows
from kindaware._authoring.port.statements import BodyRewriter, Question, like, without_docstring
from kindaware._authoring.port.symbols import Symbol, dotted, names_in, self_attribute, symbols_in, text_of
from kindaware._config.model_spec import ModelSpec
from kindaware._hooks.class_rules import OWN_ATTRIBUTES
from kindaware._hooks.hooks import HOOKS

_EARLY = (
    "it came before imports, and kindaware imports torch: if torch reads it, set it where the server starts"
)
_ADDING = frozenset({"append", "extend", "insert", "add", "update", "setdefault", "pop", "popleft", "clear"})
_FOLDED_ATTRIBUTES = frozenset({"device", "logger", "parameters"})
"""Names of attributes that old code sets to what the library's attributes of the same name are."""


@dataclass(frozen=True)
class Ported:
    """What became of a model.py.

    Attributes:
        text: of the new one.
        questions: what is left to decide, with the line of the old file.
        inputs: names of inputs that the code reads, in its order.
        outputs: names of outputs that it answers with.
        streams: whether it sends any number of responses.
    """

    text: str
    questions: list[tuple[int, str]]
    inputs: list[str]
    outputs: list[str]
    streams: bool


def find_tensors(text: str, path: str) -> tuple[list[str], list[str], bool]:
    """Return the names of the inputs and outputs that a model.py uses, and whether it is decoupled.

    Raises:
        ConfigError: it is no model of the Python backend.
    """
    old = read_old_model(text, path)
    inputs, outputs = [], []
    for one in ast.walk(old.owner):
        if isinstance(one, ast.Call) and len(one.args) > 1:
            called = dotted(one.func).removeprefix(f"{old.pb_utils}.")
            if called == "get_input_tensor_by_name" and text_of(one.args[1]):
                inputs.append(text_of(one.args[1]))
            if called in ("Tensor", "Tensor.from_dlpack") and text_of(one.args[0]):
                outputs.append(text_of(one.args[0]))
    streams = any(getattr(one, "attr", "") == "get_response_sender" for one in ast.walk(old.owner))
    return list(dict.fromkeys(inputs)), list(dict.fromkeys(outputs)), streams


def port_model(text: str, path: str, spec: ModelSpec) -> Ported:
    """Rewrite a model.py.

    Args:
        text: of the old file.
        path: of the old file, for messages.
        spec: its tensors.

    Raises:
        ConfigError: it is no model of the Python backend.
    """
    text = _renamed(text, read_old_model(text, path))
    text = without_shadows(text, path, [one.name for one in spec.inputs])
    old = read_old_model(text, path)
    port = _Port(old, spec)
    body = port.write()
    return Ported(
        text=body,
        questions=sorted(port.emitter.questions),
        inputs=[one.name for one in spec.inputs],
        outputs=[one.name for one in spec.outputs],
        streams=spec.decoupled,
    )


def _renamed(text: str, old: OldModel) -> str:
    """Return the text with a line under the names that mean something else here."""
    methods = {name for name in old.methods if name not in LIFE_CYCLE and name in {*HOOKS, *OWN_ATTRIBUTES}}
    stored = {
        self_attribute(one)
        for one in ast.walk(old.owner)
        if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store)
    }
    lines = text.splitlines(keepends=True)
    first, last = old.owner.lineno - 1, old.owner.end_lineno
    own = "".join(lines[first:last])
    for name in methods | (stored & (OWN_ATTRIBUTES | set(HOOKS)) - _FOLDED_ATTRIBUTES):
        own = re.sub(rf"(\bself\.|\bdef +){name}\b", rf"\g<1>_{name}", own)
    return "".join([*lines[:first], own, *lines[last:]])


@dataclass(frozen=True)
class _Execute:
    """What `execute` does.

    Attributes:
        body: for each request, what comes before the loop included.
        request: the name of a request.
        responses: names of the list of responses.
    """

    body: list[ast.stmt]
    request: str
    responses: set[str]

    def within(self, context: ast.With) -> _Execute:
        """Return the same with what it does in a context, such as autocast."""
        inside = ast.copy_location(ast.With(context.items, self.body), context)
        return _Execute([inside], self.request, self.responses)


class _Port:
    def __init__(self, old: OldModel, spec: ModelSpec) -> None:
        self.old = old
        self.spec = spec
        self.emitter = Emitter(old.lines)
        self.dropped = find_thread_counters(old)
        self.attributes: dict[str, ast.expr] = {}
        self.inlined: set[str] = set()
        self.request = ""
        self.responses: set[str] = set()
        self.numpy = _alias_of(old.tree, "numpy") or "np"
        self.finisher = self._finisher(keeps_arrays=False)

    def write(self) -> str:
        """Return the text of the new file."""
        load_folder = Folder(self.old.pb_utils, self.spec, self.attributes, places_modules=True)
        load = LoadRewriter(self.old, load_folder, self.dropped).rewrite()
        hook = self._hook()
        unload = rewrite_finalize(self.old, self._folder(), self.dropped)
        members = [
            *self._others(functions=False),
            self._method("load", "self", self._finished(load)),
            [
                *self.emitter.notes(find_doubts(self.old, self.spec, self.dropped), 1),
                *self._method(self.spec.hook, self._parameters(), hook),
            ],
        ]
        members += self._others(functions=True)
        if unload:
            members.append(self._method("unload", "self", self._finished(unload)))
        bases = [ast.unparse(one) for one in self.old.owner.bases if dotted(one) != "object"]
        lines = [f"class {CLASS}({', '.join(['KindAwareModel', *bases])}):", *_joined(members)]
        return self._file(lines)

    def _folder(self) -> Folder:
        return Folder(self.old.pb_utils, self.spec, self.attributes)

    def _finisher(self, *, keeps_arrays: bool) -> Finisher:
        one_request = self.spec.decoupled or not self.spec.batches
        return Finisher(self.spec, numpy=self.numpy, keeps_arrays=keeps_arrays, one_request=one_request)

    def _hook(self) -> list[ast.stmt]:
        """Return the statements of `forward` or `stream`."""
        function = self.old.methods["execute"]
        found = _find_loop(function, self.old.parameter("execute"))
        if found is None:
            why = (
                "execute does more than go through the requests one by one. forward gets their rows joined, "
                "and its outputs are split: what comes between is to be kept"
            )
            return [like(Question(why, one), one) for one in without_docstring(function.body)]
        folder = self._folder()
        folder.names = {found.request: Symbol("request")}
        self.request, self.responses = found.request, found.responses
        rewriter = BodyRewriter(self.old, folder, self.dropped, streams=self.spec.decoupled)
        body = rewriter.rewrite(found.body, found.responses)
        self.inlined = rewriter.inlined
        self.finisher = self._finisher(keeps_arrays=not is_arithmetic(body, self.spec))
        arrays = self._variables(body)
        return [*arrays, *self._finished(body)]

    def _variables(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Return assignments of the arrays that are read more than once, under the names they had."""
        reads = [one for statement in body for one in symbols_in(statement) if one.kind == "array"]
        texts = {one.name for one in self.spec.inputs if one.dtype.torch is None}
        loops = [node for one in body for node in ast.walk(one) if isinstance(node, (ast.For, ast.While))]
        looped = {one.name for loop in loops for inner in loop.body for one in symbols_in(inner)}
        for name in dict.fromkeys(one.name for one in reads):
            hints = [one.hint for one in reads if one.name == name]
            is_often = len(hints) > 1 or name in looped
            if self.finisher.keeps_arrays and is_often and name not in texts:
                self.finisher.variables[name] = next(filter(None, hints), f"{name.lower()}_array")
        return [
            ast.Assign([ast.Name(variable, ast.Store())], as_array(name), lineno=0)
            for name, variable in self.finisher.variables.items()
        ]

    def _finished(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        pb_utils = (
            "it uses Triton's module: self.call asks other models, self.logger logs, RequestError refuses"
        )
        foreign = [
            (self.old.pb_utils, pb_utils),
            (self.old.parameter("execute"), "it uses all requests of a call: forward gets their rows joined"),
            (self.request, "it uses a request in a function of its own: pass what it needs of the inputs"),
            (self.old.parameter("initialize"), "it uses Triton's args: self.args has them, parsed"),
        ]
        foreign += [
            (one, "it uses the list of responses: return one for each request") for one in self.responses
        ]
        foreign = [one for one in foreign if one[0]]
        while True:
            finished = finish_block(statements, self.finisher, foreign)
            missing = _missing_names(finished) - {name for name, _ in foreign}
            if not missing:
                return finished
            foreign += [(name, "") for name in sorted(missing)]

    def _parameters(self) -> str:
        names = [one.name for one in self.spec.inputs]
        if not all(name.isidentifier() for name in names):
            return "self, **inputs"
        required = [one.name for one in self.spec.inputs if not one.optional]
        optional = [f"{one.name}=None" for one in self.spec.inputs if one.optional]
        asks = ["requests"] if self.finisher.asks_requests else []
        return ", ".join(["self", *required, *asks, *optional])

    def _method(self, name: str, parameters: str, body: list[ast.stmt]) -> list[str]:
        return [f"    def {name}({parameters}):", *self._body(name, body)]

    def _body(self, name: str, body: list[ast.stmt]) -> list[str]:
        if name == "load" and not body:
            return ["        return None"]
        lines = self.emitter.block(body, 2)
        code = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        is_empty = [line.strip() for line in code] == ["pass"]
        if is_empty and name == "load":
            lines[-1] = "        return None"
        if is_empty and name in ("forward", "stream"):
            lines[-1] = '        raise NotImplementedError("see what is marked with PORT")'
        answers = ("return", "raise", "self.reschedule")
        if name == "forward" and not any(line.strip().startswith(answers) for line in lines):
            lines.append('        raise NotImplementedError("see what is marked with PORT")')
        if name == "stream" and not any("yield" in line for line in code):
            lines.append("        yield {}")
        return lines

    def _others(self, *, functions: bool) -> list[list[str]]:
        """Return the other methods of the class that are still needed, or what stands beside its methods."""
        found = []
        for one in self.old.owner.body:
            if isinstance(one, ast.FunctionDef) is not functions:
                continue
            name = getattr(one, "name", "")
            is_text = isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)
            if name in LIFE_CYCLE or is_text or (name in self.inlined and not self._is_used(name)):
                if name == "auto_complete_config" and not (self.spec.inputs and self.spec.outputs):
                    found.append(
                        self.emitter.block(
                            [like(Question("declare `inputs` and `outputs`, lists of TensorSpec", one), one)],
                            1,
                        )[:-1]
                    )
                continue
            found.append(self._other(one))
        return found

    def _is_used(self, name: str) -> bool:
        """Whether anything but what was inlined calls a method."""
        others = [
            one for one in self.old.owner.body if getattr(one, "name", "") not in {*LIFE_CYCLE, *self.inlined}
        ]
        return any(self_attribute(node) == name for one in others for node in ast.walk(one))

    def _other(self, one: ast.stmt) -> list[str]:
        if not isinstance(one, ast.FunctionDef):
            return self.emitter.block([like(one, one)], 1)
        rewriter = LoadRewriter(self.old, self._folder(), self.dropped)
        documented = one.body[: len(one.body) - len(without_docstring(one.body))]
        body = self._finished(rewriter.block(without_docstring(one.body)))
        header = self.old.lines[one.lineno - 1 : one.body[0].lineno - 1]
        decorators = [self.old.lines[node.lineno - 1] for node in one.decorator_list]
        text = [self.old.lines[n] for doc in documented for n in range(doc.lineno - 1, doc.end_lineno or 0)]
        if one.body[0].lineno == one.lineno:
            header = [self.old.lines[one.lineno - 1]]
            return [*decorators, *header]
        while header and (not header[-1].strip() or header[-1].lstrip().startswith("#")):
            header.pop()
        return [*decorators, *header, *text, *self.emitter.block(body, 2)]

    def _file(self, lines: list[str]) -> str:
        """Return the file around the class."""
        imports = (ast.Import, ast.ImportFrom)
        above = [
            one for one in self.old.tree.body if not isinstance(one, imports) and one is not self.old.owner
        ]
        last = max((one.lineno for one in self.old.tree.body if isinstance(one, imports)), default=0)
        early = [one for one in above if one.lineno < last and not _is_quiet(one)]
        if early:
            above = [one for one in above if one not in early]
        kept = [self.emitter.block([like(one, one)], 0) for one in above]
        code = "\n".join([*(line for block in kept for line in block), *lines])
        header = self._header()
        before = [self.emitter.block([like(one, one)], 0) for one in early]
        code = "\n".join([*(line for block in before for line in block), code])
        asked = self.emitter.notes([(one.lineno, _EARLY) for one in early], 0)
        parts = [
            *header,
            *self._imports(
                code,
                early[-1].lineno if early else 0,
                [*asked, *(line for block in before for line in block)],
            ),
        ]
        for block in [*kept, lines]:
            is_short = not block[0].startswith(("def ", "class ", "@", "async ")) and block is not lines
            parts += [*([""] if is_short else ["", ""]), *block]
        return "\n".join(parts).rstrip() + "\n"

    def _header(self) -> list[str]:
        """Return the comments above everything, such as a licence."""
        first = self.old.tree.body[0].lineno - 1
        lines = self.old.lines[:first]
        while lines and not lines[-1].strip():
            lines.pop()
        return [*lines, ""] if lines else []

    def _imports(self, code: str, split: int, between: list[str]) -> list[str]:
        """Return the imports that the new code needs.

        Args:
            code: all but the imports.
            split: line of code between the old file's imports; 0 if there is none.
            between: that code.
        """
        used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
        was_used = {node.id for node in ast.walk(self.old.tree) if isinstance(node, ast.Name)}
        statements, bound = [], set()
        first: list[str] = []
        for one in self.old.tree.body:
            if not isinstance(one, (ast.Import, ast.ImportFrom)):
                continue
            kept = [name for name in one.names if _is_needed(name, used, was_used)]
            bound |= {(name.asname or name.name).partition(".")[0] for name in kept}
            if kept and isinstance(one, ast.Import):
                statements += [ast.unparse(ast.Import([name])) for name in kept]
            elif kept and isinstance(one, ast.ImportFrom):
                statements.append(ast.unparse(ast.ImportFrom(one.module, kept, one.level)))
            if one.lineno < split:
                first, statements = [*first, *statements], []
        if "torch" in used - bound:
            statements.append("import torch")
        if self.numpy in used - bound:
            statements.append(f"import numpy as {self.numpy}")
        own = ", ".join(["KindAwareModel", *(["RequestError"] if "RequestError" in used else [])])
        last = _sorted_imports(statements, f"from kindaware import {own}")
        return [*_sorted_imports(first, "")[:-1], *between, "", *last] if between else last


def _missing_names(statements: Sequence[ast.stmt]) -> set[str]:
    """Return the names that only statements left as questions assign."""
    asked, stored = set(), set()
    for one in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(one, Question):
            asked |= names_in(one.statement, ast.Store)
        elif isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            stored.add(one.id)
    return asked - stored


def _find_loop(function: ast.FunctionDef, requests: str) -> _Execute | None:
    """Return what `execute` does for each request; None if it isn't a single loop over them."""
    body = without_docstring(function.body)
    contexts = []
    while len(body) == 1 and isinstance(body[0], ast.With):
        contexts.append(body[0])
        body = body[0].body
    found = _loop_in(body, requests)
    for context in reversed(contexts):
        found = found and found.within(context)
    return found


def _loop_in(body: list[ast.stmt], requests: str) -> _Execute | None:
    for position, one in enumerate(body):
        before, after = body[:position], body[position + 1 :]
        if isinstance(one, ast.With) and _is_loop(one.body[-1], requests):
            found = _of_loop([*before, *one.body[:-1]], one.body[-1], after, requests)
            found = found and found.within(one)
        elif isinstance(one, ast.Return):
            found = _of_comprehension(before, one, requests)
        else:
            found = _of_loop(before, one, after, requests)
        if found is not None:
            return found
    return None


def _of_loop(before: list[ast.stmt], loop: ast.stmt, after: list[ast.stmt], requests: str) -> _Execute | None:
    if not (isinstance(loop, ast.For) and isinstance(loop.target, ast.Name) and _is_loop(loop, requests)):
        return None
    returned = {dotted(one.value) for one in after if isinstance(one, ast.Return) and one.value}
    is_plain = all(isinstance(one, (ast.Return, ast.Pass)) for one in after)
    is_own = any(_mentions_name(one, requests) for one in [*before, *after])
    if is_own or not is_plain or _goes_on(before, loop) - returned:
        return None
    return _Execute([*before, *loop.body], loop.target.id, returned - {""})


def _goes_on(before: list[ast.stmt], loop: ast.stmt) -> set[str]:
    """Return the names that are made before the loop and changed in it: they go from request to request."""
    made = set().union(*(names_in(one, ast.Store) for one in before)) if before else set()
    changed = names_in(loop, ast.Store)
    for one in ast.walk(loop):
        is_entry = isinstance(one, ast.Subscript) and not isinstance(one.ctx, ast.Load)
        if is_entry or (isinstance(one, ast.Attribute) and one.attr in _ADDING):
            changed.add(dotted(one.value))  # type: ignore[attr-defined]
    return made & changed


def _of_comprehension(before: list[ast.stmt], last: ast.Return, requests: str) -> _Execute | None:
    if not isinstance(last.value, ast.ListComp) or any(_mentions_name(one, requests) for one in before):
        return None
    (generator, *more) = last.value.generators
    if (
        more
        or generator.ifs
        or dotted(generator.iter) != requests
        or not isinstance(generator.target, ast.Name)
    ):
        return None
    answer = ast.copy_location(ast.Return(last.value.elt), last)
    return _Execute([*before, answer], generator.target.id, set())


def _is_loop(one: ast.stmt, requests: str) -> bool:
    return isinstance(one, ast.For) and dotted(one.iter) == requests and isinstance(one.target, ast.Name)


def _mentions_name(node: ast.AST, name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(node))


def _alias_of(tree: ast.Module, module: str) -> str:
    for one in tree.body:
        if isinstance(one, ast.Import):
            for name in one.names:
                if name.name == module:
                    return name.asname or name.name
    return ""


def _is_needed(name: ast.alias, used: set[str], was_used: set[str]) -> bool:
    """Whether an import has a user: one that never had one may be there for what it does."""
    bound = (name.asname or name.name).partition(".")[0]
    return bound in used or (bound not in was_used and name.name != "triton_python_backend_utils")


def _sorted_imports(statements: Sequence[str], last: str) -> list[str]:
    """Return imports in the order of PEP 8: the standard library, other packages, this library."""
    future = [one for one in statements if one.split()[1] == "__future__"]
    groups: dict[bool, list[str]] = {True: [], False: []}
    for one in dict.fromkeys(one for one in statements if one not in future):
        groups[one.split()[1].partition(".")[0] in sys.stdlib_module_names].append(one)
    lines = [*future, ""] if future else []
    for is_standard in (True, False):
        group = sorted(groups[is_standard], key=lambda one: (one.startswith("from"), one))
        lines += [*group, ""] if group else []
    return [*lines, last]


def _is_quiet(one: ast.stmt) -> bool:
    """Whether code between imports does nothing that they could notice."""
    is_definition = isinstance(one, (ast.FunctionDef, ast.ClassDef))
    is_value = isinstance(one, (ast.Assign, ast.AnnAssign)) and not any(
        isinstance(node, (ast.Call, ast.Subscript)) for node in ast.walk(one)
    )
    return is_definition or is_value or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))


def _joined(members: Sequence[list[str]]) -> list[str]:
    """Return members of a class with a blank line between."""
    lines: list[str] = []
    for one in members:
        lines += [*([""] if lines else []), *one]
    return lines
