"""One call of the pipeline: what it begins with, which requests it takes, and which of them share a batch."""

from types import SimpleNamespace

import pytest
import torch
from core_kit import LOGGER, REPORTER, answers_of, make_pipeline, make_plan, make_request, make_spec, run
from recording_runtime import RecordingRuntime

from kindaware import RequestError, TensorSpec
from kindaware._batch.counters import Counters
from kindaware._batch.named_rows import refuse_other_mask
from kindaware._batch.pipeline import Pipeline, _named
from kindaware._batch.request import Request
from kindaware._batch.results import Failure, Ledger
from kindaware._device.health import Health
from kindaware._device.runtime import CpuRuntime
from kindaware._device.staging import PinnedStaging

IDS = TensorSpec("IDS", "INT64", [-1])
SAME = TensorSpec("SAME", "INT64", [-1])


def ids(*row):
    return Request("r", {"IDS": torch.tensor([row])}, 1)


def padding(name, tensors):
    """A `collate` that pads with zeros."""
    width = max(one.shape[1] for one in tensors)
    return torch.cat([torch.nn.functional.pad(one, (0, width - one.shape[1])) for one in tensors])


def on_device(forward):
    """A pipeline on a device whose memory is not the host's, and the runtime of it."""
    runtime = RecordingRuntime()
    return make_pipeline(forward, runtime=runtime, staging=PinnedStaging(runtime, 2**20)), runtime


def test_shapes_that_preprocess_has_changed_are_batches_of_their_own():
    shapes = []

    def preprocess(inputs):
        return {"X": inputs["X"].repeat(1, int(inputs["X"][0, 0]))}

    def forward(X):
        shapes.append(tuple(X.shape))
        return X[:, :2]

    pipeline = make_pipeline(forward, preprocess=preprocess)
    assert answers_of(run(pipeline, [1, 2, 1])) == [1, 2, 1]
    assert shapes == [(2, 2), (1, 4)]


def test_sizes_that_collate_makes_equal_share_a_batch_though_outputs_are_cut():
    shapes = []

    def forward(IDS):
        shapes.append(tuple(IDS.shape))
        return IDS

    spec = make_spec(inputs=[IDS], outputs=[SAME])
    pipeline = make_pipeline(forward, spec=spec, collate=padding, unpad={"SAME": ("IDS",)})
    found = pipeline.run([ids(1), ids(2, 3)])
    assert [one["SAME"].tolist() for one in found] == [[[1]], [[2, 3]]]
    assert shapes == [(2, 2)]


def test_request_that_could_not_be_read_comes_to_no_hook():
    seen = []
    unread = Failure("unreadable", "INVALID_ARG")
    pipeline = make_pipeline(lambda X: X, preprocess=lambda inputs: seen.append(inputs) or inputs)
    first, second = pipeline.run([unread, make_request("r", 3)])
    assert first is unread
    assert answers_of([second]) == [3]
    assert len(seen) == 1


def test_calls_use_the_pinned_memory_of_those_before_again():
    pipeline, runtime = on_device(lambda X: X)
    run(pipeline, [1, 2])
    num_buffers = runtime.count("new_pinned")
    for _ in range(3):
        run(pipeline, [1, 2])
    assert runtime.count("new_pinned") == num_buffers > 0


def test_warm_up_uses_the_pinned_memory_of_the_one_before_again():
    pipeline, runtime = on_device(lambda X: X)
    pipeline.warm_up(make_request("warm-up", 1))
    num_buffers = runtime.count("new_pinned")
    for _ in range(3):
        pipeline.warm_up(make_request("warm-up", 1))
    assert runtime.count("new_pinned") == num_buffers > 0


def test_shape_is_not_to_blame_where_collate_joined_it_with_others_that_were_answered():
    def forward(IDS):
        if (IDS == 7).any() or not IDS.any():
            raise ValueError("refused")
        return IDS[:, 0]

    spec = make_spec(inputs=[IDS], outputs=[TensorSpec("FIRST", "INT64", [])])
    found = make_pipeline(forward, spec=spec, collate=padding).run([ids(1), ids(7, 7)])
    assert [one.code if isinstance(one, Failure) else one["FIRST"].tolist() for one in found] == [
        [1],
        "INTERNAL",
    ]


def test_shape_that_was_answered_within_a_batch_of_others_is_never_to_blame():
    is_down = []

    def forward(IDS):
        if is_down:
            raise ValueError("feature store is down")
        return IDS[:, 0]

    spec = make_spec(inputs=[IDS], outputs=[TensorSpec("FIRST", "INT64", [])])
    pipeline = make_pipeline(forward, spec=spec, collate=padding)
    pipeline.run([ids(1), ids(2, 3)])
    is_down.append(True)
    [failure] = pipeline.run([ids(4, 5)])
    assert failure.code == "INTERNAL"


def test_rows_that_collate_has_lost_are_not_hidden_by_running_each_request_alone():
    batches = []
    pipeline = make_pipeline(
        lambda X: batches.append(len(X)) or X, collate=lambda name, tensors: tensors[0], isolate_errors=True
    )
    assert answers_of(run(pipeline, [1, 2])) == ["INTERNAL"] * 2
    assert batches == [1]


def test_batch_that_does_not_fit_is_halved_even_where_errors_are_not_isolated():
    def forward(X):
        if len(X) > 1:
            raise MemoryError("full")
        return X

    assert answers_of(run(make_pipeline(forward, isolate_errors=False), [1, 2])) == [1, 2]


def named_by(rows):
    """The positions of the requests, of 2, 0 and 3 rows, that an error names by these rows of the batch."""
    ledger = Ledger([], REPORTER)
    ledger.requests = {place: make_request(place, 1, rows=num) for place, num in enumerate([2, 0, 3])}
    return _named(ledger, [0, 1, 2], RequestError("refused", rows=rows))


def test_rows_of_the_batch_name_the_requests_that_they_belong_to():
    assert named_by([0]) == named_by([1]) == [0]
    assert named_by([2]) == named_by([4]) == [2]
    assert named_by([4, 0]) == [0, 2]


def test_rows_that_the_batch_does_not_have_name_nobody():
    assert named_by([5]) == named_by([-1]) == named_by([0, 5]) == named_by(None) == []


def test_request_of_a_model_without_a_batch_dimension_is_one_row():
    ledger = Ledger([], REPORTER)
    ledger.requests = {3: make_request("r", 1, batches=False)}
    assert _named(ledger, [3], RequestError("refused", rows=[0])) == [3]


def test_mask_as_long_as_the_batch_is_the_authors_own_error():
    error = RequestError("refused", rows=[True, False])
    assert refuse_other_mask(error, 2) is error
    assert refuse_other_mask(error, 3) is not error


class Runner:
    """Answers a batch with the first number of each row, unless a function of its ids raises."""

    has_answered = True
    max_rows = None

    def __init__(self, check=lambda ids: None):
        runtime = CpuRuntime()
        self.device = SimpleNamespace(health=Health(runtime, "m", LOGGER), runtime=runtime, staging=None)
        self.counters, self.check, self.log = Counters(), check, []

    def begin_call(self):
        self.log.append("begin")

    def run(self, requests):
        self.log.append([one.id for one in requests])

    def attempt(self, requests):
        self.run(requests)
        try:
            self.check([one.id for one in requests])
        except Exception as error:
            return error
        return {"Y": torch.cat([one.inputs["X"][:, :1] for one in requests])}


ANY = TensorSpec("X", "FP32", [-1])
WIDTHS = (2, 3, 2)


def refusing(*bad, error=ValueError):
    """A check that raises for these ids."""

    def check(ids):
        if set(ids) & set(bad):
            raise error("refused")

    return check


def open_pipeline(check=lambda ids: None, **options):
    runner = Runner(check)
    return Pipeline(make_plan(lambda X: X, **options), runner), runner


def batches_of(*, inputs=None, **hooks):
    """The ids of each batch of one call whose requests are of these widths."""
    pipeline, runner = open_pipeline(spec=make_spec(inputs=inputs), **hooks)
    pipeline.run([make_request(n, n, width=width) for n, width in enumerate(WIDTHS)])
    return runner.log[1:]


def test_requests_of_one_shape_are_a_batch():
    assert batches_of(inputs=[ANY]) == [["0", "2"], ["1"]]


def test_requests_of_one_shape_behind_preprocess_are_a_batch():
    assert batches_of(preprocess=lambda inputs: inputs) == [["0", "2"], ["1"]]


def test_requests_that_collate_may_join_are_a_batch():
    assert batches_of(inputs=[ANY], collate=padding) == [["0", "1", "2"]]


def test_requests_that_collate_may_join_are_a_batch_where_outputs_follow_inputs():
    spec = make_spec(inputs=[ANY], outputs=[TensorSpec("Y", "FP32", [-1])])
    pipeline, _ = open_pipeline(spec=spec, collate=padding, unpad={"Y": ("X",)})
    ledger = Ledger([], REPORTER)
    ledger.requests = {n: make_request(n, n, width=width) for n, width in enumerate(WIDTHS)}
    assert pipeline._groups(ledger) == [[0, 1, 2]]


def test_run_and_warm_up_begin_a_call_first():
    pipeline, runner = open_pipeline()
    pipeline.run([make_request("a", 1)])
    pipeline.warm_up(make_request("b", 1))
    assert runner.log == ["begin", ["a"], "begin", ["b"]]


def test_run_counts_the_requests_that_failed_by_code():
    pipeline, runner = open_pipeline(refusing("1", error=RequestError))
    pipeline.run([make_request(n, n) for n in range(3)])
    assert runner.counters.errors == {"INVALID_ARG": 1}


def break_device(pipeline, ids):
    if ids == ["1"]:
        pipeline.runner.device.health.fault = "CUDA error"
        raise RuntimeError("CUDA error")


@pytest.mark.parametrize("keeps", [False, True])
def test_run_answers_on_the_host_outlive_the_device(keeps):
    options = {"output_device": "instance"} if keeps else {}
    pipeline, runner = open_pipeline(spec=make_spec(inputs=[ANY]), **options)
    runner.check = lambda ids: break_device(pipeline, ids)
    found = pipeline.run([make_request(n, n, width=width) for n, width in enumerate(WIDTHS)])
    assert answers_of(found) == ["UNAVAILABLE" if keeps else 0, "UNAVAILABLE", "UNAVAILABLE" if keeps else 2]


def test_run_answers_on_a_device_that_works_are_kept():
    pipeline, _ = open_pipeline(output_device="instance")
    assert answers_of(pipeline.run([make_request("a", 3)])) == [3]


def test_run_shape_is_not_to_blame_where_the_model_has_never_answered():
    pipeline, runner = open_pipeline(refusing("a"), spec=make_spec(inputs=[ANY]))
    assert answers_of(pipeline.run([make_request("a", 1)])) == ["INVALID_ARG"]
    runner.has_answered = False
    assert answers_of(pipeline.run([make_request("a", 1)])) == ["INTERNAL"]


def test_run_preprocess_that_is_interrupted_in_a_test_stops_it():
    def preprocess(inputs):
        raise KeyboardInterrupt

    pipeline, _ = open_pipeline(preprocess=preprocess)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run([make_request("a", 1)])


def test_run_shape_is_not_asked_for_where_another_request_of_the_batch_was_answered():
    pipeline, runner = open_pipeline(refusing("1"), spec=make_spec(inputs=[ANY]), collate=padding)
    pipeline.run([make_request(n, n, width=width) for n, width in enumerate((2, 3))])
    assert runner.log == ["begin", ["0", "1"], ["0"], ["1"]]


def test_run_batch_that_does_not_fit_is_halved():
    def check(ids):
        if len(ids) > 1:
            raise MemoryError("full")

    pipeline, _ = open_pipeline(check, isolate_errors=False)
    assert answers_of(pipeline.run([make_request(n, n) for n in range(2)])) == [0, 1]


def test_run_rows_that_are_no_numbers_name_nobody():
    class OwnError(RequestError):
        def __init__(self, text):
            super().__init__(text)
            self.rows = ["0"]

    pipeline, _ = open_pipeline(refusing("1", error=OwnError))
    assert answers_of(pipeline.run([make_request(n, n) for n in range(2)])) == [0, "INVALID_ARG"]
