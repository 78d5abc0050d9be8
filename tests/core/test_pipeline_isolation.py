"""Which requests fail when `forward` raises, with what code, and at what cost."""

import math
import sys

import pytest
import torch
from core_kit import BAD, Forward, answers_of, make_pipeline, make_request, make_spec, run, without_id

from kindaware import RequestError, TensorSpec
from kindaware._batch.request import Request
from kindaware._batch.results import Failure


@pytest.mark.parametrize("num_requests", range(1, 65))
def test_run_one_guilty_request_only_it_fails_within_the_budget(num_requests):
    forward = Forward()
    pipeline = make_pipeline(forward)
    budget = int(2 * math.log2(num_requests)) + 2
    for guilty in range(num_requests):
        forward.batches.clear()
        values = [BAD if place == guilty else float(place) for place in range(num_requests)]
        expected = ["INTERNAL" if place == guilty else 2.0 * place for place in range(num_requests)]
        assert answers_of(run(pipeline, values)) == expected
        assert len(forward.batches) <= 1 + budget


@pytest.mark.parametrize("num_requests", [1, 2, 3, 7, 16, 64])
def test_run_all_guilty_all_fail_within_the_budget(num_requests):
    forward = Forward()
    assert set(answers_of(run(make_pipeline(forward), [BAD] * num_requests))) == {"INTERNAL"}
    assert len(forward.batches) <= 1 + int(2 * math.log2(num_requests)) + 2


def test_run_all_guilty_in_a_dynamic_model_asks_for_the_shape_once():
    forward = Forward()
    spec = make_spec(inputs=[TensorSpec("X", "FP32", [-1])], outputs=[TensorSpec("Y", "FP32", [-1])])
    assert set(answers_of(run(make_pipeline(forward, spec=spec), [BAD] * 64))) == {"INTERNAL"}
    assert len(forward.batches) <= 1 + 14 + 1


def test_run_isolate_errors_false_fails_the_whole_batch_after_one_forward():
    forward = Forward()
    outcomes = run(make_pipeline(forward, isolate_errors=False), [1, BAD, 3])
    assert answers_of(outcomes) == ["INTERNAL"] * 3
    assert forward.batches == [3]


def test_run_failure_text_has_the_one_form_and_its_own_request():
    outcomes = run(make_pipeline(Forward(), isolate_errors=False), [1, BAD])
    assert [without_id(one.text) for one in outcomes] == [
        f"model 'm' request '{place}': expected forward to return, got ValueError: bad row; "
        "see error ID in the server's log"
        for place in range(2)
    ]


def test_run_traceback_is_logged_once_with_all_ids(caplog):
    run(make_pipeline(Forward(), isolate_errors=False), [1, BAD, 3])
    [record] = caplog.records
    assert record.levelname == "ERROR"
    first, second = without_id(record.getMessage()).splitlines()[:2]
    assert first.startswith("model 'm': error ID failed 3 request(s), ids ['0', '1', '2']: core_kit.py:")
    assert first.endswith(", in __call__: ValueError: bad row")
    assert second == "Traceback (most recent call last):"
    assert record.getMessage().count("Traceback") == 1


def test_run_guilty_requests_of_one_error_share_one_traceback(caplog):
    run(make_pipeline(Forward()), [BAD, 1, 2, BAD])
    [record] = caplog.records
    assert "failed 2 request(s), ids ['0', '3']" in record.getMessage()


def test_run_named_rows_fail_with_the_authors_text_and_code_and_nothing_is_logged(caplog):
    calls = []

    def forward(X):
        calls.append(len(X))
        if (X == BAD).any():
            rows = (X == BAD).any(dim=1).nonzero().flatten()
            raise RequestError("no such row", code="NOT_FOUND", rows=rows)
        return 2 * X

    outcomes = make_pipeline(forward).run(
        [make_request(n, v, rows=3) for n, v in enumerate([1, BAD, 3, BAD])]
    )
    assert answers_of(outcomes) == [2, "NOT_FOUND", 6, "NOT_FOUND"]
    assert outcomes[1].text == "no such row"
    assert calls == [12, 6]
    assert caplog.records == []


@pytest.mark.parametrize(("row", "owner"), [(0, 0), (1, 0), (2, 2), (6, 2)])
def test_run_named_row_belongs_to_the_request_that_owns_it(row, owner):
    def forward(X):
        if len(X) == 7:
            raise RequestError("refused", rows=[row])
        return X

    rows = [2, 0, 5]
    outcomes = make_pipeline(forward).run([make_request(n, n, rows=one) for n, one in enumerate(rows)])
    assert [isinstance(one, Failure) for one in outcomes] == [n == owner for n in range(3)]


def test_run_rows_named_one_by_one_fail_the_rest_without_blaming_them_when_the_forwards_are_used_up():
    def forward(X):
        raise RequestError("bad row", rows=[0])

    outcomes = run(make_pipeline(forward), list(range(32)))
    num_further = 12  # 2 log2(32) + 2
    assert [one.code for one in outcomes] == ["INVALID_ARG"] * (num_further + 1) + ["INTERNAL"] * 19
    assert "expected RequestError(rows=...) to name all guilty rows" in outcomes[-1].text


@pytest.mark.parametrize("num_requests", [1, 3])
def test_run_error_that_names_all_rows_refuses_all_requests_after_one_forward(num_requests):
    forward = Forward(RequestError, "no number", rows=range(num_requests))
    pipeline = make_pipeline(forward)
    assert answers_of(run(pipeline, [BAD] * num_requests)) == ["INVALID_ARG"] * num_requests
    assert forward.batches == [num_requests]


@pytest.mark.parametrize("mask", [list, torch.Tensor.numpy, lambda tensor: tensor, torch.Tensor.tolist])
def test_run_mask_of_guilty_rows_fails_their_requests(mask):
    def forward(X):
        is_bad = (X == BAD).any(dim=1)
        if is_bad.any():
            raise RequestError("bad", rows=mask(is_bad))
        return 2 * X

    assert answers_of(run(make_pipeline(forward), [1, 2, BAD, 4])) == [2, 4, "INVALID_ARG", 8]


@pytest.mark.parametrize("rows", [[False], [False, True], ["0"], 0, "01"])
def test_run_rows_of_an_authors_own_error_that_are_no_numbers_of_rows_blame_nobody(rows):
    class OwnError(RequestError):
        def __init__(self):
            self.rows = rows

    def forward(X):
        if (X == BAD).any():
            raise OwnError
        return 2 * X

    assert answers_of(run(make_pipeline(forward), [1, 2, BAD])) == [2, 4, "INVALID_ARG"]


@pytest.mark.parametrize("num_rows", [1, 3, 5])
def test_run_mask_of_another_length_than_the_batch_blames_nobody_by_it(num_rows):
    def forward(X):
        if (X == BAD).any():
            raise RequestError("bad", rows=[True] * num_rows if len(X) == 4 else None)
        return 2 * X

    outcomes = run(make_pipeline(forward), [1, BAD, 3, 4])
    assert answers_of(outcomes) == [2, "INVALID_ARG", 6, 8]
    [alone] = run(make_pipeline(forward), [BAD])
    assert alone.text == "bad"


def test_run_mask_of_another_length_says_how_long_it_has_to_be():
    def forward(X):
        raise RequestError("bad", rows=[True] * 3)

    first, second = run(make_pipeline(forward), [1, 2])
    assert first.code == second.code == "INTERNAL"
    assert first.text == second.text
    assert (
        "expected RequestError(rows=mask) with one boolean for each of the 1 rows of the batch, got 3 "
        "booleans, for 'bad'; make the mask of what forward got" in first.text
    )


@pytest.mark.parametrize("rows", [[1, True], torch.ones(2, 2, dtype=torch.bool)])
def test_request_error_rows_neither_numbers_nor_a_mask_raises(rows):
    with pytest.raises(TypeError, match="expected whole numbers, or a mask with one boolean per row, got"):
        RequestError("bad", rows=rows)


class UnprintableError(Exception):
    def __str__(self):
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("raised", "text"),
    [(UnprintableError(), "UnprintableError: its text raised ValueError"), (SystemExit(3), "SystemExit: 3")],
    ids=["unprintable", "exit"],
)
def test_run_exception_of_an_odd_kind_fails_one_request(raised, text):
    def forward(X):
        if (X == BAD).any():
            raise raised
        return 2 * X

    outcomes = run(make_pipeline(forward), [1, BAD, 3])
    assert answers_of(outcomes) == [2, "INTERNAL", 6]
    assert text in outcomes[1].text


def test_run_forward_that_exits_is_logged_with_the_place_where_it_did(caplog):
    def forward(X):
        sys.exit(3)

    assert answers_of(run(make_pipeline(forward), [1])) == ["INTERNAL"]
    [record] = caplog.records
    assert "    sys.exit(3)" in record.getMessage()


def test_run_preprocess_may_leave_an_optional_input_out_and_no_other():
    left_out = []

    def preprocess(inputs):
        return {name: one for name, one in inputs.items() if name not in left_out}

    optional = TensorSpec("MASK", "FP32", [2], optional=True)
    spec = make_spec(inputs=[TensorSpec("X", "FP32", [2]), optional])
    pipeline = make_pipeline(lambda X, MASK=None: X, spec=spec, preprocess=preprocess)
    request = Request("r", {"X": torch.ones(1, 2), "MASK": torch.ones(1, 2)}, 1)
    left_out[:] = ["MASK"]
    assert answers_of(pipeline.run([request])) == [1]
    left_out[:] = ["X"]
    assert answers_of(pipeline.run([request])) == ["INTERNAL"]


def test_run_preprocess_records_no_gradients():
    weight = torch.ones(2, requires_grad=True)
    seen = []

    def preprocess(inputs):
        seen.append((inputs["X"] * weight).requires_grad)
        return inputs

    run(make_pipeline(Forward(), preprocess=preprocess), [1])
    assert seen == [False]


@pytest.mark.parametrize("rows", [None, [], [-1], [4], [99]])
def test_run_request_error_that_names_no_row_is_found_by_halving(rows):
    outcomes = run(make_pipeline(Forward(RequestError, "refused", rows=rows)), [1, BAD, 3, 4])
    assert answers_of(outcomes) == [2, "INVALID_ARG", 6, 8]
    assert outcomes[1].text == "refused"


def test_run_preprocess_refusal_concerns_that_request_alone(caplog):
    def preprocess(inputs):
        if (inputs["X"] == BAD).any():
            raise RequestError("no picture", code="UNSUPPORTED")
        if (inputs["X"] == 7).any():
            raise KeyError("lost")
        return {"X": inputs["X"] + 1}

    forward = Forward()
    outcomes = run(make_pipeline(forward, preprocess=preprocess), [1, BAD, 7, 3])
    assert answers_of(outcomes) == [4, "UNSUPPORTED", "INTERNAL", 8]
    assert outcomes[1].text == "no picture"
    assert "expected preprocess to return, got KeyError: 'lost'" in outcomes[2].text
    assert forward.batches == [2]
    [first] = [record.getMessage().split("\n")[0] for record in caplog.records]
    assert without_id(first).startswith(
        "model 'm': error ID failed 1 request(s), ids ['2']: test_pipeline_isolation.py:"
    )
    assert first.endswith(", in preprocess: KeyError: 'lost'")


@pytest.mark.parametrize(
    "returned",
    [
        None,
        torch.zeros(1, 2),
        {},
        {"Z": torch.zeros(1, 2)},
        {"X": [1, 2]},
        {"X": torch.zeros(3, 2)},
        {"X": torch.tensor(1.0)},
    ],
    ids=["none", "tensor", "missing", "other name", "list", "rows", "no dimension"],
)
def test_run_preprocess_returning_what_forward_cannot_take_fails_that_request(returned):
    outcomes = run(make_pipeline(Forward(), preprocess=lambda inputs: returned), [1])
    assert answers_of(outcomes) == ["INTERNAL"]
    assert outcomes[0].text.startswith(
        "model 'm' preprocess: expected a mapping of ['X'] to tensors with 1 rows, got "
    )


def test_run_preprocess_may_change_shapes_and_cannot_change_the_request():
    def preprocess(inputs):
        return {"X": inputs.pop("X")[:, :1].repeat(1, 2)}

    request = make_request("a", 3)
    [outcome] = make_pipeline(Forward(), preprocess=preprocess).run([request])
    assert answers_of([outcome]) == [6]
    assert list(request.inputs) == ["X"]


def test_run_arrival_that_is_a_failure_keeps_its_place():
    broken = Failure("unreadable", "INVALID_ARG")
    outcomes = make_pipeline(Forward()).run([make_request(0, 1), broken, make_request(2, 3)])
    assert answers_of(outcomes) == [2, "INVALID_ARG", 6]
    assert outcomes[1] is broken


def test_run_no_requests_gives_no_outcomes():
    assert make_pipeline(Forward()).run([]) == []


@pytest.mark.parametrize("hooks", [{}, {"preprocess": lambda inputs: inputs}])
def test_stages_have_preprocess_where_the_model_has(hooks):
    stages = [(one.name, one.method) for one in make_pipeline(Forward(), **hooks).stages()]
    assert (("preprocess", "run") in stages) == bool(hooks)
    assert stages[-1] == ("split", "split")


def test_run_batch_that_fails_for_another_reason_than_memory_is_not_tried_again_whole():
    forward = Forward()
    pipeline = make_pipeline(forward)
    rooms = iter([True])
    pipeline.make_room = lambda: next(rooms, False)
    assert answers_of(run(pipeline, [1.0, BAD])) == [2.0, "INTERNAL"]
    assert forward.batches == [2, 1, 1]
