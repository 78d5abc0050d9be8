"""Calls of other models from a GPU instance: inputs are waited for, outputs come to its device."""

import asyncio
import contextlib

import numpy as np
import pytest
import torch
from simulated_kit import ON_GPU, assert_answers, assert_clean, entries, make_config, serve, tensor

from kindaware import KindAwareModel, RequestError
from kindaware._triton.bls_adapter import CallAdapter
from kindaware.testing import Seeded
from kindaware.testing.accelerator import SimulatedAccelerator
from kindaware.testing.stand_in.objects import bls as stand_in_bls

DECOUPLED = {"model_transaction_policy": {"decoupled": True}}
SAME_GPU = {"kind": "GPU", "device_id": 1}
PLACES = [
    pytest.param({"kind": "CPU"}, id="cpu"),
    pytest.param({"kind": "GPU", "device_id": 0}, id="other gpu"),
    pytest.param(SAME_GPU, id="same gpu"),
]


class AddOne(KindAwareModel):
    """Y = X + 1, where it runs; refuses numbers below 0."""

    warmup = "off"

    def load(self):
        """Make nothing."""

    def forward(self, X):
        if (X < 0).any():
            raise RequestError("X is negative")
        return X + 1


class AddEach(AddOne):
    """X + 1, X + 2, X + 3."""

    def stream(self, X):
        for number in (1, 2, 3):
            yield X + number


class Caller(KindAwareModel):
    """Calls `add_one` with what its forward has only queued, and computes with what comes back."""

    warmup = "off"

    def load(self):
        """Make nothing."""

    def forward(self, X):
        return 2 * self.checked(self.call("add_one", X=X - 1))

    def checked(self, outputs):
        assert str(outputs["Y"].device) == str(self.device) == ON_GPU
        return outputs["Y"]


class AsyncCaller(Caller):
    async def forward(self, X):
        calls = [self.call_async("add_one", X=X - 1 + n) for n in range(4)]
        return sum(self.checked(one) - n for n, one in enumerate(await asyncio.gather(*calls))) / 2


class OneAsyncCaller(Caller):
    async def forward(self, X):
        return 2 * self.checked(await self.call_async("add_one", X=X - 1))


class StreamCaller(Caller):
    def forward(self, X):
        items = [self.checked(one) for one in self.call_stream("add_each", X=X - 1)]
        return sum(item - n for n, item in enumerate(items)) * 2 / 3


class AsyncStreamCaller(Caller):
    async def forward(self, X):
        items = [self.checked(one) async for one in self.call_stream("add_each", X=X - 1)]
        return sum(item - n for n, item in enumerate(items)) * 2 / 3


@contextlib.contextmanager
def serve_with_others(caller, place, *, checks=True, **options):
    """A harness with the caller on GPU 1, and the models that it calls in a place of theirs."""
    parameters = {"FORCE_CPU_ONLY_INPUT_TENSORS": "no"}
    with serve(caller, **options) as harness:
        harness.add_model(AddOne, make_config(name="add_one"), parameters=parameters, **place)
        harness.add_model(AddEach, make_config(name="add_each", **DECOUPLED), parameters=parameters, **place)
        yield harness
        if checks:
            assert_clean(harness)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("caller", [Caller, AsyncCaller, StreamCaller, AsyncStreamCaller])
@pytest.mark.parametrize("schedule", [None, 1, 2])
def test_call_from_a_gpu_takes_what_was_computed_and_gives_tensors_there(caller, place, schedule):
    options = {} if schedule is None else {"schedule": Seeded(schedule)}
    accelerator = SimulatedAccelerator(num_devices=2, **options)
    sent = entries(1, 3, 2)
    with serve_with_others(caller, place, accelerator=accelerator) as harness:
        for _ in range(2):
            assert_answers(harness.infer_batch(sent), sent)


def test_call_from_a_gpu_gives_memory_that_is_the_callers(monkeypatch):
    """Triton takes that of the response back."""
    read, seen = CallAdapter.read_outputs, []

    def read_and_compare(self, response):
        outputs = read(self, response)
        with self._runtime.scope():
            theirs = [torch.utils.dlpack.from_dlpack(one).data_ptr() for one in response.output_tensors()]
        seen.append(outputs["Y"].data_ptr() in theirs)
        return outputs

    monkeypatch.setattr(CallAdapter, "read_outputs", read_and_compare)
    sent = entries(2)
    with serve_with_others(Caller, SAME_GPU) as harness:
        assert_answers(harness.infer_batch(sent), sent)
    assert seen == [False]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("caller", [Caller, AsyncCaller, StreamCaller])
def test_call_from_a_gpu_asks_for_outputs_there_and_brings_others_there(caller, place, monkeypatch):
    """A server without CUDA leaves them on the host."""
    asked = []

    def ignore(answer, preferred):
        asked.append(preferred)
        return answer

    monkeypatch.setattr(stand_in_bls, "place_outputs", ignore)
    sent = entries(2)
    with serve_with_others(caller, place) as harness:
        assert_answers(harness.infer_batch(sent), sent)
    assert set(asked) == {("GPU", 1)}


class FromHost(Caller):
    """Sends tensors of the host, and strided ones of the GPU."""

    def forward(self, X):
        of_host = self.checked(self.call("add_one", X=X.cpu() - 1))
        strided = self.checked(self.call("add_one", X=torch.stack([X - 1, X], dim=2)[:, :, 0]))
        return of_host + strided


@pytest.mark.parametrize("place", PLACES)
def test_call_from_a_gpu_takes_tensors_of_the_host_and_strided_ones(place):
    sent = entries(1, 3)
    with serve_with_others(FromHost, place) as harness:
        assert_answers(harness.infer_batch(sent), sent)


class Bfloat16(AddOne):
    def forward(self, X):
        return (X + 1).to(torch.bfloat16)


class Bfloat16Caller(Caller):
    def forward(self, X):
        return 2 * self.checked(self.call("bf16", X=X - 1)).float()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("stays", [False, True])
def test_call_from_a_gpu_brings_bf16_of_the_host_there(place, stays, monkeypatch):
    """Numpy has no BF16, so it comes by DLPack."""
    if stays:
        monkeypatch.setattr(stand_in_bls, "place_outputs", lambda answer, preferred: answer)
    sent = [{"inputs": {"X": np.array([[1, 2, 3, 4]], np.float32)}}]
    config = make_config(name="bf16", output=[tensor("Y", data_type="TYPE_BF16")])
    with serve_with_others(Bfloat16Caller, place) as harness:
        harness.add_model(Bfloat16, config, **place)
        assert_answers(harness.infer_batch(sent), sent)


class Two(AddOne):
    def forward(self, X):
        return {"Y": X + 1, "Z": X + 2}


class TwoCaller(Caller):
    def forward(self, X):
        return 2 * self.checked(self.call("two", X=X - 1))


@pytest.mark.parametrize("is_sticky", [False, True])
def test_call_from_a_gpu_whose_second_output_fails_waits_for_the_first(is_sticky, monkeypatch):
    """Triton takes both back. A lost device is not waited for."""
    read_value, read, sent, left = CallAdapter._value, CallAdapter.read_outputs, entries(1), []
    waits = []
    config = make_config(name="two", output=[tensor("Y"), tensor("Z")])

    def fail_second(self, one):
        if one.name() == "Y":
            return read_value(self, one)
        assert harness.accelerator.num_pending
        if is_sticky:
            monkeypatch.setattr(self._runtime, "wait", lambda: waits.append("for a lost device"))
            harness.accelerator.lose(1, "CUDA error: unspecified launch failure")
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        raise MemoryError("no room for Z")

    def read_and_look(self, response):
        try:
            return read(self, response)
        except Exception as error:
            left.append((type(error), harness.accelerator.num_pending))
            raise

    monkeypatch.setattr(CallAdapter, "read_outputs", read_and_look)
    with serve_with_others(TwoCaller, SAME_GPU, checks=not is_sticky) as harness:
        harness.add_model(Two, config, parameters={"FORCE_CPU_ONLY_INPUT_TENSORS": "no"}, **SAME_GPU)
        assert_answers(harness.infer_batch(sent), sent)
        with monkeypatch.context() as patch:
            patch.setattr(CallAdapter, "_value", fail_second)
            (failed,) = harness.infer_batch(sent)
        if is_sticky:
            assert failed.error.code().name == "UNAVAILABLE"
            assert waits == []
        else:
            assert "no room for Z" in failed.error.message()
            assert left == [(MemoryError, 0)]
            assert_answers(harness.infer_batch(sent), sent)


@pytest.mark.parametrize("caller", [Caller, OneAsyncCaller])
def test_call_from_a_gpu_that_is_refused_costs_only_its_request(caller):
    good, bad = entries(1, 2), entries(1, first=-50)
    with serve_with_others(caller, SAME_GPU) as harness:
        first, refused, second = harness.infer_batch([good[0], *bad, good[1]])
        assert refused.error.message() == "X is negative"
        assert_answers([first, second], good)
