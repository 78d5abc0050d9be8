"""One call of the pipeline: what it begins with, which requests it takes, and which of them share a batch."""

import torch
from core_kit import answers_of, make_pipeline, make_request, make_spec, run
from recording_runtime import RecordingRuntime

from kindaware import RequestError, TensorSpec
from kindaware._batch.pipeline import _named, _refuse_other_mask
from kindaware._batch.request import Request
from kindaware._batch.results import Failure, Ledger
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
    ledger = Ledger([], "m")
    ledger.requests = {place: make_request(place, 1, rows=num) for place, num in enumerate([2, 0, 3])}
    return _named(ledger, [0, 1, 2], RequestError("refused", rows=rows))


def test_rows_of_the_batch_name_the_requests_that_they_belong_to():
    assert named_by([0]) == named_by([1]) == [0]
    assert named_by([2]) == named_by([4]) == [2]
    assert named_by([4, 0]) == [0, 2]


def test_rows_that_the_batch_does_not_have_name_nobody():
    assert named_by([5]) == named_by([-1]) == named_by([0, 5]) == named_by(None) == []


def test_request_of_a_model_without_a_batch_dimension_is_one_row():
    ledger = Ledger([], "m")
    ledger.requests = {3: make_request("r", 1, batches=False)}
    assert _named(ledger, [3], RequestError("refused", rows=[0])) == [3]


def test_mask_as_long_as_the_batch_is_the_authors_own_error():
    error = RequestError("refused", rows=[True, False])
    assert _refuse_other_mask(error, 2) is error
    assert _refuse_other_mask(error, 3) is not error
