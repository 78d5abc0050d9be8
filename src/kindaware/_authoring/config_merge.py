"""What a class declares, brought into a config.pbtxt that is there; all else stays as it is written."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from kindaware._authoring.config_tree import ConfigTree, Field, Message, Value
from kindaware._authoring.config_writer import write_fields

_OF_TENSOR = ("data_type", "dims", "optional")
"""What a declaration says about a tensor beside its name."""

_ORDER = ("name", "platform", "backend", "max_batch_size", "input", "output", "instance_group")
"""Where a field goes that the text lacks: behind those before it here that it has."""


def merge_config(text: str, declared: Mapping[str, Any]) -> str:
    """Return a config.pbtxt that says what a class declares; comments and other fields stay.

    The operator's part stands: a smaller `max_batch_size`, a transaction policy, and, where the text names
    inputs, that it has no dynamic batching. A tensor that the class doesn't declare stays too.

    Args:
        text: the config.pbtxt as it is; protobuf can read it.
        declared: fields as auto-complete has written them: `input`, `output`, `max_batch_size`,
            `dynamic_batching` and `model_transaction_policy`.
    """
    edits = _Edits(text)
    tree = edits.tree
    is_bare = not tree.values("input")
    size = int(declared.get("max_batch_size", 0))
    written = tree.text("max_batch_size")
    current = int(written) if written.isdecimal() else 0
    if size and (current == 0 or current > size):
        edits.set(tree, "max_batch_size", size)
    for kind in ("input", "output"):
        _merge_tensors(edits, kind, declared.get(kind, ()))
    if "model_transaction_policy" in declared and not tree.find("model_transaction_policy"):
        edits.add("model_transaction_policy", declared["model_transaction_policy"])
    has_batcher = tree.find("dynamic_batching") or tree.find("sequence_batching")
    if is_bare and "dynamic_batching" in declared and not has_batcher:
        edits.add("dynamic_batching", declared["dynamic_batching"])
    return edits.apply()


def _merge_tensors(edits: _Edits, kind: str, tensors: Sequence[Mapping[str, Any]]) -> None:
    written = {one.text("name"): one for one in edits.tree.messages(kind)}
    for tensor in tensors:
        there = written.get(tensor["name"])
        for name in _OF_TENSOR:
            if there and name in tensor and _plain(there.values(name)) != _plain_of(tensor[name]):
                edits.set(there, name, tensor[name])
    if missing := [tensor for tensor in tensors if tensor["name"] not in written]:
        edits.add_elements(kind, missing)


def _plain(values: Sequence[Value]) -> list[str]:
    return [value.text for value in values]


def _plain_of(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in values]


class _Edits:
    """Changes to a text, applied together."""

    def __init__(self, text: str) -> None:
        self.tree = ConfigTree(text)
        self._text = text
        self._changes: list[tuple[int, int, str]] = []

    def apply(self) -> str:
        """Return the changed text."""
        pieces, done = [], 0
        for start, end, new in sorted(self._changes, key=lambda one: one[0]):
            pieces += [self._text[done:start], new]
            done = end
        return "".join([*pieces, self._text[done:]])

    def set(self, message: Message, name: str, value: Any) -> None:
        """Set a field of a message to a value; a second place of the same field goes away."""
        places = message.find(name)
        new = _one_field(name, value)
        if not places:
            self._insert(message, name, new)
            return
        first, *others = places
        self._change(first.start, first.end, new)
        for one in others:
            self._change(self._start_of_blank(one.start), one.end, "")

    def add(self, name: str, value: Any) -> None:
        """Add a field to the configuration."""
        self._insert(self.tree, name, write_fields({name: value}).rstrip("\n"))

    def add_elements(self, name: str, messages: Sequence[Mapping[str, Any]]) -> None:
        """Add messages to a field that is repeated: to its last list, else as a list of their own."""
        lists = [one for one in self.tree.find(name) if one.is_list and one.values]
        if not lists:
            self.add(name, messages)
            return
        last = lists[-1].values[-1]
        for message in messages:
            lines = write_fields({"": [message, {}]}).splitlines()[1:-2]
            new = textwrap.indent(textwrap.dedent("\n".join(lines)), self._indent(last.start))
            self._change(last.end, last.end, f",\n{new.rstrip(',')}")

    def _insert(self, message: Message, name: str, new: str) -> None:
        """Insert a field behind those that usually stand before it, or as the last."""
        if message is not self.tree:
            self._insert_last(message, new)
            return
        earlier = _ORDER[: _ORDER.index(name) + 1] if name in _ORDER else [one.name for one in message.fields]
        before = [one for one in message.fields if one.name in earlier]
        if before:
            place = self._end_of_line(before[-1].end)
            self._change(place, place, f"\n{new}")
        else:
            place = message.fields[0].start if message.fields else len(self._text)
            self._change(place, place, f"{new}\n")

    def _insert_last(self, message: Message, new: str) -> None:
        last: Field | None = message.fields[-1] if message.fields else None
        if last is None:
            self._change(message.end, message.end, f" {new} ")
            return
        is_one_line = "\n" not in self._text[last.end : message.end]
        separator = " " if is_one_line else "\n" + self._indent(last.start)
        self._change(last.end, last.end, separator + new)

    def _change(self, start: int, end: int, new: str) -> None:
        self._changes.append((start, end, new))

    def _start_of_blank(self, place: int) -> int:
        return len(self._text[:place].rstrip())

    def _end_of_line(self, place: int) -> int:
        """Return where a line ends, unless something other than a comment follows on it."""
        end = self._text.find("\n", place)
        end = len(self._text) if end < 0 else end
        rest = self._text[place:end].lstrip(" \t,;")
        return end if not rest or rest.startswith("#") else place

    def _indent(self, place: int) -> str:
        line = self._text[self._text.rfind("\n", 0, place) + 1 : place]
        return line[: len(line) - len(line.lstrip())] or "  "


def _one_field(name: str, value: Any) -> str:
    return " ".join(write_fields({name: value}).split("\n")).strip()
