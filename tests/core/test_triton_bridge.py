"""From Triton's requests to the library's and back. The same runs on a real server in other folders."""

import contextlib
import importlib.metadata
import logging
import sys

import numpy as np
import pb_fakes
import pytest
import torch
from core_kit import Doubler, make_spec, start, tensor
from pb_fakes import ErrorCode, InferenceRequest, Tensor

from kindaware import ConfigError, RequestError, TensorSpec
from kindaware._batch.results import Failure
from kindaware._device.runtime import CpuRuntime
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.module import check_pb_utils, find_pb_utils, open_logger

NAME = "triton_python_backend_utils"


@pytest.fixture
def pb_utils(monkeypatch):
    """The module, as in a stub that has finished its imports."""
    module = pb_fakes.make_module()
    monkeypatch.setitem(sys.modules, NAME, module)
    return module


def make_bridge(pb_utils, spec, runtime=None):
    return TritonAdapter(pb_utils, spec, runtime or CpuRuntime())


def request(values, name="X", request_id="r", requested=("Y",)):
    return InferenceRequest([Tensor(name, np.asarray(values, np.float32))], request_id, requested)


def test_read_gives_a_view_of_the_array_that_the_stub_has_made(pb_utils):
    array = np.ones((3, 2), np.float32)
    [read] = make_bridge(pb_utils, make_spec()).read([InferenceRequest([Tensor("X", array)], "42")])
    assert (read.id, read.rows, list(read.inputs)) == ("42", 3, ["X"])
    assert read.inputs["X"].data_ptr() == array.ctypes.data


def test_read_bf16_goes_by_dlpack_since_numpy_lacks_it(pb_utils):
    source = torch.ones(2, 2, dtype=torch.bfloat16)
    spec = make_spec(inputs=[TensorSpec("X", "BF16", [2])])
    [read] = make_bridge(pb_utils, spec).read([InferenceRequest([Tensor.from_dlpack("X", source)])])
    assert torch.equal(read.inputs["X"], source)


def test_read_model_that_does_not_batch_has_no_rows(pb_utils):
    [read] = make_bridge(pb_utils, make_spec(max_batch_size=0)).read([request([1, 2])])
    assert read.rows is None


def test_read_inputs_with_different_rows_are_an_invalid_argument(pb_utils):
    inputs = [Tensor("A", np.zeros((2, 2), np.float32)), Tensor("B", np.zeros((3, 2), np.float32))]
    spec = make_spec(inputs=[TensorSpec("A", "FP32", [2]), TensorSpec("B", "FP32", [2])])
    [bad, good] = make_bridge(pb_utils, spec).read([InferenceRequest(inputs, "7"), request([[1, 2]])])
    assert bad.code == "INVALID_ARG"
    assert bad.text.startswith("model 'm' request '7': expected inputs ")
    assert "the same number of rows, got rows {'A': 2, 'B': 3}; " in bad.text
    assert good.rows == 1


def test_read_request_that_cannot_be_read_fails_alone(pb_utils):
    class Unreadable(Tensor):
        def as_numpy(self):
            raise RuntimeError("stored in GPU")

    requests = [InferenceRequest([Unreadable("X", np.zeros(2))], "7"), request([[1, 2]])]
    [bad, good] = make_bridge(pb_utils, make_spec()).read(requests)
    assert "request '7'" in bad.text
    assert "stored in GPU" in bad.text
    assert good.rows == 1


def test_respond_sends_only_what_was_asked_for_in_declared_order(pb_utils):
    spec = make_spec(outputs=[TensorSpec(name, "FP32", [1]) for name in "ABC"])
    outputs = {name: torch.zeros(1, 1) for name in "CAB"}
    asked = [("C", "A"), ("B",), ()]
    responses = make_bridge(pb_utils, spec).respond(
        [InferenceRequest([], requested=one) for one in asked], [outputs] * 3
    )
    assert [[one.name() for one in response.output_tensors] for response in responses] == [
        ["A", "C"],
        ["B"],
        [],
    ]


def test_respond_hands_numpy_over_without_a_copy_and_bf16_by_dlpack(pb_utils):
    spec = make_spec(outputs=[TensorSpec("Y", "FP32", [2]), TensorSpec("H", "BF16", [2])])
    outputs = {"Y": torch.ones(4, 2)[1:3], "H": torch.ones(4, 2, dtype=torch.bfloat16)[1:3]}
    [response] = make_bridge(pb_utils, spec).respond([InferenceRequest([], requested="YH")], [outputs])
    assert [one.made_by for one in response.output_tensors] == ["numpy", "dlpack"]
    assert response.output_tensors[0].as_numpy().ctypes.data == outputs["Y"].data_ptr()


def test_respond_hands_a_tensor_of_the_device_over_as_an_object_with_its_stream_current(
    pb_utils, monkeypatch
):
    log = []

    class Runtime(CpuRuntime):
        @contextlib.contextmanager
        def scope(self):
            log.append("enter")
            yield
            log.append("leave")

    from_dlpack = pb_utils.Tensor.from_dlpack
    monkeypatch.setattr(
        pb_utils.Tensor,
        "from_dlpack",
        lambda name, tensor, /: log.append((name, tensor)) or from_dlpack(name, tensor),
    )
    spec = make_spec(outputs=[TensorSpec("Y", "FP32", [2]), TensorSpec("N", "FP32", [2])])
    on_device = torch.ones(4, 2, device="meta")[1:3]
    outputs = {"Y": on_device, "N": torch.ones(2, 2)}
    [response] = make_bridge(pb_utils, spec, Runtime()).respond(
        [InferenceRequest([], requested="YN")], [outputs]
    )
    assert [one.made_by for one in response.output_tensors] == ["dlpack", "numpy"]
    assert [log[0], *log[2:]] == ["enter", "leave"]
    assert log[1][0] == "Y"
    assert log[1][1] is on_device


@pytest.mark.parametrize("code", [code.name for code in ErrorCode])
def test_respond_failure_becomes_tritons_error(pb_utils, code):
    [response] = make_bridge(pb_utils, make_spec()).respond([request([[1, 2]])], [Failure("why", code)])
    assert (response.error.text, response.error.code) == ("why", ErrorCode[code])
    assert response.output_tensors == []


@pytest.mark.parametrize(
    ("text", "sent"), [("caf\udce9", "caf\\udce9"), ("a\0b", "a\\0b"), ("Größe", "Größe")]
)
def test_respond_text_that_triton_cannot_carry_is_escaped(pb_utils, text, sent):
    [response] = make_bridge(pb_utils, make_spec()).respond([request([[1, 2]])], [Failure(text, "INTERNAL")])
    assert response.error.text == sent


def test_respond_answer_that_cannot_be_built_fails_alone(pb_utils):
    outcomes = [{"Y": torch.ones(1, 2)}, {"Y": torch.ones(1, 2, requires_grad=True)}]
    good, bad = make_bridge(pb_utils, make_spec()).respond([request([[1, 2]])] * 2, outcomes)
    assert good.error is None
    assert "response not built, RuntimeError: Can't call numpy()" in bad.error.text


def test_execute_gives_one_response_per_request_in_order(pb_utils):
    class Model(Doubler):
        def preprocess(self, inputs):
            if (inputs["X"] < 0).any():
                raise RequestError("negative", code="UNSUPPORTED")
            return inputs

        def forward(self, X):
            if (X == 13).any():
                raise ValueError("unlucky")
            return 2 * X

    model = start(Model)
    values = [1, -1, 13, 4]
    responses = model.execute([request(np.full((n + 1, 4), value)) for n, value in enumerate(values)])
    assert isinstance(responses, list)
    assert [one.error and one.error.code.name for one in responses] == [None, "UNSUPPORTED", "INTERNAL", None]
    assert [responses[n].output_tensors[0].as_numpy().shape for n in (0, 3)] == [(1, 4), (4, 4)]
    assert responses[3].output_tensors[0].as_numpy().max() == 8
    assert model.execute([]) == []
    levels = [level for level, _ in pb_utils.log]
    assert levels == ["log_info", "log_error"]
    assert "unlucky" in pb_utils.log[1][1]


def test_execute_zero_rows_without_batching_work(pb_utils):
    dims = {"input": [tensor("X", [-1])], "output": [tensor("Y", [-1])], "max_batch_size": 0}
    responses = start(**dims).execute([request([]), request([1, 2, 3])])
    assert [one.output_tensors[0].as_numpy().tolist() for one in responses] == [[], [2, 4, 6]]


def test_execute_module_that_appears_after_initialize_is_found(monkeypatch):
    model = start()
    monkeypatch.setitem(sys.modules, NAME, pb_fakes.make_module())
    [response] = model.execute([request([[1, 2, 3, 4]])])
    assert response.output_tensors[0].as_numpy().tolist() == [[2, 4, 6, 8]]


def test_find_pb_utils_before_the_stub_attached_its_classes_is_none(pb_utils):
    assert find_pb_utils() is pb_utils
    del pb_utils.InferenceResponse
    assert find_pb_utils() is None


def test_initialize_numpy_that_the_stub_cannot_read_raises(pb_utils, monkeypatch):
    monkeypatch.setattr(Tensor, "as_numpy", lambda self: np.zeros(8, np.float32))
    with pytest.raises(
        ConfigError, match=r"got \[0\.0, .* with numpy .*; install 'numpy<2' in the environment"
    ):
        start()


def test_initialize_numpy_that_gives_no_elements_raises(pb_utils, monkeypatch):
    monkeypatch.setattr(Tensor, "as_numpy", lambda self: np.zeros(0, np.float32))
    with pytest.raises(ConfigError, match="a tensor read through both to keep its values"):
        check_pb_utils(pb_utils)


@pytest.fixture
def stub(pb_utils, monkeypatch, tmp_path):
    """A process with the server's folder at the end of sys.path, as in a stub."""
    server, installed = tmp_path / "server", tmp_path / "site-packages"
    for folder in (server, installed):
        folder.mkdir()
    (server / f"{NAME}.py").touch()
    monkeypatch.setattr(sys, "path", [str(installed), str(server)])
    monkeypatch.setattr(sys, "builtin_module_names", (*sys.builtin_module_names, "c_python_backend_utils"))
    pb_utils.__file__ = str(server / f"{NAME}.py")
    return pb_utils, installed


def test_check_pb_utils_the_servers_own_module_is_fine(stub):
    check_pb_utils(stub[0])


def test_check_pb_utils_module_that_shadows_the_servers_raises_with_remedy(stub, monkeypatch):
    pb_utils, installed = stub
    shadow = installed / f"{NAME}.py"
    shadow.touch()
    pb_utils.__file__ = str(shadow)
    monkeypatch.setattr(importlib.metadata, "packages_distributions", dict)
    with pytest.raises(
        ConfigError, match=f"module {NAME}: expected the server's own, .*; delete or rename .*site-pack"
    ):
        check_pb_utils(pb_utils)
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {NAME: ["mock-package"]})
    with pytest.raises(
        ConfigError, match="pip uninstall mock-package, which takes the place of the server's"
    ):
        check_pb_utils(pb_utils)


def test_check_pb_utils_package_that_shadows_the_servers_raises(stub):
    pb_utils, installed = stub
    package = installed / NAME / "__init__.py"
    package.parent.mkdir()
    package.touch()
    pb_utils.__file__ = str(package)
    with pytest.raises(ConfigError, match="takes the place of the server's module"):
        check_pb_utils(pb_utils)


def test_open_logger_in_a_server_writes_to_tritons_log_at_the_same_level(pb_utils):
    logger = open_logger("m_0_0")
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, level)("from %s", level)
    assert pb_utils.log == [
        ("log_info", "from info"),
        ("log_warn", "from warning"),
        ("log_error", "from error"),
        ("log_error", "from critical"),
    ]
    logger.setLevel(logging.DEBUG)
    logger.debug("more")
    assert pb_utils.log[-1] == ("log_verbose", "more")
    assert not logger.propagate


def test_open_logger_twice_writes_once(pb_utils):
    open_logger("m_0_0")
    open_logger("m_0_0").info("one")
    assert len(pb_utils.log) == 1


def test_open_logger_triton_that_fails_does_not_reach_the_caller(pb_utils, capsys):
    logger = open_logger("m_0_0")
    pb_utils.Logger.log_error = None
    logger.error("lost")
    assert "TypeError" in capsys.readouterr().err


def test_open_logger_without_a_server_is_plain_logging(caplog):
    logger = open_logger("m_0_0")
    logger.warning("seen")
    assert (logger.handlers, logger.propagate) == ([], True)
    assert "seen" in caplog.text
