"""What the tests of the core share: Triton's args dict, small models, a pipeline without a server."""

import json
import logging
import re

import torch

from kindaware import KindAwareModel
from kindaware._batch.counters import Counters
from kindaware._batch.pipeline import Pipeline
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.results import Failure, Reporter
from kindaware._batch.runner import BatchRunner
from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._config.settings import Settings
from kindaware._device.device import Device
from kindaware._device.health import Health
from kindaware._device.runtime import CpuRuntime
from kindaware._device.staging import HostStaging
from kindaware._hooks.binding import Call
from kindaware._hooks.hooks import Hooks

LOGGER = logging.getLogger("kindaware.tests")
REPORTER = Reporter("m", "message", LOGGER)

MESSAGE = re.compile(r"(?s)^.+: expected .+, got .+; .+")
"""The one form of the library's messages."""


def tensor(name, dims, data_type="TYPE_FP32", **more):
    """An entry of `input` or `output`, with what the server fills in."""
    return {"name": name, "data_type": data_type, "format": "FORMAT_NONE", "dims": list(dims), **more}


def group(name="m_0", kind="KIND_CPU", count=1, gpus=(), host_policy=""):
    """An entry of `instance_group`, with what the server fills in."""
    return {
        "name": name,
        "kind": kind,
        "count": count,
        "gpus": list(gpus),
        "secondary_devices": [],
        "profile": [],
        "passive": False,
        "host_policy": host_policy,
    }


def make_config(**changes):
    """A model configuration as the server normalises it: one input X and one output Y, FP32 [4]."""
    return {
        "name": "m",
        "backend": "python",
        "max_batch_size": 8,
        "input": [tensor("X", [4], optional=False, allow_ragged_batch=False)],
        "output": [tensor("Y", [4])],
        "batch_input": [],
        "batch_output": [],
        "dynamic_batching": {},
        "instance_group": [group()],
        "parameters": {},
        **changes,
    }


def written_config(width=1, **changes):
    """A configuration as a user writes it for a harness: one input X and one output Y, FP32 [width]."""
    return {
        "name": "m",
        "backend": "python",
        "max_batch_size": 8,
        "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [width]}],
        "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [width]}],
        **changes,
    }


def make_args(
    config=None,
    *,
    kind="CPU",
    device_id=0,
    instance="m_0_0",
    repository="/models/m",
    parameters=None,
    **changes,
):
    """The dict of seven strings that Triton hands to `initialize`."""
    config = make_config(**changes) if config is None else config
    if parameters is not None:
        config["parameters"] = {key: {"string_value": value} for key, value in parameters.items()}
    return {
        "model_config": json.dumps(config),
        "model_instance_kind": kind,
        "model_instance_device_id": str(device_id),
        "model_instance_name": instance,
        "model_repository": str(repository),
        "model_version": "1",
        "model_name": "m",
    }


class Doubler(KindAwareModel):
    """The smallest model: Y = 2 X."""

    def load(self):
        """Make nothing."""

    def forward(self, X):
        return 2 * X


def start(model_class=Doubler, /, **changes):
    """Make a model and initialize it from an args dict, as a unit test would."""
    model = model_class()
    model.initialize(make_args(**changes))
    return model


def pipeline_of(model):
    """What takes a loaded model's requests through their stages."""
    return model._kindaware_instance._pipeline


def plan_of(model):
    """What is fixed about a loaded model."""
    return model._kindaware_instance._plan


def make_spec(*, inputs=None, outputs=None, max_batch_size=64):
    """A model's specification: X -> Y, FP32 [2]."""
    return ModelSpec(
        "m",
        max_batch_size,
        tuple(inputs or [TensorSpec("X", "FP32", [2])]),
        tuple(outputs or [TensorSpec("Y", "FP32", [2])]),
    )


def make_plan(forward, *, spec=None, collate=None, **settings):
    """A plan around a function, with the hooks and settings that are named."""
    spec = spec or make_spec()
    optional = ("preprocess", "row_cost", "postprocess", "begin_batch", "step")
    hooks = {name: settings.pop(name) for name in optional if name in settings}
    call = Call.bind(forward, spec, "model 'm'", has_preprocess="preprocess" in hooks)
    hooks = Hooks(forward, call, collate=collate, **hooks)
    return Plan.of(spec, Settings(**settings), hooks, LOGGER)


def make_device(runtime=None, staging=None):
    """The CPU, or what stands for a device."""
    runtime = runtime or CpuRuntime()
    return Device(runtime, staging or HostStaging(), Health(runtime, "m", LOGGER))


def make_pipeline(forward, *, runtime=None, staging=None, has_answered=True, **options):
    """A pipeline around a function; it counts as one that has answered before, unless said."""
    plan = make_plan(forward, **options)
    runner = BatchRunner(plan, make_device(runtime, staging), Counters())
    runner.has_answered = has_answered
    return Pipeline(plan, runner)


class Releasing(CpuRuntime):
    """Notes waits and how often memory is handed back."""

    def __init__(self):
        self.log = []

    def wait(self):
        self.log.append("wait")

    def release_memory(self):
        self.log.append("release_memory")

    @property
    def num_releases(self):
        return self.log.count("release_memory")


class Faulty(CpuRuntime):
    """A device that some errors leave unusable."""

    def is_fault(self, error):
        return "CUDA error" in str(error)


def make_request(name, values, rows=1, width=2, batches=True):
    """A request whose rows all hold the same number."""
    shape = (rows, width) if batches else (width,)
    return Request(str(name), {"X": torch.full(shape, float(values))}, rows if batches else None)


class Clock:
    """A clock that a test turns."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


BAD = -1.0


class Forward:
    """Doubles, counts its calls, raises where a row is bad."""

    def __init__(self, error=ValueError, text="bad row", **details):
        self.raises = lambda: error(text, **details)
        self.batches = []

    def __call__(self, X):
        self.batches.append(len(X))
        if (X == BAD).any():
            raise self.raises()
        return 2 * X


def without_id(text):
    """A text with `ID` in the place of the id of an error, which is another each time."""
    return re.sub(r"\berror [0-9a-f]{8}\b", "error ID", text)


def answers_of(outcomes):
    """One value per request, or its failure's code."""
    return [one.code if isinstance(one, Failure) else float(one["Y"].flatten()[0]) for one in outcomes]


def run(pipeline, values, **changes):
    """Answer one call with a request per value."""
    return pipeline.run([make_request(place, value, **changes) for place, value in enumerate(values)])
