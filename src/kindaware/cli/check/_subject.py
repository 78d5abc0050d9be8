"""What a check knows of a model: its files, read; how it ran; and the machine."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kindaware._authoring.config_tree import ConfigTree
from kindaware._errors import ConfigError
from kindaware._server.model_folder import is_model, list_versions
from kindaware.cli._machine import Machine
from kindaware.cli.check._code import Code
from kindaware.testing.arguments import ModelArguments


@dataclass
class Trial:
    """How the model ran; see `_trial_process`.

    Attributes:
        peak_bytes: most memory that its process has had at once.
    """

    instances: list[dict[str, Any]] = field(default_factory=list)
    request: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    output: str = ""
    peak_bytes: int = 0


@dataclass
class Subject:
    """A model that is checked.

    Attributes:
        folder: its directory.
        machine: where it is to run.
        kind: of its instances, as the command line says; None is the configuration's.
        trial: how it ran; None before that, or where it can't.
    """

    folder: Path
    machine: Machine
    kind: str | None = None
    trial: Trial | None = None

    @property
    def name(self) -> str:
        """Name of the directory, which is the model's."""
        return self.folder.resolve().name

    @property
    def config_file(self) -> Path:
        """Where config.pbtxt is, or would be."""
        return self.folder / "config.pbtxt"

    @cached_property
    def config_text(self) -> str:
        """What is in config.pbtxt; empty where there is none."""
        try:
            return self.config_file.read_text(errors="replace")
        except OSError:
            return ""

    @cached_property
    def tree(self) -> ConfigTree:
        """The same, with places."""
        return ConfigTree(self.config_text)

    @cached_property
    def _read(self) -> ModelArguments | ConfigError:
        try:
            return ModelArguments(self.config_text, directory=self.folder, num_gpus=self.machine.num_gpus)
        except ConfigError as error:
            return error

    @property
    def config_error(self) -> ConfigError | None:
        """Why config.pbtxt can't be read; None if it can."""
        return self._read if isinstance(self._read, ConfigError) else None

    @property
    def arguments(self) -> ModelArguments | None:
        """The configuration with the server's defaults; None where it can't be read."""
        return None if isinstance(self._read, ConfigError) else self._read

    @property
    def written(self) -> Mapping[str, Any]:
        """The configuration with the server's defaults; empty where it can't be read."""
        return {} if self.arguments is None else self.arguments.config

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration, completed by the model if it has run."""
        return (self.trial and self.trial.config) or self.written

    @property
    def is_python(self) -> bool:
        """Whether it is a model of the Python backend."""
        return not self.is_ensemble and self.written.get("backend") == "python"

    @property
    def is_ensemble(self) -> bool:
        """Whether it is an ensemble, which has no code."""
        return bool(self.tree.find("ensemble_scheduling")) or self.tree.text("platform") == "ensemble"

    @property
    def filename(self) -> str:
        """Name of the file with its code."""
        return self.tree.text("default_model_filename") or "model.py"

    @property
    def versions(self) -> list[Path]:
        """The directories of its versions, the oldest first."""
        return list_versions(self.folder)

    @property
    def code_file(self) -> Path | None:
        """The code of the newest version; None where it has none."""
        files = [version / self.filename for version in self.versions]
        return next((file for file in reversed(files) if file.is_file()), None)

    @cached_property
    def syntax_error(self) -> SyntaxError | ValueError | None:
        """What Python finds wrong with the code."""
        if self.code_file is not None:
            try:
                ast.parse(self.code_file.read_bytes())
            except (SyntaxError, ValueError) as error:
                return error
        return None

    @cached_property
    def code(self) -> Code | None:
        """The code; None where there is none, or it can't be parsed."""
        if self.code_file is None or self.syntax_error is not None:
            return None
        return Code(ast.parse(self.code_file.read_bytes()))

    def called(self) -> list[Path]:
        """Return the models beside it that it may call, and those that they may call."""
        found: list[Path] = []
        open_ = [self]
        while open_:
            for path in open_.pop()._named_beside():
                if path not in found and path.name != self.name:
                    found.append(path)
                    open_.append(Subject(path, self.machine))
        return found

    def _named_beside(self) -> list[Path]:
        """Return the models beside it whose names are in its code or parameters."""
        parameters = self.written.get("parameters", {})
        named = {str(one.get("string_value")) for one in parameters.values()}
        if self.code is not None:
            named |= self.code.texts()
        beside = self.folder.absolute().parent
        return [beside / name for name in sorted(named) if _is_beside(beside, name) and name != self.name]

    def inputs(self) -> list[str]:
        """Return the names of the inputs in config.pbtxt; empty where the class declares them."""
        controls = [
            one.text("name")
            for batching in self.tree.messages("sequence_batching")
            for one in batching.messages("control_input")
        ]
        return [one.text("name") for one in self.tree.messages("input")] + controls

    def outputs(self) -> list[str]:
        """Return the names of the outputs in config.pbtxt."""
        return [one.text("name") for one in self.tree.messages("output")]

    @property
    def is_decoupled(self) -> bool:
        """Whether a request may get any number of responses."""
        return bool(self.config.get("model_transaction_policy", {}).get("decoupled"))

    @property
    def max_batch_size(self) -> int:
        """Maximum number of rows per batch; 0 if it doesn't batch."""
        return int(self.config.get("max_batch_size", 0))

    def groups(self) -> list[tuple[str, int, list[int]]]:
        """Return kind, count and GPUs of each instance group, as they are to run."""
        groups = self.written.get("instance_group", [])
        return [
            (
                f"KIND_{self.kind}" if self.kind else one["kind"],
                int(one["count"]),
                list(one.get("gpus", [])) if not self.kind else [],
            )
            for one in groups
        ]


def _is_beside(beside: Path, name: str) -> bool:
    """Return whether a text is the name of a model in a directory."""
    is_name = 0 < len(name) < 256 and name.isprintable() and "/" not in name and name not in (".", "..")
    return is_name and is_model(beside / name)
