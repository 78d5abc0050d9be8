"""Rules about how the model ran."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kindaware._tensors.dtypes import find_dtype
from kindaware.cli._harness_errors import MISSING_MODEL
from kindaware.cli.check._registry import Found, rule
from kindaware.cli.check._subject import Subject

_PARTS = re.compile(r"(?s)^(?P<text>.*: expected .*, got .*?); (?P<remedy>[^;]+?)( \(seen in .*\))?$")
_ABOUT_OUTPUT = re.compile(r"output '(?P<name>[^']+)': expected (shape|data type)")

_OF_THE_SERVER = re.compile(r"^Failed to process the request\(s\) for model '[^']*', message: ")


def _error(subject: Subject, *kinds: str) -> dict[str, Any] | None:
    error = subject.trial.error if subject.trial is not None else None
    return error if error is not None and error["kind"] in kinds else None


def _place(subject: Subject, error: dict[str, Any]) -> tuple[int, Path | None]:
    """Return line and file of an error; the file as a whole is that of the code."""
    root = Path.cwd()
    file = Path(error["file"]) if error["file"] else None
    if file is not None and not subject.folder.is_absolute() and file.is_relative_to(root):
        file = file.relative_to(root)
    return error["line"], file or subject.code_file


def _split(text: str, otherwise: str) -> tuple[str, str]:
    """Return an error of the library's as text and remedy; of another the remedy is `otherwise`."""
    found = _PARTS.match(text)
    return (found["text"], found["remedy"]) if found else (text, otherwise)


@rule("KA401", "error", "the model doesn't load", stage="run")
def does_not_load(subject: Subject) -> Iterator[Found]:
    """What its code, or the library, raised."""
    error = _error(subject, "load")
    if error is not None and not _ABOUT_OUTPUT.search(error["text"]):
        text, remedy = _split(error["text"], "correct it")
        yield Found(f"it doesn't load: {text}", remedy, *_place(subject, error))


@rule("KA402", "error", "the request failed", stage="run")
def request_failed(subject: Subject) -> Iterator[Found]:
    """A warning where the values, made-up texts or chosen sizes, may be to blame."""
    request = subject.trial.request if subject.trial is not None else None
    error = request.get("error") if request is not None else None
    if request is None or error is None or _ABOUT_OUTPUT.search(error["text"]):
        return
    sent = ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in request["inputs"].items())
    text, remedy = _split(_OF_THE_SERVER.sub("", error["text"]), "correct it")
    line, file = _place(subject, error)
    if missing := MISSING_MODEL.search(text):
        yield Found(
            f"it calls model {missing['name']!r}, which is not beside it",
            "check it in a repository that has both",
            line,
            file,
            level="warning",
        )
        return
    is_refused = error["code"] in ("INVALID_ARG", "UNSUPPORTED")
    if request["has_made_up_values"] or is_refused:
        yield Found(
            f"a request of zeros and made-up texts ({sent}) "
            f"{'was refused' if is_refused else 'failed'}: {text}",
            "if the values are to blame, define warmup_inputs(rows), or pass --shape for sizes",
            line,
            file,
            level="hint" if is_refused else "warning",
        )
    else:
        yield Found(f"a request of zeros ({sent}) failed: {text}", remedy, line, file)


@rule("KA403", "error", "outputs don't have the dims and types that config.pbtxt says", stage="run")
def outputs_differ(subject: Subject) -> Iterator[Found]:
    """A client that goes by the metadata reads something else; the library refuses to send it."""
    request = subject.trial.request if subject.trial is not None else None
    error = _error(subject, "load") or (request or {}).get("error")
    if error is not None and (about := _ABOUT_OUTPUT.search(error["text"])):
        yield Found(*_split(error["text"], "correct it"), _place_of_output(subject, about["name"]))
    if request is None or error is not None:
        return
    declared = {one["name"]: one for one in subject.config.get("output", [])}
    for name, (dtype, shape) in request["outputs"].items():
        place = _place_of_output(subject, name)
        wanted = find_dtype(declared[name]["data_type"], "data_type")
        row = shape[1:] if subject.max_batch_size else shape
        dims = [int(size) for size in declared[name]["dims"]]
        if not declared[name].get("reshape") and not _fits(row, dims):
            yield Found(
                f"output {name!r} has the shape {shape}, and dims are {dims}"
                + (" behind the batch dimension" if subject.max_batch_size else ""),
                f"set dims: [ {', '.join(map(str, row))} ], or correct what the model returns",
                place,
            )
        if dtype != (
            str(wanted.numpy)
            if wanted.numpy is not None and wanted.torch is not None
            else _other_name(wanted)
        ):
            yield Found(
                f"output {name!r} has the type {dtype}, and data_type is {declared[name]['data_type']}",
                "correct data_type, or convert what the model returns",
                place,
            )
    if not subject.is_decoupled:
        for name in sorted(declared.keys() - request["outputs"].keys()):
            yield Found(
                f"the answer lacks the output {name!r}",
                "return it, or remove it from config.pbtxt",
                _place_of_output(subject, name),
            )


def _other_name(dtype: Any) -> str:
    return "BYTES" if dtype.torch is None else str(dtype.torch).removeprefix("torch.")


def _fits(row: list[int], dims: list[int]) -> bool:
    return len(row) == len(dims) and all(want in (-1, size) for want, size in zip(dims, row, strict=True))


def _place_of_output(subject: Subject, name: str) -> int:
    for place in subject.tree.find("output"):
        for value in place.values:
            if value.message is not None and value.message.text("name") == name:
                return subject.tree.line(value.start)
    return subject.tree.line_of("output")


@rule("KA404", "error", "the model hangs", stage="run")
def hangs(subject: Subject) -> Iterator[Found]:
    """It waits for what never comes, or takes longer than --timeout."""
    if error := _error(subject, "hang"):
        outcome = error["text"].partition(": the server would ")[2].partition("; let it return")[0]
        yield Found(f"a server would {outcome}", "let it return", *_place(subject, error))
    if error := _error(subject, "late"):
        yield Found(error["text"], "let it return, or pass a longer --timeout", *_place(subject, error))


@rule("KA405", "error", "the model does what crashes a server, or leaves a client waiting", stage="run")
def breaks_the_server(subject: Subject) -> Iterator[Found]:
    """See the contract of the harness."""
    if error := _error(subject, "contract"):
        text, _, remedy = error["text"].rpartition("; ")
        yield Found(text.partition(": ")[2] or text, remedy, *_place(subject, error))


@rule("KA406", "error", "the model ends its process", stage="run")
def ends_its_process(subject: Subject) -> Iterator[Found]:
    """`sys.exit`, `os._exit`, or a crash; a server doesn't start the process again."""
    if error := _error(subject, "exit", "death"):
        line, file = _place(subject, error)
        exits = list(subject.code.calls("_exit", "abort")) if subject.code is not None else []
        yield Found(
            f"the model ends its process: {error['text']}",
            "raise an error in place of an exit",
            line or (exits[0].lineno if exits else 0),
            file,
        )


@rule("KA407", "hint", "the model prints", stage="run")
def prints(subject: Subject) -> Iterator[Found]:
    """Standard output of a server's processes has no level and no model's name."""
    lines = [line for line in (subject.trial.output if subject.trial else "").splitlines() if line.strip()]
    calls = list(subject.code.calls("print")) if subject.code is not None else []
    others = [Subject(path, subject.machine).code for path in subject.called()]
    others_print = any(code is None or any(code.calls("print")) for code in others)
    if others_print and not calls:
        return  # those of a model that it calls, which says so in a check of its own
    if lines and subject.trial and not subject.trial.error:
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        # Which of the lines are whose can't be told.
        what = "" if others_print else f" {lines[0].strip()[:80]!r}{more}"
        own = "self.logger" if subject.code is not None and subject.code.is_kindaware else "pb_utils.Logger"
        yield Found(
            f"it prints{what}",
            f"use {own}, whose lines are in the server's log with level and model",
            calls[0].lineno if calls else 0,
            subject.code_file,
        )


_IS_WEIGHTS = re.compile(r"(?i)weights|checkpoint|state.?dict")
_IS_FILE = re.compile(r"(?i)\bno\b.*\bfile|not found|missing|does not exist|isn't there|not there|random")


def _remedy_of_warning(text: str) -> str:
    if _IS_WEIGHTS.search(text) and _IS_FILE.search(text):
        return (
            "put the file of weights where the model looks for it; until then it answers with random numbers"
        )
    return "change what the warning names, in the model's code or in config.pbtxt"


@rule("KA408", "warning", "the model, or the library, warns in the log", stage="run")
def warns(subject: Subject) -> Iterator[Found]:
    """As a server's log would have it."""
    if subject.trial is None or subject.trial.error is not None or (subject.trial.request or {}).get("error"):
        return
    for text in dict.fromkeys(text for level, text in subject.trial.log if level == "WARNING"):
        yield Found(
            f"it warns: {text.splitlines()[0][:300]}",
            _remedy_of_warning(text),
            0,
            subject.code_file,
        )
