"""The dict of strings that Triton passes to `initialize`, parsed into a typed and checked value."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kindaware._errors import ConfigError

KINDS = ("CPU", "GPU", "MODEL")
"""Kinds of instances, as Triton passes them."""

KINDS_TEXT = f"{', '.join(map(repr, KINDS[:-1]))} or {KINDS[-1]!r}"
"""The kinds, in the words of an error message."""


@dataclass(frozen=True, slots=True)
class InstanceArgs:
    """The args dict that Triton passes to `initialize`, typed and checked.

    Attributes:
        kind: `CPU`, `GPU` or `MODEL`.
        device_id: ordinal of the GPU in this process, after `CUDA_VISIBLE_DEVICES`; 0 for the other kinds.
        instance_name: name of the instance; not unique where a group lists several GPUs.
        model_name: name of the model.
        model_version: version of the model, as text.
        repository: directory of the model; empty if a unit test passes none.
        config: the parsed model configuration. Treat it as read-only.
    """

    kind: str
    device_id: int
    instance_name: str
    model_name: str
    model_version: str
    repository: str
    config: Mapping[str, Any]

    @property
    def version_directory(self) -> Path:
        """The directory that model.py lies in, for files beside it.

        Raises:
            ConfigError: a unit test passes no repository.
        """
        if not self.repository:
            raise ConfigError.of(
                "args['model_repository']",
                expected="the model's directory, which files beside model.py are found by",
                got="no such entry",
                remedy="pass the directory that holds config.pbtxt, as Triton does",
            )
        return Path(self.repository) / self.model_version

    def resolve(self, path: str | os.PathLike[str]) -> Path:
        """Return a path, of which a relative one starts in `version_directory`.

        Raises:
            ConfigError: it is relative, and a unit test passes no repository.
        """
        return Path(path) if os.path.isabs(path) else self.version_directory / path

    @classmethod
    def from_dict(cls, args: Mapping[str, str]) -> InstanceArgs:
        """Check and parse the args dict.

        In a unit test `model_config`, `model_instance_kind` and `model_instance_device_id` are enough: the
        names default to those that Triton would derive from the configuration's `name`.

        Raises:
            ConfigError: a key is missing, or a value is not one that Triton passes.
        """
        kind, device_id = parse_kind(args)
        config = parse_config(args)
        name = _optional_text(args, "model_name") or str(config.get("name") or "model")
        return cls(
            kind=kind,
            device_id=device_id,
            instance_name=parse_instance_name(args) or f"{name}_0_0",
            model_name=name,
            model_version=_optional_text(args, "model_version") or "1",
            repository=_optional_text(args, "model_repository"),
            config=config,
        )


def parse_kind(args: Mapping[str, str]) -> tuple[str, int]:
    """Return the instance's kind and device id.

    Raises:
        ConfigError: a key is missing, the kind is not one of `KINDS`, or the id is not an ordinal.
    """
    kind = _text(args, "model_instance_kind")
    if kind not in KINDS:
        bare = kind.removeprefix("KIND_")
        raise ConfigError.of(
            "args['model_instance_kind']",
            expected=KINDS_TEXT,
            got=repr(kind),
            remedy=f"pass {bare!r}, as Triton does"
            if bare in KINDS
            else "pass the kind that the server chose: it resolves KIND_AUTO before an instance starts",
        )
    digits = _text(args, "model_instance_device_id")
    # isascii, since isdigit and int accept the digits of every script.
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 6):
        raise ConfigError.of(
            "args['model_instance_device_id']",
            expected="a device ordinal as text, such as '0'",
            got=repr(digits),
            remedy="pass the number that Triton passes",
        )
    return kind, int(digits)


def parse_instance_name(args: Mapping[str, str]) -> str:
    """Return the instance's name; empty if a unit test passes none.

    Raises:
        ConfigError: the name is not a string.
    """
    return _optional_text(args, "model_instance_name")


def parse_config(args: Mapping[str, str]) -> dict[str, Any]:
    """Return the parsed `args["model_config"]`.

    Raises:
        ConfigError: the key is missing, or its value is not a JSON object.
    """
    text = _text(args, "model_config")
    # RecursionError: JSON that is nested too deeply is the caller's mistake, not a crash of the parser.
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError.of(
            "args['model_config']",
            expected="the model configuration as JSON text",
            got=f"{text[:60]!r} ({error})",
            remedy="pass json.dumps(configuration)",
        ) from None
    if not isinstance(config, dict):
        raise ConfigError.of(
            "args['model_config']",
            expected="a JSON object",
            got=type(config).__name__,
            remedy="pass json.dumps(configuration)",
        )
    return config


def _text(args: Mapping[str, str], key: str) -> str:
    if not isinstance(args, Mapping):
        raise ConfigError.of(
            "args", expected="Triton's dict of strings", got=type(args).__name__, remedy="pass a dict"
        )
    if key not in args:
        raise ConfigError.of(
            "args",
            expected=f"the key {key!r}",
            got=f"keys {sorted(map(str, args))}",
            remedy="pass the dict that Triton hands to initialize",
        )
    return _optional_text(args, key)


def _optional_text(args: Mapping[str, str], key: str) -> str:
    value = args.get(key, "")
    if not isinstance(value, str):
        raise ConfigError.of(
            f"args[{key!r}]",
            expected="text, as every value that Triton passes",
            got=repr(value)[:80],
            remedy="pass a string",
        )
    return value
