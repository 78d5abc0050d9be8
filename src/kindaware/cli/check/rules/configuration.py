"""Rules about config.pbtxt."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from kindaware._authoring.config_tree import Message
from kindaware._config.settings import PLACEMENT_SETTINGS, PREFIX, RELOADS, SETTING_NAMES
from kindaware._errors import ConfigError
from kindaware.cli.check._registry import Found, rule
from kindaware.cli.check._subject import Subject
from kindaware.testing.arguments import new_config

_OF_THE_LIBRARY = re.compile(r"kind_?aware[\W_]", re.IGNORECASE)


def unknown_fields(subject: Subject) -> list[tuple[str, str, int, Sequence[str]]]:
    """Return the fields that no configuration has: message, name, line, and the known names."""
    return list(_unknown(subject, subject.tree, new_config().DESCRIPTOR))


def _unknown(
    subject: Subject, message: Message, descriptor: Any
) -> Iterator[tuple[str, str, int, Sequence[str]]]:
    known = descriptor.fields_by_name
    for one in message.fields:
        if one.name not in known:
            yield descriptor.name, one.name, subject.tree.line(one.start), list(known)
        elif known[one.name].message_type is not None:
            for value in one.values:
                if value.message is not None:
                    yield from _unknown(subject, value.message, known[one.name].message_type)


@rule("KA201", "error", "config.pbtxt has an unknown field")
def unknown_field(subject: Subject) -> Iterator[Found]:
    """A server does not load it."""
    for message, name, line, known in unknown_fields(subject):
        where = "the configuration" if message == "ModelConfig" else message
        yield Found(f"{where} has no field {name!r}", _nearest(name, known, "remove it"), line=line)


@rule("KA202", "error", "config.pbtxt can't be read")
def unreadable(subject: Subject) -> Iterator[Found]:
    """Its text is not what protobuf expects."""
    if subject.config_error is not None and not unknown_fields(subject):
        text = str(subject.config_error)
        at = re.search(r"line (\d+)", text)
        found = re.search(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\); ", text)
        yield Found(
            f"config.pbtxt can't be read: {found[1] if found else text}",
            "correct it; kindaware config writes one that can be read",
            line=int(at[1]) if at else 0,
        )


@rule("KA203", "error", "a server refuses the configuration")
def refused(subject: Subject) -> Iterator[Found]:
    """With the server's words."""
    if subject.arguments is None or not subject.is_python:
        return
    try:
        subject.arguments.validate()
    except ConfigError as error:
        reason = str(error).partition("got the server's refusal: ")[2].rpartition("; ")[0]
        yield Found(
            f"a server refuses it: {reason or error}", "correct the field", line=_line_named(subject, reason)
        )


@rule("KA211", "error", "nothing says which inputs and outputs the model has")
def no_tensors(subject: Subject) -> Iterator[Found]:
    """Neither config.pbtxt nor the class."""
    code = subject.code
    if code is None or subject.tree.find("input") or subject.tree.find("output") or subject.config_error:
        return
    is_declared = any(code.mentions(name) for name in ("add_input", "add_output", "inputs", "outputs"))
    if code.bases_are_known and not is_declared:
        is_there = "has no input and no output" if subject.config_text else "is not there"
        yield Found(
            f"config.pbtxt {is_there}, and the class declares none",
            "write them into config.pbtxt, or declare inputs and outputs in the class"
            if code.is_kindaware
            else "write them into config.pbtxt",
        )


@rule("KA204", "warning", "there is no instance_group, so the server chooses where the model runs")
def no_instance_group(subject: Subject) -> Iterator[Found]:
    """One instance per GPU, or one on the CPU where it sees none."""
    is_model = subject.is_python and subject.code_file is not None and not subject.config_error
    if is_model and not subject.tree.find("instance_group"):
        yield Found(
            "there is no instance_group: the server starts an instance on each GPU that it sees, else one on "
            "the CPU",
            "add instance_group [ { kind: KIND_CPU } ], or KIND_GPU",
        )


@rule("KA205", "warning", "there are more CPU instances than cores")
def too_many_instances(subject: Subject) -> Iterator[Found]:
    """They take turns, and each has its own copy of the model."""
    count = sum(count for kind, count, _ in subject.groups() if kind == "KIND_CPU")
    cores = subject.machine.num_cores
    if subject.is_python and count > cores:
        yield Found(
            f"{count} instances on the CPU share {cores} core{'s' if cores > 1 else ''}",
            f"lower count to {cores} or less, unless the instances mostly wait",
            line=subject.tree.line_of("instance_group"),
        )


@rule("KA206", "warning", "the model batches, and dynamic batching is off", stage="machine")
def no_dynamic_batching(subject: Subject) -> Iterator[Found]:
    """The server hands over one request at a time."""
    config = subject.config
    has_batcher = "dynamic_batching" in config or "sequence_batching" in config
    if subject.is_python and subject.max_batch_size > 1 and not has_batcher and not subject.is_decoupled:
        yield Found(
            f"max_batch_size is {subject.max_batch_size}, and the server hands over one request at a time: "
            "dynamic batching is off",
            "add dynamic_batching { }",
            line=subject.tree.line_of("max_batch_size"),
        )


@rule("KA207", "warning", "dynamic batching is on, and max_batch_size is 0", stage="machine")
def nothing_to_batch(subject: Subject) -> Iterator[Found]:
    """Requests of a model that doesn't batch are never joined."""
    if "dynamic_batching" in subject.config and subject.max_batch_size == 0:
        yield Found(
            "dynamic_batching has no effect: max_batch_size is 0",
            "set max_batch_size, and leave the batch dimension out of dims",
            line=subject.tree.line_of("dynamic_batching"),
        )


@rule("KA208", "error", "there is an unknown kindaware.* parameter")
def unknown_parameter(subject: Subject) -> Iterator[Found]:
    """The library refuses it when the model loads."""
    code = subject.code
    if code is None or not (code.is_kindaware or code.is_placed):
        return
    known = PLACEMENT_SETTINGS if code.is_placed else SETTING_NAMES
    for key, place in subject.tree.parameters().items():
        name = key.removeprefix(PREFIX)
        if key != RELOADS and _OF_THE_LIBRARY.match(key) and not (key.startswith(PREFIX) and name in known):
            bare = re.sub(r"(?i)^kind_?aware[\W_]", "", key)
            yield Found(
                f"there is no setting {key!r}",
                _nearest(bare.lower(), known, "remove it", prefix=PREFIX),
                line=subject.tree.line(place.start),
            )


@rule("KA209", "warning", "there is a kindaware.* parameter, and the model doesn't use kindaware")
def foreign_parameter(subject: Subject) -> Iterator[Found]:
    """Nothing reads it."""
    code = subject.code
    if code is None or code.is_kindaware or code.is_placed or code.mentions("KindAwareModel"):
        return
    for key, place in subject.tree.parameters().items():
        if _OF_THE_LIBRARY.match(key):
            yield Found(
                f"{key!r} has no effect on a class that isn't the library's",
                "remove it, or derive from KindAwareModel or DevicePlacement",
                line=subject.tree.line(place.start),
            )


@rule("KA210", "hint", "dims seem to have the batch dimension in them")
def batch_in_dims(subject: Subject) -> Iterator[Found]:
    """With max_batch_size above 0 Triton puts one in front of dims."""
    if not subject.max_batch_size:
        return
    for kind in ("input", "output"):
        for one in subject.tree.messages(kind):
            dims = [value.text for value in one.values("dims")]
            if len(dims) > 3 and dims[0] == "-1" and "-1" not in dims[1:]:
                yield Found(
                    f"{kind} {one.text('name')!r}: the first dimension looks like the batch's, which Triton "
                    f"puts in front of dims since max_batch_size is {subject.max_batch_size}",
                    f"leave it out: dims: [ {', '.join(dims[1:])} ]",
                    line=subject.tree.line(one.find("dims")[0].start),
                )


def _nearest(name: str, known: Sequence[str], otherwise: str, prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {prefix}{close[0]}?" if close else otherwise


def _line_named(subject: Subject, reason: str) -> int:
    """Return the line of the tensor, or of the field, that a refusal names."""
    for kind in ("input", "output"):
        for place in subject.tree.find(kind):
            for value in place.values:
                if value.message is not None and f"'{value.message.text('name')}'" in reason:
                    return subject.tree.line(value.start)
    named = [one for one in subject.tree.fields if one.name.replace("_", " ") in reason.replace("_", " ")]
    return subject.tree.line(named[-1].start) if named else 0
