"""`call`, `call_async` and `call_stream`: tensors there and back, errors, what is passed on."""

import asyncio
import gc
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from call_kit import DECOUPLED, Caller, Count, Echo, calling, echo_of, make_config, open_harness
from core_kit import REPORTER, make_spec, start
from host_kit import RecordingHost

from kindaware import ConfigError, KindAwareError, KindAwareModel, RequestError
from kindaware._device.runtime import CpuRuntime
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.bls import Calls, _timeout, _to_value
from kindaware._triton.bls_adapter import CallAdapter
from kindaware._triton.bls_stream import CallStream
from kindaware.testing.stand_in import Answer, Failure, WireTensor
from kindaware.testing.stand_in.objects.bls import STREAM_ERRORS_SINCE

X = [[1.0, 2.0]]


def answer(work, *, base=Caller, inputs=X, request=(), **options):
    """What a client reads: outputs, or code and text."""
    with open_harness(calling(work, base), **options) as model:
        result = model.infer(X=inputs, **dict(request))
        return (
            result.outputs["Y"]
            if result.error is None
            else (result.error.code().name, str(result.error.message()))
        )


def test_call_gives_outputs_by_name():
    assert answer(lambda self, X: self.call("echo", X=X + 1)["Y"]).tolist() == [[2, 3]]


def test_call_takes_inputs_as_a_mapping_too():
    assert answer(lambda self, X: self.call("echo", {"X": X})["Y"]).tolist() == X


@pytest.mark.parametrize("data_type", ["TYPE_BF16", "TYPE_FP16", "TYPE_INT64", "TYPE_BOOL", "TYPE_UINT8"])
def test_call_keeps_values_of_each_data_type(data_type):
    def work(self, X):
        returned = self.call("echo", X=X)["Y"]
        assert (returned.dtype, returned.device) == (X.dtype, self.device)
        assert torch.equal(returned, X)
        return returned

    with open_harness(calling(work), data_type=data_type) as model:
        dtype = echo_of(model).spec.inputs[0].dtype.torch
        assert model.infer(X=torch.tensor([[1, 0]]).to(dtype)).error is None


@pytest.mark.parametrize(
    "make",
    [
        lambda X: X,
        lambda X: [["a\0", "ä"]],
        lambda X: np.array([["a\0", "ä"]], dtype=object),
    ],
    ids=["as it came", "list of text", "array of text"],
)
def test_call_takes_and_gives_bytes(make):
    def work(self, X):
        returned = self.call("echo", X=make(X))["Y"]
        assert returned.dtype == object
        assert returned.tolist() == [[b"a\0", "ä".encode()]]
        return returned

    with open_harness(calling(work), data_type="TYPE_STRING") as model:
        result = model.infer(X=np.array([[b"a\0", "ä".encode()]], dtype=object))
        assert result.error is None, result.error.message()


def test_call_takes_arrays_and_tensors_with_strides_or_gradient():
    def work(self, X):
        strided = torch.arange(4.0).view(2, 2)[:, :1].expand(2, 2)
        assert self.call("echo", X=strided)["Y"].tolist() == [[0, 0], [2, 2]]
        assert self.call("echo", X=self.weight)["Y"].tolist() == [[1, 1]]
        negated = torch._neg_view(-torch.ones(1, 2))  # as the imaginary part of a conjugated tensor is
        assert self.call("echo", X=negated)["Y"].tolist() == [[1, 1]]
        assert self.call("echo", X=np.asfortranarray([[1, 2], [3, 4]], np.float32))["Y"].tolist() == [
            [1, 2],
            [3, 4],
        ]
        return X

    def load(self):
        self.weight = torch.nn.Parameter(torch.ones(1, 2))

    with open_harness(calling(work, load=load)) as model:
        result = model.infer(X=X)
        assert result.error is None, result.error.message()


def test_call_takes_strided_bf16_which_goes_another_way():
    def work(self, X):
        rows = torch.arange(8.0).bfloat16().view(4, 2)[::2]
        assert self.call("echo", X=rows)["Y"].tolist() == [[0, 1], [4, 5]]
        assert self.call("echo", X=self.learnt[0])["Y"].tolist() == [[1, 1]]  # DLPack takes no gradients
        return X

    def load(self):
        self.learnt = [torch.ones(1, 2, dtype=torch.bfloat16, requires_grad=True)]

    with open_harness(calling(work, load=load), data_type="TYPE_BF16") as model:
        result = model.infer(X=torch.ones(1, 2).bfloat16())
        assert result.error is None, result.error.message()


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (1.5, "got float"),
        ([[1.0, 2.0]], "got list"),
        (torch.ones(1, 2, dtype=torch.complex64), "got torch.complex64 in layout torch.strided"),
        (torch.ones(1, 2).to_sparse(), "got torch.float32 in layout torch.sparse_coo"),
        (np.ones((1, 2), np.complex64), "got ndarray"),
        (None, "got NoneType"),
    ],
)
def test_call_with_what_can_not_be_sent_raises(value, got):
    code, text = answer(lambda self, X: self.call("echo", X=value))
    assert code == "INTERNAL"
    assert "call of 'echo' input 'X': expected a dense tensor of a data type that Triton has" in text
    assert got in text


SERVERS_TEXTS = {
    "no such model": (lambda self, X: self.call("nobody", X=X), "Model 'nobody' is not ready"),
    "no such version": (lambda self, X: self.call("echo", X=X, model_version=7), "is not ready"),
    "wrong name": (lambda self, X: self.call("echo", Z=X), "unexpected inference input 'Z' for model 'echo'"),
    "wrong type": (
        lambda self, X: self.call("echo", X=X.double()),
        "inference input 'X' data-type is 'FP64', but model 'echo' expects 'FP32'",
    ),
    "wrong output": (
        lambda self, X: self.call("echo", X=X, requested_outputs=["Z"]),
        "unexpected inference output 'Z' for model 'echo'",
    ),
    "a stream": (lambda self, X: self.call("count", X=X), "Please use 'decoupled=True'"),
}


@pytest.mark.parametrize("what", SERVERS_TEXTS)
def test_call_that_the_server_refuses_raises_its_text(what):
    work, text = SERVERS_TEXTS[what]
    code, got = answer(work)
    assert code == "INTERNAL"
    assert text in got


@pytest.mark.parametrize(("server_version", "code"), [((24, 10), "INTERNAL"), ((25, 4), "UNSUPPORTED")])
def test_call_of_a_model_that_refuses_raises_its_error_with_the_code_that_the_server_keeps(
    server_version, code
):
    got = answer(lambda self, X: self.call("echo", X=-X), server_version=server_version)
    assert got == (code, "X is negative")


def test_call_passes_on_what_the_request_has_and_what_is_given():
    def work(self, X):
        self.call("echo", X=X)
        self.call("echo", X=X, request_id="other", parameters={"k": 3, "t": True}, requested_outputs=["Y"])
        return X

    with open_harness(calling(work)) as model:
        model.infer(X=X, request_id="r1", parameters={"own": 1}, trace="the trace")
        first, second = echo_of(model).seen
    assert (first.id, dict(first.parameters), first.timeout) == ("r1", {}, 0)
    assert (second.id, dict(second.parameters)) == ("other", {"k": 3, "t": True})


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (2**63, "9223372036854775808, which is no INT64"),
        ("a\0b", "text with a NUL"),
        ("\ud800", "text that has no UTF-8, such as half of a surrogate pair"),
    ],
)
def test_call_with_parameters_that_triton_would_change_is_refused_and_not_made(value, got):
    def work(self, X):
        return self.call("echo", X=X, parameters={"ok": -(2**63), "odd": value})["Y"]

    with open_harness(calling(work)) as model:
        result = model.infer(X=X)
        assert result.error.code().name == "INVALID_ARG"
        subject, contract = (
            "call of 'echo' parameters 'odd'",
            "booleans, text in UTF-8 without NUL, and whole numbers",
        )
        assert f"{subject}: expected {contract} from -2**63 to 2**63 - 1, got {got}; " in (
            result.error.message()
        )
        assert echo_of(model).seen == []


def test_call_with_an_empty_id_does_not_pass_on_that_of_the_request():
    with open_harness(calling(lambda self, X: self.call("echo", X=X, request_id="")["Y"])) as model:
        assert model.infer(X=X, request_id="r1").error is None
        assert [one.id for one in echo_of(model).seen] == [""]


def test_call_for_a_batch_carries_id_of_the_first_and_the_shortest_time():
    with open_harness(calling(lambda self, X: self.call("echo", X=X)["Y"])) as model:
        batch = [
            {"inputs": {"X": X}, "request_id": "a"},
            {"inputs": {"X": X}, "request_id": "b", "timeout": 9_000_000},
            {"inputs": {"X": X}, "timeout": 5_000_000},
        ]
        assert all(result.error is None for result in model.infer_batch(batch))
        [seen] = echo_of(model).seen
    assert seen.id == "a"
    assert 4_000_000 < seen.timeout < 5_000_000


def test_call_trace_is_that_of_the_request():
    traces = []

    def work(self, X):
        adapter = self._kindaware_instance.calls.adapter
        new_call = adapter.new_call
        adapter.new_call = lambda *args, trace, **more: (
            traces.append(trace) or new_call(*args, trace=trace, **more)
        )
        return self.call("echo", X=X)["Y"]

    assert answer(work, request={"trace": "the trace"}).tolist() == X
    assert [trace.get_context() for trace in traces] == ["the trace"]


@pytest.mark.parametrize(
    ("of_request", "given", "low", "high"),
    [(0, None, 0, 0), (0, 70, 70, 70), (9_000_000, 70, 70, 70), (9_000_000, 10**9, 8_000_000, 9_000_000)],
)
def test_call_timeout_is_what_is_left_of_the_requests_or_less(of_request, given, low, high):
    def work(self, X):
        return self.call("echo", X=X, timeout_microseconds=given)["Y"]

    with open_harness(calling(work)) as model:
        assert model.infer(X=X, timeout=of_request).error is None
        [seen] = echo_of(model).seen
    assert low <= seen.timeout <= high


def test_call_after_the_requests_time_is_unavailable_and_not_made():
    def work(self, X):
        time.sleep(0.02)
        return self.call("echo", X=X)["Y"]

    with open_harness(calling(work)) as model:
        result = model.infer(X=X, timeout=10_000)
        assert result.error.code().name == "UNAVAILABLE"
        assert "expected to be made within the timeout of the request" in result.error.message()
        assert echo_of(model).seen == []


@pytest.mark.parametrize("given", [None, 70])
def test_call_whose_time_ends_this_moment_is_unavailable(monkeypatch, given):
    """A timeout of 0 would be none."""
    monkeypatch.setattr("kindaware._triton.bls.time.monotonic", lambda: 100.0)
    with pytest.raises(RequestError, match="got 0 us more than that") as caught:
        _timeout(given, 100.0, "call")
    assert caught.value.code == "UNAVAILABLE"
    assert _timeout(given, 100.0 + 50e-6, "call") == pytest.approx(50, abs=1)


@pytest.mark.parametrize("hook", ["preprocess", "postprocess"])
def test_call_in_other_hooks_is_made_for_their_request(hook):
    def work(self, values):
        [name] = values
        return {name: self.call("echo", X=values[name])["Y"]}

    caller = calling(lambda self, X: X, Caller, **{hook: work})
    with open_harness(caller) as model:
        assert model.infer(X=X, request_id="r1").outputs["Y"].tolist() == X
        assert [one.id for one in echo_of(model).seen] == ["r1"]


def test_call_in_load_is_refused_with_what_to_do():
    def load(self):
        self.call("echo", X=torch.ones(1, 2))

    with pytest.raises(
        Exception,
        match="model 'caller' call of 'echo': expected to be made while a request is answered",
    ):
        open_harness(calling(None, load=load)).start()


def test_call_in_unload_is_refused():
    raised = []

    def unload(self):
        try:
            self.call("echo", X=torch.ones(1, 2))
        except KindAwareError as error:
            raised.append(str(error))

    with open_harness(calling(lambda self, X: X, unload=unload)):
        pass
    assert "got one while the model loads or ends" in raised[0]


def test_call_without_a_server_says_what_it_needs():
    model = start(calling(lambda self, X: X))
    with pytest.raises(KindAwareError, match=r"model 'm' call of 'echo': expected to be called by Triton's"):
        model.call("echo", X=torch.ones(1, 2))


def test_initialize_of_a_model_that_calls_others_skips_its_warm_up():
    caller = calling(lambda self, X: self.call("echo", X=X)["Y"], warmup=None)
    with open_harness(caller) as model:
        assert "warm-up skipped (forward calls another model)" in model.log_text()


@pytest.mark.parametrize("name", ["call", "call_async", "call_stream"])
def test_initialize_class_with_a_method_of_that_name_is_refused(name):
    with pytest.raises(
        ConfigError, match=f"attribute '{name}': expected self.{name} left as kindaware set it"
    ):
        start(type("Model", (Echo,), {name: lambda self: None}))


class AsyncCaller(Caller):
    """The same, with an asynchronous forward."""

    async def forward(self, X):
        assert torch.is_inference_mode_enabled()
        returned = await self.work(X)
        assert torch.is_inference_mode_enabled()
        return returned


async def call_async(self, X):
    return (await self.call_async("echo", X=X + 1))["Y"]


def test_call_async_gives_outputs_by_name():
    assert answer(call_async, base=AsyncCaller).tolist() == [[2, 3]]


def test_call_async_takes_inputs_as_a_mapping_too():
    async def work(self, X):
        return (await self.call_async("echo", {"X": X}))["Y"]

    assert answer(work, base=AsyncCaller).tolist() == X


def test_call_async_raises_as_call_does():
    async def work(self, X):
        return await self.call_async("echo", X=-X)

    assert answer(work, base=AsyncCaller) == ("INTERNAL", "X is negative")


def test_call_async_passes_the_requests_id_and_time_on():
    with open_harness(calling(call_async, AsyncCaller)) as model:
        model.infer(X=X, request_id="r1", timeout=9_000_000)
        [seen] = echo_of(model).seen
    assert seen.id == "r1"
    assert 8_000_000 < seen.timeout < 9_000_000


def test_call_async_lets_others_run_meanwhile():
    order = []

    async def tick(self):
        for _ in range(3):
            order.append("tick")
            await asyncio.sleep(0)

    async def work(self, X):
        returned, _ = await asyncio.gather(self.call_async("echo", X=X), tick(self))
        order.append("answer")
        return returned["Y"]

    assert answer(work, base=AsyncCaller).tolist() == X
    assert order == ["tick", "tick", "tick", "answer"]


def test_forward_async_that_exits_or_raises_fails_its_request_and_no_other():
    async def work(self, X):
        if (X == 7).any():
            raise SystemExit(3)
        if (X == 8).any():
            raise ValueError("eight")
        return X

    with open_harness(calling(work, AsyncCaller)) as model:
        results = model.infer_batch([{"X": [[n, 1]]} for n in (1, 7, 8, 2)])
        texts = [result.error and result.error.message() for result in results]
        assert (
            "forward to return, got ProcessExitError: SystemExit: 3, which would end the process" in texts[1]
        )
        assert "expected forward to return, got ValueError: eight" in texts[2]
        assert [result.outputs["Y"].tolist() for result in results[::3]] == [[[1, 1]], [[2, 1]]]


def test_initialize_async_forward_with_cuda_graphs_is_refused():
    with pytest.raises(
        ConfigError, match="expected a forward with def, since a graph repeats none of its Python"
    ):
        start(calling(None, AsyncCaller, cuda_graphs=(1,)))


def numbers(outputs):
    return [float(one["Y"][0, 0]) for one in outputs]


def test_call_stream_gives_each_answer_and_ends():
    def work(self, X):
        stream = self.call_stream("count", X=X)
        assert numbers(stream) == [3, 4, 5]
        assert list(stream) == []
        return X

    assert answer(work, inputs=[[3, 0]]).tolist() == [[3, 0]]


def test_call_stream_takes_inputs_as_a_mapping_too():
    def work(self, X):
        assert numbers(self.call_stream("count", {"X": X})) == [3, 4, 5]
        return X

    assert answer(work, inputs=[[3, 0]]).tolist() == [[3, 0]]


def test_call_stream_without_any_answer_ends_at_once():
    assert answer(lambda self, X: X + len(list(self.call_stream("count", X=0 * X)))).tolist() == X


def test_call_stream_of_a_model_with_one_answer_gives_that():
    assert answer(lambda self, X: next(self.call_stream("echo", X=X))["Y"]).tolist() == X


def test_call_stream_in_async_for_lets_others_run():
    ticks = []

    async def tick(self):
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)

    async def work(self, X):
        task = asyncio.ensure_future(tick(self))
        got = numbers([one async for one in self.call_stream("count", X=X)])
        task.cancel()
        assert got == [5, 6, 7, 8, 9]
        return X

    assert answer(work, base=AsyncCaller, inputs=[[5, 0]]).tolist() == [[5, 0]]
    assert len(ticks) > 2


@pytest.mark.parametrize("what", [{"X": -1}, {"Z": 1}])
def test_call_stream_that_fails_raises(what):
    def work(self, X):
        [(name, sign)] = what.items()
        return next(self.call_stream("count", {name: sign * X}))

    code, text = answer(work)
    assert code == "INTERNAL"
    assert text == "X is negative" or "unexpected inference input 'Z'" in text


@pytest.mark.parametrize("how", ["break", "close", "with", "forget"])
def test_call_stream_left_early_is_read_to_its_end_aside(how):
    def work(self, X):
        stream = self.call_stream("count", X=X)
        assert float(next(stream)["Y"][0, 0]) == 50
        if how == "close":
            stream.close()
        elif how == "with":
            with stream:
                pass
        if how in ("close", "with"):
            assert list(stream) == []
            assert model.model("count").instance.num_given < 50
        return X

    with open_harness(calling(work)) as model:
        started = time.monotonic()
        assert model.infer(X=[[50, 0]]).error is None
        gc.collect()
        count = model.model("count").instance
        while count.num_given < 50 and time.monotonic() < started + 10:
            time.sleep(0.01)
        assert count.num_given == 50
        for thread in threading.enumerate():
            if thread.name == "kindaware-drain":
                thread.join(5)


class CountDown(RecordingHost):
    """Answers a call with the numbers below `num`, downwards; 7 is an error.

    Each takes some seconds. `is_read` tells when the caller has read to the end, and a call begins when
    `goes_on` is set.
    """

    def __init__(self, num, *, seconds=0.0):
        super().__init__(server_version=STREAM_ERRORS_SINCE)
        self.num, self.seconds = num, seconds
        self.is_read, self.goes_on = threading.Event(), threading.Event()
        self.goes_on.set()

    def run_bls(self, call):
        self.goes_on.wait(5)
        return self.answers()

    def answers(self):
        for number in reversed(range(self.num)):
            time.sleep(self.seconds)
            if number == 7:
                yield Answer(failure=Failure("seven"))
            else:
                yield Answer((WireTensor.of("Y", np.array([number])),), is_final=number == 0)
        self.is_read.set()

    def stream(self):
        requested = self.pb_utils.InferenceRequest(
            model_name="count", inputs=[], requested_output_names=["Y"]
        )
        return CallStream(
            TritonAdapter.open(self.pb_utils, make_spec(), CpuRuntime(), REPORTER).calls, requested
        )


@pytest.mark.parametrize("how", ["close", "delete", "error"])
def test_call_stream_left_early_leaves_nothing_unread(how):
    host = CountDown(10)
    stream = host.stream()
    assert next(stream) == {"Y": 9}
    if how == "close":
        stream.close()
    elif how == "delete":
        del stream
    else:
        assert next(stream) == {"Y": 8}
        with pytest.raises(RequestError, match="seven"):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)
    assert host.is_read.wait(5)


class LaterFirst(ThreadPoolExecutor):
    """Begins the first task only when the second has begun, and had time for what it does."""

    def __init__(self):
        super().__init__(2)
        self.has_second = threading.Event()

    def submit(self, task):
        if self.has_second.is_set() or not self._threads:
            return super().submit(self._wait, task)
        future = super().submit(task)
        self.has_second.set()
        return future

    def _wait(self, task):
        self.has_second.wait(5)
        time.sleep(0.05)
        task()


def test_call_stream_gives_responses_in_order_whichever_thread_comes_first():
    stream = CountDown(2).stream()

    async def both():
        asyncio.get_running_loop().set_default_executor(LaterFirst())
        return *await asyncio.gather(anext(stream), anext(stream)), await anext(stream, "the end")

    assert asyncio.run(both()) == ({"Y": 1}, {"Y": 0}, "the end")


def answers_with_timeouts(stream, seconds):
    """What a loop gets that gives up waiting for each answer, and goes on."""

    async def collect():
        answers = []
        while True:
            try:
                answers.append((await asyncio.wait_for(stream.__anext__(), seconds))["Y"])
            except asyncio.TimeoutError:
                continue
            except StopAsyncIteration:
                return answers

    return asyncio.run(collect())


@pytest.mark.parametrize("seconds", [0.005, 0.05])
def test_call_stream_whose_waits_are_cancelled_loses_no_answer(seconds):
    stream = CountDown(6, seconds=0.02).stream()
    assert answers_with_timeouts(stream, seconds) == [5, 4, 3, 2, 1, 0]


def test_call_stream_whose_wait_was_cancelled_goes_on_without_asyncio():
    stream = CountDown(6, seconds=0.02).stream()

    async def give_up():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.__anext__(), 0.005)

    asyncio.run(give_up())
    assert [one["Y"] for one in stream] == [5, 4, 3, 2, 1, 0]


def test_call_stream_whose_wait_was_cancelled_raises_the_error_that_came():
    host = CountDown(8, seconds=0.02)
    with pytest.raises(RequestError, match="seven"):
        answers_with_timeouts(host.stream(), 0.005)
    assert host.is_read.wait(5)


@pytest.mark.parametrize("is_begun", [False, True])
def test_call_stream_closed_while_a_thread_waits_for_an_answer_leaves_nothing_unread(is_begun, monkeypatch):
    host = CountDown(10)
    stream = host.stream()
    if is_begun:
        next(stream)
    host.goes_on.clear()
    takers, most_takers, take = [], [], host.classes.ResponseIterator.__next__

    def take_slowly(responses):
        takers.append(threading.current_thread())
        most_takers.append(len(takers))
        host.goes_on.wait(5)
        try:
            return take(responses)
        finally:
            takers.remove(threading.current_thread())

    monkeypatch.setattr(host.classes.ResponseIterator, "__next__", take_slowly)
    got = []
    thread = threading.Thread(target=lambda: got.extend(stream))
    thread.start()
    time.sleep(0.05)
    stream.close()
    time.sleep(0.05)
    assert not host.is_read.is_set()
    host.goes_on.set()
    assert host.is_read.wait(5)
    thread.join(5)
    assert got == []
    assert list(stream) == []
    assert set(most_takers) == {1}  # two would wait for one response for ever


def test_call_stream_read_to_its_end_starts_no_thread():
    stream = CountDown(3).stream()
    before = threading.enumerate()
    assert list(stream) == [{"Y": 2}, {"Y": 1}, {"Y": 0}]
    assert [one for one in threading.enumerate() if one not in before] == []


def test_call_stream_left_early_is_cancelled_where_the_server_can():
    def work(self, X):
        with self.call_stream("count", X=X) as stream:
            next(stream)
        return X

    with open_harness(calling(work), server_version="current") as model:
        assert model.infer(X=[[100_000, 0]]).error is None
        deadline = time.monotonic() + 10
        while any(thread.name == "kindaware-drain" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert model.model("count").instance.num_given < 10_000


def test_call_stream_that_is_never_begun_makes_no_call():
    def work(self, X):
        self.call_stream("count", X=X).close()
        self.call_stream("count", X=X)
        return X

    with open_harness(calling(work)) as model:
        assert model.infer(X=[[5, 0]]).error is None
        assert model.model("count").instance.num_given == 0


def test_stream_that_calls_others_passes_its_request_on():
    class Streaming(KindAwareModel):
        warmup = "off"

        def load(self):
            """Make nothing."""

        async def stream(self, X):
            for _ in range(2):
                yield (await self.call_async("echo", X=X))["Y"]
            async for one in self.call_stream("count", X=X):
                yield one["Y"]

    with open_harness(Streaming, config=make_config("caller", **DECOUPLED)) as model:
        streams = [model.stream(X=[[2, n]], request_id=f"r{n}", timeout=9_000_000) for n in range(3)]
        got = [[result.outputs["Y"].tolist()[0] for result in stream] for stream in streams]
        assert got == [[[2, n], [2, n], [2, n], [3, n + 1]] for n in range(3)]
        assert sorted(one.id for one in echo_of(model).seen) == ["r0", "r0", "r1", "r1", "r2", "r2"]
        assert all(one.timeout > 8_000_000 for one in echo_of(model).seen)


def test_stream_plain_that_calls_others_passes_its_request_on():
    class Streaming(Count):
        def stream(self, X):
            for _ in range(2):
                yield self.call("echo", X=X)["Y"]

    with open_harness(Streaming, config=make_config("caller", **DECOUPLED)) as model:
        for name in ("a", "b"):
            list(model.stream(X=X, request_id=name))
        assert [one.id for one in echo_of(model).seen] == ["a", "a", "b", "b"]


class FailsMidway(Count):
    """Two items, then an error."""

    async def stream(self, X):
        yield X
        yield X
        raise RequestError("no more of that", code="UNSUPPORTED")


@pytest.mark.parametrize(
    ("server_version", "expected"),
    [((24, 10), (2, None)), ((25, 4), (2, ("UNSUPPORTED", "no more of that")))],
)
def test_call_stream_whose_callee_fails_midway_raises_where_the_server_passes_errors_on(
    server_version, expected
):
    got = []

    def work(self, X):
        for one in self.call_stream("fails", X=X):
            got.append(one)
        return X

    with open_harness(calling(work), server_version=server_version) as model:
        model.add_model(FailsMidway, make_config("fails", **DECOUPLED))
        result = model.infer(X=X)
    error = result.error and (result.error.code().name, result.error.message())
    assert (len(got), error) == expected


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_call_stream_whose_concurrent_waits_are_cancelled_gives_the_answers_in_order(order):
    stream = CountDown(6, seconds=0.02).stream()

    async def collect():
        waits = [asyncio.ensure_future(stream.__anext__()) for _ in range(2)]
        await asyncio.sleep(0)
        for place in order:
            waits[place].cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.__anext__(), 0.001)
        return [one["Y"] async for one in stream]

    assert asyncio.run(collect()) == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("is_late", [False, True])
def test_call_stream_that_is_closed_gives_no_answer_that_somebody_gave_up_waiting_for(is_late):
    stream = CountDown(6, seconds=0.02).stream()

    async def collect():
        waiting = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        if is_late:
            time.sleep(0.1)  # the answer has come, and nobody has got it yet
            stream.close()
        waiting.cancel()
        await asyncio.sleep(0.05)
        if not is_late:
            stream.close()
        return [one async for one in stream]

    assert asyncio.run(collect()) == []
    assert list(stream) == []


class Noting(CpuRuntime):
    """Notes when it is waited for, and what is done in its scope."""

    def __init__(self):
        self.log = []

    @contextmanager
    def scope(self):
        self.log.append("enter")
        yield
        self.log.append("leave")

    def wait(self):
        self.log.append("wait")

    def wait_for_host_memory(self):
        self.log.append("wait for host memory")


@pytest.fixture
def noting():
    """A runtime that notes what it is asked for, and an adapter on it."""
    runtime = Noting()
    return runtime, CallAdapter(RecordingHost().pb_utils, runtime)


def test_land_waits_for_tensors_on_the_host_and_for_nothing_else(noting):
    runtime, adapter = noting
    adapter.land([torch.ones(2, device="meta"), np.ones(2), [b"text"]])
    assert runtime.log == []
    adapter.land([np.ones(2), torch.ones(2)])
    assert runtime.log == ["wait for host memory"]


def test_new_request_waits_for_its_inputs_before_it_is_built(noting):
    runtime, adapter = noting
    calls = Calls("m")
    calls.adapter = adapter
    calls.new_request("echo", {"X": torch.ones(1, 2)}, (), -1, None, None, None)
    assert runtime.log == ["wait for host memory"]


def test_new_request_has_the_parameters_that_are_given(noting):
    calls = Calls("m")
    calls.adapter = noting[1]
    _, request = calls.new_request("echo", {}, (), -1, None, None, {"k": 3})
    assert json.loads(request.parameters()) == {"k": 3}


def test_input_that_is_not_contiguous_is_sent_as_a_contiguous_copy():
    value = _to_value(torch.arange(6).reshape(2, 3).T, "input 'X'")
    assert value.is_contiguous()
    assert value.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_input_with_gradients_is_sent_without():
    weight = torch.nn.Parameter(torch.ones(2))
    assert not _to_value(weight, "input 'X'").requires_grad


def test_read_outputs_copies_and_waits_in_the_scope_of_the_device(noting, monkeypatch):
    runtime, adapter = noting
    pb_utils = RecordingHost().pb_utils
    response = pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.ones(2, np.float32))])
    monkeypatch.setattr(CallAdapter, "_value", lambda self, tensor: runtime.log.append(tensor.name()))
    adapter.read_outputs(response)
    assert runtime.log == ["enter", "Y", "wait", "leave"]


def test_new_call_passes_the_trace_on_where_there_is_one():
    made = []
    adapter = CallAdapter(SimpleNamespace(InferenceRequest=lambda **options: made.append(options)), Noting())
    for trace in (None, "the trace"):
        adapter.new_call("echo", {}, trace=trace, requested_outputs=[])
    assert [one.get("trace", "none") for one in made] == ["none", "the trace"]
