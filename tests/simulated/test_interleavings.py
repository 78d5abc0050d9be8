"""Batch after batch, with bad rows and errors among them, while the devices run ahead as hypothesis says."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interleavings import Kept, drawn
from simulated_kit import ON_GPU, Doubler, assert_clean, make_config, serve, staging_of, tensor

from kindaware import RequestError
from kindaware._device import staging as _staging
from searches import examples

BAD, REFUSED = 1000.0, 2000.0
CONFIG = make_config(
    max_batch_size=64,
    input=[tensor("X", [-1]), tensor("Z", [2], "TYPE_INT64")],
    output=[tensor("Y", [-1]), tensor("W", [2], "TYPE_INT64")],
)


class Plain(Doubler):
    """Y = 2 X, W = 3 Z; raises for a bad row, refuses one in preprocess."""

    def preprocess(self, inputs):
        if (inputs["X"] == REFUSED).any():
            raise RequestError("refused")
        return inputs

    def forward(self, X, Z):
        if (X == BAD).any():
            raise ValueError("bad row")
        return self.compute(X, Z)

    def compute(self, X, Z):
        return 2 * X, 3 * Z


class Reusing(Plain):
    """Leaves outputs where the next forward writes."""

    def load(self):
        self.memory = torch.empty(2**16, device=self.device)

    def compute(self, X, Z):
        return self.memory[: X.numel()].view(X.shape).copy_(2 * X), 3 * Z


class Aside(Plain):
    """Computes on a stream of its own, and says so to torch's allocator."""

    def load(self):
        self.side = torch.cuda.Stream()

    def compute(self, X, Z):
        own = torch.cuda.current_stream()
        self.side.wait_stream(own)
        with torch.cuda.stream(self.side):
            doubled = 2 * X
        X.record_stream(self.side)
        own.wait_stream(self.side)
        doubled.record_stream(own)
        return doubled, 3 * Z


class Far(Plain):
    """Computes on the other GPU."""

    def compute(self, X, Z):
        return (2 * X.to("cuda:0")).to(self.device), 3 * Z.to("cuda:0")


class Unread(Plain):
    """What a graph can record: nothing in it depends on the values."""

    def forward(self, X, Z):
        return self.compute(X, Z)


SERVED = {
    "plain": (Plain, {}),
    "reuses its memory": (Reusing, {"output_device": "instance"}),
    "own stream": (Aside, {"output_device": "instance"}),
    "two GPUs": (Far, {}),
    "no pinned memory": (Plain, {"pinned_limit_bytes": 0}),
    "little pinned memory": (Reusing, {"pinned_limit_bytes": 16384}),
    "graphs": (Unread, {"cuda_graphs": "2,5,8"}),
    "graphs, outputs stay": (Unread, {"cuda_graphs": "2,5,8", "output_device": "instance"}),
}


class Graphed(Unread):
    """The sizes of CUDA graphs are recorded for rows of four."""

    def warmup_inputs(self, rows):
        return {"X": torch.zeros(rows, 4), "Z": torch.zeros(rows, 2, dtype=torch.int64)}


def open_kept(name, **more):
    model, options = SERVED[name]
    if "cuda_graphs" in options:
        model = Graphed
    return Kept(lambda: serve(model, config=CONFIG, takes_gpu_inputs=True, **options, **more))


@pytest.fixture(params=SERVED)
def kept(request):
    kept = open_kept(request.param)
    yield kept
    kept.close()


@pytest.fixture(params=SERVED)
def kept_overlapping(request):
    kept = open_kept(request.param, overlap_calls="true")
    yield kept
    kept.close()


REQUESTS = st.tuples(
    st.integers(1, 3),  # rows
    st.sampled_from([4, 4, 4, 4, 1, 700]),  # width
    st.sampled_from(["cpu"] * 5 + [ON_GPU, "cuda:0"]),
    st.sampled_from(["good"] * 6 + ["bad", "refused"]),
)
BATCHES = st.lists(st.lists(REQUESTS, min_size=1, max_size=4), min_size=1, max_size=4)


def make_batch(batch, first):
    """Requests whose every row differs from all others."""
    sent = []
    for place, (rows, width, device, fate) in enumerate(batch):
        start = first + 10 * place
        values = np.repeat(start + np.arange(rows, dtype=np.float32)[:, None], width, axis=1)
        if fate != "good":
            values[-1, -1] = BAD if fate == "bad" else REFUSED
        whole = np.repeat(start + np.arange(rows)[:, None], 2, axis=1)
        sent.append({"inputs": {"X": values, "Z": whole}, "input_device": device})
    return sent


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    """Wide inputs go to the device in pieces."""
    monkeypatch.setattr(_staging, "PIECE_BYTES", 4096)


def assert_fates(harness, batch, sent, results):
    for (_, _, _, fate), entry, result in zip(batch, sent, results, strict=True):
        x, z = entry["inputs"].values()
        if fate == "refused":
            assert "refused" in result.error.message()
        elif fate == "bad" and not isinstance(harness.instance, Unread):
            assert "bad row" in result.error.message()
        else:
            assert result.error is None
            np.testing.assert_array_equal(result.outputs["Y"], 2 * x)
            np.testing.assert_array_equal(result.outputs["W"], 3 * z)


@given(batches=BATCHES, data=st.data())
@settings(max_examples=examples(120), deadline=None, suppress_health_check=list(HealthCheck))
def test_execute_answers_do_not_depend_on_when_the_device_works(request, kept, batches, data):
    with kept.use() as harness, drawn(harness, request.node.name, batches, data):
        for number, batch in enumerate(batches):
            sent = make_batch(batch, 1 + 50 * number)
            assert_fates(harness, batch, sent, harness.infer_batch(sent))
            assert_clean(harness)
        statistics = staging_of(harness).statistics
        assert statistics.pinned_bytes <= harness.instance.settings.pinned_limit_bytes


@given(batches=BATCHES, data=st.data())
@settings(max_examples=examples(120), deadline=None, suppress_health_check=list(HealthCheck))
def test_execute_answers_of_calls_that_overlap_do_not_depend_on_when_the_device_works(
    request, kept_overlapping, batches, data
):
    with kept_overlapping.use() as harness, drawn(harness, request.node.name, batches, data):
        calls = [make_batch(batch, 1 + 50 * number) for number, batch in enumerate(batches)]
        # The next call comes before the last is answered.
        streams = [harness.stream_batch(sent) for sent in calls]
        for batch, sent, of_call in zip(batches, calls, streams, strict=True):
            assert_fates(harness, batch, sent, [next(stream) for stream in of_call])
        assert harness.accelerator.violations == []
        statistics = staging_of(harness).statistics
        assert statistics.pinned_bytes <= harness.instance.settings.pinned_limit_bytes
