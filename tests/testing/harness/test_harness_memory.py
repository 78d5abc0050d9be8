"""What a call leaves behind: nothing, also without Python's collector of cycles."""

import gc
import time
import weakref
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from harness_cases import model
from harness_kit import BATCHED, DECOUPLED, ECHO, PLAIN, floats, write_model

from kindaware.testing import ModelHarness
from kindaware.testing.stand_in import InferenceRequest, InferenceResponse, Tensor
from kindaware.testing.stand_in.wire.buffer import Buffer

CLASSES = (Tensor, InferenceRequest, InferenceResponse)


@contextmanager
def no_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def living():
    """How many objects of the stand-in and arrays there are."""
    numbers = Counter(map(type, gc.get_objects()))
    return sum(number for kind, number in numbers.items() if issubclass(kind, (*CLASSES, Buffer)))


def living_later(wanted):
    """The same, once threads have let go of what they have done."""
    deadline = time.monotonic() + 10
    while living() > wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return living()


CALL = (
    "made = pb_utils.InferenceRequest(model_name='other', requested_output_names=['Y'],\n"
    "    inputs=[pb_utils.Tensor('X', get(requests[0]) * 2)])\n"
)
STREAM = """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            for _ in range(3):
                request.get_response_sender().send(answer(get(request)))
            request.get_response_sender().send(flags=1)
"""
USES = {
    "answer": "return [answer(get(requests[0]))]",
    "sender": "requests[0].get_response_sender().send(answer(get(requests[0])), 1)\nreturn [None]",
    "error": "return [pb_utils.InferenceResponse(error=pb_utils.TritonError('no'))]",
    "raised": "raise ValueError('no')",
    "dlpack": (
        "import torch\nt = torch.from_dlpack(requests[0].inputs()[0]) * 2\n"
        "return [pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack('Y', t)])]"
    ),
    "call": CALL
    + "made.get_response_sender()\nreturn [pb_utils.InferenceResponse(made.exec().output_tensors())]",
    "call never made": CALL + "return [answer([1.0])]",
    "call refused": CALL.replace("'other'", "'none'")
    + "assert made.exec().has_error()\nreturn [answer([1.0])]",
    "call of a stream": (
        CALL.replace("'other'", "'streams'")
        + "found = [one for one in made.exec(decoupled=True)]\nreturn [answer([len(found)])]"
    ),
    "call of a stream, left": (
        CALL.replace("'other'", "'streams'") + "next(made.exec(decoupled=True))\nreturn [answer([1.0])]"
    ),
}


@pytest.mark.parametrize("name", USES)
def test_a_request_leaves_no_tensors(tmp_path, name):
    write_model(tmp_path, "other", ECHO)
    write_model(tmp_path, "streams", STREAM, DECOUPLED)
    folder = write_model(tmp_path, "m", model(USES[name]))
    others = [tmp_path / "other", tmp_path / "streams"]
    with ModelHarness(folder, models=others, raise_errors=False) as harness, no_collector():
        harness.infer(X=floats(2))
        before = living()
        for _ in range(5):
            harness.infer(X=floats(2))
        assert living_later(before) == before


ASYNC = """
class TritonPythonModel:
    async def execute(self, requests):
        made = [
            pb_utils.InferenceRequest(model_name=NAME, requested_output_names=[],
                                      inputs=[pb_utils.Tensor('X', get(requests[0]))])
            for _ in range(2)
        ]
        found = await asyncio.gather(*(one.async_exec(decoupled=IS_STREAM) for one in made))
        if IS_STREAM:
            found = [list(one) for one in found]
        return [answer([1.0])]
"""


@pytest.mark.parametrize("is_stream", [False, True])
def test_asynchronous_calls_leave_no_tensors(tmp_path, is_stream):
    write_model(tmp_path, "other", *((STREAM, DECOUPLED) if is_stream else (ECHO, PLAIN)))
    source = ASYNC.replace("NAME", "'other'").replace("IS_STREAM", str(is_stream))
    folder = write_model(tmp_path, "m", source)
    with ModelHarness(folder, models=[tmp_path / "other"]) as harness, no_collector():
        before = living()
        for _ in range(5):
            harness.infer(X=floats(2))
        assert living_later(before) == before


def test_streams_and_batches_leave_no_tensors(tmp_path):
    batched = write_model(tmp_path, "m", model("return [answer(get(one)) for one in requests]"), BATCHED)
    streaming = write_model(tmp_path, "streams", STREAM, DECOUPLED)
    with ModelHarness(batched) as first, ModelHarness(streaming) as second, no_collector():
        before = living()
        for _ in range(5):
            first.infer_batch([{"X": floats(1, 2)}, {"X": floats(1, 2)}])
            assert len(list(second.stream(X=floats(2)))) == 3
        assert living() == before


def test_what_a_model_puts_into_a_tensor_is_freed_with_its_answer(tmp_path):
    class Answers:
        seen = []

        def execute(self, requests):
            import triton_python_backend_utils as pb_utils

            found = []
            for request in requests:
                array = np.array(pb_utils.get_input_tensor_by_name(request, "X").as_numpy())
                self.seen.append(weakref.ref(array))
                found.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", array)]))
            return found

    config = {
        "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1]}],
        "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]}],
    }
    with ModelHarness(Answers, config=config) as harness, no_collector():
        for _ in range(3):
            harness.infer(X=floats(2))
        assert [one() for one in Answers.seen] == [None] * 3
