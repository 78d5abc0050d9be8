"""One batch on its device: what is current while `forward` runs, what is counted, whom an error blames."""

import time
import weakref

import numpy as np
import pytest
import torch
from core_kit import make_pipeline, make_request, make_spec
from recording_runtime import RecordingRuntime

from kindaware import RequestError, TensorSpec
from kindaware._batch import counters as _counters
from kindaware._batch.collate import CollateError
from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestContext, current_context
from kindaware._device.runtime import CpuRuntime
from kindaware._device.staging import HostStaging, PinnedStaging
from kindaware._errors import OutputError
from kindaware._hooks.blame import blame

ONE = [make_request("r", 1)]


def make_runner(forward, **options):
    return make_pipeline(forward, **options).runner


def on_device(forward, **options):
    """A runner on a device whose memory is not the host's."""
    runtime = RecordingRuntime()
    return make_runner(forward, runtime=runtime, staging=PinnedStaging(runtime, 2**20), **options)


def test_forward_runs_for_the_requests_of_its_batch():
    seen = []
    request = Request(RequestContext("r"), {"X": torch.ones(1, 2)}, 1)
    make_runner(lambda X: seen.append(current_context().request_id) or X).run([request])
    assert seen == ["r"]
    assert current_context().request_id == ""


def test_outputs_of_a_call_are_let_go_when_the_next_begins():
    runner = make_runner(lambda X: 2 * X)
    output = weakref.ref(runner.run(ONE)["Y"])
    assert output() is not None
    runner.begin_call()
    assert output() is None


def test_runner_knows_that_a_batch_has_succeeded():
    runner = make_runner(lambda X: X, has_answered=False)
    runner.run(ONE)
    assert runner.has_answered


def test_forward_runs_in_autocast_where_precision_is_mixed():
    seen = []

    def forward(X):
        seen.append(torch.is_autocast_enabled("cpu"))
        return X

    for precision in ("32-true", "bf16-mixed"):
        make_runner(forward, precision=precision).run(ONE)
    assert seen == [False, True]


def test_stages_take_the_time_until_the_next_begins(monkeypatch):
    now = [0.0]

    class Taking(PinnedStaging):
        def put(self, tensors, target=None):
            now[0] += 1
            return super().put(tensors, target)

        def fetch(self, outputs):
            now[0] += 4
            return super().fetch(outputs)

    def forward(X):
        now[0] += 2
        return X

    monkeypatch.setattr(_counters.time, "perf_counter", lambda: now[0])
    runtime = RecordingRuntime()
    runner = make_runner(forward, runtime=runtime, staging=Taking(runtime, 2**20))
    runner.run(ONE)
    assert runner.counters.seconds == {"read": 0, "copy_in": 1, "forward": 2, "copy_out": 4, "respond": 0}
    assert runner.counters.seconds_per_request == 7


def test_batch_counts_its_requests_rows_and_bytes():
    runner = on_device(lambda X: X)
    runner.run([make_request("a", 1, rows=3), make_request("b", 1)])
    counters = runner.counters
    assert (counters.batches, counters.requests, counters.rows) == (1, 2, 4)
    assert counters.bytes_copied == {"in": 4 * 2 * 4, "out": 4 * 2 * 4}


def test_error_that_another_hook_raised_before_is_blamed_on_forward():
    error = ValueError("again")
    blame(error, "preprocess")

    def forward(X):
        raise error

    [failure] = make_pipeline(forward).run(ONE)
    assert "expected forward to return, got ValueError: again" in failure.text


def test_batch_that_a_graph_has_run_is_run_by_nothing_else(monkeypatch):
    log = []

    class Noting(HostStaging):
        def put(self, tensors, target=None):
            log.append("put")
            return super().put(tensors, target)

    runner = make_runner(lambda X: log.append("forward") or X, staging=Noting())
    by_graph = {"Y": torch.full((1, 2), 5.0)}
    monkeypatch.setattr(runner._graphs, "run", lambda parts, num_rows: by_graph)
    assert runner.run(ONE)["Y"].tolist() == [[5, 5]]
    assert log == []


def test_batch_with_text_is_run_by_no_graph(monkeypatch):
    spec = make_spec(inputs=[TensorSpec("TEXT", "BYTES", [1])])
    runner = make_runner(lambda TEXT: torch.ones(len(TEXT), 2), spec=spec)
    asked = []
    monkeypatch.setattr(runner._graphs, "run", lambda *args: asked.append(args))
    texts = np.array([[b"a"]], dtype=object)
    assert runner.run([Request("r", {"TEXT": texts}, 1)])["Y"].tolist() == [[1, 1]]
    assert asked == []


def test_attempt_that_is_interrupted_in_a_test_is_no_answer():
    def forward(X):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_runner(forward).attempt(ONE)


class Faulty(CpuRuntime):
    """A device that some errors leave unusable."""

    def is_fault(self, error):
        return "CUDA error" in str(error)


def losing(name, tensors):
    """A `collate` that keeps the first request only."""
    return tensors[0]


def raised_by(error):
    """What a batch fails with of which `collate` has lost a row before `forward` raises this."""

    def forward(X):
        raise error

    runner = make_runner(forward, runtime=Faulty(), collate=losing)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each its own
        runner.run([make_request("a", 1), make_request("b", 2)])
    return caught.value


def test_collate_that_lost_rows_is_blamed_for_what_forward_raises():
    assert isinstance(raised_by(ValueError("odd number of rows")), CollateError)


def test_collate_is_not_blamed_for_a_refusal():
    error = RequestError("too large")
    assert raised_by(error) is error


def test_collate_is_not_blamed_for_memory():
    error = MemoryError("full")
    assert raised_by(error) is error


def test_collate_is_not_blamed_for_the_device():
    error = RuntimeError("CUDA error: an illegal access")
    assert raised_by(error) is error


IDS = TensorSpec("IDS", "INT64", [-1])
SAME = TensorSpec("SAME", "INT64", [-1])
PADDED = {
    "spec": make_spec(inputs=[IDS], outputs=[SAME]),
    "pad": {"IDS": 0},
    "unpad": {"SAME": ("IDS",)},
}
TWO_LENGTHS = [Request("r", {"IDS": torch.ones(1, n, dtype=torch.int64)}, 1) for n in (1, 3)]


def test_padded_outputs_that_stay_on_the_device_are_cut_there():
    found = make_runner(lambda IDS: IDS, output_device="instance", **PADDED).run(TWO_LENGTHS)
    assert [one.tolist() for one in found["SAME"]] == [[[1]], [[1, 1, 1]]]


def test_padded_outputs_for_the_host_are_copied_whole():
    found = make_runner(lambda IDS: IDS, **PADDED).run(TWO_LENGTHS)
    assert found["SAME"].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_padded_outputs_of_another_length_than_the_inputs_fail_their_batch():
    runner = make_runner(lambda IDS: IDS[:, :2], **PADDED)
    with pytest.raises(OutputError, match="output 'SAME': expected"):
        runner.run(TWO_LENGTHS)


def stages_of(runner):
    return [(one.name, one.method) for one in runner.stages()]


def test_stages_of_a_host_have_no_copy_to_a_device():
    assert stages_of(make_runner(lambda X: X)) == [
        ("collate", "parts"),
        ("collate", "put"),
        ("forward", "_forward"),
        ("postprocess", "finish"),
        ("copy out", "fetch"),
    ]


def test_stages_of_a_device_have_its_copies_and_its_graphs():
    assert stages_of(on_device(lambda X: X))[1] == ("copy in", "put")
    assert stages_of(on_device(lambda X: X, cuda_graphs=(1,)))[3] == ("forward", "run")


def test_time_of_a_batch_begins_when_the_one_before_it_was_done():
    """Batches that overlap are told late of when each was done."""
    done, seconds = [], []

    class Late(HostStaging):
        def then(self, note):
            done.append(note)

    runner = make_runner(lambda X: X, staging=Late())
    runner.run(ONE, seconds.append)
    runner.run(ONE, seconds.append)
    later = time.perf_counter() + 10
    for note, at in zip(done, (later, later + 5), strict=True):
        note(at)
    assert seconds == [pytest.approx(10, abs=2), pytest.approx(5)]
