"""Rules about model.py, by its syntax."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator

from kindaware._hooks.binding import RESERVED_PARAMETERS
from kindaware.cli.check._code import CLASS, literal
from kindaware.cli.check._registry import Found, rule
from kindaware.cli.check._subject import Subject


@rule("KA301", "error", "model.py is not Python")
def syntax(subject: Subject) -> Iterator[Found]:
    """Python can't parse it."""
    error = subject.syntax_error
    if error is not None:
        line = getattr(error, "lineno", 0) or 0
        yield Found(
            f"Python can't parse it: {getattr(error, 'msg', error)}", "correct it", line, subject.code_file
        )


@rule("KA302", "error", "model.py has no class TritonPythonModel")
def no_class(subject: Subject) -> Iterator[Found]:
    """Triton looks for that name alone."""
    code = subject.code
    if code is None or code.defines_name:
        return
    classes = {one.name: one for one in code.classes()}
    close = difflib.get_close_matches(CLASS, classes, n=1, cutoff=0.4) or list(classes)[:1]
    yield Found(
        f"there is no class {CLASS}",
        f"rename {close[0]} to it" if close else f"write class {CLASS}(KindAwareModel)",
        classes[close[0]].lineno if close else 0,
        subject.code_file,
    )


@rule("KA303", "error", "the class has nothing that answers requests")
def no_answer(subject: Subject) -> Iterator[Found]:
    """`execute`, or with the library `forward`, `stream` or `step`."""
    code = subject.code
    if code is None or code.model_class is None:
        return
    methods = code.methods()
    wanted = ("forward", "stream", "step") if code.is_kindaware else ("execute",)
    if code.bases_are_known and not any(name in methods for name in wanted):
        close = difflib.get_close_matches(wanted[0], methods, n=1)
        yield Found(
            f"the class defines no {' and no '.join(wanted)}",
            f"rename {close[0]} to {wanted[0]}" if close else f"define {wanted[0]}",
            methods[close[0]].lineno if close else code.model_class.lineno,
            subject.code_file,
        )


@rule("KA304", "error", "inputs don't match the parameters of forward")
def parameters_of_forward(subject: Subject) -> Iterator[Found]:
    """By keyword where the names are equal, by position where none is; nothing between."""
    code = subject.code
    hook = code.hook() if code is not None and code.is_kindaware else None
    inputs = [one.text("name") for one in subject.tree.messages("input")]
    if code is None or hook is None or not inputs or "preprocess" in code.methods():
        return
    arguments = hook.args
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
        return
    names = [one.arg for one in (*arguments.args[1:], *arguments.kwonlyargs)]
    own = [name for name in names if name in inputs or name not in RESERVED_PARAMETERS]
    missing = [name for name in inputs if name not in own]
    if missing and len(missing) < len(inputs):
        others = {one.lower(): one for one in own if one not in inputs}
        close = [others[one] for one in difflib.get_close_matches(missing[0].lower(), others, n=1)]
        yield Found(
            f"{hook.name}({', '.join(names)}) has no parameter for input {missing[0]!r}",
            f"rename {close[0]} to {missing[0]}" if close else "name its parameters after the inputs",
            hook.lineno,
            subject.code_file,
        )
    elif missing and len(own) != len(inputs):
        yield Found(
            f"{hook.name}({', '.join(names)}) has {len(own)} parameters, and there are {len(inputs)} inputs: "
            f"{', '.join(inputs)}",
            "name its parameters after the inputs",
            hook.lineno,
            subject.code_file,
        )
    elif missing and len(inputs) > 1:
        yield Found(
            f"{hook.name}({', '.join(names)}) gets the inputs {', '.join(inputs)} by position",
            "name its parameters after the inputs, so that their order doesn't matter",
            hook.lineno,
            subject.code_file,
            level="hint",
        )


@rule("KA305", "error", "model.py asks for an input, or makes an output, that config.pbtxt doesn't have")
def names_in_code(subject: Subject) -> Iterator[Found]:
    """For a hand-written model: the names in its calls of Triton's functions."""
    code = subject.code
    # A model that completes its configuration, or calls others, has names of its own.
    if code is None or code.is_kindaware or code.mentions("add_input") or code.mentions("InferenceRequest"):
        return
    for function, position, kind, known in (
        ("get_input_tensor_by_name", 1, "input", subject.inputs()),
        ("Tensor", 0, "output", subject.outputs()),
    ):
        for call in code.calls(function):
            name = literal(call.args[position]) if len(call.args) > position else None
            is_triton = function != "Tensor" or _is_of_pb_utils(call.func)
            if name is None or not is_triton or not known or name in known:
                continue
            close = difflib.get_close_matches(name, known, n=1)
            yield Found(
                f"{name!r} is no {kind} of config.pbtxt, which has {', '.join(known)}",
                f"did you mean {close[0]!r}?" if close else "correct one of the two",
                call.lineno,
                subject.code_file,
            )


def _is_of_pb_utils(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and "torch" not in function.value.id
    )


@rule("KA306", "error", "the model is decoupled, and nothing in it sends responses one by one")
def decoupled_without_stream(subject: Subject) -> Iterator[Found]:
    """With the library that is `stream` or `step`; by hand it is a response sender."""
    code = subject.code
    policy = subject.tree.messages("model_transaction_policy")
    if code is None or not any(one.text("decoupled").lower() in ("true", "t", "1") for one in policy):
        return
    line = subject.tree.line_of("model_transaction_policy")
    if code.is_kindaware and not {"stream", "step"} & code.methods().keys():
        yield Found(
            "decoupled is true, and the class defines no stream and no step",
            "define stream, a generator, or begin and step; or remove model_transaction_policy",
            line,
        )
    elif "execute" in code.methods() and not code.mentions("get_response_sender"):
        yield Found(
            "decoupled is true, and execute gets no response sender: what it returns is an error then",
            "send the responses with request.get_response_sender(), or remove model_transaction_policy",
            line,
        )


@rule("KA307", "error", "the class streams, and config.pbtxt says that it isn't decoupled")
def stream_without_decoupled(subject: Subject) -> Iterator[Found]:
    """Without a policy the library declares it; `decoupled: false` stands."""
    code = subject.code
    if code is None or not subject.config_text:
        return
    methods = code.methods()
    policy = subject.tree.messages("model_transaction_policy")
    line = subject.tree.line_of("model_transaction_policy")
    is_off = any(one.text("decoupled").lower() in ("false", "f", "0") for one in policy)
    streaming = [name for name in ("stream", "step") if name in methods]
    if code.is_kindaware and is_off and streaming and "forward" not in methods:
        yield Found(
            f"the class defines {streaming[0]} and no forward, and decoupled is false",
            "set decoupled: true, or define forward",
            line,
        )
    senders = list(code.calls("get_response_sender"))
    if (
        not code.is_kindaware
        and senders
        and (is_off or not policy)
        and not code.mentions("set_model_transaction_policy")
    ):
        yield Found(
            "it uses a response sender, and isn't decoupled: each request may get one response only",
            "add model_transaction_policy { decoupled: true }, or return the responses",
            senders[0].lineno,
            subject.code_file,
            level="warning",
        )


@rule("KA308", "warning", "the code chooses a GPU by itself, so that every instance lands on the same one")
def any_gpu(subject: Subject) -> Iterator[Found]:
    """`.cuda()`, `"cuda"` or `"cuda:0"`, whatever instance_group says."""
    code = subject.code
    if code is None:
        return
    calls = [one.lineno for one in code.calls("cuda") if not one.args]
    fixed = [
        node.lineno
        for node in ast.walk(code.tree)
        if isinstance(node, ast.Constant) and node.value in ("cuda", "cuda:0")
    ]
    remedy = (
        "leave it out: self.device is the instance's"
        if code.is_kindaware
        else "take the GPU of args['model_instance_device_id'], or derive from kindaware.DevicePlacement"
    )
    for line in sorted({*calls, *fixed})[:1]:
        if code.is_kindaware or not code.mentions_text("model_instance_device_id"):
            yield Found(
                "every instance lands on the same GPU, whatever instance_group says",
                remedy,
                line,
                subject.code_file,
            )
