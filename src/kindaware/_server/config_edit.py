"""Changes to single values of a config.pbtxt, which leave comments and layout as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kindaware._errors import ConfigError

_TOKEN = re.compile(r'#[^\n]*|\s+|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[\w.+-]+|.', re.DOTALL)
_CLOSING = {"{": "}", "<": ">"}
_OWN, _PARAMETER = "kindaware.", "parameters."
_PATH = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")


@dataclass(frozen=True)
class _Value:
    """A value in the text: from `start` to `end`; of a message, `fields` are those in it."""

    start: int
    end: int
    fields: tuple[_Field, ...] | None


@dataclass(frozen=True)
class _Field:
    """A field in the text, with its value, or the values of its list."""

    name: str
    start: int
    values: tuple[_Value, ...]


@dataclass(frozen=True)
class _Change:
    """Text that takes the place of what is between `start` and `end`."""

    start: int
    end: int
    text: str


def change_config(text: str, settings: Mapping[str, str]) -> str:
    """Return a config.pbtxt with settings changed, and with those added that it lacks.

    Args:
        text: what is in the file.
        settings: values by key. `kindaware.NAME` and `parameters.NAME` are parameters; any other key is the
            path of a field, such as `max_batch_size`, `instance_group.count` or
            `dynamic_batching.max_queue_delay_microseconds`. Every element of a list is changed.

    Raises:
        ConfigError: a key is no path of a field, or the text can't be read as a configuration.
    """
    for key, value in settings.items():
        text = _change(text, key, value)
    return text


def read_setting(text: str, key: str) -> str | None:
    """Return the value that a configuration has for a setting, without quotes; None if it has none.

    Of a list of several elements it is the value of the first that has one.

    Raises:
        ConfigError: the text can't be read as a configuration.
    """
    fields = tuple(_Parser(text).message(""))
    if not key.startswith((_OWN, _PARAMETER)):
        return _read(text, _Value(0, len(text), fields), key.split("."))
    name = key.removeprefix(_PARAMETER)
    for field in fields:
        for entry in field.values if field.name == "parameters" else ():
            if _read(text, entry, ["key"]) == name:
                return _read(text, entry, ["value", "string_value"])
    return None


def _read(text: str, message: _Value, path: Sequence[str]) -> str | None:
    """Return the scalar at a path, without quotes."""
    name, *rest = path
    for field in message.fields or ():
        for one in field.values if field.name == name else ():
            found = _read(text, one, rest) if rest else text[one.start : one.end].strip("\"'")
            if found is not None:
                return found
    return None


def _change(text: str, key: str, value: str) -> str:
    fields = tuple(_Parser(text).message(""))
    name = key if key.startswith(_OWN) else key.removeprefix(_PARAMETER)
    if name != key or key.startswith(_OWN):
        changes = list(_change_parameter(text, fields, name, value))
    elif _PATH.fullmatch(key):
        changes = list(_change_path(text, _Value(0, len(text), fields), key.split("."), value))
    else:
        raise ConfigError.of(
            f"setting {key!r}",
            expected="kindaware.NAME, parameters.NAME, or a field of config.pbtxt",
            got=repr(key),
            remedy="write it like kindaware.num_threads, or instance_group.count",
        )
    for change in sorted(changes, key=lambda one: one.start, reverse=True):
        text = text[: change.start] + change.text + text[change.end :]
    return text


def _change_parameter(text: str, fields: Sequence[_Field], name: str, value: str) -> Iterator[_Change]:
    """Yield the changes for a parameter: to the values of its entries, or a new entry at the end."""
    entries = [
        one
        for field in fields
        if field.name == "parameters"
        for one in field.values
        if _read(text, one, ["key"]) == name
    ]
    for entry in entries:
        yield from _change_path(text, entry, ["value", "string_value"], _quote(value))
    if not entries:
        added = f"parameters {{ key: {_quote(name)} value {{ string_value: {_quote(value)} }} }}"
        yield _append(text, _Value(0, len(text), tuple(fields)), added)


def _change_path(text: str, message: _Value, path: Sequence[str], value: str) -> Iterator[_Change]:
    """Yield the changes that give every field at a path its value, within one message."""
    name, *rest = path
    found = [one for field in message.fields or () if field.name == name for one in field.values]
    if not found:
        yield _append(text, message, _write(path, value))
    for one in found:
        if rest and one.fields is not None:
            yield from _change_path(text, one, rest, value)
        elif rest or one.fields is not None:
            raise _no_single_value(path, is_message=one.fields is not None)
        else:
            yield _Change(one.start, one.end, value)


def _no_single_value(path: Sequence[str], *, is_message: bool) -> ConfigError:
    return ConfigError.of(
        f"setting {'.'.join(path)}",
        expected="a field with one value",
        got="a message" if is_message else f"{path[0]}, which has no fields",
        remedy="name one of its fields" if is_message else "leave the rest of the path out",
    )


def _append(text: str, message: _Value, field: str) -> _Change:
    """Return the change that adds a field at the end of a message, in the layout of those before it."""
    is_file = message.start == 0 and message.end == len(text)
    end = message.end if is_file else message.end - 1
    body = text[message.start : end]
    stripped = len(body.rstrip())
    if is_file:
        return _Change(end, end, f"{'' if body.endswith(chr(10)) or not body else chr(10)}{field}\n")
    last_line = body.rstrip().rpartition("\n")[2]
    if "\n" in body:
        outer = re.match(r"[ \t]*", text[text.rfind("\n", 0, end) + 1 :])
        indent = outer[0] if outer else ""
        first = re.search(r"\n([ \t]+)[^\s#]", body)
        inner = first[1] if first else indent + "  "
        return _Change(message.start + stripped, end, f"\n{inner}{field}\n{indent}")
    pad = " " if "#" not in last_line else "\n"
    return _Change(message.start + stripped, end, f"{pad}{field} ")


def _write(path: Sequence[str], value: str) -> str:
    name, *rest = path
    return f"{name} {{ {_write(rest, value)} }}" if rest else f"{name}: {value}"


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class _Parser:
    """Reads fields with their places; blanks and comments are skipped."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [
            (match.start(), match[0])
            for match in _TOKEN.finditer(text)
            if not (match[0].isspace() or match[0].startswith("#"))
        ]
        self._place = 0

    def message(self, closing: str) -> Iterator[_Field]:
        """Yield the fields up to a closing bracket, which is left; `closing` is empty for a file."""
        while (piece := self._peek()) != closing:
            start, name = self._next()
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise self._wrong(start, piece)
            if self._peek() == ":":
                self._next()
            yield _Field(name, start, tuple(self._values()))
            if self._peek() in (",", ";"):
                self._next()

    def _values(self) -> Iterator[_Value]:
        if self._peek() != "[":
            yield self._value()
            return
        self._next()
        while self._peek() != "]":
            yield self._value()
            if self._peek() == ",":
                self._next()
        self._next()

    def _value(self) -> _Value:
        start, piece = self._next()
        if piece in _CLOSING:
            fields = tuple(self.message(_CLOSING[piece]))
            return _Value(start, self._next()[0] + 1, fields)
        if not re.match(r"[\w.+\"'-]", piece):
            raise self._wrong(start, piece)
        end = start + len(piece)
        while piece[0] in "\"'" and self._peek()[:1] in ('"', "'"):  # pieces of one string
            start_of_piece, more = self._next()
            end = start_of_piece + len(more)
        return _Value(start, end, None)

    def _peek(self) -> str:
        return self._tokens[self._place][1] if self._place < len(self._tokens) else ""

    def _next(self) -> tuple[int, str]:
        if self._place == len(self._tokens):
            raise self._wrong(len(self._text), "its end")
        self._place += 1
        return self._tokens[self._place - 1]

    def _wrong(self, place: int, got: str) -> ConfigError:
        line = self._text.count("\n", 0, place) + 1
        return ConfigError.of(
            "config.pbtxt",
            expected="a model's configuration in protobuf's text format",
            got=f"{got!r} in line {line}",
            remedy="correct that line",
        )
