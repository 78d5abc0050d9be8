"""Triton's model configuration as protobuf, from text or JSON; protobuf is imported when it is needed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kindaware._errors import ConfigError


def new_config() -> Any:
    """Return an empty `inference.ModelConfig`.

    Raises:
        ConfigError: tritonclient or protobuf isn't installed.
    """
    return _import("tritonclient.grpc.model_config_pb2").ModelConfig()


def parse_text(text: str, origin: str) -> Any:
    """Parse config.pbtxt.

    Args:
        text: what is in the file.
        origin: what to call it in an error.

    Raises:
        ConfigError: with line and column.
    """
    text_format = _import("google.protobuf.text_format")
    try:
        return text_format.Parse(text, new_config())
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        where = "" if line is None else f" line {line}, column {column}"
        reason = str(error).removeprefix(f"{line}:{column} : ")
        raise ConfigError.of(
            f"{origin}{where}",
            expected="a model configuration in protobuf's text format",
            got=f"{_line_of(text, line)}({reason})",
            remedy="correct it; docs/reference/testing.md links the format",
        ) from None


def parse_mapping(config: Mapping[str, Any], origin: str) -> Any:
    """Parse a configuration given as a dict, such as the JSON that Triton hands over.

    A parameter's value may be given as plain text.

    Raises:
        ConfigError: with the field that doesn't fit.
    """
    json_format = _import("google.protobuf.json_format")
    wrapped = dict(config)
    if isinstance(config.get("parameters"), Mapping):
        wrapped["parameters"] = {
            key: {"string_value": value} if isinstance(value, str) else value
            for key, value in config["parameters"].items()
        }
    try:
        return json_format.ParseDict(wrapped, new_config())
    except (json_format.ParseError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError.of(
            origin,
            expected="a model configuration as a dict, with the names of config.pbtxt",
            got=f"{error}",
            remedy="correct the field",
        ) from None


def read_file(path: Path) -> Any:
    """Parse a config.pbtxt.

    Raises:
        ConfigError: it can't be read or parsed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError.of(
            os.fspath(path), expected="a config.pbtxt in UTF-8", got=str(error), remedy="correct the file"
        ) from None
    return parse_text(text, os.fspath(path))


def _line_of(text: str, line: int | None) -> str:
    """Quote the line that an error is in, for the message."""
    lines = text.splitlines()
    return f"{lines[line - 1].strip()!r} " if line is not None and 0 < line <= len(lines) else ""


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError.of(
            "kindaware.testing",
            expected="protobuf and tritonclient, which know the format of config.pbtxt",
            got=f"{error}",
            remedy="pip install 'tritonclient[grpc]', which brings both",
        ) from error
