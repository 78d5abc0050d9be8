"""Statements as text: as they stood where nothing changed, with their comments; else written anew."""

from __future__ import annotations

import ast
import copy
import io
import itertools
import re
import textwrap
import tokenize
from collections.abc import Sequence

from kindaware._authoring.port.finish import COMPOUND
from kindaware._authoring.port.statements import Question

_INDENT = "    "
_WIDTH = 100
_NEAR = 12
"""Lines between two questions that are shown with them: they belong together."""

_Compound = ast.If | ast.For | ast.While | ast.With | ast.Try


class Emitter:
    """Writes statements.

    Args:
        lines: of the old file.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.questions: list[tuple[int, str]] = []
        self._written: set[int] = set()

    def block(self, statements: Sequence[ast.stmt], depth: int) -> list[str]:
        """Return the lines of a block; `pass` where nothing in it is code."""
        found: list[str] = []
        for asks, group in itertools.groupby(statements, lambda one: isinstance(one, Question)):
            if asks:
                found += self._questions([one for one in group if isinstance(one, Question)], depth)
                continue
            for one in group:
                lead = self._lead(one, depth)
                found += lead if found or lead[:1] != [""] else lead[1:]
                found += self.statement(one, depth)
        is_empty = not any(line.strip() and not line.lstrip().startswith("#") for line in found)
        return [*found, _INDENT * depth + "pass"] if is_empty else found

    def statement(self, statement: ast.stmt, depth: int) -> list[str]:
        """Return the lines of a statement, without the comments above it."""
        origin = getattr(statement, "origin", None)
        if origin is not None and ast.dump(origin) == ast.dump(statement):
            verbatim = self._verbatim(origin, depth)
            if verbatim:
                return verbatim
        if isinstance(statement, COMPOUND):
            return self._compound(statement, depth)
        return _wrapped(statement, depth)

    def _compound(
        self, statement: ast.If | ast.For | ast.While | ast.With | ast.Try, depth: int
    ) -> list[str]:
        if isinstance(statement, ast.Try):
            found = [_INDENT * depth + "try:", *self.block(statement.body, depth + 1)]
            for handler in statement.handlers:
                kind = "" if handler.type is None else f" {unparse(handler.type)}"
                name = f" as {handler.name}" if handler.name else ""
                found += [f"{_INDENT * depth}except{kind}{name}:", *self.block(handler.body, depth + 1)]
        else:
            header = copy.copy(statement)
            header.body = [ast.Pass()]
            if not isinstance(header, ast.With):
                header.orelse = []
            found = _indented(unparse(header).rpartition("\n")[0], depth)
            found += self.block(statement.body, depth + 1)
        for name in ("orelse", "finalbody"):
            body = getattr(statement, name, [])
            if body and name == "orelse" and isinstance(statement, ast.If) and self._is_elif(body):
                nested = self.statement(body[0], depth)
                found += [nested[0].replace("if ", "elif ", 1), *nested[1:]]
            elif body:
                word = "finally" if name == "finalbody" else "else"
                found += [f"{_INDENT * depth}{word}:", *self.block(body, depth + 1)]
        return found

    def _is_elif(self, body: Sequence[ast.stmt]) -> bool:
        origin = getattr(body[0], "origin", None)
        is_written = origin is not None and self.lines[origin.lineno - 1].lstrip().startswith("elif ")
        return len(body) == 1 and isinstance(body[0], ast.If) and is_written

    def _questions(self, questions: Sequence[Question], depth: int) -> list[str]:
        """Return questions that follow each other as one comment, with the lines as they were."""
        texts = dict.fromkeys(one.text for one in questions if one.text)
        text = "; ".join(texts) or "it needs what is a question above"
        first = min(one.statement.lineno for one in questions)
        self.questions.append((first, text))
        was: list[str] = []
        behind = first
        for one in questions:
            start, end = one.statement.lineno, one.statement.end_lineno or one.statement.lineno
            follows = behind < start <= behind + _NEAR and end > behind  # what stood between is gone
            lines = self.lines[(behind if follows else start - 1) : end]
            was += textwrap.dedent("\n".join(lines)).strip("\n").splitlines()
            behind = end
        comment = textwrap.wrap(f"PORT: line {first}: {text}.", 100 - 4 * depth)
        return [
            f"{_INDENT * depth}# {line}".rstrip() for line in [*comment, *(f"    {line}" for line in was)]
        ]

    def notes(self, doubts: Sequence[tuple[int, str]], depth: int) -> list[str]:
        """Return questions about lines that stay as comments, one for each text."""
        self.questions += doubts
        found: list[str] = []
        for text in dict.fromkeys(text for _, text in doubts):
            lines = [str(line) for line, one in doubts if one == text]
            where = f"line{'s' if len(lines) > 1 else ''} {', '.join(lines)}"
            comment = textwrap.wrap(f"PORT: {where}: {text}.", 100 - 4 * depth)
            found += [f"{_INDENT * depth}# {line}" for line in comment]
        return found

    def _lead(self, statement: ast.stmt, depth: int) -> list[str]:
        """Return the comments right above a statement, and a blank line if one was there."""
        origin = getattr(statement, "origin", statement)
        number = getattr(origin, "lineno", 1) - 2
        comments: list[str] = []
        while number >= 0 and self.lines[number].lstrip().startswith("#") and number not in self._written:
            self._written.add(number)
            comments.insert(0, _INDENT * depth + self.lines[number].strip())
            number -= 1
        is_apart = number >= 0 and not self.lines[number].strip() and number not in self._written
        self._written.add(number)
        return [*([""] if is_apart else []), *comments]

    def _verbatim(self, origin: ast.stmt, depth: int) -> list[str]:
        """Return the lines as they stood; none where moving them would change what they say."""
        first = self.lines[origin.lineno - 1]
        behind = self.lines[(origin.end_lineno or 1) - 1].encode()[origin.end_col_offset or 0 :].strip()
        if first[: origin.col_offset].strip() or (behind and not behind.startswith(b"#")):
            return []  # other statements stand in its lines
        texts = [one for one in ast.walk(origin) if isinstance(one, (ast.Constant, ast.JoinedStr))]
        if any(one.end_lineno != one.lineno for one in texts):
            return []
        lines = textwrap.dedent("\n".join(self.lines[origin.lineno - 1 : origin.end_lineno])).splitlines()
        self._written |= set(range(origin.lineno - 1, origin.end_lineno or 0))
        return [(_INDENT * depth + line).rstrip() for line in lines]


def _wrapped(statement: ast.stmt, depth: int) -> list[str]:
    """Return a statement in one line if it fits; one whose value is a dict with a line for each entry."""
    lines = _indented(unparse(statement), depth)
    holder = statement.value if isinstance(statement, ast.Expr) else statement
    value = getattr(holder, "value", None)
    if max(map(len, lines)) <= _WIDTH or not isinstance(value, ast.Dict) or None in value.keys:
        return lines
    head = lines[0][: -len(unparse(value))]
    entries = [
        f"{_INDENT * (depth + 1)}{unparse(key)}: {unparse(one)},"
        for key, one in zip(value.keys, value.values, strict=True)
        if key is not None
    ]
    return [f"{head}{{", *entries, f"{_INDENT * depth}}}"]


def unparse(node: ast.AST) -> str:
    """Return a node's code, with double quotes."""
    text = ast.unparse(ast.fix_missing_locations(node))
    found = list(tokenize.generate_tokens(io.StringIO(text).readline))
    lines = text.splitlines()
    for token in reversed(found):
        is_one_line = token.start[0] == token.end[0]
        if (
            token.type == tokenize.STRING
            and is_one_line
            and re.fullmatch(r"[rbfRBF]*'[^'\"\\]*'", token.string)
        ):
            row, line = token.start[0] - 1, lines[token.start[0] - 1]
            lines[row] = line[: token.start[1]] + token.string.replace("'", '"') + line[token.end[1] :]
    return "\n".join(lines)


def _indented(text: str, depth: int) -> list[str]:
    return [(_INDENT * depth + line).rstrip() for line in text.splitlines()]
