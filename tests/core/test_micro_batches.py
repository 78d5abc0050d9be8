"""No forward gets more rows than it may: calls are divided, a large request is cut, its answers joined."""

import re

import numpy as np
import pytest
import torch
from core_kit import (
    REPORTER,
    Doubler,
    Faulty,
    Releasing,
    answers_of,
    make_pipeline,
    make_request,
    make_spec,
    start,
    written_config,
)

from kindaware import ConfigError, RequestError, TensorSpec
from kindaware._batch import splitter as _splitter
from kindaware._batch.micro_batches import micro_batches
from kindaware._batch.request import HostArray, Request
from kindaware._batch.request_info import RequestInfo
from kindaware._batch.results import Failure, Ledger
from kindaware._tensors.rows import RaggedRows
from kindaware.testing import ModelHarness

LIMIT = 4


def ledger_of(*rows):
    requests = [make_request(place, place, rows=num) for place, num in enumerate(rows)]
    ledger = Ledger(requests, REPORTER)
    ledger.requests = dict(enumerate(requests))
    return ledger


def rows_of(*rows, positions=None):
    """The rows of each batch, by request or slice."""
    ledger = ledger_of(*rows)
    batches = micro_batches(ledger, positions or range(len(rows)), LIMIT)
    return [[(ledger.requests[one].id, ledger.requests[one].rows) for one in batch] for batch in batches]


def test_micro_batches_join_requests_while_there_is_room():
    assert rows_of(1, 2, 1, 1) == [[("0", 1), ("1", 2), ("2", 1)], [("3", 1)]]
    assert rows_of(4, 4) == [[("0", 4)], [("1", 4)]]


def test_micro_batches_never_cut_a_request_that_fits():
    assert rows_of(3, 3, 1) == [[("0", 3)], [("1", 3), ("2", 1)]]


def test_micro_batches_cut_a_request_that_does_not_fit_and_share_its_last_slice():
    assert rows_of(1, 10, 2, 1) == [[("0", 1)], [("1", 4)], [("1", 4)], [("1", 2), ("2", 2)], [("3", 1)]]
    assert rows_of(8, 1) == [[("0", 4)], [("0", 4)], [("1", 1)]]


def test_micro_batches_of_a_group_are_those_of_its_requests_alone():
    assert rows_of(1, 2, 3, positions=[2, 0]) == [[("2", 3), ("0", 1)]]


def test_micro_batches_of_a_request_without_rows_leave_none_out():
    assert rows_of(0, 1) == [[("0", 0)], [("1", 1)]]


def test_slices_are_the_rows_of_each_kind_of_input_in_order():
    rows = torch.arange(5)
    inputs = {
        "X": rows[:, None],
        "TEXT": np.array([[b"%d" % n] for n in range(5)], dtype=object),
        "APART": RaggedRows([torch.ones(n) for n in range(5)]),
    }
    info = RequestInfo("7", 5, parameters={"a": 1})
    first, second = Request("7", inputs, 5, info, row_cost=3.0).slices(3)
    assert [first.rows, second.rows] == [first.info.rows, second.info.rows] == [3, 2]
    assert [first.is_continued, second.is_continued] == [False, True]
    assert second.inputs["X"].tolist() == [[3], [4]]
    assert second.inputs["TEXT"].tolist() == [[b"3"], [b"4"]]
    assert second.inputs["APART"].row_shapes == [(3,), (4,)]
    assert first.inputs["X"].data_ptr() == rows.data_ptr()
    assert second.info.parameters == {"a": 1}
    assert second.row_cost == 3
    # What a hook says about the response is said about the request.
    second.info.response_parameters["b"] = 2
    assert info.response_parameters == {"b": 2}


def test_slices_of_an_array_are_arrays_which_are_joined_without_tensors():
    [first, second] = Request("7", HostArray("X", np.arange(6).reshape(3, 2)), 3).slices(2)
    assert isinstance(first.inputs, HostArray)
    assert second.inputs.name == "X"
    assert second.inputs.array.tolist() == [[4, 5]]


class Seen:
    """Doubles, and notes the batches."""

    def __init__(self, bad=()):
        self.batches, self.bad = [], set(bad)

    def __call__(self, X):
        self.batches.append(X[:, 0].tolist())
        if self.bad & set(self.batches[-1]):
            raise ValueError("bad row")
        return 2 * X


def counting(request_id, *values):
    """A request with a row per value."""
    return Request(request_id, {"X": torch.tensor(values, dtype=torch.float32).repeat(2, 1).T}, len(values))


def values_of(results):
    return [one.code if isinstance(one, Failure) else one["Y"][:, 0].tolist() for one in results]


def test_run_answers_a_request_that_is_cut_as_one():
    forward = Seen()
    pipeline = make_pipeline(forward, max_rows_per_forward=LIMIT)
    found = pipeline.run([counting("a", 1), counting("b", *range(2, 12)), counting("c", 12, 13)])
    assert values_of(found) == [[2], [2 * n for n in range(2, 12)], [24, 26]]
    assert forward.batches == [[1], [2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 12, 13]]
    assert all(one["Y"].is_contiguous() for one in found)


def test_run_counts_a_request_that_is_cut_once():
    pipeline = make_pipeline(Seen(), max_rows_per_forward=LIMIT)
    pipeline.run([counting("a", *range(10)), counting("b", 1)])
    counters = pipeline.runner.counters
    assert (counters.requests, counters.rows, counters.batches) == (2, 11, 3)
    assert counters.seconds_per_request > 0


@pytest.mark.parametrize("limit", [None, 64, 65])
def test_run_without_a_limit_below_the_largest_batch_is_one_forward(limit):
    forward = Seen()
    make_pipeline(forward, max_rows_per_forward=limit).run([counting("a", *range(64))])
    assert [len(one) for one in forward.batches] == [64]


def test_run_error_of_a_slice_fails_its_request_and_no_other(caplog):
    forward = Seen(bad=[7])
    pipeline = make_pipeline(forward, max_rows_per_forward=LIMIT)
    found = pipeline.run([counting("a", *range(1, 10)), counting("b", 20)])
    assert values_of(found) == ["INTERNAL", [40]]
    assert "request 'a': expected forward to return, got ValueError: bad row" in found[0].text
    # The second slice fails, the last is alone with the other request.
    assert forward.batches == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 20]]
    [record] = caplog.records
    assert "failed 1 request(s), ids ['a']: " in record.getMessage()


def test_run_error_of_several_slices_is_logged_once_for_their_request(caplog):
    pipeline = make_pipeline(Seen(bad=[1, 9]), max_rows_per_forward=LIMIT)
    found = pipeline.run([counting("a", *range(1, 10)), counting("b", 9)])
    assert values_of(found) == ["INTERNAL"] * 2
    [record] = caplog.records
    assert "failed 2 request(s), ids ['a', 'b']: " in record.getMessage()


def test_run_rows_that_an_error_names_are_those_of_its_slice():
    def forward(X):
        bad = X[:, 0] == 6
        if bad.any():
            raise RequestError("six", rows=bad)
        return X

    pipeline = make_pipeline(forward, max_rows_per_forward=LIMIT)
    found = pipeline.run([counting("a", *range(1, 6)), counting("b", 6), counting("c", 7)])
    assert [one.text if isinstance(one, Failure) else "" for one in found] == ["", "six", ""]


def test_run_shape_of_a_cut_request_is_named_as_the_client_sent_it():
    def forward(X):
        if X.shape[1] == 3:
            raise ValueError("two columns")
        return X

    spec = make_spec(inputs=[TensorSpec("X", "FP32", [-1])])
    pipeline = make_pipeline(forward, spec=spec, max_rows_per_forward=LIMIT)
    [failure] = pipeline.run([Request("a", {"X": torch.ones(9, 3)}, 9)])
    assert failure.code == "INVALID_ARG"
    assert "got {'X': [9, 3]} (ValueError: two columns)" in failure.text


def test_run_infos_of_a_forward_have_the_rows_of_its_batch_and_keep_what_they_were_told():
    seen = []

    def forward(X, requests):
        seen.append([(one.id, one.rows) for one in requests])
        requests[0].response_parameters[f"n{len(seen)}"] = len(X)
        return X

    request = counting("a", *range(6))
    request.info = RequestInfo("a", 6)
    make_pipeline(forward, max_rows_per_forward=LIMIT).run([request])
    assert seen == [[("a", 4)], [("a", 2)]]
    assert request.info.response_parameters == {"n1": 4, "n2": 2}


def test_run_postprocess_gets_what_each_forward_returned():
    seen = []
    pipeline = make_pipeline(
        lambda X: X,
        postprocess=lambda outputs: seen.append(len(outputs["Y"])) or outputs,
        max_rows_per_forward=LIMIT,
    )
    pipeline.run([counting("a", *range(6))])
    assert seen == [4, 2]


OUTPUTS = (TensorSpec("Y", "FP32", [-1]), TensorSpec("TEXT", "BYTES", [1]))


def test_run_joins_texts_and_lists_of_one_per_row():
    def forward(X):
        return {"Y": [row[:1] for row in X], "TEXT": [[str(int(n))] for n in X[:, 0]]}

    pipeline = make_pipeline(forward, spec=make_spec(outputs=OUTPUTS), max_rows_per_forward=LIMIT)
    [found] = pipeline.run([counting("a", *range(6))])
    assert found["Y"].tolist() == [[n] for n in range(6)]
    assert found["TEXT"].tolist() == [[b"%d" % n] for n in range(6)]


def test_run_slices_of_different_size_are_refused_by_name(caplog):
    pipeline = make_pipeline(
        lambda X: X[:, : 1 + int(X[0, 0] > 3)],
        spec=make_spec(outputs=OUTPUTS[:1]),
        max_rows_per_forward=LIMIT,
    )
    refused, answered = pipeline.run([counting("a", *range(6)), counting("b", 1, 2, 3)])
    assert refused == Failure(
        "model 'm' output 'Y': expected rows of one size in the 2 slices of a request, got shapes [[4, 1], "
        "[2, 2]]; return rows of one size, or raise max_rows_per_forward",
        "INTERNAL",
    )
    assert answered["Y"].shape == (3, 1)
    assert "failed 1 request(s), ids ['a']: " in caplog.text


def test_run_rows_that_the_model_has_lost_are_refused():
    pipeline = make_pipeline(lambda X: X[:1], max_rows_per_forward=LIMIT)
    [failure] = pipeline.run([counting("a", *range(6))])
    assert "expected 4 rows, as many as the batch has, got shape [1, 2]" in failure.text


def test_run_memory_that_runs_out_for_joining_fails_the_request_and_is_released(monkeypatch):
    def full(_):
        raise MemoryError("full")

    monkeypatch.setattr(_splitter, "concat_values", full)
    runtime = Releasing()
    pipeline = make_pipeline(lambda X: X, runtime=runtime, max_rows_per_forward=LIMIT)
    found = pipeline.run([counting("a", *range(6)), counting("b", 1)])
    assert values_of(found) == ["INTERNAL", [1]]
    assert "request 'a': expected joining the outputs of slices to return, got MemoryError" in found[0].text
    assert runtime.num_releases == 1


@pytest.mark.parametrize(("output_device", "waits"), [("cpu", []), ("instance", ["wait"])])
def test_run_slices_that_stay_on_the_device_are_joined_before_it_is_waited_for(output_device, waits):
    runtime = Releasing()
    options = {"max_rows_per_forward": LIMIT, "output_device": output_device}
    pipeline = make_pipeline(lambda X: X, runtime=runtime, **options)
    assert values_of(pipeline.run([counting("a", *range(6))])) == [list(range(6))]
    assert runtime.log == waits


def test_run_device_that_fails_while_slices_are_joined_is_noted_and_the_call_raises(monkeypatch):
    def fail(_):
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(_splitter, "concat_values", fail)
    pipeline = make_pipeline(lambda X: X, runtime=Faulty(), max_rows_per_forward=LIMIT)
    with pytest.raises(RuntimeError, match="CUDA error"):
        pipeline.run([counting("a", *range(6))])
    assert pipeline.runner.device.health.fault == "RuntimeError: CUDA error: an illegal memory access"


def test_run_device_that_fails_in_a_slice_leaves_its_request_unanswered():
    def forward(X):
        if (X == 5).any():
            raise RuntimeError("CUDA error: an illegal memory access")
        return X

    pipeline = make_pipeline(forward, runtime=Faulty(), max_rows_per_forward=LIMIT)
    found = pipeline.run([counting("a", 1), counting("b", *range(2, 12))])
    assert values_of(found) == [[1], "UNAVAILABLE"]


def test_run_refusal_of_preprocess_stays_in_its_place_beside_a_request_that_is_cut():
    def preprocess(inputs):
        if len(inputs["X"]) == 1:
            raise RequestError("one row")
        return inputs

    pipeline = make_pipeline(lambda X: X, preprocess=preprocess, max_rows_per_forward=LIMIT)
    found = pipeline.run([counting("a", 1), counting("b", *range(6)), Failure("unread", "INTERNAL")])
    assert values_of(found) == ["INVALID_ARG", list(range(6)), "INTERNAL"]


def test_run_padded_batches_are_divided_by_rows_too():
    shapes = []
    spec = make_spec(inputs=[TensorSpec("X", "FP32", [-1])], outputs=[TensorSpec("Y", "FP32", [-1])])
    pipeline = make_pipeline(
        lambda X: shapes.append(tuple(X.shape)) or X,
        spec=spec,
        pad={"X": 0},
        unpad={"Y": ("X",)},
        max_padding=0.0,
        max_rows_per_forward=LIMIT,
    )
    long, short = Request("a", {"X": torch.ones(6, 9)}, 6), Request("b", {"X": torch.ones(1, 2)}, 1)
    found = pipeline.run([long, short])
    assert [one["Y"].shape for one in found] == [(6, 9), (1, 2)]
    assert shapes == [(4, 9), (2, 9), (1, 2)]


def test_whole_is_the_request_that_the_client_sent():
    ledger = ledger_of(LIMIT, 9)
    assert ledger.cut(0, LIMIT) == [0]
    assert ledger.cut(1, LIMIT) == [2, 3, 4]
    assert [ledger.whole(place).rows for place in (0, 1, 2, 4)] == [4, 9, 9, 9]


def serve(model=Doubler, limit="4", **parameters):
    settings = {"kindaware.max_rows_per_forward": limit} | {
        f"kindaware.{name}": value for name, value in parameters.items()
    }
    return ModelHarness(model, config=written_config(max_batch_size=1000), parameters=settings)


class Rows(Doubler):
    """The fast path serves it."""

    def forward(self, X):
        self.logger.info("forward of %d rows", len(X))
        return 2 * X


def test_execute_fast_path_leaves_calls_with_too_many_rows_to_the_pipeline():
    sent = np.arange(10, dtype=np.float32)[:, None]
    with serve(Rows) as model:
        assert model.instance._kindaware_instance._executor.fast_path is not None
        assert model.infer(X=sent[:4]).outputs["Y"].tolist() == (2 * sent[:4]).tolist()
        assert "forward of 2 rows" not in model.log_text()
        assert model.infer(X=sent).outputs["Y"].tolist() == (2 * sent).tolist()
        sizes = re.findall(r"forward of (\d+) rows", model.log_text())
    assert sizes == ["1", "4", "4", "4", "2"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"warmup": "5"}, r"setting 'warmup': expected batch sizes up to max_rows_per_forward 4, got 5"),
        (
            {"cuda_graphs": "1,5"},
            r"setting 'cuda_graphs': expected batch sizes up to max_rows_per_forward 4, got 5",
        ),
    ],
)
def test_sizes_that_no_forward_gets_are_refused(settings, text):
    parameters = {f"kindaware.{name}": value for name, value in settings.items()}
    with pytest.raises(ConfigError, match=text):
        start(Doubler, parameters=parameters | {"kindaware.max_rows_per_forward": "4"})


@pytest.mark.parametrize("limit", ["8", "9"])
def test_limit_from_the_largest_batch_on_changes_nothing(limit):
    with pytest.raises(ConfigError, match="expected batch sizes up to max_batch_size 8, got 9"):
        start(Doubler, parameters={"kindaware.warmup": "9", "kindaware.max_rows_per_forward": limit})
    model = start(Doubler, parameters={"kindaware.max_rows_per_forward": limit})
    assert model._kindaware_instance._pipeline.runner.max_rows is None


def test_limit_of_one_row_is_one_forward_per_row():
    forward = Seen()
    assert answers_of(
        make_pipeline(forward, max_rows_per_forward=1).run([counting("a", 3, 4), counting("b", 5)])
    ) == [6, 10]
    assert forward.batches == [[3], [4], [5]]
