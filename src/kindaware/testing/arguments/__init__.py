"""What Triton passes to `initialize`, made without a server.

`instance_args` is what tests call. `ModelArguments` does the same in steps, for a harness: between
parsing and validation the server lets the model complete its configuration.
"""

from __future__ import annotations

from kindaware.testing.arguments._arguments import ModelArguments, instance_args
from kindaware.testing.arguments._instances import Instance
from kindaware.testing.arguments._protobuf import new_config
from kindaware.testing.arguments._source import ConfigSource

__all__ = ["ConfigSource", "Instance", "ModelArguments", "instance_args", "new_config"]
