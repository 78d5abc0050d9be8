"""A model.py without a server: `ModelHarness` loads it and sends it requests.

One pretended server per harness, with any number of models; one pretended process per instance. The way of
a request: `_client` builds it, `_input_check` and `_sequences` do what the server does before a model sees
it, `_instance` hands it over, `_execute` has the rules for what may come back, `_pending` keeps the answers.
"""

from __future__ import annotations

from kindaware.testing.harness._failures import HarnessError, InferenceError, ModelLoadError
from kindaware.testing.harness._harness import LoadedModel, ModelHarness
from kindaware.testing.harness.client.client import ModelClient
from kindaware.testing.harness.client.result import Result
from kindaware.testing.harness.client.stream import Stream
from kindaware.testing.harness.server.log import LogLine

__all__ = [
    "HarnessError",
    "InferenceError",
    "LoadedModel",
    "LogLine",
    "ModelClient",
    "ModelHarness",
    "ModelLoadError",
    "Result",
    "Stream",
]
