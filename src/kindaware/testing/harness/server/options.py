"""Which model is to be loaded, and how."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from kindaware.testing.arguments import ConfigSource
from kindaware.testing.harness.server.option_check import check_count, check_parameters

ModelSource = str | os.PathLike[str] | type


@dataclass(frozen=True)
class ModelOptions:
    """How a model is to be loaded; see `ModelHarness`."""

    config: ConfigSource | None = None
    kind: str | None = None
    device_id: int = 0
    name: str | None = None
    version: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    instances: int | None = None
    group_index: int = 0
    num_gpus: int | None = None
    auto_complete: bool = True

    def __post_init__(self) -> None:
        check_count(self.instances)
        check_parameters(self.parameters)
