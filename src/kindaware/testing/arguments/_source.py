"""A model configuration, however the caller gave it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kindaware._errors import ConfigError
from kindaware.testing.arguments._protobuf import new_config, parse_mapping, parse_text, read_file

ConfigSource = str | os.PathLike[str] | Mapping[str, Any]

_FILE_NAME = "config.pbtxt"


@dataclass(frozen=True)
class FoundConfig:
    """A configuration as it was written.

    Attributes:
        message: `inference.ModelConfig`, the caller's own.
        directory: the model's directory, where the configuration came from a file.
    """

    message: Any
    directory: Path | None


def find_config(config: ConfigSource | None) -> FoundConfig:
    """Parse a configuration.

    Args:
        config: path of a config.pbtxt or of a model's directory (which may have none), text of a
            config.pbtxt or its JSON, or a dict; None is an empty one.

    Raises:
        ConfigError: it can't be found or parsed.
    """
    if config is None:
        return FoundConfig(new_config(), None)
    if isinstance(config, Mapping):
        return FoundConfig(parse_mapping(config, "config"), None)
    if not isinstance(config, (str, os.PathLike)):
        raise ConfigError.of(
            "config",
            expected="a path, a dict, or the text of a config.pbtxt",
            got=type(config).__name__,
            remedy="pass one of those",
        )
    if isinstance(config, str) and _is_text(config):
        return FoundConfig(_parse(config), None)
    return _read(Path(config))


def _is_text(config: str) -> bool:
    """Return whether this is text: it has what no path has, and there is no such file."""
    if "\n" not in config and os.path.exists(config) and config:
        return False
    return not config.strip() or any(mark in config for mark in "\n{:#")


def _parse(text: str) -> Any:
    if not text.lstrip().startswith("{"):
        return parse_text(text, "config")
    try:
        return parse_mapping(json.loads(text), "config")
    except json.JSONDecodeError as error:
        raise ConfigError.of(
            f"config line {error.lineno}, column {error.colno}",
            expected="JSON, since it starts with '{'",
            got=error.msg,
            remedy="correct it, or pass a config.pbtxt's text",
        ) from None


def _read(path: Path) -> FoundConfig:
    path = path.absolute()
    if path.is_dir():
        file = path / _FILE_NAME
        return FoundConfig(read_file(file) if file.exists() else new_config(), path)
    if not path.exists():
        raise ConfigError.of(
            os.fspath(path),
            expected="a config.pbtxt or a model's directory",
            got="no such file",
            remedy="correct the path, or pass the configuration's text",
        )
    return FoundConfig(read_file(path), path.parent)
