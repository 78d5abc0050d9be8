"""From Triton's requests to the library's and back. The same runs on a real server in other folders."""

import contextlib
import importlib.metadata
import logging
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from core_kit import REPORTER, Doubler, make_args, make_spec, start, tensor
from host_kit import PB_UTILS, array_of, failure_of, names_of, outputs_of

from kindaware import ConfigError, RequestError, RequestInfo, TensorSpec
from kindaware._batch.request import HostArray, Request
from kindaware._batch.results import Failure
from kindaware._config.args import InstanceArgs
from kindaware._device.runtime import CpuRuntime
from kindaware._tensors.rows import split
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.log import open_logger
from kindaware._triton.module import check_pb_utils, find_pb_utils
from kindaware._triton.response_sender import ResponseSender
from kindaware._triton.tensor import TensorWrapper

CODES = [
    "UNKNOWN",
    "INTERNAL",
    "NOT_FOUND",
    "INVALID_ARG",
    "UNAVAILABLE",
    "UNSUPPORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
]


@pytest.fixture
def make_adapter(host):
    return lambda spec, runtime=None: TritonAdapter.open(
        host.pb_utils, spec, runtime or CpuRuntime(), REPORTER
    )


def floats(values):
    return np.asarray(values, np.float32)


def test_read_gives_a_view_of_the_array_that_the_stub_has_made(host, make_adapter):
    request = host.request("42", X=np.ones((3, 2), np.float32))
    [read] = make_adapter(make_spec()).requests.read([request])
    assert (read.id, read.rows, list(read.inputs)) == ("42", 3, ["X"])
    assert read.inputs["X"].data_ptr() == array_of(request).ctypes.data


def test_read_bf16_goes_by_dlpack_since_numpy_lacks_it(host, make_adapter):
    source = torch.ones(2, 2, dtype=torch.bfloat16)
    spec = make_spec(inputs=[TensorSpec("X", "BF16", [2])])
    [read] = make_adapter(spec).requests.read([host.request(X=source)])
    assert torch.equal(read.inputs["X"], source)


def test_read_model_that_does_not_batch_has_no_rows(host, make_adapter):
    [read] = make_adapter(make_spec(max_batch_size=0)).requests.read([host.request(X=floats([1, 2]))])
    assert read.rows is None


def test_read_one_input_of_several_keeps_its_name(host, make_adapter):
    inputs = [TensorSpec(name, "FP32", [2], optional=True) for name in ("X", "W")]
    [read] = make_adapter(make_spec(inputs=inputs)).requests.read([host.request(W=floats([[1, 2]]))])
    assert {name: one.tolist() for name, one in read.inputs.items()} == {"W": [[1, 2]]}


def test_read_inputs_with_different_rows_are_an_invalid_argument(host, make_adapter):
    inputs = {"A": np.zeros((2, 2), np.float32), "B": np.zeros((3, 2), np.float32)}
    spec = make_spec(inputs=[TensorSpec("A", "FP32", [2]), TensorSpec("B", "FP32", [2])])
    [bad, good] = make_adapter(spec).requests.read(
        [host.request("7", **inputs), host.request(X=floats([[1, 2]]))]
    )
    assert bad.code == "INVALID_ARG"
    assert bad.text.startswith("model 'm' request '7': expected inputs ")
    assert "the same number of rows, got rows {'A': 2, 'B': 3}; " in bad.text
    assert good.rows == 1


def test_read_request_that_cannot_be_read_fails_alone(host, make_adapter, monkeypatch):
    as_numpy = host.classes.Tensor.as_numpy
    requests = [host.request(name, X=floats([[1, 2]])) for name in "78"]
    [unreadable] = requests[0].inputs()

    def read_one(self):
        if self is unreadable:
            raise RuntimeError("stored in GPU")
        return as_numpy(self)

    monkeypatch.setattr(host.classes.Tensor, "as_numpy", read_one)
    [bad, good] = make_adapter(make_spec()).requests.read(requests)
    assert "request '7'" in bad.text
    assert "stored in GPU" in bad.text
    assert good.rows == 1


class Faulty(CpuRuntime):
    """A device that some errors leave unusable."""

    def is_fault(self, error):
        return "CUDA error" in str(error)


def failing(*_):
    raise RuntimeError("CUDA error: an illegal memory access")


def test_read_device_that_fails_is_no_fault_of_the_request(host, make_adapter, monkeypatch):
    monkeypatch.setattr(host.classes.Tensor, "as_numpy", failing)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        make_adapter(make_spec(), Faulty()).requests.read([host.request(X=floats([[1, 2]]))])


def test_read_request_without_inputs_is_an_invalid_argument(host, make_adapter):
    spec = make_spec(inputs=[TensorSpec("X", "FP32", [2], optional=True)])
    [bad] = make_adapter(spec).requests.read([host.request("7")])
    assert bad.code == "INVALID_ARG"
    assert "the same number of rows, got no inputs; correct the request" in bad.text


def test_read_asks_whether_a_request_was_cancelled_only_where_told(host, make_adapter):
    host.cancelled = True
    reader, requests = make_adapter(make_spec()).requests, [host.request(X=floats([[1, 2]]))]
    assert isinstance(reader.read(requests)[0], Request)
    assert host.num_asked == 0
    assert reader.read(requests, asks_for_cancelled=True)[0].code == "CANCELLED"


class Device(CpuRuntime):
    """A device whose memory is not the host's."""

    is_host = False


def test_read_leaves_an_array_as_it_is_where_rows_are_only_joined_on_the_host(host, make_adapter):
    [read] = make_adapter(make_spec()).requests.read([host.request(X=floats([[1, 2]]))])
    assert type(read.inputs) is HostArray


def test_read_array_of_any_size_becomes_a_tensor(host, make_adapter):
    spec = make_spec(inputs=[TensorSpec("X", "FP32", [-1])])
    [read] = make_adapter(spec).requests.read([host.request(X=floats([[1, 2]]))])
    assert type(read.inputs) is dict


def test_read_array_for_a_device_becomes_a_tensor(host, make_adapter):
    [read] = make_adapter(make_spec(), Device()).requests.read([host.request(X=floats([[1, 2]]))])
    assert type(read.inputs) is dict


def test_read_text_stays_an_array(host, make_adapter):
    spec = make_spec(inputs=[TensorSpec("T", "BYTES", [1])])
    [read] = make_adapter(spec).requests.read([host.request(T=np.array([[b"a"]], dtype=object))])
    assert read.inputs["T"].tolist() == [[b"a"]]


PAIR = [TensorSpec(name, "FP32", [2]) for name in ("A", "B")]


def test_read_inputs_on_the_host_go_by_numpy_where_others_may_lie_on_a_gpu(host, make_adapter, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("through DLPack it would first try and fail")

    spec = replace(make_spec(inputs=PAIR), parameters={"FORCE_CPU_ONLY_INPUT_TENSORS": "no"})
    monkeypatch.setattr(host.classes.Tensor, "__dlpack__", refuse)
    [read] = make_adapter(spec).requests.read([host.request(A=floats([[1, 2]]), B=floats([[3, 4]]))])
    assert {name: one.tolist() for name, one in read.inputs.items()} == {"A": [[1, 2]], "B": [[3, 4]]}


def test_read_only_input_that_lies_on_a_gpu_goes_by_dlpack(host, make_adapter, monkeypatch):
    def refuse(*_):
        raise RuntimeError("stored in GPU")

    monkeypatch.setattr(host.classes.Tensor, "as_numpy", refuse)
    monkeypatch.setattr(host.classes.Tensor, "is_cpu", lambda self: False)
    spec = replace(make_spec(), parameters={"FORCE_CPU_ONLY_INPUT_TENSORS": "no"})
    [read] = make_adapter(spec).requests.read([host.request(X=floats([[1, 2]]))])
    assert read.inputs["X"].tolist() == [[1, 2]]


def test_read_inputs_of_a_model_that_does_not_batch_may_differ_in_length(host, make_adapter):
    request = host.request(A=floats([1, 2]), B=floats([1, 2, 3]))
    [read] = make_adapter(make_spec(inputs=PAIR, max_batch_size=0)).requests.read([request])
    assert (read.rows, {name: len(one) for name, one in read.inputs.items()}) == (None, {"A": 2, "B": 3})


def test_read_asks_no_input_where_it_lies_if_all_lie_on_the_host(host, make_adapter, monkeypatch):
    def refuse(*_):
        raise AssertionError("asked")

    monkeypatch.setattr(host.classes.Tensor, "is_cpu", refuse)
    request = host.request(A=floats([[1, 2]]), B=floats([[3, 4]]))
    [read] = make_adapter(make_spec(inputs=PAIR)).requests.read([request])
    assert list(read.inputs) == ["A", "B"]


def test_respond_device_that_fails_is_no_fault_of_the_request(host, make_adapter, monkeypatch):
    monkeypatch.setattr(host.pb_utils, "InferenceResponse", failing)
    builder = make_adapter(make_spec(), Faulty()).responses
    with pytest.raises(RuntimeError, match="illegal memory access"):
        builder.respond([host.request()], [{"Y": torch.ones(1, 2)}])


def test_respond_outputs_of_a_batch_are_converted_once(host, make_adapter, monkeypatch):
    converted, wrapper = [], TensorWrapper.wrapper
    monkeypatch.setattr(TensorWrapper, "wrapper", lambda *args: converted.append(args) or wrapper(*args))
    answers = split({"Y": torch.ones(3, 2)}, [1, 1, 1])
    make_adapter(make_spec()).responses.respond([host.request()] * 3, answers)
    assert len(converted) == 1


def test_add_parameters_leaves_responses_alone_for_which_no_hook_has_set_any(host, make_adapter):
    request, outputs = host.request(), {"Y": torch.ones(1, 2)}
    builder = make_adapter(make_spec()).responses
    [response] = responses = builder.respond([request], [outputs])
    arrival = Request("r", {}, 1, RequestInfo("r", 1))
    assert builder.add_parameters(responses, [outputs], [arrival], [request]) == []
    assert responses[0] is response


def test_add_parameters_leaves_an_error_as_it_is(host, make_adapter):
    request, failure = host.request(), Failure("refused", "UNSUPPORTED")
    builder = make_adapter(make_spec()).responses
    responses = builder.respond([request], [failure])
    arrival = Request("r", {}, 1, RequestInfo("r", 1, response_parameters={"said": True}))
    assert builder.add_parameters(responses, [failure], [arrival], [request]) == []
    assert failure_of(responses[0]) == ("UNSUPPORTED", "refused")


def test_respond_sends_only_what_was_asked_for_in_declared_order(host, make_adapter):
    spec = make_spec(outputs=[TensorSpec(name, "FP32", [1]) for name in "ABC"])
    outputs = {name: torch.zeros(1, 1) for name in "CAB"}
    asked = [("C", "A"), ("B",), ()]
    responses = make_adapter(spec).responses.respond(
        [host.request(requested=one) for one in asked], [outputs] * 3
    )
    assert [names_of(response) for response in responses] == [
        ["A", "C"],
        ["B"],
        [],
    ]


def test_respond_hands_numpy_over_without_a_copy_and_bf16_by_dlpack(host, make_adapter):
    spec = make_spec(outputs=[TensorSpec("Y", "FP32", [2]), TensorSpec("H", "BF16", [2])])
    outputs = {"Y": torch.ones(4, 2)[1:3], "H": torch.ones(4, 2, dtype=torch.bfloat16)[1:3]}
    [response] = make_adapter(spec).responses.respond([host.request(requested="YH")], [outputs])
    y, h = response.output_tensors()
    assert y.as_numpy().ctypes.data == outputs["Y"].data_ptr()
    sent = torch.from_dlpack(h)
    assert (sent.dtype, sent.data_ptr()) == (torch.bfloat16, outputs["H"].data_ptr())


def test_respond_hands_a_tensor_of_the_device_over_as_an_object_with_its_stream_current(
    pb_utils, monkeypatch, host, make_adapter
):
    log = []

    class Runtime(CpuRuntime):
        @contextlib.contextmanager
        def scope(self):
            log.append("enter")
            yield
            log.append("leave")

    def from_dlpack(name, tensor, /):
        log.append((name, tensor))
        return host.pb_utils.Tensor(name, np.zeros(tensor.shape, np.float32))

    monkeypatch.setattr(host.pb_utils.Tensor, "from_dlpack", from_dlpack)
    spec = make_spec(outputs=[TensorSpec("Y", "FP32", [2]), TensorSpec("N", "FP32", [2])])
    on_device = torch.ones(4, 2, device="meta")[1:3]
    outputs = {"Y": on_device, "N": torch.ones(2, 2)}
    [response] = make_adapter(spec, Runtime()).responses.respond([host.request(requested="YN")], [outputs])
    assert names_of(response) == ["Y", "N"]
    assert outputs_of(response)[1].ctypes.data == outputs["N"].data_ptr()
    assert [log[0], *log[2:]] == ["enter", "leave"]
    assert log[1][0] == "Y"
    assert log[1][1] is on_device


@pytest.mark.parametrize("code", CODES)
def test_respond_failure_becomes_tritons_error(code, host, make_adapter):
    [response] = make_adapter(make_spec()).responses.respond(
        [host.request(X=floats([[1, 2]]))], [Failure("why", code)]
    )
    assert failure_of(response) == (code, "why")
    assert response.output_tensors() == []


@pytest.mark.parametrize(
    ("text", "sent"), [("caf\udce9", "caf\\udce9"), ("a\0b", "a\\0b"), ("Größe", "Größe")]
)
def test_respond_text_that_triton_cannot_carry_is_escaped(text, sent, host, make_adapter):
    [response] = make_adapter(make_spec()).responses.respond(
        [host.request(X=floats([[1, 2]]))], [Failure(text, "INTERNAL")]
    )
    assert response.error().message() == sent


def test_respond_answer_that_cannot_be_built_fails_alone(host, make_adapter):
    outcomes = [{"Y": torch.ones(1, 2)}, {"Y": torch.ones(1, 2, requires_grad=True)}]
    good, bad = make_adapter(make_spec()).responses.respond([host.request(X=floats([[1, 2]]))] * 2, outcomes)
    assert not good.has_error()
    assert (
        "expected building the response to return, got RuntimeError: Can't call numpy()" in failure_of(bad)[1]
    )


def test_respond_answer_that_cannot_be_built_names_its_request_where_that_is_kept(host, make_adapter):
    request = host.request("r7", X=floats([[1, 2]]))
    responses, answer = make_adapter(make_spec()).responses, {"Y": torch.ones(1, 2, requires_grad=True)}
    sender = ResponseSender(responses, request)
    for one, shown in ((request, "'r7'"), (sender, "''")):
        [response] = responses.respond([one], [answer])
        assert f"request {shown}: expected building the response to return" in failure_of(response)[1]


def test_execute_gives_one_response_per_request_in_order(pb_utils, host):
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
    responses = model.execute(
        [host.request(X=floats(np.full((n + 1, 4), value))) for n, value in enumerate(values)]
    )
    assert isinstance(responses, list)
    assert [one.has_error() for one in responses] == [False, True, True, False]
    assert [failure_of(responses[n])[0] for n in (1, 2)] == ["UNSUPPORTED", "INTERNAL"]
    assert [outputs_of(responses[n])[0].shape for n in (0, 3)] == [(1, 4), (4, 4)]
    assert outputs_of(responses[3])[0].max() == 8
    assert model.execute([]) == []
    levels = [level for level, _ in host.lines]
    assert levels == ["INFO", "ERROR"]
    assert "unlucky" in host.lines[1][1]


def test_execute_zero_rows_without_batching_work(pb_utils, host):
    dims = {"input": [tensor("X", [-1])], "output": [tensor("Y", [-1])], "max_batch_size": 0}
    responses = start(**dims).execute([host.request(X=floats([])), host.request(X=floats([1, 2, 3]))])
    assert [outputs_of(one)[0].tolist() for one in responses] == [[], [2, 4, 6]]


def test_execute_module_that_appears_after_initialize_is_found(monkeypatch, host):
    model = start()
    monkeypatch.setitem(sys.modules, PB_UTILS, host.pb_utils)
    [response] = model.execute([host.request(X=floats([[1, 2, 3, 4]]))])
    assert outputs_of(response)[0].tolist() == [[2, 4, 6, 8]]


def test_find_pb_utils_before_the_stub_attached_its_classes_is_none(pb_utils):
    assert find_pb_utils() is pb_utils
    del pb_utils.InferenceResponse
    assert find_pb_utils() is None


def test_initialize_numpy_that_the_stub_cannot_read_raises(pb_utils, monkeypatch, host):
    monkeypatch.setattr(host.classes.Tensor, "as_numpy", lambda self: np.zeros(8, np.float32))
    with pytest.raises(
        ConfigError, match=r"got \[0\.0, .* with numpy .*; install 'numpy<2' in the environment"
    ):
        start()


def test_initialize_numpy_that_gives_no_elements_raises(pb_utils, monkeypatch, host):
    monkeypatch.setattr(host.classes.Tensor, "as_numpy", lambda self: np.zeros(0, np.float32))
    with pytest.raises(ConfigError, match="a tensor read through both to keep its values"):
        check_pb_utils(pb_utils)


@pytest.fixture
def stub(pb_utils, monkeypatch, tmp_path):
    """A process with the server's folder at the end of sys.path, as in a stub."""
    server, installed = tmp_path / "server", tmp_path / "site-packages"
    for folder in (server, installed):
        folder.mkdir()
    (server / f"{PB_UTILS}.py").touch()
    monkeypatch.setattr(sys, "path", [str(installed), str(server)])
    monkeypatch.setattr(sys, "builtin_module_names", (*sys.builtin_module_names, "c_python_backend_utils"))
    pb_utils.__file__ = str(server / f"{PB_UTILS}.py")
    return pb_utils, installed


def test_check_pb_utils_the_servers_own_module_is_fine(stub):
    check_pb_utils(stub[0])


def test_check_pb_utils_module_that_shadows_the_servers_raises_with_remedy(stub, monkeypatch):
    pb_utils, installed = stub
    shadow = installed / f"{PB_UTILS}.py"
    shadow.touch()
    pb_utils.__file__ = str(shadow)
    monkeypatch.setattr(importlib.metadata, "packages_distributions", dict)
    with pytest.raises(
        ConfigError, match=f"module {PB_UTILS}: expected the server's own, .*; delete or rename .*site-pack"
    ):
        check_pb_utils(pb_utils)
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {PB_UTILS: ["mock-package"]})
    with pytest.raises(
        ConfigError, match="pip uninstall mock-package, which takes the place of the server's"
    ):
        check_pb_utils(pb_utils)


def test_check_pb_utils_package_that_shadows_the_servers_raises(stub):
    pb_utils, installed = stub
    package = installed / PB_UTILS / "__init__.py"
    package.parent.mkdir()
    package.touch()
    pb_utils.__file__ = str(package)
    with pytest.raises(ConfigError, match="takes the place of the server's module"):
        check_pb_utils(pb_utils)


def test_open_logger_in_a_server_writes_to_tritons_log_at_the_same_level(pb_utils, host):
    logger = open_logger(InstanceArgs.from_dict(make_args()), {})
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, level)("from %s", level)
    assert host.lines == [
        ("INFO", "from info"),
        ("WARNING", "from warning"),
        ("ERROR", "from error"),
        ("ERROR", "from critical"),
    ]
    logger.setLevel(logging.DEBUG)
    logger.debug("more")
    assert host.lines[-1] == ("VERBOSE", "more")
    assert logger.parent is None


def test_logger_writes_to_its_own_server_while_another_is_in_place(pb_utils, host, monkeypatch):
    logger = open_logger(InstanceArgs.from_dict(make_args()), {})
    monkeypatch.delitem(sys.modules, pb_utils.__name__)
    logger.warning("of a thread")
    monkeypatch.setitem(sys.modules, pb_utils.__name__, ModuleType(pb_utils.__name__))
    logger.warning("of another")
    assert [text for _, text in host.lines] == ["of a thread", "of another"]


def test_open_logger_twice_writes_once(pb_utils, host):
    open_logger(InstanceArgs.from_dict(make_args()), {})
    open_logger(InstanceArgs.from_dict(make_args()), {}).info("one")
    assert len(host.lines) == 1


def test_open_logger_triton_that_fails_does_not_reach_the_caller(pb_utils, capsys, monkeypatch):
    logger = open_logger(InstanceArgs.from_dict(make_args()), {})
    monkeypatch.setattr(pb_utils.Logger, "log_error", None)
    logger.error("lost")
    assert "TypeError" in capsys.readouterr().err


def test_open_logger_without_a_server_is_plain_logging(caplog):
    logger = open_logger(InstanceArgs.from_dict(make_args()), {})
    logger.warning("seen")
    assert (logger.handlers, logger.propagate) == ([], True)
    assert "seen" in caplog.text
