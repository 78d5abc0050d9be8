"""config.pbtxt as text: what little of it a server's start needs, without a protobuf parser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(r'#[^\n]*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[\w.+-]+|\s+|.', re.DOTALL)
_OPENING, _CLOSING = "{<", "}>"
_GROUP = "instance_group"


@dataclass
class _Token:
    """A piece of the text, the number of messages around it, and the name of the outermost field."""

    text: str
    depth: int
    field: str


class ConfigText:
    """One config.pbtxt.

    Args:
        text: what is in the file.
    """

    def __init__(self, text: str) -> None:
        self._tokens = list(_read(text))

    @property
    def is_ensemble(self) -> bool:
        """Whether it is an ensemble's, which has no instances and no files of its own."""
        return self.has("ensemble_scheduling") or self.value("platform") == "ensemble"

    def has(self, field: str) -> bool:
        """Return whether the configuration itself has a field."""
        return any(token.text == field for token in self._tokens if token.depth == 0)

    def value(self, field: str) -> str | None:
        """Return the value of a field of the configuration itself, without quotes, or None."""
        for position, token in enumerate(self._tokens):
            if token.depth == 0 and token.text == field:
                value = self._value_at(position)
                return None if value is None else self._tokens[value].text.strip("\"'")
        return None

    def kinds(self) -> list[str]:
        """Return the kinds that its instance groups name; a group that names none is left out."""
        return [self._tokens[value].text for value in self._kind_values()]

    def gpus(self) -> list[int]:
        """Return the ids of GPUs that its instance groups name."""
        texts = (
            self._tokens[place].text for start, end in self._ranges_of_gpus() for place in range(start, end)
        )
        return [int(text) for text in texts if text.isdecimal()]

    def on_cpu(self) -> str:
        """Return the text with every instance group on the CPU, and one added where there is none."""
        texts = [token.text for token in self._tokens]
        for value in self._kind_values():
            texts[value] = "KIND_CPU"
        for start, end in self._ranges_of_gpus():
            texts[start:end] = [""] * (end - start)
        for opening in self._openings(_GROUP):
            if not any(opening < value < self._end_of(opening) for value in self._kind_values()):
                texts[opening] += " kind: KIND_CPU "
        if not (self.has(_GROUP) or self.is_ensemble):
            texts.append("\ninstance_group [ { kind: KIND_CPU } ]\n")
        return "".join(texts)

    def _openings(self, message: str) -> list[int]:
        """Return where each message of a field of the configuration opens."""
        tokens = enumerate(self._tokens)
        return [n for n, one in tokens if one.field == message and one.depth == 0 and one.text in _OPENING]

    def _end_of(self, opening: int) -> int:
        """Return where the message that opens there closes."""
        return next(
            place
            for place in range(opening + 1, len(self._tokens) + 1)
            if place == len(self._tokens) or self._tokens[place].depth == 0
        )

    def _fields(self, message: str, name: str) -> list[int]:
        """Return the places of a field's name in the messages of a field, or in the configuration itself."""
        depth = 1 if message else 0
        tokens = enumerate(self._tokens)
        return [
            place
            for place, one in tokens
            if one.depth == depth and one.text == name and (not message or one.field == message)
        ]

    def _kind_values(self) -> list[int]:
        return [
            value for place in self._fields(_GROUP, "kind") if (value := self._value_at(place)) is not None
        ]

    def _ranges_of_gpus(self) -> Iterator[tuple[int, int]]:
        """Yield where each `gpus` field begins, and where what follows it does."""
        for place in self._fields(_GROUP, "gpus"):
            value = self._value_at(place)
            if value is not None:
                end = value
                while self._tokens[value].text == "[" and self._tokens[end].text != "]":
                    end += 1
                following = self._significant(end + 1)
                ends_it = following is not None and self._tokens[following].text in ",;"
                yield place, following + 1 if following is not None and ends_it else end + 1

    def _value_at(self, place: int) -> int | None:
        """Return where the value of the field named there begins."""
        value = self._significant(place + 1)
        if value is not None and self._tokens[value].text == ":":
            value = self._significant(value + 1)
        return value

    def _significant(self, place: int) -> int | None:
        """Return the first place from there on that is neither blank nor a comment."""
        for number in range(place, len(self._tokens)):
            text = self._tokens[number].text
            if not (text.isspace() or text.startswith("#")):
                return number
        return None


def _read(text: str) -> Iterator[_Token]:
    """Yield the tokens; the braces of a message count as outside of it."""
    depth, field = 0, ""
    for match in _TOKEN.finditer(text):
        piece = match[0]
        if piece in _CLOSING:
            depth -= 1
        yield _Token(piece, depth, field)
        if piece in _OPENING:
            depth += 1
        elif depth == 0 and re.fullmatch(r"[A-Za-z_]\w*", piece):
            field = piece
