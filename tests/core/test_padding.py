"""Requests of different sizes in one batch: padded, told apart by lengths, and outputs cut back."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from core_kit import Doubler, Faulty, Releasing, make_pipeline, make_plan, make_spec, plan_of, start, tensor

from kindaware import ConfigError, KindAwareModel, TensorSpec
from kindaware._batch import padding as _padding
from kindaware._batch.collate import Collator
from kindaware._batch.padding import Padding, _fill
from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware._hooks.binding import Call
from kindaware._hooks.hooks import Hooks
from kindaware._tensors.dtypes import DTYPES

IDS = TensorSpec("IDS", "INT64", [-1])
SAME = TensorSpec("SAME", "INT64", [-1])
ROWS = TensorSpec("ROWS", "INT64", [1])
ABSENT = object()


def ids(*rows, name="IDS", request_id="r", more=None):
    inputs = {name: torch.tensor(rows), **(more or {})}
    return Request(request_id, inputs, len(rows))


def padded(forward, *, inputs=(IDS,), outputs=(SAME,), pad=None, unpad=None, **more):
    """A pipeline that pads; its outputs of variable size follow the first input unless said."""
    spec = make_spec(inputs=inputs, outputs=outputs)
    settings = {"pad": {"IDS": -1} if pad is None else pad, "unpad": {"SAME": inputs[0].name} | (unpad or {})}
    settings["unpad"] = {
        one.name: entry if isinstance(entry, tuple) else (entry,)
        for one in outputs
        if one.is_dynamic and (entry := settings["unpad"].get(one.name, ABSENT)) is not ABSENT
    }
    return make_pipeline(forward, spec=spec, **settings, **more)


def values(found, name="SAME"):
    return [one if isinstance(one, Failure) else one[name].tolist() for one in found]


def test_requests_of_different_length_share_a_batch_padded_to_the_longest():
    seen = []

    def forward(IDS, lengths):
        seen.append((IDS.tolist(), lengths.tolist(), lengths.dtype))
        return IDS * 10

    found = padded(forward).run([ids([1], [2]), ids([2, 3, 4]), ids([8, 9])])

    assert seen == [([[1, -1, -1], [2, -1, -1], [2, 3, 4], [8, 9, -1]], [1, 1, 3, 2], torch.int64)]
    assert values(found) == [[[10], [20]], [[20, 30, 40]], [[80, 90]]]
    assert all(one["SAME"].is_contiguous() for one in found)


def test_lengths_are_given_to_a_forward_that_names_them_and_to_no_other():
    seen = []

    def forward(IDS, requests):
        seen.append([one.rows for one in requests])
        return IDS

    assert values(padded(forward).run([ids([1]), ids([2, 3])])) == [[[1]], [[2, 3]]]
    assert seen == [[1, 1]]


def test_lengths_are_an_argument_only_where_forward_names_them():
    spec = make_spec(inputs=[IDS], outputs=[ROWS])
    padding = Padding({"IDS": 0}, {"IDS": (1,)}, {"IDS": 2}, frozenset({"IDS"}), {})

    def argument_for(forward):
        hooks = Hooks(forward, Call.bind(forward, spec, "model 'm'"))
        collator = Collator(SimpleNamespace(hooks=hooks, padding=padding), land=len)
        return collator.lengths_argument({"IDS": "one tensor"})

    assert argument_for(lambda IDS, lengths: IDS) == {"lengths": "one tensor"}
    assert argument_for(lambda IDS: IDS) == {}


def test_requests_of_the_same_length_are_joined_without_padding():
    shapes = []
    found = padded(lambda IDS: shapes.append(IDS.shape) or IDS).run([ids([1, 2]), ids([3, 4])])
    assert shapes == [(2, 2)]
    assert values(found) == [[[1, 2]], [[3, 4]]]


def test_request_without_companions_is_not_copied():
    addresses = []
    request = ids([1, 2])
    padded(lambda IDS: addresses.append(IDS.data_ptr()) or IDS).run([request])
    assert addresses == [request.inputs["IDS"].data_ptr()]


def test_shape_is_not_to_blame_where_others_of_the_padded_batch_were_answered():
    def forward(IDS):
        if (IDS == 7).any() or not IDS.any():
            raise ValueError("no such id")
        return IDS

    found = padded(forward).run([ids([1]), ids([2, 7, 7]), ids([3, 4])])
    assert [one.code if isinstance(one, Failure) else "" for one in found] == ["", "INTERNAL", ""]


def test_without_pad_requests_are_grouped_by_shape():
    shapes = []
    spec = make_spec(inputs=[IDS], outputs=[SAME])
    pipeline = make_pipeline(lambda IDS: shapes.append(tuple(IDS.shape)) or IDS, spec=spec)
    assert values(pipeline.run([ids([1]), ids([2, 3]), ids([4])])) == [[[1]], [[2, 3]], [[4]]]
    assert shapes == [(2, 1), (1, 2)]


def test_empty_requests_are_padded_and_cut_back():
    found = padded(lambda IDS: IDS).run(
        [Request("a", {"IDS": torch.zeros(2, 0, dtype=torch.int64)}, 2), ids([1])]
    )
    assert values(found) == [[[], []], [[1]]]


def test_output_of_another_size_and_of_fixed_size_is_left_as_it_is():
    outputs = (TensorSpec("TOP", "INT64", [-1]), TensorSpec("FIX", "INT64", [3]))

    def forward(IDS):
        return torch.ones(len(IDS), 5, dtype=torch.int64), torch.ones(len(IDS), 3, dtype=torch.int64)

    pipeline = padded(forward, outputs=outputs, unpad={"TOP": None})
    for requests in ([ids([1]), ids([1, 2, 3])], [ids([1]), ids([1, 2, 3, 4, 5])]):
        found = pipeline.run(requests)
        assert [tuple(one["TOP"].shape) for one in found] == [(1, 5), (1, 5)]
    assert [tuple(one["FIX"].shape) for one in found] == [(1, 3), (1, 3)]


IMAGE = TensorSpec("IMAGE", "FP32", [2, -1, -1])


def test_every_varying_dimension_is_padded_and_has_its_length():
    seen = []

    def forward(IMAGE, lengths):
        seen.append((tuple(IMAGE.shape), lengths.tolist()))
        return IMAGE + 1

    out = TensorSpec("SAME", "FP32", [2, -1, -1])
    images = [torch.full((1, 2, 3, 1), 1.0), torch.full((2, 2, 1, 4), 2.0)]
    requests = [Request("r", {"IMAGE": one}, len(one)) for one in images]
    found = padded(forward, inputs=(IMAGE,), outputs=(out,), pad={"IMAGE": 0.5}).run(requests)
    assert seen == [((3, 2, 3, 4), [[3, 1], [1, 4], [1, 4]])]
    for image, answer in zip(images, found, strict=True):
        assert torch.equal(answer["SAME"], image + 1)


def test_several_padded_inputs_get_their_lengths_by_name_and_absent_ones_none():
    mask = TensorSpec("MASK", "FP32", [-1], optional=True)
    seen = []

    def forward(IDS, MASK=None, *, lengths):
        seen.append({name: one.tolist() for name, one in lengths.items()})
        return IDS

    pipeline = padded(forward, inputs=(IDS, mask), pad={"IDS": 0, "MASK": 0.0})
    full = [ids([1] * n, more={"MASK": torch.ones(1, n)}) for n in (2, 3)]
    found = pipeline.run([*full, ids([1])])
    assert seen == [{"IDS": [2, 3], "MASK": [2, 3]}, {"IDS": [1]}]
    assert values(found) == [[[1, 1]], [[1, 1, 1]], [[1]]]


def test_output_that_follows_an_optional_input_is_left_as_it_is_where_that_is_absent():
    mask = TensorSpec("MASK", "INT64", [-1], optional=True)
    pipeline = padded(
        lambda IDS, MASK=None: IDS if MASK is None else MASK,
        inputs=(IDS, mask),
        pad={"IDS": 0, "MASK": 0},
        unpad={"SAME": "MASK"},
    )
    both = ids([1, 2, 3], more={"MASK": torch.ones(1, 2).long()})
    assert values(pipeline.run([ids([1, 2]), ids([3]), both])) == [[[1, 2]], [[3, 0]], [[1, 1]]]


def test_output_follows_the_input_that_unpad_names_where_another_is_as_long():
    """QUERY and PASSAGE happen to have the same longest, and different lengths else."""
    inputs = (TensorSpec("QUERY", "INT64", [-1]), TensorSpec("PASSAGE", "INT64", [-1]))
    outputs = (SAME, TensorSpec("SCORES", "INT64", [-1, -1]))
    batches = []

    def forward(QUERY, PASSAGE):
        batches.append(len(QUERY))
        return QUERY, QUERY[:, :, None] * PASSAGE[:, None]

    def request(query, passage):
        one = torch.ones
        return Request("r", {"QUERY": one(1, query).long(), "PASSAGE": one(1, passage).long()}, 1)

    pipeline = padded(
        forward,
        inputs=inputs,
        outputs=outputs,
        pad={"QUERY": 0, "PASSAGE": 0},
        unpad={"SCORES": ("QUERY", "PASSAGE")},
    )
    found = pipeline.run([request(3, 1), request(2, 3)])
    assert values(found) == [[[1, 1, 1]], [[1, 1]]]
    assert values(found, "SCORES") == [[[[1], [1], [1]]], [[[1, 1, 1], [1, 1, 1]]]]
    assert batches == [2]


@pytest.mark.parametrize("requests", [[[1]], [[1], [1, 2]], [[1], [1, 2, 3, 4]]])
def test_output_that_is_not_as_long_as_the_input_it_follows_is_refused(requests):
    """Whatever its companions: three values for a request of length one are wrong when it is alone, too."""
    found = padded(lambda IDS: torch.ones(len(IDS), 3, dtype=torch.int64)).run([ids(row) for row in requests])
    assert all("output 'SAME': expected size" in one.text for one in found)


def test_rows_that_do_not_fit_by_their_fixed_sizes_have_a_batch_of_their_own():
    shapes = []
    spec = TensorSpec("IMAGE", "FP32", [-1, -1, 2])
    pipeline = padded(
        lambda IMAGE: shapes.append(tuple(IMAGE.shape)) or IMAGE.sum(dim=(2, 3)).long(),
        inputs=(spec,),
        pad={"IMAGE": 0},
        unpad={"SAME": "IMAGE"},
        preprocess=lambda inputs: {"IMAGE": inputs["IMAGE"][..., : int(inputs["IMAGE"][0, 0, 0, 0])]},
    )
    images = [torch.full((1, 2, n, 2), float(w)) for n, w in ((1, 1), (3, 1), (2, 2))]
    pipeline.run([Request("r", {"IMAGE": one}, 1) for one in images])
    assert shapes == [(2, 2, 3, 1), (1, 2, 2, 2)]


def test_bytes_are_padded_and_cut_back_too():
    text = TensorSpec("TEXT", "BYTES", [-1])
    seen = []

    def forward(TEXT, lengths):
        seen.append((TEXT.tolist(), lengths.tolist()))
        return TEXT

    arrays = [np.array([[b"a"]], dtype=object), np.array([[b"b", b"c"]], dtype=object)]
    requests = [Request("r", {"TEXT": one}, 1) for one in arrays]
    out = TensorSpec("SAME", "BYTES", [-1])
    found = padded(forward, inputs=(text,), outputs=(out,), pad={"TEXT": "-"}).run(requests)
    assert seen == [([[b"a", b"-"], [b"b", b"c"]], [1, 2])]
    assert values(found) == [[[b"a"]], [[b"b", b"c"]]]


def test_half_of_a_batch_is_padded_to_its_own_longest():
    seen = []

    def forward(IDS, lengths, requests):
        seen.append((tuple(IDS.shape), lengths.tolist(), [one.id for one in requests]))
        if (IDS == 666).any():
            raise ValueError
        return IDS

    requests = [ids([1], request_id="a"), ids([2, 3], request_id="b"), ids([666, 1, 1, 1], request_id="c")]
    found = padded(forward).run(requests)
    assert values(found)[:2] == [[[1]], [[2, 3]]]
    assert seen[:3] == [
        ((3, 4), [1, 2, 4], ["a", "b", "c"]),
        ((2, 2), [1, 2], ["a", "b"]),
        ((1, 4), [4], ["c"]),
    ]


def test_every_shape_of_a_padded_batch_counts_as_answered():
    """What was answered once is not refused for its shape when forward fails later."""
    is_broken = []

    def forward(IDS):
        if is_broken:
            raise ValueError("broken")
        return IDS

    pipeline = padded(forward)
    pipeline.run([ids([1, 2]), ids([3])])
    is_broken.append(True)
    codes = [pipeline.run([ids(row)])[0].code for row in ([1, 2], [3], [1, 2, 3])]
    assert codes == ["INTERNAL", "INTERNAL", "INVALID_ARG"]


@pytest.mark.parametrize(
    ("dtype", "value", "fill"),
    [
        ("FP32", "1.5", 1.5),
        ("FP32", 0, 0.0),
        ("FP16", "-inf", float("-inf")),
        ("INT64", "-100", -100),
        ("UINT8", 255, 255),
        ("BOOL", "true", True),
        ("BOOL", False, False),
        ("BOOL", 0, False),
        ("BYTES", "0", b"0"),
        ("BYTES", b"", b""),
    ],
)
def test_value_is_read_as_one_of_the_inputs_data_type(dtype, value, fill):
    found = _fill(value, DTYPES[dtype], "x")
    assert (type(found), found) == (type(fill), fill)


def test_value_may_be_the_least_and_the_greatest_of_the_data_type():
    for dtype, least, greatest in (("UINT8", 0, 255), ("INT8", -128, 127), ("FP16", -65504, 65504)):
        assert [_fill(value, DTYPES[dtype], "x") for value in (least, greatest)] == [least, greatest]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("FP32", "x"),
        ("FP16", 1e6),
        ("FP32", None),
        ("FP32", True),
        ("INT64", 1.5),
        ("INT64", "1.5"),
        ("INT64", True),
        ("INT8", 128),
        ("UINT8", -1),
        ("BOOL", "yes"),
        ("BOOL", 2),
        ("BOOL", []),
        ("BYTES", 0),
    ],
)
def test_value_that_the_data_type_lacks_is_refused(dtype, value):
    with pytest.raises(ConfigError, match=rf"x: expected a value of type {dtype}, got "):
        _fill(value, DTYPES[dtype], "x")


def full(*_):
    raise MemoryError("full")


def test_memory_that_runs_out_for_cutting_fails_the_batch_and_is_released(monkeypatch, caplog):
    monkeypatch.setattr(_padding, "_cut", full)
    runtime = Releasing()
    found = padded(lambda IDS: IDS, runtime=runtime).run([ids([1], request_id="a"), ids([2, 3])])
    assert [one.code for one in found] == ["INTERNAL"] * 2
    assert "request 'a': expected cutting padding off to return, got MemoryError: full" in found[0].text
    assert runtime.num_releases == 1
    [record] = caplog.records
    assert "failed 2 request(s), ids ['a', 'r']" in record.getMessage()


def test_device_that_fails_while_padding_is_cut_off_is_noted_and_the_call_raises(monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(_padding, "_cut", fail)
    pipeline = padded(lambda IDS: IDS, runtime=Faulty())
    with pytest.raises(RuntimeError, match="CUDA error"):
        pipeline.run([ids([1])])
    assert pipeline.runner.device.health.fault == "RuntimeError: CUDA error: an illegal memory access"


class Same(KindAwareModel):
    """SAME = IDS; pads."""

    pad = {"IDS": 0}
    unpad = {"SAME": "IDS"}

    def load(self):
        """Make nothing."""

    def forward(self, IDS):
        return IDS


RAGGED = {
    "input": [tensor("IDS", [-1], "TYPE_INT64", allow_ragged_batch=True)],
    "output": [tensor("SAME", [-1], "TYPE_INT64")],
}


def test_pad_of_the_configuration_takes_the_place_of_the_classes():
    assert plan_of(start(Same, **RAGGED)).padding.fills == {"IDS": 0}
    assert start(
        Same, parameters={"kindaware.pad": "IDS=7"}, **RAGGED
    )._kindaware_instance._plan.padding.fills == {"IDS": 7}
    assert plan_of(start(Same, parameters={"kindaware.pad": "off"}, **RAGGED)).padding is None


@pytest.mark.parametrize(
    ("changes", "members", "text"),
    [
        ({}, {"pad": {"X": 0}}, r"expected inputs with a dimension of -1, \['IDS'\], got 'X'"),
        ({"max_batch_size": 0}, {}, "expected a model with max_batch_size above 0, got 0"),
        ({}, {"collate": lambda self, name, tensors: None}, "expected either pad or collate, got both"),
        (
            {},
            {"pad": None, "forward": lambda self, IDS, lengths: IDS},
            "expected inputs to pad, since forward names lengths, got none",
        ),
        (
            {"parameters": {"kindaware.cuda_graphs": "1"}},
            {
                "forward": lambda self, IDS, lengths: IDS,
                "warmup_inputs": lambda self, rows: {"IDS": torch.ones(rows, 1, dtype=torch.int64)},
            },
            "a graph repeats none of its Python, got the parameter 'lengths'",
        ),
        (
            {},
            {"unpad": None},
            "'unpad': expected the padded input that output 'SAME' is as long as, or None, got neither",
        ),
        ({}, {"unpad": {"Y": "IDS"}}, r"expected outputs with a dimension of -1, \['SAME'\], got 'Y'"),
        ({}, {"unpad": {"SAME": "X"}}, r"expected inputs that pad names, \['IDS'\], got 'X'"),
        (
            {},
            {"unpad": {"SAME": ["IDS", None]}},
            "expected an entry for each of the 1 dimensions of -1 of output 'SAME', got 2",
        ),
        (
            {"parameters": {"kindaware.unpad": "IDS"}},
            {},
            "parameter 'kindaware.unpad': expected inputs by output",
        ),
    ],
    ids=["input", "batch", "collate", "lengths", "graphs", "unsaid", "other", "source", "number", "text"],
)
def test_pad_that_can_not_be_kept_is_refused(changes, members, text):
    with pytest.raises(ConfigError, match=text):
        start(type("Changed", (Same,), members), **{**RAGGED, **changes})


def test_input_of_fixed_size_can_not_be_padded():
    spec = make_spec(inputs=[IDS, TensorSpec("FIX", "INT64", [3])], outputs=[ROWS])
    with pytest.raises(ConfigError, match=r"inputs with a dimension of -1, \['IDS'\], got 'FIX'"):
        make_plan(lambda IDS, FIX: IDS, spec=spec, pad={"FIX": 0})


def test_stream_has_no_batch_to_pad():
    spec = replace(make_spec(inputs=[IDS], outputs=[ROWS]), decoupled=True)
    with pytest.raises(ConfigError, match="expected a model that answers with forward, got a decoupled mod"):
        make_plan(lambda IDS: IDS, spec=spec, pad={"IDS": 0})


def test_allow_ragged_batch_without_pad_is_taken():
    assert plan_of(start(type("Plain", (Same,), {"pad": None}), **RAGGED)).padding is None
    assert plan_of(start(Doubler)).padding is None
