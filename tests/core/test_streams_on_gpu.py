"""Streams of a GPU instance, on a simulated GPU: stream and device at each step, memory, a lost device."""

import asyncio
import threading
import time

import pytest
import torch
from stream_kit import CONFIG, Model, open_harness, seen

from kindaware import RequestError

BORROWS = {**CONFIG, "parameters": {"FORCE_CPU_ONLY_INPUT_TENSORS": {"string_value": "no"}}}


class Plain(Model):
    """Counters down from N on the device."""

    def load(self):
        self.seen = []

    def _step(self, N):
        self.seen.append((N.device, torch.cuda.current_stream() == self.cuda_stream))
        return N - 1

    def stream(self, N):
        item = N
        for _ in range(4):
            item = self._step(item)
            yield item


class Async(Plain):
    """The same, waiting in between."""

    async def stream(self, N):
        item = N
        for _ in range(4):
            await asyncio.sleep(0.002)
            item = self._step(item)
            yield item


def open_gpu(model_class, **options):
    return open_harness(model_class, kind="GPU", accelerator="simulated", **options)


@pytest.mark.parametrize("model_class", [Plain, Async])
@pytest.mark.parametrize("input_device", ["cpu", "cuda:0"])
def test_stream_on_a_gpu_has_device_and_stream_at_each_step(model_class, input_device):
    with open_gpu(model_class, config=BORROWS) as model:
        numbers = torch.tensor([[9]], dtype=torch.int32)
        streams = [model.stream(N=numbers + 10 * n, input_device=input_device) for n in range(3)]
        assert [seen(stream) for stream in streams] == [[8, 7, 6, 5], [18, 17, 16, 15], [28, 27, 26, 25]]
        assert len(model.instance.seen) == 12
        assert {(str(device), is_own) for device, is_own in model.instance.seen} == {("cuda:0", True)}
        assert torch.cuda.current_stream() != model.instance.cuda_stream


def test_stream_postprocess_on_a_gpu_runs_in_inference_mode():
    modes = []

    class Post(Plain):
        def postprocess(self, outputs):
            modes.append(torch.is_inference_mode_enabled())
            return outputs

    with open_gpu(Post) as model:
        assert seen(model.stream(N=[[9]])) == [8, 7, 6, 5]
    assert modes == [True] * 4


@pytest.mark.parametrize("model_class", [Plain, Async])
def test_stream_after_the_device_is_lost_ends_unavailable(model_class):
    class Breaks(model_class):
        def _step(self, N):
            if int(N[0, 0]) == 8:
                model.accelerator.lose(0, "CUDA error: an illegal memory access was encountered")
            return super()._step(N)

    with open_gpu(Breaks) as model:
        assert seen(model.stream(N=[[9]], empty_final=True)) == [8, "UNAVAILABLE", "END"]
        assert not model.instance.is_ready()
        assert seen(model.stream(N=[[20]], empty_final=True)) == ["UNAVAILABLE"]
        assert model.log_text().count("expected a working device") == 1


def test_stream_that_runs_out_of_memory_fails_alone():
    class Greedy(Plain):
        def _step(self, N):
            if int(N[0, 0]) == 8:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super()._step(N)

    released = []
    with open_gpu(Greedy) as model:
        model.instance._kindaware_instance.runtime.release_memory = lambda: released.append(True)
        assert seen(model.stream(N=[[9]])) == [8, "INTERNAL"]
        assert released == [True]
        assert seen(model.stream(N=[[5]])) == [4, 3, 2, 1]


def test_stream_with_output_device_instance_sends_items_from_the_gpu():
    parameters = {"kindaware.output_device": "instance", "kindaware.warmup": "off"}
    with open_gpu(Async, parameters=parameters) as model:
        assert seen(model.stream(N=[[9]])) == [8, 7, 6, 5]


@pytest.mark.parametrize("model_class", [Plain, Async])
def test_stream_of_many_items_holds_no_more_pinned_memory_than_one(model_class):
    with open_gpu(model_class) as model:
        statistics = model.instance._kindaware_instance._device.staging.statistics
        held = []
        for _ in range(4):
            assert seen(model.stream(N=[[9]])) == [8, 7, 6, 5]
            held.append(statistics.pinned_bytes)
        assert held == [4096, 8192, 8192, 8192]  # a page for the items, from then on one for the input too
        assert statistics.num_unpinned == 0


def test_stream_async_holds_execute_until_inputs_in_tritons_memory_are_copied():
    class Slow(Plain):
        async def stream(self, N):
            time.sleep(0.3)  # nothing else runs on the loop meanwhile
            yield N - 1

    with open_gpu(Slow, config=BORROWS) as model:
        runner, opened = model.instance._kindaware_instance._streams._runner, []
        open_request = runner.open
        runner.open = lambda request: opened.append(request) or open_request(request)
        numbers = torch.tensor([[9]], dtype=torch.int32)
        streams = []
        for count in (1, 2):
            streams.append(model.stream(N=numbers, input_device="cuda:0"))
            assert len(opened) == count
        assert [seen(stream) for stream in streams] == [[8], [8]]


def test_stream_async_holds_execute_no_longer_than_until_inputs_are_copied():
    class Waits(Plain):
        is_returned = False

        async def stream(self, N):
            latest = time.monotonic() + 20
            while not self.is_returned:
                await asyncio.sleep(0.001)
                assert time.monotonic() < latest
            yield N - 1

    with open_gpu(Waits, config=BORROWS) as model:
        stream = model.stream(N=torch.tensor([[9]], dtype=torch.int32), input_device="cuda:0")
        model.instance.is_returned = True
        assert seen(stream) == [8]


def test_stream_async_that_never_begins_does_not_hold_execute():
    class Refuses(Async):
        def preprocess(self, inputs):
            raise RequestError("no")

    with open_gpu(Refuses, config=BORROWS) as model:
        numbers = torch.tensor([[9]], dtype=torch.int32)
        assert seen(model.stream(N=numbers, input_device="cuda:0")) == ["INVALID_ARG"]


def test_stream_async_with_inputs_on_the_host_does_not_hold_execute():
    class Blocks(Plain):
        def load(self):
            self.is_returned = threading.Event()

        async def stream(self, N):
            assert self.is_returned.wait(20)  # nothing else runs on the loop meanwhile
            yield N - 1

    with open_gpu(Blocks, config=BORROWS) as model:
        streams = [model.stream(N=[[9]]) for _ in range(2)]
        model.instance.is_returned.set()
        assert [seen(stream) for stream in streams] == [[8], [8]]
