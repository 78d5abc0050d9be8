"""Statements of the old code: those about requests and responses folded away, the others kept."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from kindaware._authoring.port.expressions import TO_DLPACK, Folder, is_there
from kindaware._authoring.port.old_model import OldModel
from kindaware._authoring.port.symbols import (
    Symbol,
    dotted,
    is_symbol,
    names_in,
    self_attribute,
    symbols_in,
)

THREADS = ("threading.Thread", "Thread")
_NO_GRADIENTS = ("torch.no_grad", "torch.inference_mode")
_BESIDE = "it ran beside the thread that answers: put it before the answers, behind them, or leave it out"
_LEAVES = "it leaves the loop over the requests, whose others must be answered too"
_BEHIND = "it came behind an answer that is an error, which ends the hook: put it before, if it matters"
_ENDS = "an error ends the stream here, and the old code went on"
_UNKNOWN = "it uses requests in a statement that isn't ported: take it apart"
_THREAD = "it starts a thread whose work can't be put here: yield what it sends"
_LIST = "it adds several responses at once: return one for each request"
_ANSWER = "answer"
_MUTATORS = frozenset({"sort", "fill", "partition", "resize", "put", "itemset", "setflags"})
_QUIET = frozenset({"astype", "cpu", "numpy", "detach", "contiguous", "to_dlpack", "copy", "float", "half"})
_KEPT_BY_NAME = frozenset({"array", "tensor", "input", "capsule"})


@dataclass
class Frame:
    """One function of the old code, while its statements are rewritten.

    Attributes:
        stores: how often each name is assigned.
        changed: names that are changed in place.
        responses: names of the list of responses.
        outputs: names of lists of output tensors.
        named_outputs: the output that a name with several assignments stands for.
        loops: how many loops of its own are around the statement.
        is_beside: whether a thread has been started that does the work; what follows ran beside it.
    """

    stores: Counter[str]
    changed: set[str]
    responses: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    named_outputs: dict[str, str] = field(default_factory=dict)
    loops: int = 0
    is_beside: bool = False
    loads: Counter[str] = field(default_factory=Counter)
    rebound: set[int] = field(default_factory=set)
    adjacent: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, statements: Iterable[ast.stmt]) -> Frame:
        """Look at the statements of a function, or of a loop's body."""
        nodes = [node for statement in statements for node in ast.walk(statement)]
        stores = Counter(
            node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        )
        changed = {dotted(node.target) for node in nodes if isinstance(node, ast.AugAssign)}
        changed |= {
            dotted(node.value)
            for node in nodes
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
        }
        for node in nodes:
            if isinstance(node, ast.Call):
                changed |= _changed_by(node)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                stores.update(names_in(node))  # what a function reads stays a variable
        frame = cls(stores, changed)
        frame.loads.update(
            node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        )
        for node in nodes:
            if isinstance(node, ast.Call) and dotted(node.func).endswith("InferenceResponse"):
                given = [*node.args[:1], *(one.value for one in node.keywords if one.arg == "output_tensors")]
                frame.outputs |= {one.id for one in given if isinstance(one, ast.Name)}
        return frame


class BodyRewriter:
    """Rewrites what `execute` does for one request.

    Args:
        old: the old model.
        folder: folds its expressions.
        dropped: attributes that count running threads, and their locks: the library waits for streams itself.
        streams: whether the model sends responses rather than returning them.
    """

    def __init__(self, old: OldModel, folder: Folder, dropped: set[str], *, streams: bool) -> None:
        self.old = old
        self.folder = folder
        self.dropped = dropped
        self.streams = streams
        self.inlined: set[str] = set()
        self._active: list[str] = []
        self._answers_early = False
        self._loops = 0
        self._scopes: list[set[str]] = []

    def rewrite(self, statements: Sequence[ast.stmt], responses: set[str]) -> list[ast.stmt]:
        """Return the statements for one request."""
        frame = Frame.of(statements)
        frame.responses = responses
        self._scopes = [set().union(*map(names_in, statements))]
        body = self._block(statements, frame, is_tail=True)
        # One response is added for each request, so there is one on every way to the end.
        return [*body, ast.Return(ast.Name(_ANSWER, ast.Load()))] if self._answers_early else body

    def _block(self, statements: Sequence[ast.stmt], frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for position, statement in enumerate(statements):
            rest = statements[position + 1 :]
            is_last = is_tail and all(isinstance(one, (ast.Pass, ast.Continue)) for one in rest)
            is_last = is_last or (bool(rest) and isinstance(rest[0], ast.Continue) and not frame.loops)
            was_beside = frame.is_beside
            frame.rebound |= {id(statement)} if _is_rebound(statement, rest) else set()
            frame.adjacent |= {id(statement)} if self._is_adjacent(statement, rest, frame) else set()
            new = self._statement(statement, frame, is_tail=is_last)
            if was_beside and new:
                new = [like(Question(_BESIDE, statement), statement)]
            found += new
            if new and isinstance(new[-1], (ast.Return, ast.Raise, ast.Continue, ast.Break)):
                if isinstance(new[-1], ast.Raise) and not isinstance(statement, ast.Raise):
                    found += self._behind_error(rest, frame)
                break
        return found

    def _behind_error(self, rest: Sequence[ast.stmt], frame: Frame) -> list[ast.stmt]:
        """Return questions for what followed an answer that is an error: it ends the hook here."""
        left = [
            one
            for one in rest
            if not isinstance(one, (ast.Return, ast.Continue, ast.Break, ast.Pass))
            and self._statement(one, frame, is_tail=False)
        ]
        goes_on = (
            self.streams and frame.loops and not any(isinstance(one, (ast.Return, ast.Break)) for one in rest)
        )
        asked: list[ast.stmt] = [like(Question(_BEHIND, one), one) for one in left]
        if goes_on and rest:
            asked.append(like(Question(_ENDS, rest[-1]), rest[-1]))
        return asked

    def _is_adjacent(self, statement: ast.stmt, rest: Sequence[ast.stmt], frame: Frame) -> bool:
        """Whether an output is used right behind where it is made, so that nothing can change it between."""
        names = names_in(statement, ast.Store)
        near, loud = 0, int(_is_loud(statement))
        for one in rest:
            near += 1
            if not (isinstance(one, ast.Assign) and self._makes_output(one.value)):
                break
            loud += _is_loud(one)
        used = sum(_reads(one, names) for one in rest[:near])
        return loud < 2 and used == sum(frame.loads[one] for one in names)

    def _makes_output(self, value: ast.expr) -> bool:
        called = dotted(value.func).rpartition(".") if isinstance(value, ast.Call) else ("", "", "")
        names = {"Tensor", "from_dlpack", "InferenceResponse", "TritonError"}
        return called[0].startswith(self.old.pb_utils) and called[2] in names

    def _statement(self, statement: ast.stmt, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        """Return what a statement becomes; nothing for one that is folded away."""
        rewrites: dict[type[ast.stmt], Callable[..., list[ast.stmt]]] = {
            ast.Expr: self._expression,
            ast.Assign: self._assignment,
            ast.AnnAssign: self._assignment,
            ast.If: self._if,
            ast.For: self._loop,
            ast.While: self._loop,
            ast.With: self._with,
            ast.Try: self._try,
            ast.Return: self._return,
            ast.Raise: self._raise,
            ast.Continue: self._continue,
            ast.Break: self._break,
            ast.AugAssign: self._augmented,
            ast.Delete: self._delete,
        }
        rewrite = rewrites.get(type(statement))
        has_body = any(isinstance(one, (ast.stmt, ast.match_case)) for one in ast.iter_child_nodes(statement))
        if rewrite is None and has_body and self._is_about_requests(statement, frame):
            return [like(Question(_UNKNOWN, statement), statement)]
        return [self._folded(statement)] if rewrite is None else rewrite(statement, frame, is_tail=is_tail)

    def _is_about_requests(self, statement: ast.stmt, frame: Frame) -> bool:
        names = names_in(statement)
        known = {name for name, value in self.folder.names.items() if is_symbol(value)}
        return bool(names & (known | frame.responses | {self.old.pb_utils}))

    def _delete(self, statement: ast.Delete, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        left = [one for one in statement.targets if dotted(one) not in self.folder.names]
        left = [one for one in left if dotted(one) not in frame.responses]
        return [like(ast.Delete(left), statement)] if left else []

    def _raise(self, statement: ast.Raise, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        exception = None if statement.exc is None else self.folder.fold(statement.exc)
        return [like(ast.Raise(exception, statement.cause), statement)]

    def _continue(self, statement: ast.Continue, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        if frame.loops:
            return [statement]
        return [] if is_tail else [like(ast.Return(None), statement)]

    def _break(self, statement: ast.Break, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        return [statement] if frame.loops else [like(Question(_LEAVES, statement), statement)]

    def _augmented(self, statement: ast.AugAssign, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        if self_attribute(statement.target) in self.dropped:
            return []
        if dotted(statement.target) in frame.responses:
            return [like(Question(_LIST, statement), statement)]
        return [self._folded(statement)]

    def _folded(self, statement: ast.stmt) -> ast.stmt:
        """Return a statement with its expressions folded."""
        new = copy.deepcopy(statement)
        for name, value in ast.iter_fields(new):
            if isinstance(value, ast.expr):
                setattr(new, name, self.folder.fold(value))
            elif isinstance(value, list):
                folded = [self.folder.fold(one) if isinstance(one, ast.expr) else one for one in value]
                setattr(new, name, folded)
        return like(new, statement)

    def _expression(  # noqa: PLR0911
        self, statement: ast.Expr, frame: Frame, *, is_tail: bool
    ) -> list[ast.stmt]:
        call = statement.value
        if not isinstance(call, ast.Call):
            is_gone = isinstance(self.folder.fold(call), (Symbol, ast.Constant))
            return [] if is_gone else [self._folded(statement)]
        appended = self._appended(call, statement, frame, is_tail=is_tail)
        if appended is not None:
            return appended
        inlined = self._inlined(call, statement, is_tail=is_tail)
        if inlined is not None:
            frame.is_beside = frame.is_beside or getattr(call.func, "attr", "") in ("start", "submit")
            return inlined
        folded = self.folder.fold(call)
        if isinstance(folded, ast.Call) and isinstance(folded.func, ast.Attribute):
            owner, method = folded.func.value, folded.func.attr
            if is_symbol(owner, "sender") and method == "send":
                return self._sent(folded, statement)
            if is_symbol(owner, "thread") and method == "start":
                return [like(Question(_THREAD, statement), statement)]
            if is_symbol(owner, "thread") and method == "join":
                return []
        return [self._folded(statement)] if isinstance(folded, ast.Call) else []

    def _appended(
        self, call: ast.Call, statement: ast.Expr, frame: Frame, *, is_tail: bool
    ) -> list[ast.stmt] | None:
        """Return what `responses.append(...)`, or that of an output, becomes; None for other calls."""
        if not (isinstance(call.func, ast.Attribute) and call.func.attr == "append" and call.args):
            return None
        name = dotted(call.func.value)
        if name in frame.responses:
            return self._answer(call.args[0], statement, frame, is_tail=is_tail)
        output = self.folder.fold(call.args[0]) if name in frame.outputs else None
        if not is_symbol(output, "array_output", "tensor_output"):
            return None
        assert isinstance(output, Symbol)
        target = ast.Subscript(ast.Name(name, ast.Load()), ast.Constant(output.name), ast.Store())
        return [like(ast.Assign([target], Symbol("value", output.name, output)), statement)]

    def _answer(self, value: ast.expr, statement: ast.stmt, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        """Return the answer to a request, in place of a response that is added to the list."""
        response = self.folder.fold(value)
        if is_symbol(response, "error"):
            return [like(ast.Raise(response), statement)]
        inlined = self._inlined(value, statement, is_tail=is_tail) if isinstance(value, ast.Call) else None
        if inlined is not None:
            return inlined
        self._name_parts(response, frame)
        if is_tail:
            return [like(ast.Return(response), statement)]
        self._answers_early = True
        return [like(ast.Assign([ast.Name(_ANSWER, ast.Store())], response), statement)]

    def _sent(self, call: ast.Call, statement: ast.stmt) -> list[ast.stmt]:
        """Return the item that a sender sends."""
        by_name = {one.arg: one.value for one in call.keywords}
        response = call.args[0] if call.args else by_name.get("response")
        if is_symbol(response, "error"):
            assert response is not None
            return [like(ast.Raise(response), statement)]
        # What is flagged as the last needs no word: the library sends the end when the generator is done.
        return [] if response is None else [like(ast.Expr(ast.Yield(response)), statement)]

    def _assignment(
        self, statement: ast.Assign | ast.AnnAssign, frame: Frame, *, is_tail: bool
    ) -> list[ast.stmt]:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if statement.value is None:
            return [self._folded(statement)]
        pairs = _pairs(targets, statement.value)
        if pairs is not None and len(pairs) > 1:
            apart = [like(ast.Assign([target], value), statement) for target, value in pairs]
            new = [one for part in apart for one in self._assignment(part, frame, is_tail=False)]
            return new if len(new) < len(pairs) else [self._folded(statement)]
        if len(targets) != 1:
            return [self._folded(statement)]
        return self._single(targets[0], statement.value, statement, frame)

    def _single(self, target: ast.expr, value: ast.expr, statement: ast.stmt, frame: Frame) -> list[ast.stmt]:
        """Return what an assignment to one target becomes."""
        if self_attribute(target) in self.dropped or self._is_of_thread(target):
            return []
        if not isinstance(target, ast.Name):
            return [self._folded(statement)]
        if isinstance(value, ast.List) and not value.elts and target.id in frame.responses | frame.outputs:
            is_gone = target.id in frame.responses
            return [] if is_gone else [like(ast.Assign([target], ast.Dict([], [])), statement)]
        folded = self._thread(value) or self.folder.fold(value)
        self._name_parts(folded, frame)
        can_wait = isinstance(folded, Symbol) and self._can_wait(folded, target.id, frame)
        if is_symbol(folded, "array_output", "tensor_output", "response"):
            can_wait = can_wait and id(statement) in frame.adjacent
        if is_symbol(folded, *_KEPT_BY_NAME) and id(statement) in frame.rebound:
            can_wait = True
        if isinstance(folded, Symbol) and can_wait:
            folded.hint = target.id
            self.folder.names[target.id] = folded
            return []
        return self._kept(target, folded, statement, frame)

    def _is_of_thread(self, target: ast.expr) -> bool:
        """Whether a target is an attribute of a thread, such as `thread.daemon`."""
        return isinstance(target, ast.Attribute) and is_symbol(self.folder.fold(target.value), "thread")

    def _can_wait(self, symbol: Symbol, name: str, frame: Frame) -> bool:
        """Whether a symbol may be written where it is used: neither it nor what it is made of changes."""
        read = set().union(*(names_in(one) for one in ast.iter_child_nodes(symbol)))
        is_stable = not any(frame.stores[one] > 1 or one in frame.changed for one in read)
        return frame.stores[name] == 1 and name not in frame.changed and is_stable

    def _kept(self, target: ast.Name, folded: ast.expr, statement: ast.stmt, frame: Frame) -> list[ast.stmt]:
        """Return an assignment that stays one."""
        self.folder.names.pop(target.id, None)
        if is_symbol(folded, "error"):
            return [like(ast.Raise(folded), statement)]
        if isinstance(folded, Symbol) and folded.kind in _KEPT_BY_NAME and target.id in frame.changed:
            folded = Symbol("copy", folded.name, folded)
        elif isinstance(folded, Symbol) and folded.kind.endswith("_output"):
            frame.named_outputs[target.id] = folded.name
            folded = Symbol("value", folded.name, folded)
        new = copy.deepcopy(statement)
        new.value = folded  # type: ignore[attr-defined]
        return [like(new, statement)]

    def _name_parts(self, response: ast.expr, frame: Frame) -> None:
        """Turn names among a response's outputs into the outputs that they were assigned."""
        if not is_symbol(response, "response"):
            return
        assert isinstance(response, Symbol)
        for position, part in enumerate(response.parts):
            if isinstance(part, ast.Name) and part.id in frame.named_outputs:
                response.parts[position] = Symbol("done", frame.named_outputs[part.id], part)

    def _if(self, statement: ast.If, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        test = is_there(self.folder.fold(statement.test))
        if is_symbol(test, "is_cancelled"):  # the library closes the generator
            return self._block(statement.orelse, frame, is_tail=is_tail)
        if isinstance(test, ast.Constant):
            chosen = statement.body if test.value else statement.orelse
            return self._block(chosen, frame, is_tail=is_tail)
        body = self._block(statement.body, frame, is_tail=is_tail)
        orelse = self._block(statement.orelse, frame, is_tail=is_tail)
        if not body and not orelse:
            return []
        return [like(ast.If(test, body or [ast.Pass()], orelse), statement)]

    def _loop(self, statement: ast.For | ast.While, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        frame.loops += 1
        self._loops += 1
        body = self._block(statement.body, frame, is_tail=False) or [ast.Pass()]
        frame.loops -= 1
        self._loops -= 1
        orelse = self._block(statement.orelse, frame, is_tail=False)
        if isinstance(statement, ast.While):
            return [like(ast.While(self.folder.fold(statement.test), body, orelse), statement)]
        new = ast.For(copy.deepcopy(statement.target), self.folder.fold(statement.iter), body, orelse)
        return [like(new, statement)]

    def _with(self, statement: ast.With, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        expressions = [one.context_expr for one in statement.items]
        body = self._block(statement.body, frame, is_tail=is_tail)
        calls = [dotted(one.func) if isinstance(one, ast.Call) else dotted(one) for one in expressions]
        if len(calls) == 1 and (calls[0] in _NO_GRADIENTS or self_attribute(expressions[0]) in self.dropped):
            return body
        items = [
            ast.withitem(self.folder.fold(one.context_expr), one.optional_vars) for one in statement.items
        ]
        return [like(ast.With(items, body or [ast.Pass()]), statement)]

    def _try(self, statement: ast.Try, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        handlers = [
            like(
                ast.ExceptHandler(
                    None if one.type is None else self.folder.fold(one.type),
                    one.name,
                    self._block(one.body, frame, is_tail=is_tail) or [ast.Pass()],
                ),
                one,
            )
            for one in statement.handlers
        ]
        body = self._block(statement.body, frame, is_tail=is_tail and not statement.orelse) or [ast.Pass()]
        if handlers and any(
            is_symbol(getattr(one, "exc", None), "error") for part in body for one in ast.walk(part)
        ):
            # What was an answer before is an exception now, which no handler was meant for.
            handlers.insert(0, ast.ExceptHandler(ast.Name("RequestError", ast.Load()), None, [ast.Raise()]))
        new = ast.Try(
            body,
            handlers,
            self._block(statement.orelse, frame, is_tail=is_tail),
            self._block(statement.finalbody, frame, is_tail=False),
        )
        return [like(new, statement)]

    def _return(self, statement: ast.Return, frame: Frame, *, is_tail: bool) -> list[ast.stmt]:
        value = None if statement.value is None else self.folder.fold(statement.value)
        if value is None or (isinstance(value, ast.Constant) and value.value is None):
            return [] if is_tail else [like(ast.Return(None), statement)]
        if is_symbol(value, "error"):
            return [like(ast.Raise(value), statement)]
        inlined = (
            self._inlined(statement.value, statement, is_tail=True)
            if isinstance(statement.value, ast.Call)
            else None
        )
        return [like(ast.Return(value), statement)] if inlined is None else inlined

    def _thread(self, value: ast.expr) -> Symbol | None:
        """Return a symbol for a thread that runs a method of the model."""
        if isinstance(value, ast.Call) and dotted(value.func) in THREADS:
            by_name = {one.arg: one.value for one in value.keywords}
            target, args = by_name.get("target"), by_name.get("args", ast.Tuple([], ast.Load()))
            if self_attribute(target) in self.old.methods and isinstance(args, (ast.Tuple, ast.List)):
                return Symbol("thread", self_attribute(target), ast.Tuple(args.elts, ast.Load()))
        return None

    def _inlined(self, call: ast.expr, statement: ast.stmt, *, is_tail: bool) -> list[ast.stmt] | None:
        """Return the statements of a method of the model that is about the request; None for other calls."""
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            return None
        method, args = self_attribute(call.func), call.args
        started = self.folder.fold(call.func.value)
        if call.func.attr == "start" and is_symbol(started, "thread"):
            assert isinstance(started, Symbol)
            assert isinstance(started.value, ast.Tuple)
            method, args, is_tail = started.name, started.value.elts, not self._loops
        elif call.func.attr == "submit" and args and self_attribute(args[0]):
            method, args, is_tail = self_attribute(args[0]), args[1:], not self._loops
        function = self.old.methods.get(method)
        folded = [self.folder.fold(one) for one in args]
        is_about = any(
            True for one in folded for symbol in symbols_in(one) if symbol.kind in ("request", "sender")
        )
        if function is None or not is_about or method in self._active or call.keywords:
            return None
        parameters = [one.arg for one in function.args.args if one.arg != "self"]
        returns = any(isinstance(one, ast.Return) for one in ast.walk(function))
        if len(parameters) != len(folded) or (returns and not is_tail):
            return None
        stored = set().union(*(names_in(one, ast.Store) for one in function.body))
        if not is_tail and stored & set().union(*self._scopes):
            return None  # its variables would be those of its caller
        return self._method_body(
            function, dict(zip(parameters, folded, strict=True)), statement, is_tail=is_tail
        )

    def _method_body(
        self, function: ast.FunctionDef, arguments: dict[str, ast.expr], statement: ast.stmt, *, is_tail: bool
    ) -> list[ast.stmt]:
        body = without_docstring(function.body)
        frame = Frame.of(body)
        before = self.folder.names
        self.folder.names = dict(before)
        found: list[ast.stmt] = []
        for name, value in arguments.items():
            is_fixed = not frame.stores[name] and name not in frame.changed
            if is_fixed and isinstance(value, (Symbol, ast.Name, ast.Constant)):
                if isinstance(value, Symbol):
                    value.hint = name
                self.folder.names[name] = value
                continue
            self.folder.names.pop(name, None)
            is_input = isinstance(value, Symbol) and value.kind in _KEPT_BY_NAME
            kept = Symbol("copy", value.name, value) if is_input else value  # type: ignore[attr-defined]
            if dotted(kept) != name:
                found.append(like(ast.Assign([ast.Name(name, ast.Store())], kept), statement))
        self._active.append(function.name)
        self._scopes.append(set().union(*map(names_in, body)))
        found += self._block(body, frame, is_tail=is_tail)
        self._scopes.pop()
        self._active.pop()
        self.inlined.add(function.name)
        self.folder.names = before
        return found


def _changed_by(call: ast.Call) -> set[str]:
    """Return the names that a call changes in place, as far as its own name tells."""
    changed = {dotted(one.value) for one in call.keywords if one.arg == "out"}
    if isinstance(call.func, ast.Attribute):
        method = call.func.attr
        is_in_place = method in _MUTATORS or (method.endswith("_") and not method.endswith("__"))
        changed |= {dotted(call.func.value)} if is_in_place else set()
    return changed - {""}


def _is_rebound(statement: ast.stmt, rest: Sequence[ast.stmt]) -> bool:
    """Whether what comes next for an assigned name is another assignment to it, as in `x = f(x)`."""
    name = _only_name(statement)
    later = next((one for one in rest if name in names_in(one) | names_in(one, ast.Store)), None)
    return bool(name) and later is not None and _only_name(later) == name


def _only_name(statement: ast.stmt) -> str:
    is_plain = isinstance(statement, ast.Assign) and len(statement.targets) == 1
    return dotted(statement.targets[0]) if is_plain else ""  # type: ignore[attr-defined]


def _is_loud(statement: ast.stmt) -> bool:
    """Whether an output's value calls anything, so that it matters when it is made."""
    value = getattr(statement, "value", None)
    calls = [one for one in ast.walk(value) if isinstance(one, ast.Call)] if value is not None else []
    return any(
        getattr(one.func, "attr", "")
        not in _QUIET | {"Tensor", "from_dlpack", "InferenceResponse", "TritonError"}
        and dotted(one.func) not in TO_DLPACK
        and not dotted(one.func).startswith(("np.", "numpy.", "torch."))
        for one in calls
    ) or any("random" in dotted(one.func) for one in calls)


def _reads(node: ast.AST, names: set[str]) -> int:
    return sum(
        isinstance(one, ast.Name) and one.id in names and isinstance(one.ctx, ast.Load)
        for one in ast.walk(node)
    )


class Question(ast.stmt):
    """A statement that has to be ported by hand.

    Args:
        text: what is to be decided.
        statement: as it was.
    """

    _fields = ()

    def __init__(self, text: str, statement: ast.stmt) -> None:
        super().__init__()
        self.text = text
        self.statement = statement


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return the statements behind a docstring."""
    is_documented = bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    return body[1:] if is_documented else body


def _pairs(targets: Sequence[ast.expr], value: ast.expr) -> list[tuple[ast.expr, ast.expr]] | None:
    """Return the pairs of `a, b = x, y`."""
    if len(targets) == 1 and isinstance(targets[0], ast.Tuple) and isinstance(value, ast.Tuple):
        left, right = targets[0].elts, value.elts
        read = set().union(*(names_in(one) for one in right))
        stored = names_in(targets[0], ast.Store)
        if len(left) == len(right) and not read & stored:
            return list(zip(left, right, strict=True))
    return None


Node = TypeVar("Node", bound=ast.AST)


def like(new: Node, old: ast.AST) -> Node:
    """Give a node the place of an old one, and remember it."""
    ast.copy_location(new, old)
    new.origin = getattr(old, "origin", old)  # type: ignore[attr-defined]
    return new
