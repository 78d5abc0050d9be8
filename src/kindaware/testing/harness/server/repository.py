"""Where the models of a simulated server come from, and when they were changed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kindaware.testing.harness.server.options import ModelOptions, ModelSource


@dataclass(frozen=True)
class StoredModel:
    """A model as it can be loaded now.

    Attributes:
        source: the model's directory, or a class.
        options: how to load it.
        files_ns: when its newest file was changed, by the system's clock; 0 for a class, and for files that
            `load_model` was called with.
        config_ns: when `load_model` was called with a configuration and no files; else 0.
        is_override: whether it was called with either.
    """

    source: ModelSource
    options: ModelOptions
    files_ns: int = 0
    config_ns: int = 0
    is_override: bool = False

    def with_config(self, config: Mapping[str, Any]) -> StoredModel:
        """Return the same model with another configuration."""
        config_ns = 0 if self.is_override else time.time_ns()
        options = replace(self.options, config=config)
        return replace(self, options=options, config_ns=config_ns, is_override=True)

    def is_unchanged_since(self, loaded: StoredModel) -> bool:
        """Return whether no file in the repository is newer than what was loaded."""
        return self.files_ns <= max(loaded.files_ns, loaded.config_ns)


class ModelRepository:
    """The models that a harness was given, and those in directories beside theirs.

    Args:
        default: how to load those beside.
    """

    def __init__(self, default: ModelOptions) -> None:
        self._default = default
        self._places: list[Path] = []
        self._given: dict[str, tuple[ModelSource, ModelOptions]] = {}
        self._folders: list[TemporaryDirectory[str]] = []

    def open(self, source: ModelSource, options: ModelOptions) -> StoredModel:
        """Open a model that the test names; models beside it can be found from now on."""
        if not isinstance(source, type):
            self._places.append(Path(source).absolute().parent)
        return StoredModel(source, options, _last_change_ns(source))

    def add(self, name: str, stored: StoredModel) -> None:
        """Let a model be found by its name."""
        self._given[name] = stored.source, stored.options

    def find(self, name: str) -> StoredModel | None:
        """Return the model of this name, if there is one."""
        beside = next((place / name for place in self._places if (place / name).is_dir()), None)
        if name in self._given:
            source, options = self._given[name]
        elif beside is not None:
            source, options = beside, self._default
        else:
            return None
        return StoredModel(source, options, _last_change_ns(source))

    def write(self, name: str, files: Mapping[str, bytes]) -> StoredModel:
        """Write the files that `load_model` was called with into a directory of the model."""
        folder = TemporaryDirectory(prefix="kindaware-harness-")
        self._folders.append(folder)
        directory = Path(folder.name, name)
        for path, content in files.items():
            place = directory / path.removeprefix("file:")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        _, options = self._given.get(name, (None, self._default))
        return StoredModel(directory, options, is_override=True)

    def close(self) -> None:
        """Remove what was written."""
        for folder in self._folders:
            folder.cleanup()


def _last_change_ns(source: ModelSource) -> int:
    """Return when the newest file was changed; bytecode, which only a stub writes, does not count."""
    if isinstance(source, type):
        return 0
    files = [path for path in Path(source).rglob("*") if path.suffix != ".pyc" and path.is_file()]
    return max((path.stat().st_mtime_ns for path in files), default=0)
