"""What `infer`, `infer_batch` and `stream` take and give."""

import numpy as np
import pytest
import torch
from harness_cases import DESCRIBE, described, model
from harness_kit import BATCHED, DECOUPLED, PLAIN, floats, write_model

from kindaware import ConfigError
from kindaware.testing import InferenceError, ModelHarness
from kindaware.testing.harness import HarnessError

IDENTITY = model(
    "tensors = [torch.from_dlpack(one.inputs()[0]) for one in requests]\n"
    "return [pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack('Y', one)]) for one in tensors]",
    "import torch\n",
)
COUNT = model("return [answer([float(len(requests))]) for _ in requests]")


def typed(data_type):
    return f"""
    backend: "python"
    input {{ name: "X" data_type: {data_type} dims: -1 }}
    output {{ name: "Y" data_type: {data_type} dims: -1 }}
    """


@pytest.fixture
def start(tmp_path):
    """Starts a harness on a model with this source, which ends with the test."""
    running = []

    def start(source=COUNT, config=PLAIN, **options):
        folder = write_model(tmp_path, f"m{len(running)}", source, config)
        running.append(ModelHarness(folder, **options).start())
        return running[-1]

    yield start
    for harness in running:
        harness.stop()


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
    ],
)
def test_infer_of_every_numpy_type_gives_it_back(start, dtype):
    names = {"bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64"}
    source = model(
        "return [pb_utils.InferenceResponse([pb_utils.Tensor('Y', get(one))]) for one in requests]"
    )
    harness = start(source, typed("TYPE_" + names.get(dtype, dtype.upper())))
    array = np.array([0, 1, 1, 0]).astype(dtype)
    found = harness.infer(X=array).outputs["Y"]
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()
    found[0] = 1  # the client's own memory


@pytest.mark.parametrize("value", [[1.5, -2.0], torch.tensor([1.5, -2.0], dtype=torch.bfloat16)])
def test_infer_of_bf16_gives_a_torch_tensor(start, value):
    found = start(IDENTITY, typed("TYPE_BF16")).infer(X=value).outputs["Y"]
    assert found.dtype is torch.bfloat16
    assert found.tolist() == [1.5, -2.0]


def test_infer_of_strings_gives_bytes(start):
    source = model(
        "return [pb_utils.InferenceResponse([pb_utils.Tensor('Y', get(one))]) for one in requests]"
    )
    found = start(source, typed("TYPE_STRING")).infer(X=["a", "é"]).outputs["Y"]
    assert found.tolist() == [b"a", "é".encode()]


def test_infer_of_a_list_takes_the_configurations_type(start):
    assert start().infer(X=[1, 2]).outputs["Y"].tolist() == [1.0]


def test_infer_with_raise_errors_raises_text_and_code(start):
    body = (
        "error = pb_utils.TritonError('no', pb_utils.TritonError.NOT_FOUND)\n"
        "return [pb_utils.InferenceResponse(error=error)]"
    )
    with pytest.raises(InferenceError, match="no") as caught:
        start(model(body)).infer(X=[1.0])
    assert (caught.value.message, caught.value.code) == ("no", "NOT_FOUND")
    assert caught.value.error.code() is caught.value.error.NOT_FOUND


def test_infer_without_raise_errors_gives_the_error(start):
    result = start(model("raise ValueError('boom')"), raise_errors=False).infer(X=[1.0])
    assert result.outputs == {}
    assert "ValueError: boom" in result.error.message()
    assert result.error.code().name == "INTERNAL"


def test_infer_passes_on_all_that_a_request_has(start):
    harness = start(DESCRIBE, described('name: "X" data_type: TYPE_FP32 dims: -1'))
    found = harness.infer(
        X=floats(2),
        request_id="r",
        correlation_id=7,
        flags=3,
        timeout=9,
        parameters={"a": 1.5},
        requested_outputs="Y",
    ).outputs["Y"][0]
    assert found == b'[[["X", [2], "float32"]], ["r", 7, 3, 9], [["a", 1.5]], ["Y"]]'


def test_infer_batch_calls_execute_once(start):
    harness = start(config=BATCHED)
    results = harness.infer_batch([{"X": floats(1, 2)}, {"X": floats(3, 4)}, {"X": floats(1, 1)}])
    assert [result.outputs["Y"].tolist() for result in results] == [[3.0]] * 3
    assert harness.served.instances[0].num_calls == 1


def test_infer_batch_with_a_refused_request_serves_the_others(start):
    harness = start(config=BATCHED, raise_errors=False)
    results = harness.infer_batch([{"X": floats(1, 2)}, {"X": floats(2)}, {"Q": floats(1, 1)}])
    assert results[0].outputs["Y"].tolist() == [1.0]
    assert "unexpected shape for input 'X'" in results[1].error.message()
    assert results[2].error.message() == "unexpected inference input 'Q' for model 'm0'"


def test_infer_batch_takes_the_arguments_of_infer(start):
    source = model("return [answer([float(one.request_id())]) for one in requests]")
    harness = start(source, BATCHED)
    results = harness.infer_batch(
        [{"inputs": {"X": floats(1, 2)}, "request_id": str(number)} for number in range(3)]
    )
    assert [result.outputs["Y"].tolist() for result in results] == [[0.0], [1.0], [2.0]]
    assert [result.request_id for result in results] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("requests", "text"),
    [
        (
            [{"X": floats(5, 1)}, {"X": floats(4, 1)}],
            "expected at most 8 rows, the model's max_batch_size, .* got 9",
        ),
        ([{"inputs": {}, "id": 1}], r"expected the arguments of infer, .* got \['id'\]"),
        ([floats(1)], "expected a list of dicts, name to array, got an element of type ndarray"),
    ],
)
def test_infer_batch_of_what_does_not_fit_raises(start, requests, text):
    with pytest.raises(HarnessError, match=text):
        start(config=BATCHED).infer_batch(requests)


def test_requested_outputs_prune_what_the_model_returns(start):
    config = PLAIN + 'output { name: "Z" data_type: TYPE_FP32 dims: 1 }'
    body = "return [pb_utils.InferenceResponse([pb_utils.Tensor(n, np.ones(1, np.float32)) for n in 'YZQ'])]"
    harness = start(model(body), config)
    assert sorted(harness.infer(X=[1.0]).outputs) == ["Y", "Z"]
    assert sorted(harness.infer(X=[1.0], requested_outputs=["Z"]).outputs) == ["Z"]


STREAMING = model(
    "sender = requests[0].get_response_sender()\n"
    "for index in range(5):\n"
    "    if sender.is_cancelled():\n"
    "        error = pb_utils.TritonError('stopped', pb_utils.TritonError.CANCELLED)\n"
    "        sender.send(pb_utils.InferenceResponse(error=error), 1)\n"
    "        return\n"
    "    sender.send(answer([float(index)]))\n"
    "sender.send(flags=1)"
)


def test_stream_gives_responses_and_final_flags(start):
    harness = start(STREAMING, DECOUPLED)
    shown = [(result.outputs["Y"].tolist(), result.is_final) for result in harness.stream(X=[1.0])]
    assert shown == [([float(index)], False) for index in range(5)]
    with_final = list(harness.stream(X=[1.0], empty_final=True))
    assert (len(with_final), dict(with_final[-1].outputs), with_final[-1].is_final) == (6, {}, True)


@pytest.mark.parametrize(
    ("cancelled", "count"), [(True, 0), (False, 5), (lambda responses: responses >= 2, 2)]
)
def test_stream_that_the_client_cancels_stops(start, cancelled, count):
    harness = start(STREAMING, DECOUPLED, raise_errors=False)
    results = list(harness.stream(X=[1.0], cancelled=cancelled))
    assert len([result for result in results if result.error is None]) == count
    assert (results[-1].error is not None) == (count < 5)


def test_stream_cancel_reaches_a_thread(start):
    body = (
        "def work(request):\n    sender = request.get_response_sender()\n    number = 0\n"
        "    while not sender.is_cancelled():\n        sender.send(answer([float(number)]))\n"
        "        number += 1\n        time.sleep(0.002)\n"
        "    sender.send(flags=1)\n"
        "threading.Thread(target=work, args=(requests[0],)).start()"
    )
    stream = start(model(body), DECOUPLED).stream(X=[1.0])
    assert next(stream).outputs["Y"].tolist() == [0.0]
    assert next(stream).outputs["Y"].tolist() == [1.0]
    stream.cancel()
    assert all(result.error is None for result in stream)


def test_stream_raises_an_error_and_goes_on(start):
    body = (
        "sender = requests[0].get_response_sender()\n"
        "sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError('no')))\n"
        "sender.send(answer([1.0]), 1)"
    )
    stream = start(model(body), DECOUPLED).stream(X=[1.0])
    with pytest.raises(InferenceError, match="no"):
        next(stream)
    assert next(stream).is_final
    with pytest.raises(StopIteration):
        next(stream)


def test_response_parameters_come_with_later_servers(start):
    body = (
        "return [pb_utils.InferenceResponse([pb_utils.Tensor('Y', get(requests[0]))], parameters={'a': 1})]"
    )
    assert start(model(body), server_version="25.02").infer(X=[1.0]).parameters == {"a": 1}
    with pytest.raises(InferenceError, match="incompatible constructor arguments"):
        start(model(body)).infer(X=[1.0])


def test_sequence_with_implicit_state_is_not_pretended(start):
    config = PLAIN + (
        'sequence_batching { state { input_name: "I" output_name: "O" data_type: TYPE_FP32 dims: 1 } }'
    )
    with pytest.raises(ConfigError, match="expected no state in a harness"):
        start(config=config)
