"""config.pbtxt as a tree that knows where in the text each field stands, for edits and for messages.

It reads on where the text is wrong: protobuf is there to say what is. Here a field is found again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r'(?P<blank>\s+|#[^\n]*)|(?P<word>"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|[\w.+-]+)|(?P<mark>.)',
    re.DOTALL,
)
_CLOSING = {"{": "}", "<": ">"}


@dataclass
class Value:
    """A value of a field.

    Attributes:
        start: where it begins in the text.
        end: where it ends.
        text: a scalar as it is written, without quotes; empty for a message.
        message: the message; None for a scalar.
    """

    start: int
    end: int
    text: str = ""
    message: Message | None = None


@dataclass
class Field:
    """A field where it is written.

    Attributes:
        name: its name.
        start: where the name begins in the text.
        end: where the last value, or the list, ends.
        values: one, or those of a list.
        is_list: whether they stand in brackets.
    """

    name: str
    start: int
    end: int
    values: list[Value] = field(default_factory=list)
    is_list: bool = False


@dataclass
class Message:
    """The fields of a message, or of the whole configuration.

    Attributes:
        end: where they end: at the closing brace, or the text's end.
        fields: in the order of the text.
    """

    end: int = 0
    fields: list[Field] = field(default_factory=list)

    def find(self, name: str) -> list[Field]:
        """Return the places of a field; one that is repeated may have several."""
        return [one for one in self.fields if one.name == name]

    def values(self, name: str) -> list[Value]:
        """Return the values of a field, from all its places."""
        return [value for one in self.find(name) for value in one.values]

    def messages(self, name: str) -> list[Message]:
        """Return the messages of a field, from all its places."""
        return [value.message for value in self.values(name) if value.message is not None]

    def text(self, name: str) -> str:
        """Return a scalar field as it is written, without quotes; empty where there is none."""
        values = self.values(name)
        return values[-1].text if values else ""


class ConfigTree(Message):
    """One config.pbtxt.

    Args:
        source: the text.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", source))]
        self.fields = _Reader(source).fields("")
        self.end = len(source)

    def line(self, place: int) -> int:
        """Return the number of the line, from 1 on, of a place in the text."""
        return bisect_right(self._line_starts, place)

    def line_of(self, name: str) -> int:
        """Return the number of the line where a field of the configuration first stands; 1 without one."""
        places = self.find(name)
        return self.line(places[0].start) if places else 1

    def parameters(self) -> dict[str, Field]:
        """Return where each parameter stands, by key."""
        return {
            message.text("key"): one
            for one in self.find("parameters")
            for value in one.values
            if (message := value.message) is not None
        }


class _Reader:
    """Reads fields one after the other, skipping what is none."""

    def __init__(self, source: str) -> None:
        self._tokens = [match for match in _TOKEN.finditer(source) if match["blank"] is None]
        self._next = 0
        self._length = len(source)

    def fields(self, closing: str) -> list[Field]:
        """Read up to a closing mark, and past it; up to the end without one."""
        found = []
        while (token := self._peek()) is not None and (token[0] != closing or not closing):
            self._next += 1
            if token["word"] is not None:
                found.append(self._field(token))
        self.end = self._length if token is None else token.start()
        self._next += 1
        return found

    def _field(self, name: re.Match[str]) -> Field:
        one = Field(name[0], name.start(), name.end())
        self._skip(":")
        one.is_list = self._skip("[")
        one.values = list(self._list() if one.is_list else self._value())
        one.end = self._tokens[min(self._next, len(self._tokens)) - 1].end()
        return one

    def _list(self) -> Iterator[Value]:
        while (token := self._peek()) is not None and token[0] != "]":
            before = self._next
            yield from self._value()
            self._next += self._next == before  # a comma, or what has no place here
        self._next += 1

    def _value(self) -> Iterator[Value]:
        token = self._peek()
        if token is None:
            return
        if token[0] in _CLOSING:
            self._next += 1
            fields = self.fields(_CLOSING[token[0]])
            end = self.end
            yield Value(token.start(), min(end + 1, self._length), message=Message(end, fields))
        elif token["word"] is not None:
            self._next += 1
            words = [token]
            # Strings side by side are one.
            while token[0][0] in "\"'" and (more := self._peek()) is not None and more[0][0] in "\"'":
                words.append(more)
                self._next += 1
            text = "".join(one[0].strip("\"'") for one in words)
            yield Value(token.start(), words[-1].end(), text)

    def _peek(self) -> re.Match[str] | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _skip(self, mark: str) -> bool:
        token = self._peek()
        is_there = token is not None and token[0] == mark
        self._next += is_there
        return is_there
