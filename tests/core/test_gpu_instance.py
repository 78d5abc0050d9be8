"""A GPU instance, with the CUDA runtime as it is, on simulated GPUs: order, memory, who owns what."""

import functools
from types import SimpleNamespace

import pytest
import torch
from core_kit import pipeline_of, start, tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kindaware import Done, KindAwareModel
from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware._device import staging as _staging
from kindaware.testing.accelerator import SimulatedAccelerator
from searches import examples

KIB = 2**10


@pytest.fixture
def accelerator():
    """Two simulated GPUs in the place of torch's; a use against CUDA's rules fails the test."""
    simulated = SimulatedAccelerator(2)
    with simulated.installed(lambda *_: None), simulated.entered():
        yield simulated
    assert simulated.violations == []


class Identity(KindAwareModel):
    """Gives its input back."""

    def load(self):
        """Make nothing."""

    def forward(self, X):
        return X


def on_gpu(model, *parts):
    """Requests whose inputs lie in memory of the GPU that is not the model's own."""
    requests = [Request("r", {"X": part.to(model.device)}, len(part)) for part in parts]
    torch.cuda.synchronize(model.device)
    return requests


def test_batches_that_are_run_to_be_measured_take_the_buffers_of_the_one_before(accelerator):
    model = start(Identity, kind="GPU", device_id=1, parameters={"kindaware.warmup": "off"})
    pipeline = pipeline_of(model)
    request = Request("r", {"X": torch.ones(2, 4)}, 2)
    trial, held = pipeline.trial(request), set()
    for run in (trial, trial, lambda: pipeline.run_alone(request), lambda: pipeline.run_alone(request)):
        run()
        held.add(model._kindaware_instance._device.staging.statistics.pinned_bytes)
    assert len(held) == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("GPU", "kind GPU, device cuda:1, own stream, threads "),
        ("CPU", "kind CPU, device cpu, threads "),
        ("MODEL", "kind MODEL, device cpu, model_devices=cpu, threads "),
    ],
)
def test_initialize_logs_where_the_instance_runs(accelerator, caplog, kind, text):
    caplog.set_level("INFO")
    start(Identity, kind=kind, device_id=1, parameters={"kindaware.model_devices": "cpu"})
    assert text in caplog.text


@pytest.mark.parametrize(("kind", "told"), [("GPU", "off"), ("CPU", "on")])
def test_initialize_keeps_memory_of_the_host_on_the_cpu_alone(accelerator, monkeypatch, kind, told):
    plans = []
    nothing = SimpleNamespace(keep=lambda: None, share_arena=lambda: None)
    monkeypatch.setattr(
        "kindaware._instance.plan_malloc", lambda setting, _: plans.append(setting) or nothing
    )
    start(Identity, kind=kind, parameters={"kindaware.keep_memory": "on"})
    assert plans == [told]


class Async(Identity):
    async def forward(self, X):
        return X


class Stepping(KindAwareModel):
    def load(self):
        """Make nothing."""

    def begin(self, X):
        return X

    def step(self, states):
        return [Done(state) for state in states]


DECOUPLED = {"model_transaction_policy": {"decoupled": True}}


@pytest.mark.parametrize(
    ("model_class", "changes", "told"),
    [
        (Identity, {}, ["keep"]),
        (Async, {}, ["share_arena", "keep"]),
        (Stepping, DECOUPLED, ["share_arena", "keep"]),
    ],
)
def test_initialize_shares_the_arena_before_it_starts_threads_and_keeps_memory_after_load(
    monkeypatch, model_class, changes, told
):
    calls = []
    plan = SimpleNamespace(
        **{name: functools.partial(calls.append, name) for name in ("keep", "share_arena")}
    )
    monkeypatch.setattr("kindaware._instance.plan_malloc", lambda *_: plan)

    class Loads(model_class):
        def load(self):
            calls.append("load")

    model = start(Loads, **changes)
    assert calls == [*told[:-1], "load", told[-1]]
    model.finalize()


@pytest.mark.parametrize("stream", ["default", "own"])
def test_initialize_waits_for_weights_that_load_queued_on_another_stream(accelerator, stream):
    class Model(KindAwareModel):
        def load(self):
            side = torch.cuda.default_stream() if stream == "default" else torch.cuda.Stream()
            with torch.cuda.stream(side):
                self.weight = torch.full((4,), 3.0).pin_memory().to(self.device, non_blocking=True)

        def forward(self, X):
            return self.weight * X

    model = start(Model, kind="GPU", device_id=1)
    [outcome] = pipeline_of(model).run([Request("r", {"X": torch.ones(2, 4)}, 2)])
    assert outcome["Y"].tolist() == [[3] * 4] * 2


@pytest.mark.parametrize("counts", [(2,), (1, 3), (1, 1, 1)])
@pytest.mark.parametrize("output_device", ["cpu", "instance"])
@pytest.mark.parametrize("cuda_graphs", ["off", "4"])
def test_run_inputs_on_the_gpu_are_done_with_when_the_call_returns(
    accelerator, counts, output_device, cuda_graphs
):
    parameters = {"kindaware.output_device": output_device, "kindaware.cuda_graphs": cuda_graphs}
    model = start(Identity, kind="GPU", device_id=1, parameters=parameters)
    parts = [torch.full((count, 4), float(place)) for place, count in enumerate(counts)]
    requests = on_gpu(model, *parts)
    outcomes = pipeline_of(model).run(requests)
    assert accelerator.num_pending == 0
    for request in requests:
        request.inputs["X"].fill_(-1)  # as whoever owns the memory next
    torch.cuda.synchronize(model.device)
    for part, outcome in zip(parts, outcomes, strict=True):
        assert outcome["Y"].device.type == ("cpu" if output_device == "cpu" else "cuda")
        assert torch.equal(outcome["Y"].cpu(), part)


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_run_forward_that_raises_leaves_nothing_at_work_on_the_inputs(accelerator, where):
    class Model(Identity):
        def forward(self, X):
            doubled = 2 * X
            if len(X) == 2:
                raise ValueError("two rows")
            return doubled

    model = start(Model, kind="GPU", device_id=1)
    part = torch.ones(2, 4)
    [outcome] = pipeline_of(model).run(
        on_gpu(model, part) if where == "gpu" else [Request("r", {"X": part}, 2)]
    )
    assert isinstance(outcome, Failure)
    assert accelerator.num_pending == 0


def test_run_out_of_memory_finds_the_room_that_the_failed_batch_had():
    class Model(KindAwareModel):
        def load(self):
            """Make nothing."""

        def forward(self, X):
            first = X + 1
            second = first + 1
            return second[:, :4].clone()

    row_kib, width = 64, 16 * KIB
    limited = SimulatedAccelerator(1, memory_bytes=8 * 4 * row_kib * KIB)
    wide = {"input": [tensor("X", [width])], "output": [tensor("Y", [4])], "max_batch_size": 16}
    with limited.installed(lambda *_: None), limited.entered():
        model = start(Model, kind="GPU", **wide)
        requests = [Request("r", {"X": torch.full((1, width), float(n))}, 1) for n in range(16)]
        outcomes = pipeline_of(model).run(requests)
    assert limited.violations == []
    assert [one["Y"][0, 0].item() for one in outcomes] == [n + 2 for n in range(16)]


class Net(KindAwareModel):
    """A layer whose answer depends on its row alone."""

    def load(self):
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def warmup_inputs(self, rows):
        return {"X": torch.ones(rows, 4)}

    def forward(self, X):
        return self.model(X) if X.shape[1] == 4 else 2 * X


DYNAMIC = {"input": [tensor("X", [-1])], "output": [tensor("Y", [-1])]}
CALLS = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([3, 4, 4]), st.booleans()), max_size=5),
    min_size=1,
    max_size=4,
)


@settings(max_examples=examples(60), deadline=None)
@given(CALLS, st.sampled_from(["off", "2,6", "16"]), st.sampled_from(["cpu", "instance"]), st.integers(0, 1))
def test_run_any_calls_give_what_the_cpu_gives(calls, cuda_graphs, output_device, in_pieces):
    torch.manual_seed(0)
    host = start(Net, **DYNAMIC, max_batch_size=16)
    parameters = {"kindaware.cuda_graphs": cuda_graphs, "kindaware.output_device": output_device}
    simulated = SimulatedAccelerator(2)
    piece_bytes = _staging.PIECE_BYTES
    _staging.PIECE_BYTES = 40 if in_pieces else piece_bytes
    try:
        with simulated.installed(lambda *_: None), simulated.entered():
            torch.manual_seed(0)
            model = start(Net, kind="GPU", device_id=1, parameters=parameters, **DYNAMIC, max_batch_size=16)
            for call in calls:
                parts = [torch.randn(rows, width) for rows, width, _ in call]
                expected = pipeline_of(host).run([Request("r", {"X": part}, len(part)) for part in parts])
                requests = [
                    on_gpu(model, part)[0] if is_on_gpu else Request("r", {"X": part}, len(part))
                    for part, (*_, is_on_gpu) in zip(parts, call, strict=True)
                ]
                outcomes = pipeline_of(model).run(requests)
                assert simulated.num_pending == 0
                for one, other in zip(outcomes, expected, strict=True):
                    torch.testing.assert_close(one["Y"].cpu(), other["Y"])
    finally:
        _staging.PIECE_BYTES = piece_bytes
    assert simulated.violations == []
