"""Requests that padding may join, divided so that short ones don't pay for long ones."""

import math
import re

import numpy as np
import pytest
import torch
from core_kit import answers_of, make_pipeline, make_plan, make_request, make_spec, start, written_config
from test_padding import IDS, ROWS, SAME, Same

from kindaware import ConfigError, KindAwareModel, RequestError, TensorSpec
from kindaware._batch import buckets as _buckets
from kindaware._batch.buckets import Buckets
from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware._tensors.rows import RaggedRows
from kindaware.testing import ModelHarness

IMAGE = TensorSpec("IMAGE", "FP32", [-1, -1])


def sized(*lengths, rows=1):
    """A request per length."""
    return {
        place: Request(str(place), {"IDS": torch.ones(rows, length, dtype=torch.int64)}, rows)
        for place, length in enumerate(lengths)
    }


def make_buckets(max_padding, *, inputs=(IDS,), pad=None, **options):
    spec = make_spec(inputs=inputs, outputs=[ROWS])
    pad = {one.name: 0 for one in inputs} if pad is None else pad
    return Buckets(make_plan(lambda **_: None, spec=spec, pad=pad, max_padding=max_padding, **options))


def divided(requests, max_padding, **options):
    return make_buckets(max_padding, **options).divide(requests, list(requests))


def test_divide_with_a_share_ends_a_batch_where_padding_would_exceed_it():
    # Largest first: 100 and 80 pad 10 %, with 60 it would be 20 %; 60 and 50 pad 8 %.
    assert divided(sized(50, 100, 80, 60), 0.1) == [[0, 3], [1, 2]]
    assert divided(sized(50, 100, 80, 60), 0.09) == [[0, 3], [1], [2]]


@pytest.mark.parametrize(("share", "batches"), [(0.25, [[0, 1]]), (0.249, [[0], [1]])])
def test_divide_takes_as_much_padding_as_the_share_and_no_more(share, batches):
    assert divided(sized(10, 5), share) == batches


def test_divide_without_padding_joins_only_what_has_one_size():
    assert divided(sized(3, 1, 3, 2, 1), 0.0) == [[0, 2], [1, 4], [3]]


def test_divide_lists_batches_by_their_first_request_and_requests_in_order():
    assert divided(sized(1, 9, 1, 9, 30, 1), 0.1) == [[0, 2, 5], [1, 3], [4]]


def test_divide_weighs_a_request_by_its_rows():
    long, short = sized(10)[0], sized(5, rows=9)[0]
    # 9 of 10 rows are half padding, or 1 of 10.
    assert divided({0: long, 1: short}, 0.4) == [[0], [1]]
    assert divided({0: sized(10, rows=9)[0], 1: sized(5)[0]}, 0.05) == [[0, 1]]
    assert divided({0: sized(10, rows=9)[0], 1: sized(5)[0]}, 0.04) == [[0], [1]]


def images(*shapes):
    return {
        place: Request(str(place), {"IMAGE": torch.ones(1, *shape)}, 1) for place, shape in enumerate(shapes)
    }


def test_divide_counts_what_several_dimensions_are_padded_to_together():
    # Either has 10 elements, and both together 100 each: 90 % is padding.
    crossed = images((1, 10), (10, 1))
    assert divided(crossed, 0.9, inputs=[IMAGE]) == [[0, 1]]
    assert divided(crossed, 0.89, inputs=[IMAGE]) == [[0], [1]]


def test_divide_counts_what_the_rows_before_are_padded_to_further():
    # 8 x 8, then 8 x 7 (6 %), then 9 x 6 makes all three 9 x 8: 216 elements for 174, which is 19 %.
    shapes = images((8, 8), (8, 7), (9, 6))
    assert divided(shapes, 0.2, inputs=[IMAGE]) == [[0, 1, 2]]
    assert divided(shapes, 0.19, inputs=[IMAGE]) == [[0, 1], [2]]


def test_divide_begins_a_batch_with_the_size_of_its_own_requests():
    """Nothing is left of the batch before: two images of one size need no padding."""
    assert divided(images((1, 20), (10, 1), (10, 1)), 0.0, inputs=[IMAGE]) == [[0], [1, 2]]


def test_divide_adds_the_elements_of_all_padded_inputs():
    query, passage = TensorSpec("QUERY", "FP32", [-1]), TensorSpec("PASSAGE", "FP32", [-1])

    def request(place, *lengths):
        inputs = {name: torch.ones(1, n) for name, n in zip(("QUERY", "PASSAGE"), lengths, strict=True)}
        return Request(str(place), inputs, 1)

    requests = {0: request(0, 10, 90), 1: request(1, 20, 70)}
    # 110 each, for 100 and 90: 14 % is padding.
    assert divided(requests, 0.14, inputs=[query, passage]) == [[0, 1]]
    assert divided(requests, 0.13, inputs=[query, passage]) == [[0], [1]]


def test_divide_takes_rows_that_preprocess_left_apart_as_long_as_their_longest():
    apart = Request("a", {"IDS": RaggedRows([torch.ones(2).long(), torch.ones(10).long()])}, 2)
    assert divided({0: apart, 1: sized(10)[0]}, 0.0) == [[0, 1]]


def test_divide_with_auto_joins_all_until_a_forward_is_known_and_then_what_is_worth_it():
    buckets = make_buckets(None)
    requests = sized(100, 10, 99)
    positions = list(requests)
    assert buckets.divide(requests, positions) == [[0, 1, 2]]
    for _ in range(16):
        buckets.note([requests[0]], 1.0)
    for length in (10, 400):
        buckets.note(list(sized(length).values()), 1e-3 + 1e-5 * length)
    # Another forward costs as much as 100 elements of padding.
    assert buckets.divide(requests, positions) == [[0, 1, 2]]
    assert buckets.divide(sized(111, 10), [0, 1]) == [[0], [1]]
    assert buckets.divide(sized(110, 10), [0, 1]) == [[0, 1]]


def test_note_counts_all_rows_of_a_batch_as_long_as_the_longest():
    buckets = make_buckets(None)
    noted = []
    buckets._cost.note = lambda work, seconds: noted.append((work, seconds))
    buckets.note([*sized(3, rows=2).values(), *sized(5, 4).values()], 0.5)
    assert noted == [(20, 0.5)]


def test_note_with_a_share_learns_nothing():
    buckets = make_buckets(0.5)
    buckets.note(list(sized(3).values()), 0.5)
    assert buckets._cost._num_seen == 0


def pipeline_of(forward, *, max_padding=0.25, inputs=(IDS,), outputs=(SAME,), **options):
    spec = make_spec(inputs=inputs, outputs=outputs)
    if any(one.is_dynamic for one in outputs):
        options["unpad"] = {"SAME": ("IDS",)}
    return make_pipeline(forward, spec=spec, pad={"IDS": 0}, max_padding=max_padding, **options)


def numbered(*lengths):
    """A request per length, which holds its own number."""
    return [
        Request(str(place), {"IDS": torch.full((1, length), place + 1)}, 1)
        for place, length in enumerate(lengths)
    ]


def test_run_answers_every_request_of_a_divided_call_with_its_own_rows():
    shapes = []

    def forward(IDS, lengths):
        shapes.append((tuple(IDS.shape), lengths.tolist()))
        return 10 * IDS

    found = pipeline_of(forward).run(numbered(2, 20, 3, 18, 2))
    assert [one["SAME"].tolist() for one in found] == [
        [[10] * 2],
        [[20] * 20],
        [[30] * 3],
        [[40] * 18],
        [[50] * 2],
    ]
    assert shapes == [((3, 3), [2, 3, 2]), ((2, 20), [20, 18])]


def test_run_error_of_one_batch_is_found_by_halving_that_alone():
    batches = []

    def forward(IDS):
        batches.append(IDS[:, 0].tolist())
        if (IDS == 4).any():
            raise RequestError("refused")
        return IDS

    found = pipeline_of(forward).run(numbered(2, 20, 3, 18, 2))
    assert [one.code if isinstance(one, Failure) else "" for one in found] == ["", "", "", "INVALID_ARG", ""]
    assert batches == [[1, 3, 5], [2, 4], [2], [4]]


def test_run_with_auto_learns_from_the_batches_that_were_answered(monkeypatch):
    noted = []
    monkeypatch.setattr(Buckets, "note", lambda self, requests, seconds: noted.append((requests, seconds)))

    def forward(IDS):
        if (IDS == 2).any():
            raise RequestError("refused")
        return IDS

    requests = numbered(4, 5)
    pipeline_of(forward, max_padding=None).run(requests)
    [(answered, seconds)] = noted
    assert answered == [requests[0]]
    assert 0 < seconds < 60


@pytest.mark.parametrize(
    ("options", "divides"),
    [
        ({"pad": {"IDS": 0}}, True),
        ({"pad": {"IDS": 0}, "max_padding": 0.99}, True),
        ({"pad": {"IDS": 0}, "max_padding": 1.0}, False),
        ({}, False),
        ({"collate": lambda name, values: values[0]}, False),
        ({"collate": lambda name, values: values[0], "row_cost": lambda inputs: 1}, True),
        ({"collate": lambda name, values: values[0], "row_cost": lambda inputs: 1, "max_padding": 1}, False),
    ],
)
def test_plan_divides_what_is_padded_unless_all_padding_is_allowed(options, divides):
    plan = make_plan(lambda IDS: IDS, spec=make_spec(inputs=[IDS], outputs=[ROWS]), **options)
    assert plan.divides == divides
    if options.get("collate"):
        spec = make_spec(inputs=[IDS], outputs=[ROWS], max_batch_size=0)
        assert not make_plan(lambda IDS: IDS, spec=spec, **options).divides


def test_plan_of_a_collate_that_cuts_divides_nothing_by_itself():
    spec = make_spec(inputs=[IDS], outputs=[SAME])
    options = {"collate": lambda name, values: values[0], "unpad": {"SAME": ("IDS",)}}
    assert not make_plan(lambda IDS: IDS, spec=spec, **options).divides
    assert make_plan(lambda IDS: IDS, spec=spec, row_cost=lambda inputs: 1, **options).divides


def collating(row_cost, batches, **options):
    def collate(name, values):
        longest = max(one.shape[1] for one in values)
        return torch.cat([torch.nn.functional.pad(one, (0, longest - one.shape[1])) for one in values])

    return make_pipeline(
        lambda IDS: batches.append(tuple(IDS.shape)) or IDS[:, :1],
        spec=make_spec(inputs=[IDS], outputs=[ROWS]),
        collate=collate,
        row_cost=row_cost,
        **{"max_padding": 0.3, **options},
    )


def test_row_cost_divides_what_collate_would_join():
    batches = []
    found = collating(lambda inputs: inputs["IDS"].shape[1], batches).run(numbered(2, 20, 18))
    assert [one["ROWS"].tolist() for one in found] == [[[1]], [[2]], [[3]]]
    assert batches == [(1, 2), (2, 20)]


def test_row_cost_is_what_divides_in_place_of_the_lengths():
    batches = []
    forward = lambda IDS: batches.append(tuple(IDS.shape)) or IDS  # noqa: E731
    cost = lambda inputs: inputs["IDS"].shape[1] ** 2  # noqa: E731
    # 10 and 8 pad 10 %; their squares 18 %.
    pipeline_of(forward, row_cost=cost, max_padding=0.18).run(numbered(10, 8))
    pipeline_of(forward, row_cost=cost, max_padding=0.17).run(numbered(10, 8))
    pipeline_of(forward, row_cost=lambda inputs: 7, max_padding=0.0).run(numbered(10, 1))
    assert batches == [(2, 10), (1, 10), (1, 8), (2, 10)]


def test_row_cost_gets_what_preprocess_returned_and_rows_apart_as_a_list():
    seen = []

    def preprocess(inputs):
        rows = [torch.arange(1, 3), torch.arange(1, 5)]
        return {"IDS": rows, "MASK": torch.ones(2, 2)}

    spec = make_spec(inputs=[TensorSpec("TEXT", "BYTES", [1])], outputs=[ROWS])
    pipeline = make_pipeline(
        lambda IDS, MASK: IDS[:, :1],
        spec=spec,
        pad={"IDS": 0},
        preprocess=preprocess,
        row_cost=lambda inputs: seen.append(inputs) or 1,
    )
    texts = np.array([[b"a"], [b"b"]], dtype=object)
    [answer] = pipeline.run([Request("r", {"TEXT": texts}, 2)])
    assert answer["ROWS"].tolist() == [[1], [1]]
    [inputs] = seen
    assert [one.tolist() for one in inputs["IDS"]] == [[1, 2], [1, 2, 3, 4]]
    assert inputs["MASK"].shape == (2, 2)


@pytest.mark.parametrize("cost", [None, -1, -0.5, math.nan, math.inf, "7", torch.tensor(7), 1j])
def test_row_cost_that_is_no_cost_fails_its_request_alone(cost):
    pipeline = pipeline_of(lambda IDS: IDS, row_cost=lambda inputs: cost if inputs["IDS"][0, 0] == 2 else 1)
    first, second, third = pipeline.run(numbered(3, 3, 3))
    assert first["SAME"].tolist() == [[1] * 3]
    assert third["SAME"].tolist() == [[3] * 3]
    assert second == Failure(
        f"model 'm' row_cost: expected a number, 0 or more, got {cost!r}; return what a row as large as "
        "those of the request costs, in any unit",
        "INTERNAL",
    )


@pytest.mark.parametrize("cost", [0, 2.5, np.float32(3), np.int64(4)])
def test_row_cost_may_be_any_number_from_0_on(cost):
    pipeline = pipeline_of(lambda IDS: IDS, row_cost=lambda inputs: cost)
    [found] = pipeline.run(numbered(3))
    assert found["SAME"].tolist() == [[1] * 3]


def test_row_cost_may_refuse_a_request():
    def row_cost(inputs):
        if inputs["IDS"].shape[1] > 10:
            raise RequestError("too long", code="UNSUPPORTED")
        return 1

    first, second = pipeline_of(lambda IDS: IDS, row_cost=row_cost).run(numbered(11, 3))
    assert first == Failure("too long", "UNSUPPORTED")
    assert second["SAME"].tolist() == [[2] * 3]


def test_row_cost_without_anything_padded_is_refused():
    class Model(KindAwareModel):
        def load(self):
            """Make nothing."""

        def row_cost(self, inputs):
            return 1

        def forward(self, X):
            return X

    text = "model 'm' row_cost: expected pad or collate, which make the rows of a batch equally large, got"
    with pytest.raises(ConfigError, match=f"^{text} neither; set pad, or remove row_cost$"):
        start(Model)


def test_row_cost_is_not_asked_where_nothing_is_divided():
    def row_cost(inputs):
        raise AssertionError

    found = pipeline_of(lambda IDS: IDS, row_cost=row_cost, max_padding=1).run(numbered(3, 30))
    assert [one["SAME"].shape for one in found] == [(1, 3), (1, 30)]


_INPUT, _OUTPUT = ({"name": name, "data_type": "TYPE_INT64", "dims": [-1]} for name in ("IDS", "SAME"))
CONFIG = written_config(input=[_INPUT | {"allow_ragged_batch": True}], output=[_OUTPUT], dynamic_batching={})


def test_execute_divides_the_requests_that_triton_passes():
    class Model(Same):
        max_padding = 0.25

        def forward(self, IDS):
            self.logger.info("shape %s", list(IDS.shape))
            return IDS

    with ModelHarness(Model, config=CONFIG) as model:
        found = model.infer_batch([{"IDS": np.full((1, n), n)} for n in (4, 50, 3, 45)])
        shapes = re.findall(r"shape (\[\d+, \d+\])", model.log_text())
    assert [one.outputs["SAME"].tolist() for one in found] == [[[n] * n] for n in (4, 50, 3, 45)]
    assert shapes == ["[2, 4]", "[2, 50]"]


def test_row_cost_that_raises_is_blamed_by_name():
    class Model(Same):
        def row_cost(self, inputs):
            raise ValueError("no idea")

    with ModelHarness(Model, config=CONFIG, raise_errors=False) as model:
        [result] = model.infer_batch([{"IDS": np.ones((1, 2), np.int64)}])
    assert "expected row_cost to return, got ValueError: no idea" in result.error.message()


def test_buckets_leave_models_alone_that_do_not_pad(monkeypatch):
    monkeypatch.setattr(_buckets.Buckets, "divide", lambda *_: pytest.fail("divided"))
    pipeline = make_pipeline(lambda X: 2 * X)
    assert answers_of(pipeline.run([make_request("a", 1), make_request("b", 2)])) == [2, 4]
