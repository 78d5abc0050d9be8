"""A model.py without a server: `ModelHarness` loads it and sends it requests.

One simulated server per harness, with any number of models; one simulated process per instance. A request is
built in `client`, checked in `server` as a server does before a model sees it, and handed to the model in
`process`, which has the rules for what may come back; `pending` keeps the answers.
"""

from __future__ import annotations

from kindaware.testing.harness.client.client import ModelClient
from kindaware.testing.harness.client.result import Result
from kindaware.testing.harness.client.stream import Stream
from kindaware.testing.harness.failures import HarnessError, InferenceError, ModelLoadError
from kindaware.testing.harness.harness import LoadedModel, ModelHarness
from kindaware.testing.harness.process.log import LogLine

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
