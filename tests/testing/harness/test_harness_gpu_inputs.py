"""Inputs in the memory of a GPU, as a model of the server sees them; the GPUs are simulated."""

import numpy as np
import pytest
import torch
from harness_cases import model
from harness_kit import floats, write_model

from kindaware.testing import HarnessError, ModelHarness, SimulatedAccelerator

CONFIG = """
backend: "python"
input [
  { name: "X" data_type: TYPE_FP32 dims: -1 },
  { name: "TEXT" data_type: TYPE_STRING dims: -1 optional: true }
]
output { name: "Y" data_type: TYPE_FP32 dims: -1 }
"""
IS_CPU = model(
    "return [answer([float(one.is_cpu()) for one in inputs_of(each)]) for each in requests]",
    "def inputs_of(request):\n    return sorted(request.inputs(), key=lambda one: one.name())\n",
)
AS_NUMPY = model("return [answer(one.inputs()[0].as_numpy()) for one in requests]")
FROM_DLPACK = model(
    "found = [torch.from_dlpack(one.inputs()[0]) for one in requests]\n"
    "assert all(one.device == torch.device('cuda', 1) for one in found), found\n"
    "return [answer((2 * one).cpu().numpy()) for one in found]",
    "import torch\n",
)


@pytest.fixture
def start(tmp_path):
    """Starts a harness on GPU 1 of two simulated ones; `forced` is the value of the parameter."""
    running = []

    def start(source, forced="no"):
        parameters = {} if forced is None else {"FORCE_CPU_ONLY_INPUT_TENSORS": forced}
        folder = write_model(tmp_path, "m", source, CONFIG)
        options = {"kind": "GPU", "device_id": 1, "accelerator": "simulated", "raise_errors": False}
        running.append(ModelHarness(folder, parameters=parameters, **options).start())
        return running[-1]

    yield start
    for harness in running:
        harness.stop()


def outputs_of(result):
    assert result.error is None, result.error.message()
    return result.outputs["Y"].tolist()


@pytest.mark.parametrize(
    ("forced", "input_device", "is_cpu"),
    [
        ("no", "cuda:1", 0.0),
        ("no", "cpu", 1.0),
        ("yes", "cuda:1", 1.0),
        (None, "cuda:1", 1.0),
    ],
)
def test_is_cpu_of_an_input_follows_its_device_and_the_parameter(start, forced, input_device, is_cpu):
    harness = start(IS_CPU, forced)
    assert outputs_of(harness.infer(X=floats(2), input_device=input_device)) == [is_cpu]


def test_as_numpy_of_an_input_on_a_gpu_raises_the_servers_text(start):
    harness = start(AS_NUMPY)
    error = harness.infer(X=floats(2), input_device="cuda:1").error
    assert "Tensor is stored in GPU and cannot be converted to NumPy." in error.message()
    assert outputs_of(harness.infer(X=floats(2))) == [1.0, 2.0]


def test_from_dlpack_of_an_input_on_a_gpu_gives_a_tensor_there(start):
    assert outputs_of(start(FROM_DLPACK).infer(X=floats(2), input_device="cuda:1")) == [2.0, 4.0]


def test_text_stays_on_the_cpu(start):
    text = np.array([b"a"], dtype=object)
    harness = start(IS_CPU)
    assert outputs_of(harness.infer(X=floats(1), TEXT=text, input_device="cuda:1")) == [1.0, 0.0]  # TEXT, X


def test_every_way_to_send_takes_the_device(start):
    harness = start(IS_CPU)
    entry = {"inputs": {"X": floats(2)}, "input_device": "cuda:1"}
    assert [outputs_of(one) for one in harness.infer_batch([entry])] == [[0.0]]
    assert [outputs_of(one) for one in harness.stream(X=floats(2), input_device="cuda:1")] == [[0.0]]


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:-1", "CUDA:0", "cpu:0", ""])
def test_input_device_that_is_none_raises(start, device):
    with pytest.raises(HarnessError, match="input_device: expected 'cpu' or 'cuda:N', got"):
        start(IS_CPU).infer(X=floats(2), input_device=device)


@pytest.mark.parametrize("forced", ["no", None])
def test_input_device_that_the_host_lacks_raises(start, forced):
    with pytest.raises(HarnessError, match=r"input_device: expected one of the 2 GPUs .*, got 'cuda:2'"):
        start(IS_CPU, forced).infer(X=floats(2), input_device="cuda:2")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_input_device_without_a_gpu_raises(tmp_path):
    refused = pytest.raises(HarnessError, match=r"input_device: expected one of the 0 GPUs .*simulated")
    with ModelHarness(write_model(tmp_path, "m", IS_CPU, CONFIG)) as harness, refused:
        harness.infer(X=floats(2), input_device="cuda:0")


@pytest.mark.parametrize("count", [None, 3])
def test_kind_none_takes_the_devices_of_the_accelerator(tmp_path, count):
    config = CONFIG + "instance_group { kind: KIND_GPU gpus: [ 1 ] }"
    folder = write_model(tmp_path, "m", IS_CPU, config)
    with ModelHarness(folder, kind=None, accelerator=SimulatedAccelerator(count)) as harness:
        assert harness.args["model_instance_device_id"] == "1"
        assert len(harness.accelerator.devices) == (count or 2)


def test_kind_none_without_groups_is_on_the_gpu_of_an_accelerator_that_has_one(tmp_path):
    folder = write_model(tmp_path, "m", IS_CPU, CONFIG)
    with ModelHarness(folder, kind=None, accelerator=SimulatedAccelerator(2)) as harness:
        assert harness.args["model_instance_kind"] == "GPU"
        assert harness.config["instance_group"][0]["gpus"] == [0, 1]
