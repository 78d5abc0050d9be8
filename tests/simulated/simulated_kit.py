"""What the tests on simulated GPUs share: small models, one way to serve them, what holds after a call."""

import numpy as np

from kindaware import KindAwareModel
from kindaware._config.settings import SETTING_NAMES
from kindaware.testing import ModelHarness
from kindaware.testing.accelerator import SimulatedAccelerator

ON_GPU = "cuda:1"
"""Where the instances run: not the device that is current unless something is done about it."""


def tensor(name, dims=(4,), data_type="TYPE_FP32", **more):
    """An entry of `input` or `output`."""
    return {"name": name, "data_type": data_type, "dims": list(dims), **more}


def make_config(**changes):
    """A model of one input X and one output Y, FP32 [4], at most 8 rows."""
    return {
        "name": "m",
        "max_batch_size": 8,
        "input": [tensor("X")],
        "output": [tensor("Y")],
        **changes,
    }


class Doubler(KindAwareModel):
    """The smallest model: Y = 2 X."""

    def load(self):
        """Make nothing."""

    def forward(self, X):
        return 2 * X


def serve(model=Doubler, /, *, config=None, accelerator=None, takes_gpu_inputs=False, **options):
    """A harness with the model on GPU 1 of two simulated ones; errors are in the results.

    Its settings are the parameters of the same name in `options`.
    """
    settings = {name: options.pop(name) for name in list(options) if name in SETTING_NAMES}
    parameters = {f"kindaware.{name}": str(value) for name, value in settings.items()}
    if takes_gpu_inputs:
        parameters["FORCE_CPU_ONLY_INPUT_TENSORS"] = "no"
    return ModelHarness(
        model,
        config=make_config() if config is None else config,
        accelerator=accelerator or SimulatedAccelerator(num_devices=2),
        parameters=parameters,
        raise_errors=False,
        **{"kind": "GPU", "device_id": 1, **options},
    )


def entries(*rows, input_device="cpu", first=1, width=4):
    """A request per number of rows; every row of a call differs from all others, and all start at `first`."""
    made = []
    for num_rows in rows:
        values = first + np.arange(num_rows, dtype=np.float32)
        first += num_rows
        inputs = {"X": np.repeat(values[:, None], width, axis=1) + np.arange(width, dtype=np.float32) / 8}
        made.append({"inputs": inputs, "input_device": input_device})
    return made


def assert_answers(results, sent, factor=2.0):
    """Every request has its own rows back, times a factor."""
    assert [one.error and one.error.message() for one in results] == [None] * len(sent)
    for result, entry in zip(results, sent, strict=True):
        np.testing.assert_array_equal(result.outputs["Y"], factor * entry["inputs"]["X"])


def staging_of(harness):
    """The staging of the first instance."""
    return harness.instance._kindaware_instance._device.staging


def assert_clean(harness):
    """Nothing is queued, no rule was broken, and no page-locked buffer has got lost."""
    accelerator, staging = harness.accelerator, staging_of(harness)
    assert accelerator.violations == []
    assert accelerator.num_pending == 0
    assert not staging._is_pending
    assert staging._with_batch == []
    assert not staging._borrowed
    held = [*staging._free, *staging._with_call]
    assert len({buffer.data_ptr() for buffer in held}) == len(held)
    assert sum(map(len, held)) == staging.statistics.pinned_bytes <= staging._limit_bytes
